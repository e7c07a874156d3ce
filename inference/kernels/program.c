/* Runs a program by the `wide` or the `blocks` schedule; see program.h. */
#define _GNU_SOURCE /* clock_gettime() under -std=c11 */
#include "program.h"

#include <math.h>
#include <stdlib.h>

#include "wait.h"

typedef struct run {
    rz_program *program;
    const rz_call *call;
    atomic_int stopped;
} run;

static void run_embed(const rz_span *span, const rz_op *op) {
    int64_t first = 0, last = span->count;
    if (span->wide)
        rz_share(span, span->count, &first, &last);
    for (int64_t t = span->first + first; t < span->first + last; t++)
        span->program->linear->row(op->weights[0], span->call->tokens[t],
                                   rz_row(span, op->output, (int32_t)t));
}

static void run_op(const rz_span *span, rz_op *op) {
    double begin = span->program->timed && span->thread == 0 ? rz_seconds() : 0;
    switch (op->code) {
    case RZ_EMBED:
        run_embed(span, op);
        break;
    case RZ_LINEAR: {
        const rz_buffer *out = &span->program->buffers[op->output];
        rz_run_linear(span, op, rz_row(span, op->output, span->first), out->stride);
        break;
    }
    case RZ_APPEND:
        rz_run_append(span, op);
        break;
    case RZ_ATTEND:
        rz_run_attend(span, op);
        break;
    }
    if (begin != 0)
        op->seconds += rz_seconds() - begin;
}

static void poll(run *r, int thread) {
    if (thread == 0 && r->call->poll != NULL && r->call->poll(r->call->poll_argument))
        atomic_store(&r->stopped, 1);
}

/* Every operator but the head over the whole chunk. */
static void run_wide(run *r, int thread) {
    rz_program *p = r->program;
    rz_span span = {p, r->call, thread, 0, r->call->count, 1, 0};
    for (int32_t i = 0; i < p->head; i++) {
        if (p->ops[i].code == RZ_APPEND && rz_appends_itself(p, r->call->count))
            continue;
        run_op(&span, &p->ops[i]);
        rz_pool_barrier(p->pool);
    }
}

static int32_t block_size(const rz_program *p, int32_t tokens) {
    int32_t blocks = (tokens + p->block - 1) / p->block;
    blocks = (blocks + p->threads - 1) / p->threads * p->threads;
    int32_t size = ((tokens + blocks - 1) / blocks + 7) / 8 * 8;
    return size < p->block ? size : p->block;
}

/* Operators [first, last) for blocks of tokens, the last block, whose attention costs most, first.
 */
static void run_segment(run *r, int thread, int32_t first, int32_t last) {
    rz_program *p = r->program;
    int32_t size = block_size(p, r->call->count), blocks = (r->call->count + size - 1) / size;
    for (;;) {
        int32_t block = blocks - 1 - atomic_fetch_add(&p->next_block[first], 1);
        if (block < 0)
            return;
        int32_t left = r->call->count - block * size;
        rz_span span = {p, r->call, thread, block * size, left < size ? left : size, 0, thread};
        for (int32_t i = first; i < last; i++)
            run_op(&span, &p->ops[i]);
    }
}

static void run_blocks(run *r, int thread) {
    rz_program *p = r->program;
    for (int32_t first = 0, last; first < p->head; first = last) {
        for (last = first + 1; last < p->head && p->ops[last].code != RZ_ATTEND;)
            last++;
        run_segment(r, thread, first, last);
        poll(r, thread);
        rz_pool_barrier(p->pool);
        if (atomic_load(&r->stopped))
            return;
    }
}

static void run_head(run *r, int thread) {
    rz_program *p = r->program;
    const rz_call *call = r->call;
    if (call->logits == NULL || atomic_load(&r->stopped))
        return;
    int32_t token = call->all_logits ? 0 : call->count - 1;
    for (float *out = call->logits; token < call->count;
         token += p->block, out += (int64_t)p->block * p->vocabulary) {
        int32_t left = call->count - token;
        rz_span span = {p, call, thread, token, left < p->block ? left : p->block, 1, 0};
        rz_op *op = &p->ops[p->head];
        double begin = p->timed && thread == 0 ? rz_seconds() : 0;
        rz_run_linear(&span, op, out, p->vocabulary);
        rz_pool_barrier(p->pool);
        if (begin != 0)
            op->seconds += rz_seconds() - begin;
    }
}

static void work(void *argument, int thread) {
    run *r = argument;
    const rz_program *p = r->program;
    int32_t count = r->call->count;
    if (count > p->block || (count >= RZ_BLOCK_MIN * p->threads && count > RZ_NARROW))
        run_blocks(r, thread);
    else
        run_wide(r, thread);
    run_head(r, thread);
}

/* Angles are rounded to float before their sine, as the reference implementations do. */
static void fill_rope(const rz_rope *rope, int64_t start, int32_t count) {
    for (int32_t t = 0; t < count; t++) {
        float *row = rope->table + (int64_t)t * 2 * rope->half;
        for (int32_t i = 0; i < rope->half; i++) {
            float angle = (float)(start + t) * rope->frequencies[i];
            row[i] = (float)cos(angle) * rope->factor;
            row[rope->half + i] = (float)sin(angle) * rope->factor;
        }
    }
}

int rz_program_run(rz_program *program, const rz_call *call) {
    run r = {.program = program, .call = call};
    for (int32_t i = 0; i < program->op_count; i++)
        atomic_store(&program->next_block[i], 0);
    for (int32_t i = 0; i < program->rope_count; i++)
        fill_rope(&program->ropes[i], call->start, call->count);
    if (rz_pool_run(program->pool, work, &r) != 0)
        return -1;
    return atomic_load(&r.stopped);
}
