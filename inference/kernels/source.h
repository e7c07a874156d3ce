/* source.h: groups of 32 weights out of GGUF's blocks (ggml-common.h) and dense tensors, as codes
 * and scales.
 *
 *     Q4_0  d qs[16]                         Q4_1  d m qs[16]
 *     Q5_0  d qh[4] qs[16]                   Q5_1  d m qh[4] qs[16]             Q8_0  d qs[32]
 *     Q4_K  d dmin scales[12] qs[128]        Q5_K  d dmin scales[12] qh[32] qs[128]
 *     Q6_K  ql[128] qh[64] scales[16] d      d, m, dmin are fp16; K types hold 256 weights, the
 * others 32; TQ1_0 and TQ2_0 (trits.h) are codes 7, 8, 9 of an int4 with their block's scale
 */
#ifndef RZ_SOURCE_H
#define RZ_SOURCE_H

#include "half.h"
#include "panel.h"
#include "rows.h"
#include "trits.h"

/* One group: codes as panel.h stores them, or values where the source is dense. */
typedef struct {
    uint8_t codes[RZ_GROUP];
    float first, second; /* scale; minimum, or scale of the second half */
    float values[RZ_GROUP];
} source_group;

static inline uint16_t load_half_bits(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}
static inline float load_half(const uint8_t *p) {
    return rz_half_to_float(load_half_bits(p));
}

/* Q4_0, Q4_1: weight j is the low nibble of byte j, weight j + 16 the high one. */
static inline void nibbles(const uint8_t *qs, uint8_t *codes) {
    for (int j = 0; j < 16; j++) {
        codes[j] = qs[j] & 15;
        codes[j + 16] = qs[j] >> 4;
    }
}

/* Adds bit 4 of each code from a 32-bit word. */
static inline void fifth_bits(const uint8_t *qh, uint8_t *codes) {
    for (int j = 0; j < RZ_GROUP; j++)
        codes[j] |= (uint8_t)((qh[j / 8] >> (j % 8) & 1) << 4);
}

/* The 6-bit scale and minimum of group g of a Q4_K or Q5_K block. */
static inline void k_scales(const uint8_t *block, int g, source_group *out) {
    const uint8_t *s = block + 4;
    int scale, minimum;
    if (g < 4) {
        scale = s[g] & 63;
        minimum = s[g + 4] & 63;
    } else {
        scale = (s[g + 4] & 15) | s[g - 4] >> 6 << 4;
        minimum = s[g + 4] >> 4 | s[g] >> 6 << 4;
    }
    out->first = load_half(block) * (float)scale;
    out->second = -load_half(block + 2) * (float)minimum;
}

/* Q4_K, Q5_K: 32 bytes hold two groups, the even one in the low nibbles. */
static inline void k_nibbles(const uint8_t *qs, int g, uint8_t *codes) {
    const uint8_t *bytes = qs + 32 * (g / 2);
    for (int j = 0; j < RZ_GROUP; j++)
        codes[j] = bytes[j] >> (4 * (g % 2)) & 15;
}

static inline void q6_group(const uint8_t *block, int g, source_group *out) {
    const int half = g / 4, j = g % 4;
    const uint8_t *ql = block + 64 * half + 32 * (j & 1), *qh = block + 128 + 32 * half;
    const int8_t *scales = (const int8_t *)(block + 192) + 8 * half + 2 * j;
    for (int i = 0; i < RZ_GROUP; i++)
        out->codes[i] = (uint8_t)((ql[i] >> (4 * (j >> 1)) & 15) | (qh[i] >> (2 * j) & 3) << 4);
    const float d = load_half(block + 208);
    out->first = d * (float)scales[0];
    out->second = d * (float)scales[1];
}

/* TQ1_0, TQ2_0: 0, or a status where a byte holds no trits or the scale is not finite. The whole
 * block is decoded for each group; only an embedding ever comes this way. */
static inline int tq_group(int32_t source, const uint8_t *row, int64_t g, source_group *out) {
    const int bytes = source == RZ_TRITS_TQ1_0 ? 54 : 66;
    const uint8_t *block = row + g / 8 * bytes;
    uint8_t codes[256];
    if (rz_trits_row(source, block, 1, 256, 0, codes) != RZ_TRITS_OK)
        return RZ_PACK_CODE;
    for (int j = 0; j < RZ_GROUP; j++)
        out->codes[j] = (uint8_t)(codes[g % 8 * RZ_GROUP + j] + 7);
    const uint16_t scale = load_half_bits(block + bytes - 2);
    out->first = rz_half_to_float(scale);
    return (scale & 0x7c00u) == 0x7c00u ? RZ_PACK_RANGE : RZ_PACK_OK;
}

/* Group g of a quantised row; RZ_PACK_OK, or a status of a ternary one. */
static inline int quantized_source(int32_t source, const uint8_t *row, int64_t g,
                                   source_group *out) {
    const uint8_t *block;
    const int in = (int)(g % 8);
    out->second = 0.0f;
    switch (source) {
    case RZ_SRC_Q4_0:
        block = row + g * 18;
        nibbles(block + 2, out->codes);
        out->first = load_half(block);
        break;
    case RZ_SRC_Q4_1:
        block = row + g * 20;
        nibbles(block + 4, out->codes);
        out->first = load_half(block);
        out->second = load_half(block + 2);
        break;
    case RZ_SRC_Q5_0:
        block = row + g * 22;
        nibbles(block + 6, out->codes);
        fifth_bits(block + 2, out->codes);
        out->first = load_half(block);
        break;
    case RZ_SRC_Q5_1:
        block = row + g * 24;
        nibbles(block + 8, out->codes);
        fifth_bits(block + 4, out->codes);
        out->first = load_half(block);
        out->second = load_half(block + 2);
        break;
    case RZ_SRC_Q8_0:
        block = row + g * 34;
        for (int j = 0; j < RZ_GROUP; j++)
            out->codes[j] = block[2 + j] ^ 0x80;
        out->first = load_half(block);
        break;
    case RZ_SRC_Q4_K:
        block = row + g / 8 * 144;
        k_nibbles(block + 16, in, out->codes);
        k_scales(block, in, out);
        break;
    case RZ_SRC_Q5_K:
        block = row + g / 8 * 176;
        k_nibbles(block + 48, in, out->codes);
        for (int j = 0; j < RZ_GROUP; j++)
            out->codes[j] |= (uint8_t)((block[16 + j] >> in & 1) << 4);
        k_scales(block, in, out);
        break;
    case RZ_SRC_TQ1_0:
    case RZ_SRC_TQ2_0:
        return tq_group(source, row, g, out);
    default:
        q6_group(row + g / 8 * 210, in, out);
    }
    return RZ_PACK_OK;
}

/* Values of group g of a dense row; those past cols are zero. */
static inline void dense_source(int32_t source, const uint8_t *row, int64_t g, int32_t cols,
                                float *values) {
    const int64_t at = g * RZ_GROUP;
    for (int i = 0; i < RZ_GROUP; i++) {
        values[i] = 0.0f;
        if (at + i >= cols)
            continue;
        if (source == RZ_SRC_F32)
            memcpy(values + i, row + 4 * (at + i), 4);
        else if (source == RZ_SRC_F16)
            values[i] = load_half(row + 2 * (at + i));
        else
            values[i] = rz_bfloat_to_float(load_half_bits(row + 2 * (at + i)));
    }
}

#endif
