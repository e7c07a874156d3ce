/* ternary_vector.h: one panel of two-bit or 1.6-bit weights times one token. Included by ternary.c
 * alone. */
#ifndef RZ_TERNARY_VECTOR_H
#define RZ_TERNARY_VECTOR_H

#include "ternary.h"

enum { TRIT_PREFETCH = 4096 };

#if defined(RZ_ISA_AVX512VNNI) && !defined(RZ_PLAIN)
/* Up to so many tokens, reading a panel again for each is faster than decoding it to memory. */
static inline int vector_tokens(int form) {
    return form == RZ_TERNARY2 ? 32 : 8;
}

/* Two bits: vpdpbusd takes the codes where they lie in the byte, so that quad j's sum is 4^j times
 * too large, which a shift of the sum puts right. */
static void vector_two_bits(const rz_matrix *w, const uint8_t *stream, const int8_t *a, int ahead,
                            int32_t *sums) {
    const __m512i masks[4] = {lb_splat(0x03), lb_splat(0x0c), lb_splat(0x30), lb_splat(0xc0)};
    lanes_i acc[RZ_BLOCKS][4];
    for (int i = 0; i < RZ_BLOCKS * 4; i++)
        acc[i / 4][i % 4] = li_splat(0);
    for (int half = 0; half < 2 * w->groups; half++, a += 16, stream += 2 * RZ_QUAD_BYTES) {
        RZ_UNROLL(2)
        for (int b = 0; b < RZ_BLOCKS; b++) {
            const lanes_b four = lb_load(stream + b * RZ_QUAD_BYTES);
            RZ_PREFETCH(stream + ahead + b * RZ_QUAD_BYTES);
            RZ_UNROLL(4)
            for (int j = 0; j < 4; j++)
                acc[b][j] = dot4(acc[b][j], lb_and(four, masks[j]), la_load(a + 4 * j));
        }
    }
    for (int b = 0; b < RZ_BLOCKS; b++) {
        lanes_i sum = acc[b][0];
        sum = _mm512_add_epi32(sum, _mm512_srai_epi32(acc[b][1], 2));
        sum = _mm512_add_epi32(sum, _mm512_srai_epi32(acc[b][2], 4));
        sum = _mm512_add_epi32(sum, _mm512_srai_epi32(acc[b][3], 6));
        li_store(sums + b * RZ_LANES, sum);
    }
}

/* Five to a byte, without decoding: 3 x_j = 256 d_j + x_{j+1}, so that the sum of d_j a_j is
 * (3 sum of x_j a_j - sum of x_{j+1} a_j) / 256. The sums may wrap: the quotient is right as long
 * as it is below 2^23, which SEGMENT groups keep. */
enum { SEGMENT = 1500 };

static void vector_five(const rz_matrix *w, const uint8_t *stream, const int8_t *a, int ahead,
                        int32_t *sums) {
    memset(sums, 0, RZ_PANEL * sizeof *sums);
    for (int base = 0; base < w->groups; base += SEGMENT) {
        const int groups = w->groups - base < SEGMENT ? w->groups - base : SEGMENT;
        lanes_i now[RZ_BLOCKS][2], next[RZ_BLOCKS][2];
        for (int i = 0; i < RZ_BLOCKS * 2; i++)
            now[i / 2][i % 2] = next[i / 2][i % 2] = li_splat(0);
        for (int g = 0; g < groups; g++, a += 20, stream += 2 * RZ_QUAD_BYTES) {
            lanes_b x[RZ_BLOCKS];
            RZ_UNROLL(2)
            for (int b = 0; b < RZ_BLOCKS; b++) {
                x[b] = lb_load(stream + b * RZ_QUAD_BYTES);
                RZ_PREFETCH(stream + ahead + b * RZ_QUAD_BYTES);
            }
            RZ_UNROLL(5)
            for (int j = 0; j < 5; j++) {
                const lanes_a four = la_load(a + 4 * j);
                RZ_UNROLL(2)
                for (int b = 0; b < RZ_BLOCKS; b++) {
                    now[b][j & 1] = dot4(now[b][j & 1], x[b], four);
                    lanes_b twice = lb_add(x[b], x[b]);
                    __asm__("" : "+v"(twice)); /* or clang makes a 16-bit product of it */
                    x[b] = lb_add(twice, x[b]);
                    next[b][j & 1] = dot4(next[b][j & 1], x[b], four);
                }
            }
        }
        for (int b = 0; b < RZ_BLOCKS; b++) {
            const lanes_i here = _mm512_add_epi32(now[b][0], now[b][1]);
            const lanes_i there = _mm512_add_epi32(next[b][0], next[b][1]);
            lanes_i sum =
                _mm512_sub_epi32(_mm512_add_epi32(_mm512_add_epi32(here, here), here), there);
            sum = _mm512_srai_epi32(sum, 8);
            li_store(sums + b * RZ_LANES, _mm512_add_epi32(sum, li_load(sums + b * RZ_LANES)));
        }
    }
}

static void vector_panel(const rz_matrix *w, const uint8_t *stream, const rz_acts *acts,
                         int64_t token, int32_t *sums) {
    const int8_t *a = acts->codes + token * acts->stride;
    const int ahead = w->prefetch > 0 ? w->prefetch : TRIT_PREFETCH;
    if (w->form == RZ_TERNARY2)
        vector_two_bits(w, stream, a, ahead, sums);
    else
        vector_five(w, stream, a, ahead, sums);
}
#else
static inline int vector_tokens(int form) {
    (void)form;
    return 1;
}

/* Decodes every group to codes. */
RZ_INLINE void vector_decoded(int form, const rz_matrix *w, const uint8_t *stream, const int8_t *a,
                              int ahead, int32_t *sums) {
    const int quads = trit_quads(form);
    lanes_i acc[RZ_BLOCKS] = {li_splat(0), li_splat(0)};
    for (int g = 0; g < w->groups; g++, a += 4 * quads, stream += w->group_bytes) {
        RZ_UNROLL(2)
        for (int b = 0; b < RZ_BLOCKS; b++) {
            lanes_b codes[RZ_QUADS];
            RZ_PREFETCH(stream + ahead + b * RZ_QUAD_BYTES);
            unpack_trits(form, stream, b, codes);
            RZ_UNROLL(8)
            for (int q = 0; q < quads; q++)
                acc[b] = dot4(acc[b], codes[q], la_load(a + 4 * q));
        }
    }
    for (int b = 0; b < RZ_BLOCKS; b++)
        li_store(sums + b * RZ_LANES, acc[b]);
}

static void vector_panel(const rz_matrix *w, const uint8_t *stream, const rz_acts *acts,
                         int64_t token, int32_t *sums) {
    const int8_t *a = acts->codes + token * acts->stride;
    const int ahead = w->prefetch > 0 ? w->prefetch : TRIT_PREFETCH;
    if (w->form == RZ_TERNARY2)
        vector_decoded(RZ_TERNARY2, w, stream, a, ahead, sums);
    else
        vector_decoded(RZ_TERNARY5, w, stream, a, ahead, sums);
}
#endif

#endif
