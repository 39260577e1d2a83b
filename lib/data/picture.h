/* Pictures by the path of a record: files, and members of archives (archive.zip!/a/b.png, store/archive.h).
 * All programs open pictures with these functions. `all` keeps archives open between calls and serves several
 * threads; messages begin with the path unless said otherwise. */
#ifndef SD_DATA_PICTURE_H
#define SD_DATA_PICTURE_H

#include <time.h>

#include "image/probe.h"
#include "store/archive.h"

enum { SD_PICTURE_BYTES = 1 << 30 }; /* larger ones are refused */

/* ---- bytes ---- */

struct sd_picture_bytes {
    const void *bytes;
    size_t len;
    struct sd_buf buf; /* private, like the rest */
    struct sd_archives *all;
    struct sd_archive_use *use;
};

/* The bytes of the picture's file. On success give them back with sd_picture_done. */
int sd_picture_read(struct sd_archives *all, const char *path, struct sd_picture_bytes *b,
                    struct sd_err *err);
void sd_picture_done(struct sd_picture_bytes *b);

/* ---- pixels, header, file ---- */

/* sd_image_load. */
int sd_picture_load(struct sd_archives *all, const char *path, int channels, unsigned flags,
                    struct sd_image *im, struct sd_err *err);

/* sd_image_decode_small; full may be NULL. */
int sd_picture_load_small(struct sd_archives *all, const char *path, int channels, uint32_t width,
                          uint32_t height, uint32_t full[2], struct sd_image *im, struct sd_err *err);

/* sd_image_probe; of a deflated member only the first bytes are unpacked. */
int sd_picture_probe(struct sd_archives *all, const char *path, struct sd_image_info *info,
                     struct sd_err *err);

/* The same for a member at hand; scratch is reused. The message names nothing. */
int sd_picture_probe_member(const struct sd_archive *a, const struct sd_archive_member *m,
                            struct sd_buf *scratch, struct sd_image_info *info, struct sd_err *err);

struct sd_picture_stat {
    uint64_t bytes;
    struct timespec modified; /* of a picture in an archive: when the archive was */
};

/* The message does not name the path. */
int sd_picture_stat(struct sd_archives *all, const char *path, struct sd_picture_stat *st,
                    struct sd_err *err);

/* Opens a file, not a member, and looks at its header: the file descriptor, or -1 with err, which does not
 * name the file. info may hold the size even then. Named pipes and the like are not waited for. */
int sd_picture_open(const char *path, struct sd_image_info *info, struct sd_err *err);

/* SHA-256 of its file. The message need not name the path. */
int sd_picture_sha256(struct sd_archives *all, const char *path, char hex[65], struct sd_err *err);

/* ---- text beside it ---- */

/* sd_sidecar_read; for a picture in an archive, the member beside it. */
int sd_picture_sidecar(struct sd_archives *all, const char *path, const char *ending, struct sd_buf *name,
                       struct sd_buf *text, struct sd_err *err);

/* ---- the members of a record, as text ---- */

/* Appends ,"width":..,"height":..,"format":..,"bytes":.. 0, or -1 when memory is out. */
int sd_picture_members(const struct sd_image_info *info, struct sd_buf *out);

/* Appends ,"error":{"tool":..,"message":..}. */
int sd_picture_error(const char *tool, const char *message, struct sd_buf *out);

#endif
