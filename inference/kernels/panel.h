/* panel.h: the byte layout of a packed matrix, shared by packing and by the kernels.
 *
 * A panel is 32 rows, cut into groups of 32 weights a row; groups follow each other in one stream,
 * so that a matrix-vector product reads memory strictly forwards. A group of a panel is two blocks
 * of 16 rows:
 *
 *     INT8  2 x 512 codes       byte [block][quad 0..7][row 0..15][k 0..3] = w + 128
 *     INT4  2 x 256 codes       byte [block][quad 0..3][row][k]: quad | (quad + 4) << 4
 *     INT5  INT4 + 2 x 64       byte [block][row][k]: bit q is bit 4 of quad q
 *     INT6  INT4 + 2 x 128      byte [block][quad / 4][row][k]: bits 2 (quad % 4), two of them
 *     F32   2048 floats         [block][k 0..31][row 0..15]
 *     SPLIT8  the high nibbles of INT8's codes as INT4, with their scales; behind the last panel
 *             all low nibbles as INT4 without scales
 *
 * A quad is four consecutive k: the 32-bit lane that vpdpbusd multiplies with four activations.
 * Behind the codes:
 *
 *     SCALE_GROUP  32 fp16 scales                 SCALE_MIN  32 fp16 scales, 32 fp16 minima
 *     SCALE_HALF   32 fp16 scales of k 0..15, then 32 of k 16..31
 *
 * Ternary codes are w + 1, a group has no scales, and its size depends on the form:
 *
 *     TERNARY2  32 k, [half][block][row][k]: bits 2j hold quad j of the half
 *     TERNARY5  20 k, [block][row][k]: five quads as a fraction x / 256 in base 3: floor(3x / 256)
 *               is quad 0, 3x mod 256 the fraction of the others. Columns of padding hold 0, not 1.
 *     TERNARY3  9 k, [row 0..31] 16-bit words: bits 5j hold c0 + 3 c1 + 9 c2 of k 3j, 3j + 1, 3j +
 * 2
 */
#ifndef RZ_PANEL_H
#define RZ_PANEL_H

#include "rz.h"

#define RZ_LANES 16 /* rows in a block */
#define RZ_BLOCKS (RZ_PANEL / RZ_LANES)
#define RZ_QUADS (RZ_GROUP / 4)
#define RZ_QUAD_BYTES 64 /* one quad of a block */

static inline int rz_is_ternary(int32_t form) {
    return form >= RZ_TERNARY2 && form <= RZ_TERNARY3;
}

/* Whether codes are whole bytes, w + 128. */
static inline int rz_is_wide(int32_t form) {
    return form == RZ_INT8 || form == RZ_SPLIT8;
}

/* Columns of a group. */
static inline int32_t rz_group_cols(int32_t form) {
    return form == RZ_TERNARY5 ? 20 : form == RZ_TERNARY3 ? 9 : RZ_GROUP;
}

/* Bytes of one block's codes, without high bits. */
static inline int32_t rz_code_bytes(int32_t form) {
    if (form == RZ_F32)
        return RZ_GROUP * RZ_LANES * 4;
    return form == RZ_INT8 ? RZ_QUADS * RZ_QUAD_BYTES : RZ_QUADS * RZ_QUAD_BYTES / 2;
}

/* Bytes of one block's high bits. */
static inline int32_t rz_high_bytes(int32_t form) {
    if (form == RZ_INT5)
        return RZ_QUAD_BYTES;
    return form == RZ_INT6 ? 2 * RZ_QUAD_BYTES : 0;
}

static inline int32_t rz_scale_bytes(int32_t scale) {
    if (scale == RZ_SCALE_NONE || scale == RZ_SCALE_TENSOR)
        return 0;
    return scale == RZ_SCALE_GROUP ? 2 * RZ_PANEL : 4 * RZ_PANEL;
}

/* Where the scales of a group begin. */
static inline int32_t rz_scale_offset(int32_t form) {
    return RZ_BLOCKS * (rz_code_bytes(form) + rz_high_bytes(form));
}

static inline int32_t rz_group_bytes(int32_t form, int32_t scale) {
    if (rz_is_ternary(form))
        return form == RZ_TERNARY2 ? 256 : form == RZ_TERNARY5 ? 128 : 64;
    return rz_scale_offset(form) + rz_scale_bytes(scale);
}

/* Bytes of a group of a panel in the low plane of SPLIT8. */
#define RZ_LOW_BYTES (RZ_BLOCKS * RZ_QUADS * RZ_QUAD_BYTES / 2)

static inline int64_t rz_matrix_bytes(const rz_matrix *w) {
    const int64_t low = w->form == RZ_SPLIT8 ? (int64_t)w->groups * RZ_LOW_BYTES : 0;
    return w->panels * (w->panel_bytes + low);
}

/* Where the low plane of a panel of SPLIT8 lies, counted from `codes`. */
static inline int64_t rz_low_offset(const rz_matrix *w, int32_t panel) {
    return w->panels * w->panel_bytes + (int64_t)panel * w->groups * RZ_LOW_BYTES;
}

/* The code that stands for zero; forms with a minimum have none. */
static inline int32_t rz_zero(int32_t form, int32_t scale) {
    if (scale == RZ_SCALE_MIN || form == RZ_F32)
        return 0;
    return rz_is_wide(form) ? 128 : form == RZ_INT6 ? 32 : form == RZ_INT5 ? 16 : 8;
}

#endif
