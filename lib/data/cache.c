#include "data/cache.h"

#include "base/hash.h"
#include "base/json.h"
#include "base/path.h"
#include "data/picture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- names
 * ------------------------------------------------------------------------------------------------------- */

static int add_base(struct sd_buf *out, const struct sd_cache_place *place, const char *path)
{
    size_t stem = sd_path_stem_len(path);
    const char *base = sd_path_base(path);
    unsigned long long hash = sd_fnv1a(path, strlen(path));
    if (place->layout == SD_CACHE_BESIDE)
        return sd_buf_add(out, path, stem);
    int bad = sd_buf_adds(out, place->folder);
    if (*place->folder)
        bad |= sd_buf_adds(out, sd_path_slash(place->folder));
    if (place->layout == SD_CACHE_TREE)
        bad |= sd_buf_addf(out, "%02llx/%02llx/", hash >> 56, hash >> 48 & 255);
    bad |= sd_buf_add(out, base, (size_t)(path + stem - base));
    return place->layout == SD_CACHE_STEM ? bad : bad | sd_buf_addf(out, "-%016llx", hash);
}

int sd_cache_name(struct sd_buf *out, const struct sd_cache_place *place, const struct sd_cut *cut,
                  struct sd_err *err)
{
    size_t start = out->len;
    int bad = add_base(out, place, cut->path);
    size_t base = out->len;
    bad |= sd_buf_adds(out, ".npz");
    if (bad)
        return sd_err_memory(err, strlen(cut->path));
    if (!place->sized || (place->layout == SD_CACHE_BESIDE && !access(out->data + start, F_OK)))
        return 0;
    if (cut->width < 0 || cut->height < 0)
        return sd_err_set(err, SD_ERR_DATA,
                          "the cache's name needs width and height, which the record lacks");
    out->len = base;
    return sd_buf_addf(out, "_%04lldx%04lld_sd.npz", (long long)cut->width, (long long)cut->height)
               ? sd_err_memory(err, 64)
               : 0;
}

int sd_cache_folders(const struct sd_cache_place *place, const char *name, struct sd_err *err)
{
    if (place->layout != SD_CACHE_TREE)
        return 0;
    char *folder = strdup(name);
    if (!folder)
        return sd_err_memory(err, strlen(name));
    int rc = 0;
    for (char *p = folder + strlen(place->folder) + 1; !rc && (p = strchr(p, '/')); p++) {
        *p = 0;
        if (mkdir(folder, 0777) && errno != EEXIST)
            rc = sd_err_errno(err, folder);
        *p = '/';
    }
    free(folder);
    return rc;
}

struct sd_cache_owner {
    uint64_t cache, picture, cut; /* cache 0: free */
};

static struct sd_cache_owner *slot_of(struct sd_cache_owner *table, size_t cap, uint64_t cache)
{
    size_t i = (size_t)(cache ^ cache >> 32) & (cap - 1);
    while (table[i].cache && table[i].cache != cache)
        i = (i + 1) & (cap - 1);
    return &table[i];
}

static int grow(struct sd_cache_owners *o, struct sd_err *err)
{
    size_t cap = o->cap ? o->cap * 2 : 1024;
    struct sd_cache_owner *table = calloc(cap, sizeof *table);
    if (!table)
        return sd_err_memory(err, cap * sizeof *table);
    for (size_t i = 0; i < o->cap; i++)
        if (o->slots[i].cache)
            *slot_of(table, cap, o->slots[i].cache) = o->slots[i];
    free(o->slots);
    o->slots = table;
    o->cap = cap;
    return 0;
}

int sd_cache_own(struct sd_cache_owners *o, const char *cache, const struct sd_cut *cut, struct sd_err *err)
{
    const int64_t place[] = {cut->bucket.w, cut->bucket.h, cut->resize.w, cut->resize.h,
                             cut->crop[0],  cut->crop[1],  cut->filter};
    struct sd_cache_owner mine = {.cache = sd_fnv1a(cache, strlen(cache)) | 1,
                                  .picture = sd_fnv1a(cut->path, strlen(cut->path)),
                                  .cut = sd_fnv1a(place, sizeof place)};
    if (o->count * 2 >= o->cap && grow(o, err))
        return -1;
    struct sd_cache_owner *slot = slot_of(o->slots, o->cap, mine.cache);
    if (slot->cache && slot->picture != mine.picture)
        return sd_err_set(err, SD_ERR_DATA,
                          "its cache would be %s, which is another picture's; use --cache-dir", cache);
    if (slot->cache && slot->cut != mine.cut)
        return sd_err_set(err, SD_ERR_DATA,
                          "its cache would be %s, which holds the same picture cut in another way", cache);
    o->count += !slot->cache;
    *slot = mine;
    return 0;
}

void sd_cache_owners_free(struct sd_cache_owners *o)
{
    free(o->slots);
    *o = (struct sd_cache_owners){0};
}

/* --- what they hold
 * ------------------------------------------------------------------------------------------------ */

/* As they stand in sources: never to be changed. */
static const char *const filters[] = {
    [SD_RESIZE_AUTO] = "auto",
    [SD_RESIZE_NEAREST] = "nearest",
    [SD_RESIZE_LINEAR] = "linear",
    [SD_RESIZE_CUBIC] = "cubic",
    [SD_RESIZE_LANCZOS4] = "lanczos4",
    [SD_RESIZE_AREA] = "area",
    [SD_RESIZE_LANCZOS] = "lanczos",
    [SD_RESIZE_BOX] = "box",
    [SD_RESIZE_PIL_BICUBIC] = "pil-bicubic",
};

/* The source up to the picture's SHA-256. */
static int add_settings(struct sd_buf *out, const struct sd_cache_want *want, const struct sd_cut *cut,
                        int64_t bytes)
{
    int bad = sd_buf_addf(out, "{%s,\"resize\":[%lld,%lld],\"crop\":[%lld,%lld]", want->settings,
                          (long long)cut->resize.w, (long long)cut->resize.h, (long long)cut->crop[0],
                          (long long)cut->crop[1]);
    if (cut->filter != SD_RESIZE_AUTO)
        bad |= sd_buf_addf(out, ",\"filter\":\"%s\"", filters[cut->filter]);
    if (cut->alpha)
        bad |= sd_buf_adds(out, ",\"alpha\":true");
    return bad | sd_buf_addf(out, ",\"bytes\":%lld,\"sha256\":\"", (long long)bytes);
}

int sd_cache_source(struct sd_buf *out, const struct sd_cache_want *want, const struct sd_cut *cut,
                    int64_t bytes, const char *sha256)
{
    return add_settings(out, want, cut, bytes) | sd_buf_addf(out, "%s\"}", sha256) ? -1 : 0;
}

static bool newer(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

/* All arrays there and of the shapes that sd-scripts' loaders ask for. */
static bool fits(const struct sd_latents_info *info, const struct sd_cache_want *want,
                 const struct sd_cut *cut)
{
    int64_t mask_w = cut->alpha ? cut->bucket.w : 0, mask_h = cut->alpha ? cut->bucket.h : 0;
    bool size_told = info->original_size[0] && info->original_size[1];
    if (info->format != want->format || info->width != cut->bucket.w / want->stride ||
        info->height != cut->bucket.h / want->stride || (cut->flip && !info->flipped) ||
        info->mask_width != mask_w || info->mask_height != mask_h)
        return false;
    if (info->format != SD_LATENTS_NPZ3)
        return info->format == SD_LATENTS_NPZ1 || size_told;
    return size_told && (cut->width < 0 || info->original_size[0] == cut->width) &&
           (cut->height < 0 || info->original_size[1] == cut->height);
}

static bool same_file(struct sd_archives *archives, const char *path, const char *sha256)
{
    char now[65];
    return !sd_picture_sha256(archives, path, now, NULL) && !strcmp(now, sha256);
}

/* told: sd_source of the cache. */
static bool same_source(const char *told, const struct sd_cache_want *want, const struct sd_cut *cut,
                        const struct sd_picture_stat *file, struct sd_archives *archives, bool touched)
{
    struct sd_buf settings = SD_BUF_INIT;
    char sha256[65] = "";
    bool same = !add_settings(&settings, want, cut, (int64_t)file->bytes) &&
                !strncmp(told, settings.data, settings.len) && strlen(told) == settings.len + 64 + 2;
    if (same)
        memcpy(sha256, told + settings.len, 64);
    sd_buf_free(&settings);
    return same && (!cut->sha256 || !strcmp(cut->sha256, sha256)) &&
           (!touched || same_file(archives, cut->path, sha256));
}

bool sd_cache_fresh(const struct sd_cache_want *want, const struct sd_cut *cut, struct sd_archives *archives,
                    const char *cache)
{
    struct sd_picture_stat picture, made;
    struct sd_latents_info info;
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_err ignored;
    bool fresh = false;
    if (!sd_picture_stat(archives, cache, &made, &ignored) &&
        !sd_picture_stat(archives, cut->path, &picture, &ignored) &&
        (cut->bytes < 0 || cut->bytes == (int64_t)picture.bytes) &&
        !sd_latents_inspect(&info, archives, cache, &a, &ignored) && fits(&info, want, cut)) {
        bool touched = newer(&picture.modified, &made.modified);
        if (info.source)
            fresh = same_source(info.source, want, cut, &picture, archives, touched);
        else
            fresh = !touched && !newer(&want->made, &made.modified);
    }
    sd_arena_free(&a);
    return fresh;
}

bool sd_cache_source_vae(const char *source, char vae[65])
{
    cJSON *tree = sd_json_parse(source, strlen(source), NULL);
    const cJSON *hash = sd_json_get(tree, "vae");
    bool told = cJSON_IsString(hash) && strlen(hash->valuestring) == 64;
    if (told)
        memcpy(vae, hash->valuestring, 65);
    cJSON_Delete(tree);
    return told;
}
