#include "data/sidecars.h"

#include "base/atomic.h"
#include "base/ordered.h"
#include "base/path.h"
#include "text/sidecar.h"

#include <string.h>

enum { WRITERS = 32 };

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

/* ---- the queue ---- */

static void write_job(void *ctx, int thread, size_t item)
{
    struct sd_sidecars *s = ctx;
    struct sd_sidecar_job *job = &s->jobs[s->done + item];
    (void)thread;
    sd_atomic_put(job->path.data, job->text.data, job->text.len, &job->err);
}

static void count_job(void *ctx, size_t item)
{
    struct sd_sidecars *s = ctx;
    s->written += !s->jobs[s->done + item].err.code;
}

static int write_queue(struct sd_sidecars *s, struct sd_err *err)
{
    const struct sd_ordered run = {.n = s->n - s->done,
                                   .window = SD_SIDECARS_QUEUE,
                                   .jobs = WRITERS,
                                   .work = write_job,
                                   .finish = count_job,
                                   .ctx = s};
    if (run.n && sd_ordered_run(&run, err))
        return -1;
    s->done = s->n;
    return 0;
}

static int queue(struct sd_sidecars *s, size_t owner, struct sd_err *err)
{
    struct sd_sidecar_job *job = &s->jobs[s->n];
    sd_buf_clear(&job->path);
    sd_buf_clear(&job->text);
    if (sd_buf_adds(&job->path, s->path.data) || sd_buf_add(&job->text, s->text.data, s->text.len))
        return sd_err_memory(err, s->text.len);
    job->owner = owner;
    job->err = (struct sd_err){0};
    s->n++;
    return 0;
}

int sd_sidecars_add(struct sd_sidecars *s, struct sd_metadata *m, struct sd_record *r, enum sd_text_kind kind,
                    const char *picture, const char *ending, size_t owner, struct sd_err *err)
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
    if (other < 0 || (other && write_queue(s, err))) /* its file must be there to be compared with */
        return -1;
    int write = decide(s, m, kind, picture, ending, other, err);
    s->unchanged += write == 0;
    return write == 1 ? queue(s, owner, err) : write;
}

int sd_sidecars_flush(struct sd_sidecars *s, void (*fail)(void *ctx, size_t owner, const struct sd_err *err),
                      void *ctx, struct sd_err *err)
{
    if (write_queue(s, err))
        return -1;
    for (size_t i = 0; i < s->n; i++)
        if (s->jobs[i].err.code)
            fail(ctx, s->jobs[i].owner, &s->jobs[i].err);
    s->n = s->done = 0;
    return 0;
}

void sd_sidecars_free(struct sd_sidecars *s)
{
    for (size_t i = 0; i < SD_SIDECARS_QUEUE; i++) {
        sd_buf_free(&s->jobs[i].path);
        sd_buf_free(&s->jobs[i].text);
    }
    sd_seen_free(&s->seen);
    sd_buf_free(&s->path);
    sd_buf_free(&s->text);
    sd_buf_free(&s->old);
    sd_strings_free(&s->parts);
}
