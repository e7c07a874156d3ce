/* lanes_plain.h: 16 lanes as plain arrays, for any platform with 8-bit bytes and little-endian
 * packing. */
#include "fused.h"
#include "half.h"

typedef struct {
    uint8_t v[64];
} lanes_b;
typedef struct {
    int32_t v[16];
} lanes_i;
typedef struct {
    float v[16];
} lanes_f;
typedef struct {
    int8_t v[4];
} lanes_a;

#define TILE_BLOCKS 1
#define TILE_TOKENS 2
#define RZ_TILE 2
#define FAST_HALVES 0
#define SIGNED_BYTES 0

#define EACH(n, expression)                                                                        \
    for (int lane = 0; lane < (n); lane++) {                                                       \
        out.v[lane] = (expression);                                                                \
    }                                                                                              \
    return out

static inline lanes_b lb_load(const uint8_t *p) {
    lanes_b out;
    memcpy(out.v, p, sizeof out.v);
    return out;
}
static inline void lb_store(uint8_t *p, lanes_b b) {
    memcpy(p, b.v, sizeof b.v);
}
static inline lanes_b lb_splat(int c) {
    lanes_b out;
    EACH(64, (uint8_t)c);
}
static inline lanes_b lb_and(lanes_b a, lanes_b b) {
    lanes_b out;
    EACH(64, a.v[lane] & b.v[lane]);
}
static inline lanes_b lb_right(lanes_b a, int n) {
    lanes_b out;
    EACH(64, (uint8_t)(a.v[lane] >> n));
}
static inline lanes_b lb_left(lanes_b a, int n) {
    lanes_b out;
    EACH(64, (uint8_t)(a.v[lane] << n));
}
static inline lanes_b lb_and_or(lanes_b a, lanes_b mask, lanes_b b) {
    lanes_b out;
    EACH(64, (uint8_t)((a.v[lane] & mask.v[lane]) | b.v[lane]));
}
static inline lanes_b lb_add(lanes_b a, lanes_b b) {
    lanes_b out;
    EACH(64, (uint8_t)(a.v[lane] + b.v[lane]));
}
/* floor(3x / 256): the first digit of a fraction in base 3. */
static inline lanes_b lb_trit(lanes_b x) {
    lanes_b out;
    EACH(64, (uint8_t)(x.v[lane] * 3 >> 8));
}
static inline lanes_i li_load(const int32_t *p) {
    lanes_i out;
    memcpy(out.v, p, sizeof out.v);
    return out;
}
static inline void li_store(int32_t *p, lanes_i i) {
    memcpy(p, i.v, sizeof i.v);
}
static inline lanes_i li_splat(int32_t x) {
    lanes_i out;
    EACH(16, x);
}
static inline lanes_f lf_load(const float *p) {
    lanes_f out;
    memcpy(out.v, p, sizeof out.v);
    return out;
}
static inline void lf_store(float *p, lanes_f f) {
    memcpy(p, f.v, sizeof f.v);
}
static inline lanes_f lf_splat(float x) {
    lanes_f out;
    EACH(16, x);
}
static inline lanes_f lf_int(lanes_i i) {
    lanes_f out;
    EACH(16, (float)i.v[lane]);
}
static inline lanes_f lf_half(const uint16_t *p) {
    lanes_f out;
    EACH(16, rz_half_to_float(p[lane]));
}
static inline lanes_f lf_add(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(16, a.v[lane] + b.v[lane]);
}
static inline lanes_f lf_mul(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(16, a.v[lane] * b.v[lane]);
}
static inline lanes_f lf_fma(lanes_f a, lanes_f b, lanes_f c) {
    lanes_f out;
    EACH(16, rz_fused(a.v[lane], b.v[lane], c.v[lane]));
}
static inline lanes_f lf_sub(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(16, a.v[lane] - b.v[lane]);
}
static inline lanes_f lf_div(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(16, a.v[lane] / b.v[lane]);
}
static inline lanes_f lf_max(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(16, a.v[lane] > b.v[lane] ? a.v[lane] : b.v[lane]);
}
static inline lanes_f lf_min(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(16, a.v[lane] < b.v[lane] ? a.v[lane] : b.v[lane]);
}
/* Adding and taking away 1.5 * 2^23 leaves the nearest integer, ties to even. */
static inline lanes_f lf_round(lanes_f a) {
    lanes_f out;
    EACH(16, (a.v[lane] + 0x1.8p23f) - 0x1.8p23f);
}
static inline lanes_f lf_pow2(lanes_f n) {
    lanes_f out;
    EACH(16, rz_bits_to_float((uint32_t)((int32_t)n.v[lane] + 127) << 23));
}
/* The number nearer to 0, of two that are not positive. */
static inline lanes_f lf_least(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(16, a.v[lane] > b.v[lane] ? a.v[lane] : b.v[lane]);
}
/* p * 2^k for p near 1, where t = k + 1.5 * 2^23: the low bits of t are k's. */
static inline lanes_f lf_scale(lanes_f p, lanes_f t) {
    lanes_f out;
    EACH(16, rz_bits_to_float(rz_float_to_bits(p.v[lane]) + (rz_float_to_bits(t.v[lane]) << 23)));
}
static inline float lf_sum(lanes_f a) {
    for (int half = 8; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            a.v[lane] = a.v[lane + half] + a.v[lane];
    return a.v[0];
}
static inline float lf_peak(lanes_f a) {
    for (int half = 8; half > 0; half /= 2)
        for (int lane = 0; lane < half; lane++)
            a.v[lane] = a.v[lane + half] > a.v[lane] ? a.v[lane + half] : a.v[lane];
    return a.v[0];
}
static inline void lf_store_half(uint16_t *p, lanes_f a) {
    for (int lane = 0; lane < 16; lane++)
        p[lane] = rz_float_to_half(a.v[lane]);
}
static inline lanes_a la_load(const int8_t *p) {
    lanes_a out;
    memcpy(out.v, p, 4);
    return out;
}
static inline lanes_i dot4(lanes_i acc, lanes_b w, lanes_a a) {
    lanes_i out;
    EACH(16, acc.v[lane] + w.v[4 * lane] * a.v[0] + w.v[4 * lane + 1] * a.v[1] +
                 w.v[4 * lane + 2] * a.v[2] + w.v[4 * lane + 3] * a.v[3]);
}
#define dot4_wide dot4
