/* rows.h: whole rows in and out of packed matrices. */
#ifndef RZ_ROWS_H
#define RZ_ROWS_H

#include "rz.h"

/* Types of the source tensor; the numbers are GGUF's own. */
enum rz_source {
    RZ_SRC_F32 = 0,
    RZ_SRC_F16 = 1,
    RZ_SRC_Q4_0 = 2,
    RZ_SRC_Q4_1 = 3,
    RZ_SRC_Q5_0 = 6,
    RZ_SRC_Q5_1 = 7,
    RZ_SRC_Q8_0 = 8,
    RZ_SRC_Q4_K = 12,
    RZ_SRC_Q5_K = 13,
    RZ_SRC_Q6_K = 14,
    RZ_SRC_BF16 = 30,
    RZ_SRC_TQ1_0 = 34,
    RZ_SRC_TQ2_0 = 35,
};

/* What packing can run into. */
enum rz_pack_status {
    RZ_PACK_OK = 0,
    RZ_PACK_SOURCE = -1,
    RZ_PACK_RANGE = -2,
    RZ_PACK_CODE = -3, /* a ternary weight that is none of -1, 0 and 1 */
};

/* Writes row `row` as w->cols floats. */
void rz_matrix_row(const rz_matrix *w, int32_t row, float *out);

/* Bytes of one source row, or -1 where the type is unknown or cols does not fit its blocks. */
int64_t rz_source_row_bytes(int32_t source, int32_t cols);

/* Form and scale that keep a source type without loss (beyond fp16 scales). */
void rz_source_layout(int32_t source, int32_t *form, int32_t *scale);

/* Packs panels [first, last) of w, whose shape and layout are set, from the source tensor into
 * codes. Where w's layout is not the source's own, rows are dequantised and quantised anew, group
 * by group. RZ_PACK_RANGE: a value is not finite or a scale does not fit fp16. */
int rz_pack_panels(const rz_matrix *w, int32_t source, const uint8_t *data, int32_t first,
                   int32_t last, uint8_t *codes);

/* Writes one row of codes 0, 1, 2 (whole groups of them) into the panels of a ternary matrix. */
void rz_put_trits(const rz_matrix *w, int32_t row, const uint8_t *codes, uint8_t *panels);

/* Packs rows [first, last) of a ternary matrix from a source of trits.h into panels that were
 * cleared. `codes`: room for one row of whole groups. RZ_PACK_RANGE: something that is no trit. */
int rz_pack_trits(const rz_matrix *w, int32_t source, const uint8_t *data, int32_t first,
                  int32_t last, uint8_t *codes, uint8_t *panels);
/* The same from float weights of GGUF type `dtype`, as round(w * scale) between -1 and 1. */
int rz_pack_absmean(const rz_matrix *w, int32_t dtype, const uint8_t *data, float scale,
                    int32_t first, int32_t last, uint8_t *codes, uint8_t *panels);

#endif
