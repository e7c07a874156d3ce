/* lanes_avx2.h: 16 lanes as two 256-bit registers. */
#include <immintrin.h>

typedef struct {
    __m256i v[2];
} lanes_b;
typedef struct {
    __m256i v[2];
} lanes_i;
typedef struct {
    __m256 v[2];
} lanes_f;
typedef __m256i lanes_a;

/* Sixteen registers: one block x 2 tokens, 8 of them accumulators. */
#define TILE_BLOCKS 1
#define TILE_TOKENS 2
#define RZ_TILE 2
#define FAST_HALVES 1
#define SIGNED_BYTES 1

static inline lanes_b lb_load(const uint8_t *p) {
    const __m256i *q = (const __m256i *)(const void *)p;
    return (lanes_b){{_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)}};
}
static inline void lb_store(uint8_t *p, lanes_b b) {
    _mm256_storeu_si256((__m256i *)(void *)p, b.v[0]);
    _mm256_storeu_si256((__m256i *)(void *)(p + 32), b.v[1]);
}
static inline lanes_b lb_splat(int c) {
    return (lanes_b){{_mm256_set1_epi8((char)c), _mm256_set1_epi8((char)c)}};
}
static inline lanes_b lb_and(lanes_b a, lanes_b b) {
    return (lanes_b){{_mm256_and_si256(a.v[0], b.v[0]), _mm256_and_si256(a.v[1], b.v[1])}};
}
static inline lanes_b lb_right(lanes_b a, int n) {
    return (lanes_b){{_mm256_srli_epi32(a.v[0], n), _mm256_srli_epi32(a.v[1], n)}};
}
static inline lanes_b lb_left(lanes_b a, int n) {
    return (lanes_b){{_mm256_slli_epi32(a.v[0], n), _mm256_slli_epi32(a.v[1], n)}};
}
static inline lanes_b lb_and_or(lanes_b a, lanes_b mask, lanes_b b) {
    const lanes_b kept = lb_and(a, mask);
    return (lanes_b){{_mm256_or_si256(kept.v[0], b.v[0]), _mm256_or_si256(kept.v[1], b.v[1])}};
}
static inline lanes_b lb_add(lanes_b a, lanes_b b) {
    return (lanes_b){{_mm256_add_epi8(a.v[0], b.v[0]), _mm256_add_epi8(a.v[1], b.v[1])}};
}
static inline __m256i at_least(__m256i x, int least) {
    return _mm256_cmpeq_epi8(_mm256_max_epu8(x, _mm256_set1_epi8((char)least)), x);
}
/* floor(3x / 256): the first digit of a fraction in base 3. */
static inline lanes_b lb_trit(lanes_b x) {
    lanes_b out;
    for (int i = 0; i < 2; i++) {
        const __m256i both = _mm256_add_epi8(at_least(x.v[i], 86), at_least(x.v[i], 171));
        out.v[i] = _mm256_sub_epi8(_mm256_setzero_si256(), both);
    }
    return out;
}
static inline lanes_i li_load(const int32_t *p) {
    const __m256i *q = (const __m256i *)(const void *)p;
    return (lanes_i){{_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)}};
}
static inline void li_store(int32_t *p, lanes_i i) {
    _mm256_storeu_si256((__m256i *)(void *)p, i.v[0]);
    _mm256_storeu_si256((__m256i *)(void *)(p + 8), i.v[1]);
}
static inline lanes_i li_splat(int32_t x) {
    return (lanes_i){{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}};
}
static inline lanes_f lf_load(const float *p) {
    return (lanes_f){{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}};
}
static inline void lf_store(float *p, lanes_f f) {
    _mm256_storeu_ps(p, f.v[0]);
    _mm256_storeu_ps(p + 8, f.v[1]);
}
static inline lanes_f lf_splat(float x) {
    return (lanes_f){{_mm256_set1_ps(x), _mm256_set1_ps(x)}};
}
static inline lanes_f lf_int(lanes_i i) {
    return (lanes_f){{_mm256_cvtepi32_ps(i.v[0]), _mm256_cvtepi32_ps(i.v[1])}};
}
static inline lanes_f lf_half(const uint16_t *p) {
    const __m128i *q = (const __m128i *)(const void *)p;
    return (lanes_f){
        {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))}};
}
static inline lanes_f lf_add(lanes_f a, lanes_f b) {
    return (lanes_f){{_mm256_add_ps(a.v[0], b.v[0]), _mm256_add_ps(a.v[1], b.v[1])}};
}
static inline lanes_f lf_mul(lanes_f a, lanes_f b) {
    return (lanes_f){{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}};
}
static inline lanes_f lf_fma(lanes_f a, lanes_f b, lanes_f c) {
    return (lanes_f){
        {_mm256_fmadd_ps(a.v[0], b.v[0], c.v[0]), _mm256_fmadd_ps(a.v[1], b.v[1], c.v[1])}};
}
static inline lanes_f lf_sub(lanes_f a, lanes_f b) {
    return (lanes_f){{_mm256_sub_ps(a.v[0], b.v[0]), _mm256_sub_ps(a.v[1], b.v[1])}};
}
static inline lanes_f lf_div(lanes_f a, lanes_f b) {
    return (lanes_f){{_mm256_div_ps(a.v[0], b.v[0]), _mm256_div_ps(a.v[1], b.v[1])}};
}
static inline lanes_f lf_max(lanes_f a, lanes_f b) {
    return (lanes_f){{_mm256_max_ps(a.v[0], b.v[0]), _mm256_max_ps(a.v[1], b.v[1])}};
}
static inline lanes_f lf_min(lanes_f a, lanes_f b) {
    return (lanes_f){{_mm256_min_ps(a.v[0], b.v[0]), _mm256_min_ps(a.v[1], b.v[1])}};
}
static inline lanes_f lf_round(lanes_f a) {
    return (lanes_f){{_mm256_round_ps(a.v[0], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
                      _mm256_round_ps(a.v[1], _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}};
}
static inline __m256 pow2_half(__m256 n) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline lanes_f lf_pow2(lanes_f n) {
    return (lanes_f){{pow2_half(n.v[0]), pow2_half(n.v[1])}};
}
/* The number nearer to 0, of two that are not positive. */
static inline __m256 least_half(__m256 a, __m256 b) {
    return _mm256_castsi256_ps(_mm256_min_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
static inline lanes_f lf_least(lanes_f a, lanes_f b) {
    return (lanes_f){{least_half(a.v[0], b.v[0]), least_half(a.v[1], b.v[1])}};
}
static inline __m256 scale_half(__m256 p, __m256 t) {
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_castps_si256(t), 23)));
}
/* p * 2^k for p near 1, where t = k + 1.5 * 2^23: the low bits of t are k's. */
static inline lanes_f lf_scale(lanes_f p, lanes_f t) {
    return (lanes_f){{scale_half(p.v[0], t.v[0]), scale_half(p.v[1], t.v[1])}};
}
static inline float lf_sum(lanes_f a) {
    const __m256 eight = _mm256_add_ps(a.v[1], a.v[0]);
    __m128 s = _mm_add_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    s = _mm_add_ps(_mm_movehl_ps(s, s), s);
    return _mm_cvtss_f32(_mm_add_ss(_mm_shuffle_ps(s, s, 1), s));
}
static inline float lf_peak(lanes_f a) {
    const __m256 eight = _mm256_max_ps(a.v[1], a.v[0]);
    __m128 s = _mm_max_ps(_mm256_extractf128_ps(eight, 1), _mm256_castps256_ps128(eight));
    s = _mm_max_ps(_mm_movehl_ps(s, s), s);
    return _mm_cvtss_f32(_mm_max_ss(_mm_shuffle_ps(s, s, 1), s));
}
static inline void lf_store_half(uint16_t *p, lanes_f a) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(a.v[0], 0));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(a.v[1], 0));
}
static inline lanes_a la_load(const int8_t *p) {
    int32_t word;
    memcpy(&word, p, 4);
    return _mm256_set1_epi32(word);
}
/* Exact for codes up to 63: 2 x 63 x 127 fits 16 bits. */
static inline __m256i dot4_half(__m256i acc, __m256i w, __m256i a) {
    const __m256i pairs = _mm256_maddubs_epi16(w, a);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
static inline lanes_i dot4(lanes_i acc, lanes_b w, lanes_a a) {
    return (lanes_i){{dot4_half(acc.v[0], w.v[0], a), dot4_half(acc.v[1], w.v[1], a)}};
}
/* Bytes w + 128: |w| x (a with the sign of w), 2 x 128 x 127 fits; the result has no offset of 128.
 */
static inline lanes_i dot4_wide(lanes_i acc, lanes_b w, lanes_a a) {
    const __m256i flip = _mm256_set1_epi8((char)0x80);
    lanes_i out;
    for (int i = 0; i < 2; i++) {
        const __m256i value = _mm256_xor_si256(w.v[i], flip);
        out.v[i] = dot4_half(acc.v[i], _mm256_abs_epi8(value), _mm256_sign_epi8(a, value));
    }
    return out;
}
