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

/* The panels of a matrix that this thread computes; the two of a gated operator are cut at the same
 * rows. */
static void own_panels(const rz_span *span, const rz_op *op, int32_t matrix, int32_t *first,
                       int32_t *last) {
    const rz_matrix *w = op->weights[matrix];
    *first = 0, *last = w->panels;
    if (span->parts == 1)
        return;
    if (op->gate != RZ_GATE_NONE) {
        *first = (int32_t)((int64_t)w->panels * span->part / span->parts);
        *last = (int32_t)((int64_t)w->panels * (span->part + 1) / span->parts);
        return;
    }
    *first = first_panel(op, matrix, span->part, span->parts);
    *last = first_panel(op, matrix, span->part + 1, span->parts);
}

static void apply(const rz_span *span, const rz_op *op, const rz_acts *acts, int32_t matrix,
                  float *out, int64_t out_stride) {
    int32_t first, last;
    own_panels(span, op, matrix, &first, &last);
    if (first < last)
        span->program->linear->linear(op->weights[matrix], acts, span->count, first, last,
                                      out + op->columns[matrix], out_stride, op->biases[matrix],
                                      op->accumulate);
}

static void activate(const rz_program *p, const rz_op *op, float *gate, const float *up,
                     int64_t width) {
    if (op->activation == RZ_RELU2)
        p->kernels->relu2_mul(gate, up, width);
    else
        p->kernels->silu_mul(gate, up, width);
}

/* out = activation(gate) * up, slice by slice, so that the part of `up` is still in the cache when
 * it is used and needs no buffer of its own. The gate is the first matrix's product, or in out. */
static void apply_gated(const rz_span *span, const rz_op *op, const rz_acts *acts, float *out,
                        int64_t out_stride) {
    const rz_program *p = span->program;
    const rz_matrix *up = op->weights[op->matrices - 1];
    const float *bias = op->biases[op->matrices - 1];
    float *other = p->scratch[span->thread].second;
    int32_t rows = up->panel_rows, step = p->block * p->slice / (span->count * rows);
    int32_t first, last;
    own_panels(span, op, 0, &first, &last);
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

/* An activation of the products that this thread has just made. */
static void map(const rz_span *span, const rz_op *op, int32_t matrix, float *out,
                int64_t out_stride) {
    const rz_matrix *w = op->weights[matrix];
    int32_t first, last;
    own_panels(span, op, matrix, &first, &last);
    int64_t begin = (int64_t)first * w->panel_rows, end = (int64_t)last * w->panel_rows;
    end = end < w->rows ? end : w->rows;
    for (int64_t t = 0; t < span->count && begin < end; t++)
        span->program->kernels->map(
            op->activated, out + t * out_stride + op->columns[matrix] + begin, end - begin);
}

void rz_run_linear(const rz_span *span, const rz_op *op, float *out, int64_t out_stride) {
    int alone = span->parts == 1 || span->count <= RZ_NARROW;
    rz_acts acts = alone ? rz_prepare_alone(span, op) : prepare_together(span, op);
    if (op->gate != RZ_GATE_NONE) {
        apply_gated(span, op, &acts, out, out_stride);
        return;
    }
    for (int32_t i = 0; i < op->matrices; i++) {
        apply(span, op, &acts, i, out, out_stride);
        if (op->activated >= 0)
            map(span, op, i, out, out_stride);
    }
}
