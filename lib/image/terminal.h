/* Pictures in a terminal: the bytes that make it draw one where its cursor is. */
#ifndef SD_IMAGE_TERMINAL_H
#define SD_IMAGE_TERMINAL_H

#include "base/buf.h"
#include "image/image.h"

enum sd_terminal { SD_TERMINAL_NONE, SD_TERMINAL_KITTY, SD_TERMINAL_SIXEL };

/* What the terminal that the environment tells of understands. */
enum sd_terminal sd_terminal_guess(void);

/* Appends the picture. Kitty: a PNG file in pieces (https://sw.kovidgoyal.net/kitty/graphics-protocol/), all
 * colours. Sixel: DEC's format, 256 colours chosen for the picture, with dithering (libsixel). */
int sd_terminal_draw(enum sd_terminal kind, const struct sd_image *im, struct sd_buf *out,
                     struct sd_err *err);

#endif
