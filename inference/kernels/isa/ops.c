/* Norm, gate and rotary positions for one instruction set, and its table; contracts in ops.h. */
#include "ops.h"

#include <math.h>

#include "vec.h"

#define NAME_(x) #x
#define NAME(x) NAME_(x)

static void rmsnorm(const float *x, const float *weight, float eps, int32_t n, float *out) {
    int32_t padded = (n + 31) / 32 * 32;
    vf even = vf_set(0), odd = vf_set(0);
    for (int32_t i = 0; i < padded; i += 2 * VL) {
        vf a = vf_load(x + i), b = vf_load(x + i + VL);
        even = vf_fma(a, a, even);
        odd = vf_fma(b, b, odd);
    }
    vf scale = vf_set(1.0f / sqrtf(vf_sum(vf_add(even, odd)) / (float)n + eps));
    for (int32_t i = 0; i < padded; i += VL)
        vf_store(out + i, vf_mul(vf_mul(vf_load(x + i), scale), vf_load(weight + i)));
}

static void silu_mul(float *gate, const float *up, int64_t n) {
    vf one = vf_set(1.0f), zero = vf_set(0);
    for (int64_t i = 0; i < n; i += VL) {
        vf g = vf_load(gate + i);
        vf sigmoid = vf_div(g, vf_add(one, vf_exp(vf_sub(zero, g))));
        vf_store(gate + i, vf_mul(sigmoid, vf_load(up + i)));
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
    .rotate = rotate,
    .append = rz_append,
    .attend_one = rz_attend_one,
    .attend_block = rz_attend_block,
};
