#include "image/jpeg.h"

#include "base/atomic.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
/* behind stdio.h, which it needs */
#include <jpeglib.h>

struct encoder {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf fail;
    unsigned char *bytes; /* malloc'ed by the library */
    unsigned long len;
    struct sd_err *err;
};

static void on_error(j_common_ptr jpeg)
{
    struct encoder *e = jpeg->client_data;
    char why[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, why);
    sd_err_set(e->err, SD_ERR_DATA, "cannot write a JPEG: %s", why);
    longjmp(e->fail, 1);
}

static void no_output(j_common_ptr jpeg)
{
    (void)jpeg;
}

static void encode(struct encoder *e, const struct sd_image *im, int quality)
{
    struct jpeg_compress_struct *j = &e->jpeg;
    jpeg_create_compress(j);
    j->client_data = e;
    jpeg_mem_dest(j, &e->bytes, &e->len);
    j->image_width = im->width;
    j->image_height = im->height;
    j->input_components = im->channels;
    j->in_color_space = im->channels == 4 ? JCS_EXT_RGBA : JCS_RGB;
    jpeg_set_defaults(j);
    jpeg_set_quality(j, quality, TRUE);
    jpeg_start_compress(j, TRUE);
    while (j->next_scanline < j->image_height) {
        JSAMPROW row = im->data + (size_t)j->next_scanline * im->width * (size_t)im->channels;
        jpeg_write_scanlines(j, &row, 1);
    }
    jpeg_finish_compress(j);
}

int sd_jpeg_encode(const struct sd_image *im, int quality, struct sd_buf *out, struct sd_err *err)
{
    struct encoder *e = calloc(1, sizeof *e);
    if (!e)
        return sd_err_memory(err, sizeof *e);
    e->jpeg.err = jpeg_std_error(&e->errors);
    e->jpeg.client_data = e;
    e->errors.error_exit = on_error;
    e->errors.output_message = no_output;
    e->err = err;
    volatile int bad = -1;
    if (!setjmp(e->fail)) {
        encode(e, im, quality);
        bad = sd_buf_add(out, e->bytes, e->len) ? sd_err_memory(err, e->len) : 0;
    }
    jpeg_destroy_compress(&e->jpeg);
    free(e->bytes);
    free(e);
    return bad;
}

int sd_jpeg_save(const char *path, const struct sd_image *im, int quality, struct sd_err *err)
{
    struct sd_buf jpeg = SD_BUF_INIT;
    int bad = sd_jpeg_encode(im, quality, &jpeg, err);
    if (bad)
        sd_err_prefix(err, "%s", path);
    else
        bad = sd_atomic_put(path, jpeg.data, jpeg.len, err);
    sd_buf_free(&jpeg);
    return bad;
}
