/* quantize.c: activations to int8 in groups of 32, and the read-bandwidth probe.
 *
 * scale = absmax / 127, code = round to nearest even of x * (127 / absmax); the sum of each 16
 * codes is kept for the zero codes and minima of the weights. All float operations are single
 * multiplications and divisions, so every instruction set gives the same bytes. A group that is all
 * but zero (below 1e-30) becomes zero; one that holds a NaN or an infinity gets codes 0 and scale
 * NaN, so that the outputs show it.
 */
#include <math.h>

#include "half.h"
#include "lanes.h"

static const float TINY = 1e-30f;

#if (defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)) && !defined(RZ_PLAIN)
#include "quantize_eight.h"
#endif

/* Scale and its inverse of a group whose largest magnitude has the given bits. */
static inline float group_scale(uint32_t bits, float *inverse) {
    const float absmax = rz_bits_to_float(bits);
    *inverse = 0.0f;
    if (bits >= 0x7f800000u)
        return NAN;
    if (absmax < TINY)
        return 0.0f;
    *inverse = 127.0f / absmax;
    return absmax / 127.0f;
}

/* The magic number's addition rounds to the nearest integer, ties to even, without a call. */
static inline int32_t nearest_int(float value) {
    return (int32_t)(rz_float_to_bits(value + 12582912.0f) & 0x007fffffu) - 0x00400000;
}

/* The largest magnitude of n values, as bits (a NaN or an infinity is larger than any number), and
 * codes and sums of one group by a given factor. */
#if (defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)) && !defined(RZ_PLAIN)
static uint32_t peak_bits(const float *x, int64_t n) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (int64_t i = 0; i < n; i += RZ_GROUP) {
        even = _mm512_max_epu32(even, _mm512_and_si512(_mm512_loadu_si512(x + i), magnitude));
        odd = _mm512_max_epu32(odd, _mm512_and_si512(_mm512_loadu_si512(x + i + 16), magnitude));
    }
    return _mm512_reduce_max_epu32(_mm512_max_epu32(even, odd));
}

static void quantize_by(const float *x, float factor, int8_t *codes, int32_t *sums) {
    const __m512 by = _mm512_set1_ps(factor);
    const __m512i first = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), by));
    const __m512i second = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x + 16), by));
    _mm_storeu_si128((__m128i *)(void *)codes, _mm512_cvtepi32_epi8(first));
    _mm_storeu_si128((__m128i *)(void *)(codes + 16), _mm512_cvtepi32_epi8(second));
    sums[0] = _mm512_reduce_add_epi32(first);
    sums[1] = _mm512_reduce_add_epi32(second);
}
#else
static uint32_t peak_bits(const float *x, int64_t n) {
    uint32_t bits = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t magnitude = rz_float_to_bits(x[i]) & 0x7fffffffu;
        bits = magnitude > bits ? magnitude : bits;
    }
    return bits;
}

static void quantize_by(const float *x, float factor, int8_t *codes, int32_t *sums) {
    for (int h = 0; h < 2; h++, x += 16, codes += 16) {
        int32_t sum = 0;
        for (int i = 0; i < 16; i++) {
            const int32_t code = nearest_int(x[i] * factor);
            codes[i] = (int8_t)code;
            sum += code;
        }
        sums[h] = sum;
    }
}
#endif

static void clear_group(int8_t *codes, int32_t *sums) {
    memset(codes, 0, RZ_GROUP);
    sums[0] = sums[1] = 0;
}

static void quantize_group(const float *x, int8_t *codes, float *scale, int32_t *sums) {
    float inverse;
    *scale = group_scale(peak_bits(x, RZ_GROUP), &inverse);
    if (inverse == 0.0f)
        clear_group(codes, sums);
    else
        quantize_by(x, inverse, codes, sums);
}

/* Several groups at once where that is faster; says how many. */
static int32_t quantize_most(const float *x, int32_t groups, int8_t *codes, float *scales,
                             int32_t *sums) {
    int32_t g = 0;
#ifdef RZ_QUANTIZE_EIGHT_H
    for (; g + 8 <= groups; g += 8)
        quantize_eight(x + g * RZ_GROUP, codes + g * RZ_GROUP, scales + g, sums + 2 * g);
#else
    (void)x, (void)groups, (void)codes, (void)scales, (void)sums;
#endif
    return g;
}

void RZ_ISA_FN(rz_quantize)(rz_acts *acts, int32_t first, int32_t last) {
    for (int64_t t = first; t < last; t++) {
        const float *x = acts->dense + t * acts->stride;
        int8_t *codes = acts->codes + t * acts->stride;
        float *scales = acts->scales + t * acts->groups;
        int32_t *sums = acts->sums + 2 * t * acts->groups;
        for (int32_t g = quantize_most(x, acts->groups, codes, scales, sums); g < acts->groups; g++)
            quantize_group(x + g * RZ_GROUP, codes + g * RZ_GROUP, scales + g, sums + 2 * g);
    }
}

/* 127 / max(absmax, 1e-5), rounded to float, is BitNet's scale; codes are x * scale, and the scale
 * here is its inverse. */
void RZ_ISA_FN(rz_quantize_token)(rz_acts *acts, int32_t first, int32_t last) {
    for (int64_t t = first; t < last; t++) {
        const uint32_t bits = peak_bits(acts->dense + t * acts->stride, acts->stride);
        const float peak = rz_bits_to_float(bits), factor = 127.0f / (peak < 1e-5f ? 1e-5f : peak);
        const int finite = bits < 0x7f800000u;
        for (int64_t g = 0; g < acts->groups; g++) {
            const int64_t at = t * acts->stride + g * RZ_GROUP, group = t * acts->groups + g;
            acts->scales[group] = finite ? 1.0f / factor : NAN;
            if (finite)
                quantize_by(acts->dense + at, factor, acts->codes + at, acts->sums + 2 * group);
            else
                clear_group(acts->codes + at, acts->sums + 2 * group);
        }
    }
}

uint64_t RZ_ISA_FN(rz_read_bytes)(const uint8_t *data, size_t bytes) {
    uint64_t sum[4] = {0, 0, 0, 0};
#if (defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)) && !defined(RZ_PLAIN)
    __m512i lanes[4];
    for (int i = 0; i < 4; i++)
        lanes[i] = _mm512_setzero_si512();
    for (; bytes >= 256; bytes -= 256, data += 256) {
        for (int i = 0; i < 4; i++) {
            RZ_PREFETCH(data + 4096 + 64 * i);
            lanes[i] = _mm512_xor_si512(lanes[i], _mm512_loadu_si512(data + 64 * i));
        }
    }
    for (int i = 0; i < 4; i++)
        sum[i] = (uint64_t)_mm512_reduce_add_epi64(lanes[i]);
#else
    for (; bytes >= 64; bytes -= 64, data += 64) {
        uint64_t words[8];
        RZ_PREFETCH(data + 4096);
        memcpy(words, data, sizeof words);
        for (int i = 0; i < 8; i++)
            sum[i & 3] ^= words[i];
    }
#endif
    for (; bytes > 0; bytes--)
        sum[0] += *data++;
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}
