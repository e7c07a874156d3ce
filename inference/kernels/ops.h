/* ops.h: the operators between the linear ones: norm, gate, rotary positions, attention over the KV
 * cache.
 *
 * The cache is a list of pages of RZ_PAGE positions. One page holds, for each layer and key/value
 * head:
 *
 *     keys    [RZ_PAGE / 16][head_dim][16]     16 positions side by side: scores need no horizontal
 * sums values  [RZ_PAGE][value_dim]             value_dim = head_dim rounded up to 16, zero padded
 *
 * in fp16, or in float32 for the `float` precision.
 */
#ifndef RZ_OPS_H
#define RZ_OPS_H

#include <stddef.h>
#include <stdint.h>

#include "rz.h"

#define RZ_PAGE 64

enum rz_map {
    RZ_MAP_SILU = 0,
    RZ_MAP_RELU2 = 1,
    RZ_MAP_TANH = 2,
    RZ_MAP_SIGMOID = 3,
    RZ_MAP_SOFTPLUS = 4,
    RZ_MAP_EXP = 5,
    RZ_MAPS = 6
};

/* What attention reads, for one layer of one sequence. */
typedef struct rz_attention {
    int32_t heads, kv_heads, head_dim, value_dim;
    int32_t half_cache;   /* 1: fp16 pages, 0: float32 pages */
    int64_t layer_offset; /* bytes from a page's start to this layer */
    int64_t head_bytes;   /* bytes from one key/value head to the next */
    uint8_t *const *pages;
} rz_attention;

typedef struct rz_ops_kernels {
    const char *isa;
    /* out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]; n true elements, all three padded to 32.
     */
    void (*rmsnorm)(const float *x, const float *weight, float eps, int32_t n, float *out);
    /* gate[i] = gate[i] / (1 + exp(-gate[i])) * up[i]; n a multiple of 16. */
    void (*silu_mul)(float *gate, const float *up, int64_t n);
    /* gate[i] = max(gate[i], 0)^2 * up[i]; n a multiple of 16. */
    void (*relu2_mul)(float *gate, const float *up, int64_t n);
    /* out[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]; n true elements, all
     * padded to 32; bias may be NULL, out may be x. */
    void (*layernorm)(const float *x, const float *weight, const float *bias, float eps, int32_t n,
                      float *out);
    /* x[i] = f(x[i]) for any n; f an rz_map. */
    void (*map)(int32_t f, float *x, int64_t n);
    /* Rotates the first 2 * half of each head of dim elements in place by cos_sin = [half] cosines,
     * [half] sines; pairs are (i, i + half), or (2i, 2i + 1) where interleaved. Multiplies
     * everything by scale. */
    void (*rotate)(float *x, int32_t heads, int32_t dim, const float *cos_sin, int32_t half,
                   int interleaved, float scale);
    /* Stores one position's keys and values ([kv_heads][head_dim] each). */
    void (*append)(const rz_attention *a, int64_t position, const float *keys, const float *values);
    /* One query token (already scaled) over `length` positions, query heads [first, last) of
     * query and out, each [heads][head_dim]. workspace: rz_attend_floats() floats. The result is
     * the same, bit for bit, as attend_block's for that token. */
    void (*attend_one)(const rz_attention *a, const float *query, int64_t length, int32_t first,
                       int32_t last, float *workspace, float *out);
    /* `rows` query tokens at positions start, start + 1, …, each over all positions up to its own.
     * workspace: rz_attend_floats() floats. out[row][heads * head_dim]. */
    void (*attend_block)(const rz_attention *a, const float *queries, int64_t query_stride,
                         int32_t rows, int64_t start, float *workspace, float *out,
                         int64_t out_stride);
} rz_ops_kernels;

/* Floats of workspace that attention needs for blocks of `rows` tokens, or for one. */
static inline int64_t rz_attend_floats(int32_t heads, int32_t kv_heads, int32_t head_dim,
                                       int32_t rows) {
    int64_t value_dim = (head_dim + 15) / 16 * 16, group = heads / kv_heads;
    int64_t running = group * rows > heads ? group * rows : heads;
    return RZ_PAGE * (head_dim + value_dim) + 4 * RZ_PAGE + running * (value_dim + 2);
}

/* The table of the named instruction set, or of the portable one. */
const rz_ops_kernels *rz_ops_table(const char *isa);

#ifdef RZ_ISA_NAME
#define rz_append RZ_ISA_FN(rz_append)
#define rz_attend_one RZ_ISA_FN(rz_attend_one)
#define rz_attend_block RZ_ISA_FN(rz_attend_block)
void rz_append(const rz_attention *a, int64_t position, const float *keys, const float *values);
void rz_attend_one(const rz_attention *a, const float *query, int64_t length, int32_t first,
                   int32_t last, float *workspace, float *out);
void rz_attend_block(const rz_attention *a, const float *queries, int64_t query_stride,
                     int32_t rows, int64_t start, float *workspace, float *out, int64_t out_stride);
#endif

#endif
