/* Chooses the operators' table of an instruction set. */
#include "ops.h"

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
