/* Captions and tags written to files beside the pictures. */
#ifndef SD_DATA_SIDECARS_H
#define SD_DATA_SIDECARS_H

#include "base/seen.h"
#include "data/metadata.h"

struct sd_sidecars {
    bool overwrite;      /* files that say something else; set by the caller */
    struct sd_seen seen; /* private, like the rest: files that belong to a picture of this run */
    struct sd_buf path, text, old;
    struct sd_strings parts;
    uint64_t written, unchanged;
};

/* Writes the record's caption or tags to the file with this ending beside the picture. A file that says the
 * same stays untouched; one that says something else is an error, unless it may be overwritten: but never
 * where it belongs to another picture of this run too. The file appears whole or not at all. 0, also where
 * the record has no such member; or -1 with err. */
int sd_sidecars_write(struct sd_sidecars *s, struct sd_metadata *m, struct sd_record *r,
                      enum sd_text_kind kind, const char *picture, const char *ending, struct sd_err *err);
void sd_sidecars_free(struct sd_sidecars *s);

#endif
