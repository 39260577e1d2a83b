#include "store/shard.h"

#include "base/seen.h"
#include "store/archive.h"
#include "store/archive_write.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sd_shard {
    char *path;
    struct sd_archive_writer *writer; /* NULL until something is added */
    struct sd_seen names;             /* of what was added */
    bool broken;                      /* a write failed: what is written is no archive */
};

enum { MEMBER_BYTES = 1 << 30 };

/* Opens what is there; NULL where nothing is. */
static int open_old(const char *path, struct sd_archive **old, struct sd_err *err)
{
    *old = NULL;
    if (access(path, F_OK))
        return 0;
    if (sd_archive_open(old, path, err))
        return -1;
    const struct sd_err *damage = sd_archive_damage(*old);
    if (!damage->code)
        return 0;
    sd_err_set(err, SD_ERR_DATA, "%s: %s", path, damage->msg);
    sd_archive_close(*old);
    *old = NULL;
    return -1;
}

int sd_shard_open(struct sd_shard **out, const char *path, struct sd_err *err)
{
    struct sd_archive *old;
    struct sd_shard *s = *out = calloc(1, sizeof *s);
    if (!s || !(s->path = strdup(path))) {
        sd_shard_discard(out);
        return sd_err_memory(err, sizeof *s);
    }
    if (open_old(path, &old, err) || sd_archive_writer_open(&s->writer, path, err)) {
        sd_shard_discard(out);
        return -1;
    }
    sd_archive_close(old);
    sd_archive_writer_discard(&s->writer);
    return 0;
}

int sd_shard_add(struct sd_shard *s, const char *name, const void *bytes, size_t len, struct sd_err *err)
{
    if (!s->writer && sd_archive_writer_open(&s->writer, s->path, err))
        return -1;
    int rc = sd_seen_add(&s->names, name, strlen(name), err);
    if (!rc)
        rc = sd_archive_writer_add(s->writer, name, bytes, len, err);
    s->broken |= rc < 0;
    return rc < 0 ? -1 : 0;
}

static int copy_member(struct sd_shard *s, const struct sd_archive *old, size_t i,
                       struct sd_archive_member *m, struct sd_buf *scratch, struct sd_err *err)
{
    const void *bytes;
    if (sd_archive_member(old, i, m, err))
        return sd_err_prefix(err, "%s", s->path);
    int there = m->folder ? 1 : sd_seen_add(&s->names, m->name.data, m->name.len, err);
    if (there)
        return there < 0 ? -1 : 0;
    if (sd_archive_view(old, m, MEMBER_BYTES, scratch, &bytes, err))
        return sd_err_prefix(err, "%s: member \"%.100s\"", s->path, m->name.data);
    return sd_archive_writer_add(s->writer, m->name.data, bytes, (size_t)m->size, err);
}

static int copy_old(struct sd_shard *s, struct sd_err *err)
{
    struct sd_archive *old;
    struct sd_archive_member m = {0};
    struct sd_buf scratch = SD_BUF_INIT;
    int rc = open_old(s->path, &old, err);
    for (size_t i = 0; !rc && old && i < sd_archive_count(old); i++)
        rc = copy_member(s, old, i, &m, &scratch, err);
    sd_buf_free(&m.name);
    sd_buf_free(&scratch);
    sd_archive_close(old);
    return rc;
}

int sd_shard_commit(struct sd_shard **s, struct sd_err *err)
{
    int rc = 0;
    if ((*s)->broken)
        rc = sd_err_set(err, SD_ERR_MACHINE, "%s: could not be written", (*s)->path);
    else if ((*s)->writer)
        rc = copy_old(*s, err) || sd_archive_writer_commit(&(*s)->writer, err) ? -1 : 0;
    sd_shard_discard(s);
    return rc;
}

void sd_shard_discard(struct sd_shard **out)
{
    struct sd_shard *s = *out;
    if (!s)
        return;
    sd_archive_writer_discard(&s->writer);
    sd_seen_free(&s->names);
    free(s->path);
    free(s);
    *out = NULL;
}
