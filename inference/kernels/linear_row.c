/* linear_row.c: one dequantised row of a packed matrix, for embedding look-ups; the same code on
 * every machine. */
#include "half.h"
#include "panel.h"
#include "rows.h"

/* Code of row lane, quad q, element i of a block; of SPLIT8 `high` is its low plane. */
static int32_t code_at(int32_t form, const uint8_t *codes, const uint8_t *high, int lane, int q,
                       int i) {
    const int in_quad = lane * 4 + i, at = (q & 3) * RZ_QUAD_BYTES + in_quad;
    if (form == RZ_INT8)
        return codes[q * RZ_QUAD_BYTES + in_quad];
    if (form == RZ_SPLIT8)
        return (codes[at] >> (q & 4) & 15) << 4 | (high[at] >> (q & 4) & 15);
    const int32_t low = codes[at] >> (q & 4) & 15;
    if (form == RZ_INT5)
        return low | (high[in_quad] >> q & 1) << 4;
    if (form == RZ_INT6)
        return low | (high[(q >> 2) * RZ_QUAD_BYTES + in_quad] >> (2 * (q & 3)) & 3) << 4;
    return low;
}

static void quantized_group(const rz_matrix *w, const uint8_t *group, const uint8_t *low, int row,
                            float *out) {
    const int block = row / RZ_LANES, lane = row % RZ_LANES, form = w->form;
    const uint8_t *codes = group + block * rz_code_bytes(form);
    const uint8_t *high =
        form == RZ_SPLIT8 ? low + block * rz_code_bytes(form)
                          : group + RZ_BLOCKS * rz_code_bytes(form) + block * rz_high_bytes(form);
    const uint16_t *scales = (const uint16_t *)(const void *)(group + rz_scale_offset(form));
    const float first = rz_half_to_float(scales[row]);
    const float other =
        w->scale == RZ_SCALE_GROUP ? first : rz_half_to_float(scales[RZ_PANEL + row]);
    const int32_t zero = rz_zero(form, w->scale);
    for (int k = 0; k < RZ_GROUP; k++) {
        const float value = (float)(code_at(form, codes, high, lane, k / 4, k % 4) - zero);
        if (w->scale == RZ_SCALE_MIN)
            out[k] = first * value + other;
        else
            out[k] = (w->scale == RZ_SCALE_HALF && k >= RZ_GROUP / 2 ? other : first) * value;
    }
}

static int32_t trit_at(int32_t form, const uint8_t *group, int row, int k) {
    if (form == RZ_TERNARY3) {
        const int32_t word = group[2 * row] | group[2 * row + 1] << 8;
        const int32_t powers[] = {1, 3, 9};
        return (word >> (5 * (k / 3)) & 31) / powers[k % 3] % 3;
    }
    const int block = row / RZ_LANES, at = 4 * (row % RZ_LANES) + k % 4;
    if (form == RZ_TERNARY2)
        return group[(2 * (k / 16) + block) * RZ_QUAD_BYTES + at] >> (2 * (k / 4 % 4)) & 3;
    int32_t fraction = group[block * RZ_QUAD_BYTES + at];
    for (int j = 0; j < k / 4; j++)
        fraction = fraction * 3 & 255;
    return fraction * 3 >> 8;
}

static void ternary_row(const rz_matrix *w, int32_t row, float *out) {
    const uint8_t *panel = w->codes + row / RZ_PANEL * w->panel_bytes;
    const int32_t cols = rz_group_cols(w->form);
    for (int32_t k = 0; k < w->cols; k++) {
        const uint8_t *group = panel + (int64_t)(k / cols) * w->group_bytes;
        out[k] = w->tensor_scale * (float)(trit_at(w->form, group, row % RZ_PANEL, k % cols) - 1);
    }
}

static void dense_group(const uint8_t *group, int row, float *out) {
    const float *weights = (const float *)(const void *)group;
    for (int k = 0; k < RZ_GROUP; k++)
        out[k] = weights[(row / RZ_LANES * RZ_GROUP + k) * RZ_LANES + row % RZ_LANES];
}

void rz_matrix_row(const rz_matrix *w, int32_t row, float *out) {
    if (rz_is_ternary(w->form)) {
        ternary_row(w, row, out);
        return;
    }
    const uint8_t *panel = w->codes + row / RZ_PANEL * w->panel_bytes;
    for (int32_t g = 0; g < w->groups; g++, panel += w->group_bytes) {
        const uint8_t *low = w->form == RZ_SPLIT8 ? w->codes + rz_low_offset(w, row / RZ_PANEL) +
                                                        (int64_t)g * RZ_LOW_BYTES
                                                  : NULL;
        float values[RZ_GROUP];
        if (w->form == RZ_F32)
            dense_group(panel, row % RZ_PANEL, values);
        else
            quantized_group(w, panel, low, row % RZ_PANEL, values);
        const int32_t left = w->cols - g * RZ_GROUP;
        memcpy(out + (int64_t)g * RZ_GROUP, values,
               sizeof(float) * (size_t)(left < RZ_GROUP ? left : RZ_GROUP));
    }
}
