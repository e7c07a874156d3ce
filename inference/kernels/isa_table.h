/* isa_table.h: the tables of function pointers that files under isa/ fill, one an instruction set,
 * and the choice among them by name. */
#ifndef RZ_ISA_TABLE_H
#define RZ_ISA_TABLE_H

#include <string.h>

#ifdef RZ_HAVE_AVX2
#define RZ_IF_AVX2(x) x
#else
#define RZ_IF_AVX2(x)
#endif
#ifdef RZ_HAVE_AVX512
#define RZ_IF_AVX512(x) x
#else
#define RZ_IF_AVX512(x)
#endif
#ifdef RZ_HAVE_AVX512VNNI
#define RZ_IF_AVX512VNNI(x) x
#else
#define RZ_IF_AVX512VNNI(x)
#endif

/* Defines `const NAME_kernels *NAME_table(const char *isa)`: the table of the named instruction
 * set, or the portable one where the build has not got it. */
/* clang-format off */
#define RZ_TABLE_BY_NAME(name)                                                                     \
    extern const name##_kernels name##_portable;                                                   \
    RZ_IF_AVX2(extern const name##_kernels name##_avx2;)                                           \
    RZ_IF_AVX512(extern const name##_kernels name##_avx512;)                                       \
    RZ_IF_AVX512VNNI(extern const name##_kernels name##_avx512vnni;)                               \
    const name##_kernels *name##_table(const char *isa) {                                          \
        (void)isa; /* where there is one set only */                                               \
        RZ_IF_AVX2(if (strcmp(isa, "avx2") == 0) return &name##_avx2;)                             \
        RZ_IF_AVX512(if (strcmp(isa, "avx512") == 0) return &name##_avx512;)                       \
        RZ_IF_AVX512VNNI(if (strcmp(isa, "avx512vnni") == 0) return &name##_avx512vnni;)           \
        return &name##_portable;                                                                   \
    }
/* clang-format on */

#endif
