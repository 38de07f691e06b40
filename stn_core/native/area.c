/* Images made smaller by area averages, for inference: each output pixel is the mean of what it covers of the image,
   parts of pixels in proportion. */

#include <stdlib.h>

#include "pixels.h"

/* What output pixel `at` of `out_side` covers of `side` pixels: first to last, and how much of those two. */
typedef struct {
    int64_t first, last;
    float of_first, of_last;
} Cover;

INLINE Cover cover(int64_t at, int64_t side, int64_t out_side) {
    const double from = (double)(at * side) / (double)out_side, to = (double)((at + 1) * side) / (double)out_side;
    Cover found = {(int64_t)from, (int64_t)to, 0, 0};
    if ((double)found.last == to)
        found.last--;
    found.of_first = (float)((found.first == found.last ? to : (double)(found.first + 1)) - from);
    found.of_last = (float)(to - (double)found.last);
    return found;
}

INLINE float weight(Cover covered, int64_t at) {
    return at == covered.first ? covered.of_first : at == covered.last ? covered.of_last : 1;
}

INLINE void average_rows(const void *images, int bytes, Shape in, void *out, int64_t out_height, int64_t out_width,
                         int64_t first_row, int64_t last_row, float *sums) {
    const int64_t row_values = in.width * in.channels;
    const float share = (float)((double)(out_height * out_width) / (double)(in.height * in.width));
    for (int64_t row = first_row; row < last_row; row++) {
        const Cover down = cover(row % out_height, in.height, out_height);
        const int64_t top = row / out_height * in.height;
        for (int64_t i = down.first; i <= down.last; i++) {
            const float part = weight(down, i);
            const int64_t from = (top + i) * row_values;
            if (i == down.first)
                for (int64_t v = 0; v < row_values; v++)
                    sums[v] = part * value(images, bytes, from + v);
            else
                for (int64_t v = 0; v < row_values; v++)
                    sums[v] += part * value(images, bytes, from + v);
        }
        for (int64_t j = 0; j < out_width; j++) {
            const Cover across = cover(j, in.width, out_width);
            for (int64_t c = 0; c < in.channels; c++) {
                float sum = 0;
                for (int64_t p = across.first; p <= across.last; p++)
                    sum += weight(across, p) * sums[p * in.channels + c];
                put(out, bytes, (row * out_width + j) * in.channels + c, sum * share);
            }
        }
    }
}

#define AVERAGE(BYTES, CHANNELS)                                                                                       \
    average_rows(images, BYTES, (Shape){height, width, CHANNELS}, out, out_height, out_width, first_row, last_row, sums)

/* Output rows first_row to last_row - 1, counted through the batch, of images [N, H, W, C], uint8 (bytes = 1) or float,
   at a size that is no larger in either direction. Gives 0, or -1 if there is no memory. */
EVERY_CPU int stn_reduce(const void *images, int bytes, int64_t height, int64_t width, int64_t channels, void *out,
                         int64_t out_height, int64_t out_width, int64_t first_row, int64_t last_row) {
    float *sums = malloc(width * channels * sizeof(float));
    if (!sums)
        return -1;
    if (bytes)
        channels == 1 ? AVERAGE(1, 1) : channels == 3 ? AVERAGE(1, 3) : AVERAGE(1, channels);
    else
        channels == 1 ? AVERAGE(0, 1) : channels == 3 ? AVERAGE(0, 3) : AVERAGE(0, channels);
    free(sums);
    return 0;
}
