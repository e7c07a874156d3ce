/* fused.h: a * b + c rounded once, for instruction sets without a fused multiply-add, so that they
 * give the bits of those that have one.
 *
 * The product of two floats is exact in double. Their sum with c is not always, and rounding it to
 * float would round twice; where it was inexact its last bit is therefore forced to 1 ("round to
 * odd", Boldo and Melquiond 2008), which keeps it off the midpoints between floats.
 */
#ifndef RZ_FUSED_H
#define RZ_FUSED_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float rz_fused(float a, float b, float c) {
#ifdef __FP_FAST_FMAF
    return __builtin_fmaf(a, b, c);
#else
    const double product = (double)a * (double)b, sum = product + (double)c;
    const double back = sum - product;
    const double error = (product - (sum - back)) + ((double)c - back);
    uint64_t bits;
    memcpy(&bits, &sum, 8);
    /* Towards zero where the rounding went away from it; NaN where an operand is not finite. */
    bits -= (error < 0) & (sum > 0);
    bits -= (error > 0) & (sum < 0);
    bits |= (error < 0) | (error > 0);
    double odd;
    memcpy(&odd, &bits, 8);
    return (float)odd;
#endif
}

#endif
