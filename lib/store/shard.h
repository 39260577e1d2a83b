/* Latent caches in one archive in place of files: zip or tar by the name's ending, members stored, so that
 * unpacking gives ordinary caches (store/archive_write.h). */
#ifndef SD_STORE_SHARD_H
#define SD_STORE_SHARD_H

#include "base/err.h"

#include <stddef.h>

struct sd_shard;

/* The archive may be there or not; one that is damaged is an error, as is a place that cannot be written.
 * Nothing is written yet. */
int sd_shard_open(struct sd_shard **s, const char *path, struct sd_err *err);

/* A member, in place of one of this name that the archive has. The same name once more is passed over. */
int sd_shard_add(struct sd_shard *s, const char *name, const void *bytes, size_t len, struct sd_err *err);

/* Copies the other members of the archive there was behind the new ones, and replaces it in one step. Without
 * new ones it is left alone. Ends and frees *s in every case and sets it to NULL. */
int sd_shard_commit(struct sd_shard **s, struct sd_err *err);
void sd_shard_discard(struct sd_shard **s); /* takes a pointer to NULL */

#endif
