/* vec.h: one float vector type for each instruction set, so that an operator is written once.
 *
 * VL lanes: 16 with AVX-512, 8 with AVX2, 8 plain floats in the portable build (the compiler makes
 * of them what the base instruction set has). Every buffer these operators see is padded to 32
 * floats, so none has a tail.
 */
#ifndef RZ_VEC_H
#define RZ_VEC_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define RZ_INLINE static inline __attribute__((always_inline))

RZ_INLINE float rz_from_half(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
    float magnitude;
    memcpy(&magnitude, &rest, 4);
    magnitude *= 0x1p112f; /* re-biases the exponent, exact for subnormal numbers too */
    uint32_t bits;
    memcpy(&bits, &magnitude, 4);
    if ((half & 0x7c00) == 0x7c00)
        bits |= 0x7f800000;
    bits |= sign;
    memcpy(&magnitude, &bits, 4);
    return magnitude;
}

/* Rounds to nearest even; too large becomes infinite. */
RZ_INLINE uint16_t rz_to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint16_t sign = (uint16_t)((bits >> 16) & 0x8000);
    bits &= 0x7fffffff;
    if (bits >= 0x7f800000)
        return (uint16_t)(sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (bits >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* subnormal in half precision: let the adder round */
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    return (uint16_t)(sign | ((bits - 0x38000000 + 0xfff + ((bits >> 13) & 1)) >> 13));
}

#if defined(__AVX512F__)
#include <immintrin.h>
#define VL 16
typedef __m512 vf;
RZ_INLINE vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
RZ_INLINE void vf_store(float *p, vf a) {
    _mm512_storeu_ps(p, a);
}
RZ_INLINE vf vf_set(float x) {
    return _mm512_set1_ps(x);
}
RZ_INLINE vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
RZ_INLINE vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
RZ_INLINE vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
RZ_INLINE vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
RZ_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
RZ_INLINE vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
RZ_INLINE vf vf_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
RZ_INLINE vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
RZ_INLINE vf vf_pow2(vf n) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
RZ_INLINE float vf_sum(vf a) {
    return _mm512_reduce_add_ps(a);
}
RZ_INLINE float vf_peak(vf a) {
    return _mm512_reduce_max_ps(a);
}
RZ_INLINE vf vf_load_half(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
RZ_INLINE void vf_store_half(uint16_t *p, vf a) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, 0));
}
#elif defined(__AVX2__)
#include <immintrin.h>
#define VL 8
typedef __m256 vf;
RZ_INLINE vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
RZ_INLINE void vf_store(float *p, vf a) {
    _mm256_storeu_ps(p, a);
}
RZ_INLINE vf vf_set(float x) {
    return _mm256_set1_ps(x);
}
RZ_INLINE vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
RZ_INLINE vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
RZ_INLINE vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
RZ_INLINE vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
RZ_INLINE vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
RZ_INLINE vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
RZ_INLINE vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
RZ_INLINE vf vf_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
RZ_INLINE vf vf_pow2(vf n) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
RZ_INLINE float vf_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
RZ_INLINE float vf_peak(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
RZ_INLINE vf vf_load_half(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
RZ_INLINE void vf_store_half(uint16_t *p, vf a) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, 0));
}
#else
#define VL 8
typedef struct vf {
    float lane[VL];
} vf;
#define VF_MAP(expression)                                                                         \
    vf out;                                                                                        \
    for (int i = 0; i < VL; i++)                                                                   \
        out.lane[i] = expression;                                                                  \
    return out
RZ_INLINE vf vf_load(const float *p) {
    VF_MAP(p[i]);
}
RZ_INLINE void vf_store(float *p, vf a) {
    memcpy(p, a.lane, sizeof a.lane);
}
RZ_INLINE vf vf_set(float x) {
    VF_MAP(x);
}
RZ_INLINE vf vf_add(vf a, vf b) {
    VF_MAP(a.lane[i] + b.lane[i]);
}
RZ_INLINE vf vf_sub(vf a, vf b) {
    VF_MAP(a.lane[i] - b.lane[i]);
}
RZ_INLINE vf vf_mul(vf a, vf b) {
    VF_MAP(a.lane[i] * b.lane[i]);
}
RZ_INLINE vf vf_div(vf a, vf b) {
    VF_MAP(a.lane[i] / b.lane[i]);
}
RZ_INLINE vf vf_fma(vf a, vf b, vf c) {
    VF_MAP(a.lane[i] * b.lane[i] + c.lane[i]);
}
RZ_INLINE vf vf_max(vf a, vf b) {
    VF_MAP(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]);
}
RZ_INLINE vf vf_min(vf a, vf b) {
    VF_MAP(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]);
}
/* Adding and taking away 1.5 * 2^23 leaves the nearest integer, ties to even; arguments here are
 * small. */
RZ_INLINE vf vf_round(vf a) {
    volatile float magic = 12582912.0f;
    float m = magic;
    VF_MAP((a.lane[i] + m) - m);
}
RZ_INLINE vf vf_pow2(vf n) {
    vf out;
    for (int i = 0; i < VL; i++) {
        uint32_t bits = (uint32_t)((int32_t)n.lane[i] + 127) << 23;
        memcpy(&out.lane[i], &bits, 4);
    }
    return out;
}
RZ_INLINE float vf_sum(vf a) {
    float s = 0;
    for (int i = 0; i < VL; i++)
        s += a.lane[i];
    return s;
}
RZ_INLINE float vf_peak(vf a) {
    float m = a.lane[0];
    for (int i = 1; i < VL; i++)
        m = a.lane[i] > m ? a.lane[i] : m;
    return m;
}
RZ_INLINE vf vf_load_half(const uint16_t *p) {
    VF_MAP(rz_from_half(p[i]));
}
RZ_INLINE void vf_store_half(uint16_t *p, vf a) {
    for (int i = 0; i < VL; i++)
        p[i] = rz_to_half(a.lane[i]);
}
#endif

/* exp(x) to about 2 units in the last place: 2^n times a polynomial on [-ln2/2, ln2/2] (Cephes
 * expf). Below -87.3 the result is 2^-126 or so, above 88.3 it stays finite. */
RZ_INLINE vf vf_exp(vf x) {
    x = vf_min(vf_max(x, vf_set(-87.3f)), vf_set(88.3f));
    vf n = vf_round(vf_mul(x, vf_set(1.44269504088896341f)));
    vf r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(p, vf_mul(r, r), vf_add(r, vf_set(1.0f)));
    return vf_mul(p, vf_pow2(n));
}

#endif
