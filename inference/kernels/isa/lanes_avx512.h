/* lanes_avx512.h: 16 lanes as one 512-bit register, with or without VNNI. */
#include <immintrin.h>

typedef __m512i lanes_b; /* 64 bytes: a quad of 16 rows */
typedef __m512i lanes_i;
typedef __m512 lanes_f;

/* A tile of 2 blocks x 6 tokens holds 24 accumulators in the 32 registers. */
#define TILE_BLOCKS 2
#define TILE_TOKENS 6

/* A tile of grouped products: 8 sums of integers and 8 of floats. */
#define RZ_TILE 8
#define FAST_HALVES 1 /* lf_half is one instruction: no need to keep its floats */

#define lb_load(p) _mm512_loadu_si512((const void *)(p))
#define lb_store(p, v) _mm512_storeu_si512((void *)(p), v)
#define lb_splat(c) _mm512_set1_epi8((char)(c))
#define lb_and(a, b) _mm512_and_si512(a, b)
#define lb_right(a, n) _mm512_srli_epi32(a, n)
#define lb_left(a, n) _mm512_slli_epi32(a, n)
#define lb_and_or(a, mask, b) _mm512_ternarylogic_epi32(a, mask, b, 0xEA)
#define lb_add(a, b) _mm512_add_epi8(a, b)
/* floor(3x / 256): the first digit of a fraction in base 3. */
static inline lanes_b lb_trit(lanes_b x) {
    const __m512i one = _mm512_set1_epi8(1);
    const __m512i over =
        _mm512_maskz_mov_epi8(_mm512_cmp_epu8_mask(x, _mm512_set1_epi8(86), _MM_CMPINT_NLT), one);
    return _mm512_mask_add_epi8(
        over, _mm512_cmp_epu8_mask(x, _mm512_set1_epi8((char)171), _MM_CMPINT_NLT), over, one);
}
#define li_splat(x) _mm512_set1_epi32(x)
#define li_load(p) _mm512_loadu_si512((const void *)(p))
#define li_store(p, v) _mm512_storeu_si512((void *)(p), v)
#define lf_load(p) _mm512_loadu_ps(p)
#define lf_store(p, v) _mm512_storeu_ps(p, v)
#define lf_splat(x) _mm512_set1_ps(x)
#define lf_int(v) _mm512_cvtepi32_ps(v)
#define lf_half(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define lf_add(a, b) _mm512_add_ps(a, b)
#define lf_mul(a, b) _mm512_mul_ps(a, b)
#define lf_fma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define lf_sub(a, b) _mm512_sub_ps(a, b)
#define lf_div(a, b) _mm512_div_ps(a, b)
#define lf_max(a, b) _mm512_max_ps(a, b)
#define lf_min(a, b) _mm512_min_ps(a, b)
#define lf_round(a) _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define lf_store_half(p, a) _mm256_storeu_si256((__m256i *)(p), _mm512_cvtps_ph(a, 0))
static inline lanes_f lf_pow2(lanes_f n) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
/* The number nearer to 0, of two that are not positive. */
static inline lanes_f lf_least(lanes_f a, lanes_f b) {
    return _mm512_castsi512_ps(_mm512_min_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
/* p * 2^k for p near 1, where t = k + 1.5 * 2^23: the low bits of t are k's. */
static inline lanes_f lf_scale(lanes_f p, lanes_f t) {
    return _mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(_mm512_castps_si512(t), 23)));
}
/* Written out: compilers are free in how they expand _mm512_reduce_add_ps. */
static inline float lf_sum(lanes_f a) {
    const __m256 eight = _mm256_add_ps(_mm512_extractf32x8_ps(a, 1), _mm512_castps512_ps256(a));
    __m128 s = _mm_add_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    s = _mm_add_ps(_mm_movehl_ps(s, s), s);
    return _mm_cvtss_f32(_mm_add_ss(_mm_shuffle_ps(s, s, 1), s));
}
static inline float lf_peak(lanes_f a) {
    const __m256 eight = _mm256_max_ps(_mm512_extractf32x8_ps(a, 1), _mm512_castps512_ps256(a));
    __m128 s = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    s = _mm_max_ps(_mm_movehl_ps(s, s), s);
    return _mm_cvtss_f32(_mm_max_ss(_mm_shuffle_ps(s, s, 1), s));
}

typedef __m512i lanes_a; /* four activations, repeated */
#define la_load(p) _mm512_set1_epi32(*(const int32_t *)(const void *)(p))

#ifdef RZ_ISA_AVX512VNNI
#define SIGNED_BYTES 0
#define dot4(acc, w, a) _mm512_dpbusd_epi32(acc, w, a)
#define dot4_wide(acc, w, a) _mm512_dpbusd_epi32(acc, w, a)
/* The instruction's own broadcast of four activations that lie at `a`, which gcc 12 does not find:
 * a quarter faster. */
#define RZ_DOT_AT
RZ_INLINE lanes_i dot4_at(lanes_i acc, lanes_b w, const int8_t *a) {
#ifdef __GNUC__
    typedef int32_t __attribute__((may_alias)) word;
    __asm__("vpdpbusd %2%{1to16%}, %1, %0"
            : "+v"(acc)
            : "v"(w), "m"(*(const word *)(const void *)a));
    return acc;
#else
    return dot4(acc, w, la_load(a));
#endif
}
#else
#define SIGNED_BYTES 1
/* Exact for codes up to 63: 2 x 63 x 127 fits 16 bits. */
static inline lanes_i dot4(lanes_i acc, lanes_b w, lanes_a a) {
    const __m512i pairs = _mm512_maddubs_epi16(w, a);
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
/* Bytes w + 128: |w| x (a with the sign of w), 2 x 128 x 127 fits; the result has no offset of 128.
 */
static inline lanes_i dot4_wide(lanes_i acc, lanes_b w, lanes_a a) {
    const __m512i value = _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80));
    const __mmask64 negative = _mm512_movepi8_mask(value);
    const __m512i signed_a = _mm512_mask_sub_epi8(a, negative, _mm512_setzero_si512(), a);
    return dot4(acc, _mm512_abs_epi8(value), signed_a);
}
#endif
