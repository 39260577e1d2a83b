#include "image/terminal.h"

#include "base/base64.h"
#include "image/png.h"

#include <sixel.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 4096, COLOURS = 256 };

static bool has(const char *variable, const char *part)
{
    const char *value = getenv(variable);
    return value && strstr(value, part);
}

enum sd_terminal sd_terminal_guess(void)
{
    static const char *const kitty[] = {"kitty", "ghostty"};
    static const char *const sixel[] = {"sixel", "foot", "mlterm", "contour", "yaft", "WezTerm", "iTerm"};
    if (getenv("KITTY_WINDOW_ID"))
        return SD_TERMINAL_KITTY;
    for (size_t i = 0; i < sizeof kitty / sizeof *kitty; i++)
        if (has("TERM", kitty[i]) || has("TERM_PROGRAM", kitty[i]))
            return SD_TERMINAL_KITTY;
    for (size_t i = 0; i < sizeof sixel / sizeof *sixel; i++)
        if (has("TERM", sixel[i]) || has("TERM_PROGRAM", sixel[i]))
            return SD_TERMINAL_SIXEL;
    return SD_TERMINAL_NONE;
}

/* a=T: transmit and show; f=100: PNG; q=2: no answer, which would land in the shell's input; m=1: more comes.
 */
static int draw_kitty(const struct sd_image *im, struct sd_buf *out, struct sd_err *err)
{
    struct sd_buf png = SD_BUF_INIT, text = SD_BUF_INIT;
    int rc = sd_png_encode(im, NULL, 0, &png, err);
    if (!rc && sd_base64_add(&text, png.data, png.len))
        rc = sd_err_memory(err, png.len * 2);
    for (size_t at = 0; !rc && at < text.len; at += PIECE) {
        size_t n = text.len - at < PIECE ? text.len - at : PIECE;
        if (sd_buf_addf(out, "\033_G%sm=%d;", at ? "" : "a=T,f=100,q=2,", at + n < text.len) ||
            sd_buf_add(out, text.data + at, n) || sd_buf_adds(out, "\033\\"))
            rc = sd_err_memory(err, n);
    }
    sd_buf_free(&png);
    sd_buf_free(&text);
    return rc;
}

static int take(char *bytes, int len, void *out)
{
    return sd_buf_add(out, bytes, (size_t)len);
}

/* libsixel wants RGB that it may write to. */
static int draw_sixel(const struct sd_image *im, struct sd_buf *out, struct sd_err *err)
{
    struct sd_image copy;
    sixel_output_t *output = NULL;
    sixel_dither_t *dither = NULL;
    size_t before = out->len;
    if (im->channels != 3)
        return sd_err_set(err, SD_ERR_DATA, "sixels are made of pictures without alpha channel");
    if (sd_image_crop(im, 0, 0, im->width, im->height, &copy, err))
        return -1;
    int w = (int)im->width, h = (int)im->height;
    SIXELSTATUS status = sixel_output_new(&output, take, out, NULL);
    if (SIXEL_SUCCEEDED(status))
        status = sixel_dither_new(&dither, COLOURS, NULL);
    if (SIXEL_SUCCEEDED(status))
        status = sixel_dither_initialize(dither, copy.data, w, h, SIXEL_PIXELFORMAT_RGB888, SIXEL_LARGE_AUTO,
                                         SIXEL_REP_AUTO, SIXEL_QUALITY_HIGH);
    if (SIXEL_SUCCEEDED(status))
        status = sixel_encode(copy.data, w, h, 3, dither, output);
    sixel_dither_unref(dither);
    sixel_output_unref(output);
    sd_image_free(&copy);
    if (SIXEL_FAILED(status)) {
        out->len = before;
        return sd_err_set(err, SD_ERR_MACHINE, "sixels: %s", sixel_helper_format_error(status));
    }
    return 0;
}

int sd_terminal_draw(enum sd_terminal kind, const struct sd_image *im, struct sd_buf *out, struct sd_err *err)
{
    return kind == SD_TERMINAL_KITTY ? draw_kitty(im, out, err) : draw_sixel(im, out, err);
}
