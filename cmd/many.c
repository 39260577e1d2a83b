#include "many.h"

#include "base/ordered.h"
#include "base/path.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 128, WINDOW = 64 };

struct run {
    struct sd_cmd *cmd;
    const struct cmd_many *many;
    struct cmd_lines chunks[WINDOW];
};

static void work(void *ctx, int worker, size_t item)
{
    struct run *r = ctx;
    size_t end = (item + 1) * CHUNK < r->many->n ? (item + 1) * CHUNK : r->many->n;
    for (size_t i = item * CHUNK; i < end && !cmd_stopped(r->cmd); i++)
        r->many->work(r->many->ctx, worker, i, &r->chunks[item % WINDOW]);
}

static void finish(void *ctx, size_t item)
{
    struct run *r = ctx;
    struct cmd_lines *c = &r->chunks[item % WINDOW];
    for (size_t at = 0; at < c->messages.len; at += strlen(c->messages.data + at) + 1)
        sd_stream_report(r->cmd->stream, c->messages.data + at);
    if (c->lines.len)
        sd_stream_write(r->cmd->stream, c->lines.data, c->lines.len, c->records);
    if (c->aside.len)
        r->many->aside(r->many->ctx, c->aside.data, c->aside.len);
    if (c->status)
        cmd_status(r->cmd, c->status);
    sd_buf_clear(&c->lines);
    sd_buf_clear(&c->messages);
    sd_buf_clear(&c->aside);
    c->records = 0;
    c->status = 0;
}

void cmd_many(struct sd_cmd *c, const struct cmd_many *m)
{
    struct sd_err err = {0};
    struct run *r = calloc(1, sizeof *r);
    if (!r) {
        sd_err_memory(&err, sizeof *r);
        cmd_die(c, &err);
    }
    r->cmd = c;
    r->many = m;
    const struct sd_ordered run = {.n = (m->n + CHUNK - 1) / CHUNK,
                                   .window = WINDOW,
                                   .jobs = c->common.jobs,
                                   .work = work,
                                   .finish = finish,
                                   .ctx = r};
    if (sd_ordered_run(&run, &err))
        cmd_die(c, &err);
    for (int i = 0; i < WINDOW; i++) {
        sd_buf_free(&r->chunks[i].lines);
        sd_buf_free(&r->chunks[i].messages);
        sd_buf_free(&r->chunks[i].aside);
    }
    free(r);
}

void cmd_lines_fail(struct cmd_lines *out, const char *path, const struct sd_err *err)
{
    out->status = err->code > out->status ? err->code : out->status;
    if (sd_path_visible(&out->messages, path, strlen(path)) ||
        sd_buf_addf(&out->messages, ": %s", err->msg) || sd_buf_addc(&out->messages, 0))
        out->status = SD_ERR_MACHINE;
}
