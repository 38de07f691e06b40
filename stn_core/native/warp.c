/* The bilinear sampler of stn_core.sampler, for inference.

   Theta becomes a map m that takes output pixel (column j, row i) to the place in the input that it is read from, in
   pixels:
       w = m[6] j + m[7] i + m[8],   x = (m[0] j + m[1] i + m[2]) / w,   y = (m[3] j + m[4] i + m[5]) / w
   where w = 1 if it is affine. Or the places are given one by one. A neighbour outside of the image counts as the fill
   value. Whatever maps and places hold, infinity and NaN included, nothing outside of the image is read.

   Small images are first copied into the cache with a rim of fill, so that no pixel needs a check; of large ones, runs
   of pixels that lie inside need none, and those at the border are checked one by one. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE4_1__
#include <smmintrin.h>
#endif

#define RUN 32               /* output pixels of a row whose places are computed at once */
#define SMALL_VALUES 32768   /* images of up to so many values are copied */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(ONE_CPU)
#define EVERY_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EVERY_CPU
#endif
/* Inlined with constant arguments, each of these becomes as many functions as there are kinds of images. */
#define INLINE static inline __attribute__((always_inline))

typedef float Four __attribute__((vector_size(16)));

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

INLINE Four four(const void *pixels, int bytes, int64_t at) {
    Four found;
    if (!bytes) {
        memcpy(&found, (const float *)pixels + at, sizeof found);
        return found;
    }
    const uint8_t *four_bytes = (const uint8_t *)pixels + at;
#ifdef __SSE4_1__
    int32_t packed;
    memcpy(&packed, four_bytes, sizeof packed);
    return (Four)_mm_cvtepi32_ps(_mm_cvtepu8_epi32(_mm_cvtsi32_si128(packed)));
#else
    for (int c = 0; c < 4; c++)
        found[c] = four_bytes[c];
    return found;
#endif
}

INLINE void put_four(void *pixels, int bytes, int64_t at, Four found, int64_t channels) {
    if (!bytes) {
        memcpy((float *)pixels + at, &found, channels * sizeof(float));
        return;
    }
#ifdef __SSE4_1__
    const __m128i whole = _mm_cvtps_epi32((__m128)found), halves = _mm_packs_epi32(whole, whole);
    const int32_t packed = _mm_cvtsi128_si32(_mm_packus_epi16(halves, halves));
    memcpy((uint8_t *)pixels + at, &packed, channels);
#else
    for (int64_t c = 0; c < channels; c++)
        put(pixels, 1, at + c, found[c]);
#endif
}

typedef enum { AFFINE, HOMOGRAPHY, GIVEN } Kind;

typedef struct {
    Kind kind;
    const double *thetas; /* AFFINE: [N, 2, 3], HOMOGRAPHY: [N, 3, 3] */
    const float *x, *y; /* GIVEN: [N, H_out, W_out], in pixels */
    float min_w;        /* HOMOGRAPHY: what is nearer to the horizon, or beyond it, is sent far away */
} Source;

/* The map of one theta, as geometry.pixel_coefficients and homography.pixel_coefficients have it: the terms are arranged
   so that the identity at equal sizes is exact. */
INLINE void map_of(const double *theta, Kind kind, Shape in, int64_t out_height, int64_t out_width, double *m) {
    const double width = (double)out_width, height = (double)out_height;
    const double sides[2] = {(double)in.width, (double)in.height};
    if (kind == HOMOGRAPHY) {
        const double *t = theta + 6;
        m[6] = t[0] * (2 / width);
        m[7] = t[1] * (2 / height);
        m[8] = t[0] * (1 / width - 1) + t[1] * (1 / height - 1) + t[2];
    }
    for (int row = 0; row < 2; row++) {
        const double *t = theta + 3 * row, side = sides[row], across = side / width, below = side / height;
        double *to = m + 3 * row;
        to[0] = t[0] * across;
        to[1] = t[1] * below;
        if (kind == AFFINE) {
            to[2] = (t[0] * (across - side) + t[1] * (below - side) + (t[2] * side + side) - 1) * 0.5;
            continue;
        }
        to[2] = 0.5 * (t[0] * (across - side) + t[1] * (below - side) + t[2] * side);
        for (int k = 0; k < 3; k++)
            to[k] += 0.5 * (side - 1) * m[6 + k];
    }
}

/* Where `count` pixels of row i, from column j on, are read, by the image's map m; `at` counts the pixels before it. */
INLINE void locate(Source source, const double *m, int64_t i, int64_t j, int64_t at, int count, float *x, float *y) {
    if (source.kind == GIVEN) {
        memcpy(x, source.x + at + j, count * sizeof(float));
        memcpy(y, source.y + at + j, count * sizeof(float));
        return;
    }
    const float x0 = (float)(m[0] * j + m[1] * i + m[2]), y0 = (float)(m[3] * j + m[4] * i + m[5]);
    const float dx = (float)m[0], dy = (float)m[3];
    if (source.kind == AFFINE) {
        for (int k = 0; k < count; k++) {
            x[k] = dx * k + x0;
            y[k] = dy * k + y0;
        }
        return;
    }
    const float w0 = (float)(m[6] * j + m[7] * i + m[8]), dw = (float)m[6];
    for (int k = 0; k < count; k++) {
        const float w = dw * k + w0, safe = w > source.min_w ? w : source.min_w;
        x[k] = (dx * k + x0) / safe;
        y[k] = (dy * k + y0) / safe;
    }
}

/* Pixels whose neighbours can all be read: x and y are the places, at least 0, in an image of rows of `stride` pixels. */
INLINE void read_inside(const void *image, int bytes, int64_t stride, int64_t channels, const float *x, const float *y,
                        int count, void *out, int out_bytes, int64_t at) {
    for (int k = 0; k < count; k++) {
        const int32_t column = (int32_t)x[k], row = (int32_t)y[k];
        const float right = x[k] - column, down = y[k] - row, left = 1 - right, up = 1 - down;
        if (channels == 1) {
            const int32_t p = row * (int32_t)stride + column, q = p + (int32_t)stride;
            const float top = left * value(image, bytes, p) + right * value(image, bytes, p + 1);
            const float bottom = left * value(image, bytes, q) + right * value(image, bytes, q + 1);
            put(out, out_bytes, at + k, up * top + down * bottom);
            continue;
        }
        const int64_t p = (row * stride + column) * channels, q = p + stride * channels;
        if (channels == 3 || channels == 4) {
            const Four top = left * four(image, bytes, p) + right * four(image, bytes, p + channels);
            const Four bottom = left * four(image, bytes, q) + right * four(image, bytes, q + channels);
            put_four(out, out_bytes, at + k * channels, up * top + down * bottom, channels);
            continue;
        }
        for (int64_t c = 0; c < channels; c++) {
            const float top = left * value(image, bytes, p + c) + right * value(image, bytes, p + channels + c);
            const float bottom = left * value(image, bytes, q + c) + right * value(image, bytes, q + channels + c);
            put(out, out_bytes, at + k * channels + c, up * top + down * bottom);
        }
    }
}

#ifdef __SSE4_1__
/* Sums of bytes are weighted across in whole numbers, left and right together ONE, and down in floats. */
#define ONE 16384

typedef struct {
    int64_t at[RUN];      /* of the upper left neighbour, in bytes */
    int32_t across[RUN];  /* the weights of the left and, in the upper half, of the right neighbours */
    float up[RUN], down[RUN];
} Weights;

INLINE void weigh(int64_t stride, int64_t channels, const float *x, const float *y, int count, Weights *found) {
    for (int k = 0; k < count; k++) {
        const int32_t column = (int32_t)x[k], row = (int32_t)y[k];
        const int32_t right = (int32_t)((x[k] - column) * ONE + 0.5f);
        found->at[k] = ((int64_t)row * stride + column) * channels;
        found->across[k] = right << 16 | (ONE - right);
        found->down[k] = (y[k] - row) * (1.0f / ONE);
        found->up[k] = 1.0f / ONE - found->down[k];
    }
}

/* Four weighted sums of two rows, rounded to bytes. */
INLINE int32_t four_bytes_of(__m128i top, __m128i bottom, __m128i across, __m128 up, __m128 down) {
    const __m128 above = _mm_cvtepi32_ps(_mm_madd_epi16(top, across));
    const __m128 below = _mm_cvtepi32_ps(_mm_madd_epi16(bottom, across));
    const __m128i whole = _mm_cvtps_epi32(_mm_add_ps(_mm_mul_ps(up, above), _mm_mul_ps(down, below)));
    const __m128i halves = _mm_packs_epi32(whole, whole);
    return _mm_cvtsi128_si32(_mm_packus_epi16(halves, halves));
}

/* Pixels of three or four channels, each with its right neighbour in eight bytes. */
INLINE void read_colours(const uint8_t *image, int64_t stride, int64_t channels, const float *x, const float *y,
                         int count, uint8_t *out) {
    Weights w;
    weigh(stride, channels, x, y, count, &w);
    /* To pairs of 16 bits: left and right of each channel. */
    const __m128i pairs = channels == 3 ? _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1)
                                        : _mm_setr_epi8(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
    for (int k = 0; k < count; k++) {
        const uint8_t *upper = image + w.at[k], *lower = upper + stride * channels;
        const __m128i top = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)upper), pairs);
        const __m128i bottom = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)lower), pairs);
        const int32_t found = four_bytes_of(top, bottom, _mm_set1_epi32(w.across[k]), _mm_set1_ps(w.up[k]),
                                            _mm_set1_ps(w.down[k]));
        /* The fourth byte of three is overwritten by the next pixel; after the last nothing may be. */
        memcpy(out + k * channels, &found, k + 1 < count ? 4 : channels);
    }
}

/* Pixels of one channel, four at a time. */
INLINE void read_greys(const uint8_t *image, int64_t stride, const float *x, const float *y, int count, uint8_t *out) {
    Weights w;
    weigh(stride, 1, x, y, count, &w);
    for (int k = count; k % 4; k++) { /* the last again, to fill up four */
        w.at[k] = w.at[count - 1];
        w.across[k] = w.across[count - 1];
        w.up[k] = w.up[count - 1];
        w.down[k] = w.down[count - 1];
    }
    for (int k = 0; k < count; k += 4) {
        uint16_t upper[4], lower[4];
        for (int one = 0; one < 4; one++) {
            memcpy(upper + one, image + w.at[k + one], 2);
            memcpy(lower + one, image + w.at[k + one] + stride, 2);
        }
        const __m128i top = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)upper));
        const __m128i bottom = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)lower));
        const int32_t found = four_bytes_of(top, bottom, _mm_loadu_si128((const __m128i *)(w.across + k)),
                                            _mm_loadu_ps(w.up + k), _mm_loadu_ps(w.down + k));
        memcpy(out + k, &found, count - k < 4 ? count - k : 4);
    }
}
#endif

/* Pixels with at least one neighbour in the image: each is looked up if it is. */
INLINE void read_border(const void *image, int bytes, Shape in, const float *x, const float *y, int count, void *out,
                        int64_t at, float fill) {
    for (int k = 0; k < count; k++, at += in.channels) {
        const float column = floorf(x[k]), row = floorf(y[k]);
        const float right = x[k] - column, down = y[k] - row, left = 1 - right, up = 1 - down;
        const int64_t p = (int64_t)column, q = (int64_t)row;
        const int in_left = p >= 0, in_right = p + 1 < in.width, in_top = q >= 0, in_bottom = q + 1 < in.height;
        const int64_t first = (q * in.width + p) * in.channels, below = first + in.width * in.channels;
        for (int64_t c = 0; c < in.channels; c++) {
            const float top_left = in_top && in_left ? value(image, bytes, first + c) : fill;
            const float top_right = in_top && in_right ? value(image, bytes, first + in.channels + c) : fill;
            const float bottom_left = in_bottom && in_left ? value(image, bytes, below + c) : fill;
            const float bottom_right = in_bottom && in_right ? value(image, bytes, below + in.channels + c) : fill;
            put(out, bytes, at + c,
                up * (left * top_left + right * top_right) + down * (left * bottom_left + right * bottom_right));
        }
    }
}

/* The image as floats with a rim of fill: one pixel left and above, two right and below. */
INLINE void copy_with_rim(const void *image, int bytes, Shape in, float fill, float *rimmed) {
    const int64_t row_values = in.width * in.channels, stride = (in.width + 3) * in.channels;
    for (int64_t at = 0; at < stride * (in.height + 3) + 4; at++)
        rimmed[at] = fill;
    for (int64_t i = 0; i < in.height; i++) {
        float *to = rimmed + (i + 1) * stride + in.channels;
        for (int64_t at = 0; at < row_values; at++)
            to[at] = value(image, bytes, i * row_values + at);
    }
}

INLINE int64_t rimmed_values(Shape in) { return (in.width + 3) * (in.height + 3) * in.channels + 4; }

/* One output row: `image` is that of its image n, or the copy of it with a rim; `at` counts the pixels before it. */
INLINE void small_row(const float *rimmed, Shape in, Source source, const double *map, int64_t i, int64_t width, void *out,
                      int bytes, int64_t at) {
    float x[RUN], y[RUN];
    const float right = (float)in.width + 1, bottom = (float)in.height + 1;
    for (int64_t j = 0; j < width; j += RUN) {
        const int count = (int)(width - j < RUN ? width - j : RUN);
        locate(source, map, i, j, at, count, x, y);
        for (int k = 0; k < count; k++) { /* what is outside, and NaN, to the rim */
            const float x_rim = x[k] + 1, y_rim = y[k] + 1;
            x[k] = x_rim > 0 ? (x_rim < right ? x_rim : right) : 0;
            y[k] = y_rim > 0 ? (y_rim < bottom ? y_rim : bottom) : 0;
        }
        read_inside(rimmed, 0, in.width + 3, in.channels, x, y, count, out, bytes, (at + j) * in.channels);
    }
}

/* Where a pixel is read from. */
enum { INSIDE, BORDER, FAR };

/* `count` pixels of one kind: x and y are their places, `at` counts the values of `out` before them. */
INLINE void read_alike(int place, const void *image, int bytes, Shape in, const float *x, const float *y, int count,
                       void *out, int64_t at, float fill) {
    if (place == FAR)
        for (int64_t k = 0; k < count * in.channels; k++)
            put(out, bytes, at + k, fill);
    else if (place == BORDER)
        read_border(image, bytes, in, x, y, count, out, at, fill);
#ifdef __SSE4_1__
    else if (bytes && in.channels == 1)
        read_greys(image, in.width, x, y, count, (uint8_t *)out + at);
    else if (bytes && (in.channels == 3 || in.channels == 4))
        read_colours(image, in.width, in.channels, x, y, count, (uint8_t *)out + at);
#endif
    else
        read_inside(image, bytes, in.width, in.channels, x, y, count, out, bytes, at);
}

INLINE void large_row(const void *image, int bytes, Shape in, Source source, const double *map, int64_t i,
                      int64_t width, void *out, int64_t at, float fill) {
    float x[RUN], y[RUN];
    uint8_t place[RUN];
    /* Of pixels of three values more is read than they hold: so a row must follow. */
    const float right = (float)(in.width - 1), bottom = (float)(in.height - (in.channels == 3 ? 2 : 1));
    for (int64_t j = 0; j < width; j += RUN) {
        const int count = (int)(width - j < RUN ? width - j : RUN);
        locate(source, map, i, j, at, count, x, y);
        for (int k = 0; k < count; k++) { /* what is no number is far */
            const int inside = (x[k] >= 0) & (x[k] < right) & (y[k] >= 0) & (y[k] < bottom);
            const int near = (x[k] > -1) & (x[k] < (float)in.width) & (y[k] > -1) & (y[k] < (float)in.height);
            place[k] = (uint8_t)(inside ? INSIDE : near ? BORDER : FAR);
        }
        for (int first = 0, next = 0; first < count; first = next) {
            while (next < count && place[next] == place[first])
                next++;
            read_alike(place[first], image, bytes, in, x + first, y + first, next - first, out,
                       (at + j + first) * in.channels, fill);
        }
    }
}

INLINE int warp_rows(const void *images, int bytes, Shape in, Source source, void *out, int64_t out_height,
                     int64_t out_width, int64_t first_row, int64_t last_row, float fill) {
    const int64_t in_values = in.height * in.width * in.channels, value_bytes = bytes ? 1 : sizeof(float);
    double map[9] = {0};
    float *rimmed = NULL;
    if (in_values <= SMALL_VALUES && !(rimmed = malloc(rimmed_values(in) * sizeof(float))))
        return -1;
    for (int64_t row = first_row; row < last_row; row++) {
        const int64_t n = row / out_height, i = row % out_height, at = row * out_width;
        const void *image = (const char *)images + n * in_values * value_bytes;
        if (source.kind != GIVEN && (i == 0 || row == first_row))
            map_of(source.thetas + (source.kind == AFFINE ? 6 : 9) * n, source.kind, in, out_height, out_width, map);
        if (rimmed) {
            if (i == 0 || row == first_row)
                copy_with_rim(image, bytes, in, fill, rimmed);
            small_row(rimmed, in, source, map, i, out_width, out, bytes, at);
        } else {
            large_row(image, bytes, in, source, map, i, out_width, out, at, fill);
        }
    }
    free(rimmed);
    return 0;
}

#define WARP(BYTES, CHANNELS)                                                                                          \
    warp_rows(images, BYTES, (Shape){height, width, CHANNELS}, source, out, out_height, out_width, first_row, last_row, \
              fill)

/* Output rows first_row to last_row - 1, counted through the batch. images and out are uint8 (bytes = 1) or float,
   [N, H, W, C]; fill is in their units. The places are told by thetas, affine ones if min_w is 0, or, where there are
   none, by x and y. Gives 0, or -1 if there is no memory. */
EVERY_CPU int stn_warp(const void *images, int bytes, int64_t height, int64_t width, int64_t channels,
                       const double *thetas, float min_w, const float *x, const float *y, void *out, int64_t out_height,
                       int64_t out_width, int64_t first_row, int64_t last_row, float fill) {
    const Source source = {!thetas ? GIVEN : min_w > 0 ? HOMOGRAPHY : AFFINE, thetas, x, y, min_w};
    if (bytes)
        return channels == 1 ? WARP(1, 1) : channels == 3 ? WARP(1, 3) : WARP(1, channels);
    return channels == 1 ? WARP(0, 1) : channels == 3 ? WARP(0, 3) : WARP(0, channels);
}
