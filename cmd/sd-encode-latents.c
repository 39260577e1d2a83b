/* sd-encode-latents: records with path, bucket, resize and crop in, a latent cache for each picture, its name
 * out. */
#include "compute.h"
#include "encode.h"

#include <string.h>
#include <sys/stat.h>

struct options {
    const char *model, *vae, *precision, *cache_dir, *shard, *layout, *format, *filter;
    bool flip, alpha, mean, skip_existing, no_half_vae, layout_given, tf32;
    int64_t batch_size, seed;
};

static enum sd_cache_layout layout_of(const struct options *o)
{
    if (o->shard || (o->cache_dir && !strcmp(o->layout, "flat")))
        return SD_CACHE_FLAT;
    if (!o->cache_dir)
        return SD_CACHE_BESIDE;
    return !strcmp(o->layout, "tree") ? SD_CACHE_TREE : SD_CACHE_STEM;
}

static void settle(struct sd_cmd *c, const struct options *o, struct encode *e)
{
    struct sd_err err = {0};
    e->want.format = !strcmp(o->format, "npz1")   ? SD_LATENTS_NPZ1
                     : !strcmp(o->format, "npz2") ? SD_LATENTS_NPZ2
                                                  : SD_LATENTS_NPZ3;
    e->want.stride = 8;
    e->place = (struct sd_cache_place){
        .layout = layout_of(o), .folder = o->shard ? "" : o->cache_dir, .sized = !strcmp(o->format, "npz4")};
    e->has_before = e->place.layout == SD_CACHE_TREE || (e->place.layout == SD_CACHE_FLAT && !o->shard);
    e->before = e->place;
    e->before.layout = e->place.layout == SD_CACHE_TREE ? SD_CACHE_FLAT : SD_CACHE_TREE;
    e->mean = o->mean;
    e->seed = o->seed;
    e->batch_size = o->batch_size;
    e->skip_existing = o->skip_existing;
    e->defaults = (struct sd_subset){.augment.flip = o->flip, .alpha_mask = o->alpha, .bucketed = true};
    if (sd_resize_filter_parse(o->filter, &e->defaults.augment.filter, &err))
        cmd_usage(c, "%s", err.msg);
    if (!o->model && !o->vae)
        cmd_usage(c, "no model: --model FILE");
    if (o->alpha && e->want.format != SD_LATENTS_NPZ3)
        cmd_usage(c, "caches of --format %s hold no alpha mask", o->format);
    if (o->layout_given && !o->cache_dir)
        cmd_usage(c, "--layout is for caches in a folder: --cache-dir FOLDER");
    if (o->shard && o->cache_dir)
        cmd_usage(c, "--shard and --cache-dir exclude each other");
    if (o->shard && e->want.format != SD_LATENTS_NPZ3)
        cmd_usage(c, "caches of --format %s are files", o->format);
    if (o->cache_dir)
        cmd_folder(c, o->cache_dir);
    if (o->shard && sd_shard_open(&e->shard, o->shard, &err))
        cmd_die(c, &err);
    e->shard_path = o->shard;
}

/* What all caches are made with, as sd_source tells it. */
static void describe(struct encode *e, struct sd_model_file *model, const char *type, struct sd_buf *settings)
{
    struct sd_err err = {0};
    char hash[65];
    if (sd_model_file_hash(model, SD_PART_VAE, hash, &err))
        cmd_die(e->cmd, &err);
    int bad = sd_buf_addf(settings, "\"vae\":\"%s\",\"type\":\"%s\",", hash, type);
    bad |= e->mean ? sd_buf_adds(settings, "\"draw\":\"mean\"")
                   : sd_buf_addf(settings, "\"draw\":%lld", (long long)e->seed);
    if (bad) {
        sd_err_memory(&err, settings->cap);
        cmd_die(e->cmd, &err);
    }
    e->want.settings = settings->data;
}

int main(int argc, char **argv)
{
    struct options o = {.precision = "no",
                        .batch_size = 1,
                        .skip_existing = true,
                        .layout = "tree",
                        .format = "npz3",
                        .filter = "auto"};
    const struct sd_option options[] = {
        {SD_OPT_HEADING("Model")},
        {SD_OPT_STRING("model", 'm', &o.model, "FILE|FOLDER", "model file or diffusers folder with the VAE"),
         .alias = "pretrained-model-name-or-path"},
        {SD_OPT_STRING("vae", 0, &o.vae, "FILE|FOLDER", "another VAE")},
        {SD_OPT_INT("batch-size", 'b', &o.batch_size, "N", "pictures of one bucket encoded together"),
         .alias = "vae-batch-size", .min = 1, .max = 256},
        {SD_OPT_CHOICE("mixed-precision", 0, &o.precision, "no|bf16|fp16",
                       "type to compute in: no means f32")},
        CMD_OPT_TF32(&o.tf32),
        {SD_OPT_BOOL("no-half-vae", 0, &o.no_half_vae, "compute in f32, whatever --mixed-precision says")},
        {SD_OPT_BOOL("mean", 0, &o.mean, "store the posterior's mean instead of a draw from it")},
        {SD_OPT_INT("seed", 0, &o.seed, "N", "random numbers of those draws"), .min = 0, .max = 9e15},
        {SD_OPT_HEADING("Pictures")},
        {SD_OPT_BOOL("flip-aug", 0, &o.flip, "store the mirrored picture's latents too")},
        {SD_OPT_BOOL("alpha-mask", 0, &o.alpha, "store the alpha channel as a mask too")},
        {SD_OPT_CHOICE("resize-interpolation", 0, &o.filter, SD_RESIZE_NAMES,
                       "filter; auto: area to shrink, else lanczos")},
        {SD_OPT_HEADING("Caches")},
        {SD_OPT_CHOICE("format", 0, &o.format, "npz1|npz2|npz3|npz4",
                       "which sd-scripts they are for (see the manual)")},
        {SD_OPT_STRING("cache-dir", 0, &o.cache_dir, "FOLDER",
                       "put the caches there, not beside the pictures")},
        {SD_OPT_CHOICE("layout", 0, &o.layout, "tree|flat|stem", "how they lie in that folder"),
         .given = &o.layout_given},
        {SD_OPT_STRING("shard", 0, &o.shard, "FILE", "put them into this archive, .zip or .tar")},
        {SD_OPT_BOOL("skip-existing", 0, &o.skip_existing,
                     "keep caches of the same picture, VAE and options")},
        SD_OPT_END};
    struct sd_cmd c = {.program = {.name = "sd-encode-latents",
                                   .args = "",
                                   .summary = "encode pictures with the VAE into latent caches for training",
                                   .options = options},
                       .own_progress = true};
    struct encode e = {.cmd = &c};
    cmd_start_computing(&c, &argc, argv);
    settle(&c, &o, &e);
    struct sd_err err = {0};
    struct sd_model_file *model;
    struct sd_buf settings = SD_BUF_INIT;
    struct stat st;
    const char *path = o.vae ? o.vae : o.model, *type = o.no_half_vae ? "no" : o.precision;
    if (sd_model_file_open(&model, path, &err))
        cmd_die(&c, &err);
    struct sd_backend *backend = cmd_backend(&c, o.tf32);
    if (!stat(path, &st))
        e.want.made = st.st_mtim;
    describe(&e, model, type, &settings);
    if (sd_autoencoder_new(&e.vae, model, backend, cmd_precision(&c, type), NULL, &err))
        cmd_die(&c, &err);
    encode_run(&e);
    if (c.common.verbose && e.pictures)
        cmd_say(&c, "%lld pictures: the VAE took %.2f s, and waited %.2f s (%.1f %%)", (long long)e.pictures,
                1e-9 * (double)e.encoding_ns, 1e-9 * (double)e.waiting_ns,
                100 * (double)e.waiting_ns / (double)(e.waiting_ns + e.encoding_ns));
    sd_autoencoder_free(e.vae);
    sd_backend_free(backend);
    sd_model_file_close(model);
    sd_buf_free(&settings);
    return cmd_finish(&c);
}
