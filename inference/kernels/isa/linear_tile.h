/* linear_tile.h: matrix-matrix products of grouped weights. Included by linear.c alone.
 *
 * A tile is one block of 16 rows x TILE tokens: an integer and a float sum for each token in
 * registers, weights loaded once for all of them. A strip of 16 groups stays in the first-level
 * cache for all tiles of its block, while the next strip is fetched from memory.
 */
#ifndef RZ_LINEAR_TILE_H
#define RZ_LINEAR_TILE_H

#include "half.h"
#include "lanes.h"

/* K_GROUPS groups of a panel are one strip, and TILE tokens a tile. From STAGED_TOKENS on, a
 * strip's codes are unpacked to bytes once for all tiles; below, every tile unpacks them in
 * registers. */
enum { K_GROUPS = 16, TILE = RZ_TILE, STAGED_TOKENS = (FAST_HALVES ? 4 : 1) * TILE + 1 };
/* Tokens of a chunk, and what it keeps of them on the stack: 128 KB. */
enum { TOKEN_CHUNK = 256, TOKEN_WORDS = 1 << 15 };
enum { PREFETCH_BYTES = 4096 }; /* of a matrix-vector product */

/* K_GROUPS groups of one panel, as they are packed or as bytes and floats. */
typedef struct {
    const uint8_t *packed, *low; /* low: of SPLIT8 */
    RZ_ALIGNED uint8_t quads[K_GROUPS][RZ_BLOCKS][RZ_QUADS][RZ_QUAD_BYTES];
    RZ_ALIGNED float scales[K_GROUPS][2][RZ_PANEL]; /* [1]: minima, or scales of the second half */
} strip;

/* One panel times a chunk of tokens. */
typedef struct {
    const rz_matrix *w;
    const uint8_t *stream; /* the panel */
    const rz_acts *acts;
    int64_t token; /* the first */
    int tokens;
    const uint32_t *words; /* prepare_tokens()'s */
    float *sums;           /* [tokens][32] */
    float *out;            /* where a whole panel's first row and token go, or NULL: to sums */
    int64_t out_stride;
    const float *bias; /* of the panel, or NULL */
    int accumulate;
} panel_job;

/* What a tile works on, of a strip's `count` groups from `base` on. */
typedef struct {
    const int8_t *codes;   /* of the tile's first token and the strip's first group */
    int64_t stride;        /* from one token's codes to the next */
    const uint32_t *words; /* prepare_tokens()'s, of the same */
    const uint8_t *ahead;  /* of it `lines` lines a group are fetched meanwhile */
    int lines, base, count;
    int done; /* tokens before the tile */
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

/* A tile's sums of the groups before a strip. Before the last, its output is fetched too. */
RZ_INLINE void begin_tile(int tokens, const panel_job *job, const tile_input *in, int block,
                          lanes_f total[TILE]) {
    const float *sums = job->sums + in->done * RZ_PANEL + block * RZ_LANES;
    if (in->base + in->count == job->w->groups && job->out != NULL)
        for (int t = 0; t < tokens; t++)
            RZ_PREFETCH_WRITE(job->out + (in->done + t) * job->out_stride + block * RZ_LANES);
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++)
        total[t] = in->base == 0 ? lf_splat(0.0f) : lf_load(sums + t * RZ_PANEL);
}

/* Keeps them, or moves them to the output: plus bias and what is there already. */
RZ_INLINE void end_tile(int tokens, const panel_job *job, const tile_input *in, int block,
                        const lanes_f total[TILE]) {
    const int last = in->base + in->count == job->w->groups && job->out != NULL;
    float *to = last ? job->out + in->done * job->out_stride : job->sums + in->done * RZ_PANEL;
    const int64_t stride = last ? job->out_stride : RZ_PANEL;
    to += block * RZ_LANES;
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++, to += stride) {
        lanes_f value = total[t];
        if (last && job->bias != NULL)
            value = lf_add(value, lf_load(job->bias + block * RZ_LANES));
        lf_store(to, last && job->accumulate ? lf_add(lf_load(to), value) : value);
    }
}

/* A tile of `tokens` tokens x 16 rows over the groups of a strip. */
RZ_INLINE void tile(int form, int scale, int staged, int tokens, const panel_job *job,
                    const strip *s, int block, tile_input in) {
    lanes_f total[TILE];
    const tile_input whole = in;
    begin_tile(tokens, job, &whole, block, total);
    for (int g = 0; g < in.count; g++) {
        lanes_b quads[RZ_QUADS];
        lanes_f scales[2];
        load_block(form, scale, staged, s, g, block, quads, scales);
        for (int line = 0; line < in.lines; line++)
            RZ_PREFETCH(in.ahead + 64 * line);
        tile_group(form, scale, tokens, quads, scales, &in, total);
        in.ahead += 64 * in.lines;
        in.codes += RZ_GROUP;
        in.words += words_of(scale) * tokens;
    }
    end_tile(tokens, job, &whole, block, total);
}

/* A tile of any number of tokens. */
RZ_INLINE void any_tile(int form, int scale, int staged, int tokens, const panel_job *job,
                        const strip *s, int block, tile_input in) {
    if (tokens >= TILE)
        tile(form, scale, staged, TILE, job, s, block, in);
#if RZ_TILE > 2
    else if (tokens == 7)
        tile(form, scale, staged, 7, job, s, block, in);
    else if (tokens == 6)
        tile(form, scale, staged, 6, job, s, block, in);
    else if (tokens == 5)
        tile(form, scale, staged, 5, job, s, block, in);
    else if (tokens == 4)
        tile(form, scale, staged, 4, job, s, block, in);
    else if (tokens == 3)
        tile(form, scale, staged, 3, job, s, block, in);
    else if (tokens == 2)
        tile(form, scale, staged, 2, job, s, block, in);
#endif
    else
        tile(form, scale, staged, 1, job, s, block, in);
}

/* Every token of a chunk over `count` groups, while what follows them in memory is fetched. */
RZ_INLINE void strip_tokens(int form, int scale, int staged, const panel_job *job, const strip *s,
                            int base, int count) {
    const rz_acts *acts = job->acts;
    const int bytes = rz_group_bytes(form, scale);
    const int passes = (job->tokens + TILE - 1) / TILE * RZ_BLOCKS;
    const int shares = passes < bytes / 64 ? passes : bytes / 64;
    const int8_t *codes = acts->codes + job->token * acts->stride + (int64_t)base * RZ_GROUP;
    int pass = 0;
    for (int block = 0; block < RZ_BLOCKS; block++) {
        for (int done = 0; done < job->tokens; done += TILE, pass++) {
            const int left = job->tokens - done, width = left < TILE ? left : TILE;
            const int64_t before = (int64_t)done * job->w->groups + (int64_t)base * width;
            const tile_input in = {
                .codes = codes + done * acts->stride,
                .stride = acts->stride,
                .words = job->words + words_of(scale) * before,
                .ahead = s->packed + (int64_t)count * bytes * (shares + pass) / shares,
                .lines = pass < shares ? (bytes / 64 + shares - 1) / shares : 0,
                .base = base,
                .count = count,
                .done = done,
            };
            any_tile(form, scale, staged, width, job, s, block, in);
        }
    }
}

RZ_INLINE const uint8_t *low_plane(int form, const panel_job *job) {
    const rz_matrix *w = job->w;
    return form == RZ_SPLIT8
               ? w->codes + rz_low_offset(w, (int32_t)((job->stream - w->codes) / w->panel_bytes))
               : NULL;
}

/* One panel times a chunk of tokens. Strips are short where little time is left to fetch the next
 * one. */
RZ_INLINE void matrix_panel(int form, int scale, const panel_job *job) {
    const uint8_t *low = low_plane(form, job);
    const int32_t groups = job->w->groups;
    const int staged = job->tokens >= STAGED_TOKENS && !(form == RZ_INT8 && FAST_HALVES);
    const int most = rz_is_wide(form) && job->tokens <= 2 * TILE ? K_GROUPS / 2 : K_GROUPS;
    strip s;
    for (int base = 0; base < groups; base += most) {
        const int count = groups - base < most ? groups - base : most;
        s.packed = job->stream + (int64_t)base * job->w->group_bytes;
        s.low = form == RZ_SPLIT8 ? low + (int64_t)base * RZ_LOW_BYTES : NULL;
        if (staged) {
            stage(form, scale, count, &s);
            strip_tokens(form, scale, 1, job, &s, base, count);
        } else {
            strip_tokens(form, scale, 0, job, &s, base, count);
        }
    }
}

#endif
