/* Norm, gate and rotary positions for one instruction set, and its table; contracts in ops.h. */
#include "ops.h"

#include <math.h>

#include "vec.h"

#define NAME_(x) #x
#define NAME(x) NAME_(x)

static void rmsnorm(const float *x, const float *weight, float eps, int32_t n, float *out) {
    int32_t padded = (n + 31) / 32 * 32;
    lanes_f even = lf_splat(0), odd = lf_splat(0);
    for (int32_t i = 0; i < padded; i += 2 * VL) {
        lanes_f a = lf_load(x + i), b = lf_load(x + i + VL);
        even = lf_fma(a, a, even);
        odd = lf_fma(b, b, odd);
    }
    lanes_f scale = lf_splat(1.0f / sqrtf(lf_sum(lf_add(even, odd)) / (float)n + eps));
    for (int32_t i = 0; i < padded; i += VL)
        lf_store(out + i, lf_mul(lf_mul(lf_load(x + i), scale), lf_load(weight + i)));
}

static void silu_mul(float *gate, const float *up, int64_t n) {
    lanes_f one = lf_splat(1.0f), zero = lf_splat(0);
    for (int64_t i = 0; i < n; i += VL) {
        lanes_f g = lf_load(gate + i);
        lanes_f sigmoid = lf_div(g, lf_add(one, lf_exp(lf_sub(zero, g))));
        lf_store(gate + i, lf_mul(sigmoid, lf_load(up + i)));
    }
}

/* A gate that is no number stays none: lf_max returns its second argument then. */
static void relu2_mul(float *gate, const float *up, int64_t n) {
    lanes_f zero = lf_splat(0);
    for (int64_t i = 0; i < n; i += VL) {
        lanes_f g = lf_max(zero, lf_load(gate + i));
        lf_store(gate + i, lf_mul(lf_mul(g, g), lf_load(up + i)));
    }
}

/* Sums over n elements: lanes past the end hold `filler`. */
static lanes_f last_lanes(const float *x, int32_t n, float filler) {
    RZ_ALIGNED float part[VL];
    for (int32_t i = 0; i < VL; i++)
        part[i] = i < n ? x[i] : filler;
    return lf_load(part);
}

static void layernorm(const float *x, const float *weight, const float *bias, float eps, int32_t n,
                      float *out) {
    int32_t full = n / VL * VL, padded = (n + 31) / 32 * 32;
    lanes_f sum = last_lanes(x + full, n - full, 0);
    for (int32_t i = 0; i < full; i += VL)
        sum = lf_add(sum, lf_load(x + i));
    float mean = lf_sum(sum) / (float)n;
    lanes_f middle = lf_splat(mean), gap = lf_sub(last_lanes(x + full, n - full, mean), middle);
    lanes_f squares = lf_mul(gap, gap);
    for (int32_t i = 0; i < full; i += VL) {
        gap = lf_sub(lf_load(x + i), middle);
        squares = lf_fma(gap, gap, squares);
    }
    lanes_f scale = lf_splat(1.0f / sqrtf(lf_sum(squares) / (float)n + eps));
    for (int32_t i = 0; i < padded; i += VL) {
        gap = lf_mul(lf_mul(lf_sub(lf_load(x + i), middle), scale), lf_load(weight + i));
        lf_store(out + i, bias == NULL ? gap : lf_add(gap, lf_load(bias + i)));
    }
}

RZ_INLINE lanes_f mapped(int32_t f, lanes_f x) {
    switch (f) {
    case RZ_MAP_SILU:
        return lf_silu(x);
    case RZ_MAP_TANH:
        return lf_tanh(x);
    case RZ_MAP_SIGMOID:
        return lf_sigmoid(x);
    case RZ_MAP_SOFTPLUS:
        return lf_softplus(x);
    case RZ_MAP_EXP:
        return lf_exp(x);
    default:
        x = lf_max(lf_splat(0), x);
        return lf_mul(x, x);
    }
}

static void map(int32_t f, float *x, int64_t n) {
    int64_t full = n / VL * VL;
    for (int64_t i = 0; i < full; i += VL)
        lf_store(x + i, mapped(f, lf_load(x + i)));
    if (full == n)
        return;
    RZ_ALIGNED float part[VL];
    lf_store(part, mapped(f, last_lanes(x + full, (int32_t)(n - full), 0)));
    memcpy(x + full, part, sizeof(float) * (size_t)(n - full));
}

static void rotate_halves(float *restrict x, const float *restrict cosine,
                          const float *restrict sine, int32_t half, float scale) {
    for (int32_t i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = (a * cosine[i] - b * sine[i]) * scale;
        x[i + half] = (b * cosine[i] + a * sine[i]) * scale;
    }
}

static void rotate_pairs(float *restrict x, const float *restrict cosine,
                         const float *restrict sine, int32_t half, float scale) {
    for (int32_t i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = (a * cosine[i] - b * sine[i]) * scale;
        x[2 * i + 1] = (b * cosine[i] + a * sine[i]) * scale;
    }
}

static void rotate(float *x, int32_t heads, int32_t dim, const float *cos_sin, int32_t half,
                   int interleaved, float scale) {
    for (int32_t head = 0; head < heads; head++, x += dim) {
        if (interleaved)
            rotate_pairs(x, cos_sin, cos_sin + half, half, scale);
        else
            rotate_halves(x, cos_sin, cos_sin + half, half, scale);
        if (scale != 1.0f)
            for (int32_t i = 2 * half; i < dim; i++)
                x[i] *= scale;
    }
}

const rz_ops_kernels RZ_ISA_FN(rz_ops) = {
    .isa = NAME(RZ_ISA_NAME),
    .rmsnorm = rmsnorm,
    .silu_mul = silu_mul,
    .relu2_mul = relu2_mul,
    .layernorm = layernorm,
    .map = map,
    .rotate = rotate,
    .append = rz_append,
    .attend_one = rz_attend_one,
    .attend_block = rz_attend_block,
};
