/* cpu.c: which instruction set the kernels run on.
 *
 * A set counts as available when it was compiled in, cpuid reports it and the operating system
 * saves its registers (XGETBV: 0x06 for AVX, 0xe6 for AVX-512). RYZANSTEIN_ISA forces one;
 * otherwise the best available is taken.
 */
#include <stdlib.h>
#include <string.h>

#include "rz.h"

#if defined(RZ_HAVE_AVX2) && (defined(__x86_64__) || defined(__i386__))
#include <cpuid.h>
#define RZ_X86 1
#endif

static const char *const NAMES[RZ_ISAS] = {"portable", "avx2", "avx512", "avx512vnni"};

extern const rz_linear_kernels rz_linear_portable;
#ifdef RZ_X86
extern const rz_linear_kernels rz_linear_avx2, rz_linear_avx512, rz_linear_avx512vnni;

static uint64_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return ((uint64_t)high << 32) | low;
}

static int probe(void) {
    uint32_t a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d))
        return RZ_PORTABLE;
    const uint32_t osxsave_fma_avx_f16c = 1u << 27 | 1u << 12 | 1u << 28 | 1u << 29;
    if ((c & osxsave_fma_avx_f16c) != osxsave_fma_avx_f16c)
        return RZ_PORTABLE;
    const uint64_t saved = saved_registers();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return RZ_PORTABLE;
    const uint32_t avx2_bmi2 = 1u << 5 | 1u << 8;
    if ((b & avx2_bmi2) != avx2_bmi2 || (saved & 0x06) != 0x06)
        return RZ_PORTABLE;
    const uint32_t f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
    if ((b & f_dq_bw_vl) != f_dq_bw_vl || (saved & 0xe6) != 0xe6)
        return RZ_AVX2;
    const uint32_t vnni = 1u << 11;
    return c & vnni ? RZ_AVX512VNNI : RZ_AVX512;
}
#else
static int probe(void) {
    return RZ_PORTABLE;
}
#endif

/* The best set of this CPU and operating system, kept: cpuid traps in a virtual machine. Every
 * thread finds the same, so that the race to write it is harmless. */
static int detect(void) {
    static int best = -1;
    if (best < 0)
        best = probe();
    return best;
}

int rz_isa_available(int isa) {
    return isa >= RZ_PORTABLE && isa <= detect();
}

const rz_linear_kernels *rz_linear_table_of(int isa) {
    if (!rz_isa_available(isa))
        return NULL;
#ifdef RZ_X86
    static const rz_linear_kernels *const tables[RZ_ISAS] = {
        &rz_linear_portable, &rz_linear_avx2, &rz_linear_avx512, &rz_linear_avx512vnni};
    return tables[isa];
#else
    return &rz_linear_portable;
#endif
}

/* -1: not chosen yet; chosen at first use. */
static int chosen = -1;

int rz_isa_choose(const char *name) {
    const int best = detect();
    if (name == NULL || *name == '\0') {
        chosen = best;
        return 0;
    }
    for (int isa = RZ_PORTABLE; isa <= best; isa++) {
        if (strcmp(name, NAMES[isa]) == 0) {
            chosen = isa;
            return 0;
        }
    }
    return -1;
}

int rz_isa_chosen(void) {
    if (chosen < 0 && rz_isa_choose(getenv("RYZANSTEIN_ISA")) < 0)
        rz_isa_choose(NULL);
    return chosen;
}

const char *rz_isa_name(void) {
    return NAMES[rz_isa_chosen()];
}

const rz_linear_kernels *rz_linear_table(void) {
    return rz_linear_table_of(rz_isa_chosen());
}
