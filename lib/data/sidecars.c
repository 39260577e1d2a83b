#include "data/sidecars.h"

#include "base/atomic.h"
#include "base/path.h"
#include "text/sidecar.h"

#include <string.h>

/* Whether the file's text, in s->old, has the parts m->parts. -1 when memory is out. */
static int says_the_same(struct sd_sidecars *s, const struct sd_metadata *m, enum sd_text_kind kind)
{
    s->parts.n = 0;
    if (sd_text_split(s->old.data, s->old.len, kind == SD_TEXT_TAGS ? ",\r\n" : "\r\n", &s->parts))
        return -1;
    bool same = s->parts.n == m->parts.n;
    for (size_t i = 0; i < s->parts.n && same; i++)
        same = !strcmp(s->parts.v[i], m->parts.v[i]);
    return same;
}

/* 1: write the file; 0: it stays as it is; -1. other: a picture before this one has the same file. */
static int decide(struct sd_sidecars *s, struct sd_metadata *m, enum sd_text_kind kind, const char *picture,
                  const char *ending, bool other, struct sd_err *err)
{
    struct sd_err why = {0};
    int there = sd_sidecar_read(picture, ending, &s->path, &s->old, &why);
    if (!there)
        return 1;
    int same = there == 1 ? says_the_same(s, m, kind) : 0;
    if (same < 0)
        return sd_err_memory(err, s->old.len);
    if (same)
        return 0;
    if (other)
        return sd_err_set(err, SD_ERR_DATA, "%s: another picture of this name has another text",
                          s->path.data);
    if (s->overwrite)
        return 1;
    if (there < 0) {
        *err = why;
        return -1;
    }
    return sd_err_set(err, SD_ERR_DATA, "%s: is there with another text", s->path.data);
}

int sd_sidecars_write(struct sd_sidecars *s, struct sd_metadata *m, struct sd_record *r,
                      enum sd_text_kind kind, const char *picture, const char *ending, struct sd_err *err)
{
    sd_buf_clear(&s->text);
    sd_buf_clear(&s->path);
    int got = sd_metadata_file_text(m, r, kind, &s->text, err);
    if (got < 1)
        return got;
    if (sd_path_sidecar(&s->path, picture, ending))
        return sd_err_memory(err, strlen(picture));
    if (!strcmp(s->path.data, picture))
        return sd_err_set(err, SD_ERR_DATA, "the text would take the picture's place");
    int other = sd_seen_add(&s->seen, s->path.data, s->path.len, err);
    int write = other < 0 ? -1 : decide(s, m, kind, picture, ending, other, err);
    if (write == 1 && sd_atomic_put(s->path.data, s->text.data, s->text.len, err))
        return -1;
    s->written += write == 1;
    s->unchanged += write == 0;
    return write < 0 ? -1 : 0;
}

void sd_sidecars_free(struct sd_sidecars *s)
{
    sd_seen_free(&s->seen);
    sd_buf_free(&s->path);
    sd_buf_free(&s->text);
    sd_buf_free(&s->old);
    sd_strings_free(&s->parts);
}
