/* Latent caches of records: where they lie, which picture they belong to, and whether they still hold what
 * would be made now. */
#ifndef SD_DATA_CACHE_H
#define SD_DATA_CACHE_H

#include "base/buf.h"
#include "data/cut.h"
#include "store/latents.h"

#include <time.h>

/* ---- names ---- */

enum sd_cache_layout {
    SD_CACHE_BESIDE, /* photos/a.png: photos/a.npz, where sd-scripts looks */
    SD_CACHE_TREE,   /* FOLDER/3f/09/a-3f09...npz: no folder grows large */
    SD_CACHE_FLAT,   /* FOLDER/a-3f09...npz, the digits being a hash of the path */
    SD_CACHE_STEM,   /* FOLDER/a.npz, as sd-scripts' prepare_buckets_latents names them */
};

struct sd_cache_place {
    enum sd_cache_layout layout;
    const char *folder; /* not for BESIDE; "" for the names alone */
    bool sized;         /* STEM_0512x0384_sd.npz, as sd-scripts names npz3 since 2024-11 */
};

/* Appends the name of the cut's cache. With `sized` the record must tell width and height; and where
 * sd-scripts' newer versions would take an older STEM.npz beside the picture, so does this. */
int sd_cache_name(struct sd_buf *out, const struct sd_cache_place *place, const struct sd_cut *cut,
                  struct sd_err *err);

/* Makes the folders that the cache of this name lies in, below place->folder. */
int sd_cache_folders(const struct sd_cache_place *place, const char *name, struct sd_err *err);

/* Which picture each cache belongs to and how that is cut, by hashes: 24 bytes a cache. All zero at first. */
struct sd_cache_owners {
    struct sd_cache_owner *slots;
    size_t count, cap;
};

/* Notes that the cache is this picture's, cut so; -1 when it is another's already. */
int sd_cache_own(struct sd_cache_owners *o, const char *cache, const struct sd_cut *cut, struct sd_err *err);
void sd_cache_owners_free(struct sd_cache_owners *o);

/* ---- what they hold ---- */

struct sd_cache_want {
    enum sd_latents_format format;
    const char *settings; /* what all of them are made with: `"vae":"...","type":"bf16","draw":0` */
    int stride;           /* pixels to a latent: 8 */
    struct timespec made; /* when the model was: a cache that does not tell its source must be newer */
};

/* Appends sd_source of a cache: a JSON object of the settings, of how the picture is cut, and of its bytes:
 * their number and SHA-256. */
int sd_cache_source(struct sd_buf *out, const struct sd_cache_want *want, const struct sd_cut *cut,
                    int64_t bytes, const char *sha256);

/* Whether the cache holds what would be made of the cut now: the format and arrays wanted, from the same
 * settings and the same picture. A picture whose file is newer than its cache is the same when its SHA-256
 * is. False too where the picture cannot be read or is not what the record says: making it anew tells.
 * archives: for pictures and caches in them. */
bool sd_cache_fresh(const struct sd_cache_want *want, const struct sd_cut *cut, struct sd_archives *archives,
                    const char *cache);

/* The hash of the VAE that a source tells, of 64 digits and a NUL. False when it tells none. */
bool sd_cache_source_vae(const char *source, char vae[65]);

#endif
