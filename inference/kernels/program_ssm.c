/* Mamba's convolution, scans and norms as operators on a chunk, and the choice of their table.
 *
 * A layer's convolution and scan share one part of the sequence's state: the last rows of what goes
 * into the convolution, [width - 1][columns, padded to 16], then the scan's. The convolution reads
 * these rows and the scan, after a barrier, replaces them.
 */
#include "ssm.h"

#include <string.h>

#include "isa_table.h"
#include "recurrent.h"

RZ_TABLE_BY_NAME(rz_ssm)

static int64_t padded(int64_t columns) {
    return (columns + 15) / 16 * 16;
}

/* Row `token` of the convolution's input, which may be one of the state's. */
static const float *input_row(const rz_span *span, const rz_op *op, int32_t token) {
    if (token >= 0)
        return rz_row(span, op->buffers[0], token) + op->sizes[2];
    return rz_state(span, op) + (op->sizes[0] - 1 + token) * padded(op->sizes[1]);
}

/* conv: each column's last `width` values by weights, through SiLU.
 * buffers: input, output; vectors: weights [width][columns, padded to 16], oldest value first,
 * bias or NULL; sizes: width, columns, first column of the input; state: as above. */
void rz_run_conv(const rz_span *span, const rz_op *op) {
    const rz_ssm_kernels *k = span->program->ssm;
    int32_t width = op->sizes[0];
    int64_t first, last, columns = op->sizes[1];
    rz_share_columns(span, columns, &first, &last);
    if (first >= last)
        return;
    for (int32_t t = span->first; t < span->first + span->count; t++) {
        const float *rows[RZ_CONV_WIDTH];
        for (int32_t i = 0; i < width; i++)
            rows[i] = input_row(span, op, t - width + 1 + i) + first;
        k->conv(rows, op->vectors[0] + first, padded(columns),
                op->vectors[1] == NULL ? NULL : op->vectors[1] + first, width, last - first,
                rz_row(span, op->buffers[1], t) + first);
    }
}

/* Keeps the last rows of the convolution's input for the next chunk. */
static void save_rows(const rz_span *span, float *state, int32_t buffer, int32_t width,
                      int64_t columns, int64_t from) {
    int64_t first, last;
    rz_share_columns(span, columns, &first, &last);
    for (int32_t i = 0; i < width - 1 && first < last; i++) {
        int32_t t = span->count - width + 1 + i;
        const float *row =
            t >= 0 ? rz_row(span, buffer, t) + from : state + (width - 1 + t) * padded(columns);
        memcpy(state + i * padded(columns) + first, row + first,
               sizeof(float) * (size_t)(last - first));
    }
}

/* scan: Mamba's selective scan and gate.
 * buffers: projections x | z, x after the convolution, which the output replaces, dt after its
 * softplus, B | C; vectors: A * log2(e) [blocks][states][16], D; sizes: channels, states, width of
 * the convolution; state: shared with the convolution. */
void rz_run_scan(const rz_span *span, const rz_op *op) {
    const rz_buffer *b = span->program->buffers;
    int32_t channels = op->sizes[0], states = op->sizes[1], width = op->sizes[2];
    float *state = rz_state(span, op), *bc = rz_row(span, op->buffers[3], 0);
    int64_t first, last;
    rz_share(span, (channels + 15) / 16, &first, &last);
    rz_scan s = {
        .blocks = (int32_t)(last - first),
        .states = states,
        .tokens = span->count,
        .x_stride = b[op->buffers[1]].stride,
        .dt_stride = b[op->buffers[2]].stride,
        .z_stride = b[op->buffers[0]].stride,
        .bc_stride = b[op->buffers[3]].stride,
        .x = rz_row(span, op->buffers[1], 0) + first * 16,
        .dt = rz_row(span, op->buffers[2], 0) + first * 16,
        .z = rz_row(span, op->buffers[0], 0) + channels + first * 16,
        .b = bc,
        .c = bc + states,
        .a = op->vectors[0] + first * 16 * states,
        .d = op->vectors[1] + first * 16,
        .state = state + (width - 1) * padded(channels) + first * 16 * states,
    };
    span->program->ssm->scan(&s);
    save_rows(span, state, op->buffers[0], width, channels, 0);
}

/* Where Mamba-2 keeps what of a sequence. */
typedef struct dual_state {
    int64_t head;        /* floats of each */
    float *heads, *rows; /* [heads][head]; B of the unfinished chunk, [groups][tokens][padded] */
} dual_state;

static dual_state dual_state_of(const rz_span *span, const rz_op *op) {
    int32_t heads = op->sizes[0], dim = op->sizes[1], states = op->sizes[2], groups = op->sizes[3];
    int64_t past = (op->sizes[4] - 1) * padded(heads * dim + 2 * groups * states);
    int64_t head = (states + RZ_DUAL_TOKENS) * (int64_t)rz_dual_padded(dim) + RZ_DUAL_TOKENS;
    float *first = rz_state(span, op) + past;
    return (dual_state){head, first, first + heads * head};
}

/* Step sizes of a head at all tokens. */
static void head_steps(const rz_span *span, const rz_op *op, int32_t head, float *dt) {
    const rz_buffer *b = &span->program->buffers[op->buffers[0]];
    const float *raw = rz_row(span, op->buffers[0], 0) + b->cols - op->sizes[0] + head;
    for (int32_t t = 0; t < span->count; t++)
        dt[t] = raw[t * b->stride];
    for (int64_t t = span->count; t < padded(span->count); t++)
        dt[t] = 0;
    span->program->ssm->steps(dt, op->vectors[2][head], op->numbers[0], op->numbers[1],
                              span->count);
}

/* B of a group at the tokens of a chunk; the call's token 0 is the chunk's number `first`. */
static void chunk_rows(const rz_span *span, const rz_op *op, int32_t group, int32_t first,
                       int32_t last, const float *rows[RZ_DUAL_TOKENS]) {
    int32_t inner = op->sizes[0] * op->sizes[1], states = op->sizes[2];
    int64_t stride = padded(states);
    float *kept = dual_state_of(span, op).rows + group * RZ_DUAL_TOKENS * stride;
    for (int32_t s = 0; s < last; s++)
        rows[s] = s < first ? kept + s * stride
                            : rz_row(span, op->buffers[1], s - first) + inner + group * states;
}

/* C of each token with B of those up to it in its chunk: [tokens, from the first chunk's on][16].
 */
static void group_dots(const rz_span *span, const rz_op *op, int32_t group, float *dots) {
    int32_t states = op->sizes[2], groups = op->sizes[3];
    int32_t at = op->sizes[0] * op->sizes[1] + (groups + group) * states;
    int32_t begin = (int32_t)(span->call->start % RZ_DUAL_TOKENS);
    for (int32_t place = begin; place < begin + span->count; place++) {
        const float *rows[RZ_DUAL_TOKENS];
        int32_t chunk = place / RZ_DUAL_TOKENS * RZ_DUAL_TOKENS;
        chunk_rows(span, op, group, begin - chunk, place - chunk + 1, rows);
        span->program->ssm->dots(rz_row(span, op->buffers[1], place - begin) + at, rows,
                                 place - chunk + 1, states, dots + place * RZ_DUAL_TOKENS);
    }
}

static void run_head(const rz_span *span, const rz_op *op, int32_t head, const float *dt,
                     const float *dots, float *work) {
    const rz_buffer *b = span->program->buffers;
    int32_t heads = op->sizes[0], dim = op->sizes[1], states = op->sizes[2], groups = op->sizes[3];
    int32_t group = head / (heads / groups), wide = rz_dual_padded(dim);
    int32_t begin = (int32_t)(span->call->start % RZ_DUAL_TOKENS), end = begin + span->count;
    const dual_state kept = dual_state_of(span, op);
    float *state = kept.heads + head * kept.head;
    for (int32_t place = begin, next; place < end; place = next) {
        const float *rows[RZ_DUAL_TOKENS];
        int32_t chunk = place / RZ_DUAL_TOKENS * RZ_DUAL_TOKENS, t = place - begin;
        next = chunk + RZ_DUAL_TOKENS < end ? chunk + RZ_DUAL_TOKENS : end;
        chunk_rows(span, op, group, begin - chunk, next - chunk, rows);
        rz_dual d = {
            .dim = dim,
            .states = states,
            .first = place - chunk,
            .last = next - chunk,
            .stride = b[op->buffers[1]].stride,
            .z_stride = b[op->buffers[0]].stride,
            .out_stride = b[op->buffers[2]].stride,
            .x = rz_row(span, op->buffers[1], t) + head * dim,
            .c = rz_row(span, op->buffers[1], t) + heads * dim + (groups + group) * states,
            .z = rz_row(span, op->buffers[0], t) + head * dim,
            .dt = dt + t,
            .b = rows,
            .dots = dots + chunk * RZ_DUAL_TOKENS,
            .a = op->vectors[0][head],
            .d = op->vectors[1][head],
            .out = rz_row(span, op->buffers[2], t) + head * dim,
            .kept_x = state + (int64_t)states * wide,
            .kept_dt = state + (int64_t)(states + RZ_DUAL_TOKENS) * wide,
            .state = state,
            .work = work,
        };
        span->program->ssm->dual(&d);
    }
}

/* dual: the scan of Mamba-2 and its gate, chunk by chunk of the sequence. A state is that before
 * the unfinished chunk, whose x, dt and B are kept, so that where a call begins does not matter.
 * buffers: projections z | x | B | C | dt, x | B | C after the convolution, output; vectors: A, D,
 * bias of dt, each [heads]; sizes: heads, elements of a head, states, groups, width of the
 * convolution; numbers: limits of dt; scratch: 17 * chunk + 32 * 16 + 16 * elements, both padded;
 * state: shared with the convolution. */
void rz_run_dual(const rz_span *span, const rz_op *op) {
    int64_t chunk = padded(span->program->chunk), first, last;
    int32_t heads = op->sizes[0], inner = heads * op->sizes[1], groups = op->sizes[3], known = -1;
    float *dt = rz_workspace(span), *dots = dt + chunk;
    float *work = dots + (chunk + 2 * RZ_DUAL_TOKENS) * RZ_DUAL_TOKENS;
    rz_share(span, heads, &first, &last);
    for (int32_t head = (int32_t)first; head < (int32_t)last; head++) {
        int32_t group = head / (heads / groups);
        if (group != known)
            group_dots(span, op, group, dots);
        known = group;
        head_steps(span, op, head, dt);
        run_head(span, op, head, dt, dots, work);
    }
    save_rows(span, rz_state(span, op), op->buffers[0], op->sizes[4],
              inner + 2 * groups * op->sizes[2], inner);
}

/* dual_keep: keeps B of the unfinished chunk, after all heads have read what was kept before.
 * Operands are those of dual. */
void rz_run_dual_keep(const rz_span *span, const rz_op *op) {
    int32_t inner = op->sizes[0] * op->sizes[1], states = op->sizes[2], groups = op->sizes[3];
    int32_t count = span->call->count;
    int32_t begin = (int32_t)(span->call->start % RZ_DUAL_TOKENS);
    int32_t chunk = (begin + count) / RZ_DUAL_TOKENS * RZ_DUAL_TOKENS;
    float *rows = dual_state_of(span, op).rows;
    int64_t first, last;
    if (span->first + span->count != count)
        return;
    rz_share(span, groups, &first, &last);
    for (int64_t group = first; group < last; group++)
        for (int32_t place = chunk > begin ? chunk : begin; place < begin + count; place++)
            memcpy(rows + (group * RZ_DUAL_TOKENS + place - chunk) * padded(states),
                   rz_row(span, op->buffers[1], place - begin) + inner + group * states,
                   sizeof(float) * (size_t)states);
}

/* rms_parts: RMSNorm of equal parts of a row, in place.
 * buffers: it; vectors: weights of all parts or NULL; sizes: parts, elements of a part; numbers:
 * eps. */
void rz_run_rms_parts(const rz_span *span, const rz_op *op) {
    int64_t parts = op->sizes[0], size = op->sizes[1], first, last;
    rz_share(span, span->count * parts, &first, &last);
    for (int64_t i = first; i < last; i++) {
        int64_t at = i % parts * size;
        float *row = rz_row(span, op->buffers[0], span->first + (int32_t)(i / parts));
        span->program->ssm->rms_part(row + at, op->vectors[0] == NULL ? NULL : op->vectors[0] + at,
                                     op->numbers[0], size);
    }
}
