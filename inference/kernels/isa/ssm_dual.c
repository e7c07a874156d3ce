/* ssm_dual.c: the scan of one head of Mamba-2, token after token; contract in ssm.h. */
#include "ssm.h"

#include "vec.h"

#define STATES 8 /* elements of a state by two vectors of the head that are held in registers */

/* The first n of 16 floats, then zeros. */
static lanes_f part(const float *x, int32_t n) {
    RZ_ALIGNED float held[VL] = {0};
    memcpy(held, x, sizeof(float) * (size_t)n);
    return lf_load(held);
}

static int32_t lanes_of(const rz_dual *h, int32_t at) {
    return h->dim - at < VL ? h->dim - at : VL;
}

/* dt * x and d * x of a piece's tokens. */
static void gather(const rz_dual *h, int32_t first, int32_t count, float *change, float *y) {
    const int32_t padded = rz_dual_padded(h->dim);
    for (int32_t i = 0; i < count; i++)
        for (int32_t at = 0; at < padded; at += VL) {
            const lanes_f x = part(h->x + (first + i) * h->x_stride + at, lanes_of(h, at));
            lf_store(change + i * padded + at, lf_mul(x, lf_splat(h->dt[first + i])));
            lf_store(y + i * padded + at, lf_mul(x, lf_splat(h->d)));
        }
}

/* `vectors` of a head's vectors by n elements of its state; b and c are those of the first token.
 */
RZ_INLINE void tile(int vectors, int n, const rz_dual *h, int32_t first, int32_t count,
                    const float *change, const float *b, const float *c, float *y, float *state) {
    const int32_t padded = rz_dual_padded(h->dim);
    lanes_f s[2][STATES];
    RZ_UNROLL(2)
    for (int v = 0; v < vectors; v++) {
        RZ_UNROLL(8)
        for (int j = 0; j < n; j++)
            s[v][j] = lf_load(state + j * padded + v * VL);
    }
    for (int32_t i = 0; i < count; i++) {
        const lanes_f decay = lf_splat(h->decay[first + i]);
        RZ_UNROLL(2)
        for (int v = 0; v < vectors; v++) {
            const lanes_f in = lf_load(change + v * VL);
            lanes_f out = lf_load(y + v * VL);
            RZ_UNROLL(8)
            for (int j = 0; j < n; j++)
                s[v][j] = lf_fma(in, lf_splat(b[j]), lf_mul(decay, s[v][j]));
            RZ_UNROLL(8)
            for (int j = 0; j < n; j++)
                out = lf_fma(s[v][j], lf_splat(c[j]), out);
            lf_store(y + v * VL, out);
        }
        change += padded, y += padded, b += h->x_stride, c += h->x_stride;
    }
    RZ_UNROLL(2)
    for (int v = 0; v < vectors; v++) {
        RZ_UNROLL(8)
        for (int j = 0; j < n; j++)
            lf_store(state + j * padded + v * VL, s[v][j]);
    }
}

RZ_INLINE void columns(int vectors, const rz_dual *h, int32_t first, int32_t count,
                       const float *change, float *y, float *state) {
    const int32_t padded = rz_dual_padded(h->dim);
    const float *b = h->b + first * h->x_stride, *c = h->c + first * h->x_stride;
    int32_t j = 0;
    for (; j + STATES <= h->states; j += STATES)
        tile(vectors, STATES, h, first, count, change, b + j, c + j, y, state + j * padded);
    for (; j < h->states; j++)
        tile(vectors, 1, h, first, count, change, b + j, c + j, y, state + j * padded);
}

static void finish(const rz_dual *h, int32_t first, int32_t count, const float *y) {
    const int32_t padded = rz_dual_padded(h->dim);
    for (int32_t i = 0; i < count; i++)
        for (int32_t at = 0; at < h->dim; at += VL) {
            const int64_t t = first + i;
            RZ_ALIGNED float gated[VL];
            const lanes_f gate = lf_silu(part(h->z + t * h->z_stride + at, lanes_of(h, at)));
            lf_store(gated, lf_mul(lf_load(y + i * padded + at), gate));
            memcpy(h->out + t * h->out_stride + at, gated, sizeof(float) * (size_t)lanes_of(h, at));
        }
}

void rz_dual_scan(const rz_dual *h) {
    const int32_t padded = rz_dual_padded(h->dim);
    float *change = h->work, *y = change + RZ_SCAN_TOKENS * padded;
    for (int32_t first = 0; first < h->tokens; first += RZ_SCAN_TOKENS) {
        const int32_t left = h->tokens - first;
        const int32_t count = left < RZ_SCAN_TOKENS ? left : RZ_SCAN_TOKENS;
        int32_t at = 0;
        gather(h, first, count, change, y);
        for (; at + 2 * VL <= padded; at += 2 * VL)
            columns(2, h, first, count, change + at, y + at, h->state + at);
        if (at < padded)
            columns(1, h, first, count, change + at, y + at, h->state + at);
        finish(h, first, count, y);
    }
}
