/* ternary_indexed.h: products by table look-up, after T-MAC and bitnet.cpp's TL2: three weights are
 * an index into the 27 sums that three activations can give. Included by ternary.c alone.
 *
 * With AVX-512 a table is one register of 32 16-bit words and vpermw looks up 32 rows at once.
 * Sums of 16 bits hold FLUSH groups of nine columns; then they are widened.
 */
#ifndef RZ_TERNARY_INDEXED_H
#define RZ_TERNARY_INDEXED_H

#include "ternary.h"

enum { INDICES = 3, FLUSH = 14 };

typedef int16_t trit_table[32];

/* table[c0 + 3 c1 + 9 c2] = c0 a[0] + c1 a[1] + c2 a[2] for `count` triples that follow each other.
 */
static void fill_tables(const int8_t *a, int count, trit_table *tables) {
    RZ_ALIGNED uint8_t digits[3][32];
    for (int i = 0; i < 32; i++) {
        digits[0][i] = (uint8_t)(i % 3);
        digits[1][i] = (uint8_t)(i / 3 % 3);
        digits[2][i] = (uint8_t)(i / 9 % 3);
    }
    for (int n = 0; n < count; n++, a += 3)
        for (int i = 0; i < 32; i++)
            tables[n][i] =
                (int16_t)(digits[0][i] * a[0] + digits[1][i] * a[1] + digits[2][i] * a[2]);
}

/* Adds `groups` (at most FLUSH) groups of the stream to the sums of 32 rows. */
static void look_up(const uint8_t *stream, int groups, const trit_table *tables, int32_t *sums) {
#if (defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)) && !defined(RZ_PLAIN)
    __m512i acc[INDICES];
    for (int j = 0; j < INDICES; j++)
        acc[j] = _mm512_setzero_si512();
    for (int g = 0; g < groups; g++, stream += RZ_QUAD_BYTES, tables += INDICES) {
        const __m512i words = lb_load(stream);
        RZ_PREFETCH(stream + 2048);
        RZ_UNROLL(3)
        for (int j = 0; j < INDICES; j++) {
            const __m512i table = _mm512_load_si512((const void *)tables[j]);
            const __m512i index = j == 0 ? words : _mm512_srli_epi16(words, (unsigned)(5 * j));
            acc[j] = _mm512_add_epi16(acc[j], _mm512_permutexvar_epi16(index, table));
        }
    }
    const __m512i sum = _mm512_add_epi16(_mm512_add_epi16(acc[0], acc[1]), acc[2]);
    const __m512i low = _mm512_cvtepi16_epi32(_mm512_castsi512_si256(sum));
    const __m512i high = _mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(sum, 1));
    li_store(sums, _mm512_add_epi32(low, li_load(sums)));
    li_store(sums + RZ_LANES, _mm512_add_epi32(high, li_load(sums + RZ_LANES)));
#else
    for (int g = 0; g < groups; g++, stream += RZ_QUAD_BYTES, tables += INDICES) {
        for (int row = 0; row < RZ_PANEL; row++) {
            const unsigned word = stream[2 * row] | (unsigned)stream[2 * row + 1] << 8;
            sums[row] +=
                tables[0][word & 31] + tables[1][word >> 5 & 31] + tables[2][word >> 10 & 31];
        }
    }
#endif
}

/* Needs acts->work for the tables of one token. */
static void indexed_product(const rz_matrix *w, const rz_acts *acts, int32_t tokens, int32_t first,
                            int32_t last, const trit_output *to) {
    trit_table *tables = (trit_table *)(void *)acts->work;
    for (int32_t t = 0; t < tokens; t++) {
        const int32_t total = token_sum(acts, t);
        fill_tables(acts->codes + t * acts->stride, w->groups * INDICES, tables);
        for (int32_t p = first; p < last; p++) {
            RZ_ALIGNED int32_t sums[RZ_PANEL] = {0};
            const uint8_t *stream = w->codes + p * w->panel_bytes;
            for (int32_t g = 0; g < w->groups; g += FLUSH)
                look_up(stream + (int64_t)g * RZ_QUAD_BYTES,
                        w->groups - g < FLUSH ? w->groups - g : FLUSH, tables + g * INDICES, sums);
            write_sums(to, w, acts, t, p, sums, total);
        }
    }
}

#endif
