/* linear_tile.h: matrix-matrix products, a panel unpacked once for many tokens. Included by
 * linear.c alone. */
#ifndef RZ_LINEAR_TILE_H
#define RZ_LINEAR_TILE_H

#include "lanes.h"

enum { K_GROUPS = 32, TOKEN_CHUNK = 256, PREFETCH_BYTES = 4096 };

/* Everything a tile needs of K_GROUPS groups of one panel. */
typedef struct {
    RZ_ALIGNED uint8_t quads[K_GROUPS][RZ_BLOCKS][RZ_QUADS][RZ_QUAD_BYTES];
    RZ_ALIGNED float scales[K_GROUPS][2][RZ_PANEL]; /* [1]: minima, or scales of the second half */
} strip;

/* What a block's codes are to be completed with: high bits, or of SPLIT8 its place in the low
 * plane. */
RZ_INLINE const uint8_t *extra_bits(int form, const uint8_t *high, const uint8_t *low,
                                    int64_t group, int block) {
    if (form == RZ_SPLIT8)
        return low + group * RZ_LOW_BYTES + block * rz_code_bytes(form);
    return high + block * rz_high_bytes(form);
}

/* Correction of the integer dot products for the zero code: the value an accumulator starts from.
 */
RZ_INLINE void zero_corrections(int form, int scale, const int32_t *sums, int groups,
                                int32_t *start) {
    const int32_t zero = rz_is_wide(form) && SIGNED_BYTES ? 0 : rz_zero(form, scale);
    if (scale == RZ_SCALE_HALF) {
        for (int i = 0; i < 2 * groups; i++)
            start[i] = -zero * sums[i];
    } else {
        for (int g = 0; g < groups; g++)
            start[g] = -zero * (sums[2 * g] + sums[2 * g + 1]);
    }
}

/* Unpacks `count` groups of a panel; `low`: its low plane. */
RZ_INLINE void unpack_strip(int form, int scale, const uint8_t *stream, const uint8_t *low,
                            int count, strip *s) {
    const int code_bytes = rz_code_bytes(form), high_bytes = rz_high_bytes(form);
    const int group_bytes = rz_group_bytes(form, scale);
    for (int g = 0; g < count; g++, stream += group_bytes) {
        const uint8_t *high = stream + RZ_BLOCKS * code_bytes;
        const uint16_t *scales = (const uint16_t *)(const void *)(high + RZ_BLOCKS * high_bytes);
        for (int line = 0; line < group_bytes; line += 64)
            RZ_PREFETCH(stream + PREFETCH_BYTES + line);
        RZ_UNROLL(2)
        for (int b = 0; b < RZ_BLOCKS; b++) {
            lanes_b quads[RZ_QUADS];
            unpack_block(form, stream + b * code_bytes, extra_bits(form, high, low, g, b), quads);
            RZ_UNROLL(8)
            for (int q = 0; q < RZ_QUADS; q++)
                lb_store(s->quads[g][b][q], quads[q]);
            lf_store(s->scales[g][0] + b * RZ_LANES, lf_half(scales + b * RZ_LANES));
            if (scale != RZ_SCALE_GROUP)
                lf_store(s->scales[g][1] + b * RZ_LANES, lf_half(scales + RZ_PANEL + b * RZ_LANES));
        }
    }
}

/* Integer dot products of one group (or half of it, h) for every block and token of the tile. */
RZ_INLINE void tile_dots(int form, int scale, int tokens, const strip *s, int block, int g, int h,
                         const int8_t *codes, int64_t stride, const int32_t (*start)[2 * K_GROUPS],
                         lanes_i acc[TILE_BLOCKS][TILE_TOKENS]) {
    const int halves = scale == RZ_SCALE_HALF ? 2 : 1, quads = RZ_QUADS / halves;
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            acc[b][t] = li_splat(start[t][halves * g + h]);
    }
    RZ_UNROLL(8)
    for (int q = h * quads; q < (h + 1) * quads; q++) {
        lanes_b w[TILE_BLOCKS];
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            w[b] = lb_load(s->quads[g][block + b][q]);
        RZ_UNROLL(8)
        for (int t = 0; t < tokens; t++) {
            const lanes_a a = la_load(codes + t * stride + 4 * q);
            RZ_UNROLL(2)
            for (int b = 0; b < TILE_BLOCKS; b++)
                acc[b][t] = dot(form, acc[b][t], w[b], a);
        }
    }
}

/* total += float(acc) * weight scale * activation scale. */
RZ_INLINE void tile_scale(int tokens, const float *weights, const float *factors, int64_t stride,
                          lanes_i acc[TILE_BLOCKS][TILE_TOKENS],
                          lanes_f total[TILE_BLOCKS][TILE_TOKENS]) {
    RZ_UNROLL(2)
    for (int b = 0; b < TILE_BLOCKS; b++) {
        const lanes_f weight = lf_load(weights + b * RZ_LANES);
        RZ_UNROLL(8)
        for (int t = 0; t < tokens; t++) {
            const lanes_f factor = lf_splat(factors[t * stride]);
            total[b][t] = lf_fma(lf_mul(lf_int(acc[b][t]), weight), factor, total[b][t]);
        }
    }
}

/* total += minimum * (activation scale * sum of the activation codes). */
RZ_INLINE void tile_minimum(int tokens, const float *minima, const float *factors,
                            const int32_t *sums, int64_t stride,
                            lanes_f total[TILE_BLOCKS][TILE_TOKENS]) {
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        const int32_t *sum = sums + 2 * t * stride;
        const lanes_f weight = lf_splat(factors[t * stride] * (float)(sum[0] + sum[1]));
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            total[b][t] = lf_fma(lf_load(minima + b * RZ_LANES), weight, total[b][t]);
    }
}

/* A tile of `tokens` tokens x TILE_BLOCKS blocks over `count` groups, added to sums[token][32]. */
RZ_INLINE void tile(int form, int scale, int tokens, const strip *s, int block, const rz_acts *acts,
                    int64_t token, int base, int count, float *sums) {
    RZ_ALIGNED int32_t start[TILE_TOKENS][2 * K_GROUPS];
    lanes_f total[TILE_BLOCKS][TILE_TOKENS];
    const int64_t at = token * acts->groups + base;
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        zero_corrections(form, scale, acts->sums + 2 * (at + (int64_t)t * acts->groups), count,
                         start[t]);
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            total[b][t] = lf_load(sums + t * RZ_PANEL + (block + b) * RZ_LANES);
    }
    const int8_t *codes = acts->codes + token * acts->stride + (int64_t)base * RZ_GROUP;
    for (int g = 0; g < count; g++, codes += RZ_GROUP) {
        const float *factors = acts->scales + at + g;
        for (int h = 0; h < (scale == RZ_SCALE_HALF ? 2 : 1); h++) {
            lanes_i acc[TILE_BLOCKS][TILE_TOKENS];
            tile_dots(form, scale, tokens, s, block, g, h, codes, acts->stride, start, acc);
            tile_scale(tokens, s->scales[g][h] + block * RZ_LANES, factors, acts->groups, acc,
                       total);
        }
        if (scale == RZ_SCALE_MIN)
            tile_minimum(tokens, s->scales[g][1] + block * RZ_LANES, factors,
                         acts->sums + 2 * (at + g), acts->groups, total);
    }
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            lf_store(sums + t * RZ_PANEL + (block + b) * RZ_LANES, total[b][t]);
    }
}

/* Every token of a chunk over `count` unpacked groups. */
RZ_INLINE void strip_tokens(int form, int scale, const strip *s, const rz_acts *acts, int64_t token,
                            int tokens, int base, int count, float *sums) {
    for (int done = 0; done < tokens; done += TILE_TOKENS) {
        const int left = tokens - done;
        for (int block = 0; block < RZ_BLOCKS; block += TILE_BLOCKS) {
            float *to = sums + (int64_t)done * RZ_PANEL;
            const int64_t at = token + done;
            if (left >= TILE_TOKENS)
                tile(form, scale, TILE_TOKENS, s, block, acts, at, base, count, to);
#if TILE_TOKENS > 2
            else if (left == 5)
                tile(form, scale, 5, s, block, acts, at, base, count, to);
            else if (left == 4)
                tile(form, scale, 4, s, block, acts, at, base, count, to);
            else if (left == 3)
                tile(form, scale, 3, s, block, acts, at, base, count, to);
            else if (left == 2)
                tile(form, scale, 2, s, block, acts, at, base, count, to);
#endif
            else
                tile(form, scale, 1, s, block, acts, at, base, count, to);
        }
    }
}

RZ_INLINE const uint8_t *low_plane(int form, const rz_matrix *w, const uint8_t *stream) {
    return form == RZ_SPLIT8
               ? w->codes + rz_low_offset(w, (int32_t)((stream - w->codes) / w->panel_bytes))
               : NULL;
}

/* One panel times a chunk of tokens: sums[token][32]. */
RZ_INLINE void matrix_panel(int form, int scale, const rz_matrix *w, const uint8_t *stream,
                            const rz_acts *acts, int64_t token, int tokens, float *sums) {
    strip s;
    const uint8_t *low = low_plane(form, w, stream);
    memset(sums, 0, (size_t)tokens * RZ_PANEL * sizeof(float));
    for (int base = 0; base < w->groups; base += K_GROUPS) {
        const int count = w->groups - base < K_GROUPS ? w->groups - base : K_GROUPS;
        unpack_strip(form, scale, stream + (int64_t)base * w->group_bytes,
                     form == RZ_SPLIT8 ? low + (int64_t)base * RZ_LOW_BYTES : NULL, count, &s);
        strip_tokens(form, scale, &s, acts, token, tokens, base, count, sums);
    }
}

#endif
