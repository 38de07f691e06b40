/* What all functions here share: shapes, and values of either datatype. */

#ifndef STN_PIXELS_H
#define STN_PIXELS_H

#include <stdint.h>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(ONE_CPU)
#define EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EVERY_CPU
#endif
/* Inlined with constant arguments, each of these becomes as many functions as there are kinds of images. */
#define INLINE static inline __attribute__((always_inline))

typedef struct {
    int64_t height, width, channels;
} Shape;

INLINE float value(const void *pixels, int bytes, int64_t at) {
    return bytes ? (float)((const uint8_t *)pixels)[at] : ((const float *)pixels)[at];
}

/* Added and taken off again, it rounds a small float to a whole number, half to even. */
#define ROUNDING 12582912.0f /* 1.5 * 2^23 */

INLINE void put(void *pixels, int bytes, int64_t at, float found) {
    if (bytes)
        ((uint8_t *)pixels)[at] = (uint8_t)(int32_t)((found + ROUNDING) - ROUNDING);
    else
        ((float *)pixels)[at] = found;
}

#endif
