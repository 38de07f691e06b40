/* Where output pixels are read from: the maps of thetas, as geometry.pixel_coefficients and homography.pixel_coefficients
   have them, applied to a run of pixels of a row. */

#ifndef STN_PLACES_H
#define STN_PLACES_H

#include <string.h>

#include "pixels.h"

#define RUN 32 /* output pixels of a row whose places are computed at once */

/* Written as vectors, as a compiler that knows the count would make single products of the loop. */
#define LANES 16
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));
static const Lanes FIRST_STEPS = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

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

INLINE Kind kind_of(const double *thetas, float min_w) { return !thetas ? GIVEN : min_w > 0 ? HOMOGRAPHY : AFFINE; }

/* The map of image n. */
INLINE void map_of_image(Source source, int64_t n, Shape in, int64_t out_height, int64_t out_width, double *m) {
    if (source.kind != GIVEN)
        map_of(source.thetas + (source.kind == AFFINE ? 6 : 9) * n, source.kind, in, out_height, out_width, m);
}

/* Where `count` pixels of row i, from column j on, are read, by the image's map m; `at` counts the pixels before it. There
   is room for RUN of them, and of those beyond `count` some may be written too. */
INLINE void locate(Source source, const double *m, int64_t i, int64_t j, int64_t at, int count, float *x, float *y) {
    if (source.kind == GIVEN) {
        memcpy(x, source.x + at + j, count * sizeof(float));
        memcpy(y, source.y + at + j, count * sizeof(float));
        return;
    }
    const float x0 = (float)(m[0] * j + m[1] * i + m[2]), y0 = (float)(m[3] * j + m[4] * i + m[5]);
    const float dx = (float)m[0], dy = (float)m[3];
    if (source.kind == AFFINE) {
        for (int k = 0; k < count; k += LANES) {
            const Lanes steps = FIRST_STEPS + (float)k, places_x = dx * steps + x0, places_y = dy * steps + y0;
            memcpy(x + k, &places_x, sizeof places_x);
            memcpy(y + k, &places_y, sizeof places_y);
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

#endif
