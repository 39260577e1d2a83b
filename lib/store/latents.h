/* The latent cache of sd-scripts: one .npz a picture with the arrays latents, original_size, crop_ltrb, and
 * where wanted latents_flipped and alpha_mask. Latents are the VAE's own (0.18215 not applied), f32 [C,h,w].
 * Ours have one more array, sd_source, of bytes: a text that tells what they were made from and how. Loaders
 * of sd-scripts ask for arrays by name and pass over it. */
#ifndef SD_STORE_LATENTS_H
#define SD_STORE_LATENTS_H

#include "base/arena.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct sd_latents {
    int channels, height, width; /* of the latents: 4, and an eighth of the bucket */
    const float *latents;        /* [C,h,w] */
    const float *flipped;        /* the same of the mirrored picture, or NULL */
    const float *alpha_mask;     /* [mask_height, mask_width], or NULL */
    int mask_height, mask_width;
    int64_t original_size[2]; /* width, height of the picture as found */
    double crop_ltrb[4];      /* left, top, right, bottom, as sd-scripts' get_crop_ltrb has them */
    const char *source;       /* or NULL; for writing */
};

/* Values come from the arena. Caches of sd-scripts before July 2023 lack crop_ltrb, which is then all 0, or
 * have the array arr_0, which is an error. */
int sd_latents_read(struct sd_latents *l, const char *path, struct sd_arena *a, struct sd_err *err);

/* Only the latents of the shape [C,h,w], or the flipped ones, as f32 into out; an error when the file has
 * none or they are of another shape. For training, which knows the shape of its batch. */
int sd_latents_load(const char *path, int channels, int height, int width, bool flipped, float *out,
                    struct sd_err *err);

/* Whole or not at all; without a source byte for byte what sd-scripts writes for these values. */
int sd_latents_write(const char *path, const struct sd_latents *l, struct sd_err *err);

/* Whether path is a cache that sd-scripts would take for a bucket of these latents: all arrays there, of the
 * right shapes, a flipped one if asked for, an alpha_mask (of 8h x 8w) exactly if asked for. Reads no
 * latents. False for any file that cannot be read. */
bool sd_latents_fit(const char *path, int height, int width, bool flipped, bool alpha_mask);

/* 1 when the cache says it was made from `source`, 0 when it says otherwise or cannot be read, -1 when it
 * does not say (sd-scripts' own do not). */
int sd_latents_made_from(const char *path, const char *source);

#endif
