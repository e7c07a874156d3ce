/* The recurrence of RWKV-4 as an operator on a chunk, cut by columns. */
#include "recurrent.h"
#include "wkv.h"

/* wkv4: buffers: r behind its sigmoid, k, v, out (r too); vectors: u, the bonus of a token itself,
 * and what the exponent changes by from token to token, -exp(time_decay); state: [3][columns, to
 * whole vectors]: sums of values, of weights, and their exponent. */
void rz_run_wkv4(const rz_span *span, const rz_op *op) {
    const int64_t width = (span->program->buffers[op->buffers[0]].cols + 15) / 16 * 16;
    int64_t first, last;
    rz_share_columns(span, width, &first, &last);
    const rz_wkv_columns columns = {
        .columns = last - first,
        .width = width,
        .stride = span->program->buffers[op->buffers[0]].stride,
        .tokens = span->count,
        .r = rz_row(span, op->buffers[0], 0) + first,
        .k = rz_row(span, op->buffers[1], 0) + first,
        .v = rz_row(span, op->buffers[2], 0) + first,
        .u = op->vectors[0] + first,
        .decay = op->vectors[1] + first,
        .out = rz_row(span, op->buffers[3], 0) + first,
        .state = rz_state(span, op) + first,
    };
    if (first < last)
        span->program->wkv->wkv4(&columns);
}
