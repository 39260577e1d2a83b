#include "record/stream_private.h"

#include "base/path.h"
#include "base/temp.h"
#include "record/spool.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    READ_BYTES = 256 * 1024,
    WRITE_BYTES = 64 * 1024, /* what a pipe takes at once */
    FLUSH_NS = 20 * 1000 * 1000,
    WAIT_MS = 200, /* how long a stop flag set in another thread may go unseen */
};

struct sd_stream *sd_stream_open(const struct sd_stream_setup *setup, struct sd_err *err)
{
    struct sd_stream *s = calloc(1, sizeof *s);
    if (!s) {
        sd_err_memory(err, sizeof *s);
        return NULL;
    }
    s->setup = *setup;
    s->held = -1;
    pthread_mutex_init(&s->lock, NULL);
    s->flushed_at = sd_clock_ns();
    return s;
}

int sd_stream_close(struct sd_stream *s)
{
    if (!s)
        return 0;
    sd_stream_flush(s);
    int status = s->pipe ? SD_STREAM_PIPE : s->status;
    for (uint64_t i = 0; i < s->pending_cap; i++)
        sd_buf_free(&s->pending[i].text);
    free(s->pending);
    sd_buf_free(&s->out);
    free(s->in);
    if (s->held >= 0)
        close(s->held);
    pthread_mutex_destroy(&s->lock);
    free(s);
    return status;
}

/* ---- messages and status ---- */

void sd_stream_status_locked(struct sd_stream *s, int status)
{
    if (status > s->status)
        s->status = status;
}

void sd_stream_status(struct sd_stream *s, int status)
{
    pthread_mutex_lock(&s->lock);
    sd_stream_status_locked(s, status);
    pthread_mutex_unlock(&s->lock);
}

bool sd_stream_stopped(struct sd_stream *s)
{
    if (s->setup.stop && *s->setup.stop)
        return true;
    pthread_mutex_lock(&s->lock);
    bool broken = s->broken;
    pthread_mutex_unlock(&s->lock);
    return broken;
}

void sd_stream_report(struct sd_stream *s, const char *message)
{
    if (!s->setup.report)
        return;
    pthread_mutex_lock(&s->lock);
    s->setup.report(s->setup.ctx, message, strlen(message));
    pthread_mutex_unlock(&s->lock);
}

void sd_stream_describe_bad_line(struct sd_buf *out, uint64_t line_no, const struct sd_err *why,
                                 const char *line, size_t len)
{
    sd_buf_addf(out, "line %llu: %s\n", (unsigned long long)line_no, why->msg);
    sd_buf_add(out, line, len);
}

void sd_stream_mark_failed(struct sd_stream *s, struct sd_record *r, const struct sd_err *why,
                           uint64_t line_no, struct sd_buf *message)
{
    const char *path = NULL, *msg = why->msg;
    size_t path_len = 0;
    if (sd_record_string(r, "path", &path, &path_len, NULL) == 1 && !strncmp(msg, path, path_len) &&
        !strncmp(msg + path_len, ": ", 2))
        msg += path_len + 2;
    if (sd_record_set_error(r, s->setup.tool, msg))
        sd_stream_status(s, SD_ERR_MACHINE);
    if (path)
        sd_path_visible(message, path, path_len);
    else if (line_no)
        sd_buf_addf(message, "line %llu", (unsigned long long)line_no);
    else
        sd_buf_adds(message, "a record without a path");
    sd_buf_adds(message, ": ");
    sd_path_visible(message, msg, strlen(msg));
}

void sd_stream_fail(struct sd_stream *s, struct sd_record *r, const struct sd_err *why)
{
    struct sd_buf message = SD_BUF_INIT;
    sd_stream_mark_failed(s, r, why, 0, &message);
    if (message.data)
        sd_stream_report(s, message.data);
    sd_buf_free(&message);
    sd_stream_status(s, why->code ? why->code : SD_ERR_DATA);
}

/* ---- output ---- */

/* Remembers why output ends; everything after it is thrown away. */
static void output_failed(struct sd_stream *s)
{
    struct sd_err err;
    s->broken = true;
    if (errno == EPIPE) {
        s->pipe = true;
        return;
    }
    sd_err_errno(&err, s->held >= 0 ? "a temporary file" : "standard output");
    sd_stream_status_locked(s, SD_ERR_MACHINE);
    if (s->setup.report)
        s->setup.report(s->setup.ctx, err.msg, strlen(err.msg));
}

static void write_out(struct sd_stream *s, const char *p, size_t left)
{
    int to = s->held >= 0 ? s->held : s->setup.out;
    while (left && !s->broken) {
        ssize_t n = write(to, p, left);
        if (n >= 0) {
            p += n;
            left -= (size_t)n;
        } else if (errno == EAGAIN) {
            struct pollfd fd = {.fd = to, .events = POLLOUT};
            poll(&fd, 1, -1);
        } else if (errno != EINTR) {
            output_failed(s);
        }
    }
}

void sd_stream_flush_locked(struct sd_stream *s)
{
    write_out(s, s->out.data, s->out.len);
    sd_buf_clear(&s->out);
    s->flushed_at = sd_clock_ns();
}

int sd_stream_withhold(struct sd_stream *s, struct sd_err *err)
{
    int fd = sd_temp_open(err);
    if (fd < 0)
        return -1;
    sd_stream_flush(s);
    s->held = fd;
    return 0;
}

void sd_stream_release(struct sd_stream *s)
{
    char block[32768];
    sd_stream_flush(s);
    pthread_mutex_lock(&s->lock);
    int held = s->held;
    ssize_t n = lseek(held, 0, SEEK_SET) ? -1 : 1;
    s->held = -1;
    while (n > 0 && !s->broken) {
        n = read(held, block, sizeof block);
        write_out(s, block, n > 0 ? (size_t)n : 0);
    }
    if (n < 0)
        output_failed(s);
    pthread_mutex_unlock(&s->lock);
    close(held);
}

bool sd_stream_flush_due(struct sd_stream *s)
{
    return s->out.len >= WRITE_BYTES || (s->out.len && sd_clock_ns() - s->flushed_at > FLUSH_NS);
}

void sd_stream_append_locked(struct sd_stream *s, const char *lines, size_t len, uint64_t records)
{
    s->written += records;
    if (!s->broken && sd_buf_add(&s->out, lines, len)) {
        s->broken = true;
        sd_stream_status_locked(s, SD_ERR_MACHINE);
        if (s->setup.report)
            s->setup.report(s->setup.ctx, "out of memory", 13);
    }
    if (s->setup.progress)
        s->setup.progress(s->setup.ctx, s->written);
}

void sd_stream_show_failed(struct sd_stream *s, sd_record_fn *fn)
{
    s->show_failed = fn;
}

void sd_stream_hold(struct sd_stream *s, struct sd_spool *spool, bool from_start)
{
    s->spool = spool;
    s->holding = from_start;
}

void sd_stream_hold_locked(struct sd_stream *s, const char *lines, size_t len)
{
    struct sd_err err = {0};
    s->holding = true;
    if (s->broken || ((s->spool->file || !sd_spool_open(s->spool, &err)) &&
                      !sd_spool_add_lines(s->spool, lines, len, &err)))
        return;
    s->broken = true;
    sd_stream_status_locked(s, SD_ERR_MACHINE);
    if (s->setup.report)
        s->setup.report(s->setup.ctx, err.msg, strlen(err.msg));
}

void sd_stream_write(struct sd_stream *s, const char *lines, size_t len, uint64_t records)
{
    pthread_mutex_lock(&s->lock);
    sd_stream_append_locked(s, lines, len, records);
    if (sd_stream_flush_due(s))
        sd_stream_flush_locked(s);
    pthread_mutex_unlock(&s->lock);
}

void sd_stream_flush(struct sd_stream *s)
{
    pthread_mutex_lock(&s->lock);
    sd_stream_flush_locked(s);
    pthread_mutex_unlock(&s->lock);
}

static int write_record(const struct sd_record *r, struct sd_buf *text)
{
    return sd_record_write(r, text) || sd_buf_addc(text, '\n') ? -1 : 0;
}

void sd_stream_put_next(struct sd_stream *s, const struct sd_record *r)
{
    struct sd_buf text = SD_BUF_INIT;
    if (write_record(r, &text))
        sd_stream_status(s, SD_ERR_MACHINE);
    else
        sd_stream_write(s, text.data, text.len, 1);
    sd_buf_free(&text);
}

/* Writes what is given from next_out on without a gap. */
static void drain_locked(struct sd_stream *s)
{
    while (s->next_out < s->next_ticket) {
        struct sd_pending *p = &s->pending[s->next_out % s->pending_cap];
        if (!p->given)
            break;
        if (p->text.len)
            sd_stream_append_locked(s, p->text.data, p->text.len, 1);
        sd_buf_free(&p->text);
        p->given = false;
        s->next_out++;
    }
    if (sd_stream_flush_due(s))
        sd_stream_flush_locked(s);
}

static void give(struct sd_stream *s, uint64_t ticket, struct sd_buf text)
{
    pthread_mutex_lock(&s->lock);
    struct sd_pending *p = &s->pending[ticket % s->pending_cap];
    p->given = true;
    p->text = text;
    if (ticket == s->next_out)
        drain_locked(s);
    pthread_mutex_unlock(&s->lock);
}

void sd_stream_put(struct sd_stream *s, uint64_t ticket, const struct sd_record *r)
{
    struct sd_buf text = SD_BUF_INIT;
    if (write_record(r, &text)) {
        sd_stream_report(s, "out of memory");
        sd_stream_status(s, SD_ERR_MACHINE);
    }
    give(s, ticket, text);
}

void sd_stream_drop(struct sd_stream *s, uint64_t ticket)
{
    give(s, ticket, SD_BUF_INIT);
}

/* ---- input ---- */

bool sd_stream_has_line(struct sd_stream *s)
{
    if (s->in_eof)
        return s->in_at < s->in_end;
    const char *newline =
        s->in_seen < s->in_end ? memchr(s->in + s->in_seen, '\n', s->in_end - s->in_seen) : NULL;
    if (!newline)
        s->in_seen = s->in_end;
    else
        s->in_seen = (size_t)(newline - s->in);
    return newline != NULL;
}

static bool input_ready(struct sd_stream *s, int timeout_ms)
{
    struct pollfd fd = {.fd = s->setup.in, .events = POLLIN};
    return poll(&fd, 1, timeout_ms) > 0;
}

/* Moves what is unread to the front and makes room for more. */
static int make_room(struct sd_stream *s, struct sd_err *err)
{
    size_t left = s->in_end - s->in_at;
    if (s->in_at) {
        memmove(s->in, s->in + s->in_at, left);
        s->in_seen -= s->in_at;
        s->in_at = 0;
        s->in_end = left;
    }
    if (s->in_cap - s->in_end >= READ_BYTES / 2)
        return 0;
    size_t cap = s->in_cap ? 2 * s->in_cap : READ_BYTES;
    char *in = realloc(s->in, cap);
    if (!in)
        return sd_err_memory(err, cap);
    s->in = in;
    s->in_cap = cap;
    return 0;
}

/* Reads more input; waits for it if need be. 1, 0 when stopped, -1. */
static int fill(struct sd_stream *s, void (*before_wait)(void *), void *ctx, struct sd_err *err)
{
    if (make_room(s, err))
        return -1;
    if (!input_ready(s, 0)) {
        if (before_wait)
            before_wait(ctx);
        else
            sd_stream_flush(s);
        while (!sd_stream_stopped(s) && !input_ready(s, WAIT_MS))
            ;
    }
    if (sd_stream_stopped(s))
        return 0;
    ssize_t n = read(s->setup.in, s->in + s->in_end, s->in_cap - s->in_end);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 1;
    if (n < 0)
        return sd_err_errno(err, "standard input");
    s->in_end += (size_t)n;
    s->in_eof = n == 0;
    return 1;
}

static bool blank(const char *p, size_t len)
{
    while (len && (*p == ' ' || *p == '\t' || *p == '\r'))
        p++, len--;
    return len == 0;
}

int sd_stream_line(struct sd_stream *s, const char **line, size_t *len, void (*before_wait)(void *),
                   void *ctx, struct sd_err *err)
{
    for (;;) {
        while (!sd_stream_has_line(s)) {
            if (s->in_eof)
                return 0;
            int more = fill(s, before_wait, ctx, err);
            if (more < 0)
                sd_stream_status(s, err && err->code > 1 ? err->code : SD_ERR_USAGE);
            if (more <= 0)
                return more;
        }
        const char *start = s->in + s->in_at;
        const char *newline = s->in_eof ? memchr(start, '\n', s->in_end - s->in_at) : s->in + s->in_seen;
        const char *end = newline ? newline : s->in + s->in_end;
        s->in_at = (size_t)(end - s->in) + (newline != NULL);
        s->in_seen = s->in_at;
        s->line_no++;
        if (s->line_no == 1 && end - start >= 3 && !memcmp(start, "\xef\xbb\xbf", 3))
            start += 3; /* a byte order mark */
        *line = start;
        *len = (size_t)(end - start);
        if (!blank(*line, *len))
            return 1;
    }
}

bool sd_stream_ready(struct sd_stream *s)
{
    return sd_stream_has_line(s) || s->in_eof || input_ready(s, 0);
}

static int new_ticket(struct sd_stream *s, uint64_t *ticket)
{
    int bad = 0;
    pthread_mutex_lock(&s->lock);
    if (s->next_ticket - s->next_out == s->pending_cap) {
        uint64_t cap = s->pending_cap ? 2 * s->pending_cap : 64;
        struct sd_pending *p = calloc(cap, sizeof *p);
        for (uint64_t t = s->next_out; p && t < s->next_ticket; t++)
            p[t % cap] = s->pending[t % s->pending_cap];
        bad = !p;
        if (p) {
            free(s->pending);
            s->pending = p;
            s->pending_cap = cap;
        }
    }
    if (!bad)
        *ticket = s->next_ticket++;
    pthread_mutex_unlock(&s->lock);
    return bad;
}

int sd_stream_next(struct sd_stream *s, struct sd_record *r, uint64_t *ticket, struct sd_err *err)
{
    const char *line;
    size_t len;
    int got;
    struct sd_err why = {0};
    if (sd_stream_stopped(s))
        return 0;
    while ((got = sd_stream_line(s, &line, &len, NULL, NULL, err)) == 1) {
        if (sd_record_parse_copy(r, line, len, &why) == 0) {
            if (!new_ticket(s, ticket))
                return 1;
            sd_err_memory(&why, sizeof(struct sd_pending));
        }
        if (why.code == SD_ERR_MACHINE) {
            *err = why;
            sd_stream_status(s, why.code);
            return -1;
        }
        struct sd_buf message = SD_BUF_INIT;
        sd_stream_describe_bad_line(&message, s->line_no, &why, line, len);
        if (message.data && s->setup.report) {
            pthread_mutex_lock(&s->lock);
            s->setup.report(s->setup.ctx, message.data, message.len);
            pthread_mutex_unlock(&s->lock);
        }
        sd_buf_free(&message);
        sd_stream_status(s, SD_ERR_DATA);
    }
    return got;
}
