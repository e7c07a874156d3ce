/* linear_tile.h: matrix-matrix products of grouped weights. Included by linear.c alone.
 *
 * A tile is one block of 16 rows x TILE tokens: an integer and a float sum for each token in
 * registers, weights loaded once for all of them. A strip of 32 groups stays in the first-level
 * cache for all tiles of its block, while the next strip is fetched from memory.
 */
#ifndef RZ_LINEAR_TILE_H
#define RZ_LINEAR_TILE_H

#include "half.h"
#include "lanes.h"

/* K_GROUPS groups of a panel are one strip, and TILE tokens a tile. From STAGED_TOKENS on, a
 * strip's codes are unpacked to bytes once for all tiles; below, every tile unpacks them in
 * registers. */
enum { K_GROUPS = 32, TILE = RZ_TILE, STAGED_TOKENS = 4 * TILE + 1 };
/* Tokens of a chunk, and what it keeps of them on the stack: 128 KB. */
enum { TOKEN_CHUNK = 256, TOKEN_WORDS = 1 << 15 };
enum { PREFETCH_BYTES = 4096 }; /* of a matrix-vector product */

/* K_GROUPS groups of one panel, as they are packed or as bytes and floats. */
typedef struct {
    const uint8_t *packed, *low; /* low: of SPLIT8 */
    RZ_ALIGNED uint8_t quads[K_GROUPS][RZ_BLOCKS][RZ_QUADS][RZ_QUAD_BYTES];
    RZ_ALIGNED float scales[K_GROUPS][2][RZ_PANEL]; /* [1]: minima, or scales of the second half */
} strip;

/* What a tile works on, of a strip's `count` groups. */
typedef struct {
    const int8_t *codes;   /* of the tile's first token and the strip's first group */
    int64_t stride;        /* from one token's codes to the next */
    const uint32_t *words; /* prepare_tokens()'s, of the same */
    const uint8_t *ahead;  /* lines [first, last) of each of its groups are fetched meanwhile */
    int first, last, count;
} tile_input;

/* Words for a token and group: integers that sums start from, a factor, and maybe one of minima. */
RZ_INLINE int words_of(int scale) {
    return scale == RZ_SCALE_HALF ? 3 : 2;
}

/* What the tiles of TILE tokens need for each group, in order: [tile][group][word][token]. An
 * integer dot product starts from the zero code's part, -zero * sum of the activation codes. */
RZ_INLINE void prepare_tokens(int form, int scale, const rz_acts *acts, int64_t token, int tokens,
                              uint32_t *words) {
    const int32_t zero = rz_is_wide(form) && SIGNED_BYTES ? 0 : rz_zero(form, scale);
    const int32_t groups = acts->groups;
    for (int t = 0; t < tokens; t++) {
        const int done = t / TILE * TILE, width = tokens - done < TILE ? tokens - done : TILE;
        const int32_t *sums = acts->sums + 2 * (token + t) * groups;
        const float *factors = acts->scales + (token + t) * groups;
        uint32_t *to = words + (int64_t)done * words_of(scale) * groups + t - done;
        for (int32_t g = 0; g < groups; g++, to += words_of(scale) * width, sums += 2) {
            const int32_t sum = sums[0] + sums[1];
            to[0] = rz_float_to_bits(factors[g]);
            if (scale == RZ_SCALE_MIN)
                to[width] = rz_float_to_bits(factors[g] * (float)sum);
            else
                to[width] = (uint32_t)(-zero * (scale == RZ_SCALE_HALF ? sums[0] : sum));
            if (scale == RZ_SCALE_HALF)
                to[2 * width] = (uint32_t)(-zero * sums[1]);
        }
    }
}

/* What a block's codes are to be completed with: high bits, or of SPLIT8 its place in the low
 * plane. */
RZ_INLINE const uint8_t *extra_bits(int form, const uint8_t *high, const uint8_t *low,
                                    int64_t group, int block) {
    if (form == RZ_SPLIT8)
        return low + group * RZ_LOW_BYTES + block * rz_code_bytes(form);
    return high + block * rz_high_bytes(form);
}

/* A group's block as bytes, and its scales: of the first half or all, and minima or those of the
 * second. */
RZ_INLINE void load_block(int form, int scale, int staged, const strip *s, int g, int b,
                          lanes_b quads[RZ_QUADS], lanes_f scales[2]) {
    if (staged) {
        RZ_UNROLL(8)
        for (int q = 0; q < RZ_QUADS; q++)
            quads[q] = lb_load(s->quads[g][b][q]);
        scales[0] = lf_load(s->scales[g][0] + b * RZ_LANES);
        scales[1] = scale == RZ_SCALE_GROUP ? scales[0] : lf_load(s->scales[g][1] + b * RZ_LANES);
        return;
    }
    const uint8_t *group = s->packed + g * rz_group_bytes(form, scale);
    const uint8_t *high = group + RZ_BLOCKS * rz_code_bytes(form);
    const uint16_t *halves =
        (const uint16_t *)(const void *)(high + RZ_BLOCKS * rz_high_bytes(form)) + b * RZ_LANES;
    unpack_block(form, group + b * rz_code_bytes(form), extra_bits(form, high, s->low, g, b),
                 quads);
    scales[0] = lf_half(halves);
    scales[1] = scale == RZ_SCALE_GROUP ? scales[0] : lf_half(halves + RZ_PANEL);
}

/* Unpacks `count` groups of a strip. */
RZ_INLINE void stage(int form, int scale, int count, strip *s) {
    for (int g = 0; g < count; g++) {
        RZ_UNROLL(2)
        for (int b = 0; b < RZ_BLOCKS; b++) {
            lanes_b quads[RZ_QUADS];
            lanes_f scales[2];
            load_block(form, scale, 0, s, g, b, quads, scales);
            RZ_UNROLL(8)
            for (int q = 0; q < RZ_QUADS; q++)
                lb_store(s->quads[g][b][q], quads[q]);
            lf_store(s->scales[g][0] + b * RZ_LANES, scales[0]);
            if (scale != RZ_SCALE_GROUP)
                lf_store(s->scales[g][1] + b * RZ_LANES, scales[1]);
        }
    }
}

/* Integer dot products of half h of a block's group, or all of it, for each token. One token's
 * activations are loaded once for both blocks. */
RZ_INLINE void tile_dots(int form, int scale, int tokens, const lanes_b quads[RZ_QUADS], int h,
                         const tile_input *in, lanes_i acc[TILE]) {
    const int count = scale == RZ_SCALE_HALF ? RZ_QUADS / 2 : RZ_QUADS;
    RZ_UNROLL(8)
    for (int q = h * count; q < (h + 1) * count; q++) {
        const int8_t *a = in->codes + 4 * q;
        if (tokens == 1)
            acc[0] = dot(form, acc[0], quads[q], la_load(a));
        RZ_UNROLL(8)
        for (int t = 0; tokens > 1 && t < tokens; t++)
            acc[t] = dot_at(form, acc[t], quads[q], a + t * in->stride);
    }
}

/* A group (or half h of it) of 16 rows, added to their sums of each token. */
RZ_INLINE void tile_part(int form, int scale, int tokens, const lanes_b quads[RZ_QUADS],
                         lanes_f weight, int h, const tile_input *in, lanes_f total[TILE]) {
    lanes_i acc[TILE];
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++)
        acc[t] = li_splat(scale == RZ_SCALE_MIN ? 0 : (int32_t)in->words[(1 + h) * tokens + t]);
    tile_dots(form, scale, tokens, quads, h, in, acc);
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        const lanes_f factor = lf_splat(rz_bits_to_float(in->words[t]));
        total[t] = lf_fma(lf_mul(lf_int(acc[t]), weight), factor, total[t]);
    }
}

RZ_INLINE void tile_group(int form, int scale, int tokens, const lanes_b quads[RZ_QUADS],
                          const lanes_f scales[2], const tile_input *in, lanes_f total[TILE]) {
    tile_part(form, scale, tokens, quads, scales[0], 0, in, total);
    if (scale == RZ_SCALE_HALF)
        tile_part(form, scale, tokens, quads, scales[1], 1, in, total);
    RZ_UNROLL(8)
    for (int t = 0; scale == RZ_SCALE_MIN && t < tokens; t++)
        total[t] = lf_fma(scales[1], lf_splat(rz_bits_to_float(in->words[tokens + t])), total[t]);
}

/* A tile of `tokens` tokens x 16 rows over the groups of a strip, added to sums[token][32]. */
RZ_INLINE void tile(int form, int scale, int staged, int tokens, const strip *s, int block,
                    tile_input in, float *sums) {
    lanes_f total[TILE];
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++)
        total[t] = lf_load(sums + t * RZ_PANEL + block * RZ_LANES);
    for (int g = 0; g < in.count; g++) {
        lanes_b quads[RZ_QUADS];
        lanes_f scales[2];
        load_block(form, scale, staged, s, g, block, quads, scales);
        for (int line = in.first; line < in.last; line++)
            RZ_PREFETCH(in.ahead + 64 * line);
        tile_group(form, scale, tokens, quads, scales, &in, total);
        in.ahead += rz_group_bytes(form, scale);
        in.codes += RZ_GROUP;
        in.words += words_of(scale) * tokens;
    }
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++)
        lf_store(sums + t * RZ_PANEL + block * RZ_LANES, total[t]);
}

/* A tile of any number of tokens. */
RZ_INLINE void any_tile(int form, int scale, int staged, int tokens, const strip *s, int block,
                        tile_input in, float *sums) {
    if (tokens >= TILE)
        tile(form, scale, staged, TILE, s, block, in, sums);
#if RZ_TILE > 2
    else if (tokens == 7)
        tile(form, scale, staged, 7, s, block, in, sums);
    else if (tokens == 6)
        tile(form, scale, staged, 6, s, block, in, sums);
    else if (tokens == 5)
        tile(form, scale, staged, 5, s, block, in, sums);
    else if (tokens == 4)
        tile(form, scale, staged, 4, s, block, in, sums);
    else if (tokens == 3)
        tile(form, scale, staged, 3, s, block, in, sums);
    else if (tokens == 2)
        tile(form, scale, staged, 2, s, block, in, sums);
#endif
    else
        tile(form, scale, staged, 1, s, block, in, sums);
}

/* Every token of a chunk over a strip, while what follows it in memory is fetched. `in`: for the
 * first token. */
RZ_INLINE void strip_tokens(int form, int scale, int staged, const strip *s, tile_input in,
                            int tokens, int32_t groups, int base, float *sums) {
    const int lines = rz_group_bytes(form, scale) / 64;
    const int passes = (tokens + TILE - 1) / TILE * RZ_BLOCKS;
    int pass = 0;
    for (int block = 0; block < RZ_BLOCKS; block++) {
        for (int done = 0; done < tokens; done += TILE, pass++) {
            const int left = tokens - done, width = left < TILE ? left : TILE;
            tile_input at = in;
            at.codes = in.codes + done * in.stride;
            at.words =
                in.words + words_of(scale) * ((int64_t)done * groups + (int64_t)base * width);
            at.first = lines * pass / passes, at.last = lines * (pass + 1) / passes;
            any_tile(form, scale, staged, width, s, block, at, sums + (int64_t)done * RZ_PANEL);
        }
    }
}

RZ_INLINE const uint8_t *low_plane(int form, const rz_matrix *w, const uint8_t *stream) {
    return form == RZ_SPLIT8
               ? w->codes + rz_low_offset(w, (int32_t)((stream - w->codes) / w->panel_bytes))
               : NULL;
}

/* One panel times a chunk of tokens: sums[token][32]. `words`: prepare_tokens()'s. */
RZ_INLINE void matrix_panel(int form, int scale, const rz_matrix *w, const uint8_t *stream,
                            const rz_acts *acts, int64_t token, int tokens, const uint32_t *words,
                            float *sums) {
    const uint8_t *low = low_plane(form, w, stream);
    const int staged = tokens >= STAGED_TOKENS && !(form == RZ_INT8 && FAST_HALVES);
    strip s;
    memset(sums, 0, (size_t)tokens * RZ_PANEL * sizeof(float));
    for (int base = 0; base < w->groups; base += K_GROUPS) {
        const int count = w->groups - base < K_GROUPS ? w->groups - base : K_GROUPS;
        s.packed = stream + (int64_t)base * w->group_bytes;
        s.low = form == RZ_SPLIT8 ? low + (int64_t)base * RZ_LOW_BYTES : NULL;
        const tile_input in = {
            .codes = acts->codes + token * acts->stride + (int64_t)base * RZ_GROUP,
            .stride = acts->stride,
            .words = words,
            .ahead = s.packed + (int64_t)count * w->group_bytes,
            .count = count,
        };
        if (staged) {
            stage(form, scale, count, &s);
            strip_tokens(form, scale, 1, &s, in, tokens, w->groups, base, sums);
        } else {
            strip_tokens(form, scale, 0, &s, in, tokens, w->groups, base, sums);
        }
    }
}

#endif
