/* vectors_avx512.h: four rows of int8 and of bits at a time in 512-bit registers. */
#include <immintrin.h>

#define EACH_ROW for (int j = 0; j < 4; j++)

/* The sums of four vectors' lanes. */
RZ_INLINE void sums_of(const __m512i a[4], int32_t *out) {
    const __m512i ab =
        _mm512_add_epi32(_mm512_unpacklo_epi32(a[0], a[1]), _mm512_unpackhi_epi32(a[0], a[1]));
    const __m512i cd =
        _mm512_add_epi32(_mm512_unpacklo_epi32(a[2], a[3]), _mm512_unpackhi_epi32(a[2], a[3]));
    const __m512i all =
        _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half =
        _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    const __m128i sums =
        _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    _mm_storeu_si128((__m128i *)(void *)out, sums);
}

/* The first `count` of 64 bits. */
RZ_INLINE __mmask64 mask_of(const uint8_t *p, int64_t bytes) {
    uint64_t bits = 0;
    if (bytes >= 8)
        memcpy(&bits, p, 8);
    else
        memcpy(&bits, p, (size_t)bytes);
    return bits;
}

#ifdef RZ_ISA_AVX512VNNI
RZ_INLINE void dot_i8_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                           int32_t *out) {
    const int8_t *q = query;
    const __m512i offset = _mm512_set1_epi8((char)0x80);
    __m512i sums[4], excess = _mm512_setzero_si512();
    EACH_ROW sums[j] = excess;
    for (int64_t i = 0; i < bytes; i += 64) {
        const __m512i wanted = _mm512_loadu_si512(q + i);
        const __mmask64 there = bytes - i >= 64 ? ~0ull : (1ull << (bytes - i)) - 1;
        excess = _mm512_dpbusd_epi32(excess, offset, wanted);
        EACH_ROW {
            const __m512i row = _mm512_maskz_loadu_epi8(there, rows[j] + i);
            sums[j] = _mm512_dpbusd_epi32(sums[j], _mm512_xor_si512(row, offset), wanted);
        }
    }
    EACH_ROW sums[j] = _mm512_sub_epi32(sums[j], excess);
    sums_of(sums, out);
}

RZ_INLINE void bits_dot_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                             int32_t *out) {
    const int8_t *q = query;
    const __m512i one = _mm512_set1_epi8(1);
    __m512i sums[4], total = _mm512_setzero_si512();
    EACH_ROW sums[j] = total;
    for (int64_t i = 0; i < bytes; i += 8) {
        const __m512i wanted = _mm512_loadu_si512(q + 8 * i);
        total = _mm512_dpbusd_epi32(total, one, wanted);
        EACH_ROW {
            const __mmask64 set = mask_of(rows[j] + i, bytes - i);
            sums[j] = _mm512_dpbusd_epi32(sums[j], _mm512_maskz_mov_epi8(set, one), wanted);
        }
    }
    EACH_ROW sums[j] = _mm512_sub_epi32(_mm512_slli_epi32(sums[j], 1), total);
    sums_of(sums, out);
}
#else
RZ_INLINE void dot_i8_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                           int32_t *out) {
    const int8_t *q = query;
    __m512i sums[4];
    EACH_ROW sums[j] = _mm512_setzero_si512();
    for (int64_t i = 0; i < bytes; i += 32) {
        const __m256i narrow = _mm256_loadu_si256((const __m256i *)(const void *)(q + i));
        const __m512i wanted = _mm512_cvtepi8_epi16(narrow);
        const __mmask32 there = bytes - i >= 32 ? ~0u : (1u << (bytes - i)) - 1;
        EACH_ROW {
            const __m512i row = _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(there, rows[j] + i));
            sums[j] = _mm512_add_epi32(sums[j], _mm512_madd_epi16(row, wanted));
        }
    }
    sums_of(sums, out);
}

/* Pairs of bytes add up to 254 at most: 64 of them fit 16 bits. */
RZ_INLINE void bits_dot_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                             int32_t *out) {
    const int8_t *q = query;
    const __m512i one = _mm512_set1_epi8(1), ones = _mm512_set1_epi16(1);
    __m512i sums[4], total = _mm512_setzero_si512();
    EACH_ROW sums[j] = total;
    for (int64_t first = 0; first < bytes; first += 512) {
        const int64_t last = first + 512 < bytes ? first + 512 : bytes;
        __m512i part[4], whole = _mm512_setzero_si512();
        EACH_ROW part[j] = whole;
        for (int64_t i = first; i < last; i += 8) {
            const __m512i wanted = _mm512_loadu_si512(q + 8 * i);
            whole = _mm512_add_epi16(whole, _mm512_maddubs_epi16(one, wanted));
            EACH_ROW {
                const __mmask64 set = mask_of(rows[j] + i, bytes - i);
                const __m512i kept = _mm512_maskz_mov_epi8(set, wanted);
                part[j] = _mm512_add_epi16(part[j], _mm512_maddubs_epi16(one, kept));
            }
        }
        total = _mm512_add_epi32(total, _mm512_madd_epi16(whole, ones));
        EACH_ROW sums[j] = _mm512_add_epi32(sums[j], _mm512_madd_epi16(part[j], ones));
    }
    EACH_ROW sums[j] = _mm512_sub_epi32(_mm512_slli_epi32(sums[j], 1), total);
    sums_of(sums, out);
}
#endif

/* Two nibbles' counts by a shuffle; a short row leaves half a register empty either way. */
RZ_INLINE void hamming_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                            int32_t *out) {
    const uint8_t *q = query;
    const __m512i low = _mm512_set1_epi8(15), zero = _mm512_setzero_si512();
    const __m512i counts = _mm512_set4_epi32(0x04030302, 0x03020201, 0x03020201, 0x02010100);
    __m512i sums[4];
    EACH_ROW sums[j] = zero;
    for (int64_t i = 0; i < bytes; i += 64) {
        const __mmask64 there = bytes - i >= 64 ? ~0ull : (1ull << (bytes - i)) - 1;
        const __m512i wanted = _mm512_maskz_loadu_epi8(there, q + i);
        EACH_ROW {
            const __m512i row = _mm512_maskz_loadu_epi8(there, rows[j] + i);
            const __m512i other = _mm512_xor_si512(row, wanted);
            const __m512i right = _mm512_and_si512(other, low);
            const __m512i left = _mm512_and_si512(_mm512_srli_epi16(other, 4), low);
            const __m512i bits = _mm512_add_epi8(_mm512_shuffle_epi8(counts, right),
                                                 _mm512_shuffle_epi8(counts, left));
            sums[j] = _mm512_add_epi64(sums[j], _mm512_sad_epu8(bits, zero));
        }
    }
    sums_of(sums, out);
}
