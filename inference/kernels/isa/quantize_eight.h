/* quantize_eight.h: eight groups of activations to int8 at once, so that their peaks, divisions and
 * sums share vectors: 17 cycles a group instead of 29. Included by quantize.c alone, for AVX-512.
 */
#ifndef RZ_QUANTIZE_EIGHT_H
#define RZ_QUANTIZE_EIGHT_H

#include <math.h>

#include "lanes.h"

/* Both vectors' largest in halves: of each pair of 128-bit parts of a, then of b. */
static inline __m512i max_parts(__m512i a, __m512i b) {
    return _mm512_max_epu32(_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xee));
}

/* Bits of the largest magnitude of each of eight groups. */
static inline __m256i eight_peaks(const float *x) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i m[8];
    for (int g = 0; g < 8; g++, x += RZ_GROUP)
        m[g] = _mm512_max_epu32(_mm512_and_si512(_mm512_loadu_si512(x), magnitude),
                                _mm512_and_si512(_mm512_loadu_si512(x + 16), magnitude));
    for (int g = 0; g < 8; g += 2)
        m[g] = _mm512_max_epu32(_mm512_unpacklo_epi32(m[g], m[g + 1]),
                                _mm512_unpackhi_epi32(m[g], m[g + 1]));
    for (int g = 0; g < 8; g += 4)
        m[g] = _mm512_max_epu32(_mm512_unpacklo_epi64(m[g], m[g + 2]),
                                _mm512_unpackhi_epi64(m[g], m[g + 2]));
    const __m512i halves = max_parts(m[0], m[4]);
    const __m512i all = _mm512_max_epu32(halves, _mm512_shuffle_i32x4(halves, halves, 0xb1));
    return _mm512_castsi512_si256(_mm512_shuffle_i32x4(all, all, 0x08));
}

/* group_scale() of eight. */
static inline __m256 eight_scales(__m256i bits, float inverse[8]) {
    const __m256 absmax = _mm256_castsi256_ps(bits), most = _mm256_set1_ps(127.0f);
    const __mmask8 bad = _mm256_cmpge_epu32_mask(bits, _mm256_set1_epi32(0x7f800000));
    const __mmask8 used =
        (__mmask8) ~(_mm256_cmp_ps_mask(absmax, _mm256_set1_ps(TINY), _CMP_LT_OQ) | bad);
    _mm256_storeu_ps(inverse, _mm256_maskz_div_ps(used, most, absmax));
    return _mm256_mask_blend_ps(bad, _mm256_maskz_div_ps(used, absmax, most), _mm256_set1_ps(NAN));
}

/* 16 codes of 32 bits; 0 instead of those of a group that is not finite. */
static inline __m512i sixteen_codes(const float *x, float factor) {
    const __m512 by = _mm512_set1_ps(factor), values = _mm512_loadu_ps(x);
    const __mmask16 some = factor == 0.0f ? 0 : 0xffff;
    return _mm512_maskz_cvtps_epi32(some, _mm512_mul_ps(values, by));
}

static inline __m512i add_parts(__m512i a, __m512i b, const int even) {
    return even ? _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88),
                                   _mm512_shuffle_i32x4(a, b, 0xdd))
                : _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x44),
                                   _mm512_shuffle_i32x4(a, b, 0xee));
}

/* Two groups' codes stay mixed, four of each half in every 128-bit part, until they are summed. */
static void quantize_eight(const float *x, int8_t *codes, float *scales, int32_t *sums) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    float inverse[8];
    __m512i part[4];
    _mm256_storeu_ps(scales, eight_scales(eight_peaks(x), inverse));
    for (int pair = 0; pair < 4; pair++, x += 2 * RZ_GROUP, codes += 2 * RZ_GROUP) {
        const float first = inverse[2 * pair], second = inverse[2 * pair + 1];
        const __m512i mixed = _mm512_packs_epi16(
            _mm512_packs_epi32(sixteen_codes(x, first), sixteen_codes(x + 16, first)),
            _mm512_packs_epi32(sixteen_codes(x + 32, second), sixteen_codes(x + 48, second)));
        _mm512_storeu_si512(codes, _mm512_permutexvar_epi32(order, mixed));
        part[pair] = dot4(li_splat(0), lb_splat(1), mixed);
    }
    _mm512_storeu_si512(
        sums, add_parts(add_parts(part[0], part[1], 0), add_parts(part[2], part[3], 0), 1));
}

#endif
