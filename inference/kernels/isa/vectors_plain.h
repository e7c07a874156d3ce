/* vectors_plain.h: rows of int8 and of bits in plain C. */

RZ_INLINE void dot_i8_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                           int32_t *out) {
    const int8_t *q = query;
    for (int j = 0; j < 4; j++) {
        const int8_t *row = (const int8_t *)rows[j];
        int32_t sum = 0;
        for (int64_t i = 0; i < bytes; i++)
            sum += row[i] * q[i];
        out[j] = sum;
    }
}

/* Counts of the set bits of eight bytes, pair by pair, then by fours, then by bytes. */
RZ_INLINE int32_t bits_of(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int32_t)(x * 0x0101010101010101u >> 56);
}

RZ_INLINE void hamming_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                            int32_t *out) {
    const uint8_t *q = query;
    for (int j = 0; j < 4; j++) {
        int64_t i = 0;
        out[j] = 0;
        for (; i < bytes; i += 8) {
            const size_t left = bytes - i < 8 ? (size_t)(bytes - i) : 8;
            uint64_t a = 0, b = 0;
            memcpy(&a, rows[j] + i, left);
            memcpy(&b, q + i, left);
            out[j] += bits_of(a ^ b);
        }
    }
}

#define RZ_OWN_BITS_DOT
#define PART 64 /* bytes of a row whose tables stay in the first cache */

/* tables[2 i] and [2 i + 1]: what the nibbles of byte i count, all 16 of each. */
static void fill_tables(const int8_t *q, int64_t bytes, int16_t tables[][16]) {
    for (int64_t i = 0; i < 2 * bytes; i++)
        for (int code = 0; code < 16; code++) {
            int sum = 0;
            for (int bit = 0; bit < 4; bit++)
                sum += code >> bit & 1 ? q[4 * i + bit] : -q[4 * i + bit];
            tables[i][code] = (int16_t)sum;
        }
}

/* Part after part of all rows, since tables are made once a part. */
static void bits_dot(const uint8_t *codes, int64_t bytes, const int64_t *positions, int64_t count,
                     const void *query, int32_t *out) {
    int16_t tables[2 * PART][16];
    memset(out, 0, sizeof(int32_t) * (size_t)count);
    for (int64_t first = 0; first < bytes; first += PART) {
        const int64_t size = bytes - first < PART ? bytes - first : PART;
        fill_tables((const int8_t *)query + 8 * first, size, tables);
        for (int64_t i = 0; i < count; i++) {
            const uint8_t *row = codes + (positions == NULL ? i : positions[i]) * bytes + first;
            int32_t sum = 0;
            for (int64_t at = 0; at < size; at++)
                sum += tables[2 * at][row[at] & 15] + tables[2 * at + 1][row[at] >> 4];
            out[i] += sum;
        }
    }
}
