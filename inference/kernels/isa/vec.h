/* vec.h: the exponential functions of the operators, with the same bits on every instruction set
 * and C library. Every buffer the operators see is padded to 32 floats, so none has a tail.
 */
#ifndef RZ_VEC_H
#define RZ_VEC_H

#include "half.h"
#include "lanes.h"

#define VL RZ_LANES

/* exp(x) to about 2 units in the last place: 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes
 * expf). Below -87.3 the result is 2^-126 or so, above 88.3 it stays finite. */
RZ_INLINE lanes_f lf_exp(lanes_f x) {
    x = lf_min(lf_max(x, lf_splat(-87.3f)), lf_splat(88.3f));
    lanes_f n = lf_round(lf_mul(x, lf_splat(1.44269504088896341f)));
    lanes_f r = lf_fma(n, lf_splat(-0.693359375f), x);
    r = lf_fma(n, lf_splat(2.12194440e-4f), r);
    lanes_f p = lf_splat(1.9875691500e-4f);
    p = lf_fma(p, r, lf_splat(1.3981999507e-3f));
    p = lf_fma(p, r, lf_splat(8.3334519073e-3f));
    p = lf_fma(p, r, lf_splat(4.1665795894e-2f));
    p = lf_fma(p, r, lf_splat(1.6666665459e-1f));
    p = lf_fma(p, r, lf_splat(5.0000001201e-1f));
    p = lf_fma(p, lf_mul(r, r), lf_add(r, lf_splat(1.0f)));
    return lf_mul(p, lf_pow2(n));
}

RZ_INLINE lanes_f lf_sigmoid(lanes_f x) {
    const lanes_f one = lf_splat(1.0f);
    return lf_div(one, lf_add(one, lf_exp(lf_sub(lf_splat(0), x))));
}

/* x / (1 + exp(-x)). */
RZ_INLINE lanes_f lf_silu(lanes_f x) {
    return lf_div(x, lf_add(lf_splat(1.0f), lf_exp(lf_sub(lf_splat(0), x))));
}

/* A quotient of two odd and even polynomials, right to a few units in the last place; beyond 7.9 it
 * is 1. (The coefficients are those of Eigen's ptanh.) */
RZ_INLINE lanes_f lf_tanh(lanes_f x) {
    x = lf_max(lf_splat(-7.90531110763549805f), lf_min(lf_splat(7.90531110763549805f), x));
    const lanes_f s = lf_mul(x, x);
    lanes_f p = lf_splat(-2.76076847742355e-16f);
    p = lf_fma(p, s, lf_splat(2.00018790482477e-13f));
    p = lf_fma(p, s, lf_splat(-8.60467152213735e-11f));
    p = lf_fma(p, s, lf_splat(5.12229709037114e-08f));
    p = lf_fma(p, s, lf_splat(1.48572235717979e-05f));
    p = lf_fma(p, s, lf_splat(6.37261928875436e-04f));
    p = lf_fma(p, s, lf_splat(4.89352455891786e-03f));
    lanes_f q = lf_splat(1.19825839466702e-06f);
    q = lf_fma(q, s, lf_splat(1.18534705686654e-04f));
    q = lf_fma(q, s, lf_splat(2.26843463243900e-03f));
    q = lf_fma(q, s, lf_splat(4.89352518554385e-03f));
    return lf_div(lf_mul(x, p), q);
}

/* log(1 + exp(x)) = max(x, 0) + log1p(e), e = exp(-|x|); log1p(e) = 2 artanh(e / (2 + e)), whose
 * series is short since the argument is at most 1/3. */
RZ_INLINE lanes_f lf_softplus(lanes_f x) {
    const lanes_f zero = lf_splat(0);
    const lanes_f e = lf_exp(lf_min(x, lf_sub(zero, x)));
    const lanes_f u = lf_div(e, lf_add(lf_splat(2.0f), e)), s = lf_mul(u, u);
    lanes_f p = lf_splat(2.0f / 15);
    p = lf_fma(p, s, lf_splat(2.0f / 13));
    p = lf_fma(p, s, lf_splat(2.0f / 11));
    p = lf_fma(p, s, lf_splat(2.0f / 9));
    p = lf_fma(p, s, lf_splat(2.0f / 7));
    p = lf_fma(p, s, lf_splat(2.0f / 5));
    p = lf_fma(p, s, lf_splat(2.0f / 3));
    p = lf_fma(p, s, lf_splat(2.0f));
    return lf_fma(p, u, lf_max(zero, x));
}

/* 2^(i/32). */
/* clang-format off */
static const double ROOTS[32] = {
    0x1p+0, 0x1.059b0d3158574p+0, 0x1.0b5586cf9890fp+0, 0x1.11301d0125b51p+0,
    0x1.172b83c7d517bp+0, 0x1.1d4873168b9aap+0, 0x1.2387a6e756238p+0, 0x1.29e9df51fdee1p+0,
    0x1.306fe0a31b715p+0, 0x1.371a7373aa9cbp+0, 0x1.3dea64c123422p+0, 0x1.44e086061892dp+0,
    0x1.4bfdad5362a27p+0, 0x1.5342b569d4f82p+0, 0x1.5ab07dd485429p+0, 0x1.6247eb03a5585p+0,
    0x1.6a09e667f3bcdp+0, 0x1.71f75e8ec5f74p+0, 0x1.7a11473eb0187p+0, 0x1.82589994cce13p+0,
    0x1.8ace5422aa0dbp+0, 0x1.93737b0cdc5e5p+0, 0x1.9c49182a3f09p+0, 0x1.a5503b23e255dp+0,
    0x1.ae89f995ad3adp+0, 0x1.b7f76f2fb5e47p+0, 0x1.c199bdd85529cp+0, 0x1.cb720dcef9069p+0,
    0x1.d5818dcfba487p+0, 0x1.dfc97337b9b5fp+0, 0x1.ea4afa2a490dap+0, 0x1.f50765b6e454p+0,
};
/* clang-format on */

/* exp(x) for x <= 0 to 0.502 units in the last place: 2^(k/32) from a table times a cubic on
 * [-ln2/64, ln2/64], in double (Arm's optimized-routines, as in glibc and musl). Not the library's
 * expf, which takes other instructions on another CPU. */
static inline float rz_exp(float x) {
    if (x < -104.0f)
        return 0.0f;
    const double z = 0x1.71547652b82fep+5 * (double)x; /* 32 / ln 2 */
    const double shifted = z + 0x1.8p52;               /* the nearest integer, in the low bits */
    const double r = z - (shifted - 0x1.8p52);
    uint64_t k, bits;
    memcpy(&k, &shifted, 8);
    memcpy(&bits, &ROOTS[k % 32], 8);
    bits += (k - k % 32) << 47;
    double power;
    memcpy(&power, &bits, 8);
    const double high = 0x1.c6af84b912394p-20 * r + 0x1.ebfce50fac4f3p-13;
    return (float)((high * (r * r) + (0x1.62e42ff0c52d6p-6 * r + 1.0)) * power);
}

#endif
