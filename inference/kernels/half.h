/* half.h: IEEE fp16 and bfloat16 to float and back in plain C, for packing and the portable
 * kernels. */
#ifndef RZ_HALF_H
#define RZ_HALF_H

#include <stdint.h>
#include <string.h>

static inline float rz_bits_to_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline uint32_t rz_float_to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline float rz_bfloat_to_float(uint16_t bits) {
    return rz_bits_to_float((uint32_t)bits << 16);
}

/* Exact, subnormals and non-finite values too. */
static inline float rz_half_to_float(uint16_t half) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
    const uint32_t rest = (uint32_t)(half & 0x7fffu) << 13;
    if (rest >= 0x7c00u << 13)
        return rz_bits_to_float(sign | 0x7f800000u | rest);
    /* Multiplying by 2^112 moves the exponent from fp16's bias to float's and normalises
     * subnormals. */
    const float magnitude = rz_bits_to_float(rest) * rz_bits_to_float((127u + 112u) << 23);
    return rz_bits_to_float(sign | rz_float_to_bits(magnitude));
}

/* Rounds to nearest even; too large becomes infinity. */
static inline uint16_t rz_float_to_half(float value) {
    const uint32_t bits = rz_float_to_bits(value);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u)
        return (uint16_t)(sign | 0x7c00u);
    if (magnitude < 0x38800000u) { /* subnormal: the addition rounds at 2^-24 */
        const float shifted = rz_bits_to_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (rz_float_to_bits(shifted) - rz_float_to_bits(0.5f)));
    }
    const uint32_t rounded = magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u);
    return (uint16_t)(sign | rounded >> 13);
}

#endif
