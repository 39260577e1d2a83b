/* Pictures for terminals: what was written, read back. */
#include "image/terminal.h"
#include "tap.h"

#include <sixel.h>
#include <stdlib.h>
#include <string.h>

/* A picture of w x h with many colours, or with 8. */
static struct sd_image picture(uint32_t w, uint32_t h, bool many)
{
    struct sd_image im;
    struct sd_err err;
    if (sd_image_alloc(&im, w, h, 3, &err))
        exit(3);
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++) {
            uint8_t *p = im.data + ((size_t)y * w + x) * 3;
            if (many) {
                p[0] = (uint8_t)(x * 255 / w);
                p[1] = (uint8_t)(y * 255 / h);
                p[2] = (uint8_t)((x * x + y * 3) % 251);
            } else {
                unsigned k = x / 3 + y / 5;
                for (int c = 0; c < 3; c++)
                    p[c] = k >> c & 1 ? 255 : 0;
            }
        }
    return im;
}

/* ---- kitty ---- */

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Base64 of len digits; false when it is none. */
static bool unbase64(const char *s, size_t len, struct sd_buf *out)
{
    uint32_t bits = 0;
    int n = 0;
    for (; len && s[len - 1] == '='; len--)
        ;
    for (size_t i = 0; i < len; i++) {
        if (digit(s[i]) < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit(s[i]);
        n += 6;
        if (n >= 8) {
            n -= 8;
            if (sd_buf_addc(out, (char)(bits >> n)))
                return false;
        }
    }
    return true;
}

/* The payload of all escapes; NULL when they are not as the protocol wants them. */
static const char *kitty_payload(const char *s, struct sd_buf *out)
{
    for (bool first = true, more = true; more; first = false) {
        const char *start = first ? "\033_Ga=T,f=100,q=2,m=" : "\033_Gm=";
        if (strncmp(s, start, strlen(start)))
            return NULL;
        s += strlen(start);
        more = *s == '1';
        const char *end = strstr(s, "\033\\");
        if ((*s != '0' && *s != '1') || s[1] != ';' || !end)
            return NULL;
        size_t len = (size_t)(end - s) - 2;
        if (len > 4096 || (more && len % 4) || !len || sd_buf_add(out, s + 2, len))
            return NULL;
        s = end + 2;
    }
    return s;
}

static void kitty(uint32_t w, uint32_t h)
{
    struct sd_image im = picture(w, h, true), back = SD_IMAGE_INIT;
    struct sd_buf out = SD_BUF_INIT, text = SD_BUF_INIT, png = SD_BUF_INIT;
    struct sd_err err = {0};
    int rc = sd_terminal_draw(SD_TERMINAL_KITTY, &im, &out, &err);
    const char *end = rc ? NULL : kitty_payload(out.data, &text);
    ok(end && !*end, "kitty, %ux%u: pieces of at most 4096 digits, and nothing behind them", w, h);
    ok(end && unbase64(text.data, text.len, &png) &&
           !sd_image_decode(png.data, png.len, 3, SD_IMAGE_STRICT, &back, &err) && back.width == w &&
           back.height == h && !memcmp(back.data, im.data, (size_t)w * h * 3),
       "kitty, %ux%u: a PNG file of the same pixels", w, h);
    sd_image_free(&im);
    sd_image_free(&back);
    sd_buf_free(&out);
    sd_buf_free(&text);
    sd_buf_free(&png);
}

/* ---- sixel ---- */

/* Mean and largest difference of a channel. */
static void compare(const struct sd_image *im, const unsigned char *pixels, int width,
                    const unsigned char *palette, double *mean, int *most)
{
    double sum = 0;
    *most = 0;
    for (uint32_t y = 0; y < im->height; y++)
        for (uint32_t x = 0; x < im->width; x++)
            for (uint32_t c = 0; c < 3; c++) {
                int got = palette[pixels[(size_t)y * (size_t)width + x] * 3 + c];
                int d = abs(got - im->data[((size_t)y * im->width + x) * 3 + c]);
                sum += d;
                *most = d > *most ? d : *most;
            }
    *mean = sum / ((double)im->width * im->height * 3);
}

static void sixel(uint32_t w, uint32_t h, bool many, double mean_allowed, int most_allowed)
{
    struct sd_image im = picture(w, h, many);
    struct sd_buf out = SD_BUF_INIT;
    struct sd_err err = {0};
    unsigned char *pixels = NULL, *palette = NULL;
    int width = 0, height = 0, colours = 0, most = 255;
    double mean = 255;
    sixel_allocator_t *allocator;
    if (SIXEL_FAILED(sixel_allocator_new(&allocator, malloc, calloc, realloc, free)))
        exit(3);
    int rc = sd_terminal_draw(SD_TERMINAL_SIXEL, &im, &out, &err);
    ok(!rc && out.len > 4 && !memcmp(out.data, "\033P", 2) && !memcmp(out.data + out.len - 2, "\033\\", 2),
       "sixel, %ux%u: one device control string", w, h);
    bool read = !rc && SIXEL_SUCCEEDED(sixel_decode_raw((unsigned char *)out.data, (int)out.len, &pixels,
                                                        &width, &height, &palette, &colours, allocator));
    /* Sixels are six pixels high, so there may be more rows. */
    bool sized = read && width == (int)w && height >= (int)h && height <= (int)h + 6;
    if (sized)
        compare(&im, pixels, width, palette, &mean, &most);
    if (!ok(sized && mean <= mean_allowed && most <= most_allowed, "sixel, %ux%u: its size, and %s", w, h,
            many ? "colours close to those" : "its few colours"))
        printf("# %dx%d, %d colours, differences: mean %.2f, most %d\n", width, height, colours, mean, most);
    sixel_allocator_free(allocator, pixels);
    sixel_allocator_free(allocator, palette);
    sixel_allocator_unref(allocator);
    sd_image_free(&im);
    sd_buf_free(&out);
}

static void guess(const char *variable, const char *value, enum sd_terminal want)
{
    unsetenv("KITTY_WINDOW_ID");
    unsetenv("TERM_PROGRAM");
    setenv("TERM", "xterm-256color", 1);
    if (variable)
        setenv(variable, value, 1);
    ok(sd_terminal_guess() == want, "%s=%s", variable ? variable : "TERM",
       variable ? value : "xterm-256color");
}

int main(void)
{
    struct sd_image alpha;
    struct sd_buf out = SD_BUF_INIT;
    struct sd_err err = {0};
    kitty(1, 1);
    kitty(97, 61);
    kitty(256, 256);
    /* libsixel rounds to 5 bits before it counts colours. */
    sixel(25, 31, false, 4, 8);
    sixel(48, 30, false, 4, 8);
    sixel(97, 61, true, 12, 255);
    sixel(256, 256, true, 12, 255);
    guess(NULL, NULL, SD_TERMINAL_NONE);
    guess("KITTY_WINDOW_ID", "1", SD_TERMINAL_KITTY);
    guess("TERM", "xterm-kitty", SD_TERMINAL_KITTY);
    guess("TERM_PROGRAM", "ghostty", SD_TERMINAL_KITTY);
    guess("TERM", "foot", SD_TERMINAL_SIXEL);
    guess("TERM", "dumb", SD_TERMINAL_NONE);
    if (sd_image_alloc(&alpha, 2, 2, 4, &err))
        return 3;
    ok(sd_terminal_draw(SD_TERMINAL_SIXEL, &alpha, &out, &err) && !out.len,
       "no sixels with an alpha channel: %s", err.msg);
    sd_image_free(&alpha);
    sd_buf_free(&out);
    return tap_end();
}
