/* program.h: a model as a list of operators that runs whole: without Python, on a thread pool.
 *
 * Buffers hold one row of floats a token, padded with zeros to 32 columns. A WHOLE buffer has a row
 * for every token of a chunk and is shared; a BLOCK buffer has a set of rows for each thread,
 * enough for one block of tokens.
 *
 * Two schedules run the same list:
 *
 *   wide     few tokens (decode): every operator is split over the threads by weight panels, heads
 *            or positions, with a barrier after it. All use the block buffers of thread 0.
 *   blocks   many tokens (prefill): a thread takes a block of tokens through all operators up to
 *            the next one that reads other tokens (attention), then takes another block. One
 *            barrier a layer; what a block needs stays in the thread's cache. Blocks are handed out
 *            by a counter, so a slow core takes fewer. An operator that goes through all tokens in
 *            order is cut by channels or heads instead, handed out likewise.
 *
 * What a model remembers of a sequence besides keys and values is one block of floats; each
 * operator that remembers something owns a part of it. recurrent.h has those operators.
 *
 * What lies between two barriers is a step of the pool, which may run each with other threads.
 * Results are the same bits for any number of them, so nobody notices.
 */
#ifndef RZ_PROGRAM_H
#define RZ_PROGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "ops.h"
#include "pool.h"
#include "rz.h"

#define RZ_MATRICES 4 /* most matrices that one linear operator applies to the same activations */
#define RZ_SLICE 512  /* columns of a gated operator's second matrix that are held for a block: */
#define RZ_TERNARY_SLICE 3456 /* more, where tables are made anew for each slice */
#define RZ_OPERANDS 16        /* most buffers, vectors or sizes of one operator */
#define RZ_SHARES 4           /* parts a thread that an operator on a whole sequence is cut into */
#define RZ_UNIT_BYTES 49152   /* of weights that a thread takes at once, at least */
#define RZ_TAKEN 16           /* operators whose takings are kept: the most that are joined */
#define RZ_NARROW 2     /* up to so many tokens, every thread prepares all activations for itself */
#define RZ_BLOCK_MIN 32 /* tokens a thread that make the `blocks` schedule worth while */

enum rz_opcode {
    RZ_EMBED = 0, /* output[t] = matrix row of token t */
    /* output[t] (=, +=) matrices * norm(input[t]) + biases, or through a gate */
    RZ_LINEAR = 1,
    RZ_APPEND = 2, /* rotate queries and keys in input[t], store keys and values in the cache */
    RZ_ATTEND = 3, /* output[t] = attention of input[t]'s queries; reads what all tokens appended */
    RZ_OPERATOR = 4, /* one of recurrent.h's */
};

/* What an operator's row t is made of, which says when it may run. */
enum rz_flow {
    RZ_TOKENS,     /* of rows t of earlier operators: any block of tokens, any time */
    RZ_NEIGHBOURS, /* of other rows of whole buffers too: after a barrier */
    RZ_SEQUENCE,   /* of all rows before it: cut by channels or heads; whole buffers only */
};

/* What becomes of a linear operator's products. */
enum rz_gate {
    RZ_GATE_NONE = 0,
    RZ_GATE_PAIR = 1,   /* output = activation(first) * second */
    RZ_GATE_OUTPUT = 2, /* output = activation(output) * first */
};
enum rz_activation { RZ_SILU = 0, RZ_RELU2 = 1 };

struct rz_operator; /* recurrent.h */

/* How a linear operator's matrices take its input. */
enum rz_input {
    RZ_AS_FLOATS = 0,
    RZ_BY_GROUPS = 1, /* int8 with a scale for each RZ_GROUP of them */
    RZ_BY_TOKENS = 2, /* int8 with one scale a token */
};

typedef struct rz_buffer {
    int32_t cols, whole;
    int32_t past; /* rows before the first that a whole buffer has for earlier tokens */
    int64_t stride;
    float *data; /* [chunk][stride] if whole, else [threads][block][stride] */
} rz_buffer;

typedef struct rz_rope {
    int32_t half, interleaved;
    float factor;       /* multiplies cosines and sines (yarn) */
    float *frequencies; /* [half] radians a position */
    float *table;       /* [chunk][2 * half], cosines and sines of the present chunk */
} rz_rope;

typedef struct rz_op {
    int32_t code;
    int32_t input, output; /* buffers */
    int32_t matrices, accumulate;
    int32_t gate, activation, quantized; /* rz_gate, rz_activation, rz_input */
    int32_t dense;                       /* a matrix of floats takes the activations too */
    int32_t layer, rope;                 /* of attention and append */
    float eps, inner_eps, scale;
    const float *norm;  /* [input cols, padded], or NULL */
    const float *inner; /* of a second norm behind the first: a linear layer's own; or NULL */
    const rz_matrix *weights[RZ_MATRICES];
    const float *biases[RZ_MATRICES];
    int32_t columns[RZ_MATRICES]; /* first column of output that each matrix fills */
    int32_t activated;            /* rz_map of the products, or -1 */
    int32_t joined; /* reads nothing that the operator before it writes: no barrier between them */
    const struct rz_operator *kind; /* of an RZ_OPERATOR, like all that follows */
    int32_t buffers[RZ_OPERANDS], sizes[RZ_OPERANDS];
    const float *vectors[RZ_OPERANDS]; /* 64-byte aligned, zero padded to 32 floats; or NULL */
    float numbers[RZ_OPERANDS];
    int64_t state;  /* first float of its part of the sequence's */
    double seconds; /* spent by thread 0, where timing is on */
} rz_op;

/* The likeliest token of those that a thread, or all of them, looked at. */
typedef struct rz_best {
    float logit;    /* NaN where one was */
    int32_t token;  /* the first of equals; -1: none */
    int32_t panels; /* of the head that had to be computed */
} rz_best;

/* How much of a thread's share of an operator is done or being done: the operator's number in the
 * upper 16 bits, then panels that others took from the back, then those it took from the front, 24
 * bits each. Of another operator, it means nothing. */
typedef struct rz_taken {
    _Alignas(64) _Atomic uint64_t word;
} rz_taken;

#define RZ_TAKEN_OP(word) ((word) >> 48)
#define RZ_TAKEN_BACK(word) ((int64_t)((word) >> 24 & 0xffffff))
#define RZ_TAKEN_FRONT(word) ((int64_t)((word) & 0xffffff))
#define RZ_TAKEN_NONE UINT64_MAX

/* Scratch memory of one thread. */
typedef struct rz_scratch {
    float *
        normed; /* [1, or block where an operator has a matrix of floats][widest input of a norm] */
    int8_t *codes;    /* [block][widest input of a linear operator] */
    float *scales;    /* [block][widest / 32] */
    int32_t *sums;    /* [block][2 * widest / 32] */
    float *second;    /* [block][slice] */
    float *attend;    /* rz_attend_floats() */
    uint8_t *work;    /* RZ_WORK_BYTES where a matrix is ternary, else NULL */
    float *room;      /* [3 * groups of the head] where it is scanned, else NULL */
    float *workspace; /* what the greediest of recurrent.h's operators asked for */
    rz_best best;
} rz_scratch;

typedef struct rz_program {
    int32_t threads, chunk, block;
    int32_t widest, widest_norm; /* strides of the widest inputs of linear operators and of norms */
    int32_t op_count, buffer_count, rope_count,
        head; /* head: the operator that makes logits, the last */
    int32_t heads, kv_heads, head_dim, value_dim, half_cache;
    int64_t layer_bytes, head_bytes; /* inside a page */
    int32_t vocabulary, timed, slice;
    float *bounds; /* [panels of the head] where it is scanned, else NULL */
    rz_op *ops;
    rz_buffer *buffers;
    rz_rope *ropes;
    rz_scratch *scratch; /* [threads] */
    const rz_linear_kernels *linear;
    const rz_ops_kernels *kernels;
    const struct rz_ssm_kernels *ssm;
    const struct rz_wkv_kernels *wkv;
    rz_pool *pool;
    atomic_int *next_block; /* [op_count + 1] */
    rz_taken *taken;        /* [RZ_TAKEN][threads]: of operator i % RZ_TAKEN */
} rz_program;

/* One call: `count` tokens (at most chunk) at positions start, start + 1, … */
typedef struct rz_call {
    const int32_t *tokens;
    int32_t count;
    int64_t start;
    uint8_t *const *pages; /* enough for start + count positions */
    float *state;          /* of the sequence, or NULL where the program has none */
    float *logits;         /* [1 or count][vocabulary], or NULL */
    int32_t all_logits;
    /* Instead of logits: the likeliest token below `below` after the last one, for a scanned head.
     */
    rz_best *best;
    int32_t below;
    int (*poll)(void *argument); /* asked now and then by thread 0; nonzero gives up. May be NULL */
    void *poll_argument;
} rz_call;

/* What an operator works on. */
typedef struct rz_span {
    const rz_program *program;
    const rz_call *call;
    int32_t thread;       /* whose scratch memory */
    int32_t part, parts;  /* this thread's part of every operator; one part in a block */
    int32_t first, count; /* tokens of the chunk */
    int32_t set;          /* whose block buffers */
} rz_span;

/* 0; 1 where poll gave up; -1 where threads could not be started. */
int rz_program_run(rz_program *program, const rz_call *call);

/* Norm and quantisation of a few tokens, in the thread's own scratch memory. */
rz_acts rz_prepare_alone(const rz_span *span, const rz_op *op);
/* The head for one token's likeliest successor only: this thread's part of it. */
void rz_run_best(const rz_span *span, const rz_op *op);
/* Puts together what the threads found. */
void rz_collect_best(const rz_program *program, rz_best *best);
void rz_run_linear(const rz_span *span, const rz_op *op, float *out, int64_t out_stride);
/* Takes panels [first, last) of the line of an operator's matrices: a quarter of what is left of a
 * part's share, from the front of this thread's own or the back of another's, and of small rests
 * all. Says whether there were any. */
int rz_take(const rz_span *span, const rz_op *op, int32_t part, int64_t *first, int64_t *last);
/* What other threads have not begun of an operator that this one has done its share of. */
void rz_help_linear(const rz_span *span, const rz_op *op, float *out, int64_t out_stride);
void rz_run_append(const rz_span *span, const rz_op *op);
void rz_run_attend(const rz_span *span, const rz_op *op);

/* Row of the chunk's token `token` in a buffer, as this span sees it; of a whole buffer with past
 * rows, -1 is the last of them. */
static inline float *rz_row(const rz_span *span, int32_t buffer, int32_t token) {
    const rz_buffer *b = &span->program->buffers[buffer];
    int64_t row =
        b->whole ? token : (int64_t)span->set * span->program->block + token - span->first;
    return b->data + row * b->stride;
}

/* Says whether attention itself stores the position: one token, whole key/value heads a thread. */
static inline int rz_appends_itself(const rz_span *span) {
    return span->call->count == 1 && span->program->kv_heads % span->parts == 0;
}

/* Waits for the other threads that share this operator. */
static inline void rz_span_barrier(const rz_span *span) {
    if (span->parts > 1)
        rz_pool_barrier(span->program->pool, span->thread);
}

/* This thread's share [first, last) of `count` things. */
static inline void rz_share(const rz_span *span, int64_t count, int64_t *first, int64_t *last) {
    *first = count * span->part / span->parts;
    *last = count * (span->part + 1) / span->parts;
}

#endif
