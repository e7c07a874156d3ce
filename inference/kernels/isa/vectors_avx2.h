/* vectors_avx2.h: four rows of int8 and of bits at a time in 256-bit registers. */
#include <immintrin.h>

#define EACH_ROW for (int j = 0; j < 4; j++)

/* The sums of four vectors' lanes. */
RZ_INLINE void sums_of(const __m256i a[4], int32_t *out) {
    const __m256i ab = _mm256_hadd_epi32(a[0], a[1]), cd = _mm256_hadd_epi32(a[2], a[3]);
    const __m256i all = _mm256_hadd_epi32(ab, cd);
    const __m128i sums =
        _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storeu_si128((__m128i *)(void *)out, sums);
}

/* Sixteen bytes as 16 bits each; of fewer than sixteen the rest are zeros. */
RZ_INLINE __m256i wide_of(const uint8_t *p, int64_t bytes) {
    uint8_t held[16] = {0};
    if (bytes < 16) {
        memcpy(held, p, (size_t)bytes);
        p = held;
    }
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

RZ_INLINE void dot_i8_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                           int32_t *out) {
    const uint8_t *q = query;
    __m256i sums[4];
    EACH_ROW sums[j] = _mm256_setzero_si256();
    for (int64_t i = 0; i < bytes; i += 16) {
        const __m256i wanted = wide_of(q + i, 16);
        EACH_ROW sums[j] =
            _mm256_add_epi32(sums[j], _mm256_madd_epi16(wide_of(rows[j] + i, bytes - i), wanted));
    }
    sums_of(sums, out);
}

/* 0xff where a bit of four bytes is set. */
RZ_INLINE __m256i set_of(const uint8_t *p, int64_t bytes) {
    const __m256i copies = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                            2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i each = _mm256_set1_epi64x((long long)0x8040201008040201ull);
    int32_t bits = 0;
    if (bytes >= 4)
        memcpy(&bits, p, 4);
    else
        memcpy(&bits, p, (size_t)bytes);
    const __m256i spread = _mm256_shuffle_epi8(_mm256_set1_epi32(bits), copies);
    return _mm256_cmpeq_epi8(_mm256_and_si256(spread, each), each);
}

/* Pairs of bytes add up to 256 at most: 64 of them fit 16 bits. */
RZ_INLINE void bits_dot_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                             int32_t *out) {
    const int8_t *q = query;
    const __m256i one = _mm256_set1_epi8(1), ones = _mm256_set1_epi16(1);
    __m256i sums[4], total = _mm256_setzero_si256();
    EACH_ROW sums[j] = total;
    for (int64_t first = 0; first < bytes; first += 256) {
        const int64_t last = first + 256 < bytes ? first + 256 : bytes;
        __m256i part[4], whole = _mm256_setzero_si256();
        EACH_ROW part[j] = whole;
        for (int64_t i = first; i < last; i += 4) {
            const __m256i wanted = _mm256_loadu_si256((const __m256i *)(const void *)(q + 8 * i));
            whole = _mm256_add_epi16(whole, _mm256_maddubs_epi16(one, wanted));
            EACH_ROW {
                const __m256i kept = _mm256_and_si256(set_of(rows[j] + i, bytes - i), wanted);
                part[j] = _mm256_add_epi16(part[j], _mm256_maddubs_epi16(one, kept));
            }
        }
        total = _mm256_add_epi32(total, _mm256_madd_epi16(whole, ones));
        EACH_ROW sums[j] = _mm256_add_epi32(sums[j], _mm256_madd_epi16(part[j], ones));
    }
    EACH_ROW sums[j] = _mm256_sub_epi32(_mm256_slli_epi32(sums[j], 1), total);
    sums_of(sums, out);
}

RZ_INLINE __m256i bytes_of(const uint8_t *p, int64_t bytes) {
    uint8_t held[32] = {0};
    if (bytes < 32) {
        memcpy(held, p, (size_t)bytes);
        p = held;
    }
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

/* Two nibbles' counts by a shuffle. */
RZ_INLINE void hamming_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                            int32_t *out) {
    const uint8_t *q = query;
    const __m256i low = _mm256_set1_epi8(15), zero = _mm256_setzero_si256();
    const __m256i counts = _mm256_setr_epi32(0x02010100, 0x03020201, 0x03020201, 0x04030302,
                                             0x02010100, 0x03020201, 0x03020201, 0x04030302);
    __m256i sums[4];
    EACH_ROW sums[j] = zero;
    for (int64_t i = 0; i < bytes; i += 32) {
        const __m256i wanted = bytes_of(q + i, bytes - i);
        EACH_ROW {
            const __m256i other = _mm256_xor_si256(bytes_of(rows[j] + i, bytes - i), wanted);
            const __m256i right = _mm256_and_si256(other, low);
            const __m256i left = _mm256_and_si256(_mm256_srli_epi16(other, 4), low);
            const __m256i bits = _mm256_add_epi8(_mm256_shuffle_epi8(counts, right),
                                                 _mm256_shuffle_epi8(counts, left));
            sums[j] = _mm256_add_epi64(sums[j], _mm256_sad_epu8(bits, zero));
        }
    }
    sums_of(sums, out);
}
