/* The table of operators, and those of them that all recurrent models need. */
#include "recurrent.h"

#include <string.h>

#include "ssm.h"
#include "wkv.h"

static const rz_operator operators[] = {
    {"recall", RZ_TOKENS, rz_run_recall},       {"norm", RZ_TOKENS, rz_run_norm},
    {"shift", RZ_NEIGHBOURS, rz_run_shift},     {"blend", RZ_TOKENS, rz_run_blend},
    {"combine", RZ_TOKENS, rz_run_combine},     {"conv", RZ_NEIGHBOURS, rz_run_conv},
    {"scan", RZ_SEQUENCE, rz_run_scan},         {"dual", RZ_SEQUENCE, rz_run_dual},
    {"dual_keep", RZ_TOKENS, rz_run_dual_keep}, {"rms_parts", RZ_TOKENS, rz_run_rms_parts},
    {"wkv4", RZ_SEQUENCE, rz_run_wkv4},         {"wkv6", RZ_SEQUENCE, rz_run_wkv6},
    {"wkv7", RZ_SEQUENCE, rz_run_wkv7},
};

const rz_operator *rz_find_operator(const char *name) {
    for (size_t i = 0; i < sizeof operators / sizeof operators[0]; i++)
        if (strcmp(operators[i].name, name) == 0)
            return &operators[i];
    return NULL;
}

void rz_choose_kernels(rz_program *program, const char *isa) {
    program->ssm = rz_ssm_table(isa);
    program->wkv = rz_wkv_table(isa);
}

/* recall: fills the past rows of a whole buffer from the state, [past][columns].
 * buffers: it; sizes: columns. */
void rz_run_recall(const rz_span *span, const rz_op *op) {
    int32_t past = span->program->buffers[op->buffers[0]].past;
    int64_t columns = op->sizes[0], first, last;
    if (span->first != 0)
        return;
    rz_share_columns(span, columns, &first, &last);
    for (int32_t i = 0; i < past && first < last; i++)
        memcpy(rz_row(span, op->buffers[0], i - past) + first,
               rz_state(span, op) + i * columns + first, sizeof(float) * (size_t)(last - first));
}

void rz_save_past(const rz_span *span, int32_t buffer, int64_t columns, float *state) {
    int32_t past = span->program->buffers[buffer].past, end = span->first + span->count;
    int64_t first, last;
    if (end != span->call->count)
        return;
    rz_share_columns(span, columns, &first, &last);
    for (int32_t i = 0; i < past && first < last; i++)
        memcpy(state + i * columns + first, rz_row(span, buffer, end - past + i) + first,
               sizeof(float) * (size_t)(last - first));
}

/* norm: LayerNorm. buffers: input, output (the same one too); vectors: weight, bias or NULL;
 * numbers: eps. */
void rz_run_norm(const rz_span *span, const rz_op *op) {
    int32_t cols = span->program->buffers[op->buffers[0]].cols;
    int64_t first, last;
    rz_share(span, span->count, &first, &last);
    for (int32_t t = span->first + (int32_t)first; t < span->first + (int32_t)last; t++)
        span->program->kernels->layernorm(rz_row(span, op->buffers[0], t), op->vectors[0],
                                          op->vectors[1], op->numbers[0], cols,
                                          rz_row(span, op->buffers[1], t));
}
