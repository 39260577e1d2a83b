/* sd-decode-latents: records with latent caches in, a picture of what each cache holds in a folder, its name
 * out. */
#include "compute.h"

#include "base/path.h"
#include "image/png.h"
#include "sample/autoencoder.h"
#include "store/archive.h"
#include "store/latents.h"

#include <string.h>

struct options {
    const char *model, *vae, *precision, *output;
    bool flipped, tf32;
};

struct ctx {
    struct sd_cmd *cmd;
    const struct options *o;
    struct sd_autoencoder *vae;
    struct sd_archives shards;
    struct sd_arena arena; /* of one record */
};

/* Latents as the cache has them, and whether they can be this VAE's. */
static const float *read_cache(struct ctx *x, const char *path, struct sd_latents *l, struct sd_err *err)
{
    if (sd_latents_read(l, &x->shards, path, &x->arena, err))
        return NULL;
    if (l->channels != sd_autoencoder_channels(x->vae) || l->height > 2048 || l->width > 2048) {
        sd_err_set(err, SD_ERR_DATA,
                   "%s: latents [%d,%d,%d], where the VAE has %lld channels and sides end at 2048", path,
                   l->channels, l->height, l->width, (long long)sd_autoencoder_channels(x->vae));
        return NULL;
    }
    if (x->o->flipped && !l->flipped)
        sd_err_set(err, SD_ERR_DATA, "%s: no mirrored latents", path);
    return x->o->flipped ? l->flipped : l->latents;
}

static int draw(struct ctx *x, struct sd_record *r, uint64_t number, struct sd_err *err)
{
    const char *cache;
    struct sd_latents l;
    struct sd_image im;
    if (sd_record_need_string(r, "latents", &cache, err))
        return -1;
    const float *latents = read_cache(x, cache, &l, err);
    if (!latents)
        return -1;
    const char *base = sd_path_base(cache), *folder = x->o->output;
    char *path = sd_arena_printf(&x->arena, "%s%s%05llu-%.*s.png", folder, sd_path_slash(folder),
                                 (unsigned long long)number, (int)sd_path_stem_len(base), base);
    if (!path)
        return sd_err_memory(err, strlen(cache));
    if (sd_autoencoder_decode(x->vae, latents, l.height, l.width, &im, err))
        return -1;
    int rc = sd_png_save(path, &im, NULL, 0, err);
    sd_image_free(&im);
    if (rc)
        return -1;
    return sd_record_set_string(r, "decoded", path) ? sd_err_memory(err, strlen(path)) : 0;
}

static void each_record(struct ctx *x)
{
    struct sd_record r = SD_RECORD_INIT;
    uint64_t ticket, number = 0;
    while (cmd_next(x->cmd, &r, &ticket)) {
        struct sd_err err = {0};
        if (!sd_record_failed(&r) && draw(x, &r, number, &err))
            cmd_fail(x->cmd, &r, &err);
        number++;
        cmd_put(x->cmd, ticket, &r);
        cmd_progress(x->cmd, number, NULL);
        sd_arena_reset(&x->arena);
    }
    sd_record_free(&r);
}

int main(int argc, char **argv)
{
    struct options o = {.precision = "no"};
    const struct sd_option options[] = {
        {SD_OPT_STRING("model", 'm', &o.model, "FILE|FOLDER", "model file or diffusers folder with the VAE"),
         .alias = "pretrained-model-name-or-path"},
        {SD_OPT_STRING("vae", 0, &o.vae, "FILE|FOLDER", "another VAE")},
        {SD_OPT_STRING("output", 'o', &o.output, "FOLDER", "where the pictures go: NUMBER-CACHE.png")},
        {SD_OPT_BOOL("flipped", 0, &o.flipped, "show the mirrored picture's latents")},
        {SD_OPT_CHOICE("mixed-precision", 0, &o.precision, "no|bf16|fp16",
                       "type to compute in: no means f32")},
        CMD_OPT_TF32(&o.tf32),
        SD_OPT_END};
    struct sd_cmd c = {.program = {.name = "sd-decode-latents",
                                   .args = "",
                                   .summary = "turn latent caches back into pictures to look at",
                                   .options = options},
                       .own_progress = true};
    cmd_start_computing(&c, &argc, argv);
    if (!o.model && !o.vae)
        cmd_usage(&c, "no model: --model FILE");
    if (!o.output)
        cmd_usage(&c, "no folder for the pictures: --output FOLDER");
    struct sd_err err = {0};
    struct sd_model_file *model;
    cmd_folder(&c, o.output);
    if (sd_model_file_open(&model, o.vae ? o.vae : o.model, &err))
        cmd_die(&c, &err);
    struct sd_backend *backend = cmd_backend(&c, o.tf32);
    struct ctx x = {.cmd = &c, .o = &o, .arena = SD_ARENA_INIT};
    if (sd_autoencoder_new(&x.vae, model, backend, cmd_precision(&c, o.precision), NULL, &err))
        cmd_die(&c, &err);
    each_record(&x);
    sd_arena_free(&x.arena);
    sd_archives_free(&x.shards);
    sd_autoencoder_free(x.vae);
    sd_backend_free(backend);
    sd_model_file_close(model);
    return cmd_finish(&c);
}
