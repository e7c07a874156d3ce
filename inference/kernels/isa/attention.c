/* Attention over the paged KV cache for one instruction set; the layout is in ops.h.
 *
 * Both forms keep a running softmax (peak, total, weighted values) and look at one page at a time:
 * attend_one   one token: up to four query heads of a group share each loaded key and value vector,
 *              and what comes next is prefetched, since every page lies elsewhere;
 * attend_block many tokens: a page is turned to float once and used by every head of the group and
 * every token through one register tile, rows x vectors, that serves both Q*K and P*V.
 */
#include "ops.h"

#include <math.h>

#include "vec.h"

#define HEADS_AT_ONCE 4
#define ROWS_AT_ONCE 4
#define MASKED (-1e30f)
/* Vectors that four heads or rows hold sums of: what fits the registers. No sum depends on it. */
#if defined(__AVX512F__) && !defined(RZ_PLAIN)
#define VECTORS_AT_ONCE 2
#define TILE_VECTORS 4
#else
#define VECTORS_AT_ONCE 1
#define TILE_VECTORS 1
#endif

typedef struct head_page {
    const uint8_t *keys, *values;
} head_page;

RZ_INLINE int64_t element_bytes(const rz_attention *a) {
    return a->half_cache ? 2 : 4;
}

RZ_INLINE head_page find_page(const rz_attention *a, int64_t page, int32_t kv_head) {
    const uint8_t *keys = a->pages[page] + a->layer_offset + kv_head * a->head_bytes;
    return (head_page){keys, keys + element_bytes(a) * RZ_PAGE * a->head_dim};
}

/* Into the second cache level; an address past the end does no harm. */
RZ_INLINE void rz_prefetch(const uint8_t *address) {
    __builtin_prefetch(address, 0, 2);
}

RZ_INLINE lanes_f load_cache(const uint8_t *base, int64_t index, int half) {
    return half ? lf_half((const uint16_t *)base + index) : lf_load((const float *)base + index);
}

/* Index of vector `v` (VL positions) of a page's keys, element 0. */
RZ_INLINE int64_t key_vector(int32_t v, int32_t head_dim) {
    return (int64_t)v * head_dim * VL;
}

void rz_append(const rz_attention *a, int64_t position, const float *keys, const float *values) {
    int32_t slot = (int32_t)(position % RZ_PAGE), dim = a->head_dim, wide = a->value_dim;
    for (int32_t head = 0; head < a->kv_heads; head++, keys += dim, values += dim) {
        head_page page = find_page(a, position / RZ_PAGE, head);
        int64_t key = (int64_t)(slot / 16) * dim * 16 + slot % 16, value = (int64_t)slot * wide;
        if (a->half_cache) {
            uint16_t *k = (uint16_t *)page.keys + key, *v = (uint16_t *)page.values + value;
            uint16_t halves[VL];
            int32_t i = 0;
            for (; i + VL <= dim; i += VL) {
                lf_store_half(v + i, lf_load(values + i));
                lf_store_half(halves, lf_load(keys + i));
                for (int32_t j = 0; j < VL; j++)
                    k[(i + j) * 16] = halves[j];
            }
            for (; i < dim; i++) {
                v[i] = rz_float_to_half(values[i]);
                k[i * 16] = rz_float_to_half(keys[i]);
            }
        } else {
            float *k = (float *)page.keys + key, *v = (float *)page.values + value;
            for (int32_t i = 0; i < dim; i++)
                k[i * 16] = keys[i];
            memcpy(v, values, sizeof(float) * (size_t)dim);
        }
    }
}

/* scores[head][position] of VECTORS_AT_ONCE vectors of positions for `heads` query heads. */
RZ_INLINE void score_vectors(const uint8_t *keys, const uint8_t *next, const float *query,
                             int32_t dim, int heads, int half, int32_t vector, float *scores) {
    lanes_f sums[HEADS_AT_ONCE][VECTORS_AT_ONCE];
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < VECTORS_AT_ONCE; v++)
            sums[h][v] = lf_splat(0);
    for (int32_t d = 0; d < dim; d++) {
        rz_prefetch(next + ((int64_t)vector * dim + d * VECTORS_AT_ONCE) * 2 * VL);
        for (int v = 0; v < VECTORS_AT_ONCE; v++) {
            lanes_f key = load_cache(keys, key_vector(vector + v, dim) + d * VL, half);
            for (int h = 0; h < heads; h++)
                sums[h][v] = lf_fma(key, lf_splat(query[h * dim + d]), sums[h][v]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < VECTORS_AT_ONCE; v++)
            lf_store(scores + h * RZ_PAGE + (vector + v) * VL, sums[h][v]);
}

/* values[head] = values[head] * decay[head] + sum over positions of weights[head][position] *
 * V[position], for `vectors` vectors from element d on. */
RZ_INLINE void add_vectors(const uint8_t *cache, const uint8_t *next, const float *weights,
                           const float *decay, int32_t count, int32_t wide, int32_t d, int vectors,
                           int heads, int half, float *values) {
    lanes_f sums[HEADS_AT_ONCE][VECTORS_AT_ONCE];
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < vectors; v++)
            sums[h][v] = lf_mul(lf_load(values + h * wide + d + v * VL), lf_splat(decay[h]));
    for (int32_t p = 0; p < count; p++) {
        rz_prefetch(next + (int64_t)d * RZ_PAGE * 2 + p * 64);
        for (int v = 0; v < vectors; v++) {
            lanes_f value = load_cache(cache, (int64_t)p * wide + d + v * VL, half);
            for (int h = 0; h < heads; h++)
                sums[h][v] = lf_fma(value, lf_splat(weights[h * RZ_PAGE + p]), sums[h][v]);
        }
    }
    for (int h = 0; h < heads; h++)
        for (int v = 0; v < vectors; v++)
            lf_store(values + h * wide + d + v * VL, sums[h][v]);
}

RZ_INLINE void add_values(const uint8_t *cache, const uint8_t *next, const float *weights,
                          const float *decay, int32_t count, int32_t wide, int heads, int half,
                          float *values) {
    int32_t d = 0;
    for (; d + VECTORS_AT_ONCE * VL <= wide; d += VECTORS_AT_ONCE * VL)
        add_vectors(cache, next, weights, decay, count, wide, d, VECTORS_AT_ONCE, heads, half,
                    values);
    for (; d < wide; d += VL)
        add_vectors(cache, next, weights, decay, count, wide, d, 1, heads, half, values);
}

/* Turns scores into weights exp(score - peak) in place; positions from count on, up to a whole
 * vector, get zero. Returns the decay that what was summed before must be multiplied by. */
RZ_INLINE float soften(float *scores, int32_t count, float *peak, float *total) {
    int32_t vectors = (count + VL - 1) / VL, end = vectors * VL;
    for (int32_t i = count; i < end; i++)
        scores[i] = MASKED;
    lanes_f top = lf_load(scores);
    for (int32_t v = 1; v < vectors; v++)
        top = lf_max(top, lf_load(scores + v * VL));
    float new_peak = fmaxf(*peak, lf_peak(top));
    lanes_f base = lf_splat(new_peak), sum = lf_splat(0);
    for (int32_t v = 0; v < vectors; v++)
        lf_store(scores + v * VL, lf_exp(lf_sub(lf_load(scores + v * VL), base)));
    for (int32_t i = count; i < end; i++)
        scores[i] = 0;
    for (int32_t v = 0; v < vectors; v++)
        sum = lf_add(sum, lf_load(scores + v * VL));
    float decay = *peak <= MASKED ? 0.0f : rz_exp(*peak - new_peak);
    *total = *total * decay + lf_sum(sum);
    *peak = new_peak;
    return decay;
}

RZ_INLINE void attend_page(const rz_attention *a, head_page page, head_page next,
                           const float *query, int32_t count, int heads, int half, float *peak,
                           float *total, float *values) {
    float scores[HEADS_AT_ONCE * RZ_PAGE], decay[HEADS_AT_ONCE];
    int32_t vector = 0;
    do { /* a page that is looked at has at least one position */
        score_vectors(page.keys, next.keys, query, a->head_dim, heads, half, vector, scores);
        vector += VECTORS_AT_ONCE;
    } while (vector * VL < count);
    for (int h = 0; h < heads; h++)
        decay[h] = soften(scores + h * RZ_PAGE, count, peak + h, total + h);
    add_values(page.values, next.values, scores, decay, count, a->value_dim, heads, half, values);
}

#define ATTEND_HEADS(n)                                                                            \
    case n:                                                                                        \
        if (a->half_cache)                                                                         \
            attend_page(a, page, next, query, count, n, 1, peak, total, values);                   \
        else                                                                                       \
            attend_page(a, page, next, query, count, n, 0, peak, total, values);                   \
        break

static void attend_heads(const rz_attention *a, head_page page, head_page next, const float *query,
                         int32_t count, int32_t heads, float *peak, float *total, float *values) {
    switch (heads) {
        ATTEND_HEADS(1);
        ATTEND_HEADS(2);
        ATTEND_HEADS(3);
        ATTEND_HEADS(4);
    }
}

/* to = values / total for one head. */
RZ_INLINE void finish(const rz_attention *a, const float *restrict values, float total,
                      float *restrict to) {
    float scale = 1.0f / total;
    for (int32_t d = 0; d < a->head_dim; d++)
        to[d] = values[d] * scale;
}

/* What is looked at after this page and head: the next page, or the next head's first page. */
static head_page following(const rz_attention *a, int64_t page, int64_t pages, int32_t kv_head) {
    if (page + 1 < pages)
        return find_page(a, page + 1, kv_head);
    return find_page(a, 0, kv_head + 1 < a->kv_heads ? kv_head + 1 : kv_head);
}

void rz_attend_one(const rz_attention *a, const float *query, int64_t length, int32_t first,
                   int32_t last, float *workspace, float *out) {
    int32_t group = a->heads / a->kv_heads, dim = a->head_dim, wide = a->value_dim;
    float *peak = workspace, *total = peak + a->heads, *values = total + a->heads;
    int64_t pages = (length + RZ_PAGE - 1) / RZ_PAGE;
    memset(workspace, 0, sizeof(float) * (size_t)a->heads * (size_t)(wide + 2));
    for (int32_t h = first; h < last; h++)
        peak[h] = MASKED;
    for (int32_t kv = first / group; kv * group < last; kv++) {
        int32_t begin = kv * group > first ? kv * group : first;
        int32_t end = (kv + 1) * group < last ? (kv + 1) * group : last;
        for (int64_t p = 0; p < pages; p++) {
            int64_t left = length - p * RZ_PAGE;
            int32_t count = left < RZ_PAGE ? (int32_t)left : RZ_PAGE;
            head_page page = find_page(a, p, kv), next = following(a, p, pages, kv);
            for (int32_t h = begin; h < end; h += HEADS_AT_ONCE)
                attend_heads(a, page, next, query + h * dim, count,
                             end - h < HEADS_AT_ONCE ? end - h : HEADS_AT_ONCE, peak + h, total + h,
                             values + (int64_t)h * wide);
        }
    }
    for (int32_t h = first; h < last; h++)
        finish(a, values + (int64_t)h * wide, total[h], out + h * dim);
}

/* c[row][vector] = c * decay[row] + a[row][k] * b[k][vector], or without c where decay is NULL.
 * Vector v of b begins at b + v * panel and its rows are b_stride apart. */
RZ_INLINE void tile(const float *a, int64_t a_stride, const float *b, int64_t b_stride,
                    int64_t panel, int32_t depth, float *c, int64_t c_stride, const float *decay,
                    int rows, int vectors) {
    lanes_f sums[ROWS_AT_ONCE][TILE_VECTORS];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            sums[r][v] = decay ? lf_mul(lf_load(c + r * c_stride + v * VL), lf_splat(decay[r]))
                               : lf_splat(0);
    for (int32_t k = 0; k < depth; k++) {
        lanes_f right[TILE_VECTORS];
        for (int v = 0; v < vectors; v++)
            right[v] = lf_load(b + v * panel + k * b_stride);
        for (int r = 0; r < rows; r++) {
            lanes_f left = lf_splat(a[r * a_stride + k]);
            for (int v = 0; v < vectors; v++)
                sums[r][v] = lf_fma(right[v], left, sums[r][v]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++)
            lf_store(c + r * c_stride + v * VL, sums[r][v]);
}

/* A strip of `rows` (4 or 1) by any number of vectors. */
RZ_INLINE void strip(const float *a, int64_t a_stride, const float *b, int64_t b_stride,
                     int64_t panel, int32_t depth, float *c, int64_t c_stride, const float *decay,
                     int rows, int32_t vectors) {
    int32_t v = 0;
    for (; v + TILE_VECTORS <= vectors; v += TILE_VECTORS)
        tile(a, a_stride, b + v * panel, b_stride, panel, depth, c + v * VL, c_stride, decay, rows,
             TILE_VECTORS);
    for (; v < vectors; v++)
        tile(a, a_stride, b + v * panel, b_stride, panel, depth, c + v * VL, c_stride, decay, rows,
             1);
}

typedef struct block_head {
    const float *queries; /* of this head, first row */
    int64_t query_stride;
    float *peak, *total; /* [rows] */
    float *values;       /* [rows][value_dim] */
} block_head;

/* `rows` (4 or 1) tokens from `row` on over one page in float; the first of them may see `count`
 * positions, each further one another position more, up to the page's end. */
RZ_INLINE void attend_rows(const rz_attention *a, const block_head *head, const float *keys,
                           const float *values, int32_t row, int rows, int64_t count,
                           float *scores) {
    int64_t most = count + rows - 1;
    int32_t seen = most < RZ_PAGE ? (int32_t)most : RZ_PAGE, wide = a->value_dim;
    int32_t vectors = (seen + VL - 1) / VL;
    float decay[ROWS_AT_ONCE];
    strip(head->queries + row * head->query_stride, head->query_stride, keys, 16,
          (int64_t)a->head_dim * 16, a->head_dim, scores, RZ_PAGE, NULL, rows, vectors);
    for (int r = 0; r < rows; r++) {
        int32_t own = count + r < RZ_PAGE ? (int32_t)(count + r) : RZ_PAGE;
        decay[r] = soften(scores + r * RZ_PAGE, own, head->peak + row + r, head->total + row + r);
        for (int32_t i = (own + VL - 1) / VL * VL; i < seen; i++)
            scores[r * RZ_PAGE + i] = 0;
    }
    strip(scores, RZ_PAGE, values, wide, 16, seen, head->values + (int64_t)row * wide, wide, decay,
          rows, wide / VL);
}

static void load_page(const rz_attention *a, head_page page, float *keys, float *values) {
    int32_t key_count = RZ_PAGE * a->head_dim, value_count = RZ_PAGE * a->value_dim;
    for (int32_t i = 0; i < key_count; i += VL)
        lf_store(keys + i, load_cache(page.keys, i, a->half_cache));
    for (int32_t i = 0; i < value_count; i += VL)
        lf_store(values + i, load_cache(page.values, i, a->half_cache));
}

static void attend_head(const rz_attention *a, const block_head *head, const float *keys,
                        const float *values, int32_t rows, int64_t start, int64_t page_start,
                        float *scores) {
    int64_t skipped = page_start - start; /* rows before this one see nothing of the page */
    int32_t row = skipped > 0 ? (int32_t)skipped : 0;
    for (; row + ROWS_AT_ONCE <= rows; row += ROWS_AT_ONCE)
        attend_rows(a, head, keys, values, row, ROWS_AT_ONCE, start + row - page_start + 1, scores);
    for (; row < rows; row++)
        attend_rows(a, head, keys, values, row, 1, start + row - page_start + 1, scores);
}

void rz_attend_block(const rz_attention *a, const float *queries, int64_t query_stride,
                     int32_t rows, int64_t start, float *workspace, float *out,
                     int64_t out_stride) {
    int32_t group = a->heads / a->kv_heads, dim = a->head_dim;
    float *keys = workspace, *values = keys + RZ_PAGE * dim,
          *scores = values + RZ_PAGE * a->value_dim;
    float *running = scores + ROWS_AT_ONCE * RZ_PAGE;
    int64_t head_floats = (int64_t)rows * (a->value_dim + 2), end = start + rows;
    for (int32_t kv = 0; kv < a->kv_heads; kv++) {
        memset(running, 0, sizeof(float) * (size_t)(head_floats * group));
        for (int32_t g = 0; g < group; g++)
            for (int32_t row = 0; row < rows; row++)
                running[g * head_floats + row] = MASKED;
        for (int64_t page = 0; page * RZ_PAGE < end; page++) {
            load_page(a, find_page(a, page, kv), keys, values);
            for (int32_t g = 0; g < group; g++) {
                float *own = running + g * head_floats;
                block_head head = {queries + (kv * group + g) * dim, query_stride, own, own + rows,
                                   own + 2 * rows};
                attend_head(a, &head, keys, values, rows, start, page * RZ_PAGE, scores);
            }
        }
        for (int32_t g = 0; g < group; g++) {
            const float *own = running + g * head_floats, *total = own + rows, *all = total + rows;
            for (int32_t row = 0; row < rows; row++)
                finish(a, all + (int64_t)row * a->value_dim, total[row],
                       out + row * out_stride + (kv * group + g) * dim);
        }
    }
}
