/* trits.h: ternary weights out of the files that hold them, a row at a time, as codes 0, 1, 2
 * (weight + 1), and master weights to ternary ones by absmean.
 *
 *     TQ1_0   256 weights: qs[48] qh[4] d; five trits a byte as a base-3 fraction (ggml)
 *     TQ2_0   256 weights: qs[64] d; two bits a weight (ggml)
 *     I2_S    128 weights in 32 bytes; one float behind the whole tensor (bitnet.cpp)
 *     B158    row r of R in bits 2 * (r / S) of stored row r % S, where S = R / 4 (transformers)
 *     I8      int8 -1, 0, 1
 *     F32, F16, BF16   -s, 0, s
 *
 * Nothing here reads beyond rz_trits_bytes() of the source, whatever its bytes are.
 */
#ifndef RZ_TRITS_H
#define RZ_TRITS_H

#include <stdint.h>

/* GGUF's numbers, and one of our own for transformers' packing. */
enum rz_trit_source {
    RZ_TRITS_F32 = 0,
    RZ_TRITS_F16 = 1,
    RZ_TRITS_I8 = 24,
    RZ_TRITS_BF16 = 30,
    RZ_TRITS_TQ1_0 = 34,
    RZ_TRITS_TQ2_0 = 35,
    RZ_TRITS_I2_S = 36,
    RZ_TRITS_B158 = 158,
};

/* What a source can have wrong with it. */
enum rz_trits_status {
    RZ_TRITS_OK = 0,
    RZ_TRITS_CODE = -1,   /* a code of 3, a byte that holds no trits, a value that is not finite */
    RZ_TRITS_SCALES = -2, /* scales that differ: no single scale says what the weights are */
    RZ_TRITS_RANGE = -3,  /* a scale that is negative or not finite */
    RZ_TRITS_SHAPE = -4,  /* an unknown source, a row out of range, a shape that does not fit */
};

/* Weights that share a block with a scale: 256 for TQ1_0 and TQ2_0, 1 for floats, 0 for the others,
 * which have no scales in their rows. */
int32_t rz_trits_block(int32_t source);

/* Bytes of a whole tensor without what may stand behind it (I2_S's scale), or -1 where the source
 * is unknown or the shape does not fit it. */
int64_t rz_trits_bytes(int32_t source, int32_t rows, int32_t cols);

/* Writes row `row` as `cols` codes 0, 1, 2; RZ_TRITS_OK, RZ_TRITS_CODE or RZ_TRITS_SHAPE. Blocks
 * with the scale zero give code 1. Floats give the code of their sign: rz_trits_scale() tells
 * whether that is all there is to them. */
int rz_trits_row(int32_t source, const uint8_t *data, int32_t rows, int32_t cols, int32_t row,
                 uint8_t *codes);

/* The one scale of `blocks` blocks (rz_trits_block) but for those whose scale is zero; 1 where all
 * are zero, or the source has no scales in its rows. RZ_TRITS_OK, RZ_TRITS_SCALES, RZ_TRITS_RANGE
 * or RZ_TRITS_SHAPE. */
int rz_trits_scale(int32_t source, const uint8_t *data, int64_t blocks, float *scale);

/* Adds |w| over `count` weights of type F32, F16 or BF16 in double; RZ_TRITS_OK, RZ_TRITS_CODE (a
 * weight is not finite) or RZ_TRITS_SHAPE. With mean = (float)(sum / count), transformers' scale is
 * 1 / max(mean, 1e-5); torch adds in float32, so that its mean may differ in the last bits. */
int rz_absmean_sum(int32_t dtype, const uint8_t *data, int64_t count, double *sum);

/* Writes codes 1 + clamp(round(w * scale), -1, 1), halves to even, of one row of F32, F16 or BF16
 * weights; the weight is then (code - 1) / scale. Statuses as above. */
int rz_absmean_row(int32_t dtype, const uint8_t *row_data, int32_t cols, float scale,
                   uint8_t *codes);

#endif
