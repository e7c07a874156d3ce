/* ternary.h: what linear.c calls for ternary matrices, and what the ternary kernels share.
 *
 * All sums are integers, so every kernel gives the same bits: for each row and token
 *
 *     out = (sum of (w + 1) * a  -  sum of a) * (token's scale * matrix's scale)
 */
#ifndef RZ_TERNARY_H
#define RZ_TERNARY_H

#include "lanes.h"

/* linear() of rz.h for the ternary forms. */
#define rz_ternary RZ_ISA_FN(rz_ternary)
void rz_ternary(const rz_matrix *w, const rz_acts *acts, int32_t tokens, int32_t first,
                int32_t last, float *out, int64_t out_stride, const float *bias, int accumulate);

/* Where results go. */
typedef struct {
    float *out;
    int64_t stride;
    const float *bias; /* or NULL */
    int accumulate;
} trit_output;

/* Sum of a token's activation codes: what all codes, being one too large, add to each row. */
static inline int32_t token_sum(const rz_acts *acts, int64_t token) {
    const int32_t *sums = acts->sums + 2 * token * acts->groups;
    int32_t total = 0;
    for (int32_t i = 0; i < 2 * acts->groups; i++)
        total += sums[i];
    return total;
}

/* Turns the sums of one panel's rows for one token into outputs. */
static inline void write_sums(const trit_output *to, const rz_matrix *w, const rz_acts *acts,
                              int64_t token, int32_t panel, const int32_t *sums, int32_t sum) {
    const int32_t row = panel * RZ_PANEL;
    const int rows = w->rows - row < RZ_PANEL ? w->rows - row : RZ_PANEL;
    const float factor = acts->scales[token * acts->groups] * w->tensor_scale;
    float *out = to->out + token * to->stride + row;
    for (int r = 0; r < rows; r++) {
        float value = (float)(sums[r] - sum) * factor;
        if (to->bias != NULL)
            value += to->bias[row + r];
        out[r] = to->accumulate ? out[r] + value : value;
    }
}

/* Quads in a group of the forms that have quads. */
RZ_INLINE int trit_quads(int form) {
    return form == RZ_TERNARY5 ? 5 : RZ_QUADS;
}

/* Codes 0, 1, 2 of one block of a group. */
RZ_INLINE void unpack_trits(int form, const uint8_t *group, int block, lanes_b *quads) {
    if (form == RZ_TERNARY2) {
        const lanes_b mask = lb_splat(3);
        RZ_UNROLL(2)
        for (int half = 0; half < 2; half++) {
            const lanes_b four = lb_load(group + (2 * half + block) * RZ_QUAD_BYTES);
            quads[4 * half] = lb_and(four, mask);
            quads[4 * half + 1] = lb_and(lb_right(four, 2), mask);
            quads[4 * half + 2] = lb_and(lb_right(four, 4), mask);
            quads[4 * half + 3] = lb_and(lb_right(four, 6), mask);
        }
        return;
    }
    lanes_b fraction = lb_load(group + block * RZ_QUAD_BYTES);
    RZ_UNROLL(5)
    for (int q = 0; q < 5; q++) {
        quads[q] = lb_trit(fraction);
        fraction = lb_add(lb_add(fraction, fraction), fraction);
    }
}

#endif
