/* wkv.h: what RWKV's operators are made of: the token shift and the recurrences of one head.
 *
 * A head's state has a row for each element of a key and a column for each element of a value,
 * [dim][padded], the columns padded with zeros to whole vectors: what a key asks of it is then a
 * sum over rows, without horizontal sums. Rows are summed in order, so a token gives the same bits
 * alone and among others.
 */
#ifndef RZ_WKV_H
#define RZ_WKV_H

#include <stddef.h>
#include <stdint.h>

#include "rz.h"

#define RZ_WKV_DIM 256 /* most elements of a head */

/* A head's columns of some tokens: pointers to its first element of the first token, rows `stride`
 * apart. Vectors are the head's own part. */
typedef struct rz_wkv_head {
    int32_t dim, tokens;
    int64_t stride;
    const float *r, *k, *v;
    const float *w;    /* decays before their activation; NULL: `decay` for all tokens */
    const float *gate; /* multiplies the output; RWKV-6: through SiLU; NULL: none */
    const float *norm_weight, *norm_bias; /* of the norm over the head's outputs */
    float eps;
    const float *u, *decay;       /* RWKV-5 and 6: bonus of the token itself; constant decay */
    const float *a;               /* RWKV-7: learning rates before their sigmoid */
    const float *mix, *first;     /* how much of the first layer's values, or NULL; these values */
    const float *k_k, *k_a, *r_k; /* scales of the removed key, of the key by a; of the bonus */
    float *out;
    float *state; /* [dim][rz_wkv_padded(dim)] */
} rz_wkv_head;

/* Columns of RWKV-4, a multiple of 16, for some tokens: pointers to the first column. */
typedef struct rz_wkv_columns {
    int64_t columns, width; /* width: of a row of the state */
    int64_t stride;
    int32_t tokens;
    const float *r, *k, *v; /* r behind its sigmoid */
    const float *u, *decay; /* bonus of the token itself; change of the exponent, negative */
    float *out, *state;     /* state: [3][width] */
} rz_wkv_columns;

typedef struct rz_wkv_kernels {
    const char *isa;
    /* out = x + (previous - x) * mu, or previous - x where mu is NULL; n a multiple of 16. */
    void (*shift)(const float *x, const float *previous, const float *mu, int64_t n, float *out);
    /* out = x + change * (mu + m). */
    void (*blend)(const float *x, const float *change, const float *mu, const float *m, int64_t n,
                  float *out);
    /* out = a * b, or out + a * b. */
    void (*combine)(const float *a, const float *b, int accumulate, int64_t n, float *out);
    /* out = r (sum of exp(age * decay + k) v, the token's own by exp(u + k)) / (sum of weights). */
    void (*wkv4)(const rz_wkv_columns *columns);
    /* S = diag(w) S + k v', out = norm((S before + diag(u) k v')' r) * silu(gate); w =
     * exp(-exp(w)). */
    void (*wkv6)(const rz_wkv_head *head);
    /* w = exp(-exp(-0.5) sigmoid(w)), a = sigmoid(a), c = k * k_k of length 1,
     * k = k * (1 + (a - 1) * k_a), v = v + (first - v) * sigmoid(mix);
     * S = diag(w) S - (a c) (S' c)' + k v', out = (norm(S' r) + (r . (k * r_k)) v) * gate. */
    void (*wkv7)(const rz_wkv_head *head);
} rz_wkv_kernels;

/* Columns of a head's state. */
static inline int32_t rz_wkv_padded(int32_t dim) {
    return (dim + 15) / 16 * 16;
}

/* The table of the named instruction set, or of the portable one. */
const rz_wkv_kernels *rz_wkv_table(const char *isa);

#ifdef RZ_ISA_NAME
#define rz_wkv4 RZ_ISA_FN(rz_wkv4)
#define rz_wkv6 RZ_ISA_FN(rz_wkv6)
#define rz_wkv7 RZ_ISA_FN(rz_wkv7)
void rz_wkv4(const rz_wkv_columns *columns);
void rz_wkv6(const rz_wkv_head *head);
void rz_wkv7(const rz_wkv_head *head);
#endif

#endif
