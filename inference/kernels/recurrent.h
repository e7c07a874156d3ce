/* recurrent.h: the operators of models that remember a sequence in a block of fixed size.
 *
 * To add one, write `void rz_run_NAME(const rz_span *, const rz_op *)` in a file program_*.c, and
 * enter it in the table of recurrent.c. Its buffers, vectors, sizes and numbers are what
 * Program.operator("NAME", …) was given; a comment above the function says which is which.
 */
#ifndef RZ_RECURRENT_H
#define RZ_RECURRENT_H

#include "program.h"

typedef struct rz_operator {
    const char *name;
    enum rz_flow flow;
    void (*run)(const rz_span *span, const rz_op *op);
} rz_operator;

/* The operator of that name, or NULL. */
const rz_operator *rz_find_operator(const char *name);

/* Points a program at the kernels of an instruction set that its operators call. */
void rz_choose_kernels(rz_program *program, const char *isa);

/* This operator's part of the sequence's state. */
static inline float *rz_state(const rz_span *span, const rz_op *op) {
    return span->call->state + op->state;
}

/* This thread's memory for what an operator needs while it runs. */
static inline float *rz_workspace(const rz_span *span) {
    return span->program->scratch[span->thread].workspace;
}

/* This thread's columns [first, last) of `columns`, cut between vectors. */
static inline void rz_share_columns(const rz_span *span, int64_t columns, int64_t *first,
                                    int64_t *last) {
    rz_share(span, (columns + 15) / 16, first, last);
    *first *= 16, *last *= 16;
    if (*last > columns)
        *last = columns;
}

/* Writes the last rows of a whole buffer, as many as it has past rows, to `state`, [past][columns],
 * for the next chunk's "recall"; the span with the last token does it. For operators that read
 * past rows, after which nothing writes them. */
void rz_save_past(const rz_span *span, int32_t buffer, int64_t columns, float *state);

void rz_run_recall(const rz_span *span, const rz_op *op);
void rz_run_norm(const rz_span *span, const rz_op *op);
/* RWKV's, in program_shift.c, program_wkv4.c and program_wkv.c. */
void rz_run_shift(const rz_span *span, const rz_op *op);
void rz_run_blend(const rz_span *span, const rz_op *op);
void rz_run_combine(const rz_span *span, const rz_op *op);
void rz_run_wkv4(const rz_span *span, const rz_op *op);
void rz_run_wkv6(const rz_span *span, const rz_op *op);
void rz_run_wkv7(const rz_span *span, const rz_op *op);
void rz_run_conv(const rz_span *span, const rz_op *op);
void rz_run_scan(const rz_span *span, const rz_op *op);
void rz_run_dual(const rz_span *span, const rz_op *op);
void rz_run_dual_keep(const rz_span *span, const rz_op *op);
void rz_run_rms_parts(const rz_span *span, const rz_op *op);

#endif
