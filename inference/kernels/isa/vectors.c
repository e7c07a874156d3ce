/* vectors.c: measures of one query against rows of codes, four rows at a time, and the table;
 * contracts in vectors.h.
 *
 * Four rows share what is done to the query, hide each other's latency, and have one common
 * horizontal sum.
 */
#include "vectors.h"

#include "lanes.h"

#if defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)
#include "vectors_avx512.h"
#elif defined(RZ_ISA_AVX2)
#include "vectors_avx2.h"
#else
#include "vectors_plain.h"
#endif

#define NAME_(x) #x
#define NAME(x) NAME_(x)

/* Rows of a list that are asked for ahead: the hardware cannot guess them. */
#define AHEAD 16
/* Bytes that a scan asks for ahead: four long rows at a time look like no stream to the hardware
 * (22 GB/s of floats instead of 8). */
#define AHEAD_BYTES 4096

typedef void four_rows(const uint8_t *const rows[4], int64_t bytes, const void *query,
                       int32_t *out);

/* Asks for what is read some rows later than row `at`. */
RZ_INLINE void fetch(const uint8_t *codes, int64_t bytes, const int64_t *positions, int64_t at,
                     int64_t count) {
    if (positions != NULL && at + AHEAD < count) {
        const uint8_t *row = codes + positions[at + AHEAD] * bytes;
        for (int64_t line = 0; line < bytes; line += 64)
            RZ_PREFETCH(row + line);
    } else if (positions == NULL) {
        const uint8_t *row = codes + at * bytes + AHEAD_BYTES;
        for (int64_t line = 0; line < bytes; line += 64)
            RZ_PREFETCH(row + line);
    }
}

RZ_INLINE void by_fours(four_rows *measure, const uint8_t *codes, int64_t bytes,
                        const int64_t *positions, int64_t count, const void *query, int32_t *out) {
    const uint8_t *rows[4];
    for (int64_t i = 0; i < count; i += 4) {
        int32_t rest[4];
        for (int j = 0; j < 4; j++) {
            const int64_t at = i + j < count ? i + j : count - 1;
            rows[j] = codes + (positions == NULL ? at : positions[at]) * bytes;
            fetch(codes, bytes, positions, at, count);
        }
        if (i + 4 <= count) {
            measure(rows, bytes, query, out + i);
        } else {
            measure(rows, bytes, query, rest);
            memcpy(out + i, rest, sizeof(int32_t) * (size_t)(count - i));
        }
    }
}

/* 16 sums a row, in order; products and sums are rounded one by one, which is quick without FMA
 * too. */
RZ_INLINE void dot_f32_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                            int32_t *out) {
    const float *q = query;
    const int64_t size = bytes / 4, full = size / RZ_LANES * RZ_LANES;
    lanes_f sums[4];
    for (int j = 0; j < 4; j++)
        sums[j] = lf_splat(0);
    for (int64_t i = 0; i < full; i += RZ_LANES)
        for (int j = 0; j < 4; j++) {
            const float *row = (const float *)(const void *)rows[j];
            sums[j] = lf_add(sums[j], lf_mul(lf_load(row + i), lf_load(q + i)));
        }
    for (int j = 0; j < 4; j++) {
        if (full < size) {
            RZ_ALIGNED float rest[RZ_LANES] = {0};
            memcpy(rest, rows[j] + 4 * full, (size_t)(bytes - 4 * full));
            sums[j] = lf_add(sums[j], lf_mul(lf_load(rest), lf_load(q + full)));
        }
        const float sum = lf_sum(sums[j]);
        int32_t bits;
        memcpy(&bits, &sum, sizeof bits);
        out[j] = rz_ordered(bits);
    }
}

RZ_INLINE void lookup_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                           int32_t *out) {
    const int16_t *table = query;
    int32_t sums[4] = {0};
    for (int64_t i = 0; i < bytes; i++, table += 256)
        for (int j = 0; j < 4; j++)
            sums[j] += table[rows[j][i]];
    memcpy(out, sums, sizeof sums);
}

/* Values are read as int8: gcc 12 multiplies what is cast to it as unsigned, by vpdpbusd. */
RZ_INLINE void sparse_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                           int32_t *out) {
    const int8_t *q = query;
    const int64_t kept = bytes / 2;
    int32_t sums[4] = {0};
    for (int64_t i = 0; i < kept; i++)
        for (int j = 0; j < 4; j++)
            sums[j] += q[rows[j][i]] * ((const int8_t *)rows[j])[kept + i];
    memcpy(out, sums, sizeof sums);
}

RZ_INLINE void sparse_wide_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                                int32_t *out) {
    const int8_t *q = query;
    const int64_t kept = bytes / 3;
    int32_t sums[4] = {0};
    for (int64_t i = 0; i < kept; i++)
        for (int j = 0; j < 4; j++) {
            const int place = rows[j][2 * i] | rows[j][2 * i + 1] << 8;
            sums[j] += q[place] * ((const int8_t *)rows[j])[2 * kept + i];
        }
    memcpy(out, sums, sizeof sums);
}

#define MEASURE(name)                                                                              \
    static void name(const uint8_t *codes, int64_t bytes, const int64_t *positions, int64_t count, \
                     const void *query, int32_t *out) {                                            \
        by_fours(name##_four, codes, bytes, positions, count, query, out);                         \
    }

MEASURE(dot_i8)
MEASURE(dot_f32)
MEASURE(hamming)
MEASURE(lookup)
MEASURE(sparse)
MEASURE(sparse_wide)
#ifndef RZ_OWN_BITS_DOT
RZ_INLINE void bits_scaled_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                                int32_t *out) {
    bits_dot_four(rows, bytes - 1, query, out);
    for (int j = 0; j < 4; j++)
        out[j] *= rows[j][bytes - 1];
}

MEASURE(bits_dot)
MEASURE(bits_scaled)
#endif

const rz_vectors_kernels RZ_ISA_FN(rz_vectors) = {
    .isa = NAME(RZ_ISA_NAME),
    .measures =
        {
            [RZ_DOT_I8] = dot_i8,
            [RZ_DOT_F32] = dot_f32,
            [RZ_HAMMING] = hamming,
            [RZ_BITS_DOT] = bits_dot,
            [RZ_BITS_SCALED] = bits_scaled,
            [RZ_LOOKUP] = lookup,
            [RZ_SPARSE_DOT] = sparse,
            [RZ_SPARSE_WIDE] = sparse_wide,
        },
};
