/* trits_driver.c: every ternary source on exact-sized buffers, for scripts/sanitize.
 *
 * Fills tensors of every type and many shapes with any bytes, reads each row, and compares with a
 * reading that takes one weight at a time. Exits 1 where they differ.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "trits.h"

static const int32_t sources[] = {RZ_TRITS_F32,   RZ_TRITS_F16,   RZ_TRITS_BF16, RZ_TRITS_I8,
                                  RZ_TRITS_TQ1_0, RZ_TRITS_TQ2_0, RZ_TRITS_I2_S, RZ_TRITS_B158};
enum { SOURCES = sizeof sources / sizeof sources[0] };

static uint32_t state = 2463534242u;

static uint32_t next(void) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void *exact(size_t bytes) {
    void *memory = malloc(bytes);
    if (memory == NULL)
        exit(2);
    return memory;
}

static uint16_t half_at(const uint8_t *p) {
    return (uint16_t)(p[0] | p[1] << 8);
}

/* Code of one weight of a TQ1_0 block, or 3. */
static int tq1(const uint8_t *block, int i) {
    const int byte = i < 160 ? i % 32 : i < 240 ? 32 + (i - 160) % 16 : 48 + (i - 240) % 4;
    const int trit = i < 160 ? i / 32 : i < 240 ? (i - 160) / 16 : (i - 240) / 4;
    const int number = block[byte] * 243 / 256;
    if ((number * 256 + 242) / 243 != block[byte])
        return 3;
    static const int powers[] = {81, 27, 9, 3, 1};
    return number / powers[trit] % 3;
}

/* A block with the scale zero holds zeros, whatever trits it has. */
static int scaled(int code, const uint8_t *scale) {
    return code != 3 && (half_at(scale) & 0x7fff) == 0 ? 1 : code;
}

/* Code of one weight of a row-major source; 3 is none. */
static int slow(int32_t source, const uint8_t *data, int32_t rows, int32_t cols, int32_t row,
                int32_t col) {
    const int64_t at = (int64_t)row * cols + col;
    const uint8_t *block;
    float value;
    switch (source) {
    case RZ_TRITS_TQ1_0:
        block = data + at / 256 * 54;
        return scaled(tq1(block, (int)(at % 256)), block + 52);
    case RZ_TRITS_TQ2_0:
        block = data + at / 256 * 66;
        return scaled(block[at % 256 / 128 * 32 + at % 32] >> (at % 128 / 32 * 2) & 3, block + 64);
    case RZ_TRITS_I2_S:
        return data[at / 128 * 32 + at % 32] >> (6 - at % 128 / 32 * 2) & 3;
    case RZ_TRITS_B158:
        return data[(int64_t)(row % (rows / 4)) * cols + col] >> (2 * (row / (rows / 4))) & 3;
    case RZ_TRITS_I8:
        return data[at] == 255 ? 0 : data[at] > 1 ? 3 : data[at] + 1;
    case RZ_TRITS_F32:
        memcpy(&value, data + 4 * at, 4);
        break;
    case RZ_TRITS_F16:
        value = rz_half_to_float(half_at(data + 2 * at));
        break;
    default:
        value = rz_bfloat_to_float(half_at(data + 2 * at));
    }
    return !(value - value == 0.0f) ? 3 : value > 0.0f ? 2 : value < 0.0f ? 0 : 1;
}

/* Mostly bytes that hold trits, so that whole rows are read too. */
static void fill(int32_t source, uint8_t *data, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i++) {
        const uint32_t any = next();
        if (any % 4096 == 0)
            data[i] = (uint8_t)(any >> 16);
        else if (source == RZ_TRITS_I8)
            data[i] = (uint8_t)((any >> 16) % 3 - 1);
        else if (source == RZ_TRITS_TQ1_0)
            data[i] = (uint8_t)(((any >> 16) % 243 * 256 + 242) / 243);
        else
            data[i] = (uint8_t)((any >> 16) % 3 | (any >> 18) % 3 << 2 | (any >> 20) % 3 << 4 |
                                (any >> 22) % 3 << 6);
    }
}

static int check(int32_t source, int32_t rows, int32_t cols) {
    const int64_t bytes = rz_trits_bytes(source, rows, cols);
    if (bytes < 0)
        return 0;
    int wrong = 0;
    uint8_t *data = exact((size_t)bytes), *codes = exact((size_t)cols);
    fill(source, data, bytes);
    for (int32_t row = 0; row < rows; row++) {
        const int status = rz_trits_row(source, data, rows, cols, row, codes);
        int bad = 0;
        for (int32_t col = 0; col < cols; col++) {
            const int code = slow(source, data, rows, cols, row, col);
            bad |= code == 3;
            wrong += status == RZ_TRITS_OK && code != codes[col];
        }
        wrong += (status == RZ_TRITS_OK) == bad;
    }
    wrong += rz_trits_row(source, data, rows, cols, rows, codes) != RZ_TRITS_SHAPE;
    wrong += rz_trits_row(source, data, rows, cols, -1, codes) != RZ_TRITS_SHAPE;
    float scale = 0.0f;
    double sum = 0.0;
    const int32_t block = rz_trits_block(source);
    if (block > 0)
        rz_trits_scale(source, data, (int64_t)rows * cols / block, &scale);
    if (block == 1) {
        rz_absmean_sum(source, data, (int64_t)rows * cols, &sum);
        rz_absmean_row(source, data, cols, 1.5f, codes);
    }
    free(data);
    free(codes);
    if (wrong)
        printf("source %d, %d x %d: %d wrong\n", source, rows, cols, wrong);
    return wrong;
}

int main(void) {
    static const int32_t widths[] = {1, 3, 31, 64, 128, 255, 256, 257, 384, 512, 1280};
    int wrong = 0;
    for (int s = 0; s < SOURCES; s++)
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++)
            for (int32_t rows = 1; rows <= 12; rows++)
                wrong += check(sources[s], rows, widths[w]);
    printf("ternary sources: %d wrong\n", wrong);
    return wrong ? 1 : 0;
}
