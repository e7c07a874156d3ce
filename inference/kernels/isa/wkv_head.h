/* wkv_head.h: what the recurrences of RWKV-6 and 7 share: vectors of one head, and the norm and the
 * gate behind them. */
#ifndef RZ_WKV_HEAD_H
#define RZ_WKV_HEAD_H

#include <math.h>

#include "vec.h"
#include "wkv.h"

/* Blocks of 16 columns that are updated together: as many as the registers hold. */
#if defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)
#define WKV_BLOCKS 4
#else
#define WKV_BLOCKS 1
#endif

/* The next `left` floats, at most 16; the rest zero. Heads need not be whole vectors. */
RZ_INLINE lanes_f part_load(const float *p, int32_t left) {
    if (left >= VL)
        return lf_load(p);
    RZ_ALIGNED float part[VL] = {0};
    for (int32_t i = 0; i < left; i++)
        part[i] = p[i];
    return lf_load(part);
}

RZ_INLINE void part_store(float *p, int32_t left, lanes_f x) {
    if (left >= VL) {
        lf_store(p, x);
        return;
    }
    RZ_ALIGNED float part[VL];
    lf_store(part, x);
    for (int32_t i = 0; i < left; i++)
        p[i] = part[i];
}

enum { FETCH_AHEAD = 3 }; /* tokens */

/* Asks for what a later token reads and writes: up to nine streams of short pieces far apart are
 * more than a CPU foresees. */
RZ_INLINE void fetch(const rz_wkv_head *h, int32_t dim, int32_t token) {
    const float *const streams[] = {h->r,    h->k,   h->v,     h->w,  h->a,
                                    h->gate, h->mix, h->first, h->out};
    if (token + FETCH_AHEAD >= h->tokens)
        return;
    const int64_t at = (token + FETCH_AHEAD) * h->stride;
    RZ_UNROLL(9)
    for (int s = 0; s < 9; s++)
        for (int32_t i = 0; streams[s] != NULL && i < dim; i += VL)
            RZ_PREFETCH(streams[s] + at + i);
}

/* Mean of x and 1 / sqrt(variance + eps); sets the padding of x to the mean. */
RZ_INLINE void moments(int32_t dim, float eps, float *x, float *mean, float *scale) {
    const int32_t padded = rz_wkv_padded(dim);
    lanes_f sum = lf_splat(0), squares = lf_splat(0);
    for (int32_t i = dim; i < padded; i++)
        x[i] = 0;
    for (int32_t i = 0; i < padded; i += VL)
        sum = lf_add(sum, lf_load(x + i));
    *mean = lf_sum(sum) / (float)dim;
    for (int32_t i = dim; i < padded; i++)
        x[i] = *mean;
    for (int32_t i = 0; i < padded; i += VL) {
        const lanes_f gap = lf_sub(lf_load(x + i), lf_splat(*mean));
        squares = lf_fma(gap, gap, squares);
    }
    *scale = 1.0f / sqrtf(lf_sum(squares) / (float)dim + eps);
}

/* The norm of 16 outputs at column i. */
RZ_INLINE lanes_f normed(const rz_wkv_head *h, const float *x, int32_t i, int32_t left, float mean,
                         float scale) {
    const lanes_f gap = lf_mul(lf_sub(lf_load(x + i), lf_splat(mean)), lf_splat(scale));
    return lf_fma(gap, part_load(h->norm_weight + i, left), part_load(h->norm_bias + i, left));
}

#endif
