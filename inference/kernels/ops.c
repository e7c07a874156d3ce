/* Chooses the operators' table, and the one operator that is the same everywhere. */
#include "ops.h"

#include <math.h>
#include <string.h>

extern const rz_ops_kernels rz_ops_portable;
#ifdef RZ_HAVE_AVX2
extern const rz_ops_kernels rz_ops_avx2;
#endif
#ifdef RZ_HAVE_AVX512
extern const rz_ops_kernels rz_ops_avx512;
#endif
#ifdef RZ_HAVE_AVX512VNNI
extern const rz_ops_kernels rz_ops_avx512vnni;
#endif

static const rz_ops_kernels *const tables[] = {
#ifdef RZ_HAVE_AVX512VNNI
    &rz_ops_avx512vnni,
#endif
#ifdef RZ_HAVE_AVX512
    &rz_ops_avx512,
#endif
#ifdef RZ_HAVE_AVX2
    &rz_ops_avx2,
#endif
    &rz_ops_portable,
};

const rz_ops_kernels *rz_ops_table(const char *isa) {
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (strcmp(tables[i]->isa, isa) == 0)
            return tables[i];
    return &rz_ops_portable;
}

void rz_merge_partials(const rz_attention *a, const rz_partial *partials, int32_t count,
                       float *out) {
    for (int32_t head = 0; head < a->heads; head++) {
        float peak = partials[0].peak[head], total = 0;
        for (int32_t i = 1; i < count; i++)
            peak = fmaxf(peak, partials[i].peak[head]);
        float *restrict to = out + (int64_t)head * a->head_dim;
        memset(to, 0, sizeof(float) * (size_t)a->head_dim);
        for (int32_t i = 0; i < count; i++) {
            const float *restrict from = partials[i].values + (int64_t)head * a->value_dim;
            float weight = expf(partials[i].peak[head] - peak);
            total += weight * partials[i].total[head];
            for (int32_t d = 0; d < a->head_dim; d++)
                to[d] += weight * from[d];
        }
        for (int32_t d = 0; d < a->head_dim; d++)
            to[d] /= total;
    }
}
