/* ssm_dual.c: a head of Mamba-2 over the tokens of one chunk; contract in ssm.h.
 *
 * Token by token a state would be multiplied by its decay, added to and read. Here it is read and
 * changed once a chunk, in matrix products (Dao and Gu 2024, section 6), and what a token takes of
 * the others in its chunk comes from dot products of their B and C, as in attention. Sums go over
 * states and tokens in order, so that a token gives the same bits alone and among others.
 */
#include "ssm.h"

#include "vec.h"

/* A tile of rows by vectors of a head is held in registers. */
#if defined(RZ_ISA_AVX512) || defined(RZ_ISA_AVX512VNNI)
#define ROWS 4 /* both kinds of them are multiples of it: tokens of a chunk and states */
#define WIDE 4
#else
#define ROWS 2
#define WIDE 2
#endif

/* What a chunk's tokens need of each other. */
typedef struct chunk {
    int32_t padded;
    RZ_ALIGNED float sums[RZ_DUAL_TOKENS];                   /* of dt * A up to each token */
    RZ_ALIGNED float decays[RZ_DUAL_TOKENS];                 /* exp of them */
    RZ_ALIGNED float shares[RZ_DUAL_TOKENS][RZ_DUAL_TOKENS]; /* of each new token in the others */
} chunk;

/* The first n of 16 floats, then zeros. */
static lanes_f part(const float *x, int32_t n) {
    RZ_ALIGNED float held[VL] = {0};
    if (n >= VL)
        return lf_load(x);
    memcpy(held, x, sizeof(float) * (size_t)n);
    return lf_load(held);
}

static void store_part(float *x, lanes_f values, int32_t n) {
    RZ_ALIGNED float held[VL];
    if (n >= VL) {
        lf_store(x, values);
        return;
    }
    lf_store(held, values);
    memcpy(x, held, sizeof(float) * (size_t)n);
}

/* Puts the new tokens' x and dt behind those of the chunk that are there. */
static void take(const rz_dual *h, int32_t padded) {
    for (int32_t r = h->first; r < h->last; r++) {
        const float *x = h->x + (r - h->first) * h->stride;
        for (int32_t at = 0; at < padded; at += VL)
            lf_store(h->kept_x + r * padded + at, part(x + at, h->dim - at));
        h->kept_dt[r] = h->dt[r - h->first];
    }
}

static void prepare(const rz_dual *h, chunk *c) {
    float sum = 0;
    c->padded = rz_dual_padded(h->dim);
    take(h, c->padded);
    for (int32_t s = 0; s < RZ_DUAL_TOKENS; s++) {
        sum += s < h->last ? h->kept_dt[s] * h->a : 0;
        c->sums[s] = sum;
    }
    const lanes_f sums = lf_load(c->sums), dt = part(h->kept_dt, h->last);
    lf_store(c->decays, lf_exp(sums));
    for (int32_t r = h->first; r < h->last; r++) {
        const lanes_f since = lf_min(lf_splat(0), lf_sub(lf_splat(c->sums[r]), sums));
        const lanes_f dots = part(h->dots + r * RZ_DUAL_TOKENS, r + 1); /* none of later tokens */
        lf_store(c->shares[r], lf_mul(lf_mul(lf_exp(since), dt), dots));
    }
}

/* out of rows [r, r + rows) and vectors [at, at + vectors). */
RZ_INLINE void outputs(int rows, int vectors, const rz_dual *h, const chunk *c, int32_t r,
                       int32_t at) {
    const float *read = h->c + (r - h->first) * h->stride, *state = h->state + at;
    lanes_f sum[ROWS][WIDE], row[WIDE];
    RZ_UNROLL(4)
    for (int i = 0; i < rows; i++) {
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = lf_splat(0);
    }
    for (int32_t n = 0; n < h->states; n++, state += c->padded) {
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++)
            row[v] = lf_load(state + v * VL);
        RZ_UNROLL(4)
        for (int i = 0; i < rows; i++) {
            const lanes_f weight = lf_splat(read[i * h->stride + n]);
            RZ_UNROLL(4)
            for (int v = 0; v < vectors; v++)
                sum[i][v] = lf_fma(row[v], weight, sum[i][v]);
        }
    }
    RZ_UNROLL(4)
    for (int i = 0; i < rows; i++) {
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = lf_mul(sum[i][v], lf_splat(c->decays[r + i]));
    }
    for (int32_t s = 0; s < r + rows; s++) {
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++)
            row[v] = lf_load(h->kept_x + s * c->padded + at + v * VL);
        RZ_UNROLL(4)
        for (int i = 0; i < rows; i++) {
            const lanes_f weight = lf_splat(c->shares[r + i][s]);
            RZ_UNROLL(4)
            for (int v = 0; v < vectors; v++)
                sum[i][v] = lf_fma(row[v], weight, sum[i][v]);
        }
    }
    RZ_UNROLL(4)
    for (int i = 0; i < rows; i++) {
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++) {
            const lanes_f x = lf_load(h->kept_x + (r + i) * c->padded + at + v * VL);
            lf_store(h->work + i * c->padded + at + v * VL, lf_fma(x, lf_splat(h->d), sum[i][v]));
        }
    }
}

/* Rows [r, r + rows) through their gate. */
static void gate(const rz_dual *h, const chunk *c, int32_t r, int32_t rows) {
    for (int32_t i = 0; i < rows; i++)
        for (int32_t at = 0; at < h->dim; at += VL) {
            const int64_t t = r + i - h->first;
            const lanes_f open = lf_silu(part(h->z + t * h->z_stride + at, h->dim - at));
            const lanes_f y = lf_load(h->work + i * c->padded + at);
            store_part(h->out + t * h->out_stride + at, lf_mul(y, open), h->dim - at);
        }
}

RZ_INLINE void rows_of(int rows, const rz_dual *h, const chunk *c, int32_t r) {
    int32_t at = 0;
    for (; at + WIDE * VL <= c->padded; at += WIDE * VL)
        outputs(rows, WIDE, h, c, r, at);
    for (; at < c->padded; at += VL)
        outputs(rows, 1, h, c, r, at);
    gate(h, c, r, rows);
}

/* State rows [n, n + rows) after the chunk; `x` are its tokens' x by dt and what is left of them.
 */
RZ_INLINE void change(int rows, int vectors, const rz_dual *h, const chunk *c, const float *x,
                      int32_t n, int32_t at) {
    const lanes_f decay = lf_splat(c->decays[RZ_DUAL_TOKENS - 1]);
    float *state = h->state + n * c->padded + at;
    lanes_f sum[ROWS][WIDE], row[WIDE];
    RZ_UNROLL(4)
    for (int i = 0; i < rows; i++) {
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = lf_mul(decay, lf_load(state + i * c->padded + v * VL));
    }
    for (int32_t s = 0; s < RZ_DUAL_TOKENS; s++) {
        const float *b = h->b[s] + n;
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++)
            row[v] = lf_load(x + s * c->padded + at + v * VL);
        RZ_UNROLL(4)
        for (int i = 0; i < rows; i++) {
            const lanes_f weight = lf_splat(b[i]);
            RZ_UNROLL(4)
            for (int v = 0; v < vectors; v++)
                sum[i][v] = lf_fma(row[v], weight, sum[i][v]);
        }
    }
    RZ_UNROLL(4)
    for (int i = 0; i < rows; i++) {
        RZ_UNROLL(4)
        for (int v = 0; v < vectors; v++)
            lf_store(state + i * c->padded + v * VL, sum[i][v]);
    }
}

RZ_INLINE void states_of(int rows, const rz_dual *h, const chunk *c, const float *x, int32_t n) {
    int32_t at = 0;
    for (; at + WIDE * VL <= c->padded; at += WIDE * VL)
        change(rows, WIDE, h, c, x, n, at);
    for (; at < c->padded; at += VL)
        change(rows, 1, h, c, x, n, at);
}

static void change_state(const rz_dual *h, const chunk *c) {
    RZ_ALIGNED float left[VL];
    float *x = h->work;
    const lanes_f since = lf_sub(lf_splat(c->sums[VL - 1]), lf_load(c->sums));
    lf_store(left, lf_mul(lf_exp(since), lf_load(h->kept_dt)));
    for (int32_t s = 0; s < RZ_DUAL_TOKENS; s++)
        for (int32_t at = 0; at < c->padded; at += VL)
            lf_store(x + s * c->padded + at,
                     lf_mul(lf_load(h->kept_x + s * c->padded + at), lf_splat(left[s])));
    int32_t n = 0;
    for (; n + ROWS <= h->states; n += ROWS)
        states_of(ROWS, h, c, x, n);
    for (; n < h->states; n++)
        states_of(1, h, c, x, n);
}

void rz_dual_chunk(const rz_dual *h) {
    chunk c;
    prepare(h, &c);
    int32_t r = h->first;
    for (; r + ROWS <= h->last; r += ROWS)
        rows_of(ROWS, h, &c, r);
    for (; r < h->last; r++)
        rows_of(1, h, &c, r);
    if (h->last == RZ_DUAL_TOKENS)
        change_state(h, &c);
}
