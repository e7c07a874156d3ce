/* ternary.c: products of ternary weights with activations that have one int8 scale a token.
 *
 * One token streams each panel and decodes it in registers. Several tokens decode STRIP_QUADS quads
 * of a panel to bytes in the first-level cache and reuse them for every tile of TILE_TOKENS tokens;
 * ternary_lookup.h does better for many.
 */
#include "ternary.h"

#if defined(RZ_ISA_AVX512VNNI) && !defined(RZ_PLAIN)
#define RZ_HAS_LOOKUP
#endif
#include "ternary_indexed.h"
#include "ternary_vector.h"
#ifdef RZ_HAS_LOOKUP
#include "ternary_lookup.h"
#endif

enum { STRIP_QUADS = 128, TOKEN_CHUNK = 256 };

typedef struct {
    RZ_ALIGNED uint8_t quads[STRIP_QUADS][RZ_BLOCKS][RZ_QUAD_BYTES];
} trit_strip;

/* Decodes `groups` groups of a panel. */
RZ_INLINE void unpack_strip(int form, const rz_matrix *w, const uint8_t *stream, int groups,
                            trit_strip *s) {
    const int quads = trit_quads(form);
    for (int g = 0; g < groups; g++, stream += w->group_bytes) {
        for (int b = 0; b < RZ_BLOCKS; b++) {
            lanes_b codes[RZ_QUADS];
            unpack_trits(form, stream, b, codes);
            RZ_UNROLL(8)
            for (int q = 0; q < quads; q++)
                lb_store(s->quads[g * quads + q][b], codes[q]);
        }
    }
}

/* A tile of `tokens` tokens x TILE_BLOCKS blocks over `quads` quads, added to sums[token][32]. */
RZ_INLINE void strip_tile(int tokens, const trit_strip *s, int block, int quads,
                          const int8_t *codes, int64_t stride, int32_t *sums) {
    lanes_i acc[TILE_BLOCKS][TILE_TOKENS];
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            acc[b][t] = li_load(sums + t * RZ_PANEL + (block + b) * RZ_LANES);
    }
    for (int q = 0; q < quads; q++) {
        lanes_b w[TILE_BLOCKS];
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            w[b] = lb_load(s->quads[q][block + b]);
        RZ_UNROLL(8)
        for (int t = 0; t < tokens; t++) {
            const lanes_a a = la_load(codes + t * stride + 4 * q);
            RZ_UNROLL(2)
            for (int b = 0; b < TILE_BLOCKS; b++)
                acc[b][t] = dot4(acc[b][t], w[b], a);
        }
    }
    RZ_UNROLL(8)
    for (int t = 0; t < tokens; t++) {
        RZ_UNROLL(2)
        for (int b = 0; b < TILE_BLOCKS; b++)
            li_store(sums + t * RZ_PANEL + (block + b) * RZ_LANES, acc[b][t]);
    }
}

/* Every token of a chunk over an unpacked strip; codes: of the first token, at the strip. */
static void strip_tokens(const trit_strip *s, int quads, const int8_t *codes, int64_t stride,
                         int tokens, int32_t *sums) {
    for (int done = 0; done < tokens;) {
        const int left = tokens - done;
        const int8_t *at = codes + done * stride;
        int32_t *to = sums + done * RZ_PANEL;
        for (int block = 0; block < RZ_BLOCKS; block += TILE_BLOCKS) {
            if (left >= TILE_TOKENS)
                strip_tile(TILE_TOKENS, s, block, quads, at, stride, to);
#if TILE_TOKENS > 2
            else if (left >= 3)
                strip_tile(3, s, block, quads, at, stride, to);
            else if (left == 2)
                strip_tile(2, s, block, quads, at, stride, to);
#endif
            else
                strip_tile(1, s, block, quads, at, stride, to);
        }
        done += left >= TILE_TOKENS ? TILE_TOKENS : TILE_TOKENS > 2 && left >= 3 ? 3 : left;
    }
}

/* One panel times a chunk of tokens: sums[token][32]. */
RZ_INLINE void matrix_panel(int form, const rz_matrix *w, const uint8_t *stream,
                            const rz_acts *acts, int64_t token, int tokens, int32_t *sums) {
    trit_strip s;
    const int quads = trit_quads(form), most = STRIP_QUADS / quads;
    const int8_t *codes = acts->codes + token * acts->stride;
    memset(sums, 0, (size_t)tokens * RZ_PANEL * sizeof(int32_t));
    for (int base = 0; base < w->groups; base += most) {
        const int groups = w->groups - base < most ? w->groups - base : most;
        unpack_strip(form, w, stream + (int64_t)base * w->group_bytes, groups, &s);
        strip_tokens(&s, groups * quads, codes + (int64_t)base * quads * 4, acts->stride, tokens,
                     sums);
    }
}

static void panel_sums(const rz_matrix *w, const uint8_t *stream, const rz_acts *acts,
                       int64_t token, int tokens, int32_t *sums) {
    if (tokens <= vector_tokens(w->form))
        for (int t = 0; t < tokens; t++)
            vector_panel(w, stream, acts, token + t, sums + t * RZ_PANEL);
    else if (w->form == RZ_TERNARY2)
        matrix_panel(RZ_TERNARY2, w, stream, acts, token, tokens, sums);
    else
        matrix_panel(RZ_TERNARY5, w, stream, acts, token, tokens, sums);
}

void rz_ternary(const rz_matrix *w, const rz_acts *acts, int32_t tokens, int32_t first,
                int32_t last, float *out, int64_t out_stride, const float *bias, int accumulate) {
    RZ_ALIGNED int32_t sums[TOKEN_CHUNK * RZ_PANEL];
    int32_t totals[TOKEN_CHUNK];
    const trit_output to = {out, out_stride, bias, accumulate};
    if (w->form == RZ_TERNARY3) {
        indexed_product(w, acts, tokens, first, last, &to);
        return;
    }
#ifdef RZ_HAS_LOOKUP
    if (w->lookup > 0 && tokens >= w->lookup && acts->work != NULL) {
        lookup_product(w, acts, tokens, first, last, &to);
        return;
    }
#endif
    for (int32_t token = 0; token < tokens; token += TOKEN_CHUNK) {
        const int count = tokens - token < TOKEN_CHUNK ? tokens - token : TOKEN_CHUNK;
        for (int t = 0; t < count; t++)
            totals[t] = token_sum(acts, token + t);
        for (int32_t p = first; p < last; p++) {
            panel_sums(w, w->codes + p * w->panel_bytes, acts, token, count, sums);
            for (int t = 0; t < count; t++)
                write_sums(&to, w, acts, token + t, p, sums + t * RZ_PANEL, totals[t]);
        }
    }
}
