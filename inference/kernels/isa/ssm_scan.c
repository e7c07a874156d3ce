/* ssm_scan.c: Mamba's selective scan, 16 channels side by side; contract in ssm.h.
 *
 * Nearly all of its time is one exponential for each channel and element of a state. The tokens of
 * a piece go through eight elements at a time, whose states stay in registers; what all elements
 * need of a token is worked out once and held in the first-level cache.
 */
#include "ssm.h"

#include "vec.h"

#define STATES 8  /* elements of a state that are held in registers */
#define AT_ONCE 4 /* exponentials that are worked out together */

/* What 16 channels need of each token of a piece. */
typedef struct piece {
    RZ_ALIGNED float dt[RZ_SCAN_TOKENS][VL];
    RZ_ALIGNED float change[RZ_SCAN_TOKENS][VL]; /* dt * x */
    RZ_ALIGNED float y[RZ_SCAN_TOKENS][VL];
} piece;

/* n powers 2^(dt * a) for exponents <= 0, to 1.6e-7, and 1 at 0 with a slope that is right to
 * 2.6e-7: a small decay is applied thousands of times. Below -125 it is 2^-125 or so. The
 * polynomial is the best of its degree on [-1/2, 1/2] (Lawson's algorithm). Step by step for all n,
 * since one power after the other would wait for each step's result. */
RZ_INLINE void decays(int n, lanes_f dt, const float *a, lanes_f *p) {
    static const float FACTORS[] = {0x1.3cea88p-7f, 0x1.c6b752p-5f, 0x1.ebf9bcp-3f, 0x1.62e42ap-1f,
                                    1.0f};
    const lanes_f magic = lf_splat(0x1.8p23f);
    lanes_f t[STATES], f[STATES];
    RZ_UNROLL(8)
    for (int j = 0; j < n; j++)
        f[j] = lf_least(lf_mul(dt, lf_load(a + j * VL)), lf_splat(-125.0f));
    RZ_UNROLL(8)
    for (int j = 0; j < n; j++)
        t[j] = lf_add(f[j], magic);
    RZ_UNROLL(8)
    for (int j = 0; j < n; j++)
        f[j] = lf_sub(f[j], lf_sub(t[j], magic));
    RZ_UNROLL(8)
    for (int j = 0; j < n; j++)
        p[j] = lf_fma(lf_splat(0x1.5bba14p-10f), f[j], lf_splat(FACTORS[0]));
    RZ_UNROLL(8)
    for (int k = 1; k < 5; k++) {
        RZ_UNROLL(8)
        for (int j = 0; j < n; j++)
            p[j] = lf_fma(p[j], f[j], lf_splat(FACTORS[k]));
    }
    RZ_UNROLL(8)
    for (int j = 0; j < n; j++)
        p[j] = lf_scale(p[j], t[j]);
}

/* Reads ahead what the next 16 channels want of a token. */
RZ_INLINE void prefetch(const rz_scan *s, int64_t at, int64_t t) {
    RZ_PREFETCH(s->x + t * s->x_stride + at + VL);
    RZ_PREFETCH(s->dt + t * s->dt_stride + at + VL);
    RZ_PREFETCH(s->z + t * s->z_stride + at + VL);
}

static void gather(const rz_scan *s, piece *p, int64_t at, int64_t first, int32_t count) {
    const lanes_f d = lf_load(s->d + at);
    for (int32_t i = 0; i < count; i++) {
        const int64_t t = first + i;
        const lanes_f x = lf_load(s->x + t * s->x_stride + at);
        const lanes_f dt = lf_load(s->dt + t * s->dt_stride + at);
        prefetch(s, at, t);
        lf_store(p->dt[i], dt);
        lf_store(p->change[i], lf_mul(dt, x));
        lf_store(p->y[i], lf_mul(d, x));
    }
}

/* Elements [0, n) from `state` on; b and c are those of the first token. */
RZ_INLINE void elements(int n, piece *p, int32_t count, const float *a, const float *b,
                        const float *c, int64_t stride, float *state) {
    lanes_f h[STATES];
    RZ_UNROLL(8)
    for (int j = 0; j < n; j++)
        h[j] = lf_load(state + j * VL);
    for (int32_t i = 0; i < count; i++, b += stride, c += stride) {
        const lanes_f dt = lf_load(p->dt[i]), change = lf_load(p->change[i]);
        lanes_f y = lf_load(p->y[i]);
        RZ_UNROLL(2)
        for (int j = 0; j < n; j += AT_ONCE) {
            lanes_f decay[STATES];
            decays(n < AT_ONCE ? n : AT_ONCE, dt, a + j * VL, decay);
            RZ_UNROLL(8)
            for (int k = 0; k < AT_ONCE && k < n; k++)
                h[j + k] = lf_fma(decay[k], h[j + k], lf_mul(change, lf_splat(b[j + k])));
            RZ_UNROLL(8)
            for (int k = 0; k < AT_ONCE && k < n; k++)
                y = lf_fma(h[j + k], lf_splat(c[j + k]), y);
        }
        lf_store(p->y[i], y);
    }
    RZ_UNROLL(8)
    for (int j = 0; j < n; j++)
        lf_store(state + j * VL, h[j]);
}

static void finish(const rz_scan *s, const piece *p, int64_t at, int64_t first, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        const int64_t t = first + i;
        const lanes_f gate = lf_silu(lf_load(s->z + t * s->z_stride + at));
        lf_store(s->x + t * s->x_stride + at, lf_mul(lf_load(p->y[i]), gate));
    }
}

static void scan_piece(const rz_scan *s, int64_t first, int32_t count) {
    piece p;
    const float *b = s->b + first * s->bc_stride, *c = s->c + first * s->bc_stride;
    for (int32_t block = 0; block < s->blocks; block++) {
        const int64_t at = (int64_t)block * VL;
        const float *a = s->a + at * s->states;
        float *state = s->state + at * s->states;
        int32_t j = 0;
        gather(s, &p, at, first, count);
        for (; j + STATES <= s->states; j += STATES)
            elements(STATES, &p, count, a + j * VL, b + j, c + j, s->bc_stride, state + j * VL);
        for (; j < s->states; j++)
            elements(1, &p, count, a + j * VL, b + j, c + j, s->bc_stride, state + j * VL);
        finish(s, &p, at, first, count);
    }
}

void rz_selective_scan(const rz_scan *s) {
    for (int32_t first = 0; first < s->tokens; first += RZ_SCAN_TOKENS) {
        const int32_t left = s->tokens - first;
        scan_piece(s, first, left < RZ_SCAN_TOKENS ? left : RZ_SCAN_TOKENS);
    }
}
