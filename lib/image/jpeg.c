#include "image/codec.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* behind stdio.h, which it needs */
#include <jpeglib.h>
#include <jerror.h>

enum { MOST_SCANS = 500 }; /* of a progressive file: real ones have about ten, hostile ones thousands */

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf fail;
    size_t len;
    bool strict;
    struct sd_err *err;
    uint8_t *row; /* for CMYK */
};

static void fail_with(struct decoder *d, const char *kind, const char *why)
{
    sd_err_set(d->err, SD_ERR_DATA, "%s JPEG (%s)", kind, why);
    longjmp(d->fail, 1);
}

static void on_error(j_common_ptr jpeg)
{
    struct decoder *d = jpeg->client_data;
    char why[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, why);
    fail_with(d, jpeg->err->msg_code == JERR_OUT_OF_MEMORY ? "too large a" : "broken", why);
}

/* Level -1 is damage the library paints over. Data that ends too soon is always an error, as it is in Pillow.
 */
static void on_message(j_common_ptr jpeg, int level)
{
    struct decoder *d = jpeg->client_data;
    char why[JMSG_LENGTH_MAX];
    if (level >= 0)
        return;
    if (jpeg->err->msg_code == JWRN_JPEG_EOF) {
        snprintf(why, sizeof why, "the data ends at byte %zu", d->len);
        fail_with(d, "truncated", why);
    }
    jpeg->err->format_message(jpeg, why);
    if (d->strict && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA && jpeg->err->msg_code != JWRN_ADOBE_XFORM)
        fail_with(d, "broken", why);
}

static void no_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void on_progress(j_common_ptr jpeg)
{
    struct decoder *d = jpeg->client_data;
    if (d->jpeg.input_scan_number > MOST_SCANS)
        fail_with(d, "broken", "too many scans");
}

/* Adobe's inverted CMYK to RGB in Pillow's integer arithmetic. */
static void cmyk_to_rgb(const uint8_t *in, uint32_t width, int channels, uint8_t *out)
{
    for (uint32_t x = 0; x < width; x++, in += 4, out += channels) {
        unsigned light = in[3];
        for (int k = 0; k < 3; k++) {
            unsigned ink = sd_div255((255u - in[k]) * light);
            out[k] = (uint8_t)(light > ink ? light - ink : 0);
        }
        if (channels == 4)
            out[3] = 255;
    }
}

/* An eighth, a quarter or a half is as good as the whole while both sides suffice. */
static void choose_scale(struct jpeg_decompress_struct *j, const struct sd_image_want *want)
{
    for (unsigned eighths = 1; eighths < 8 && (want->width || want->height); eighths *= 2) {
        j->scale_num = eighths;
        j->scale_denom = 8;
        jpeg_calc_output_dimensions(j);
        if (j->output_width >= want->width && j->output_height >= want->height)
            return;
    }
    j->scale_num = j->scale_denom = 1;
    jpeg_calc_output_dimensions(j);
}

/* Reads the rows; everything that can fail leaves through d->fail. */
static void decode(struct decoder *d, const uint8_t *bytes, size_t len, struct sd_image *im,
                   const struct sd_image_want *want)
{
    struct jpeg_decompress_struct *j = &d->jpeg;
    const int channels = want->channels;
    jpeg_create_decompress(j);
    d->progress.progress_monitor = on_progress;
    j->progress = &d->progress;
    j->client_data = d;
    jpeg_mem_src(j, bytes, len);
    jpeg_read_header(j, TRUE);
    bool cmyk = j->jpeg_color_space == JCS_CMYK || j->jpeg_color_space == JCS_YCCK;
    j->out_color_space = cmyk ? JCS_CMYK : channels == 4 ? JCS_EXT_RGBA : JCS_RGB;
    choose_scale(j, want);
    if (sd_image_alloc(im, j->output_width, j->output_height, channels, d->err))
        longjmp(d->fail, 1);
    jpeg_start_decompress(j);
    if (cmyk && !(d->row = malloc((size_t)j->output_width * 4)))
        fail_with(d, "too large a", "out of memory");
    while (j->output_scanline < j->output_height) {
        uint8_t *out = im->data + (size_t)j->output_scanline * im->width * (size_t)channels;
        JSAMPROW row = cmyk ? d->row : out;
        jpeg_read_scanlines(j, &row, 1);
        if (cmyk)
            cmyk_to_rgb(d->row, im->width, channels, out);
    }
    jpeg_finish_decompress(j);
}

int sd_image_decode_jpeg(const uint8_t *bytes, size_t len, const struct sd_image_want *want,
                         struct sd_image *im, struct sd_err *err)
{
    struct decoder *d = calloc(1, sizeof *d);
    if (!d)
        return sd_err_memory(err, sizeof *d);
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->jpeg.client_data = d;
    d->errors.error_exit = on_error;
    d->errors.emit_message = on_message;
    d->errors.output_message = no_output;
    d->len = len;
    d->strict = want->flags & SD_IMAGE_STRICT;
    d->err = err;
    volatile int bad = setjmp(d->fail) ? -1 : 1;
    if (bad > 0) {
        decode(d, bytes, len, im, want);
        bad = 0;
    }
    jpeg_destroy_decompress(&d->jpeg);
    free(d->row);
    free(d);
    return bad;
}
