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
    .rotate = rotate,
    .append = rz_append,
    .attend_one = rz_attend_one,
    .attend_block = rz_attend_block,
};
