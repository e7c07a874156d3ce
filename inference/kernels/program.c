/* Runs a program by the `wide` or the `blocks` schedule; see program.h. */
#define _GNU_SOURCE /* clock_gettime() under -std=c11 */
#include "program.h"

#include <math.h>
#include <stdlib.h>

#include "recurrent.h"
#include "wait.h"

typedef struct run {
    rz_program *program;
    const rz_call *call;
    int stopped; /* thread 0's */
} run;

static void run_embed(const rz_span *span, const rz_op *op) {
    int64_t first, last;
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
    case RZ_OPERATOR:
        op->kind->run(span, op);
        break;
    }
    if (begin != 0)
        op->seconds += rz_seconds() - begin;
}

/* What other threads have left of operators [first, last). */
static void help(const rz_span *span, int32_t first, int32_t last) {
    const rz_program *p = span->program;
    double begin = p->timed && span->thread == 0 ? rz_seconds() : 0;
    for (const rz_op *op = &p->ops[first]; op < &p->ops[last]; op++)
        if (op->code == RZ_LINEAR)
            rz_help_linear(span, op, rz_row(span, op->output, span->first),
                           p->buffers[op->output].stride);
    if (begin != 0)
        p->ops[first].seconds += rz_seconds() - begin;
}

/* One operator but the head, with those joined to it where each thread prepares its activations for
 * itself, over the whole chunk; returns the next one.
 * Storing positions and attention are one step, since the width says which of them does the former.
 */
static int32_t run_wide(const rz_span *span, int32_t index) {
    const rz_program *p = span->program;
    rz_op *op = &p->ops[index];
    if (op->code != RZ_APPEND) {
        int32_t first = index;
        do
            run_op(span, &p->ops[index++]);
        while (index < p->head && p->ops[index].joined && span->count <= RZ_NARROW);
        help(span, first, index);
        return index;
    }
    if (!rz_appends_itself(span)) {
        run_op(span, op);
        rz_span_barrier(span);
    }
    run_op(span, op + 1);
    return index + 2;
}

static int32_t block_size(const rz_program *p, int32_t tokens, int32_t width) {
    int32_t blocks = (tokens + p->block - 1) / p->block;
    blocks = (blocks + width - 1) / width * width;
    int32_t size = ((tokens + blocks - 1) / blocks + 7) / 8 * 8;
    return size < p->block ? size : p->block;
}

static enum rz_flow flow(const rz_op *op) {
    if (op->code == RZ_OPERATOR)
        return op->kind->flow;
    return op->code == RZ_ATTEND ? RZ_NEIGHBOURS : RZ_TOKENS;
}

/* One operator that goes through all tokens in order, part by part; returns the next one. */
static int32_t run_sequence(run *r, int32_t index, int thread, int width) {
    rz_program *p = r->program;
    int32_t parts = width == 1 ? 1 : width * RZ_SHARES, part;
    while ((part = atomic_fetch_add(&p->next_block[index], 1)) < parts) {
        rz_span span = {p, r->call, thread, part, parts, 0, r->call->count, thread};
        run_op(&span, &p->ops[index]);
    }
    return index + 1;
}

/* Operators from `first` to the next that reads other tokens for blocks of them, the last block,
 * whose attention costs most, first; returns that operator's index, or the head's. */
static int32_t run_blocks(run *r, int32_t first, int thread, int width) {
    rz_program *p = r->program;
    if (flow(&p->ops[first]) == RZ_SEQUENCE)
        return run_sequence(r, first, thread, width);
    int32_t count = r->call->count, end = first + 1;
    while (end < p->head && flow(&p->ops[end]) == RZ_TOKENS)
        end++;
    int32_t size = block_size(p, count, width), blocks = (count + size - 1) / size;
    for (;;) {
        int32_t block = blocks - 1 - atomic_fetch_add(&p->next_block[first], 1);
        if (block < 0)
            return end;
        int32_t left = count - block * size;
        rz_span span = {p, r->call, thread, 0, 1, block * size, left < size ? left : size, thread};
        for (int32_t i = first; i < end; i++)
            run_op(&span, &p->ops[i]);
    }
}

/* The block-th block of logits; says whether there are more. */
static int run_head(const run *r, int32_t block, int thread, int width) {
    rz_program *p = r->program;
    const rz_call *call = r->call;
    int32_t token = (call->all_logits ? 0 : call->count - 1) + block * p->block;
    int32_t left = call->count - token;
    float *out =
        call->logits == NULL ? NULL : call->logits + (int64_t)block * p->block * p->vocabulary;
    rz_span span = {p, call, thread, thread, width, token, left < p->block ? left : p->block, 0};
    rz_op *op = &p->ops[p->head];
    double begin = p->timed && thread == 0 ? rz_seconds() : 0;
    if (call->best != NULL) {
        rz_run_best(&span, op);
    } else {
        rz_run_linear(&span, op, out, p->vocabulary);
        rz_help_linear(&span, op, out, p->vocabulary);
    }
    if (begin != 0)
        op->seconds += rz_seconds() - begin;
    return left > p->block;
}

/* Asking may take long, where Python's lock is held by somebody else. */
static void poll(run *r) {
    if (r->call->poll == NULL)
        return;
    double begin = rz_seconds();
    r->stopped = r->call->poll(r->call->poll_argument);
    rz_pool_excuse(r->program->pool, rz_seconds() - begin);
    if (r->stopped)
        rz_pool_stop(r->program->pool);
}

/* Steps are numbered by the operator they begin with; further blocks of logits follow the head. */
static int32_t work(void *argument, int32_t step, int thread, int width) {
    run *r = argument;
    rz_program *p = r->program;
    int32_t count = r->call->count, next;
    if (step >= p->head)
        return run_head(r, step - p->head, thread, width) ? step + 1 : -1;
    if (count > p->block || (count >= RZ_BLOCK_MIN * p->threads && count > RZ_NARROW)) {
        next = run_blocks(r, step, thread, width);
        if (thread == 0)
            poll(r);
    } else {
        rz_span span = {p, r->call, thread, thread, width, 0, count, 0};
        next = run_wide(&span, step);
    }
    int wanted = r->call->logits != NULL || r->call->best != NULL;
    return next == p->head && !wanted ? -1 : next;
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
    for (int32_t i = 0; i < RZ_TAKEN * program->threads; i++)
        atomic_store_explicit(&program->taken[i].word, RZ_TAKEN_NONE, memory_order_relaxed);
    for (int32_t i = 0; i < program->rope_count; i++)
        fill_rope(&program->ropes[i], call->start, call->count);
    for (int32_t i = 0; i < program->threads; i++)
        program->scratch[i].best = (rz_best){0, -1, 0};
    if (rz_pool_run(program->pool, work, &r) != 0)
        return -1;
    if (call->best != NULL)
        rz_collect_best(program, call->best);
    return r.stopped;
}
