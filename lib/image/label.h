/* Short texts drawn on pictures, in a font of our own: ASCII, 5 by 8 pixels a letter, 6 by 10 with the space
 * around it. What is not ASCII is drawn as a box. */
#ifndef SD_IMAGE_LABEL_H
#define SD_IMAGE_LABEL_H

#include "image/image.h"

enum { SD_LABEL_WIDTH = 6, SD_LABEL_HEIGHT = 10 };

/* Draws UTF-8 text in this grey into the rectangle of width pixels and so many lines whose top left corner is
 * (x, y): broken at blanks where it can be, cut off with "..." where it is too long. Nothing is drawn outside
 * of the rectangle or of the picture. */
void sd_label_draw(struct sd_image *im, size_t x, size_t y, size_t width, size_t lines, uint8_t grey,
                   const char *text, size_t len);

#endif
