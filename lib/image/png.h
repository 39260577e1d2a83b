/* Writing PNG files, and the text in them. */
#ifndef SD_IMAGE_PNG_H
#define SD_IMAGE_PNG_H

#include "base/buf.h"
#include "image/image.h"

struct sd_png_text {
    const char *keyword; /* 1..79 Latin-1 characters: "parameters" */
    const char *text;    /* UTF-8; written as tEXt when Latin-1 is enough, else as iTXt, as Pillow does */
};

/* Appends the file's bytes to out. */
int sd_png_encode(const struct sd_image *im, const struct sd_png_text *texts, size_t n, struct sd_buf *out,
                  struct sd_err *err);

/* Writes the file whole or not at all; the message names it. */
int sd_png_save(const char *path, const struct sd_image *im, const struct sd_png_text *texts, size_t n,
                struct sd_err *err);

/* Appends the text with this keyword as UTF-8. 1, 0 when there is none, -1. */
int sd_png_read_text(const void *png, size_t len, const char *keyword, struct sd_buf *out,
                     struct sd_err *err);

#endif
