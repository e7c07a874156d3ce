/* The recurrences of RWKV as operators on a chunk, cut by heads, and the choice of their table. */
#include "wkv.h"

#include "isa_table.h"
#include "recurrent.h"

RZ_TABLE_BY_NAME(rz_wkv)

/* A buffer's columns of a head, NULL where the operator has no such buffer. */
static const float *columns(const rz_span *span, const rz_op *op, int32_t operand, int32_t head) {
    if (op->buffers[operand] < 0)
        return NULL;
    return rz_row(span, op->buffers[operand], 0) + (int64_t)head * op->sizes[1];
}

static const float *part(const rz_op *op, int32_t vector, int32_t head) {
    const float *values = op->vectors[vector];
    return values == NULL ? NULL : values + (int64_t)head * op->sizes[1];
}

/* What both recurrences have: r, k, v and w are buffers 0 to 3, `out` the operand of the output. */
static rz_wkv_head common(const rz_span *span, const rz_op *op, int32_t head, int32_t out) {
    int32_t dim = op->sizes[1];
    return (rz_wkv_head){
        .dim = dim,
        .tokens = span->count,
        .stride = span->program->buffers[op->buffers[0]].stride,
        .r = columns(span, op, 0, head),
        .k = columns(span, op, 1, head),
        .v = columns(span, op, 2, head),
        .w = columns(span, op, 3, head),
        .eps = op->numbers[0],
        .out = rz_row(span, op->buffers[out], 0) + (int64_t)head * dim,
        .state = rz_state(span, op) + (int64_t)head * dim * rz_wkv_padded(dim),
    };
}

/* wkv6: buffers: r, k, v, w before its activation or -1, gate before its SiLU or -1, out; vectors:
 * u, decay where w is -1, weight and bias of the norm; sizes: heads, elements of a head; numbers:
 * eps; state: [heads][dim][padded dim]. RWKV-5 is this with a constant decay. */
void rz_run_wkv6(const rz_span *span, const rz_op *op) {
    int64_t first, last;
    rz_share(span, op->sizes[0], &first, &last);
    for (int32_t i = (int32_t)first; i < (int32_t)last; i++) {
        rz_wkv_head head = common(span, op, i, 5);
        head.gate = columns(span, op, 4, i);
        head.u = part(op, 0, i);
        head.decay = part(op, 1, i);
        head.norm_weight = part(op, 2, i);
        head.norm_bias = part(op, 3, i);
        span->program->wkv->wkv6(&head);
    }
}

/* wkv7: buffers: r, k, v, w, a, gate, mix and first or -1, out; vectors: k_k, k_a, r_k, weight and
 * bias of the norm; sizes, numbers and state as of wkv6. */
void rz_run_wkv7(const rz_span *span, const rz_op *op) {
    int64_t first, last;
    rz_share(span, op->sizes[0], &first, &last);
    for (int32_t i = (int32_t)first; i < (int32_t)last; i++) {
        rz_wkv_head head = common(span, op, i, 8);
        head.a = columns(span, op, 4, i);
        head.gate = columns(span, op, 5, i);
        head.mix = columns(span, op, 6, i);
        head.first = columns(span, op, 7, i);
        head.k_k = part(op, 0, i);
        head.k_a = part(op, 1, i);
        head.r_k = part(op, 2, i);
        head.norm_weight = part(op, 3, i);
        head.norm_bias = part(op, 4, i);
        span->program->wkv->wkv7(&head);
    }
}
