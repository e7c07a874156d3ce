/* The linear operator: norm (once or twice) and quantise the activations, then one to four matrices
 * on them, then the gate. */
#include "program.h"

#include <string.h>

/* Activations of the span's tokens: dense from `dense`, codes in the scratch memory of `owner`. */
static rz_acts activations(const rz_span *span, const rz_op *op, float *dense, int32_t owner) {
    const rz_buffer *input = &span->program->buffers[op->input];
    const rz_scratch *scratch = &span->program->scratch[owner];
    return (rz_acts){
        .cols = input->cols,
        .groups = (int32_t)(input->stride / RZ_GROUP),
        .stride = input->stride,
        .dense = dense,
        .codes = scratch->codes,
        .scales = scratch->scales,
        .sums = scratch->sums,
        .work = span->program->scratch[span->thread].work,
    };
}

/* Norms of one token, or the token as it is. */
static float *normed(const rz_program *p, const rz_op *op, float *raw, int32_t cols, float *to) {
    if (op->norm == NULL)
        return raw;
    p->kernels->rmsnorm(raw, op->norm, op->eps, cols, to);
    if (op->inner != NULL)
        p->kernels->rmsnorm(to, op->inner, op->inner_eps, cols, to);
    return to;
}

static void quantize(const rz_program *p, const rz_op *op, rz_acts *acts) {
    if (op->quantized == RZ_BY_TOKENS)
        p->linear->quantize_token(acts, 0, 1);
    else if (op->quantized == RZ_BY_GROUPS)
        p->linear->quantize(acts, 0, 1);
}

/* Token by token: where only codes are wanted, its norm never leaves the first-level cache, and one
 * row of this thread's is room enough for it. */
static void prepare(const rz_span *span, const rz_op *op, const rz_acts *acts, float *raw,
                    int64_t first, int64_t last) {
    float *row = span->program->scratch[span->thread].normed;
    for (int64_t t = first; t < last; t++) {
        rz_acts one = *acts;
        float *to = op->dense ? acts->dense + t * acts->stride : row;
        one.dense = normed(span->program, op, raw + t * acts->stride, acts->cols, to);
        one.codes += t * acts->stride;
        one.scales += t * acts->groups;
        one.sums += 2 * t * acts->groups;
        quantize(span->program, op, &one);
    }
}

/* Where dense activations are: matrices of floats take them. */
static float *dense_of(const rz_span *span, const rz_op *op, float *raw, int32_t owner) {
    return op->norm != NULL && op->dense ? span->program->scratch[owner].normed : raw;
}

/* Few tokens: every thread prepares all of them in its own scratch memory, which spares a barrier.
 */
rz_acts rz_prepare_alone(const rz_span *span, const rz_op *op) {
    float *raw = rz_row(span, op->input, span->first);
    rz_acts acts = activations(span, op, dense_of(span, op, raw, span->thread), span->thread);
    prepare(span, op, &acts, raw, 0, span->count);
    return acts;
}

static rz_acts prepare_together(const rz_span *span, const rz_op *op) {
    float *raw = rz_row(span, op->input, span->first);
    rz_acts acts = activations(span, op, dense_of(span, op, raw, 0), 0);
    int64_t first, last;
    rz_share(span, span->count, &first, &last);
    prepare(span, op, &acts, raw, first, last);
    rz_span_barrier(span);
    return acts;
}

/* First panel of a matrix in the part-th of `parts` shares: each is a contiguous run of panels of
 * the operator's matrices laid end to end, equal in bytes. */
static int32_t first_panel(const rz_op *op, int32_t matrix, int32_t part, int32_t parts) {
    const rz_matrix *w = op->weights[matrix];
    int64_t total = 0, before = 0;
    for (int32_t i = 0; i < op->matrices; i++) {
        before += i < matrix ? op->weights[i]->panels * op->weights[i]->panel_bytes : 0;
        total += op->weights[i]->panels * op->weights[i]->panel_bytes;
    }
    int64_t wanted = total * part / parts - before;
    int64_t panel = (wanted + w->panel_bytes / 2) / w->panel_bytes;
    return wanted <= 0 ? 0 : panel > w->panels || part == parts ? w->panels : (int32_t)panel;
}

/* An operator's panels as one line: its matrices' laid end to end, or, where it is gated, those of
 * the two matrices side by side. */
static int64_t line_length(const rz_op *op) {
    int64_t panels = 0;
    for (int32_t i = 0; i < op->matrices; i++)
        panels += op->weights[i]->panels;
    return op->gate == RZ_GATE_NONE ? panels : op->weights[0]->panels;
}

/* Where the part-th of `parts` shares of the line begins. */
static int64_t share_start(const rz_op *op, int32_t part, int32_t parts) {
    if (op->gate != RZ_GATE_NONE || parts == 1)
        return line_length(op) * part / parts;
    int64_t start = 0;
    for (int32_t i = 0; i < op->matrices; i++)
        start += first_panel(op, i, part, parts);
    return start;
}

static void activate(const rz_program *p, const rz_op *op, float *gate, const float *up,
                     int64_t width) {
    if (op->activation == RZ_RELU2)
        p->kernels->relu2_mul(gate, up, width);
    else
        p->kernels->silu_mul(gate, up, width);
}

/* Panels [first, last) of one matrix, and the activation of what they give. */
static void apply(const rz_span *span, const rz_op *op, const rz_acts *acts, int32_t matrix,
                  int32_t first, int32_t last, float *out, int64_t out_stride) {
    const rz_program *p = span->program;
    const rz_matrix *w = op->weights[matrix];
    out += op->columns[matrix];
    p->linear->linear(w, acts, span->count, first, last, out, out_stride, op->biases[matrix],
                      op->accumulate);
    if (op->activated < 0)
        return;
    int64_t begin = (int64_t)first * w->panel_rows, end = (int64_t)last * w->panel_rows;
    end = end < w->rows ? end : w->rows;
    for (int64_t t = 0; t < span->count; t++)
        p->kernels->map(op->activated, out + t * out_stride + begin, end - begin);
}

/* out = activation(gate) * up, slice by slice, so that the part of `up` is still in the cache when
 * it is used and needs no buffer of its own. The gate is the first matrix's product, or in out. */
static void apply_gated(const rz_span *span, const rz_op *op, const rz_acts *acts, int32_t first,
                        int32_t last, float *out, int64_t out_stride) {
    const rz_program *p = span->program;
    const rz_matrix *up = op->weights[op->matrices - 1];
    const float *bias = op->biases[op->matrices - 1];
    float *other = p->scratch[span->thread].second;
    int32_t rows = up->panel_rows, step = p->block * p->slice / (span->count * rows);
    for (int32_t end; first < last; first = end) {
        end = first + step < last ? first + step : last;
        int64_t column = (int64_t)first * rows, stride = (int64_t)step * rows;
        int64_t width = (int64_t)end * rows < up->rows ? (end - first) * (int64_t)rows
                                                       : (up->rows - column + 15) / 16 * 16;
        if (op->gate == RZ_GATE_PAIR)
            p->linear->linear(op->weights[0], acts, span->count, first, end, out, out_stride,
                              op->biases[0], 0);
        p->linear->linear(up, acts, span->count, first, end, other - column, stride, bias, 0);
        int64_t past = column + width - up->rows; /* padding must stay zero, whatever was there */
        for (int64_t t = 0; t < span->count && past > 0; t++)
            memset(other + t * stride + width - past, 0, sizeof(float) * (size_t)past);
        for (int64_t t = 0; t < span->count; t++)
            activate(p, op, out + t * out_stride + column, other + t * stride, width);
    }
}

/* Panels [first, last) of the operator's line. */
static void run_line(const rz_span *span, const rz_op *op, const rz_acts *acts, int64_t first,
                     int64_t last, float *out, int64_t out_stride) {
    if (op->gate != RZ_GATE_NONE) {
        apply_gated(span, op, acts, (int32_t)first, (int32_t)last, out, out_stride);
        return;
    }
    for (int32_t i = 0; i < op->matrices && last > 0; i++) {
        int32_t panels = op->weights[i]->panels;
        if (first < panels)
            apply(span, op, acts, i, first < 0 ? 0 : (int32_t)first,
                  last < panels ? (int32_t)last : panels, out, out_stride);
        first = first < panels ? 0 : first - panels;
        last -= panels;
    }
}

/* Shares are equal, but threads are not: one core has less of the memory's bandwidth for a while.
 * So nobody gets all of his share at once, and who is done takes from the others. Where tables are
 * made for each run of panels, that costs more than it brings. */
static int is_shared(const rz_span *span, const rz_op *op) {
    return span->parts > 1 && span->count <= RZ_NARROW && op->weights[0]->form != RZ_TERNARY3;
}

int rz_take(const rz_span *span, const rz_op *op, int32_t part, int64_t *first, int64_t *last) {
    const rz_program *p = span->program;
    const uint64_t index = (uint64_t)(op - p->ops);
    _Atomic uint64_t *taken = &p->taken[index % RZ_TAKEN * p->threads + part].word;
    int64_t start = share_start(op, part, span->parts);
    int64_t size = share_start(op, part + 1, span->parts) - start;
    int64_t least = RZ_UNIT_BYTES / op->weights[0]->panel_bytes + 1;
    int own = part == span->part;
    uint64_t seen = atomic_load_explicit(taken, memory_order_relaxed);
    for (;;) {
        uint64_t now = RZ_TAKEN_OP(seen) == index ? seen : index << 48;
        int64_t front = RZ_TAKEN_FRONT(now), back = RZ_TAKEN_BACK(now), left = size - front - back;
        int64_t count = left / 4 > least ? left / 4 : least;
        if (left <= 0)
            return 0;
        count = count < left ? count : left;
        now += (uint64_t)count << (own ? 0 : 24);
        if (atomic_compare_exchange_weak_explicit(taken, &seen, now, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            *first = own ? start + front : start + size - back - count;
            *last = *first + count;
            return 1;
        }
    }
}

void rz_run_linear(const rz_span *span, const rz_op *op, float *out, int64_t out_stride) {
    int alone = span->parts == 1 || span->count <= RZ_NARROW;
    rz_acts acts = alone ? rz_prepare_alone(span, op) : prepare_together(span, op);
    int64_t first = share_start(op, span->part, span->parts);
    int64_t last = share_start(op, span->part + 1, span->parts);
    if (!is_shared(span, op)) {
        run_line(span, op, &acts, first, last, out, out_stride);
        return;
    }
    while (rz_take(span, op, span->part, &first, &last))
        run_line(span, op, &acts, first, last, out, out_stride);
}

void rz_help_linear(const rz_span *span, const rz_op *op, float *out, int64_t out_stride) {
    rz_acts acts;
    int64_t first, last;
    if (!is_shared(span, op))
        return;
    for (int32_t i = 1, prepared = 0; i < span->parts; i++)
        while (rz_take(span, op, (span->part + i) % span->parts, &first, &last)) {
            if (!prepared++)
                acts = rz_prepare_alone(span, op);
            run_line(span, op, &acts, first, last, out, out_stride);
        }
}
