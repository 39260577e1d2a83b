/* Contact sheets: pictures side by side in square cells on a grey ground, with or without a text below each.
 */
#ifndef SD_IMAGE_SHEET_H
#define SD_IMAGE_SHEET_H

#include "image/image.h"

struct sd_sheet {
    uint32_t cell,
        gap; /* pixels: a cell's side, and what lies between cells and around them; set by the caller */
    uint32_t columns;       /* 0: as many as make the sheet about square */
    uint32_t lines;         /* of text below each cell */
    struct sd_image *cells; /* private: pictures at their final size; empty ones hold no data */
    char **labels;          /* private; NULL where there is none */
    size_t n, cap;
};

/* Adds a picture, scaled to fit its cell: small ones by a whole factor, each pixel a square; large ones are
 * shrunk. NULL leaves the cell empty. */
int sd_sheet_add(struct sd_sheet *s, const struct sd_image *im, struct sd_err *err);

/* The text below the cell that was added last, UTF-8 (image/label.h). */
int sd_sheet_label(struct sd_sheet *s, const char *text, size_t len, struct sd_err *err);

/* Makes *out: the cells row by row, pictures in the middle of theirs. A last row that is not full stays grey.
 */
int sd_sheet_draw(const struct sd_sheet *s, struct sd_image *out, struct sd_err *err);

void sd_sheet_free(struct sd_sheet *s);

#endif
