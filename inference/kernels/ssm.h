/* ssm.h: what Mamba's operators are made of: the causal convolution, the selective scan of Mamba,
 * the scan of Mamba-2's heads.
 *
 * A scan keeps 16 channels side by side in a vector and a state's elements one after the other, so
 * that what a state says is a sum over rows, without horizontal sums. Rows are summed in order.
 * References: Gu and Dao 2023 (Mamba), Dao and Gu 2024 (Mamba-2).
 */
#ifndef RZ_SSM_H
#define RZ_SSM_H

#include <stddef.h>
#include <stdint.h>

#include "rz.h"

#define RZ_SCAN_TOKENS 64 /* tokens that a scan takes at a time: what they need stays in cache */
#define RZ_DUAL_TOKENS 16 /* tokens of a chunk of Mamba-2: lanes of a vector */
#define RZ_CONV_WIDTH 64  /* most taps of a convolution */

/* Channels [0, 16 * blocks) of some tokens; pointers are to the first channel of the first token,
 * rows of x, dt and z are so many floats apart. */
typedef struct rz_scan {
    int32_t blocks, states, tokens;
    int64_t x_stride, dt_stride, z_stride, bc_stride;
    float *x;        /* replaced by the output */
    const float *dt; /* step sizes, after their softplus */
    const float *z;  /* gate before its SiLU */
    const float *b, *c;
    const float *a; /* [blocks][states][16], not positive, times log2(e) */
    const float *d; /* [blocks][16] */
    float *state;   /* [blocks][states][16] */
} rz_scan;

/* A head of Mamba-2 over the new tokens [first, last) of a chunk. x, z, out and c are the rows of
 * these; kept_x, kept_dt, b and dots have a row for each token of the chunk, and the kernel fills
 * in the new ones of the first two. */
typedef struct rz_dual {
    int32_t dim, states, first, last;
    int64_t stride, z_stride, out_stride; /* stride: of x and c */
    const float *x, *c, *z;
    const float *dt;       /* [last - first] step sizes, softplus(dt + bias) within their limits */
    const float *const *b; /* [RZ_DUAL_TOKENS] */
    const float *dots;     /* [RZ_DUAL_TOKENS][RZ_DUAL_TOKENS], c of each new token with each b */
    float a, d;
    float *out;
    float *kept_x, *kept_dt; /* [RZ_DUAL_TOKENS][rz_dual_padded(dim)], [RZ_DUAL_TOKENS] */
    float *state;            /* [states][rz_dual_padded(dim)], of all tokens before the chunk */
    float *work;             /* [RZ_DUAL_TOKENS][rz_dual_padded(dim)] */
} rz_dual;

typedef struct rz_ssm_kernels {
    const char *isa;
    /* out[i] = silu(bias[i] + sum over k < width of weight[k * stride + i] * rows[k][i]) for
     * i < n; bias may be NULL. weight, bias and out are padded to 16, rows need not be. */
    void (*conv)(const float *const *rows, const float *weight, int64_t stride, const float *bias,
                 int32_t width, int64_t n, float *out);
    /* state = exp(dt * a) * state + dt * x * b; x = (c . state + d * x) * silu(z). */
    void (*scan)(const rz_scan *scan);
    /* state = exp(dt * a) * state + dt * x * b; out = (c . state + d * x) * silu(z). The state is
     * changed where the chunk is full. */
    void (*dual)(const rz_dual *head);
    /* out[i] = c . b[i] for i < count, vectors of n. */
    void (*dots)(const float *c, const float *const *b, int32_t count, int64_t n, float *out);
    /* dt[i] = softplus(dt[i] + bias) within [least, most], i < n; padded to 16. */
    void (*steps)(float *dt, float bias, float least, float most, int64_t n);
    /* x[i] = x[i] / sqrt(mean of squares + eps) * weight[i], any n; weight may be NULL: ones. */
    void (*rms_part)(float *x, const float *weight, float eps, int64_t n);
} rz_ssm_kernels;

/* Columns of a head's state. */
static inline int32_t rz_dual_padded(int32_t dim) {
    return (dim + 15) / 16 * 16;
}

/* The table of the named instruction set, or of the portable one. */
const rz_ssm_kernels *rz_ssm_table(const char *isa);

#ifdef RZ_ISA_NAME
#define rz_selective_scan RZ_ISA_FN(rz_selective_scan)
#define rz_dual_chunk RZ_ISA_FN(rz_dual_chunk)
void rz_selective_scan(const rz_scan *scan);
void rz_dual_chunk(const rz_dual *head);
#endif

#endif
