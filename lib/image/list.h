/* The pictures of a folder, and its archives where wanted, by the endings of their names. */
#ifndef SD_IMAGE_LIST_H
#define SD_IMAGE_LIST_H

#include "base/arena.h"
#include "base/options.h" /* struct sd_strings */

struct sd_image_list {
    struct sd_strings paths; /* folder/name */
    struct sd_arena arena;   /* holds them */
};

#define SD_IMAGE_LIST_INIT ((struct sd_image_list){0})

enum sd_image_list_flags {
    SD_LIST_RECURSIVE = 1, /* folders inside folders; links to folders are followed, but not in circles */
    SD_LIST_HIDDEN = 2,    /* names that begin with a dot too */
    SD_LIST_ARCHIVES = 4,  /* archives too (sd_path_is_archive) */
};

/* .png .jpg .jpeg .webp .bmp in any case. (sd-scripts takes them only when all small or all large.) */
bool sd_image_has_extension(const char *name);

/* Adds the folder's pictures, sorted by the bytes of their paths. A folder that cannot be read goes to
 * complain, with a message that names it, and the rest goes on. -1 only when memory is out. */
int sd_image_list_folder(struct sd_image_list *list, const char *folder, unsigned flags,
                         void (*complain)(void *ctx, const struct sd_err *err), void *ctx,
                         struct sd_err *err);
void sd_image_list_free(struct sd_image_list *list);

#endif
