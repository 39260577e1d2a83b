/* sd-encode-latents: records with path, bucket, resize and crop in, a latent cache beside each picture, its
 * name out. */
#include "compute.h"

#include "base/hash.h"
#include "base/path.h"
#include "base/rng.h"
#include "data/bucket.h"
#include "data/picture.h"
#include "image/resize.h"
#include "sample/autoencoder.h"
#include "store/latents.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct options {
    const char *model, *vae, *precision, *cache_dir;
    bool flip, mean, skip_existing;
    int64_t batch_size, seed;
};

/* A picture that waits for its batch. */
struct job {
    struct sd_record record;
    uint64_t ticket;
    struct sd_image picture; /* cropped to the bucket */
    char *path, *cache, *source;
    struct sd_size original;
};

struct batch {
    struct batch *next;
    struct sd_size bucket;
    struct job *jobs;
    int64_t n;
};

/* Which picture a cache belongs to, by hashes of their names: beside the pictures, a.png and a.jpg would
 * share one. */
struct owner {
    uint64_t cache, picture; /* cache 0: free */
};

struct ctx {
    struct sd_cmd *cmd;
    const struct options *o;
    struct sd_autoencoder *vae;
    struct batch *batches;
    float *latents, *flipped, *noise; /* of one batch */
    size_t room;
    struct sd_archives archives;
    struct timespec model_time;
    char vae_hash[65];
    uint64_t done;
    struct owner *owners; /* hash table of a power of two */
    size_t n_owners, cap_owners;
};

static uint64_t hash(const char *s)
{
    return sd_fnv1a(s, strlen(s));
}

/* STEM.npz beside the picture, as sd-scripts finds it, or in --cache-dir under a name that no other path
 * shares. */
static int cache_name(const struct options *o, const char *path, struct sd_buf *out)
{
    size_t stem = sd_path_stem_len(path);
    const char *base = sd_path_base(path);
    if (!o->cache_dir)
        return sd_buf_add(out, path, stem) | sd_buf_adds(out, ".npz");
    return sd_buf_addf(out, "%s%s%.*s-%016llx.npz", o->cache_dir, sd_path_slash(o->cache_dir),
                       (int)(path + stem - base), base, (unsigned long long)hash(path));
}

static struct owner *owner_of(struct owner *table, size_t cap, uint64_t cache)
{
    size_t i = (size_t)cache & (cap - 1);
    while (table[i].cache && table[i].cache != cache)
        i = (i + 1) & (cap - 1);
    return &table[i];
}

/* Notes that the cache is this picture's; -1 when it is another's already, or memory is out. */
static int own(struct ctx *x, const char *cache, const char *path, struct sd_err *err)
{
    struct owner mine = {.cache = hash(cache) | 1, .picture = hash(path)};
    if (x->n_owners * 2 >= x->cap_owners) {
        size_t cap = x->cap_owners ? x->cap_owners * 2 : 1024;
        struct owner *table = calloc(cap, sizeof *table);
        if (!table)
            return sd_err_memory(err, cap * sizeof *table);
        for (size_t i = 0; i < x->cap_owners; i++)
            if (x->owners[i].cache)
                *owner_of(table, cap, x->owners[i].cache) = x->owners[i];
        free(x->owners);
        x->owners = table;
        x->cap_owners = cap;
    }
    struct owner *o = owner_of(x->owners, x->cap_owners, mine.cache);
    if (o->cache && o->picture != mine.picture)
        return sd_err_set(err, SD_ERR_DATA,
                          "its cache would be %s, which is another picture's; use --cache-dir", cache);
    x->n_owners += !o->cache;
    *o = mine;
    return 0;
}

static bool newer(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* The cache holds what is wanted, was made after the picture last changed, and from the same things in the
 * same way. Where it does not say from what, it must be newer than the model. */
static bool fresh(struct ctx *x, const char *path, const char *cache, const char *source,
                  struct sd_size bucket)
{
    struct sd_picture_stat picture;
    struct sd_err ignored;
    struct stat made;
    if (!x->o->skip_existing || stat(cache, &made) ||
        sd_picture_stat(&x->archives, path, &picture, &ignored) || newer(&picture.modified, &made.st_mtim) ||
        !sd_latents_fit(cache, (int)(bucket.h / 8), (int)(bucket.w / 8), x->o->flip, false))
        return false;
    int same = sd_latents_made_from(cache, source);
    return same > 0 || (same < 0 && !newer(&x->model_time, &made.st_mtim));
}

static void put(struct ctx *x, uint64_t ticket, struct sd_record *r)
{
    cmd_put(x->cmd, ticket, r);
    cmd_progress(x->cmd, ++x->done, NULL);
}

/* --- encoding a batch
 * ----------------------------------------------------------------------------------------------- */

static int make_room(struct ctx *x, size_t n, struct sd_err *err)
{
    if (n <= x->room)
        return 0;
    free(x->latents);
    free(x->flipped);
    free(x->noise);
    x->latents = malloc(n * sizeof(float));
    x->flipped = malloc(n * sizeof(float));
    x->noise = malloc(n * sizeof(float));
    x->room = n;
    return x->latents && x->flipped && x->noise ? 0 : sd_err_memory(err, n * sizeof(float));
}

/* Latents of the batch's pictures. A picture's noise hangs on the seed and its path alone, so it is the same
 * in any batch and any order; the mirrored picture draws on from the same generator. */
static int encode(struct ctx *x, struct batch *b, bool mirrored, float *out, struct sd_err *err)
{
    size_t each = (size_t)(b->bucket.w / 8 * (b->bucket.h / 8) * sd_autoencoder_channels(x->vae));
    const struct sd_image **pictures = malloc((size_t)b->n * sizeof *pictures);
    if (!pictures)
        return sd_err_memory(err, (size_t)b->n * sizeof *pictures);
    for (int64_t i = 0; i < b->n; i++) {
        struct sd_rng rng;
        uint64_t h = hash(b->jobs[i].path) ^ (uint64_t)x->o->seed;
        sd_rng_seed(&rng, (h ^ h >> 32) & 0xffffffff);
        for (int k = 0; k <= mirrored; k++)
            sd_rng_randn(&rng, x->noise + (size_t)i * each, each);
        if (mirrored)
            sd_image_flip(&b->jobs[i].picture);
        pictures[i] = &b->jobs[i].picture;
    }
    int rc = sd_autoencoder_encode(x->vae, pictures, b->n, x->o->mean ? NULL : x->noise, out, err);
    free(pictures);
    return rc;
}

static void job_free(struct job *j)
{
    sd_record_free(&j->record);
    sd_image_free(&j->picture);
    free(j->path);
    free(j->cache);
    free(j->source);
    *j = (struct job){0};
}

static int write_cache(struct ctx *x, const struct batch *b, int64_t i, struct sd_err *err)
{
    struct job *j = &b->jobs[i];
    int64_t c = sd_autoencoder_channels(x->vae);
    size_t each = (size_t)(b->bucket.w / 8 * (b->bucket.h / 8) * c);
    struct sd_latents l = {.channels = (int)c,
                           .height = (int)(b->bucket.h / 8),
                           .width = (int)(b->bucket.w / 8),
                           .latents = x->latents + (size_t)i * each,
                           .flipped = x->o->flip ? x->flipped + (size_t)i * each : NULL,
                           .original_size = {j->original.w, j->original.h},
                           .source = j->source};
    sd_bucket_crop_ltrb(b->bucket, j->original, l.crop_ltrb);
    if (sd_latents_write(j->cache, &l, err))
        return -1;
    return sd_record_set_string(&j->record, "latents", j->cache) ? sd_err_memory(err, strlen(j->cache)) : 0;
}

static void flush(struct ctx *x, struct batch *b)
{
    struct sd_err err = {0};
    size_t each = (size_t)(b->bucket.w / 8 * (b->bucket.h / 8) * sd_autoencoder_channels(x->vae));
    int rc = !b->n ? 0
             : make_room(x, (size_t)b->n * each, &err) || encode(x, b, false, x->latents, &err) ||
                     (x->o->flip && encode(x, b, true, x->flipped, &err))
                 ? -1
                 : 0;
    for (int64_t i = 0; i < b->n; i++) {
        struct job *j = &b->jobs[i];
        if (rc || write_cache(x, b, i, &err))
            cmd_fail(x->cmd, &j->record, &err);
        put(x, j->ticket, &j->record);
        job_free(j);
    }
    b->n = 0;
}

/* --- a record
 * -------------------------------------------------------------------------------------------------------- */

struct wish { /* what the record asks for */
    const char *path;
    int64_t bucket[2], resize[2], crop[2];
};

static int read_wish(struct sd_record *r, struct wish *w, struct sd_err *err)
{
    if (sd_record_need_string(r, "path", &w->path, err) ||
        sd_record_need_ints(r, "bucket", w->bucket, 2, err) ||
        sd_record_need_ints(r, "resize", w->resize, 2, err) ||
        sd_record_need_ints(r, "crop", w->crop, 2, err))
        return -1;
    for (int i = 0; i < 2; i++)
        if (w->bucket[i] < 8 || w->bucket[i] % 8 || w->bucket[i] > 16384 || w->resize[i] > 65536 ||
            w->crop[i] < 0 || w->crop[i] > w->resize[i] - w->bucket[i])
            return sd_err_set(err, SD_ERR_DATA,
                              "bucket [%lld,%lld] at crop [%lld,%lld] does not lie in resize [%lld,%lld], "
                              "or is no multiple of 8",
                              (long long)w->bucket[0], (long long)w->bucket[1], (long long)w->crop[0],
                              (long long)w->crop[1], (long long)w->resize[0], (long long)w->resize[1]);
    return 0;
}

/* Decoded, resized, cropped. */
static int load_picture(struct ctx *x, const struct wish *w, struct job *j, struct sd_err *err)
{
    struct sd_image full, sized;
    if (sd_picture_load(&x->archives, w->path, 3, 0, &full, err))
        return -1;
    j->original = (struct sd_size){full.width, full.height};
    int rc =
        sd_image_resize(&full, (uint32_t)w->resize[0], (uint32_t)w->resize[1], SD_RESIZE_AUTO, &sized, err);
    sd_image_free(&full);
    if (rc)
        return -1;
    rc = sd_image_crop(&sized, (uint32_t)w->crop[0], (uint32_t)w->crop[1], (uint32_t)w->bucket[0],
                       (uint32_t)w->bucket[1], &j->picture, err);
    sd_image_free(&sized);
    return rc;
}

/* All that decides what a cache holds, but for the picture's own bytes, of which it has the number. Mirrored
 * latents change nothing about the others. */
static int source_of(struct ctx *x, const struct wish *w, struct sd_buf *out)
{
    struct sd_picture_stat st;
    struct sd_err ignored;
    bool there = !sd_picture_stat(&x->archives, w->path, &st, &ignored);
    int bad = sd_buf_addf(out, "{\"vae\":\"%s\",\"type\":\"%s\",", x->vae_hash, x->o->precision);
    bad |= x->o->mean ? sd_buf_adds(out, "\"draw\":\"mean\"")
                      : sd_buf_addf(out, "\"draw\":%lld", (long long)x->o->seed);
    bad |= sd_buf_addf(out, ",\"resize\":[%lld,%lld],\"crop\":[%lld,%lld],\"bytes\":%lld}",
                       (long long)w->resize[0], (long long)w->resize[1], (long long)w->crop[0],
                       (long long)w->crop[1], there ? (long long)st.bytes : -1LL);
    return bad;
}

static struct batch *batch_of(struct ctx *x, struct sd_size bucket)
{
    struct batch *b = x->batches;
    while (b && (b->bucket.w != bucket.w || b->bucket.h != bucket.h))
        b = b->next;
    if (b)
        return b;
    b = calloc(1, sizeof *b);
    if (!b || !(b->jobs = calloc((size_t)x->o->batch_size, sizeof *b->jobs))) {
        free(b);
        return NULL;
    }
    b->bucket = bucket;
    b->next = x->batches;
    return x->batches = b;
}

/* 1: put as it is, 0: waits in a batch (which takes r over), -1: failed. */
static int take(struct ctx *x, struct sd_record *r, uint64_t ticket, struct sd_err *err)
{
    struct wish w;
    struct sd_buf cache = SD_BUF_INIT, source = SD_BUF_INIT;
    struct job j = {.ticket = ticket};
    if (read_wish(r, &w, err))
        return -1;
    if (!x->o->cache_dir && sd_archive_split(w.path, NULL))
        return sd_err_set(err, SD_ERR_DATA,
                          "no cache can lie beside a picture in an archive; use --cache-dir");
    struct sd_size bucket = {w.bucket[0], w.bucket[1]};
    struct batch *b = batch_of(x, bucket);
    j.path = strdup(w.path);
    if (!b || !j.path || cache_name(x->o, w.path, &cache) || source_of(x, &w, &source)) {
        sd_err_memory(err, sizeof j);
        goto fail;
    }
    if (own(x, cache.data, w.path, err))
        goto fail;
    if (fresh(x, w.path, cache.data, source.data, bucket)) {
        int rc = sd_record_set_string(r, "latents", cache.data) ? sd_err_memory(err, cache.len) : 1;
        free(j.path);
        sd_buf_free(&cache);
        sd_buf_free(&source);
        return rc;
    }
    if (load_picture(x, &w, &j, err))
        goto fail;
    j.cache = cache.data;
    j.source = source.data;
    j.record = *r;
    *r = SD_RECORD_INIT;
    b->jobs[b->n++] = j;
    if (b->n == x->o->batch_size)
        flush(x, b);
    return 0;
fail:
    free(j.path);
    sd_buf_free(&cache);
    sd_buf_free(&source);
    return -1;
}

static void each_record(struct ctx *x)
{
    struct sd_record r = SD_RECORD_INIT;
    uint64_t ticket;
    while (cmd_next(x->cmd, &r, &ticket)) {
        struct sd_err err = {0};
        int rc = sd_record_failed(&r) ? 1 : take(x, &r, ticket, &err);
        if (rc < 0)
            cmd_fail(x->cmd, &r, &err);
        if (rc)
            put(x, ticket, &r);
    }
    sd_record_free(&r);
    for (struct batch *b = x->batches, *next; b; b = next) {
        next = b->next;
        flush(x, b);
        free(b->jobs);
        free(b);
    }
}

int main(int argc, char **argv)
{
    struct options o = {.precision = "no", .batch_size = 1, .skip_existing = true};
    const struct sd_option options[] = {
        {SD_OPT_STRING("model", 'm', &o.model, "FILE|FOLDER",
                       "safetensors file or diffusers folder with the VAE"),
         .alias = "pretrained-model-name-or-path"},
        {SD_OPT_STRING("vae", 0, &o.vae, "FILE|FOLDER", "another VAE")},
        {SD_OPT_INT("batch-size", 'b', &o.batch_size, "N", "pictures of one bucket encoded together"),
         .alias = "vae-batch-size", .min = 1, .max = 256},
        {SD_OPT_BOOL("flip-aug", 0, &o.flip, "store the mirrored picture's latents too")},
        {SD_OPT_CHOICE("mixed-precision", 0, &o.precision, "no|bf16|fp16",
                       "type to compute in: no means f32")},
        {SD_OPT_STRING("cache-dir", 0, &o.cache_dir, "FOLDER",
                       "put the caches there, not beside the pictures")},
        {SD_OPT_BOOL("skip-existing", 0, &o.skip_existing,
                     "keep caches of the same picture, VAE and options")},
        {SD_OPT_BOOL("mean", 0, &o.mean, "store the posterior's mean instead of a draw from it")},
        {SD_OPT_INT("seed", 0, &o.seed, "N", "random numbers of those draws"), .min = 0, .max = 9e15},
        SD_OPT_END};
    struct sd_cmd c = {.program = {.name = "sd-encode-latents",
                                   .args = "",
                                   .summary = "encode pictures with the VAE into latent caches for training",
                                   .options = options},
                       .own_progress = true};
    cmd_start_computing(&c, &argc, argv);
    if (!o.model && !o.vae)
        cmd_usage(&c, "no model: --model FILE");
    struct sd_err err = {0};
    struct sd_model_file *model;
    struct stat st;
    const char *path = o.vae ? o.vae : o.model;
    if (o.cache_dir)
        cmd_folder(&c, o.cache_dir);
    if (sd_model_file_open(&model, path, &err))
        cmd_die(&c, &err);
    struct sd_backend *backend = cmd_backend(&c);
    struct ctx x = {.cmd = &c, .o = &o};
    if (!stat(path, &st))
        x.model_time = st.st_mtim;
    if (sd_model_file_hash(model, SD_PART_VAE, x.vae_hash, &err) ||
        sd_autoencoder_new(&x.vae, model, backend, cmd_precision(&c, o.precision), NULL, &err))
        cmd_die(&c, &err);
    each_record(&x);
    sd_autoencoder_free(x.vae);
    sd_backend_free(backend);
    sd_model_file_close(model);
    free(x.latents);
    free(x.flipped);
    free(x.noise);
    free(x.owners);
    sd_archives_free(&x.archives);
    return cmd_finish(&c);
}
