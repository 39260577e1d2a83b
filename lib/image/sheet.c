#include "image/sheet.h"

#include "image/fit.h"
#include "image/label.h"

#include <stdlib.h>
#include <string.h>

enum { GREY = 0x80, TEXT_GREY = 0xff, TEXT_GAP = 4 };

int sd_sheet_add(struct sd_sheet *s, const struct sd_image *im, struct sd_err *err)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        struct sd_image *more = realloc(s->cells, cap * sizeof *more);
        if (!more)
            return sd_err_memory(err, cap * sizeof *more);
        s->cells = more;
        char **labels = realloc(s->labels, cap * sizeof *labels);
        if (!labels)
            return sd_err_memory(err, cap * sizeof *labels);
        s->labels = labels;
        s->cap = cap;
    }
    s->cells[s->n] = SD_IMAGE_INIT;
    s->labels[s->n] = NULL;
    if (im && sd_image_fit(im, s->cell, true, &s->cells[s->n], err))
        return -1;
    s->n++;
    return 0;
}

int sd_sheet_label(struct sd_sheet *s, const char *text, size_t len, struct sd_err *err)
{
    char **label = &s->labels[s->n - 1];
    free(*label);
    *label = strndup(text, len);
    return *label ? 0 : sd_err_memory(err, len);
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
    size_t fall = pitch + (s->lines ? TEXT_GAP + (size_t)s->lines * SD_LABEL_HEIGHT : 0);
    if (sd_image_alloc(out, across * pitch + s->gap, down * fall + s->gap, 3, err))
        return -1;
    memset(out->data, GREY, (size_t)out->width * out->height * 3);
    for (size_t i = 0; i < s->n; i++) {
        const struct sd_image *im = &s->cells[i];
        size_t x = i % across * pitch + s->gap, y = i / across * fall + s->gap;
        if (im->data)
            paste(im, out, x + (s->cell - im->width) / 2, y + (s->cell - im->height) / 2);
        if (s->labels[i])
            sd_label_draw(out, x, y + s->cell + TEXT_GAP, s->cell, s->lines, TEXT_GREY, s->labels[i],
                          strlen(s->labels[i]));
    }
    return 0;
}

void sd_sheet_free(struct sd_sheet *s)
{
    for (size_t i = 0; i < s->n; i++) {
        sd_image_free(&s->cells[i]);
        free(s->labels[i]);
    }
    free(s->cells);
    free(s->labels);
    *s = (struct sd_sheet){0};
}
