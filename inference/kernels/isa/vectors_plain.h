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
#define PART 32 /* bytes of a row whose tables stay in the first cache */

/* tables[i][code]: what the eight signs of byte i count with the query. */
static void fill_tables(const int8_t *q, int64_t bytes, int16_t tables[][256]) {
    for (int64_t i = 0; i < bytes; i++, q += 8) {
        int total = 0;
        for (int bit = 0; bit < 8; bit++)
            total += q[bit];
        tables[i][0] = (int16_t)-total;
        for (int bit = 0; bit < 8; bit++)
            for (int code = 0; code < 1 << bit; code++)
                tables[i][1 << bit | code] = (int16_t)(tables[i][code] + 2 * q[bit]);
    }
}

RZ_INLINE void lookup_four(const uint8_t *const rows[4], int64_t bytes, const void *query,
                           int32_t *out);

/* The first `bytes` of rows that are `stride` apart; part after part of all rows, since tables are
 * made once a part. */
static void signs(const uint8_t *codes, int64_t stride, int64_t bytes, const int64_t *positions,
                  int64_t count, const void *query, int32_t *out) {
    int16_t tables[PART][256];
    memset(out, 0, sizeof(int32_t) * (size_t)count);
    for (int64_t first = 0; first < bytes; first += PART) {
        const int64_t size = bytes - first < PART ? bytes - first : PART;
        fill_tables((const int8_t *)query + 8 * first, size, tables);
        for (int64_t i = 0; i < count; i += 4) {
            const uint8_t *rows[4];
            int32_t sums[4];
            for (int j = 0; j < 4; j++) {
                const int64_t at = i + j < count ? i + j : count - 1;
                rows[j] = codes + (positions == NULL ? at : positions[at]) * stride + first;
            }
            lookup_four(rows, size, tables, sums);
            for (int64_t j = 0; j < 4 && i + j < count; j++)
                out[i + j] += sums[j];
        }
    }
}

static void bits_dot(const uint8_t *codes, int64_t bytes, const int64_t *positions, int64_t count,
                     const void *query, int32_t *out) {
    signs(codes, bytes, bytes, positions, count, query, out);
}

static void bits_scaled(const uint8_t *codes, int64_t bytes, const int64_t *positions,
                        int64_t count, const void *query, int32_t *out) {
    signs(codes, bytes, bytes - 1, positions, count, query, out);
    for (int64_t i = 0; i < count; i++)
        out[i] *= codes[(positions == NULL ? i : positions[i]) * bytes + bytes - 1];
}
