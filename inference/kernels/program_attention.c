/* The operators on the KV cache: append, and attention for one token or for a block of them. */
#include "program.h"

#include <string.h>

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

static const float *angles(const rz_program *p, const rz_op *op, int32_t token) {
    const rz_rope *rope = &p->ropes[op->rope];
    return rope->table + (int64_t)token * 2 * rope->half;
}

static void rotate_queries(const rz_program *p, const rz_op *op, int32_t token, float *row) {
    const rz_rope *rope = &p->ropes[op->rope];
    p->kernels->rotate(row, p->heads, p->head_dim, angles(p, op, token), rope->half,
                       rope->interleaved, op->scale);
}

static void append(const rz_span *span, const rz_op *op, const rz_attention *a, int32_t token,
                   float *row) {
    const rz_program *p = span->program;
    const rz_rope *rope = &p->ropes[op->rope];
    float *keys = row + p->heads * p->head_dim, *values = keys + p->kv_heads * p->head_dim;
    p->kernels->rotate(keys, p->kv_heads, p->head_dim, angles(p, op, token), rope->half,
                       rope->interleaved, 1.0f);
    p->kernels->append(a, span->call->start + token, keys, values);
}

void rz_run_append(const rz_span *span, const rz_op *op) {
    rz_attention a = view(span, op);
    int64_t first = 0, last = span->count;
    if (span->wide)
        rz_share(span, span->count, &first, &last);
    for (int64_t t = span->first + first; t < span->first + last; t++) {
        float *row = rz_row(span, op->input, (int32_t)t);
        rotate_queries(span->program, op, (int32_t)t, row);
        append(span, op, &a, (int32_t)t, row);
    }
}

static rz_partial part(const rz_program *p, int64_t index) {
    float *base = p->partials + index * p->heads * (p->value_dim + 2);
    return (rz_partial){base, base + p->heads, base + 2 * p->heads};
}

typedef struct cut {
    int64_t pages, step;
    int32_t count;
} cut;

/* Cuts the pages of `length` positions into at most RZ_PARTS parts. It does not depend on the
 * number of threads, so that neither does the result. */
static cut cut_pages(int64_t length) {
    cut c = {.pages = (length + RZ_PAGE - 1) / RZ_PAGE};
    c.step = (c.pages + RZ_PARTS - 1) / RZ_PARTS;
    c.count = (int32_t)((c.pages + c.step - 1) / c.step);
    return c;
}

/* One token: its positions are split over the threads; the thread with the last part stores the new
 * key and value first. The row's own memory stays as it is, since the other threads read it too. */
static void attend_one(const rz_span *span, const rz_op *op, const rz_attention *a) {
    const rz_program *p = span->program;
    int64_t length = span->call->start + 1, first, last;
    cut c = cut_pages(length);
    rz_share(span, c.count, &first, &last);
    if (first >= last)
        return;
    float *row = p->scratch[span->thread].attend;
    size_t floats = (size_t)(p->heads + 2 * p->kv_heads) * (size_t)p->head_dim;
    memcpy(row, rz_row(span, op->input, 0), sizeof(float) * floats);
    rotate_queries(p, op, 0, row);
    if (last == c.count)
        append(span, op, a, 0, row);
    for (int64_t i = first; i < last; i++) {
        int64_t end = (i + 1) * c.step;
        rz_partial out = part(p, i);
        p->kernels->attend_one(a, row, length, i * c.step, end < c.pages ? end : c.pages, &out);
    }
}

void rz_join_attention(const rz_span *span, const rz_op *attend, float *out) {
    rz_attention a = view(span, attend);
    cut c = cut_pages(span->call->start + 1);
    rz_partial parts[RZ_PARTS];
    for (int32_t i = 0; i < c.count; i++)
        parts[i] = part(span->program, i);
    span->program->kernels->merge(&a, parts, c.count, out);
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

/* A few tokens on all threads: by key/value heads where they divide evenly, since each then reads
 * its part of the cache once, else by tokens. */
static void attend_few(const rz_span *span, const rz_op *op, rz_attention a) {
    const rz_program *p = span->program;
    int64_t first, last;
    if (p->kv_heads % p->threads != 0) {
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
    if (!span->wide)
        attend_rows(span, op, &a, 0, span->count, 0);
    else if (span->call->count == 1)
        attend_one(span, op, &a);
    else
        attend_few(span, op, a);
}
