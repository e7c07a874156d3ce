/* repack.c: source tensors to packed panels (panel.h), group by group, never a whole tensor in
 * float.
 *
 * Where the layout asked for is the source's own, codes move unchanged and only scales are rounded
 * to fp16 (and those of GGUF are fp16 already, but for the K types' products of fp16 with a 4 to
 * 8-bit integer). Otherwise a group is dequantised and quantised anew: int8 by absmax / 127, int4
 * by its range / 15.
 */
#include <math.h>

#include "source.h"

static int is_dense(int32_t source) {
    return source == RZ_SRC_F32 || source == RZ_SRC_F16 || source == RZ_SRC_BF16;
}

int64_t rz_source_row_bytes(int32_t source, int32_t cols) {
    static const struct {
        int32_t source, weights, bytes;
    } blocks[] = {
        {RZ_SRC_F32, 1, 4},      {RZ_SRC_F16, 1, 2},      {RZ_SRC_BF16, 1, 2},
        {RZ_SRC_Q4_0, 32, 18},   {RZ_SRC_Q4_1, 32, 20},   {RZ_SRC_Q5_0, 32, 22},
        {RZ_SRC_Q5_1, 32, 24},   {RZ_SRC_Q8_0, 32, 34},   {RZ_SRC_Q4_K, 256, 144},
        {RZ_SRC_Q5_K, 256, 176}, {RZ_SRC_Q6_K, 256, 210}, {RZ_SRC_TQ1_0, 256, 54},
        {RZ_SRC_TQ2_0, 256, 66},
    };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        if (blocks[i].source != source)
            continue;
        return cols % blocks[i].weights ? -1
                                        : (int64_t)(cols / blocks[i].weights) * blocks[i].bytes;
    }
    return -1;
}

void rz_source_layout(int32_t source, int32_t *form, int32_t *scale) {
    *scale = RZ_SCALE_GROUP;
    switch (source) {
    case RZ_SRC_Q4_0:
    case RZ_SRC_TQ1_0:
    case RZ_SRC_TQ2_0:
        *form = RZ_INT4;
        break;
    case RZ_SRC_Q5_0:
        *form = RZ_INT5;
        break;
    case RZ_SRC_Q8_0:
        *form = RZ_INT8;
        break;
    case RZ_SRC_Q4_1:
    case RZ_SRC_Q4_K:
        *form = RZ_INT4;
        *scale = RZ_SCALE_MIN;
        break;
    case RZ_SRC_Q5_1:
    case RZ_SRC_Q5_K:
        *form = RZ_INT5;
        *scale = RZ_SCALE_MIN;
        break;
    case RZ_SRC_Q6_K:
        *form = RZ_INT6;
        *scale = RZ_SCALE_HALF;
        break;
    default:
        *form = RZ_F32;
        *scale = RZ_SCALE_NONE;
    }
}

static void dequantize_group(int32_t form, int32_t scale, source_group *group) {
    const float zero = (float)rz_zero(form, scale);
    for (int k = 0; k < RZ_GROUP; k++) {
        const float code = (float)group->codes[k] - zero;
        if (scale == RZ_SCALE_MIN)
            group->values[k] = group->first * code + group->second;
        else
            group->values[k] =
                (scale == RZ_SCALE_HALF && k >= RZ_GROUP / 2 ? group->second : group->first) * code;
    }
}

static uint8_t clamp_code(float value, float most) {
    return (uint8_t)(value < 0.0f ? 0.0f : value > most ? most : value);
}

/* int8: scale absmax / 127, rounded to fp16 before the codes are chosen. */
static void quantize_int8(source_group *group) {
    float absmax = 0.0f;
    for (int k = 0; k < RZ_GROUP; k++)
        absmax = fmaxf(absmax, fabsf(group->values[k]));
    group->first = rz_half_to_float(rz_float_to_half(absmax / 127.0f));
    const float inverse = group->first > 0.0f ? 1.0f / group->first : 0.0f;
    for (int k = 0; k < RZ_GROUP; k++)
        group->codes[k] = clamp_code(rintf(group->values[k] * inverse) + 128.0f, 255.0f);
}

/* int4: scale and minimum of the range of the `count` values that exist. */
static void quantize_int4(source_group *group, int count) {
    float low = group->values[0], high = low;
    for (int k = 1; k < count; k++) {
        low = fminf(low, group->values[k]);
        high = fmaxf(high, group->values[k]);
    }
    group->second = rz_half_to_float(rz_float_to_half(low));
    group->first = rz_half_to_float(rz_float_to_half((high - group->second) / 15.0f));
    const float inverse = group->first > 0.0f ? 1.0f / group->first : 0.0f;
    for (int k = 0; k < RZ_GROUP; k++)
        group->codes[k] = clamp_code(rintf((group->values[k] - group->second) * inverse), 15.0f);
}

/* Scatters a group's codes into its panel, four bytes (a quad of one row) at a time. */
static void put_quads(int32_t form, const uint8_t *codes, int row, uint8_t *panel) {
    const int block = row / RZ_LANES, lane = row % RZ_LANES;
    uint8_t *low = panel + block * rz_code_bytes(form) + 4 * lane;
    uint32_t quads[RZ_QUADS];
    memcpy(quads, codes, sizeof quads);
    if (form == RZ_INT8) {
        for (int q = 0; q < RZ_QUADS; q++)
            memcpy(low + q * RZ_QUAD_BYTES, quads + q, 4);
        return;
    }
    const uint32_t nibble = 0x0f0f0f0fu;
    for (int q = 0; q < 4; q++) {
        const uint32_t both = (quads[q] & nibble) | (quads[q + 4] & nibble) << 4;
        memcpy(low + q * RZ_QUAD_BYTES, &both, 4);
    }
    uint8_t *high =
        panel + RZ_BLOCKS * rz_code_bytes(form) + block * rz_high_bytes(form) + 4 * lane;
    uint32_t bits[2] = {0, 0};
    if (form == RZ_INT5) {
        for (int q = 0; q < RZ_QUADS; q++)
            bits[0] |= (quads[q] >> 4 & 0x01010101u) << q;
        memcpy(high, bits, 4);
    }
    if (form == RZ_INT6) {
        for (int q = 0; q < RZ_QUADS; q++)
            bits[q / 4] |= (quads[q] >> 4 & 0x03030303u) << (2 * (q % 4));
        memcpy(high, bits, 4);
        memcpy(high + RZ_QUAD_BYTES, bits + 1, 4);
    }
}

/* `low`: the group in the low plane of SPLIT8. */
static void put_codes(int32_t form, const uint8_t *codes, int row, uint8_t *panel, uint8_t *low) {
    if (form != RZ_SPLIT8) {
        put_quads(form, codes, row, panel);
        return;
    }
    uint8_t nibbles[RZ_GROUP];
    for (int k = 0; k < RZ_GROUP; k++)
        nibbles[k] = codes[k] >> 4;
    put_quads(RZ_INT4, nibbles, row, panel);
    for (int k = 0; k < RZ_GROUP; k++)
        nibbles[k] = codes[k] & 15;
    put_quads(RZ_INT4, nibbles, row, low);
}

static int put_scale(float value, uint8_t *to) {
    const uint16_t half = rz_float_to_half(value);
    memcpy(to, &half, 2);
    return (half & 0x7c00u) == 0x7c00u ? RZ_PACK_RANGE : RZ_PACK_OK;
}

static void put_dense(const float *values, int row, uint8_t *panel) {
    const int block = row / RZ_LANES, lane = row % RZ_LANES;
    for (int k = 0; k < RZ_GROUP; k++)
        memcpy(panel + 4 * ((block * RZ_GROUP + k) * RZ_LANES + lane), values + k, 4);
}

/* Group g of one source row into its place. */
static int pack_group(const rz_matrix *w, int32_t source, int own, const uint8_t *data, int32_t g,
                      int row, uint8_t *panel, uint8_t *low) {
    source_group group;
    if (is_dense(source)) {
        dense_source(source, data, g, w->cols, group.values);
    } else {
        int32_t form, scale;
        const int status = quantized_source(source, data, g, &group);
        if (status != RZ_PACK_OK)
            return status;
        rz_source_layout(source, &form, &scale);
        if (!own)
            dequantize_group(form, scale, &group);
    }
    if (w->form == RZ_F32) {
        put_dense(group.values, row, panel);
        return RZ_PACK_OK;
    }
    if (!own) {
        for (int k = 0; k < RZ_GROUP; k++)
            if (!isfinite(group.values[k]))
                return RZ_PACK_RANGE;
        const int32_t left = w->cols - g * RZ_GROUP;
        if (rz_is_wide(w->form))
            quantize_int8(&group);
        else
            quantize_int4(&group, left < RZ_GROUP ? left : RZ_GROUP);
    }
    put_codes(w->form, group.codes, row, panel, low);
    uint8_t *scales = panel + rz_scale_offset(w->form);
    int status = put_scale(group.first, scales + 2 * row);
    if (w->scale != RZ_SCALE_GROUP && status == RZ_PACK_OK)
        status = put_scale(group.second, scales + 2 * (RZ_PANEL + row));
    return status;
}

int rz_pack_panels(const rz_matrix *w, int32_t source, const uint8_t *data, int32_t first,
                   int32_t last, uint8_t *codes) {
    const int64_t row_bytes = rz_source_row_bytes(source, w->cols);
    if (row_bytes < 0)
        return RZ_PACK_SOURCE;
    int32_t form, scale;
    rz_source_layout(source, &form, &scale);
    const int32_t own_form = w->form == RZ_SPLIT8 ? RZ_INT8 : w->form;
    const int own = !is_dense(source) && form == own_form && scale == w->scale;
    const int can_requantize = (rz_is_wide(w->form) && w->scale == RZ_SCALE_GROUP) ||
                               (w->form == RZ_INT4 && w->scale == RZ_SCALE_MIN) ||
                               w->form == RZ_F32;
    if (!own && !can_requantize)
        return RZ_PACK_SOURCE;
    for (int32_t p = first; p < last; p++) {
        uint8_t *panel = codes + p * w->panel_bytes;
        uint8_t *low = w->form == RZ_SPLIT8 ? codes + rz_low_offset(w, p) : NULL;
        memset(panel, 0, (size_t)w->panel_bytes);
        if (low != NULL)
            memset(low, 0, (size_t)w->groups * RZ_LOW_BYTES);
        for (int row = 0; row < RZ_PANEL && p * RZ_PANEL + row < w->rows; row++) {
            const uint8_t *from = data + (int64_t)(p * RZ_PANEL + row) * row_bytes;
            for (int32_t g = 0; g < w->groups; g++) {
                const int status =
                    pack_group(w, source, own, from, g, row, panel + (int64_t)g * w->group_bytes,
                               low == NULL ? NULL : low + (int64_t)g * RZ_LOW_BYTES);
                if (status != RZ_PACK_OK)
                    return status;
            }
        }
    }
    return RZ_PACK_OK;
}
