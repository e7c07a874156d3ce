/* The linear operator: norm and quantise the activations, then one to four matrices on them, then
 * the gate. */
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
    };
}

static void prepare(const rz_span *span, const rz_op *op, rz_acts *acts, const float *raw,
                    int64_t first, int64_t last) {
    const rz_program *p = span->program;
    if (op->norm != NULL)
        for (int64_t t = first; t < last; t++)
            p->kernels->rmsnorm(raw + t * acts->stride, op->norm, op->eps, acts->cols,
                                acts->dense + t * acts->stride);
    if (op->quantized)
        p->linear->quantize(acts, (int32_t)first, (int32_t)last);
}

/* Few tokens: every thread prepares all of them in its own scratch memory, which spares a barrier.
 */
static rz_acts prepare_alone(const rz_span *span, const rz_op *op) {
    float *raw = rz_row(span, op->input, span->first);
    float *dense = op->norm != NULL ? span->program->scratch[span->thread].normed : raw;
    rz_acts acts = activations(span, op, dense, span->thread);
    prepare(span, op, &acts, raw, 0, span->count);
    return acts;
}

static rz_acts prepare_together(const rz_span *span, const rz_op *op) {
    float *raw = rz_row(span, op->input, span->first);
    float *dense = op->norm != NULL ? span->program->scratch[0].normed : raw;
    rz_acts acts = activations(span, op, dense, 0);
    int64_t first, last;
    rz_share(span, span->count, &first, &last);
    prepare(span, op, &acts, raw, first, last);
    rz_pool_barrier(span->program->pool);
    return acts;
}

/* The panels of a matrix that this thread computes. */
static void own_panels(const rz_span *span, const rz_op *op, int32_t matrix, int32_t *first,
                       int32_t *last) {
    const int32_t *shares = op->shares + matrix * (span->program->threads + 1);
    *first = span->wide ? shares[span->thread] : 0;
    *last = span->wide ? shares[span->thread + 1] : op->weights[matrix]->panels;
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

/* out = silu(first matrix) * second, slice by slice, so that the second matrix's part is still in
 * the cache when it is used and needs no buffer of its own. */
static void apply_gated(const rz_span *span, const rz_op *op, const rz_acts *acts, float *out,
                        int64_t out_stride) {
    const rz_program *p = span->program;
    const rz_matrix *gate = op->weights[0], *up = op->weights[1];
    float *other = p->scratch[span->thread].second;
    int32_t rows = gate->panel_rows, step = p->block * RZ_SLICE / (span->count * rows);
    int32_t first, last;
    own_panels(span, op, 0, &first, &last);
    for (int32_t end; first < last; first = end) {
        end = first + step < last ? first + step : last;
        int64_t column = (int64_t)first * rows, stride = (int64_t)step * rows;
        int64_t width = (int64_t)end * rows < gate->rows ? (end - first) * (int64_t)rows
                                                         : (gate->rows - column + 15) / 16 * 16;
        p->linear->linear(gate, acts, span->count, first, end, out, out_stride, op->biases[0], 0);
        p->linear->linear(up, acts, span->count, first, end, other - column, stride, op->biases[1],
                          0);
        int64_t past = column + width - gate->rows; /* padding must stay zero, whatever was there */
        for (int64_t t = 0; t < span->count && past > 0; t++)
            memset(other + t * stride + width - past, 0, sizeof(float) * (size_t)past);
        for (int64_t t = 0; t < span->count; t++)
            p->kernels->silu_mul(out + t * out_stride + column, other + t * stride, width);
    }
}

void rz_run_linear(const rz_span *span, const rz_op *op, float *out, int64_t out_stride) {
    int alone = !span->wide || span->count <= RZ_NARROW || span->program->threads == 1;
    rz_acts acts = alone ? prepare_alone(span, op) : prepare_together(span, op);
    if (op->gated) {
        apply_gated(span, op, &acts, out, out_stride);
        return;
    }
    for (int32_t i = 0; i < op->matrices; i++)
        apply(span, op, &acts, i, out, out_stride);
}

/* Every thread gets a contiguous run of panels of the matrices laid end to end, equal in bytes; the
 * two matrices of a gated operator are cut at the same rows. */
void rz_share_panels(rz_op *op, int32_t threads) {
    int32_t distinct = op->gated ? 1 : op->matrices;
    int64_t total = 0, before = 0;
    for (int32_t i = 0; i < distinct; i++)
        total += op->weights[i]->panels * op->weights[i]->panel_bytes;
    for (int32_t i = 0; i < distinct; i++) {
        const rz_matrix *w = op->weights[i];
        int32_t *shares = op->shares + i * (threads + 1);
        for (int32_t t = 0; t <= threads; t++) {
            int64_t wanted = total * t / threads - before;
            int64_t panel = (wanted + w->panel_bytes / 2) / w->panel_bytes;
            shares[t] = wanted <= 0 ? 0 : panel > w->panels ? w->panels : (int32_t)panel;
        }
        shares[threads] = w->panels;
        before += w->panels * w->panel_bytes;
    }
    for (int32_t i = distinct; i < op->matrices; i++)
        for (int32_t t = 0; t <= threads; t++)
            op->shares[i * (threads + 1) + t] = op->shares[t];
}
