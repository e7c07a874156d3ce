/* ternary_lookup.h: products for many tokens, above the peak of vpdpbusd. Included by ternary.c
 * alone.
 *
 * vpdpbusd keeps two of Zen 4's four vector pipes busy; vpermw (a table look-up for 32 rows) and
 * the addition of what it finds run on the other two. So the columns are mixed: 4 tokens x 64 rows
 * take, in one step, a quad of columns by vpdpbusd and three columns by look-up: 7 columns in
 * little more than the time of 4.
 *
 * The columns are cut into parts. For each part all tokens' tables are made once and stay in the
 * second-level cache, while the weights of two panels are decoded into the first-level cache and
 * meet one tile of tokens after the other. A table entry is c0 a0 + c1 a1 + c2 a2 with
 * codes 0 to 2, at most 762, so that 40 of them fit 16 bits.
 */
#ifndef RZ_TERNARY_LOOKUP_H
#define RZ_TERNARY_LOOKUP_H

#include "ternary.h"

enum {
    MIX_TOKENS = 4,
    MIX_TILES = 32,
    PAIR = 2,        /* panels that a tile of tokens meets at once */
    TRIPLES = 10,    /* most triples of quads in a part: 4 indices each */
    INDICES_OF = 4,  /* a quad's four columns */
    PART_QUADS = 72, /* most quads in a part: 4 to 3 between the two ways */
    DOT_QUADS = PART_QUADS - 3 * TRIPLES,
    SUM_PANELS = 128,
};

typedef uint16_t pair_indices[PAIR][RZ_PANEL];

/* A part of two panels, decoded. */
typedef struct {
    RZ_ALIGNED uint8_t quads[DOT_QUADS][PAIR][RZ_BLOCKS][RZ_QUAD_BYTES];
    RZ_ALIGNED pair_indices indices[TRIPLES * INDICES_OF]; /* row r of block b: 2 r + b */
} mix_slab;

typedef struct {
    RZ_ALIGNED int16_t tables[TRIPLES * INDICES_OF][MIX_TOKENS][32];
    RZ_ALIGNED int32_t words[DOT_QUADS][MIX_TOKENS]; /* four activations each */
} mix_tile;

typedef struct {
    RZ_ALIGNED int32_t sums[SUM_PANELS / PAIR][MIX_TILES][MIX_TOKENS][PAIR][RZ_PANEL];
    mix_tile tiles[MIX_TILES];
    mix_slab slab;
} mix_work;

_Static_assert(sizeof(mix_work) <= RZ_WORK_BYTES, "the work memory is too small");

/* A part: groups [first, first + groups) of the columns. */
typedef struct {
    int first, groups, quads, triples, dots;
} mix_part;

static mix_part part_of(const rz_matrix *w, int first, int groups) {
    const int quads = groups * trit_quads(w->form);
    const int triples = quads / 7 < TRIPLES ? quads / 7 : TRIPLES;
    return (mix_part){first, groups, quads, triples, quads - 3 * triples};
}

/* One step's products, and look-ups, for all tokens of a tile. */
#define MIX_DOTS(i)                                                                                \
    do {                                                                                           \
        const __m512i w[4] = {lb_load(slab->quads[i][0][0]), lb_load(slab->quads[i][0][1]),        \
                              lb_load(slab->quads[i][1][0]), lb_load(slab->quads[i][1][1])};       \
        RZ_UNROLL(4)                                                                               \
        for (int t = 0; t < MIX_TOKENS; t++) {                                                     \
            const __m512i a = _mm512_set1_epi32(tile->words[i][t]);                                \
            RZ_UNROLL(4)                                                                           \
            for (int b = 0; b < 4; b++)                                                            \
                dots[t][b] = _mm512_dpbusd_epi32(dots[t][b], w[b], a);                             \
        }                                                                                          \
    } while (0)
#define MIX_LOOKUPS(i)                                                                             \
    do {                                                                                           \
        const __m512i index[2] = {lb_load(slab->indices[i][0]), lb_load(slab->indices[i][1])};     \
        RZ_UNROLL(4)                                                                               \
        for (int t = 0; t < MIX_TOKENS; t++) {                                                     \
            const __m512i table = lb_load(tile->tables[i][t]);                                     \
            RZ_UNROLL(2)                                                                           \
            for (int p = 0; p < PAIR; p++)                                                         \
                found[t][p] =                                                                      \
                    _mm512_add_epi16(found[t][p], _mm512_permutexvar_epi16(index[p], table));      \
        }                                                                                          \
    } while (0)

/* Two panels' part for one tile, added to its sums. */
static void mix_pair(const mix_part *part, const mix_slab *slab, const mix_tile *tile,
                     int32_t (*sums)[PAIR][RZ_PANEL]) {
    const int lookups = part->triples * INDICES_OF;
    const int both = lookups < part->dots ? lookups : part->dots;
    __m512i dots[MIX_TOKENS][PAIR * RZ_BLOCKS], found[MIX_TOKENS][PAIR];
    RZ_UNROLL(4)
    for (int t = 0; t < MIX_TOKENS; t++) {
        RZ_UNROLL(4)
        for (int b = 0; b < PAIR * RZ_BLOCKS; b++)
            dots[t][b] = _mm512_setzero_si512();
        found[t][0] = found[t][1] = _mm512_setzero_si512();
    }
    for (int i = 0; i < both; i++) {
        MIX_DOTS(i);
        MIX_LOOKUPS(i);
    }
    for (int i = both; i < part->dots; i++)
        MIX_DOTS(i);
    for (int i = both; i < lookups; i++)
        MIX_LOOKUPS(i);
    RZ_UNROLL(4)
    for (int t = 0; t < MIX_TOKENS; t++) {
        RZ_UNROLL(2)
        for (int p = 0; p < PAIR; p++) {
            const __m512i even = _mm512_srai_epi32(_mm512_slli_epi32(found[t][p], 16), 16);
            const __m512i odd = _mm512_srai_epi32(found[t][p], 16);
            const __m512i low = _mm512_add_epi32(dots[t][2 * p], even);
            const __m512i high = _mm512_add_epi32(dots[t][2 * p + 1], odd);
            int32_t *to = sums[t][p];
            li_store(to, _mm512_add_epi32(low, li_load(to)));
            li_store(to + RZ_LANES, _mm512_add_epi32(high, li_load(to + RZ_LANES)));
        }
    }
}

/* Decoded quads of both blocks: the first ones stay as they are, triples of the others become
 * indices. */
RZ_INLINE void decode_slab(int form, const rz_matrix *w, const uint8_t *stream,
                           const mix_part *part, int p, mix_slab *slab) {
    RZ_ALIGNED uint8_t rest[3 * TRIPLES][RZ_BLOCKS][RZ_QUAD_BYTES];
    const int quads = trit_quads(form);
    for (int g = 0; g < part->groups; g++, stream += w->group_bytes) {
        for (int line = 0; line < w->group_bytes; line += 64)
            RZ_PREFETCH(stream + PAIR * w->panel_bytes + line);
        for (int b = 0; b < RZ_BLOCKS; b++) {
            lanes_b codes[RZ_QUADS];
            unpack_trits(form, stream, b, codes);
            RZ_UNROLL(8)
            for (int q = 0; q < quads; q++) {
                const int at = g * quads + q;
                lb_store(at < part->dots ? slab->quads[at][p][b] : rest[at - part->dots][b],
                         codes[q]);
            }
        }
    }
    const __mmask32 odd = 0xaaaaaaaa;
    for (int n = 0; n < part->triples; n++) {
        __m512i index[RZ_BLOCKS];
        for (int b = 0; b < RZ_BLOCKS; b++) {
            index[b] = lb_load(rest[3 * n + 2][b]);
            for (int j = 1; j >= 0; j--) {
                const __m512i twice = lb_add(index[b], index[b]);
                index[b] = lb_add(lb_add(twice, index[b]), lb_load(rest[3 * n + j][b]));
            }
        }
        const __m512i low = _mm512_mask_blend_epi16(odd, index[0], _mm512_slli_epi32(index[1], 16));
        const __m512i high =
            _mm512_mask_blend_epi16(odd, _mm512_srli_epi32(index[0], 16), index[1]);
        pair_indices *to = slab->indices + INDICES_OF * n;
        lb_store(to[0][p], low);
        lb_store(to[1][p], _mm512_srli_epi16(low, 8));
        lb_store(to[2][p], high);
        lb_store(to[3][p], _mm512_srli_epi16(high, 8));
    }
}

/* Codes 0, 1, 2 of each of the 27 entries: of the first two columns in pairs, and of the third. */
static void table_codes(__m512i *pair, __m512i *third) {
    RZ_ALIGNED uint8_t two[64], one[64];
    for (int i = 0; i < 32; i++) {
        two[2 * i] = (uint8_t)(i % 3);
        two[2 * i + 1] = (uint8_t)(i / 3 % 3);
        one[2 * i] = (uint8_t)(i / 9 % 3);
        one[2 * i + 1] = 0;
    }
    *pair = lb_load(two);
    *third = lb_load(one);
}

/* Words and tables of one token's part. */
static void prepare_token(const mix_part *part, const int8_t *a, int t, __m512i pair, __m512i third,
                          mix_tile *tile) {
    for (int q = 0; q < part->dots; q++)
        memcpy(&tile->words[q][t], a + 4 * q, 4);
    a += 4 * part->dots;
    for (int i = 0; i < part->triples * INDICES_OF; i++) {
        const int8_t *k = a + i / INDICES_OF * 12 + i % INDICES_OF;
        const int first = (uint8_t)k[0] | (uint8_t)k[4] << 8;
        const __m512i two = _mm512_maddubs_epi16(pair, _mm512_set1_epi16((short)first));
        const __m512i one = _mm512_maddubs_epi16(third, _mm512_set1_epi16((uint8_t)k[8]));
        lb_store(tile->tables[i][t], _mm512_add_epi16(two, one));
    }
}

static void prepare_tiles(const rz_matrix *w, const rz_acts *acts, int64_t token, int tokens,
                          const mix_part *part, mix_work *work) {
    const int64_t base = (int64_t)part->first * trit_quads(w->form) * 4;
    const int64_t left = acts->stride - base, bytes = 4 * part->quads;
    __m512i pair, third;
    table_codes(&pair, &third);
    for (int t = 0; t < (tokens + MIX_TOKENS - 1) / MIX_TOKENS * MIX_TOKENS; t++) {
        int8_t padded[4 * PART_QUADS] = {0};
        const int8_t *a = padded;
        if (t < tokens)
            a = acts->codes + (token + t) * acts->stride + base;
        if (t < tokens && left < bytes)
            a = memcpy(padded, a, (size_t)left);
        prepare_token(part, a, t % MIX_TOKENS, pair, third, &work->tiles[t / MIX_TOKENS]);
    }
}

/* Decodes a part of the pair of panels at p; the second may not be there. */
static void decode_pair(const rz_matrix *w, int32_t p, int32_t last, const mix_part *part,
                        mix_slab *slab) {
    for (int i = 0; i < PAIR && p + i < last; i++) {
        const uint8_t *stream =
            w->codes + (p + i) * w->panel_bytes + (int64_t)part->first * w->group_bytes;
        if (w->form == RZ_TERNARY2)
            decode_slab(RZ_TERNARY2, w, stream, part, i, slab);
        else
            decode_slab(RZ_TERNARY5, w, stream, part, i, slab);
    }
}

/* Panels [first, last), at most SUM_PANELS, times a chunk of tokens; sums are left in work. */
static void mix_sums(const rz_matrix *w, const rz_acts *acts, int64_t token, int tokens,
                     int32_t first, int32_t last, mix_work *work) {
    const int most = PART_QUADS / trit_quads(w->form), parts = (w->groups + most - 1) / most;
    const int size = (w->groups + parts - 1) / parts,
              tiles = (tokens + MIX_TOKENS - 1) / MIX_TOKENS;
    const int pairs = (last - first + PAIR - 1) / PAIR;
    memset(work->sums, 0, (size_t)pairs * sizeof work->sums[0]);
    for (int base = 0; base < w->groups; base += size) {
        const mix_part part = part_of(w, base, w->groups - base < size ? w->groups - base : size);
        prepare_tiles(w, acts, token, tokens, &part, work);
        for (int pair = 0; pair < pairs; pair++) {
            decode_pair(w, first + PAIR * pair, last, &part, &work->slab);
            for (int tile = 0; tile < tiles; tile++)
                mix_pair(&part, &work->slab, &work->tiles[tile], work->sums[pair][tile]);
        }
    }
}

static void lookup_product(const rz_matrix *w, const rz_acts *acts, int32_t tokens, int32_t first,
                           int32_t last, const trit_output *to) {
    mix_work *work = (mix_work *)(void *)acts->work;
    for (int32_t token = 0; token < tokens; token += MIX_TILES * MIX_TOKENS) {
        const int left = tokens - token;
        const int count = left < MIX_TILES * MIX_TOKENS ? left : MIX_TILES * MIX_TOKENS;
        for (int32_t p = first; p < last; p += SUM_PANELS) {
            const int32_t end = last - p < SUM_PANELS ? last : p + SUM_PANELS;
            mix_sums(w, acts, token, count, p, end, work);
            for (int t = 0; t < count; t++) {
                const int32_t total = token_sum(acts, token + t);
                for (int i = 0; i < end - p; i++)
                    write_sums(to, w, acts, token + t, p + i,
                               work->sums[i / PAIR][t / MIX_TOKENS][t % MIX_TOKENS][i % PAIR],
                               total);
            }
        }
    }
}

#endif
