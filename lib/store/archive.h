/* Members of zip and tar archives, read at random. A picture in an archive is named archive.zip!/a/b.png
 * (sd-record(5)).
 *
 * Nothing in an archive is believed: names that are absolute or lead upwards, that hold a NUL or come twice,
 * links, devices, sparse files and encrypted members are there as errors, never as members. Names lose a
 * leading "./", which tar puts there. Compressed tar archives (.tar.gz) cannot be read at random and are
 * refused. */
#ifndef SD_STORE_ARCHIVE_H
#define SD_STORE_ARCHIVE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"

/* ---- names ---- */

/* The length of the archive's part of "archive.zip!/a/b.png" (here 11), and the member's name in *member when
 * it is not NULL; 0 for the name of a plain file. What stands before "!/" must end as archives do
 * (sd_path_is_archive). */
size_t sd_archive_split(const char *path, const char **member);

/* ---- one archive ---- */

/* Open, with an index of about 20 bytes a member. It does not change: threads may share it. The file is
 * mapped, as in base/filemap.h. */
struct sd_archive;

struct sd_archive_member { /* all zero at first; free name when done */
    struct sd_buf name;
    bool folder;                 /* then there is nothing to read */
    uint64_t size;               /* unpacked */
    uint64_t offset;             /* of packed in the archive */
    const unsigned char *packed; /* private, like the rest; in the mapped file */
    uint64_t packed_size;
    uint32_t crc;
    bool zip, deflated;
};

/* On failure *a is NULL. sd_archive_parse borrows the bytes; name is for messages. */
int sd_archive_open(struct sd_archive **a, const char *path, struct sd_err *err);
int sd_archive_parse(struct sd_archive **a, const void *bytes, size_t size, const char *name,
                     struct sd_err *err);
void sd_archive_close(struct sd_archive *a); /* takes NULL */

/* What is wrong from some place on (code is 0: nothing). The members are those before that place. */
const struct sd_err *sd_archive_damage(const struct sd_archive *a);

size_t sd_archive_count(const struct sd_archive *a);

/* Member i < count, in the archive's order. On failure m->name is set all the same; it is empty where there
 * is none that a path can hold. Messages here do not name the archive. */
int sd_archive_member(const struct sd_archive *a, size_t i, struct sd_archive_member *m, struct sd_err *err);

/* The member of this name. 1, 0 when there is none, -1 when it is one that is not read. */
int sd_archive_find(const struct sd_archive *a, const char *name, struct sd_archive_member *m,
                    struct sd_err *err);

/* The member's bytes, m->size of them: those of the mapped file where they lie there as they are, else
 * unpacked to scratch. Members of more than max bytes are refused before anything is unpacked, and a zip
 * member's CRC is checked. */
int sd_archive_view(const struct sd_archive *a, const struct sd_archive_member *m, uint64_t max,
                    struct sd_buf *scratch, const void **bytes, struct sd_err *err);

/* The first n bytes, or all where there are fewer, in the same way; without the CRC. Returns how many, or -1.
 */
int64_t sd_archive_peek(const struct sd_archive *a, const struct sd_archive_member *m, size_t n,
                        struct sd_buf *scratch, const void **bytes, struct sd_err *err);

/* ---- open archives ---- */

/* Archives kept open for their next use, for several threads: all zero at first. Each is opened again when
 * its file's size or time has changed. The least recently used ones are closed when the indices of all take
 * more than 24 MiB. */
struct sd_archives {
    pthread_mutex_t lock; /* private, like the rest */
    struct sd_archive_use *first;
    uint64_t bytes;
};

struct sd_archive_use { /* one of them, while it is used */
    struct sd_archive *archive;
    struct stat st;              /* of the file when it was opened */
    struct sd_archive_use *next; /* private, like the rest */
    char *path;
    int users;
    bool stale;
};

/* The message names the archive. */
int sd_archives_get(struct sd_archives *all, const char *path, size_t len, struct sd_archive_use **use,
                    struct sd_err *err);
void sd_archives_done(struct sd_archives *all, struct sd_archive_use *use); /* takes NULL */
void sd_archives_free(struct sd_archives *all);

#endif
