/* The latent caches of sd-scripts, NumPy archives. Latents are the VAE's own (0.18215 not applied), f32
 * [C,h,w]. Three layouts have been in use:
 *
 *     npz1  2022-12   arr_0
 *     npz2  2023-06   latents, original_size (here the size after resizing), crop_left_top
 *     npz3  2023-07   latents, original_size, crop_ltrb, and where wanted latents_flipped and alpha_mask
 *
 * In the first two a mirrored picture's latents lie in a file of their own, STEM_flip.npz beside STEM.npz.
 * Since 2024-11 the arrays of npz3 are written under the name STEM_0512x0384_sd.npz, with the picture's size.
 *
 * Ours have one more array, sd_source, of bytes: a text that tells what they were made from and how, and on a
 * last line the CRC-32 of the latents' .npy, without which it does not count: sd-scripts may have replaced
 * them since. Its loaders ask for arrays by name and pass over it. */
#ifndef SD_STORE_LATENTS_H
#define SD_STORE_LATENTS_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct sd_archives; /* store/archive.h */

enum sd_latents_format { SD_LATENTS_NPZ1 = 1, SD_LATENTS_NPZ2, SD_LATENTS_NPZ3 };

struct sd_latents {
    enum sd_latents_format format;
    int channels, height, width; /* of the latents: 4, and an eighth of the bucket */
    const float *latents;        /* [C,h,w] */
    const float *flipped;        /* the same of the mirrored picture, or NULL */
    const float *alpha_mask;     /* [mask_height, mask_width], or NULL; npz3 alone has it */
    int mask_height, mask_width;
    int64_t original_size[2]; /* width, height; npz3: of the picture as found, npz2: resized */
    double crop_ltrb[4];      /* left, top, right, bottom, as sd-scripts' get_crop_ltrb has them; npz2 has the
                                 first two only, which are the cut's corner in the resized picture */
    const char *source;       /* or NULL */
};

/* What a cache holds, without its latents. */
struct sd_latents_info {
    enum sd_latents_format format;
    int channels, height, width;
    bool flipped;                /* mirrored ones of this shape, from the same source, are there too */
    int mask_height, mask_width; /* 0 without */
    int64_t original_size[2];    /* 0 where it is not told; what it means hangs on the format */
    const char *source;          /* or NULL */
};

/* A path may be that of a member of an archive of caches, FILE.zip!/NAME.npz (store/archive.h); open archives
 * are kept in shards, NULL where there are to be none.
 *
 * Values come from the arena. Of a mirrored picture's file beside an npz1 or npz2 that does not belong to it
 * (another shape or source) nothing is taken. */
int sd_latents_read(struct sd_latents *l, struct sd_archives *shards, const char *path, struct sd_arena *a,
                    struct sd_err *err);
int sd_latents_inspect(struct sd_latents_info *info, struct sd_archives *shards, const char *path,
                       struct sd_arena *a, struct sd_err *err);

/* Only the latents of the shape [C,h,w], or the flipped ones, as f32 into out; an error when the file has
 * none or they are of another shape. For training, which knows the shape of its batch. */
int sd_latents_load(struct sd_archives *shards, const char *path, int channels, int height, int width,
                    bool flipped, float *out, struct sd_err *err);

/* Appends the path of the mirrored picture's file beside an npz1 or npz2. 0 or -1. */
int sd_latents_flip_path(struct sd_buf *out, const char *path);

/* Appends the archive; without a source byte for byte what sd-scripts writes for these values. mirrored: the
 * file with the flipped ones of an npz1 or npz2. */
int sd_latents_format(struct sd_buf *out, const struct sd_latents *l, bool mirrored, struct sd_err *err);

/* Whole or not at all; the mirrored picture's file first. */
int sd_latents_write(const char *path, const struct sd_latents *l, struct sd_err *err);

#endif
