/* linear.c: matrix-vector and matrix-matrix products of packed weights with int8 activations.
 *
 * For each row and token, with s a weight scale, t an activation scale, groups in order:
 *
 *     out = sum over groups of (s * int32 dot of (code - zero) and activation codes) * t   [+ m *
 * (t * sum of codes)]
 *
 * The dot products are exact. Sums over groups are float, in the same order and with the same
 * fused multiply-adds on every instruction set and for any number of tokens.
 *
 * One token (decode) streams a panel and unpacks it in registers. Several tokens (prefill) unpack
 * K_GROUPS groups of a panel to bytes in the first-level cache and reuse them for every tile of
 * TILE_TOKENS tokens.
 */
#include "linear_dense.h"
#include "linear_scan.h"
#include "linear_tile.h"
#include "rows.h"
#include "ternary.h"

/* Adds one group of one block to 16 rows' sums. `second`: minima or scales of the second half, as
 * lanes. */
RZ_INLINE lanes_f group_sum(int form, int scale, const lanes_b *quads, const int8_t *a,
                            const int32_t *start, const int32_t *sums, float t, lanes_f first,
                            lanes_f second, lanes_f total) {
    lanes_i acc = li_splat(start[0]);
    const int half = scale == RZ_SCALE_HALF ? RZ_QUADS / 2 : RZ_QUADS;
    RZ_UNROLL(8)
    for (int q = 0; q < half; q++)
        acc = dot(form, acc, quads[q], la_load(a + 4 * q));
    const lanes_f factor = lf_splat(t);
    total = lf_fma(lf_mul(lf_int(acc), first), factor, total);
    if (scale == RZ_SCALE_MIN) {
        const float weight = t * (float)(sums[0] + sums[1]);
        total = lf_fma(second, lf_splat(weight), total);
    }
    if (scale == RZ_SCALE_HALF) {
        acc = li_splat(start[1]);
        RZ_UNROLL(4)
        for (int q = half; q < RZ_QUADS; q++)
            acc = dot(form, acc, quads[q], la_load(a + 4 * q));
        total = lf_fma(lf_mul(lf_int(acc), second), factor, total);
    }
    return total;
}

/* One panel times one token, accumulated into 32 sums. */
RZ_INLINE void vector_panel(int form, int scale, const rz_matrix *w, const uint8_t *stream,
                            const rz_acts *acts, int64_t token, float *out) {
    const int code_bytes = rz_code_bytes(form), high_bytes = rz_high_bytes(form);
    const uint8_t *low = low_plane(form, w, stream);
    const int group_bytes = rz_group_bytes(form, scale), halves = scale == RZ_SCALE_HALF ? 2 : 1;
    RZ_ALIGNED int32_t start[2 * K_GROUPS];
    const int8_t *codes = acts->codes + token * acts->stride;
    const float *factors = acts->scales + token * acts->groups;
    const int32_t *sums = acts->sums + 2 * token * acts->groups;
    lanes_f total[RZ_BLOCKS] = {lf_splat(0.0f), lf_splat(0.0f)};
    for (int base = 0; base < w->groups; base += K_GROUPS) {
        const int count = w->groups - base < K_GROUPS ? w->groups - base : K_GROUPS;
        zero_corrections(form, scale, sums + 2 * base, count, start);
        for (int g = 0; g < count; g++, stream += group_bytes) {
            const int8_t *a = codes + (int64_t)(base + g) * RZ_GROUP;
            const uint8_t *high = stream + RZ_BLOCKS * code_bytes;
            const uint16_t *scales =
                (const uint16_t *)(const void *)(high + RZ_BLOCKS * high_bytes);
            RZ_UNROLL(32)
            for (int line = 0; line < group_bytes; line += 64)
                RZ_PREFETCH(stream + PREFETCH_BYTES + line);
            RZ_UNROLL(8)
            for (int line = 0; form == RZ_SPLIT8 && line < RZ_LOW_BYTES; line += 64)
                RZ_PREFETCH(low + (int64_t)(base + g) * RZ_LOW_BYTES + PREFETCH_BYTES + line);
            RZ_UNROLL(2)
            for (int b = 0; b < RZ_BLOCKS; b++) {
                lanes_b quads[RZ_QUADS];
                unpack_block(form, stream + b * code_bytes,
                             extra_bits(form, high, low, base + g, b), quads);
                const lanes_f first = lf_half(scales + b * RZ_LANES);
                const lanes_f second =
                    scale == RZ_SCALE_GROUP ? first : lf_half(scales + RZ_PANEL + b * RZ_LANES);
                total[b] =
                    group_sum(form, scale, quads, a, start + halves * g, sums + 2 * (base + g),
                              factors[base + g], first, second, total[b]);
            }
        }
    }
    for (int b = 0; b < RZ_BLOCKS; b++)
        lf_store(out + b * RZ_LANES, total[b]);
}

typedef void (*panel_kernel)(const rz_matrix *w, const uint8_t *stream, const rz_acts *acts,
                             int64_t token, int tokens, float *sums);

#define PANEL_KERNEL(name, form, scale)                                                            \
    static void name(const rz_matrix *w, const uint8_t *stream, const rz_acts *acts,               \
                     int64_t token, int tokens, float *sums) {                                     \
        if (tokens == 1)                                                                           \
            vector_panel(form, scale, w, stream, acts, token, sums);                               \
        else                                                                                       \
            matrix_panel(form, scale, w, stream, acts, token, tokens, sums);                       \
    }

PANEL_KERNEL(int8_group, RZ_INT8, RZ_SCALE_GROUP)
PANEL_KERNEL(split8_group, RZ_SPLIT8, RZ_SCALE_GROUP)
PANEL_KERNEL(int4_group, RZ_INT4, RZ_SCALE_GROUP)
PANEL_KERNEL(int4_min, RZ_INT4, RZ_SCALE_MIN)
PANEL_KERNEL(int5_group, RZ_INT5, RZ_SCALE_GROUP)
PANEL_KERNEL(int5_min, RZ_INT5, RZ_SCALE_MIN)
PANEL_KERNEL(int6_group, RZ_INT6, RZ_SCALE_GROUP)
PANEL_KERNEL(int6_half, RZ_INT6, RZ_SCALE_HALF)

static panel_kernel kernel_of(const rz_matrix *w) {
    switch (w->form * 4 + w->scale) {
    case RZ_INT8 * 4 + RZ_SCALE_GROUP:
        return int8_group;
    case RZ_SPLIT8 * 4 + RZ_SCALE_GROUP:
        return split8_group;
    case RZ_INT4 * 4 + RZ_SCALE_GROUP:
        return int4_group;
    case RZ_INT4 * 4 + RZ_SCALE_MIN:
        return int4_min;
    case RZ_INT5 * 4 + RZ_SCALE_GROUP:
        return int5_group;
    case RZ_INT5 * 4 + RZ_SCALE_MIN:
        return int5_min;
    case RZ_INT6 * 4 + RZ_SCALE_GROUP:
        return int6_group;
    case RZ_INT6 * 4 + RZ_SCALE_HALF:
        return int6_half;
    default:
        return dense_panel;
    }
}

/* Moves a panel's sums to the output: the rows that exist, plus bias and what is there already. */
static void write_rows(const float *sums, int rows, const float *bias, int accumulate, float *out) {
    for (int r = 0; r < rows; r++) {
        float value = sums[r];
        if (bias != NULL)
            value += bias[r];
        out[r] = accumulate ? out[r] + value : value;
    }
}

static void linear(const rz_matrix *w, const rz_acts *acts, int32_t tokens, int32_t first,
                   int32_t last, float *out, int64_t out_stride, const float *bias,
                   int accumulate) {
    if (rz_is_ternary(w->form)) {
        rz_ternary(w, acts, tokens, first, last, out, out_stride, bias, accumulate);
        return;
    }
    RZ_ALIGNED float sums[TOKEN_CHUNK * RZ_PANEL];
    const panel_kernel kernel = kernel_of(w);
    for (int32_t token = 0; token < tokens; token += TOKEN_CHUNK) {
        const int count = tokens - token < TOKEN_CHUNK ? tokens - token : TOKEN_CHUNK;
        for (int32_t p = first; p < last; p++) {
            const int32_t row = p * RZ_PANEL;
            const int rows = w->rows - row < RZ_PANEL ? w->rows - row : RZ_PANEL;
            kernel(w, w->codes + p * w->panel_bytes, acts, token, count, sums);
            for (int t = 0; t < count; t++)
                write_rows(sums + t * RZ_PANEL, rows, bias == NULL ? NULL : bias + row, accumulate,
                           out + (token + t) * out_stride + row);
        }
    }
}

void RZ_ISA_FN(rz_quantize)(rz_acts *acts, int32_t first, int32_t last);
void RZ_ISA_FN(rz_quantize_token)(rz_acts *acts, int32_t first, int32_t last);
uint64_t RZ_ISA_FN(rz_read_bytes)(const uint8_t *data, size_t bytes);

#define STRING_(x) #x
#define STRING(x) STRING_(x)
const rz_linear_kernels RZ_ISA_FN(rz_linear) = {
    .isa = STRING(RZ_ISA_NAME),
    .quantize = RZ_ISA_FN(rz_quantize),
    .quantize_token = RZ_ISA_FN(rz_quantize_token),
    .linear = linear,
    .scan = scan,
    .row = rz_matrix_row,
    .read_bytes = RZ_ISA_FN(rz_read_bytes),
};
