/* Which output pixels the sampler in warp.c reads from inside the image, from edge to edge. */

#include "places.h"

/* 1 or 0 for the pixels of output rows first_row to last_row - 1, counted through the batch; all else as in stn_warp. */
EVERY_CPU void stn_inside(int64_t height, int64_t width, const double *thetas, float min_w, const float *x,
                          const float *y, uint8_t *out, int64_t out_height, int64_t out_width, int64_t first_row,
                          int64_t last_row) {
    const Source source = {kind_of(thetas, min_w), thetas, x, y, min_w};
    const float right = (float)width - 0.5f, bottom = (float)height - 0.5f;
    double map[9] = {0};
    for (int64_t row = first_row; row < last_row; row++) {
        const int64_t n = row / out_height, i = row % out_height, at = row * out_width;
        if (i == 0 || row == first_row)
            map_of_image(source, n, (Shape){height, width, 1}, out_height, out_width, map);
        for (int64_t j = 0; j < out_width; j += RUN) {
            float at_x[RUN], at_y[RUN];
            const int count = (int)(out_width - j < RUN ? out_width - j : RUN);
            locate(source, map, i, j, at, count, at_x, at_y);
            for (int k = 0; k < count; k++)
                out[at + j + k] = (at_x[k] >= -0.5f) & (at_x[k] <= right) & (at_y[k] >= -0.5f) & (at_y[k] <= bottom);
        }
    }
}
