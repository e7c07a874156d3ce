/* wkv6.c: one head of RWKV-5 or 6 over some tokens; contract in wkv.h. */
#include "wkv_head.h"

/* What the rows' pass needs of one token. */
typedef struct {
    RZ_ALIGNED float w[RZ_WKV_DIM];
    RZ_ALIGNED float v[RZ_WKV_DIM];
    float bonus;
} token6;

RZ_INLINE void prepare(const rz_wkv_head *h, int32_t dim, int64_t at, token6 *to) {
    const lanes_f zero = lf_splat(0);
    lanes_f bonus = zero;
    for (int32_t i = 0; i < dim; i += VL) {
        const lanes_f r = part_load(h->r + at + i, dim - i), k = part_load(h->k + at + i, dim - i);
        bonus = lf_fma(lf_mul(r, k), part_load(h->u + i, dim - i), bonus);
        lf_store(to->v + i, part_load(h->v + at + i, dim - i));
        lanes_f w;
        if (h->w != NULL)
            w = lf_exp(lf_sub(zero, lf_exp(part_load(h->w + at + i, dim - i))));
        else
            w = part_load(h->decay + i, dim - i);
        lf_store(to->w + i, w);
    }
    to->bonus = lf_sum(bonus);
}

/* Updates 16 * blocks columns for one token; y = state' r before it, and the token's own part. */
RZ_INLINE void step_columns(int blocks, int32_t dim, const token6 *x, const float *r,
                            const float *k, const float *values, float *state, float *y) {
    const int32_t padded = rz_wkv_padded(dim);
    lanes_f v[WKV_BLOCKS], sum[WKV_BLOCKS];
    RZ_UNROLL(4)
    for (int b = 0; b < blocks; b++) {
        v[b] = lf_load(values + b * VL);
        sum[b] = lf_mul(v[b], lf_splat(x->bonus));
    }
    for (int32_t j = 0; j < dim; j++, state += padded) {
        const lanes_f w = lf_splat(x->w[j]), key = lf_splat(k[j]), asks = lf_splat(r[j]);
        RZ_UNROLL(4)
        for (int b = 0; b < blocks; b++) {
            const lanes_f s = lf_load(state + b * VL);
            sum[b] = lf_fma(s, asks, sum[b]);
            lf_store(state + b * VL, lf_fma(v[b], key, lf_mul(s, w)));
        }
    }
    RZ_UNROLL(4)
    for (int b = 0; b < blocks; b++)
        lf_store(y + b * VL, sum[b]);
}

RZ_INLINE void step_all(const rz_wkv_head *h, int32_t dim, int64_t at, const token6 *x, float *y) {
    int32_t i = 0;
    for (; i + WKV_BLOCKS * VL <= rz_wkv_padded(dim); i += WKV_BLOCKS * VL)
        step_columns(WKV_BLOCKS, dim, x, h->r + at, h->k + at, x->v + i, h->state + i, y + i);
    for (; i < dim; i += VL)
        step_columns(1, dim, x, h->r + at, h->k + at, x->v + i, h->state + i, y + i);
}

RZ_INLINE void finish(const rz_wkv_head *h, int32_t dim, int64_t at, float *y) {
    float mean, scale;
    moments(dim, h->eps, y, &mean, &scale);
    for (int32_t i = 0; i < dim; i += VL) {
        lanes_f out = normed(h, y, i, dim - i, mean, scale);
        if (h->gate != NULL)
            out = lf_mul(out, lf_silu(part_load(h->gate + at + i, dim - i)));
        part_store(h->out + at + i, dim - i, out);
    }
}

RZ_INLINE void run_head(const rz_wkv_head *h, int32_t dim) {
    token6 x;
    RZ_ALIGNED float y[RZ_WKV_DIM];
    for (int32_t t = 0; t < h->tokens; t++) {
        fetch(h, dim, t);
        prepare(h, dim, t * h->stride, &x);
        step_all(h, dim, t * h->stride, &x, y);
        finish(h, dim, t * h->stride, y);
    }
}

void rz_wkv6(const rz_wkv_head *head) {
    if (head->dim == 64)
        run_head(head, 64);
    else
        run_head(head, head->dim);
}
