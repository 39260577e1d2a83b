/* The latents of pictures: from their caches, or encoded for the batch that uses them. */
#ifndef SD_TRAIN_PICTURE_H
#define SD_TRAIN_PICTURE_H

#include "data/dataset.h"
#include "sample/autoencoder.h"

struct sd_archives;

/* The latents of an item that has them (mirrored: flipped) from its cache into out, as a batch needs them: of
 * the model's channels and the bucket's size, all finite. Caches may be members of archives. */
int sd_train_latents(const struct sd_item *item, struct sd_archives *archives,
                     const struct sd_model_config *model, bool flipped, float *out, struct sd_err *err);

struct sd_train_pictures { /* all zero: every picture has latents */
    struct sd_autoencoder *vae;
    struct sd_image *pictures; /* of the batch; empty for those with latents */
    float *noise, *latents;
    size_t cap; /* of pictures */
};

/* Makes room for the dataset's largest batch. The workspace is shared with plans that run at other times.
 * Frees nothing on failure. */
int sd_train_pictures_init(struct sd_train_pictures *p, struct sd_model_file *model,
                           const struct sd_dataset *data, struct sd_backend *backend, enum sd_dtype dtype,
                           struct sd_workspace *workspace, struct sd_err *err);
void sd_train_pictures_free(struct sd_train_pictures *p);

/* Takes the picture over as number k of the batch, which leaves *picture empty. */
void sd_train_pictures_take(struct sd_train_pictures *p, size_t k, struct sd_image *picture);

/* Encodes the pictures that were taken, drawing from the posterior, and lays the latents of number k to
 * latents + k * each. Nothing is drawn when there are none. */
int sd_train_pictures_encode(struct sd_train_pictures *p, size_t n, size_t each, struct sd_rng *rng,
                             float *latents, struct sd_err *err);

#endif
