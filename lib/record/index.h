/* Records, or the members of one JSON object, in a file that may be larger than memory: found by their key,
 * or read by their number in any order. 16 bytes and a slot are kept of each, and the rest is read from the
 * file again. What is found has its key compared, so that it is always what was asked for.
 *
 *     lines      newline-delimited JSON; the key is a member of each, like `path`
 *     members    one JSON object; the key is the member's name
 *
 * Of equal keys the last counts, unless all are asked for. A line or member has at most SD_MEMBERS_LIMIT
 * bytes. Standard input ("-"), pipes and the like are copied to a temporary file (base/temp.h). */
#ifndef SD_RECORD_INDEX_H
#define SD_RECORD_INDEX_H

#include "record/members.h"
#include "record/record.h"

struct sd_index_entry { /* private, like the rest but n */
    uint64_t at;
    uint32_t hash;
    uint32_t len; /* and bits above it: the mark, repeated */
};

struct sd_index {
    const char *file; /* borrowed; for messages */
    const char *key;  /* of lines; borrowed */
    int fd;
    struct sd_index_entry *entries; /* as they first came; owned */
    size_t n, cap;
    uint32_t *slots; /* entry + 1, or 0; owned */
    size_t mask;
    uint64_t repeated; /* keys that were there before */
};

struct sd_index_setup {
    const char *key;    /* lines: the member that is the key; NULL: members */
    const char *no_key; /* lines: what is said of one without it */
    bool regular;       /* refuse what is no regular file; "-" is a name */
    /* Each of equal keys is an entry of its own, and sd_index_repeated tells those that are not the first.
     * Then entries are only read by number: sd_index_find finds none, and what it needs is freed. */
    bool all;
    /* Gets what is wrong with a line, which is then left out: "b.ndjson: line 7: ...". When it is NULL, and
     * with members, the whole file is refused. */
    void (*report)(void *ctx, const char *message);
    /* Gets the key of each new entry, in order; may be NULL. 0, or -1 with err, which ends all. */
    int (*added)(void *ctx, const char *key, size_t len, struct sd_err *err);
    bool (*stopped)(void *ctx); /* true: end early; may be NULL */
    void *ctx;
};

/* Reads the file and keeps it open. 0 or -1 with err, which names the file. */
int sd_index_open(struct sd_index *x, const char *file, const struct sd_index_setup *setup,
                  struct sd_err *err);
void sd_index_close(struct sd_index *x); /* an all-zero one is fine */

/* What was read last, by one thread. All zero at first; of one index only. */
struct sd_index_reader {
    struct sd_record record;     /* lines: the record; it may be changed */
    struct sd_members_item item; /* name and value; lines: the key, and the whole line. at is not set */
    struct sd_buf block, name;   /* private, like the rest */
    uint64_t at;
};

/* Looks the key up and reads what it stands for. 1 with it in the reader, borrowed until the next call, and
 * its number in *entry; 0 when there is none; -1 with err. Thread-safe. */
int sd_index_find(const struct sd_index *x, struct sd_index_reader *r, const char *key, size_t len,
                  size_t *entry, struct sd_err *err);

/* Reads entry 0 .. n-1; these are in the order in which the keys first came. 0 or -1 with err. */
int sd_index_read(const struct sd_index *x, struct sd_index_reader *r, size_t entry, struct sd_err *err);

/* A mark on each entry. Thread-safe. */
void sd_index_use(struct sd_index *x, size_t entry);
bool sd_index_used(const struct sd_index *x, size_t entry);

/* With setup.all: an entry before it has the same key. */
bool sd_index_repeated(const struct sd_index *x, size_t entry);

void sd_index_reader_free(struct sd_index_reader *r);

#endif
