#include "image/colour.h"

#include <math.h>

/* OpenCV's 8-bit HSV (modules/imgproc, color_hsv): divisions are products with tables of 12-bit fractions. */
enum { HSV_SHIFT = 12, HUES = 180 };

struct hsv_tables {
    int saturation[256], hue[256]; /* 255/v and 180/(6 d) */
};

static void make_tables(struct hsv_tables *t)
{
    t->saturation[0] = t->hue[0] = 0;
    for (int i = 1; i < 256; i++) {
        t->saturation[i] = (int)lrint((255 << HSV_SHIFT) / (double)i);
        t->hue[i] = (int)lrint((HUES << HSV_SHIFT) / (6.0 * i));
    }
}

static int max3(int a, int b, int c)
{
    return a > b ? (a > c ? a : c) : b > c ? b : c;
}

static int min3(int a, int b, int c)
{
    return a < b ? (a < c ? a : c) : b < c ? b : c;
}

/* p is taken as blue, green, red. */
static void to_hsv(const struct hsv_tables *t, const uint8_t *p, int *h, int *s, int *v)
{
    int b = p[0], g = p[1], r = p[2], half = 1 << (HSV_SHIFT - 1);
    *v = max3(b, g, r);
    int d = *v - min3(b, g, r);
    int sector = *v == r ? g - b : *v == g ? b - r + 2 * d : r - g + 4 * d;
    *s = (d * t->saturation[*v] + half) >> HSV_SHIFT;
    *h = (sector * t->hue[d] + half) >> HSV_SHIFT;
    *h += *h < 0 ? HUES : 0;
}

/* OpenCV does a row 32 pixels at a time, multiplying and adding in one and cutting the result; the few that
 * are left over it rounds. */
enum { VECTOR = 32 };

static void from_hsv(int h, int s, int v, bool vector, uint8_t *p)
{
    /* which of v, p, q, t below blue, green and red are, in each sixth of the circle */
    static const uint8_t part[6][3] = {{1, 3, 0}, {1, 0, 2}, {3, 0, 1}, {0, 2, 1}, {0, 1, 3}, {2, 1, 0}};
    float hue = (float)h * (6.0f / HUES), fs = (float)s * (1.0f / 255), fv = (float)v * (1.0f / 255);
    int sector = (int)hue;
    float f = hue - (float)sector;
    float falls = vector ? fmaf(-fs, f, 1) : 1 - fs * f,
          rises = vector ? fmaf(-fs, 1 - f, 1) : 1 - fs * (1 - f);
    float value[4] = {fv, fv * (1 - fs), fv * falls, fv * rises};
    for (int i = 0; i < 3; i++) {
        float x = value[part[sector][i]] * 255.0f;
        p[i] = (uint8_t)(vector ? x : rintf(x));
    }
}

void sd_image_shift_hue(struct sd_image *im, double shift)
{
    struct hsv_tables t;
    make_tables(&t);
    uint8_t turned[HUES];
    for (int h = 0; h < HUES; h++)
        turned[h] = (uint8_t)fmod(h + shift, HUES);
    uint32_t whole = im->width / VECTOR * VECTOR;
    uint8_t *p = im->data;
    for (uint32_t y = 0; y < im->height; y++)
        for (uint32_t x = 0; x < im->width; x++, p += im->channels) {
            int h, s, v;
            to_hsv(&t, p, &h, &s, &v);
            from_hsv(turned[h], s, v, x < whole, p);
        }
}

void sd_image_gamma(struct sd_image *im, double gamma)
{
    uint8_t table[256];
    for (int v = 0; v < 256; v++) {
        double x = pow(v, gamma);
        table[v] = (uint8_t)(x > 255 ? 255 : x);
    }
    size_t n = (size_t)im->width * im->height;
    for (size_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++)
            im->data[i * (size_t)im->channels + (size_t)c] =
                table[im->data[i * (size_t)im->channels + (size_t)c]];
}
