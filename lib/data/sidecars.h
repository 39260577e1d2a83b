/* Captions and tags written to files beside the pictures.
 *
 * Files are queued and then written by many threads: each waits for the disk, and the disk can serve them
 * together. What is decided does not depend on that. */
#ifndef SD_DATA_SIDECARS_H
#define SD_DATA_SIDECARS_H

#include "base/seen.h"
#include "data/metadata.h"

enum { SD_SIDECARS_QUEUE = 512 };

struct sd_sidecar_job {
    struct sd_buf path, text;
    size_t owner; /* as the caller calls it */
    struct sd_err err;
};

struct sd_sidecars {
    bool overwrite; /* files that say something else; set by the caller */
    uint64_t written, unchanged;
    struct sd_sidecar_job jobs[SD_SIDECARS_QUEUE]; /* private, like the rest */
    size_t n, done;
    struct sd_seen seen; /* files that belong to a picture of this run */
    struct sd_buf path, text, old;
    struct sd_strings parts;
};

/* Queues the record's caption or tags for the file with this ending beside the picture. A file that says the
 * same stays untouched; one that says something else is an error, unless it may be overwritten: but never
 * where it belongs to another picture of this run too. 0, also where the record has no such member; or -1
 * with err. There must be room in the queue. */
int sd_sidecars_add(struct sd_sidecars *s, struct sd_metadata *m, struct sd_record *r, enum sd_text_kind kind,
                    const char *picture, const char *ending, size_t owner, struct sd_err *err);

/* Writes what is queued and empties the queue; each file appears whole or not at all. fail gets those that
 * could not be written, in order. -1 when there are no threads or no memory. */
int sd_sidecars_flush(struct sd_sidecars *s, void (*fail)(void *ctx, size_t owner, const struct sd_err *err),
                      void *ctx, struct sd_err *err);
void sd_sidecars_free(struct sd_sidecars *s);

#endif
