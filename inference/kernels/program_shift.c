/* The element-wise operators of RWKV: mixing with the token before, and gates. */
#include "recurrent.h"
#include "wkv.h"

/* shift: out = x + (x of the token before - x) * mu, for up to some outputs.
 * buffers: x, whole with one past row, and the outputs; vectors: a mu for each output, NULL: the
 * difference itself; sizes: number of outputs; state: [columns], the last row of x. */
void rz_run_shift(const rz_span *span, const rz_op *op) {
    int32_t cols = span->program->buffers[op->buffers[0]].cols;
    int64_t first, last;
    rz_share_columns(span, cols, &first, &last);
    for (int32_t t = span->first; t < span->first + span->count && first < last; t++) {
        const float *x = rz_row(span, op->buffers[0], t) + first;
        const float *before = rz_row(span, op->buffers[0], t - 1) + first;
        for (int32_t i = 0; i < op->sizes[0]; i++)
            span->program->wkv->shift(x, before,
                                      op->vectors[i] == NULL ? NULL : op->vectors[i] + first,
                                      last - first, rz_row(span, op->buffers[i + 1], t) + first);
    }
    rz_save_past(span, op->buffers[0], cols, rz_state(span, op));
}

/* blend: out = x + change * (mu + m), for up to some outputs.
 * buffers: x, change, then m and out of each; vectors: a mu for each; sizes: number of outputs. */
void rz_run_blend(const rz_span *span, const rz_op *op) {
    int64_t first, last;
    rz_share_columns(span, span->program->buffers[op->buffers[0]].cols, &first, &last);
    for (int32_t t = span->first; t < span->first + span->count && first < last; t++) {
        const float *x = rz_row(span, op->buffers[0], t) + first;
        const float *change = rz_row(span, op->buffers[1], t) + first;
        for (int32_t i = 0; i < op->sizes[0]; i++)
            span->program->wkv->blend(x, change, op->vectors[i] + first,
                                      rz_row(span, op->buffers[2 * i + 2], t) + first, last - first,
                                      rz_row(span, op->buffers[2 * i + 3], t) + first);
    }
}

/* combine: out = a * b, or out += a * b.
 * buffers: out, a, b; sizes: whether it is added. */
void rz_run_combine(const rz_span *span, const rz_op *op) {
    int64_t first, last;
    rz_share_columns(span, span->program->buffers[op->buffers[0]].cols, &first, &last);
    for (int32_t t = span->first; t < span->first + span->count && first < last; t++)
        span->program->wkv->combine(rz_row(span, op->buffers[1], t) + first,
                                    rz_row(span, op->buffers[2], t) + first, op->sizes[0],
                                    last - first, rz_row(span, op->buffers[0], t) + first);
}
