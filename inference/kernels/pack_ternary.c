/* pack_ternary.c: codes 0, 1, 2 of a row into the panels of the ternary forms (panel.h). */
#include <string.h>

#include "panel.h"
#include "rows.h"
#include "trits.h"

/* Four codes of one quad, one a byte. */
static uint32_t quad_of(const uint8_t *codes, int q) {
    uint32_t quad;
    memcpy(&quad, codes + 4 * q, 4);
    return quad;
}

static void put_two_bits(const uint8_t *codes, int row, uint8_t *group) {
    for (int half = 0; half < 2; half++) {
        const uint8_t *from = codes + 16 * half;
        const uint32_t four = quad_of(from, 0) | quad_of(from, 1) << 2 | quad_of(from, 2) << 4 |
                              quad_of(from, 3) << 6;
        memcpy(group + (2 * half + row / RZ_LANES) * RZ_QUAD_BYTES + 4 * (row % RZ_LANES), &four,
               4);
    }
}

/* The smallest fraction of 256 whose first five digits in base 3 are these: as TQ1_0 does it. */
static void put_five(const uint8_t *codes, int row, uint8_t *group) {
    uint8_t *to = group + row / RZ_LANES * RZ_QUAD_BYTES + 4 * (row % RZ_LANES);
    for (int k = 0; k < 4; k++) {
        unsigned value = 0;
        for (int q = 0; q < 5; q++)
            value = value * 3 + codes[4 * q + k];
        to[k] = (uint8_t)((value * 256 + 242) / 243);
    }
}

static void put_indices(const uint8_t *codes, int row, uint8_t *group) {
    unsigned word = 0;
    for (int j = 0; j < 3; j++)
        word |= (unsigned)(codes[3 * j] + 3 * codes[3 * j + 1] + 9 * codes[3 * j + 2]) << (5 * j);
    group[2 * row] = (uint8_t)word;
    group[2 * row + 1] = (uint8_t)(word >> 8);
}

void rz_put_trits(const rz_matrix *w, int32_t row, const uint8_t *codes, uint8_t *panels) {
    const int32_t cols = rz_group_cols(w->form), lane = row % RZ_PANEL;
    uint8_t *group = panels + row / RZ_PANEL * w->panel_bytes;
    for (int32_t g = 0; g < w->groups; g++, codes += cols, group += w->group_bytes) {
        if (w->form == RZ_TERNARY2)
            put_two_bits(codes, lane, group);
        else if (w->form == RZ_TERNARY5)
            put_five(codes, lane, group);
        else
            put_indices(codes, lane, group);
    }
}

/* `codes`: room for a row of whole groups; what lies past cols is 0, which adds nothing. */
int rz_pack_trits(const rz_matrix *w, int32_t source, const uint8_t *data, int32_t first,
                  int32_t last, uint8_t *codes, uint8_t *panels) {
    memset(codes, 0, (size_t)w->groups * (size_t)rz_group_cols(w->form));
    for (int32_t row = first; row < last; row++) {
        if (rz_trits_row(source, data, w->rows, w->cols, row, codes) != 0)
            return RZ_PACK_RANGE;
        rz_put_trits(w, row, codes, panels);
    }
    return RZ_PACK_OK;
}

int rz_pack_absmean(const rz_matrix *w, int32_t dtype, const uint8_t *data, float scale,
                    int32_t first, int32_t last, uint8_t *codes, uint8_t *panels) {
    const int64_t row_bytes = rz_source_row_bytes(dtype, w->cols);
    memset(codes, 0, (size_t)w->groups * (size_t)rz_group_cols(w->form));
    for (int32_t row = first; row < last; row++) {
        if (rz_absmean_row(dtype, data + row * row_bytes, w->cols, scale, codes) != 0)
            return RZ_PACK_RANGE;
        rz_put_trits(w, row, codes, panels);
    }
    return RZ_PACK_OK;
}
