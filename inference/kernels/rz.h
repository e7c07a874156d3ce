/* rz.h: the contract between packing, the linear kernels, the element-wise operators and the
 * program executor.
 *
 * Everything here is plain C11. A file under isa/ is compiled once per instruction set with
 * RZ_ISA_NAME set to its suffix, and fills one table of function pointers; cpu.c chooses a table at
 * import by cpuid and XGETBV.
 */
#ifndef RZ_H
#define RZ_H

#include <stddef.h>
#include <stdint.h>

#define RZ_GROUP 32 /* weights (and activations) that share a scale */

#define RZ_CONCAT_(a, b) a##_##b
#define RZ_CONCAT(a, b) RZ_CONCAT_(a, b)
#define RZ_ISA_FN(name) RZ_CONCAT(name, RZ_ISA_NAME)

/* Rows in a panel: two vectors of 16 lanes (one lane a row) on AVX-512. */
#define RZ_PANEL 32

/* How a matrix's weights are stored. INT5 and INT6 are INT4's nibbles plus a plane of one or two
 * high bits. The ternary forms hold -1, 0 and 1: in two bits, five to a byte, or as indices of
 * three for tables. SPLIT8 is INT8 with high and low nibbles in planes of their own. */
enum rz_form {
    RZ_F32 = 0,
    RZ_INT8 = 1,
    RZ_INT4 = 2,
    RZ_INT5 = 3,
    RZ_INT6 = 4,
    RZ_TERNARY2 = 5,
    RZ_TERNARY5 = 6,
    RZ_TERNARY3 = 7,
    RZ_SPLIT8 = 8
};

/* How a group's scales are stored behind its codes (linear.h has the byte layout). */
enum rz_scale {
    RZ_SCALE_NONE = 0,   /* F32 */
    RZ_SCALE_GROUP = 1,  /* w = s * (code - zero), one fp16 s for 32 weights */
    RZ_SCALE_MIN = 2,    /* w = s * code + m, fp16 s and m for 32 weights */
    RZ_SCALE_HALF = 3,   /* w = s * (code - zero), one fp16 s for 16 weights (Q6_K) */
    RZ_SCALE_TENSOR = 4, /* w = s * code, one float s for the matrix (ternary) */
};

/* A packed matrix, rows x cols (cols = length of the dot product), cut into row panels, one byte
 * stream a panel. */
typedef struct rz_matrix {
    int32_t form;
    int32_t scale;
    int32_t rows, cols;
    int32_t panel_rows;   /* RZ_PANEL; the last panel is padded with zero weights */
    int32_t panels;       /* ceil(rows / panel_rows) */
    int32_t groups;       /* ceil(cols / rz_group_cols(form)) */
    int32_t group_bytes;  /* codes, high bits, scales and minima of one group of one panel */
    int64_t panel_bytes;  /* groups * group_bytes */
    const uint8_t *codes; /* [panels][groups][group_bytes], 64-byte aligned; then the low plane */
    float tensor_scale;   /* of RZ_SCALE_TENSOR */
    int32_t prefetch; /* bytes that a ternary matrix-vector product reads ahead; 0: the default */
    int32_t lookup;   /* tokens from which a ternary product uses tables; 0: never */
} rz_matrix;

#define RZ_WORK_BYTES (3 << 20) /* of memory for tables that a thread's products may need */
#define RZ_MOST_COLS (1 << 18)  /* of a matrix: what a token's scales have room for */
#define RZ_INDEXED_COLS 65536   /* most columns of a TERNARY3 matrix: its tables must fit there */
#define RZ_SLACK 64             /* bytes behind the last token's codes that a kernel may read */

/* Activations of n tokens: dense, and quantised to int8 (absmax/127, round to nearest even) in
 * groups of RZ_GROUP, or a token at a time: then all its groups have the same scale. */
typedef struct rz_acts {
    int32_t cols, groups;
    int64_t stride; /* elements from one token to the next in dense and codes: groups * RZ_GROUP,
                       zero padded */
    float *dense;   /* [n][stride] */
    int8_t *codes;  /* [n][stride], and RZ_SLACK readable bytes */
    float *scales;  /* [n][groups] */
    int32_t *sums;  /* [n][2 * groups], sum of each 16 codes (half a group) */
    uint8_t *work;  /* RZ_WORK_BYTES of this thread, 64-byte aligned, or NULL: no table kernels */
} rz_acts;

/* How many standard deviations of what low nibbles contribute `scan` allows for. */
#define RZ_SCAN_DEVIATIONS 8.0f

typedef struct rz_linear_kernels {
    const char *isa;
    /* Fills codes, scales and sums of tokens [first, last) from dense. */
    void (*quantize)(rz_acts *acts, int32_t first, int32_t last);
    /* The same with one scale a token, as BitNet b1.58 defines it: what ternary matrices need. */
    void (*quantize_token)(rz_acts *acts, int32_t first, int32_t last);
    /* out[t][row] (=, or += where accumulate) for tokens [0, tokens) and row panels [first, last);
     * bias may be NULL. */
    void (*linear)(const rz_matrix *w, const rz_acts *acts, int32_t tokens, int32_t first,
                   int32_t last, float *out, int64_t out_stride, const float *bias, int accumulate);
    /* bounds[panel]: what the products of its rows below `rows` with the first token do not exceed,
     * but with a probability below exp(-RZ_SCAN_DEVIATIONS^2 / 2); of a SPLIT8 matrix, for panels
     * [first, last), reading the high plane alone. room: 3 * groups floats. */
    void (*scan)(const rz_matrix *w, const rz_acts *acts, int32_t rows, int32_t first, int32_t last,
                 float *room, float *bounds);
    /* Writes one dequantised row of cols floats: an embedding look-up. */
    void (*row)(const rz_matrix *w, int32_t row, float *out);
    /* Reads bytes as fast as the machine can; returns a checksum. The bandwidth probe. */
    uint64_t (*read_bytes)(const uint8_t *data, size_t bytes);
} rz_linear_kernels;

/* Instruction sets, the later the better; every one below the chosen one runs too. */
enum rz_isa { RZ_PORTABLE = 0, RZ_AVX2 = 1, RZ_AVX512 = 2, RZ_AVX512VNNI = 3, RZ_ISAS = 4 };

/* The table of one instruction set, or NULL where the build or the CPU has not got it. */
const rz_linear_kernels *rz_linear_table_of(int isa);
/* Index of the chosen one: RYZANSTEIN_ISA where it names one this CPU runs, else the best. */
int rz_isa_chosen(void);
int rz_isa_available(int isa);
const rz_linear_kernels *rz_linear_table(void); /* the chosen one */

/* Name of the chosen instruction set: "portable", "avx2", "avx512", "avx512vnni". */
const char *rz_isa_name(void);
/* Chooses by name (NULL: the best this CPU runs); 0, or -1 where the CPU or the build has not got
 * it. */
int rz_isa_choose(const char *name);

#endif
