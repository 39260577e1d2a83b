#include "encode.h"

#include "base/hash.h"
#include "base/progress.h"
#include "base/queue.h"
#include "base/rng.h"
#include "store/archive.h"

#include <stdlib.h>
#include <string.h>

enum { AHEAD = 4, BEHIND = 16, LOADERS = 4 }; /* pictures beyond a batch; caches to be written; threads */

/* A record on its way. */
struct job {
    struct sd_record record;
    uint64_t ticket;
    struct sd_cut cut;
    char *cache, *other;                    /* where the cache goes; where another layout had it, or NULL */
    enum { PASS, FAIL, KEEP, ENCODE } what; /* KEEP: the cache is there, in `cache` */
    struct sd_err err;                      /* FAIL */
    struct sd_cut_picture picture;
    float *latents, *flipped; /* owned */
    bool ready;               /* under ctx.lock: the loader is done with it */
};

struct batch {
    struct batch *next;
    struct sd_size bucket;
    bool flip;
    struct job **jobs;
    int64_t n;
};

struct ctx {
    struct encode *e;
    struct sd_archives archives; /* with pictures, and with caches */
    /* input: one loader at a time */
    pthread_mutex_t input;
    bool input_ended;
    struct sd_cache_owners owners;
    struct sd_subsets subsets;
    /* between threads */
    pthread_mutex_t lock;
    pthread_cond_t ready;
    struct sd_queue loaded; /* in the order of the records; ready or about to be */
    struct sd_queue encoded;
    int n_loaders;
    /* the encoder's */
    struct batch *batches;
    float *out, *noise; /* of one batch */
    size_t room;
    /* the writer's */
    uint64_t done;
};

static size_t latents_count(const struct ctx *x, const struct sd_cut *c)
{
    return (size_t)(c->bucket.w / x->e->want.stride * (c->bucket.h / x->e->want.stride) *
                    sd_autoencoder_channels(x->e->vae));
}

static void job_free(struct job *j)
{
    sd_record_free(&j->record);
    sd_cut_picture_free(&j->picture);
    free(j->cache);
    free(j->other);
    free(j->latents);
    free(j->flipped);
    free(j);
}

/* --- loading
 * ---------------------------------------------------------------------------------------------------- */

static char *name_in(const struct ctx *x, const struct sd_cache_place *place, const struct sd_cut *cut,
                     struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT;
    if (x->e->shard_path && sd_buf_addf(&name, "%s!/", x->e->shard_path))
        sd_err_memory(err, strlen(x->e->shard_path));
    else if (!sd_cache_name(&name, place, cut, err))
        return name.data;
    sd_buf_free(&name);
    return NULL;
}

/* The file of the mirrored picture is this picture's too. */
static int own_flip(struct ctx *x, const struct job *j, struct sd_err *err)
{
    struct sd_buf flip = SD_BUF_INIT;
    int rc = sd_latents_flip_path(&flip, j->cache) ? sd_err_memory(err, strlen(j->cache))
                                                   : sd_cache_own(&x->owners, flip.data, &j->cut, err);
    sd_buf_free(&flip);
    return rc;
}

/* What to do for a record, and where its cache goes. */
static int plan(struct ctx *x, struct job *j, struct sd_err *err)
{
    struct sd_subset *subset;
    if (sd_subsets_of(&x->subsets, &j->record, &subset, err) || sd_cut_read(&j->cut, &j->record, subset, err))
        return -1;
    if (j->cut.alpha && x->e->want.format != SD_LATENTS_NPZ3)
        return sd_err_set(err, SD_ERR_DATA, "caches of npz%d hold no alpha mask", x->e->want.format);
    if (x->e->place.layout == SD_CACHE_BESIDE && sd_archive_split(j->cut.path, NULL))
        return sd_err_set(err, SD_ERR_DATA,
                          "no cache can lie beside a picture in an archive; use --cache-dir");
    if (!(j->cache = name_in(x, &x->e->place, &j->cut, err)) ||
        (x->e->has_before && !(j->other = name_in(x, &x->e->before, &j->cut, err))))
        return -1;
    if (sd_cache_own(&x->owners, j->cache, &j->cut, err))
        return -1;
    return j->cut.flip && x->e->want.format != SD_LATENTS_NPZ3 ? own_flip(x, j, err) : 0;
}

/* The next record; x->input is held. NULL at the end. */
static struct job *fetch(struct ctx *x)
{
    struct job *j = calloc(1, sizeof *j);
    if (!j) {
        sd_stream_report(x->e->cmd->stream, "out of memory");
        cmd_status(x->e->cmd, SD_ERR_MACHINE);
        return NULL;
    }
    if (!cmd_next(x->e->cmd, &j->record, &j->ticket)) {
        job_free(j);
        return NULL;
    }
    if (!sd_record_failed(&j->record))
        j->what = plan(x, j, &j->err) ? FAIL : ENCODE;
    return j;
}

static bool kept(struct ctx *x, struct job *j)
{
    if (!x->e->skip_existing)
        return false;
    if (sd_cache_fresh(&x->e->want, &j->cut, &x->archives, j->cache))
        return true;
    if (!j->other || !sd_cache_fresh(&x->e->want, &j->cut, &x->archives, j->other))
        return false;
    free(j->cache);
    j->cache = j->other;
    j->other = NULL;
    return true;
}

static void load(struct ctx *x, struct job *j)
{
    if (j->what != ENCODE)
        return;
    if (kept(x, j))
        j->what = KEEP;
    else if (sd_cut_load(&j->cut, &x->archives, &j->picture, &j->err))
        j->what = FAIL;
}

static void *loader(void *arg)
{
    struct ctx *x = arg;
    for (;;) {
        pthread_mutex_lock(&x->input);
        struct job *j = x->input_ended ? NULL : fetch(x);
        if (j) {
            sd_queue_put(&x->loaded, j);
        } else if (!x->input_ended) {
            x->input_ended = true;
            sd_queue_end(&x->loaded);
        }
        pthread_mutex_unlock(&x->input);
        if (!j)
            return NULL;
        load(x, j);
        pthread_mutex_lock(&x->lock);
        j->ready = true;
        pthread_cond_signal(&x->ready); /* only the encoder waits for it */
        pthread_mutex_unlock(&x->lock);
    }
}

/* The next job in the order of the records, loaded. */
static struct job *next_job(struct ctx *x)
{
    struct job *j;
    int64_t start = sd_clock_ns();
    if (!x->n_loaders) {
        j = fetch(x);
        if (j)
            load(x, j);
    } else if ((j = sd_queue_take(&x->loaded))) {
        pthread_mutex_lock(&x->lock);
        while (!j->ready)
            pthread_cond_wait(&x->ready, &x->lock);
        pthread_mutex_unlock(&x->lock);
    }
    x->e->waiting_ns += sd_clock_ns() - start;
    return j;
}

/* --- writing
 * ---------------------------------------------------------------------------------------------------- */

static int write_member(struct ctx *x, const char *cache, const struct sd_latents *l, struct sd_err *err)
{
    struct sd_buf bytes = SD_BUF_INIT;
    const char *name = cache + strlen(x->e->shard_path) + 2; /* FILE.zip!/NAME */
    int rc = sd_latents_format(&bytes, l, false, err) ||
                     sd_shard_add(x->e->shard, name, bytes.data, bytes.len, err)
                 ? -1
                 : 0;
    sd_buf_free(&bytes);
    return rc;
}

static int write_cache(struct ctx *x, struct job *j, struct sd_err *err)
{
    const struct sd_cut *c = &j->cut;
    struct sd_buf source = SD_BUF_INIT;
    struct sd_latents l = {.format = x->e->want.format,
                           .channels = (int)sd_autoencoder_channels(x->e->vae),
                           .height = (int)(c->bucket.h / x->e->want.stride),
                           .width = (int)(c->bucket.w / x->e->want.stride),
                           .latents = j->latents,
                           .flipped = j->flipped,
                           .alpha_mask = j->picture.mask,
                           .mask_height = (int)c->bucket.h,
                           .mask_width = (int)c->bucket.w};
    struct sd_size size = l.format == SD_LATENTS_NPZ2 ? c->resize : j->picture.original;
    l.original_size[0] = size.w;
    l.original_size[1] = size.h;
    if (l.format == SD_LATENTS_NPZ2) {
        l.crop_ltrb[0] = (double)c->crop[0];
        l.crop_ltrb[1] = (double)c->crop[1];
    } else {
        sd_bucket_crop_ltrb(c->bucket, j->picture.original, l.crop_ltrb);
    }
    if (sd_cache_source(&source, &x->e->want, c, j->picture.bytes, j->picture.sha256))
        return sd_err_memory(err, source.len);
    l.source = source.data;
    int rc = x->e->shard ? write_member(x, j->cache, &l, err)
             : sd_cache_folders(&x->e->place, j->cache, err) || sd_latents_write(j->cache, &l, err) ? -1
                                                                                                    : 0;
    sd_buf_free(&source);
    return rc;
}

/* Writes what there is to write, and gives the record back. */
static void finish(struct ctx *x, struct job *j)
{
    if (j->what == ENCODE && write_cache(x, j, &j->err))
        j->what = FAIL;
    if ((j->what == ENCODE || j->what == KEEP) && sd_record_set_string(&j->record, "latents", j->cache)) {
        sd_err_memory(&j->err, strlen(j->cache));
        j->what = FAIL;
    }
    if (j->what == FAIL)
        cmd_fail(x->e->cmd, &j->record, &j->err);
    cmd_put(x->e->cmd, j->ticket, &j->record);
    cmd_progress(x->e->cmd, ++x->done, NULL);
    job_free(j);
}

static void *writer(void *arg)
{
    struct ctx *x = arg;
    struct job *j;
    do {
        if (sd_queue_empty(&x->encoded)) /* records do not wait for the next ones */
            sd_stream_flush(x->e->cmd->stream);
        if ((j = sd_queue_take(&x->encoded)))
            finish(x, j);
    } while (j);
    return NULL;
}

static void hand_on(struct ctx *x, struct job *j)
{
    int64_t start = sd_clock_ns();
    if (x->n_loaders)
        sd_queue_put(&x->encoded, j);
    else
        finish(x, j);
    x->e->waiting_ns += sd_clock_ns() - start;
}

/* --- encoding
 * --------------------------------------------------------------------------------------------------- */

static int make_room(struct ctx *x, size_t n, struct sd_err *err)
{
    if (n <= x->room)
        return 0;
    free(x->out);
    free(x->noise);
    x->out = malloc(n * sizeof(float));
    x->noise = malloc(n * sizeof(float));
    x->room = x->out && x->noise ? n : 0;
    return x->room ? 0 : sd_err_memory(err, n * sizeof(float));
}

static float *copy_latents(const float *from, size_t n, struct sd_err *err)
{
    if (sd_autoencoder_check(from, n, err))
        return NULL;
    float *to = malloc(n * sizeof *to);
    if (!to)
        sd_err_memory(err, n * sizeof *to);
    else
        memcpy(to, from, n * sizeof *to);
    return to;
}

/* Latents of the batch's pictures, to each job. A picture's noise hangs on the seed and its path alone, so it
 * is the same in any batch and any order; the mirrored picture draws on from the same generator. */
static int encode(struct ctx *x, struct batch *b, bool mirrored, struct sd_err *err)
{
    size_t each = latents_count(x, &b->jobs[0]->cut);
    const struct sd_image **pictures = malloc((size_t)b->n * sizeof *pictures);
    if (!pictures)
        return sd_err_memory(err, (size_t)b->n * sizeof *pictures);
    for (int64_t i = 0; i < b->n; i++) {
        const char *path = b->jobs[i]->cut.path;
        struct sd_rng rng;
        uint64_t h = sd_fnv1a(path, strlen(path)) ^ (uint64_t)x->e->seed;
        sd_rng_seed(&rng, (h ^ h >> 32) & 0xffffffff);
        for (int k = 0; k <= mirrored; k++)
            sd_rng_randn(&rng, x->noise + (size_t)i * each, each);
        if (mirrored)
            sd_image_flip(&b->jobs[i]->picture.rgb);
        pictures[i] = &b->jobs[i]->picture.rgb;
    }
    int rc = sd_autoencoder_encode(x->e->vae, pictures, b->n, x->e->mean ? NULL : x->noise, x->out, err);
    free(pictures);
    for (int64_t i = 0; i < b->n && !rc; i++) {
        struct job *j = b->jobs[i];
        float **to = mirrored ? &j->flipped : &j->latents;
        if (j->what == ENCODE && !(*to = copy_latents(x->out + (size_t)i * each, each, &j->err)))
            j->what = FAIL;
    }
    return rc;
}

static void flush(struct ctx *x, struct batch *b)
{
    struct sd_err err = {0};
    int64_t start = sd_clock_ns();
    if (!b->n)
        return;
    int rc = make_room(x, (size_t)b->n * latents_count(x, &b->jobs[0]->cut), &err) ||
             encode(x, b, false, &err) || (b->flip && encode(x, b, true, &err));
    x->e->encoding_ns += sd_clock_ns() - start;
    x->e->pictures += b->n;
    for (int64_t i = 0; i < b->n; i++) {
        struct job *j = b->jobs[i];
        if (rc) {
            j->what = FAIL;
            j->err = err;
        }
        sd_image_free(&j->picture.rgb);
        hand_on(x, j);
    }
    b->n = 0;
}

static struct batch *batch_of(struct ctx *x, const struct sd_cut *c)
{
    struct batch *b = x->batches;
    while (b && (b->bucket.w != c->bucket.w || b->bucket.h != c->bucket.h || b->flip != c->flip))
        b = b->next;
    if (b)
        return b;
    b = calloc(1, sizeof *b);
    if (!b || !(b->jobs = calloc((size_t)x->e->batch_size, sizeof *b->jobs))) {
        free(b);
        return NULL;
    }
    b->bucket = c->bucket;
    b->flip = c->flip;
    b->next = x->batches;
    return x->batches = b;
}

static void encode_all(struct ctx *x)
{
    for (struct job *j; (j = next_job(x));) {
        struct batch *b = j->what == ENCODE ? batch_of(x, &j->cut) : NULL;
        if (j->what == ENCODE && !b) {
            j->what = FAIL;
            sd_err_memory(&j->err, sizeof *b);
        }
        if (!b) {
            hand_on(x, j);
            continue;
        }
        b->jobs[b->n++] = j;
        if (b->n == x->e->batch_size)
            flush(x, b);
    }
    for (struct batch *b = x->batches, *next; b; b = next) {
        next = b->next;
        flush(x, b);
        free(b->jobs);
        free(b);
    }
}

/* --- the whole
 * -------------------------------------------------------------------------------------------------- */

static void run_threads(struct ctx *x)
{
    pthread_t loaders[LOADERS], behind;
    int want = x->e->cmd->common.jobs > LOADERS ? LOADERS : x->e->cmd->common.jobs;
    bool writing = want > 1 && !pthread_create(&behind, NULL, writer, x);
    while (writing && x->n_loaders < want && !pthread_create(&loaders[x->n_loaders], NULL, loader, x))
        x->n_loaders++;
    encode_all(x);
    for (int i = 0; i < x->n_loaders; i++)
        pthread_join(loaders[i], NULL);
    sd_queue_end(&x->encoded);
    if (writing)
        pthread_join(behind, NULL);
}

void encode_run(struct encode *e)
{
    struct sd_err err = {0};
    struct ctx x = {.e = e};
    sd_subsets_init(&x.subsets, &e->defaults);
    pthread_mutex_init(&x.input, NULL);
    pthread_mutex_init(&x.lock, NULL);
    pthread_cond_init(&x.ready, NULL);
    if (sd_queue_init(&x.loaded, (size_t)e->batch_size + AHEAD, &err) ||
        sd_queue_init(&x.encoded, BEHIND, &err) || (e->shard && sd_stream_withhold(e->cmd->stream, &err)))
        cmd_die(e->cmd, &err);
    run_threads(&x);
    if (e->shard) { /* only now are there the caches that the records name */
        if (sd_shard_commit(&e->shard, &err))
            cmd_die(e->cmd, &err);
        sd_stream_release(e->cmd->stream);
    }
    sd_queue_free(&x.loaded);
    sd_queue_free(&x.encoded);
    sd_cache_owners_free(&x.owners);
    sd_subsets_free(&x.subsets);
    sd_archives_free(&x.archives);
    free(x.out);
    free(x.noise);
    pthread_cond_destroy(&x.ready);
    pthread_mutex_destroy(&x.lock);
    pthread_mutex_destroy(&x.input);
}
