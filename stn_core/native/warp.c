/* The bilinear sampler of stn_core.sampler, for inference.

   Theta becomes a map m that takes output pixel (column j, row i) to the place in the input that it is read from, in
   pixels:
       w = m[6] j + m[7] i + m[8],   x = (m[0] j + m[1] i + m[2]) / w,   y = (m[3] j + m[4] i + m[5]) / w
   where w = 1 if it is affine. Or the places are given one by one. A neighbour outside of the image counts as the fill
   value. Whatever maps and places hold, infinity and NaN included, nothing outside of the image is read.

   Small images are first copied into the cache with a rim of fill, so that no pixel needs a check; of large ones, runs
   of pixels that lie inside need none, and those at the border are checked one by one. Large ones are read by tiles. */

#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE4_1__
#include <smmintrin.h>
#endif

#include "places.h"

#define TILE_WIDTH 64      /* two runs */
#define TILE_HEIGHT 16
#define SMALL_VALUES 32768 /* images of up to so many values are copied */

typedef float Four __attribute__((vector_size(16)));

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

/* The image as floats within its rim of fill: one pixel left and above, two right and below. */
INLINE void copy_into_rim(const void *image, int bytes, Shape in, float *rimmed) {
    const int64_t row_values = in.width * in.channels, stride = (in.width + 3) * in.channels;
    for (int64_t i = 0; i < in.height; i++) {
        float *to = rimmed + (i + 1) * stride + in.channels;
        for (int64_t at = 0; at < row_values; at++)
            to[at] = value(image, bytes, i * row_values + at);
    }
}

INLINE int64_t rimmed_values(Shape in) { return (in.width + 3) * (in.height + 3) * in.channels + 4; }

/* `count` floats, all `fill`; NULL if there is no memory. */
INLINE float *filled(int64_t count, float fill) {
    float *values = malloc(count * sizeof(float));
    for (int64_t at = 0; values && at < count; at++)
        values[at] = fill;
    return values;
}

/* Pixels of one channel from a copy with a rim: as read_inside does it, but with a neighbour and the one right of it in
   one load. `lanes` are multiples of four. */
INLINE void read_rimmed(const float *rimmed, int64_t stride, const float *x, const float *y, int lanes, float *found) {
#ifdef __SSE4_1__
    int32_t at[RUN];
    float right[RUN], down[RUN];
    for (int k = 0; k < lanes; k++) {
        const int32_t column = (int32_t)x[k], row = (int32_t)y[k];
        at[k] = row * (int32_t)stride + column;
        right[k] = x[k] - column;
        down[k] = y[k] - row;
    }
    for (int k = 0; k < lanes; k += 4) {
        Four pairs[4]; /* the upper neighbours of two pixels and of two more, and the lower ones */
        for (int half = 0; half < 4; half++) {
            const float *from = rimmed + (half < 2 ? 0 : stride);
            const int first = k + half % 2 * 2;
            const __m128 one = _mm_castsi128_ps(_mm_loadl_epi64((const __m128i *)(from + at[first])));
            pairs[half] = (Four)_mm_loadh_pi(one, (const __m64 *)(from + at[first + 1]));
        }
        const Four across = (Four)_mm_loadu_ps(right + k), along = (Four)_mm_loadu_ps(down + k);
        Four rows[2];
        for (int row = 0; row < 2; row++) {
            const __m128 a = (__m128)pairs[2 * row], b = (__m128)pairs[2 * row + 1];
            const Four lefts = (Four)_mm_shuffle_ps(a, b, _MM_SHUFFLE(2, 0, 2, 0));
            const Four rights = (Four)_mm_shuffle_ps(a, b, _MM_SHUFFLE(3, 1, 3, 1));
            rows[row] = (1 - across) * lefts + across * rights;
        }
        _mm_storeu_ps(found + k, (__m128)((1 - along) * rows[0] + along * rows[1]));
    }
#else
    read_inside(rimmed, 0, stride, 1, x, y, lanes, found, 0, 0);
#endif
}

/* Up to `lanes` pixels of one output row, from column j on, read from a copy with a rim; `at` counts the pixels before
   them. All lanes are computed, those beyond the row's end too, as vectors know no odd ends. */
INLINE void small_run(const float *rimmed, Shape in, Source source, const double *map, int64_t i, int64_t j, int lanes,
                      int count, void *out, int bytes, int64_t at) {
    float x[RUN] = {0}, y[RUN] = {0}, found[RUN];
    const float right = (float)in.width + 1, bottom = (float)in.height + 1;
    locate(source, map, i, j, at - j, count, x, y);
    for (int k = 0; k < lanes; k++) { /* what is outside, and NaN, to the rim */
        const float x_rim = x[k] + 1, y_rim = y[k] + 1;
        x[k] = x_rim > 0 ? (x_rim < right ? x_rim : right) : 0;
        y[k] = y_rim > 0 ? (y_rim < bottom ? y_rim : bottom) : 0;
    }
    if (in.channels > 1) {
        read_inside(rimmed, 0, in.width + 3, in.channels, x, y, count, out, bytes, at * in.channels);
        return;
    }
    read_rimmed(rimmed, in.width + 3, x, y, lanes, found);
    if (!bytes)
        memcpy((float *)out + at, found, count * sizeof(float));
    else
        for (int k = 0; k < count; k++)
            put(out, 1, at + k, found[k]);
}

/* One output row, read from a copy with a rim; `at` counts the pixels before it. */
INLINE void small_row(const float *rimmed, Shape in, Source source, const double *map, int64_t i, int64_t width, void *out,
                      int bytes, int64_t at) {
    for (int64_t j = 0; j < width; j += RUN) {
        const int count = (int)(width - j < RUN ? width - j : RUN);
        if (count > RUN / 2)
            small_run(rimmed, in, source, map, i, j, RUN, count, out, bytes, at + j);
        else
            small_run(rimmed, in, source, map, i, j, RUN / 2, count, out, bytes, at + j);
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

/* The part of an output row from column j on, of `count` pixels; `at` counts the pixels before the row. */
INLINE void large_run(const void *image, int bytes, Shape in, Source source, const double *map, int64_t i, int64_t j,
                      int count, void *out, int64_t at, float fill) {
    float x[RUN], y[RUN];
    uint8_t place[RUN];
    /* Of pixels of three values more is read than they hold: so a row must follow. */
    const float right = (float)(in.width - 1), bottom = (float)(in.height - (in.channels == 3 ? 2 : 1));
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

/* Output rows i to last - 1, by tiles: each row of a turned image reads from many of the source's, and the next row
   finds them in the cache. */
INLINE void large_rows(const void *image, int bytes, Shape in, Source source, const double *map, int64_t i, int64_t last,
                       int64_t width, void *out, int64_t at, float fill) {
    for (int64_t left = 0; left < width; left += TILE_WIDTH) {
        const int64_t right = width - left < TILE_WIDTH ? width : left + TILE_WIDTH;
        for (int64_t row = i; row < last; row++)
            for (int64_t j = left; j < right; j += RUN) {
                const int count = (int)(right - j < RUN ? right - j : RUN);
                large_run(image, bytes, in, source, map, row, j, count, out, at + (row - i) * width, fill);
            }
    }
}

INLINE int warp_rows(const void *images, int bytes, Shape in, Source source, void *out, int64_t out_height,
                     int64_t out_width, int64_t first_row, int64_t last_row, float fill) {
    const int64_t in_values = in.height * in.width * in.channels, value_bytes = bytes ? 1 : sizeof(float);
    double map[9] = {0};
    float *rimmed = NULL;
    if (in_values <= SMALL_VALUES && !(rimmed = filled(rimmed_values(in), fill)))
        return -1;
    int64_t n = first_row / out_height, i = first_row % out_height;
    for (int64_t row = first_row, rows; row < last_row; row += rows) {
        const int64_t at = row * out_width;
        const void *image = (const char *)images + n * in_values * value_bytes;
        if (i == 0 || row == first_row)
            map_of_image(source, n, in, out_height, out_width, map);
        rows = 1;
        if (rimmed) {
            if (i == 0 || row == first_row)
                copy_into_rim(image, bytes, in, rimmed);
            small_row(rimmed, in, source, map, i, out_width, out, bytes, at);
        } else {
            const int64_t left = out_height - i < last_row - row ? out_height - i : last_row - row;
            rows = left < TILE_HEIGHT ? left : TILE_HEIGHT;
            large_rows(image, bytes, in, source, map, i, i + rows, out_width, out, at, fill);
        }
        if ((i += rows) == out_height) {
            i = 0;
            n++;
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
    const Source source = {kind_of(thetas, min_w), thetas, x, y, min_w};
    if (bytes)
        return channels == 1 ? WARP(1, 1) : channels == 3 ? WARP(1, 3) : WARP(1, channels);
    return channels == 1 ? WARP(0, 1) : channels == 3 ? WARP(0, 3) : WARP(0, channels);
}
