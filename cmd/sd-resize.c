/* sd-resize: records in, resized copies of their pictures in a folder, records of the copies out. */
#include "cmd.h"

#include "base/arena.h"
#include "base/atomic.h"
#include "base/file.h"
#include "base/ordered.h"
#include "base/path.h"
#include "base/seen.h"
#include "base/siblings.h"
#include "data/picture.h"
#include "image/jpeg.h"
#include "image/list.h"
#include "image/png.h"
#include "image/probe.h"
#include "image/resize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BATCH = 64, MOST_SIZES = 64, FILE_BYTES = 1 << 30 };

struct size {
    char name[32]; /* what goes into the copy's name: 512x512 */
    uint64_t pixels;
};

struct copy {
    char *path;
    struct sd_image_info info;
};

struct job { /* a record on its way */
    struct sd_record record;
    uint64_t ticket;
    struct sd_arena arena;
    char *path;
    struct sd_picture_stat source;
    struct copy copies[MOST_SIZES];
    struct sd_err err;
    bool pass; /* it came with an error */
};

struct resize {
    struct sd_cmd cmd;
    const char *output, *max_resolution, *interpolation;
    bool bucket, png, white, associated, skip_existing, sized;
    int64_t divisible_by, quality;

    enum sd_resize_filter filter;
    struct size sizes[MOST_SIZES];
    size_t n;
    struct sd_siblings *siblings;
    struct sd_archives archives;
    struct sd_seen seen; /* the copies' names of this run */
    struct job jobs[BATCH];
    size_t n_jobs;
};

/* ---- sizes ---- */

static bool read_side(const char **at, char *end, uint64_t *side)
{
    *side = 0;
    const char *start = *at;
    for (; **at >= '0' && **at <= '9' && *side < 100000; ++*at)
        *side = *side * 10 + (uint64_t)(**at - '0');
    *end = **at;
    return *at > start && *side > 0 && *side < 100000;
}

/* "512x512, 384x384" */
static void read_sizes(struct resize *z)
{
    const char *at = z->max_resolution;
    char end = ',';
    while (end == ',') {
        uint64_t w, h;
        at += strspn(at, " ");
        if (z->n == MOST_SIZES)
            cmd_usage(&z->cmd, "--max-resolution: more than %d sizes", MOST_SIZES);
        struct size *s = &z->sizes[z->n++];
        if (!read_side(&at, &end, &w) || end != 'x' || (at++, !read_side(&at, &end, &h)))
            cmd_usage(&z->cmd, "--max-resolution: %s is not like 512x512,384x384", z->max_resolution);
        s->pixels = w * h;
        snprintf(s->name, sizeof s->name, "%llux%llu", (unsigned long long)w, (unsigned long long)h);
        at += strspn(at, " ");
        end = *at++;
    }
    if (end)
        cmd_usage(&z->cmd, "--max-resolution: %s is not like 512x512,384x384", z->max_resolution);
}

/* ---- pictures: *im is replaced ---- */

static int replace(struct sd_image *im, struct sd_image *by, int bad)
{
    sd_image_free(im);
    *im = *by;
    return bad;
}

static int scale(struct sd_image *im, uint32_t w, uint32_t h, enum sd_resize_filter filter,
                 struct sd_err *err)
{
    struct sd_image to;
    return replace(im, &to, sd_image_resize(im, w, h, filter, &to, err));
}

static int cut(struct sd_image *im, uint32_t x, uint32_t y, uint32_t w, uint32_t h, struct sd_err *err)
{
    struct sd_image to;
    return replace(im, &to, sd_image_crop(im, x, y, w, h, &to, err));
}

/* As sd-scripts' tool: shrunk to at most so many pixels, then the middle of sides that can be divided. */
static int shrink(const struct resize *z, struct sd_image *im, uint64_t pixels, struct sd_err *err)
{
    uint64_t now = (uint64_t)im->width * im->height;
    uint32_t w = im->width, h = im->height, step = (uint32_t)z->divisible_by;
    if (now > pixels) {
        double factor = sqrt((double)pixels / (double)now);
        w = (uint32_t)(im->width * factor);
        h = (uint32_t)(im->height * factor);
        if (!w || !h)
            return sd_err_set(err, SD_ERR_DATA, "%ux%u pixels: nothing is left of one side", im->width,
                              im->height);
        if (scale(im, w, h, z->filter, err))
            return -1;
    }
    w -= w % step;
    h -= h % step;
    if (!w || !h)
        return sd_err_set(err, SD_ERR_DATA, "%ux%u pixels: a side is shorter than --divisible-by %u",
                          im->width, im->height, step);
    return cut(im, (im->width - w) / 2, (im->height - h) / 2, w, h, err);
}

static int fit_bucket(const struct resize *z, struct sd_record *r, struct sd_image *im, struct sd_err *err)
{
    int64_t bucket[2], resize[2], crop[2];
    if (sd_record_need_ints(r, "bucket", bucket, 2, err) ||
        sd_record_need_ints(r, "resize", resize, 2, err) || sd_record_need_ints(r, "crop", crop, 2, err))
        return -1;
    for (int i = 0; i < 2; i++)
        if (bucket[i] < 1 || resize[i] > 65536 || crop[i] < 0 || crop[i] > resize[i] - bucket[i])
            return sd_err_set(err, SD_ERR_DATA,
                              "bucket [%lld,%lld] at crop [%lld,%lld] does not lie in resize [%lld,%lld]",
                              (long long)bucket[0], (long long)bucket[1], (long long)crop[0],
                              (long long)crop[1], (long long)resize[0], (long long)resize[1]);
    return scale(im, (uint32_t)resize[0], (uint32_t)resize[1], z->filter, err) ||
                   cut(im, (uint32_t)crop[0], (uint32_t)crop[1], (uint32_t)bucket[0], (uint32_t)bucket[1],
                       err)
               ? -1
               : 0;
}

static int load(struct resize *z, const char *path, struct sd_image *im, struct sd_err *err)
{
    if (sd_picture_load(&z->archives, path, z->white ? 4 : 3, 0, im, err))
        return -1;
    if (z->white)
        sd_image_on_white(im);
    return 0;
}

/* ---- files ---- */

static bool fresh(const char *copy, const struct sd_picture_stat *source)
{
    struct stat st;
    return !stat(copy, &st) && S_ISREG(st.st_mode) &&
           (st.st_mtim.tv_sec > source->modified.tv_sec ||
            (st.st_mtim.tv_sec == source->modified.tv_sec && st.st_mtim.tv_nsec >= source->modified.tv_nsec));
}

static bool same_file(const char *copy, const char *path)
{
    struct stat st, source;
    return !stat(copy, &st) && !stat(path, &source) && st.st_dev == source.st_dev &&
           st.st_ino == source.st_ino;
}

/* Everything beside the picture that has its name and is no picture, under the copy's name. */
static int copy_associated(struct resize *z, struct sd_arena *a, const char *path, const struct copy *to,
                           struct sd_err *err)
{
    struct sd_strings names = {0};
    struct sd_buf file = SD_BUF_INIT;
    const char *base = sd_path_base(path);
    size_t stem = sd_path_stem_len(base);
    if (sd_archive_split(path, NULL))
        return sd_err_set(err, SD_ERR_DATA,
                          "what lies beside a picture in an archive is not copied; use sd-unpack");
    int bad = sd_siblings_find(z->siblings, path, &names, err);
    for (size_t i = 0; !bad && i < names.n; i++) {
        struct stat st;
        if (sd_image_has_extension(names.v[i]))
            continue;
        char *from = sd_arena_printf(a, "%.*s%s", (int)(base - path), path, names.v[i]);
        char *copy =
            from ? sd_arena_printf(a, "%.*s%s", (int)sd_path_stem_len(to->path), to->path, names.v[i] + stem)
                 : NULL;
        if (!copy) {
            bad = sd_err_memory(err, strlen(path));
        } else if (!stat(from, &st) && S_ISREG(st.st_mode)) {
            sd_buf_clear(&file);
            bad = sd_file_read(from, FILE_BYTES, &file, err) || sd_atomic_put(copy, file.data, file.len, err)
                      ? -1
                      : 0;
        }
    }
    sd_buf_free(&file);
    sd_strings_free(&names);
    return bad;
}

static int save(const struct resize *z, const struct sd_image *im, struct copy *c, struct sd_err *err)
{
    int bad =
        z->png ? sd_png_save(c->path, im, NULL, 0, err) : sd_jpeg_save(c->path, im, (int)z->quality, err);
    return bad ? bad : sd_image_probe(c->path, &c->info, err);
}

/* ---- a record ---- */

/* Names the copies. Two pictures of one name would leave one copy: the first has it, so this goes from record
 * to record. */
static int name_copies(struct resize *z, struct job *j, struct sd_err *err)
{
    const char *base = sd_path_base(j->path), *ending = z->png ? "png" : "jpg";
    int64_t bucket[2];
    char size[48];
    if (z->bucket) {
        if (sd_record_need_ints(&j->record, "bucket", bucket, 2, err))
            return -1;
        snprintf(size, sizeof size, "%lldx%lld", (long long)bucket[0], (long long)bucket[1]);
    }
    for (size_t i = 0; i < z->n; i++) {
        char *copy =
            sd_arena_printf(&j->arena, "%s%s%.*s+%s.%s", z->output, sd_path_slash(z->output),
                            (int)sd_path_stem_len(base), base, z->bucket ? size : z->sizes[i].name, ending);
        if (!copy)
            return sd_err_memory(err, strlen(j->path));
        if (same_file(copy, j->path))
            return sd_err_set(err, SD_ERR_DATA, "the copy would be the picture itself");
        int seen = sd_seen_add(&z->seen, copy, strlen(copy), err);
        if (seen)
            return seen > 0 ? sd_err_set(err, SD_ERR_DATA, "%s is the copy of an earlier record", copy) : -1;
        j->copies[i] = (struct copy){.path = copy};
    }
    return 0;
}

static int prepare(struct resize *z, struct job *j)
{
    const char *path;
    if (sd_record_need_string(&j->record, "path", &path, &j->err))
        return -1;
    if (!(j->path = sd_arena_strdup(&j->arena, path)))
        return sd_err_memory(&j->err, strlen(path));
    return sd_picture_stat(&z->archives, path, &j->source, &j->err) ? -1 : name_copies(z, j, &j->err);
}

/* Each size is made from the one before, as the tool does. */
static int make_copies(struct resize *z, struct job *j, struct sd_err *err)
{
    struct sd_image im;
    if (load(z, j->path, &im, err))
        return -1;
    int bad = 0;
    for (size_t i = 0; !bad && i < z->n; i++)
        bad = (z->bucket ? fit_bucket(z, &j->record, &im, err) : shrink(z, &im, z->sizes[i].pixels, err)) ||
              save(z, &im, &j->copies[i], err);
    sd_image_free(&im);
    return bad ? -1 : 0;
}

static bool all_fresh(const struct resize *z, struct job *j)
{
    struct sd_err ignored;
    for (size_t i = 0; i < z->n; i++)
        if (!fresh(j->copies[i].path, &j->source) ||
            sd_image_probe(j->copies[i].path, &j->copies[i].info, &ignored))
            return false;
    return true;
}

/* The record becomes the copy's. What belonged to the picture's bytes or size goes. */
static int describe(const struct resize *z, struct sd_record *r, const struct copy *c, struct sd_err *err)
{
    const struct sd_image_info *info = &c->info;
    int64_t size[2] = {info->width, info->height};
    int bad = sd_record_set_string(r, "path", c->path) || sd_record_set_int(r, "width", info->width) ||
              sd_record_set_int(r, "height", info->height) ||
              sd_record_set_string(r, "format", sd_image_format_name(info->format)) ||
              sd_record_set_int(r, "bytes", (int64_t)info->bytes) || sd_record_remove(r, "sha256") ||
              sd_record_remove(r, "latents");
    if (z->bucket)
        bad = bad || sd_record_set_ints(r, "resize", size, 2) ||
              sd_record_set_ints(r, "crop", (int64_t[]){0, 0}, 2);
    else
        bad = bad || sd_record_remove(r, "bucket") || sd_record_remove(r, "resize") ||
              sd_record_remove(r, "crop");
    return bad ? sd_err_memory(err, strlen(c->path)) : 0;
}

static void work(void *ctx, int thread, size_t item)
{
    struct resize *z = ctx;
    struct job *j = &z->jobs[item];
    (void)thread;
    if (j->pass || j->err.code)
        return;
    if (!(z->skip_existing && all_fresh(z, j)) && make_copies(z, j, &j->err))
        return;
    for (size_t i = 0; z->associated && i < z->n; i++)
        if (copy_associated(z, &j->arena, j->path, &j->copies[i], &j->err))
            return;
}

/* A record becomes as many as it has copies. */
static void hand_on(void *ctx, size_t item)
{
    struct resize *z = ctx;
    struct job *j = &z->jobs[item];
    cmd_drop(&z->cmd, j->ticket);
    if (!j->pass && !j->err.code && sd_record_set_string(&j->record, "original", j->path))
        sd_err_memory(&j->err, strlen(j->path));
    for (size_t i = 0; !j->pass && !j->err.code && i < z->n; i++)
        if (!describe(z, &j->record, &j->copies[i], &j->err))
            cmd_put_next(&z->cmd, &j->record);
    if (j->err.code)
        cmd_fail(&z->cmd, &j->record, &j->err);
    if (j->pass || j->err.code)
        cmd_put_next(&z->cmd, &j->record);
    sd_arena_reset(&j->arena);
    j->err = (struct sd_err){0};
}

static void work_on(struct resize *z)
{
    struct sd_err err = {0};
    const struct sd_ordered run = {.n = z->n_jobs,
                                   .window = BATCH,
                                   .jobs = z->cmd.common.jobs,
                                   .work = work,
                                   .finish = hand_on,
                                   .ctx = z};
    if (z->n_jobs && sd_ordered_run(&run, &err))
        cmd_die(&z->cmd, &err);
    z->n_jobs = 0;
}

static void each_record(struct resize *z)
{
    struct job *j;
    while (j = &z->jobs[z->n_jobs], cmd_next(&z->cmd, &j->record, &j->ticket)) {
        j->pass = sd_record_failed(&j->record);
        if (!j->pass)
            prepare(z, j);
        if (++z->n_jobs == BATCH || !sd_stream_ready(z->cmd.stream))
            work_on(z);
    }
    work_on(z);
}

static void start(struct resize *z, int *argc, char **argv)
{
    struct sd_err err = {0};
    cmd_start(&z->cmd, argc, argv);
    if (!z->output)
        cmd_usage(&z->cmd, "no folder for the copies: --output-dir FOLDER");
    if (z->bucket && (z->sized || z->divisible_by > 1))
        cmd_usage(&z->cmd,
                  "--bucket takes the size from the records: no --max-resolution, no --divisible-by");
    if (sd_resize_filter_parse(z->interpolation, &z->filter, &err))
        cmd_die(&z->cmd, &err);
    if (z->bucket)
        z->n = 1;
    else
        read_sizes(z);
    cmd_folder(&z->cmd, z->output);
    if (!(z->siblings = sd_siblings_new(&err)))
        cmd_die(&z->cmd, &err);
}

int main(int argc, char **argv)
{
    static struct resize z = {.max_resolution = "512x512,384x384,256x256,128x128",
                              .interpolation = "auto",
                              .divisible_by = 1,
                              .quality = 100};
    const struct sd_option options[] = {
        {SD_OPT_STRING("output-dir", 'o', &z.output, "FOLDER",
                       "where the copies go; made when it is missing")},
        {SD_OPT_STRING("max-resolution", 0, &z.max_resolution, "WxH,...",
                       "a copy for each, of at most so many pixels"),
         .given = &z.sized},
        {SD_OPT_INT("divisible-by", 0, &z.divisible_by, "N", "cut both sides to multiples of this"), .min = 1,
         .max = 65536},
        {SD_OPT_BOOL("bucket", 0, &z.bucket, "resize and cut to what sd-bucket chose")},
        {SD_OPT_CHOICE("interpolation", 0, &z.interpolation, SD_RESIZE_NAMES, "how to resize")},
        {SD_OPT_BOOL("white", 0, &z.white, "put transparent pictures on white; else alpha is dropped")},
        {SD_OPT_BOOL("save-as-png", 0, &z.png, "write PNG, not JPEG")},
        {SD_OPT_INT("quality", 0, &z.quality, "N", "quality of the JPEGs"), .min = 1, .max = 100},
        {SD_OPT_BOOL("copy-associated-files", 0, &z.associated,
                     "copy the files of the same name too: captions, tags")},
        {SD_OPT_BOOL("skip-existing", 0, &z.skip_existing, "keep copies that are newer than the picture")},
        SD_OPT_END};
    z.cmd.program = (struct sd_program){
        .name = "sd-resize", .args = "", .summary = "Write resized copies of pictures", .options = options};
    start(&z, &argc, argv);
    each_record(&z);
    for (int i = 0; i < BATCH; i++) {
        sd_record_free(&z.jobs[i].record);
        sd_arena_free(&z.jobs[i].arena);
    }
    sd_archives_free(&z.archives);
    sd_siblings_free(z.siblings);
    sd_seen_free(&z.seen);
    return cmd_finish(&z.cmd);
}
