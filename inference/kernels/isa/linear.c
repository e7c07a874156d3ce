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
 * One token (decode) streams a panel and unpacks it in registers; linear_tile.h has several tokens
 * (prefill).
 */
#include "linear_dense.h"
#include "linear_scan.h"
#include "linear_tile.h"
#include "rows.h"
#include "ternary.h"

/* A matrix so small that a thread's share ends soon: what is fetched beyond is wasted. */
#define SMALL_BYTES (4 << 20)

/* Fetches what lies behind `bytes` bytes that are used now. int8 asks for every line. Where a byte
 * is two weights, so many requests keep its loads waiting: one line in four of large matrices, and
 * the CPU fetches its neighbours. */
RZ_INLINE void fetch_ahead(int every, const uint8_t *now, int bytes) {
    const int step = every ? 64 : 256;
    const uint8_t *ahead = now + (every ? PREFETCH_BYTES : 4 * PREFETCH_BYTES);
    RZ_UNROLL(32)
    for (int at = 0; at < bytes; at += step)
        RZ_PREFETCH(ahead - (uintptr_t)ahead % (unsigned)step + at);
}

/* One panel times one token, into 32 sums. */
RZ_INLINE void vector_panel(int form, int scale, const panel_job *job) {
    const int group_bytes = rz_group_bytes(form, scale);
    const uint8_t *stream = job->stream;
    const strip s = {.packed = stream, .low = low_plane(form, job)};
    tile_input in = {.codes = job->acts->codes + job->token * job->acts->stride,
                     .words = job->words};
    const int small = job->w->panels * job->w->panel_bytes < SMALL_BYTES;
    lanes_f total[RZ_BLOCKS][TILE] = {{lf_splat(0.0f)}, {lf_splat(0.0f)}};
    for (int g = 0; g < job->w->groups; g++) {
        if (form != RZ_INT4 || small)
            fetch_ahead(1, stream + (int64_t)g * group_bytes, group_bytes);
        else
            fetch_ahead(0, stream + (int64_t)g * group_bytes, group_bytes);
        if (form == RZ_SPLIT8)
            fetch_ahead(1, s.low + (int64_t)g * RZ_LOW_BYTES, RZ_LOW_BYTES);
        RZ_UNROLL(2)
        for (int b = 0; b < RZ_BLOCKS; b++) {
            lanes_b quads[RZ_QUADS];
            lanes_f scales[2];
            load_block(form, scale, 0, &s, g, b, quads, scales);
            tile_group(form, scale, 1, quads, scales, &in, total[b]);
        }
        in.codes += RZ_GROUP;
        in.words += words_of(scale);
    }
    for (int b = 0; b < RZ_BLOCKS; b++)
        lf_store(job->sums + b * RZ_LANES, total[b][0]);
}

typedef void (*panel_kernel)(const panel_job *job);

#define PANEL_KERNEL(name, form, scale)                                                            \
    static void name(const panel_job *job) {                                                       \
        if (job->tokens == 1)                                                                      \
            vector_panel(form, scale, job);                                                        \
        else                                                                                       \
            matrix_panel(form, scale, job);                                                        \
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

/* Moves a panel's sums of a token to the output: the rows that exist, plus bias and what is there
 * already. */
static void write_rows(const float *sums, int rows, const float *bias, int accumulate, float *out) {
    for (int r = 0; r < rows; r++) {
        float value = sums[r];
        if (bias != NULL)
            value += bias[r];
        out[r] = accumulate ? out[r] + value : value;
    }
}

/* Panels [first, last) times the tokens of `all`, whose output, bias and stream are the matrix's.
 */
static void linear_chunk(const panel_job *all, int32_t first, int32_t last) {
    const rz_matrix *w = all->w;
    const panel_kernel kernel = kernel_of(w);
    for (int32_t p = first; p < last; p++) {
        const int32_t row = p * RZ_PANEL;
        const int rows = w->rows - row < RZ_PANEL ? w->rows - row : RZ_PANEL;
        panel_job job = *all;
        const int direct = rows == RZ_PANEL && job.tokens > 1 && w->form != RZ_F32;
        float *out = all->out + row;
        job.stream = all->stream + p * w->panel_bytes;
        job.bias = all->bias == NULL ? NULL : all->bias + row;
        job.out = direct ? out : NULL;
        kernel(&job);
        for (int t = 0; !direct && t < job.tokens; t++)
            write_rows(job.sums + t * RZ_PANEL, rows, job.bias, job.accumulate,
                       out + t * job.out_stride);
    }
}

/* Tokens for which there are words enough, whole tiles where possible. */
static int32_t chunk_tokens(int scale, int32_t groups) {
    const int32_t most = TOKEN_WORDS / (words_of(scale) * groups);
    return most >= TOKEN_CHUNK ? TOKEN_CHUNK : most >= TILE ? most / TILE * TILE : most;
}

static void linear(const rz_matrix *w, const rz_acts *acts, int32_t tokens, int32_t first,
                   int32_t last, float *out, int64_t out_stride, const float *bias,
                   int accumulate) {
    if (rz_is_ternary(w->form)) {
        rz_ternary(w, acts, tokens, first, last, out, out_stride, bias, accumulate);
        return;
    }
    RZ_ALIGNED uint32_t words[TOKEN_WORDS];
    RZ_ALIGNED float sums[TOKEN_CHUNK * RZ_PANEL];
    const int32_t chunk = chunk_tokens(w->scale, acts->groups);
    for (int32_t token = 0; token < tokens; token += chunk) {
        const panel_job all = {
            .w = w,
            .stream = w->codes,
            .acts = acts,
            .token = token,
            .tokens = tokens - token < chunk ? tokens - token : chunk,
            .words = words,
            .sums = sums,
            .out = out + token * out_stride,
            .out_stride = out_stride,
            .bias = bias,
            .accumulate = accumulate,
        };
        if (w->form != RZ_F32)
            prepare_tokens(w->form, w->scale, acts, token, all.tokens, words);
        linear_chunk(&all, first, last);
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
