/* lanes_sse2.h: 16 lanes as four 128-bit registers: the portable set where SSE2 is the baseline. */
#include <emmintrin.h>

#include "fused.h"
#include "half.h"

typedef struct {
    __m128i v[4];
} lanes_b;
typedef lanes_b lanes_i;
typedef struct {
    __m128 v[4];
} lanes_f;
typedef struct {
    __m128i even, odd; /* 16-bit activations of k 0 and 2, of k 1 and 3 */
} lanes_a;

#define TILE_BLOCKS 1
#define TILE_TOKENS 2
#define RZ_TILE 2
#define FAST_HALVES 0
#define SIGNED_BYTES 0

#define EACH(expression)                                                                           \
    RZ_UNROLL(4)                                                                                   \
    for (int i = 0; i < 4; i++)                                                                    \
        out.v[i] = (expression);                                                                   \
    return out

RZ_INLINE lanes_b lb_load(const uint8_t *p) {
    lanes_b out;
    EACH(_mm_loadu_si128((const __m128i *)(const void *)p + i));
}
RZ_INLINE void lb_store(uint8_t *p, lanes_b b) {
    RZ_UNROLL(4)
    for (int i = 0; i < 4; i++)
        _mm_storeu_si128((__m128i *)(void *)p + i, b.v[i]);
}
RZ_INLINE lanes_b lb_splat(int c) {
    lanes_b out;
    EACH(_mm_set1_epi8((char)c));
}
RZ_INLINE lanes_b lb_and(lanes_b a, lanes_b b) {
    lanes_b out;
    EACH(_mm_and_si128(a.v[i], b.v[i]));
}
RZ_INLINE lanes_b lb_right(lanes_b a, int n) {
    lanes_b out;
    EACH(_mm_srli_epi32(a.v[i], n));
}
RZ_INLINE lanes_b lb_left(lanes_b a, int n) {
    lanes_b out;
    EACH(_mm_slli_epi32(a.v[i], n));
}
RZ_INLINE lanes_b lb_and_or(lanes_b a, lanes_b mask, lanes_b b) {
    lanes_b out;
    EACH(_mm_or_si128(_mm_and_si128(a.v[i], mask.v[i]), b.v[i]));
}
RZ_INLINE lanes_b lb_add(lanes_b a, lanes_b b) {
    lanes_b out;
    EACH(_mm_add_epi8(a.v[i], b.v[i]));
}
RZ_INLINE __m128i at_least(__m128i x, int least) {
    return _mm_cmpeq_epi8(_mm_max_epu8(x, _mm_set1_epi8((char)least)), x);
}
/* floor(3x / 256): the first digit of a fraction in base 3. */
RZ_INLINE lanes_b lb_trit(lanes_b x) {
    lanes_b out;
    EACH(_mm_sub_epi8(_mm_setzero_si128(),
                      _mm_add_epi8(at_least(x.v[i], 86), at_least(x.v[i], 171))));
}
RZ_INLINE lanes_i li_load(const int32_t *p) {
    lanes_i out;
    EACH(_mm_loadu_si128((const __m128i *)(const void *)p + i));
}
RZ_INLINE void li_store(int32_t *p, lanes_i v) {
    RZ_UNROLL(4)
    for (int i = 0; i < 4; i++)
        _mm_storeu_si128((__m128i *)(void *)p + i, v.v[i]);
}
RZ_INLINE lanes_i li_splat(int32_t x) {
    lanes_i out;
    EACH(_mm_set1_epi32(x));
}
RZ_INLINE lanes_f lf_load(const float *p) {
    lanes_f out;
    EACH(_mm_loadu_ps(p + 4 * i));
}
RZ_INLINE void lf_store(float *p, lanes_f f) {
    RZ_UNROLL(4)
    for (int i = 0; i < 4; i++)
        _mm_storeu_ps(p + 4 * i, f.v[i]);
}
RZ_INLINE lanes_f lf_splat(float x) {
    lanes_f out;
    EACH(_mm_set1_ps(x));
}
RZ_INLINE lanes_f lf_int(lanes_i a) {
    lanes_f out;
    EACH(_mm_cvtepi32_ps(a.v[i]));
}
RZ_INLINE lanes_f lf_half(const uint16_t *p) {
    RZ_ALIGNED float values[16];
    for (int lane = 0; lane < 16; lane++)
        values[lane] = rz_half_to_float(p[lane]);
    return lf_load(values);
}
RZ_INLINE lanes_f lf_add(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(_mm_add_ps(a.v[i], b.v[i]));
}
RZ_INLINE lanes_f lf_mul(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(_mm_mul_ps(a.v[i], b.v[i]));
}
/* a * b + c of the low two lanes in double, rounded to odd as in fused.h. */
RZ_INLINE __m128d fma_odd(__m128 a, __m128 b, __m128 c) {
    const __m128d zero = _mm_setzero_pd(), sign = _mm_set1_pd(-0.0);
    const __m128d product = _mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), add = _mm_cvtps_pd(c);
    const __m128d sum = _mm_add_pd(product, add), back = _mm_sub_pd(sum, product);
    const __m128d error =
        _mm_add_pd(_mm_sub_pd(product, _mm_sub_pd(sum, back)), _mm_sub_pd(add, back));
    const __m128d outwards = _mm_xor_pd(error, _mm_and_pd(sum, sign)); /* with the sum's sign */
    const __m128i over = _mm_castpd_si128(_mm_cmplt_pd(outwards, zero));
    const __m128i under = _mm_castpd_si128(_mm_cmpgt_pd(outwards, zero));
    const __m128i odd = _mm_srli_epi64(_mm_or_si128(over, under), 63);
    return _mm_castsi128_pd(_mm_or_si128(_mm_add_epi64(_mm_castpd_si128(sum), over), odd));
}
RZ_INLINE lanes_f lf_fma(lanes_f a, lanes_f b, lanes_f c) {
    lanes_f out;
    EACH(_mm_movelh_ps(
        _mm_cvtpd_ps(fma_odd(a.v[i], b.v[i], c.v[i])),
        _mm_cvtpd_ps(fma_odd(_mm_movehl_ps(a.v[i], a.v[i]), _mm_movehl_ps(b.v[i], b.v[i]),
                             _mm_movehl_ps(c.v[i], c.v[i])))));
}
RZ_INLINE lanes_f lf_sub(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(_mm_sub_ps(a.v[i], b.v[i]));
}
RZ_INLINE lanes_f lf_div(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(_mm_div_ps(a.v[i], b.v[i]));
}
RZ_INLINE lanes_f lf_max(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(_mm_max_ps(a.v[i], b.v[i]));
}
RZ_INLINE lanes_f lf_min(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(_mm_min_ps(a.v[i], b.v[i]));
}
RZ_INLINE lanes_f lf_round(lanes_f a) {
    lanes_f out;
    EACH(_mm_cvtepi32_ps(_mm_cvtps_epi32(a.v[i])));
}
RZ_INLINE lanes_f lf_pow2(lanes_f n) {
    lanes_f out;
    EACH(_mm_castsi128_ps(
        _mm_slli_epi32(_mm_add_epi32(_mm_cvtps_epi32(n.v[i]), _mm_set1_epi32(127)), 23)));
}
/* The number nearer to 0, of two that are not positive. */
RZ_INLINE lanes_f lf_least(lanes_f a, lanes_f b) {
    lanes_f out;
    EACH(_mm_max_ps(a.v[i], b.v[i]));
}
/* p * 2^k for p near 1, where t = k + 1.5 * 2^23: the low bits of t are k's. */
RZ_INLINE lanes_f lf_scale(lanes_f p, lanes_f t) {
    lanes_f out;
    EACH(_mm_castsi128_ps(
        _mm_add_epi32(_mm_castps_si128(p.v[i]), _mm_slli_epi32(_mm_castps_si128(t.v[i]), 23))));
}
RZ_INLINE float lf_sum(lanes_f a) {
    __m128 s = _mm_add_ps(_mm_add_ps(a.v[3], a.v[1]), _mm_add_ps(a.v[2], a.v[0]));
    s = _mm_add_ps(_mm_movehl_ps(s, s), s);
    return _mm_cvtss_f32(_mm_add_ss(_mm_shuffle_ps(s, s, 1), s));
}
RZ_INLINE float lf_peak(lanes_f a) {
    __m128 s = _mm_max_ps(_mm_max_ps(a.v[3], a.v[1]), _mm_max_ps(a.v[2], a.v[0]));
    s = _mm_max_ps(_mm_movehl_ps(s, s), s);
    return _mm_cvtss_f32(_mm_max_ss(_mm_shuffle_ps(s, s, 1), s));
}
RZ_INLINE void lf_store_half(uint16_t *p, lanes_f a) {
    RZ_ALIGNED float values[16];
    lf_store(values, a);
    for (int lane = 0; lane < 16; lane++)
        p[lane] = rz_float_to_half(values[lane]);
}
RZ_INLINE lanes_a la_load(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    const __m128i bytes = _mm_set1_epi32(word);
    return (lanes_a){_mm_srai_epi16(_mm_slli_epi16(bytes, 8), 8), _mm_srai_epi16(bytes, 8)};
}
/* Even and odd bytes as 16-bit lanes: exact for any code, 2 x 255 x 127 fits the 32-bit sums. */
RZ_INLINE lanes_i dot4(lanes_i acc, lanes_b w, lanes_a a) {
    lanes_i out;
    EACH(_mm_add_epi32(
        _mm_add_epi32(acc.v[i],
                      _mm_madd_epi16(_mm_and_si128(w.v[i], _mm_set1_epi16(0xff)), a.even)),
        _mm_madd_epi16(_mm_srli_epi16(w.v[i], 8), a.odd)));
}
#define dot4_wide dot4
