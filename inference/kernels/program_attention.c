/* The operators on the KV cache: append, and attention for one token or for a block of them. */
#include "program.h"

static rz_attention view(const rz_span *span, const rz_op *op) {
    const rz_program *p = span->program;
    return (rz_attention){
        .heads = p->heads,
        .kv_heads = p->kv_heads,
        .head_dim = p->head_dim,
        .value_dim = p->value_dim,
        .half_cache = p->half_cache,
        .layer_offset = op->layer * p->layer_bytes,
        .head_bytes = p->head_bytes,
        .pages = span->call->pages,
    };
}

/* Rotates query heads [first, last) of a row of the chunk, and rotates and stores their key/value
 * heads. */
static void rotate_and_append(const rz_program *p, const rz_op *op, const rz_attention *a,
                              float *row, int64_t start, int32_t token, int32_t first,
                              int32_t last) {
    const rz_rope *rope = &p->ropes[op->rope];
    const float *turn = rope->table + (int64_t)token * 2 * rope->half;
    int32_t group = p->heads / p->kv_heads, dim = p->head_dim, kv = first / group;
    rz_attention own = *a;
    own.kv_heads = (last - first) / group;
    own.layer_offset += kv * a->head_bytes;
    float *keys = row + (p->heads + kv) * dim, *values = keys + p->kv_heads * dim;
    p->kernels->rotate(row + first * dim, last - first, dim, turn, rope->half, rope->interleaved,
                       op->scale);
    p->kernels->rotate(keys, own.kv_heads, dim, turn, rope->half, rope->interleaved, 1.0f);
    p->kernels->append(&own, start + token, keys, values);
}

void rz_run_append(const rz_span *span, const rz_op *op) {
    const rz_program *p = span->program;
    rz_attention a = view(span, op);
    int64_t first, last;
    rz_share(span, span->count, &first, &last);
    for (int64_t t = span->first + first; t < span->first + last; t++)
        rotate_and_append(p, op, &a, rz_row(span, op->input, (int32_t)t), span->call->start,
                          (int32_t)t, 0, p->heads);
}

/* One token: its heads are split over the threads. Where every thread has whole key/value heads, it
 * also stores its part of the new position, which spares a barrier; else rz_run_append has been. */
static void attend_one(const rz_span *span, const rz_op *op, const rz_attention *a) {
    const rz_program *p = span->program;
    int64_t first, last;
    rz_share(span, p->heads, &first, &last);
    if (first >= last)
        return;
    float *row = rz_row(span, op->input, 0);
    if (rz_appends_itself(span))
        rotate_and_append(p, op, a, row, span->call->start, 0, (int32_t)first, (int32_t)last);
    p->kernels->attend_one(a, row, span->call->start + 1, (int32_t)first, (int32_t)last,
                           p->scratch[span->thread].attend, rz_row(span, op->output, 0));
}

static void attend_rows(const rz_span *span, const rz_op *op, const rz_attention *a, int64_t first,
                        int64_t last, int32_t head) {
    const rz_program *p = span->program;
    if (first >= last)
        return;
    int32_t token = span->first + (int32_t)first;
    p->kernels->attend_block(
        a, rz_row(span, op->input, token) + head * p->head_dim, p->buffers[op->input].stride,
        (int32_t)(last - first), span->call->start + token, p->scratch[span->thread].attend,
        rz_row(span, op->output, token) + head * p->head_dim, p->buffers[op->output].stride);
}

/* Some tokens on one thread or more: by key/value heads where they divide evenly, since each then
 * reads its part of the cache once, else by tokens. */
static void attend_few(const rz_span *span, const rz_op *op, rz_attention a) {
    const rz_program *p = span->program;
    int64_t first, last;
    if (p->kv_heads % span->parts != 0) {
        rz_share(span, span->count, &first, &last);
        attend_rows(span, op, &a, first, last, 0);
        return;
    }
    int32_t group = p->heads / p->kv_heads;
    rz_share(span, p->kv_heads, &first, &last);
    a.kv_heads = (int32_t)(last - first);
    a.heads = a.kv_heads * group;
    a.layer_offset += first * a.head_bytes;
    attend_rows(span, op, &a, 0, span->count, (int32_t)first * group);
}

void rz_run_attend(const rz_span *span, const rz_op *op) {
    rz_attention a = view(span, op);
    if (span->call->count == 1)
        attend_one(span, op, &a);
    else
        attend_few(span, op, a);
}
