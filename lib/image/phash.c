#include "image/phash.h"

#include <stdlib.h>
#include <string.h>

enum {
    CELLS = 32,
    LOW = 8,
    FRACTION = 8
}; /* cells a side, frequencies a side, bits behind the point of a cell */

/* cos(pi i / 64) in units of 2^-14, for i = 0..32; the other quarters follow by symmetry, so that what should
 * cancel does. */
static const int16_t quarter[33] = {16384, 16364, 16305, 16207, 16069, 15893, 15679, 15426, 15137,
                                    14811, 14449, 14053, 13623, 13160, 12665, 12140, 11585, 11003,
                                    10394, 9760,  9102,  8423,  7723,  7005,  6270,  5520,  4756,
                                    3981,  3196,  2404,  1606,  804,   0};

static int cosine(int i) /* of pi i / 64 */
{
    i %= 128;
    if (i > 64)
        i = 128 - i;
    return i <= 32 ? quarter[i] : -quarter[64 - i];
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint32_t grey(const uint8_t *p)
{
    return (19595u * p[0] + 38470u * p[1] + 7471u * p[2] + 32768u) >> 16;
}

/* The row's part in each cell's width. Lengths are in 1/32 pixels: pixel x lies in [32x, 32x + 32), cell i in
 * [i width, (i + 1) width). */
static void shrink_row(const struct sd_image *im, const uint8_t *row, uint64_t sums[CELLS])
{
    const uint64_t width = im->width, step = (uint64_t)im->channels;
    for (uint64_t i = 0; i < CELLS; i++) {
        uint64_t from = i * width, to = from + width, first = from / CELLS, last = (to - 1) / CELLS,
                 whole = 0;
        for (uint64_t x = first + 1; x < last; x++)
            whole += grey(row + x * step);
        if (first == last)
            sums[i] = grey(row + first * step) * width;
        else
            sums[i] = grey(row + first * step) * (first * CELLS + CELLS - from) + whole * CELLS +
                      grey(row + last * step) * (to - last * CELLS);
    }
}

/* The cells' means, with FRACTION bits behind the point. Sums are at most 255 * 2^28 pixels: 36 bits. */
static void shrink(const struct sd_image *im, int32_t cells[CELLS][CELLS])
{
    const uint64_t height = im->height, area = height * im->width;
    uint64_t sums[CELLS][CELLS] = {0}, row[CELLS];
    for (uint64_t y = 0; y < height; y++) {
        shrink_row(im, im->data + y * im->width * (uint64_t)im->channels, row);
        uint64_t top = y * CELLS, bottom = top + CELLS;
        for (uint64_t i = top / height; i * height < bottom; i++) {
            uint64_t covered = smaller(bottom, (i + 1) * height) - larger(top, i * height);
            for (int x = 0; x < CELLS; x++)
                sums[i][x] += row[x] * covered;
        }
    }
    for (int i = 0; i < CELLS * CELLS; i++)
        cells[i / CELLS][i % CELLS] = (int32_t)(((sums[i / CELLS][i % CELLS] << FRACTION) + area / 2) / area);
}

/* low[v][u]; 16 bits of a cell, 15 of a cosine and 5 of a sum, the last two twice: 56 bits. */
static void transform(int32_t cells[CELLS][CELLS], int64_t low[LOW * LOW])
{
    int64_t across[CELLS][LOW] = {0};
    for (int y = 0; y < CELLS; y++)
        for (int u = 0; u < LOW; u++)
            for (int x = 0; x < CELLS; x++)
                across[y][u] += (int64_t)cells[y][x] * cosine((2 * x + 1) * u);
    memset(low, 0, LOW * LOW * sizeof *low);
    for (int v = 0; v < LOW; v++)
        for (int u = 0; u < LOW; u++)
            for (int y = 0; y < CELLS; y++)
                low[v * LOW + u] += across[y][u] * cosine((2 * y + 1) * v);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

bool sd_phash(const struct sd_image *im, uint64_t *hash)
{
    int32_t cells[CELLS][CELLS], least = INT32_MAX, most = 0;
    int64_t low[LOW * LOW], sorted[LOW * LOW - 1];
    *hash = 0;
    if (!im->width || !im->height)
        return false;
    shrink(im, cells);
    for (int i = 0; i < CELLS * CELLS; i++) {
        int32_t v = cells[i / CELLS][i % CELLS];
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    if (most - least < SD_PHASH_MIN_CONTRAST << FRACTION)
        return false;
    transform(cells, low);
    memcpy(sorted, low + 1, sizeof sorted);
    qsort(sorted, LOW * LOW - 1, sizeof *sorted, by_value);
    for (int i = 1; i < LOW * LOW; i++)
        *hash |= (uint64_t)(low[i] > sorted[LOW * LOW / 2 - 1]) << i;
    return true;
}

void sd_mean_colour(const struct sd_image *im, uint8_t rgb[3])
{
    const uint64_t n = (uint64_t)im->width * im->height;
    uint64_t sum[3] = {0};
    for (uint64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            sum[c] += im->data[i * (uint64_t)im->channels + (uint64_t)c];
    for (int c = 0; c < 3; c++)
        rgb[c] = n ? (uint8_t)((sum[c] + n / 2) / n) : 0;
}
