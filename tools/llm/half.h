/* Floats to 16 bits, rounded to nearest even. */
#ifndef KILN_TOOLS_HALF_H
#define KILN_TOOLS_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint16_t bfloat_from_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); /* stays NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static inline uint16_t half_from_float(float f) {
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, bits = u & 0x7fffffff;
    if (bits > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (bits >= 0x47800000) /* 65536 and above; what rounds up to it overflows into the same bits below */
        return (uint16_t)(sign | 0x7c00);
    if (bits < 0x33000000) /* below half of the smallest subnormal */
        return (uint16_t)sign;
    /* The significand with its leading 1; 13 bits go, and more of them for subnormals. */
    uint32_t exponent = bits >> 23, drop = exponent < 113 ? 126 - exponent : 13;
    uint32_t significand = (bits & 0x7fffff) | 0x800000;
    uint32_t kept = significand >> drop, rest = significand & ((1u << drop) - 1), tie = 1u << (drop - 1);
    kept += rest > tie || (rest == tie && (kept & 1));
    /* A carry runs into the exponent, which is just what it should do. */
    return (uint16_t)(sign | (exponent < 113 ? kept : kept + ((exponent - 113) << 10)));
}

static inline float float_from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, significand = h & 0x3ff, u;
    if (exponent == 31) {
        u = sign | 0x7f800000 | significand << 13;
    } else if (exponent > 0) {
        u = sign | (exponent + 112) << 23 | significand << 13;
    } else {
        float tiny = (float)significand * 0x1p-24f;
        memcpy(&u, &tiny, sizeof u);
        u |= sign;
    }
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float float_from_bfloat(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

#endif
