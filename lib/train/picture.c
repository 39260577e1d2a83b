#include "train/picture.h"

#include "model/declare.h"
#include "store/latents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int sd_train_latents(const struct sd_item *item, struct sd_archives *shards,
                     const struct sd_model_config *model, bool flipped, float *out, struct sd_err *err)
{
    int64_t c = model->unet.in_channels, h = item->bucket.h / 8, w = item->bucket.w / 8;
    if (sd_latents_load(shards, item->latents, (int)c, (int)h, (int)w, flipped, out, err))
        return -1;
    for (int64_t i = 0; i < c * h * w; i++)
        if (!isfinite(out[i]))
            return sd_err_set(err, SD_ERR_DATA, "%s: number %lld of the latents is %s", item->latents,
                              (long long)i, isnan(out[i]) ? "NaN" : "infinite");
    return 0;
}

int sd_train_pictures_init(struct sd_train_pictures *p, struct sd_model_file *model,
                           const struct sd_dataset *data, struct sd_backend *backend, enum sd_dtype dtype,
                           struct sd_workspace *workspace, struct sd_err *err)
{
    size_t n = data->largest_batch, area = 0;
    for (size_t i = 0; i < data->n_buckets; i++) {
        size_t a = (size_t)(data->buckets[i].size.w / 8 * (data->buckets[i].size.h / 8));
        area = a > area ? a : area;
    }
    if (sd_model_check(model, SD_PART_VAE, err) ||
        sd_autoencoder_new(&p->vae, model, backend, dtype, workspace, err))
        return -1;
    area *= (size_t)sd_autoencoder_channels(p->vae);
    p->pictures = calloc(n, sizeof *p->pictures);
    p->noise = malloc(n * area * sizeof(float));
    p->latents = malloc(n * area * sizeof(float));
    p->cap = n;
    return p->pictures && p->noise && p->latents ? 0 : sd_err_memory(err, n * area * sizeof(float));
}

void sd_train_pictures_free(struct sd_train_pictures *p)
{
    for (size_t i = 0; p->pictures && i < p->cap; i++)
        sd_image_free(&p->pictures[i]);
    free(p->pictures);
    free(p->noise);
    free(p->latents);
    sd_autoencoder_free(p->vae);
    *p = (struct sd_train_pictures){0};
}

void sd_train_pictures_take(struct sd_train_pictures *p, size_t k, struct sd_image *picture)
{
    p->pictures[k] = *picture;
    *picture = SD_IMAGE_INIT;
}

int sd_train_pictures_encode(struct sd_train_pictures *p, size_t n, size_t each, struct sd_rng *rng,
                             float *latents, struct sd_err *err)
{
    if (!p->vae)
        return 0;
    const struct sd_image *loaded[n];
    size_t count = 0;
    for (size_t k = 0; k < n; k++)
        if (p->pictures[k].data)
            loaded[count++] = &p->pictures[k];
    if (!count)
        return 0;
    sd_rng_randn(rng, p->noise, count * each);
    int rc = sd_autoencoder_encode(p->vae, loaded, (int64_t)count, p->noise, p->latents, err) ||
                     sd_autoencoder_check(p->latents, count * each, err)
                 ? -1
                 : 0;
    const float *from = p->latents;
    for (size_t k = 0; k < n; k++) {
        if (!p->pictures[k].data)
            continue;
        memcpy(latents + k * each, from, each * sizeof(float));
        from += each;
        sd_image_free(&p->pictures[k]);
    }
    return rc;
}
