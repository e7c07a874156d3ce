/* vectors.h: one query against many stored vectors in compressed forms, and the best of a scan.
 *
 * Codes are rows of so many bytes, one behind the other; a measure gives an int32 for each row of
 * a run, or of a list of positions. All are integers but RZ_DOT_F32, whose sums have the same bits
 * everywhere and whose result is a key that is ordered as the floats are, so that one scan serves
 * all of them.
 *
 * measure      codes of a row                       query
 * dot_i8       int8 [d]                             int8 [d]
 * dot_f32      float [d]                            float [d]
 * hamming      bits [8 b], lowest bit first         the same
 * bits_dot     bits: 1 means +1, 0 means -1         int8 [8 b]
 * bits_scaled  the same, then uint8: a factor        int8 [8 b]; sums times the row's factor
 * lookup       uint8 [m]                            int16 [m][256]: what each code counts
 * sparse_dot   uint8 [m] places, int8 [m] values    int8 [256]
 * sparse_wide  uint16 [m] places, int8 [m] values   int8 [65536 at most]
 */
#ifndef RZ_VECTORS_H
#define RZ_VECTORS_H

#include <stddef.h>
#include <stdint.h>

#include "rz.h"

#define RZ_QUERY_PAD 64 /* int8 and float queries are padded with zeros to so many elements */

/* out[i] = measure of row positions[i], or i where positions is NULL, for i < count. */
typedef void (*rz_measure)(const uint8_t *codes, int64_t bytes, const int64_t *positions,
                           int64_t count, const void *query, int32_t *out);

enum rz_measures {
    RZ_DOT_I8 = 0,
    RZ_DOT_F32 = 1,
    RZ_HAMMING = 2,
    RZ_BITS_DOT = 3,
    RZ_BITS_SCALED = 4,
    RZ_LOOKUP = 5,
    RZ_SPARSE_DOT = 6,
    RZ_SPARSE_WIDE = 7,
    RZ_MEASURES = 8
};

typedef struct rz_vectors_kernels {
    const char *isa;
    rz_measure measures[RZ_MEASURES];
} rz_vectors_kernels;

/* The table of the named instruction set, or of the portable one. */
const rz_vectors_kernels *rz_vectors_table(const char *isa);

/* A scan of `count` rows for the k best of each query, 0 < k <= count. */
typedef struct rz_top {
    rz_measure measure;
    const uint8_t *codes;
    int64_t bytes;
    const int64_t *positions; /* or NULL: rows [0, count) */
    int64_t count;
    const uint8_t *query;
    int64_t query_bytes; /* from one query to the next */
    int32_t queries, threads;
    int64_t k;
    int32_t lowest; /* the lowest values are the best: distances */
} rz_top;

/* Fills out_positions and out_values, [queries][k], best first and equal ones by position, without
 * keeping a value of every row. 0, or -1 where memory ran out. */
int rz_top_run(const rz_top *top, int64_t *out_positions, int32_t *out_values);

/* A float's bits as an integer that is ordered as floats are, and back: an involution. */
static inline int32_t rz_ordered(int32_t bits) {
    return bits ^ (bits < 0 ? 0x7fffffff : 0);
}

#endif
