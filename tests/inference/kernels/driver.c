/* driver.c: every linear kernel on exact-sized buffers, for scripts/sanitize.
 *
 * Packs random tensors of every source type and shape, multiplies them on every instruction set of
 * this CPU and compares with the plain C lanes. Exits 1 where they differ by more than rounding.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "half.h"
#include "panel.h"
#include "rows.h"
#include "trits.h"

extern const rz_linear_kernels rz_linear_plain;

static uint32_t state = 12345;

static uint32_t next(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static void *exact(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, 64, bytes) != 0)
        exit(2);
    return memory;
}

/* Random bytes whose fp16 fields stay finite: the exponent's top bit is cleared everywhere. */
static void fill(uint8_t *data, int64_t bytes, int32_t source) {
    for (int64_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(next() & 0xbf);
    if (source == RZ_SRC_F32)
        for (int64_t i = 0; i < bytes / 4; i++) {
            const float value = (float)(next() % 2001) / 1000.0f - 1.0f;
            memcpy(data + 4 * i, &value, 4);
        }
}

static rz_acts activations(int32_t cols, int32_t tokens) {
    const int32_t groups = (cols + RZ_GROUP - 1) / RZ_GROUP;
    const size_t n = (size_t)tokens * (size_t)groups;
    rz_acts acts = {.cols = cols, .groups = groups, .stride = groups * RZ_GROUP};
    acts.dense = exact(n * RZ_GROUP * 4);
    acts.codes = exact(n * RZ_GROUP + RZ_SLACK);
    memset(acts.codes + n * RZ_GROUP, 0x55, RZ_SLACK);
    acts.work = exact(RZ_WORK_BYTES);
    acts.scales = exact(n * 4);
    acts.sums = exact(n * 8);
    for (int32_t t = 0; t < tokens; t++)
        for (int64_t k = 0; k < acts.stride; k++)
            acts.dense[t * acts.stride + k] =
                k < cols ? (float)(next() % 4001) / 1000.0f - 2.0f : 0;
    return acts;
}

/* Bounds from the high plane: the same bits everywhere, and none below the products. */
static int compare_scan(const rz_matrix *w, const rz_acts *acts, const float *products, int isa) {
    const size_t bytes = (size_t)w->panels * 4;
    float *want = exact(bytes), *got = exact(bytes), *room = exact((size_t)w->groups * 12);
    rz_linear_plain.scan(w, acts, w->rows, 0, w->panels, room, want);
    rz_linear_table_of(isa)->scan(w, acts, w->rows, 0, w->panels, room, got);
    int wrong = memcmp(want, got, bytes) != 0;
    for (int32_t row = 0; row < w->rows; row++)
        wrong += products[row] > got[row / RZ_PANEL];
    free(want);
    free(got);
    free(room);
    return wrong;
}

static int compare(const rz_matrix *w, rz_acts *acts, int32_t tokens, int isa) {
    const rz_linear_kernels *table = rz_linear_table_of(isa);
    const size_t bytes = (size_t)tokens * (size_t)w->rows * 4;
    float *want = exact(bytes), *got = exact(bytes), *row = exact((size_t)w->cols * 4);
    const int ternary = rz_is_ternary(w->form);
    (ternary ? rz_linear_plain.quantize_token : rz_linear_plain.quantize)(acts, 0, tokens);
    rz_linear_plain.linear(w, acts, tokens, 0, w->panels, want, w->rows, NULL, 0);
    (ternary ? table->quantize_token : table->quantize)(acts, 0, tokens);
    table->linear(w, acts, tokens, 0, w->panels, got, w->rows, NULL, 0);
    table->row(w, w->rows - 1, row);
    int wrong = 0;
    double largest = 1e-6;
    for (size_t i = 0; i < bytes / 4; i++)
        largest = fmax(largest, fabs((double)want[i]));
    for (size_t i = 0; i < bytes / 4; i++)
        wrong += ternary ? got[i] != want[i]
                         : !(fabs((double)got[i] - (double)want[i]) <= 1e-4 * largest);
    if (w->form == RZ_SPLIT8)
        wrong += compare_scan(w, acts, got, isa);
    if (wrong)
        printf("%s form %d scale %d %d x %d, %d tokens: %d wrong\n", table->isa, w->form, w->scale,
               w->rows, w->cols, tokens, wrong);
    free(want);
    free(got);
    free(row);
    return wrong;
}

static void free_activations(const rz_acts *acts) {
    free(acts->dense);
    free(acts->codes);
    free(acts->scales);
    free(acts->sums);
    free(acts->work);
}

static rz_matrix shaped(int32_t form, int32_t scale, int32_t rows, int32_t cols) {
    rz_matrix w = {
        .form = form, .scale = scale, .rows = rows, .cols = cols, .panel_rows = RZ_PANEL};
    w.panels = (rows + RZ_PANEL - 1) / RZ_PANEL;
    w.groups = (cols + rz_group_cols(form) - 1) / rz_group_cols(form);
    w.group_bytes = rz_group_bytes(form, scale);
    w.panel_bytes = (int64_t)w.groups * w.group_bytes;
    w.tensor_scale = 0.5f;
    return w;
}

/* The matrix times several numbers of tokens on every instruction set. */
static int check_products(const rz_matrix *w) {
    const int32_t counts[] = {1, 2, 5, 13, 257}; /* the last crosses a chunk: small ones only */
    const size_t most = w->rows * w->cols > 2000 ? 4 : 5;
    int wrong = 0;
    for (size_t i = 0; i < most && !wrong; i++) {
        rz_acts acts = activations(w->cols, counts[i]);
        for (int isa = 0; isa < RZ_ISAS; isa++)
            if (rz_isa_available(isa))
                wrong += compare(w, &acts, counts[i], isa);
        free_activations(&acts);
    }
    return wrong;
}

static int check(int32_t source, int32_t form, int32_t scale, int32_t rows, int32_t cols) {
    rz_matrix w = shaped(form, scale, rows, cols);
    const int64_t bytes = rz_source_row_bytes(source, cols) * rows;
    uint8_t *data = exact((size_t)bytes), *codes = exact((size_t)rz_matrix_bytes(&w));
    fill(data, bytes, source);
    int wrong = rz_pack_panels(&w, source, data, 0, w.panels, codes) != RZ_PACK_OK;
    w.codes = codes;
    if (!wrong)
        wrong = check_products(&w);
    free(data);
    free(codes);
    return wrong;
}

/* Every ternary form, by decoding and by tables. */
static int check_ternary(int32_t form, int32_t rows, int32_t cols) {
    rz_matrix w = shaped(form, RZ_SCALE_TENSOR, rows, cols);
    uint8_t *data = exact((size_t)rows * (size_t)cols);
    uint8_t *codes = exact((size_t)(w.panels * w.panel_bytes));
    uint8_t *row = exact((size_t)w.groups * (size_t)rz_group_cols(form));
    for (int64_t i = 0; i < (int64_t)rows * cols; i++)
        data[i] = (uint8_t)(next() % 3 - 1);
    memset(codes, 0, (size_t)(w.panels * w.panel_bytes));
    int wrong = rz_pack_trits(&w, RZ_TRITS_I8, data, 0, rows, row, codes) != RZ_PACK_OK;
    w.codes = codes;
    for (w.lookup = 0; w.lookup < 2 && !wrong; w.lookup++)
        wrong = check_products(&w);
    free(data);
    free(codes);
    free(row);
    return wrong;
}

int main(void) {
    const int32_t quantised[] = {RZ_SRC_Q4_0, RZ_SRC_Q4_1, RZ_SRC_Q5_0, RZ_SRC_Q5_1,
                                 RZ_SRC_Q8_0, RZ_SRC_Q4_K, RZ_SRC_Q5_K, RZ_SRC_Q6_K};
    int wrong = 0, cases = 0;
    for (size_t i = 0; i < sizeof quantised / sizeof quantised[0]; i++) {
        int32_t form, scale;
        rz_source_layout(quantised[i], &form, &scale);
        for (int32_t rows = 1; rows < 80; rows += 31, cases++)
            wrong += check(quantised[i], form, scale, rows, 1280);
    }
    for (int32_t cols = 1; cols < 1200; cols = cols * 3 + 4)
        for (int32_t rows = 1; rows < 80; rows += 31, cases += 4) {
            wrong += check(RZ_SRC_F32, RZ_SPLIT8, RZ_SCALE_GROUP, rows, cols);
            wrong += check(RZ_SRC_F32, RZ_INT8, RZ_SCALE_GROUP, rows, cols);
            wrong += check(RZ_SRC_F32, RZ_INT4, RZ_SCALE_MIN, rows, cols);
            wrong += check(RZ_SRC_F32, RZ_F32, RZ_SCALE_NONE, rows, cols);
        }
    for (int32_t cols = 1; cols < 1200; cols = cols * 3 + 4)
        for (int32_t rows = 1; rows < 80; rows += 31)
            for (int32_t form = RZ_TERNARY2; form <= RZ_TERNARY3; form++, cases++)
                wrong += check_ternary(form, rows, cols);
    printf("%d matrices, %d wrong\n", cases, wrong);
    return wrong != 0;
}
