#include "image/sheet.h"

#include "image/resize.h"

#include <stdlib.h>
#include <string.h>

enum { GREY = 0x80 };

/* Each pixel becomes a square of factor x factor. */
static int enlarge(const struct sd_image *from, uint32_t factor, struct sd_image *to, struct sd_err *err)
{
    size_t pixel = (size_t)from->channels;
    if (sd_image_alloc(to, (uint64_t)from->width * factor, (uint64_t)from->height * factor, from->channels,
                       err))
        return -1;
    size_t row = to->width * pixel;
    for (uint32_t y = 0; y < from->height; y++) {
        uint8_t *first = to->data + (size_t)y * factor * row;
        const uint8_t *p = from->data + (size_t)y * from->width * pixel;
        for (uint32_t x = 0; x < to->width; x++)
            memcpy(first + x * pixel, p + x / factor * pixel, pixel);
        for (uint32_t k = 1; k < factor; k++)
            memcpy(first + k * row, first, row);
    }
    return 0;
}

static uint32_t shrunk(uint32_t side, uint32_t longest, uint32_t cell)
{
    uint32_t n = (uint32_t)(((uint64_t)side * cell + longest / 2) / longest);
    return n ? n : 1;
}

static int fit(const struct sd_image *im, uint32_t cell, struct sd_image *to, struct sd_err *err)
{
    uint32_t longest = im->width > im->height ? im->width : im->height;
    if (longest <= cell)
        return enlarge(im, cell / longest, to, err);
    return sd_image_resize(im, shrunk(im->width, longest, cell), shrunk(im->height, longest, cell),
                           SD_RESIZE_AUTO, to, err);
}

int sd_sheet_add(struct sd_sheet *s, const struct sd_image *im, struct sd_err *err)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct sd_image *more = realloc(s->cells, cap * sizeof *more);
        if (!more)
            return sd_err_memory(err, cap * sizeof *more);
        s->cells = more;
        s->cap = cap;
    }
    s->cells[s->n] = SD_IMAGE_INIT;
    if (im && fit(im, s->cell, &s->cells[s->n], err))
        return -1;
    s->n++;
    return 0;
}

static void paste(const struct sd_image *from, struct sd_image *to, size_t x, size_t y)
{
    for (uint32_t row = 0; row < from->height; row++) {
        const uint8_t *p = from->data + (size_t)row * from->width * (size_t)from->channels;
        uint8_t *q = to->data + ((y + row) * to->width + x) * 3;
        for (uint32_t i = 0; i < from->width; i++, p += from->channels, q += 3)
            memcpy(q, p, 3);
    }
}

static size_t columns(const struct sd_sheet *s)
{
    size_t n = s->columns;
    if (!n)
        for (n = 1; n * n < s->n; n++)
            ;
    return n < s->n ? n : s->n;
}

int sd_sheet_draw(const struct sd_sheet *s, struct sd_image *out, struct sd_err *err)
{
    *out = SD_IMAGE_INIT;
    if (!s->n)
        return sd_err_set(err, SD_ERR_DATA, "no pictures");
    size_t across = columns(s), down = (s->n + across - 1) / across, pitch = (size_t)s->cell + s->gap;
    if (sd_image_alloc(out, across * pitch + s->gap, down * pitch + s->gap, 3, err))
        return -1;
    memset(out->data, GREY, (size_t)out->width * out->height * 3);
    for (size_t i = 0; i < s->n; i++) {
        const struct sd_image *im = &s->cells[i];
        if (im->data)
            paste(im, out, i % across * pitch + s->gap + (s->cell - im->width) / 2,
                  i / across * pitch + s->gap + (s->cell - im->height) / 2);
    }
    return 0;
}

void sd_sheet_free(struct sd_sheet *s)
{
    for (size_t i = 0; i < s->n; i++)
        sd_image_free(&s->cells[i]);
    free(s->cells);
    *s = (struct sd_sheet){0};
}
