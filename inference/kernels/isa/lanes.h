/* lanes.h: the vector vocabulary of all kernels, 16 lanes wide whatever the registers are.
 *
 * Every instruction set gives the same bits: the same lanes, one rounding for lf_fma, and sums and
 * maxima (lf_sum, lf_peak) by halves, lane i + 8 with lane i, then i + 4, i + 2 and 1 with 0.
 * Otherwise a code at the edge of rounding would fall differently on another CPU, and text with it.
 *
 * lanes_b 64 bytes (a quad of 16 rows), lanes_i 16 int32, lanes_f 16 floats, lanes_a four
 * activations for all rows. dot4(acc, w, a) adds four products of unsigned weight bytes and signed
 * activations to each row, exactly; dot4_wide does so for bytes above 63, and where SIGNED_BYTES is
 * 1 for w - 128, so that no zero correction is due.
 */
#ifndef RZ_LANES_H
#define RZ_LANES_H

#include <string.h>

#include "panel.h"

/* Plain C lanes: where there is nothing better, and where tests ask for them. */
#if defined(RZ_ISA_PORTABLE) && !defined(__SSE2__) && !defined(RZ_PLAIN)
#define RZ_PLAIN
#endif

#if defined(__GNUC__)
#ifndef RZ_INLINE /* the sanitizers' build leaves it to the compiler */
#define RZ_INLINE static inline __attribute__((always_inline))
#endif
#define RZ_PREFETCH(p) __builtin_prefetch(p, 0, 2)
#define RZ_PREFETCH_WRITE(p) __builtin_prefetch(p, 1, 3)
#define RZ_PRAGMA(x) _Pragma(#x)
#ifdef RZ_PLAIN
#define RZ_UNROLL(n) /* no registers to keep anything in */
#else
#define RZ_UNROLL(n) RZ_PRAGMA(GCC unroll n)
#endif
#define RZ_ALIGNED __attribute__((aligned(64)))
#else
#define RZ_INLINE static inline
#define RZ_PREFETCH(p) ((void)(p))
#define RZ_PREFETCH_WRITE(p) ((void)(p))
#define RZ_UNROLL(n)
#define RZ_ALIGNED
#endif

#if defined(RZ_PLAIN)
#include "lanes_plain.h"
#elif defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)
#include "lanes_avx512.h"
#elif defined(RZ_ISA_AVX2)
#include "lanes_avx2.h"
#else
#include "lanes_sse2.h"
#endif

/* The eight quads of a block as bytes, from codes and high bits as panel.h lays them out; of SPLIT8
 * `high` is the block in the low plane. */
RZ_INLINE void unpack_block(int form, const uint8_t *codes, const uint8_t *high,
                            lanes_b quads[RZ_QUADS]) {
    if (form == RZ_INT8) {
        RZ_UNROLL(8)
        for (int q = 0; q < RZ_QUADS; q++)
            quads[q] = lb_load(codes + q * RZ_QUAD_BYTES);
        return;
    }
    const lanes_b low = lb_splat(0x0f);
    if (form == RZ_SPLIT8) {
        const lanes_b top = lb_splat(0xf0);
        RZ_UNROLL(4)
        for (int q = 0; q < 4; q++) {
            const lanes_b upper = lb_load(codes + q * RZ_QUAD_BYTES);
            const lanes_b lower = lb_load(high + q * RZ_QUAD_BYTES);
            quads[q] = lb_and_or(lb_left(upper, 4), top, lb_and(lower, low));
            quads[q + 4] = lb_and_or(upper, top, lb_and(lb_right(lower, 4), low));
        }
        return;
    }
    RZ_UNROLL(4)
    for (int q = 0; q < 4; q++) {
        const lanes_b both = lb_load(codes + q * RZ_QUAD_BYTES);
        quads[q] = lb_and(both, low);
        quads[q + 4] = lb_and(lb_right(both, 4), low);
    }
    if (form == RZ_INT5) {
        const lanes_b mask = lb_splat(0x10), bits = lb_load(high);
        quads[0] = lb_and_or(lb_left(bits, 4), mask, quads[0]);
        quads[1] = lb_and_or(lb_left(bits, 3), mask, quads[1]);
        quads[2] = lb_and_or(lb_left(bits, 2), mask, quads[2]);
        quads[3] = lb_and_or(lb_left(bits, 1), mask, quads[3]);
        quads[4] = lb_and_or(bits, mask, quads[4]);
        quads[5] = lb_and_or(lb_right(bits, 1), mask, quads[5]);
        quads[6] = lb_and_or(lb_right(bits, 2), mask, quads[6]);
        quads[7] = lb_and_or(lb_right(bits, 3), mask, quads[7]);
    }
    if (form == RZ_INT6) {
        const lanes_b mask = lb_splat(0x30);
        RZ_UNROLL(2)
        for (int h = 0; h < 2; h++) {
            const lanes_b bits = lb_load(high + h * RZ_QUAD_BYTES);
            quads[4 * h] = lb_and_or(lb_left(bits, 4), mask, quads[4 * h]);
            quads[4 * h + 1] = lb_and_or(lb_left(bits, 2), mask, quads[4 * h + 1]);
            quads[4 * h + 2] = lb_and_or(bits, mask, quads[4 * h + 2]);
            quads[4 * h + 3] = lb_and_or(lb_right(bits, 2), mask, quads[4 * h + 3]);
        }
    }
}

RZ_INLINE lanes_i dot(int form, lanes_i acc, lanes_b w, lanes_a a) {
    return rz_is_wide(form) ? dot4_wide(acc, w, a) : dot4(acc, w, a);
}

/* The same with the four activations that lie at `a`. */
RZ_INLINE lanes_i dot_at(int form, lanes_i acc, lanes_b w, const int8_t *a) {
#ifdef RZ_DOT_AT
    (void)form;
    return dot4_at(acc, w, a);
#else
    return dot(form, acc, w, la_load(a));
#endif
}

#endif
