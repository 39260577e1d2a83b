/* What sd-scripts' DreamBooth data sets find for each picture of a folder (library/train_util.py
 * DreamBoothDataset, ControlNetDataset): its caption, whether it is for validation, its mask. */
#ifndef SD_DATA_DREAMBOOTH_H
#define SD_DATA_DREAMBOOTH_H

#include "base/buf.h"
#include "base/err.h"
#include "image/list.h"
#include "text/strmap.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- captions ---- */

struct sd_caption_file { /* scratch of one thread, all zero at first */
    struct sd_buf path, text;
    struct sd_strings lines; /* what was found, in text */
};

/* The caption of the file beside a picture whose name ends in extension (".caption") instead of the picture's
 * ending or, where there is none and the path has four '_' or more, instead of what begins with the fourth
 * from last (pictures whose names tell where a face is). The first line, stripped of blanks, which may be
 * empty; or with `all` every line that is not blank. 1, 0 when there is no such file, -1: unreadable, not
 * UTF-8, empty. */
int sd_caption_file_read(struct sd_caption_file *c, const char *image, const char *extension, bool all,
                         struct sd_err *err);
void sd_caption_file_free(struct sd_caption_file *c);

/* ---- validation ---- */

/* Puts n numbers in the order in which a data set takes its pictures when `part` of them (0 < part <= 1) is
 * for validation: *train from the start are for training, *validation from the end for validation. By
 * sd-scripts' rounding one picture may be both. */
void sd_validation_split(uint32_t *order, size_t n, double part, int64_t seed, size_t *train,
                         size_t *validation);

/* ---- masks ---- */

struct sd_masks { /* the pictures of a folder by their names without ending */
    struct sd_image_list list;
    struct sd_strmap names;
};

int sd_masks_open(struct sd_masks *m, const char *folder, struct sd_err *err);
const char *sd_masks_find(const struct sd_masks *m, const char *image); /* of the same name, or NULL */
void sd_masks_close(struct sd_masks *m);

#endif
