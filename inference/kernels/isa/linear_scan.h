/* linear_scan.h: which panels of a SPLIT8 matrix may hold the largest product, from its high plane
 * alone. Included by linear.c alone.
 *
 * A code is 16 h + l; with 7.5 in place of every l a row's product is off by
 *
 *     sum over groups of s * t * sum over k of (l - 7.5) * a
 *
 * whose standard deviation, were every l equally likely, is sqrt(21.25 * sum of s^2 t^2 |a|^2): the
 * root is computed beside the product. The bound of Cauchy and Schwarz is sqrt(cols) as large and
 * would keep nearly every row. Instead RZ_SCAN_DEVIATIONS of them count as a bound: l - 7.5 is a
 * sum of four independent signs times 4, 2, 1 and 1/2, so that a product exceeds it with a
 * probability below exp(-RZ_SCAN_DEVIATIONS^2 / 2), whatever the activations are.
 */
#ifndef RZ_LINEAR_SCAN_H
#define RZ_LINEAR_SCAN_H

#include <math.h>

#include "linear_tile.h"

/* What a token contributes to every row's group: 16 t, the zero code's correction, t^2 |a|^2. */
typedef struct {
    const float *factors, *corrections, *squares;
} scan_token;

static scan_token scan_prepare(const rz_acts *acts, float *room) {
    float *factors = room, *corrections = room + acts->groups, *squares = room + 2 * acts->groups;
    for (int32_t g = 0; g < acts->groups; g++) {
        const int8_t *a = acts->codes + (int64_t)g * RZ_GROUP;
        int32_t square = 0;
        for (int k = 0; k < RZ_GROUP; k++)
            square += a[k] * a[k];
        /* 16 h + 7.5 - 128 = 16 (h - 241 / 32); exact, being a multiple of 1 / 32 below 2^15. */
        corrections[g] = (float)(acts->sums[2 * g] + acts->sums[2 * g + 1]) * (-241.0f / 32.0f);
        factors[g] = 16.0f * acts->scales[g];
        squares[g] = acts->scales[g] * acts->scales[g] * (float)square;
    }
    return (scan_token){factors, corrections, squares};
}

/* Products by high nibbles and squared deviations of a panel's 32 rows. */
RZ_INLINE void scan_panel(const uint8_t *stream, int32_t groups, const int8_t *a,
                          const scan_token *token, float *products, float *deviations) {
    const int code_bytes = rz_code_bytes(RZ_SPLIT8);
    const int group_bytes = rz_group_bytes(RZ_SPLIT8, RZ_SCALE_GROUP);
    lanes_f total[RZ_BLOCKS] = {lf_splat(0.0f), lf_splat(0.0f)};
    lanes_f square[RZ_BLOCKS] = {lf_splat(0.0f), lf_splat(0.0f)};
    for (int32_t g = 0; g < groups; g++, stream += group_bytes, a += RZ_GROUP) {
        const uint16_t *scales =
            (const uint16_t *)(const void *)(stream + rz_scale_offset(RZ_SPLIT8));
        RZ_UNROLL(9)
        for (int line = 0; line < group_bytes; line += 64)
            RZ_PREFETCH(stream + PREFETCH_BYTES + line);
        RZ_UNROLL(2)
        for (int b = 0; b < RZ_BLOCKS; b++) {
            lanes_b quads[RZ_QUADS];
            unpack_block(RZ_INT4, stream + b * code_bytes, NULL, quads);
            lanes_i acc = li_splat(0);
            RZ_UNROLL(8)
            for (int q = 0; q < RZ_QUADS; q++)
                acc = dot4(acc, quads[q], la_load(a + 4 * q));
            const lanes_f scale = lf_half(scales + b * RZ_LANES);
            const lanes_f dots = lf_add(lf_int(acc), lf_splat(token->corrections[g]));
            total[b] = lf_fma(lf_mul(dots, scale), lf_splat(token->factors[g]), total[b]);
            square[b] = lf_fma(lf_mul(scale, scale), lf_splat(token->squares[g]), square[b]);
        }
    }
    for (int b = 0; b < RZ_BLOCKS; b++) {
        lf_store(products + b * RZ_LANES, total[b]);
        lf_store(deviations + b * RZ_LANES, square[b]);
    }
}

/* Where a number is no number the bound is none either: the panel has to be looked at. */
static void scan(const rz_matrix *w, const rz_acts *acts, int32_t rows, int32_t first, int32_t last,
                 float *room, float *bounds) {
    const float margin = RZ_SCAN_DEVIATIONS * 4.6097722f; /* sqrt(21.25) */
    const scan_token token = scan_prepare(acts, room);
    RZ_ALIGNED float products[RZ_PANEL], deviations[RZ_PANEL];
    for (int32_t p = first; p < last; p++) {
        scan_panel(w->codes + p * w->panel_bytes, w->groups, acts->codes, &token, products,
                   deviations);
        float bound = -INFINITY;
        for (int32_t r = 0; r < RZ_PANEL && p * RZ_PANEL + r < rows; r++) {
            const float most = products[r] + margin * sqrtf(deviations[r]);
            bound = most > bound || most != most ? most : bound;
        }
        bounds[p] = bound;
    }
}

#endif
