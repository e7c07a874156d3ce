/* Mamba's convolution, scans and norms as operators on a chunk, and the choice of their table.
 *
 * A layer's convolution and scan share one part of the sequence's state: the last rows of what goes
 * into the convolution, [width - 1][columns, padded to 16], then the scan's. The convolution reads
 * these rows and the scan, after a barrier, replaces them.
 */
#include "ssm.h"

#include <string.h>

#include "recurrent.h"

extern const rz_ssm_kernels rz_ssm_portable;
#ifdef RZ_HAVE_AVX2
extern const rz_ssm_kernels rz_ssm_avx2;
#endif
#ifdef RZ_HAVE_AVX512
extern const rz_ssm_kernels rz_ssm_avx512;
#endif
#ifdef RZ_HAVE_AVX512VNNI
extern const rz_ssm_kernels rz_ssm_avx512vnni;
#endif

static const rz_ssm_kernels *const tables[] = {
#ifdef RZ_HAVE_AVX512VNNI
    &rz_ssm_avx512vnni,
#endif
#ifdef RZ_HAVE_AVX512
    &rz_ssm_avx512,
#endif
#ifdef RZ_HAVE_AVX2
    &rz_ssm_avx2,
#endif
    &rz_ssm_portable,
};

const rz_ssm_kernels *rz_ssm_table(const char *isa) {
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (strcmp(tables[i]->isa, isa) == 0)
            return tables[i];
    return &rz_ssm_portable;
}

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

/* Step sizes and decays of a head. */
static void head_steps(const rz_span *span, const rz_op *op, int32_t head, float *dt,
                       float *decay) {
    const rz_buffer *b = &span->program->buffers[op->buffers[0]];
    const float *raw = rz_row(span, op->buffers[0], 0) + b->cols - op->sizes[0] + head;
    for (int32_t t = 0; t < span->count; t++)
        dt[t] = raw[t * b->stride];
    for (int64_t t = span->count; t < padded(span->count); t++)
        dt[t] = 0;
    span->program->ssm->steps(dt, op->vectors[2][head], op->vectors[0][head], op->numbers[0],
                              op->numbers[1], span->count, decay);
}

/* dual: the scan of Mamba-2 and its gate.
 * buffers: projections z | x | B | C | dt, x | B | C after the convolution, output; vectors: A, D,
 * bias of dt, each [heads]; sizes: heads, elements of a head, states, groups, width of the
 * convolution; numbers: limits of dt; scratch: rz_dual_floats(elements) + 2 * chunk, padded to 16;
 * state: shared with the convolution. */
void rz_run_dual(const rz_span *span, const rz_op *op) {
    const rz_buffer *b = span->program->buffers;
    int32_t heads = op->sizes[0], dim = op->sizes[1], states = op->sizes[2], groups = op->sizes[3];
    int32_t width = op->sizes[4], inner = heads * dim, columns = inner + 2 * groups * states;
    float *dt = rz_workspace(span), *decay = dt + padded(span->program->chunk);
    float *state = rz_state(span, op), *x = rz_row(span, op->buffers[1], 0);
    int64_t first, last;
    rz_share(span, heads, &first, &last);
    for (int32_t head = (int32_t)first; head < (int32_t)last; head++) {
        int32_t group = head / (heads / groups);
        rz_dual d = {
            .dim = dim,
            .states = states,
            .tokens = span->count,
            .x_stride = b[op->buffers[1]].stride,
            .z_stride = b[op->buffers[0]].stride,
            .out_stride = b[op->buffers[2]].stride,
            .x = x + head * dim,
            .b = x + inner + group * states,
            .c = x + inner + (groups + group) * states,
            .z = rz_row(span, op->buffers[0], 0) + head * dim,
            .dt = dt,
            .decay = decay,
            .d = op->vectors[1][head],
            .out = rz_row(span, op->buffers[2], 0) + head * dim,
            .state = state + (width - 1) * padded(columns) +
                     (int64_t)head * states * rz_dual_padded(dim),
            .work = decay + padded(span->program->chunk),
        };
        head_steps(span, op, head, dt, decay);
        span->program->ssm->dual(&d);
    }
    save_rows(span, state, op->buffers[0], width, columns, inner);
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
