/* trits.c: rows of ternary weights as codes 0, 1, 2, in loops that a compiler vectorises for any
 * CPU: no branch inside, faults gathered in a byte and looked at once a block. */
#include "trits.h"

#include <math.h>
#include <string.h>

#include "half.h"

enum { TQ_BLOCK = 256, TQ1_BYTES = 54, TQ2_BYTES = 66, I2S_BLOCK = 128, I2S_BYTES = 32 };
enum { PART = 256 }; /* floats converted at a time */

static uint16_t load_half_bits(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Two bits of each byte; the result has bit 0 set where one of them is 3. */
static uint8_t two_bits(const uint8_t *restrict bytes, int count, int shift,
                        uint8_t *restrict codes) {
    uint8_t bad = 0;
    for (int i = 0; i < count; i++) {
        const uint8_t code = (uint8_t)(bytes[i] >> shift & 3);
        codes[i] = code;
        bad |= (uint8_t)(code & code >> 1);
    }
    return bad;
}

/* `trits` trits of each byte, the first of all bytes first. A byte is ceil(256 q / 243) for the
 * base-3 number q: three times the byte has a trit above its low eight bits. 243 times a byte that
 * was made so leaves less than 243 there; the others, 13 of 256, set the result. */
static uint8_t fraction(const uint8_t *restrict bytes, int count, int trits,
                        uint8_t *restrict codes) {
    uint8_t bad = 0;
    for (int i = 0; i < count; i++)
        bad |= (uint8_t)((uint8_t)(bytes[i] * 243) >= 243);
    uint8_t left[32];
    memcpy(left, bytes, (size_t)count);
    for (int n = 0; n < trits; n++, codes += count)
        for (int i = 0; i < count; i++) {
            codes[i] = (uint8_t)((left[i] >= 86) + (left[i] >= 171));
            left[i] = (uint8_t)(left[i] * 3);
        }
    return bad;
}

static uint8_t tq1_block(const uint8_t *block, uint8_t *codes) {
    uint8_t bad = fraction(block, 32, 5, codes);
    bad |= fraction(block + 32, 16, 5, codes + 160);
    bad |= fraction(block + 48, 4, 4, codes + 240);
    return bad;
}

static uint8_t tq2_block(const uint8_t *block, uint8_t *codes) {
    uint8_t bad = 0;
    for (int half = 0; half < 2; half++)
        for (int pair = 0; pair < 4; pair++)
            bad |=
                two_bits(block + 32 * half, 32, 2 * pair, codes + TQ_BLOCK / 2 * half + 32 * pair);
    return bad;
}

static uint8_t tq_row(const uint8_t *row, int32_t blocks, int bytes, uint8_t *codes) {
    uint8_t bad = 0;
    for (int32_t b = 0; b < blocks; b++, row += bytes, codes += TQ_BLOCK) {
        bad |= bytes == TQ1_BYTES ? tq1_block(row, codes) : tq2_block(row, codes);
        if ((load_half_bits(row + bytes - 2) & 0x7fffu) == 0)
            memset(codes, 1, TQ_BLOCK);
    }
    return bad;
}

static uint8_t i2s_row(const uint8_t *row, int32_t blocks, uint8_t *codes) {
    uint8_t bad = 0;
    for (int32_t b = 0; b < blocks; b++, row += I2S_BYTES, codes += I2S_BLOCK)
        for (int part = 0; part < 4; part++)
            bad |= two_bits(row, I2S_BYTES, 6 - 2 * part, codes + I2S_BYTES * part);
    return bad;
}

static uint8_t int8_row(const uint8_t *restrict row, int32_t cols, uint8_t *restrict codes) {
    uint8_t bad = 0;
    for (int32_t i = 0; i < cols; i++) {
        codes[i] = (uint8_t)(row[i] + 1);
        bad |= (uint8_t)(codes[i] > 2);
    }
    return bad;
}

static int32_t float_bytes(int32_t dtype) {
    return dtype == RZ_TRITS_F32 ? 4 : dtype == RZ_TRITS_F16 || dtype == RZ_TRITS_BF16 ? 2 : 0;
}

/* At most PART values as floats; not 0 where one is not finite (it is then anything). */
static uint8_t load_floats(int32_t dtype, const uint8_t *restrict data, int count,
                           float *restrict values) {
    uint8_t bad = 0;
    if (dtype == RZ_TRITS_F32) {
        memcpy(values, data, (size_t)count * 4);
        for (int i = 0; i < count; i++)
            bad |= (uint8_t)((rz_float_to_bits(values[i]) & 0x7f800000u) == 0x7f800000u);
        return bad;
    }
    uint16_t halves[PART];
    memcpy(halves, data, (size_t)count * 2);
    const uint16_t infinite = dtype == RZ_TRITS_F16 ? 0x7c00u : 0x7f80u;
    for (int i = 0; i < count; i++)
        bad |= (uint8_t)((halves[i] & infinite) == infinite);
    if (dtype == RZ_TRITS_BF16) {
        for (int i = 0; i < count; i++)
            values[i] = rz_bfloat_to_float(halves[i]);
        return bad;
    }
    /* rz_half_to_float() for finite values, without its branch. */
    for (int i = 0; i < count; i++) {
        const uint32_t sign = (uint32_t)(halves[i] & 0x8000u) << 16;
        const uint32_t rest = (uint32_t)(halves[i] & 0x7fffu) << 13;
        const float magnitude = rz_bits_to_float(rest) * rz_bits_to_float((127u + 112u) << 23);
        values[i] = rz_bits_to_float(sign | rz_float_to_bits(magnitude));
    }
    return bad;
}

static float magnitude_of(int32_t dtype, uint32_t bits) {
    return dtype == RZ_TRITS_F32    ? rz_bits_to_float(bits)
           : dtype == RZ_TRITS_BF16 ? rz_bfloat_to_float((uint16_t)bits)
                                    : rz_half_to_float((uint16_t)bits);
}

/* The smallest magnitude, as its bits, whose product with the scale rounds to 1: it is above 0.5,
 * which rounds to the even 0. Magnitudes are in the order of their bits. Scale 0 stands for the
 * sign alone. */
static uint32_t first_one(int32_t dtype, float scale) {
    uint32_t low = 0, high = dtype == RZ_TRITS_F32    ? 0x7f800000u
                             : dtype == RZ_TRITS_BF16 ? 0x7f80u
                                                      : 0x7c00u;
    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;
        if (scale == 0.0f || magnitude_of(dtype, middle) * scale > 0.5f)
            high = middle;
        else
            low = middle;
    }
    return high;
}

/* 1, 2 where the magnitude reaches `one`, 0 where a negative one does. */
static uint8_t halves_row(const uint8_t *restrict row, int32_t cols, uint16_t one,
                          uint16_t infinite, uint8_t *restrict codes) {
    uint16_t most = 0;
    for (int32_t i = 0; i < cols; i++) {
        uint16_t bits;
        memcpy(&bits, row + 2 * (int64_t)i, 2);
        const uint16_t magnitude = bits & 0x7fffu;
        const uint16_t reaches = (uint16_t)(magnitude >= one), negative = (uint16_t)(bits >> 15);
        most = magnitude > most ? magnitude : most;
        codes[i] = (uint8_t)(1 + reaches - 2 * (reaches & negative));
    }
    return most >= infinite;
}

static uint8_t singles_row(const uint8_t *restrict row, int32_t cols, uint32_t one,
                           uint8_t *restrict codes) {
    int32_t most = 0;
    for (int32_t i = 0; i < cols; i++) {
        uint32_t bits;
        memcpy(&bits, row + 4 * (int64_t)i, 4);
        const int32_t magnitude = (int32_t)(bits & 0x7fffffffu);
        const uint32_t reaches = magnitude >= (int32_t)one, negative = bits >> 31;
        most = magnitude > most ? magnitude : most;
        codes[i] = (uint8_t)(1 + reaches - 2 * (reaches & negative));
    }
    return most >= 0x7f800000;
}

/* Values times scale, rounded and kept in -1 to 1, as codes; scale 0 stands for the sign alone. */
static uint8_t float_row(int32_t dtype, const uint8_t *row, int32_t cols, float scale,
                         uint8_t *codes) {
    const uint32_t one = first_one(dtype, scale);
    if (dtype == RZ_TRITS_F32)
        return singles_row(row, cols, one, codes);
    const uint16_t infinite = dtype == RZ_TRITS_BF16 ? 0x7f80u : 0x7c00u;
    return halves_row(row, cols, (uint16_t)one, infinite, codes);
}

int32_t rz_trits_block(int32_t source) {
    return source == RZ_TRITS_TQ1_0 || source == RZ_TRITS_TQ2_0 ? TQ_BLOCK
                                                                : float_bytes(source) > 0;
}

static int64_t row_bytes(int32_t source, int32_t cols) {
    switch (source) {
    case RZ_TRITS_TQ1_0:
        return cols % TQ_BLOCK ? -1 : (int64_t)(cols / TQ_BLOCK) * TQ1_BYTES;
    case RZ_TRITS_TQ2_0:
        return cols % TQ_BLOCK ? -1 : (int64_t)(cols / TQ_BLOCK) * TQ2_BYTES;
    case RZ_TRITS_I2_S:
        return cols % I2S_BLOCK ? -1 : (int64_t)(cols / I2S_BLOCK) * I2S_BYTES;
    case RZ_TRITS_B158:
    case RZ_TRITS_I8:
        return cols;
    default:
        return float_bytes(source) > 0 ? (int64_t)cols * float_bytes(source) : -1;
    }
}

int64_t rz_trits_bytes(int32_t source, int32_t rows, int32_t cols) {
    const int64_t bytes = rows < 1 || cols < 1 ? -1 : row_bytes(source, cols);
    if (bytes < 0 || (source == RZ_TRITS_B158 && rows % 4))
        return -1;
    return bytes * (source == RZ_TRITS_B158 ? rows / 4 : rows);
}

int rz_trits_row(int32_t source, const uint8_t *data, int32_t rows, int32_t cols, int32_t row,
                 uint8_t *codes) {
    if (rz_trits_bytes(source, rows, cols) < 0 || row < 0 || row >= rows)
        return RZ_TRITS_SHAPE;
    const int32_t stored = source == RZ_TRITS_B158 ? rows / 4 : rows;
    const uint8_t *from = data + row % stored * row_bytes(source, cols);
    uint8_t bad;
    switch (source) {
    case RZ_TRITS_TQ1_0:
        bad = tq_row(from, cols / TQ_BLOCK, TQ1_BYTES, codes);
        break;
    case RZ_TRITS_TQ2_0:
        bad = tq_row(from, cols / TQ_BLOCK, TQ2_BYTES, codes);
        break;
    case RZ_TRITS_I2_S:
        bad = i2s_row(from, cols / I2S_BLOCK, codes);
        break;
    case RZ_TRITS_B158:
        bad = two_bits(from, cols, 2 * (row / stored), codes);
        break;
    case RZ_TRITS_I8:
        bad = int8_row(from, cols, codes);
        break;
    default:
        bad = float_row(source, from, cols, 0.0f, codes);
    }
    return bad ? RZ_TRITS_CODE : RZ_TRITS_OK;
}

/* Keeps the scale seen so far, 0 at first; scales of zero go with any. */
static int one_scale(float value, float *scale) {
    if (!(value >= 0.0f && value <= 3.402823466e38f))
        return RZ_TRITS_RANGE;
    if (value == 0.0f)
        return RZ_TRITS_OK;
    if (*scale != 0.0f && *scale != value)
        return RZ_TRITS_SCALES;
    *scale = value;
    return RZ_TRITS_OK;
}

int rz_trits_scale(int32_t source, const uint8_t *data, int64_t blocks, float *scale) {
    const int32_t bytes = source == RZ_TRITS_TQ1_0   ? TQ1_BYTES
                          : source == RZ_TRITS_TQ2_0 ? TQ2_BYTES
                                                     : float_bytes(source);
    float found = 0.0f;
    int status = RZ_TRITS_OK;
    if (bytes >= TQ1_BYTES) {
        for (int64_t b = 0; b < blocks && status == RZ_TRITS_OK; b++)
            status =
                one_scale(rz_half_to_float(load_half_bits(data + (b + 1) * bytes - 2)), &found);
    } else if (bytes) {
        for (int64_t first = 0; first < blocks && status == RZ_TRITS_OK; first += PART) {
            float values[PART];
            const int count = blocks - first < PART ? (int)(blocks - first) : PART;
            if (load_floats(source, data + first * bytes, count, values))
                status = RZ_TRITS_RANGE;
            for (int i = 0; i < count && status == RZ_TRITS_OK; i++)
                status = one_scale(fabsf(values[i]), &found);
        }
    } else if (row_bytes(source, TQ_BLOCK) < 0) {
        return RZ_TRITS_SHAPE;
    }
    if (status == RZ_TRITS_OK)
        *scale = found > 0.0f ? found : 1.0f;
    return status;
}

int rz_absmean_sum(int32_t dtype, const uint8_t *data, int64_t count, double *sum) {
    enum { LANES = 8 };
    const int32_t size = float_bytes(dtype);
    if (size == 0 || count < 1)
        return RZ_TRITS_SHAPE;
    double lanes[LANES] = {0};
    uint8_t bad = 0;
    for (int64_t first = 0; first < count; first += PART) {
        float values[PART] = {0};
        const int here = count - first < PART ? (int)(count - first) : PART;
        bad |= load_floats(dtype, data + first * size, here, values);
        for (int i = 0; i < PART; i += LANES)
            for (int lane = 0; lane < LANES; lane++)
                lanes[lane] += (double)fabsf(values[i + lane]);
    }
    *sum = ((lanes[0] + lanes[4]) + (lanes[1] + lanes[5])) +
           ((lanes[2] + lanes[6]) + (lanes[3] + lanes[7]));
    return bad ? RZ_TRITS_CODE : RZ_TRITS_OK;
}

int rz_absmean_row(int32_t dtype, const uint8_t *row_data, int32_t cols, float scale,
                   uint8_t *codes) {
    if (float_bytes(dtype) == 0 || cols < 1 || !(scale > 0.0f) || !isfinite(scale))
        return RZ_TRITS_SHAPE;
    return float_row(dtype, row_data, cols, scale, codes) ? RZ_TRITS_CODE : RZ_TRITS_OK;
}
