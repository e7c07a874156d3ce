/* ssm.c: Mamba's convolution, step sizes and weightless norms, and the table; contracts in ssm.h.
 */
#include "ssm.h"

#include <math.h>

#include "vec.h"

#define NAME_(x) #x
#define NAME(x) NAME_(x)

/* The first n of 16 floats, then zeros. */
static lanes_f part(const float *x, int64_t n) {
    RZ_ALIGNED float held[VL] = {0};
    memcpy(held, x, sizeof(float) * (size_t)n);
    return lf_load(held);
}

/* Two vectors of channels; n of them are there. */
RZ_INLINE void taps(const float *const *rows, const float *weight, int64_t stride,
                    const float *bias, int32_t width, int64_t i, float *out) {
    lanes_f a = bias == NULL ? lf_splat(0) : lf_load(bias + i);
    lanes_f b = bias == NULL ? lf_splat(0) : lf_load(bias + i + VL);
    for (int32_t k = 0; k < width; k++) {
        a = lf_fma(lf_load(weight + k * stride + i), lf_load(rows[k] + i), a);
        b = lf_fma(lf_load(weight + k * stride + i + VL), lf_load(rows[k] + i + VL), b);
    }
    lf_store(out + i, lf_silu(a));
    lf_store(out + i + VL, lf_silu(b));
}

static void conv(const float *const *rows, const float *weight, int64_t stride, const float *bias,
                 int32_t width, int64_t n, float *out) {
    int64_t i = 0;
    if (width == 4) /* unrolled: the width of nearly every checkpoint */
        for (; i + 2 * VL <= n; i += 2 * VL)
            taps(rows, weight, stride, bias, 4, i, out);
    for (; i + 2 * VL <= n; i += 2 * VL)
        taps(rows, weight, stride, bias, width, i, out);
    for (; i < n; i += VL) {
        const int64_t left = n - i < VL ? n - i : VL;
        lanes_f sum = bias == NULL ? lf_splat(0) : lf_load(bias + i);
        for (int32_t k = 0; k < width; k++)
            sum = lf_fma(lf_load(weight + k * stride + i), part(rows[k] + i, left), sum);
        lf_store(out + i, lf_silu(sum));
    }
}

static void steps(float *dt, float bias, float least, float most, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        const lanes_f step = lf_softplus(lf_add(lf_load(dt + i), lf_splat(bias)));
        /* What is no number stays none: lf_max and lf_min return their second argument then. */
        lf_store(dt + i, lf_max(lf_splat(least), lf_min(lf_splat(most), step)));
    }
}

static void dots(const float *c, const float *const *b, int32_t count, int64_t n, float *out) {
    const int64_t full = n / VL * VL;
    const lanes_f rest = part(c + full, n - full);
    for (int32_t s = 0; s < count; s++) {
        lanes_f sum = lf_mul(rest, part(b[s] + full, n - full));
        for (int64_t i = 0; i < full; i += VL)
            sum = lf_fma(lf_load(c + i), lf_load(b[s] + i), sum);
        out[s] = lf_sum(sum);
    }
}

static void rms_part(float *x, const float *weight, float eps, int64_t n) {
    const int64_t full = n / VL * VL;
    lanes_f squares = lf_splat(0);
    for (int64_t i = 0; i < full; i += VL)
        squares = lf_fma(lf_load(x + i), lf_load(x + i), squares);
    const lanes_f rest = part(x + full, n - full);
    squares = lf_fma(rest, rest, squares);
    const float scale = 1.0f / sqrtf(lf_sum(squares) / (float)n + eps);
    for (int64_t i = 0; i < full; i += VL) {
        const lanes_f scaled = lf_mul(lf_load(x + i), lf_splat(scale));
        lf_store(x + i, weight == NULL ? scaled : lf_mul(scaled, lf_load(weight + i)));
    }
    for (int64_t i = full; i < n; i++)
        x[i] = weight == NULL ? x[i] * scale : x[i] * scale * weight[i];
}

const rz_ssm_kernels RZ_ISA_FN(rz_ssm) = {
    .isa = NAME(RZ_ISA_NAME),
    .conv = conv,
    .scan = rz_selective_scan,
    .dual = rz_dual_chunk,
    .dots = dots,
    .steps = steps,
    .rms_part = rms_part,
};
