/* wkv7.c: one head of RWKV-7 over some tokens, from its projections to the gated output; contract
 * in wkv.h.
 *
 * The state is read once a token: the pass that updates a row for token t also gathers what token
 * t + 1 will ask of it.
 */
#include "wkv_head.h"

/* What the rows' pass needs of one token. */
typedef struct {
    RZ_ALIGNED float w[RZ_WKV_DIM];   /* decay */
    RZ_ALIGNED float ask[RZ_WKV_DIM]; /* the removed key, negative, of length 1 */
    RZ_ALIGNED float put[RZ_WKV_DIM]; /* where the answer is written back */
    RZ_ALIGNED float k[RZ_WKV_DIM];
    RZ_ALIGNED float r[RZ_WKV_DIM];
    RZ_ALIGNED float v[RZ_WKV_DIM];
    float bonus;
} token7;

/* Elements [i, i + 16): everything but the length of the removed key, whose square is added. */
RZ_INLINE void prepare_lanes(const rz_wkv_head *h, int64_t at, int32_t i, int32_t left, token7 *to,
                             lanes_f *length, lanes_f *bonus) {
    const lanes_f one = lf_splat(1.0f), k = part_load(h->k + at + i, left);
    const lanes_f a = lf_sigmoid(part_load(h->a + at + i, left));
    const lanes_f r = part_load(h->r + at + i, left);
    const lanes_f w = lf_sigmoid(part_load(h->w + at + i, left));
    lf_store(to->w + i, lf_exp(lf_mul(w, lf_splat(-0.6065306597126334f))));
    const lanes_f removed = lf_mul(k, part_load(h->k_k + i, left));
    *length = lf_fma(removed, removed, *length);
    lf_store(to->ask + i, removed);
    lf_store(to->put + i, a);
    const lanes_f scaled = lf_mul(k, lf_fma(lf_sub(a, one), part_load(h->k_a + i, left), one));
    lf_store(to->k + i, scaled);
    lf_store(to->r + i, r);
    *bonus = lf_fma(lf_mul(r, scaled), part_load(h->r_k + i, left), *bonus);
    lanes_f v = part_load(h->v + at + i, left);
    if (h->mix != NULL) {
        const lanes_f change = lf_sub(part_load(h->first + at + i, left), v);
        v = lf_fma(change, lf_sigmoid(part_load(h->mix + at + i, left)), v);
    }
    lf_store(to->v + i, v);
}

RZ_INLINE void prepare(const rz_wkv_head *h, int32_t dim, int32_t token, token7 *to) {
    fetch(h, dim, token);
    lanes_f length = lf_splat(0), bonus = lf_splat(0);
    for (int32_t i = 0; i < dim; i += VL)
        prepare_lanes(h, token * h->stride, i, dim - i, to, &length, &bonus);
    const float norm = sqrtf(lf_sum(length));
    const lanes_f scale = lf_splat(-1.0f / (norm > 1e-12f ? norm : 1e-12f));
    for (int32_t i = 0; i < dim; i += VL) {
        const lanes_f ask = lf_mul(lf_load(to->ask + i), scale);
        lf_store(to->ask + i, ask);
        lf_store(to->put + i, lf_mul(lf_sub(lf_splat(0), ask), lf_load(to->put + i)));
    }
    to->bonus = lf_sum(bonus);
}

/* asked = state' ask, of 16 * blocks columns. */
RZ_INLINE void ask_columns(int blocks, int32_t dim, const float *state, const float *ask,
                           float *asked) {
    const int32_t padded = rz_wkv_padded(dim);
    lanes_f sum[WKV_BLOCKS];
    RZ_UNROLL(4)
    for (int b = 0; b < blocks; b++)
        sum[b] = lf_splat(0);
    for (int32_t j = 0; j < dim; j++, state += padded) {
        const lanes_f x = lf_splat(ask[j]);
        RZ_UNROLL(4)
        for (int b = 0; b < blocks; b++) {
            RZ_PREFETCH(state + dim * padded + b * VL); /* the next head's */
            sum[b] = lf_fma(lf_load(state + b * VL), x, sum[b]);
        }
    }
    RZ_UNROLL(4)
    for (int b = 0; b < blocks; b++)
        lf_store(asked + b * VL, sum[b]);
}

/* Updates 16 * blocks columns for one token; y = state' r after it, and asked, what the token asked
 * of these columns, becomes what the next one asks. */
RZ_INLINE void step_columns(int blocks, int32_t dim, const token7 *x, const float *next,
                            const float *values, float *state, float *asked, float *y) {
    const int32_t padded = rz_wkv_padded(dim);
    lanes_f v[WKV_BLOCKS], answer[WKV_BLOCKS], sum[WKV_BLOCKS], after[WKV_BLOCKS];
    RZ_UNROLL(4)
    for (int b = 0; b < blocks; b++) {
        v[b] = lf_load(values + b * VL);
        answer[b] = lf_load(asked + b * VL);
        sum[b] = after[b] = lf_splat(0);
    }
    for (int32_t j = 0; j < dim; j++, state += padded) {
        const lanes_f w = lf_splat(x->w[j]), put = lf_splat(x->put[j]), k = lf_splat(x->k[j]);
        const lanes_f r = lf_splat(x->r[j]), ask = lf_splat(next[j]);
        RZ_UNROLL(4)
        for (int b = 0; b < blocks; b++) {
            lanes_f s = lf_mul(lf_load(state + b * VL), w);
            s = lf_fma(v[b], k, lf_fma(answer[b], put, s));
            lf_store(state + b * VL, s);
            sum[b] = lf_fma(s, r, sum[b]);
            after[b] = lf_fma(s, ask, after[b]);
        }
    }
    RZ_UNROLL(4)
    for (int b = 0; b < blocks; b++) {
        lf_store(y + b * VL, sum[b]);
        lf_store(asked + b * VL, after[b]);
    }
}

RZ_INLINE void ask_all(int32_t dim, const float *state, const float *ask, float *asked) {
    int32_t i = 0;
    for (; i + WKV_BLOCKS * VL <= rz_wkv_padded(dim); i += WKV_BLOCKS * VL)
        ask_columns(WKV_BLOCKS, dim, state + i, ask, asked + i);
    for (; i < dim; i += VL)
        ask_columns(1, dim, state + i, ask, asked + i);
}

RZ_INLINE void step_all(int32_t dim, const token7 *x, const float *next, float *state, float *asked,
                        float *y) {
    int32_t i = 0;
    for (; i + WKV_BLOCKS * VL <= rz_wkv_padded(dim); i += WKV_BLOCKS * VL)
        step_columns(WKV_BLOCKS, dim, x, next, x->v + i, state + i, asked + i, y + i);
    for (; i < dim; i += VL)
        step_columns(1, dim, x, next, x->v + i, state + i, asked + i, y + i);
}

RZ_INLINE void finish(const rz_wkv_head *h, int32_t dim, int32_t token, const token7 *x, float *y) {
    const int64_t at = token * h->stride;
    float mean, scale;
    moments(dim, h->eps, y, &mean, &scale);
    for (int32_t i = 0; i < dim; i += VL) {
        lanes_f out = normed(h, y, i, dim - i, mean, scale);
        out = lf_fma(lf_splat(x->bonus), lf_load(x->v + i), out);
        if (h->gate != NULL)
            out = lf_mul(out, part_load(h->gate + at + i, dim - i));
        part_store(h->out + at + i, dim - i, out);
    }
}

RZ_INLINE void run_head(const rz_wkv_head *h, int32_t dim) {
    token7 tokens[2];
    RZ_ALIGNED float asked[RZ_WKV_DIM], y[RZ_WKV_DIM];
    prepare(h, dim, 0, &tokens[0]);
    ask_all(dim, h->state, tokens[0].ask, asked);
    for (int32_t t = 0; t < h->tokens; t++) {
        const token7 *x = &tokens[t % 2];
        token7 *next = &tokens[(t + 1) % 2];
        if (t + 1 < h->tokens)
            prepare(h, dim, t + 1, next);
        else
            next = &tokens[t % 2]; /* nobody will look at what is asked */
        step_all(dim, x, next->ask, h->state, asked, y);
        finish(h, dim, t, x, y);
    }
}

void rz_wkv7(const rz_wkv_head *head) {
    if (head->dim == 64)
        run_head(head, 64);
    else
        run_head(head, head->dim);
}
