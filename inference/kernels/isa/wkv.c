/* wkv.c: RWKV's token shift and other element-wise work, and the table; contracts in wkv.h. */
#include "wkv.h"

#include "vec.h"

static void shift(const float *x, const float *previous, const float *mu, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i += VL) {
        const lanes_f now = lf_load(x + i), change = lf_sub(lf_load(previous + i), now);
        lf_store(out + i, mu == NULL ? change : lf_fma(change, lf_load(mu + i), now));
    }
}

static void blend(const float *x, const float *change, const float *mu, const float *m, int64_t n,
                  float *out) {
    for (int64_t i = 0; i < n; i += VL) {
        const lanes_f weight = lf_add(lf_load(mu + i), lf_load(m + i));
        lf_store(out + i, lf_fma(lf_load(change + i), weight, lf_load(x + i)));
    }
}

static void combine(const float *a, const float *b, int accumulate, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i += VL) {
        const lanes_f x = lf_load(a + i), y = lf_load(b + i);
        lf_store(out + i, accumulate ? lf_fma(x, y, lf_load(out + i)) : lf_mul(x, y));
    }
}

#define NAME_(x) #x
#define NAME(x) NAME_(x)
const rz_wkv_kernels RZ_ISA_FN(rz_wkv) = {
    .isa = NAME(RZ_ISA_NAME),
    .shift = shift,
    .blend = blend,
    .combine = combine,
    .wkv4 = rz_wkv4,
    .wkv6 = rz_wkv6,
    .wkv7 = rz_wkv7,
};
