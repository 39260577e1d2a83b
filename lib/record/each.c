/* sd_stream_each: the input is cut into batches of lines, threads work on them, and whoever finishes the
 * oldest one writes it and all finished ones behind it. With one job everything happens in the calling
 * thread. */
#include "record/stream_private.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_LINES = 256, /* at most */
    BATCH_BYTES = 64 * 1024,
    QUICK_NS = 500 * 1000, /* a batch done faster may be larger, so that locking costs nothing */
    SLOW_NS = 2 * 1000 * 1000,
};

#define NOT_HELD SIZE_MAX

struct batch {
    struct sd_buf in, out, messages; /* messages: a size_t length before each */
    uint64_t first_line, records;
    uint64_t *line_no; /* of each line */
    size_t lines;
    size_t hold_at;    /* of out: from here on it is held back; NOT_HELD: nothing is */
    uint64_t released; /* records before that */
    int status;
    bool done;
};

struct pool {
    struct sd_stream *s;
    sd_record_fn *fn;
    void *ctx;
    pthread_mutex_t lock;
    pthread_cond_t work, room;
    struct batch *batches; /* a ring: written < head <= taken <= filled */
    uint64_t size, head, taken, filled;
    size_t limit;               /* lines a batch, adapted to how long they take */
    bool end, writing, waiting; /* no more input; a thread writes; the reader waits for input */
};

struct worker {
    struct pool *pool;
    int index;
    pthread_t thread;
};

static void add_message(struct batch *b, const struct sd_buf *message)
{
    if (!sd_buf_add(&b->messages, &message->len, sizeof message->len))
        sd_buf_add(&b->messages, message->data, message->len);
}

static void note(struct batch *b, int status)
{
    if (status > b->status)
        b->status = status;
}

static void work_on_line(struct pool *p, int worker, struct batch *b, struct sd_record *r, const char *line,
                         size_t len, uint64_t line_no)
{
    struct sd_err why = {0};
    struct sd_buf message = SD_BUF_INIT;
    int result = SD_RECORD_KEEP;
    if (sd_record_parse(r, line, len, &why)) {
        sd_stream_describe_bad_line(&message, line_no, &why, line, len);
        note(b, why.code);
        result = SD_RECORD_DROP;
    } else if (!sd_record_failed(r)) {
        result = p->fn(p->ctx, worker, r, &why);
        if (result < 0) {
            sd_stream_mark_failed(p->s, r, &why, line_no, &message);
            note(b, why.code ? why.code : SD_ERR_DATA);
        }
    } else if (p->s->show_failed) {
        p->s->show_failed(p->ctx, worker, r, &why);
    }
    if (message.len)
        add_message(b, &message);
    sd_buf_free(&message);
    if (result == SD_RECORD_DROP)
        return;
    if (result == SD_RECORD_HOLD && b->hold_at == NOT_HELD && p->s->spool) {
        b->hold_at = b->out.len;
        b->released = b->records;
    }
    b->records++;
    if (sd_record_write(r, &b->out) || sd_buf_addc(&b->out, '\n'))
        note(b, SD_ERR_MACHINE);
}

static void work_on_batch(struct pool *p, int worker, struct batch *b, struct sd_record *r)
{
    const char *at = b->in.data, *end = at + b->in.len;
    for (size_t i = 0; i < b->lines; i++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        work_on_line(p, worker, b, r, at, (size_t)(newline - at), b->line_no[i]);
        at = newline + 1;
    }
}

/* Gives a finished batch to the stream and empties it. */
static void write_batch(struct sd_stream *s, struct batch *b)
{
    pthread_mutex_lock(&s->lock);
    for (size_t at = 0; at < b->messages.len;) {
        size_t len;
        memcpy(&len, b->messages.data + at, sizeof len);
        at += sizeof len;
        if (s->setup.report)
            s->setup.report(s->setup.ctx, b->messages.data + at, len);
        at += len;
    }
    if (s->holding) {
        b->hold_at = 0;
        b->released = 0;
    }
    size_t now = b->hold_at < b->out.len ? b->hold_at : b->out.len;
    sd_stream_append_locked(s, b->out.data, now, b->hold_at == NOT_HELD ? b->records : b->released);
    if (now < b->out.len)
        sd_stream_hold_locked(s, b->out.data + now, b->out.len - now);
    sd_stream_status_locked(s, b->status);
    if (sd_stream_flush_due(s))
        sd_stream_flush_locked(s);
    pthread_mutex_unlock(&s->lock);
    sd_buf_clear(&b->in);
    sd_buf_clear(&b->out);
    sd_buf_clear(&b->messages);
    b->lines = 0;
    b->records = 0;
    b->hold_at = NOT_HELD;
    b->status = 0;
    b->done = false;
}

/* Writes finished batches from the oldest on. Called and left with the pool's lock held, released on the way.
 */
static void write_finished(struct pool *p)
{
    if (p->writing)
        return;
    p->writing = true;
    bool flushed = false;
    for (;;) {
        struct batch *b = &p->batches[p->head % p->size];
        if (p->head < p->taken && b->done) {
            pthread_mutex_unlock(&p->lock);
            write_batch(p->s, b);
            pthread_mutex_lock(&p->lock);
            p->head++;
            flushed = false;
            pthread_cond_signal(&p->room);
        } else if (p->waiting && !flushed) {
            pthread_mutex_unlock(&p->lock);
            sd_stream_flush(p->s);
            pthread_mutex_lock(&p->lock);
            flushed = true;
        } else {
            break;
        }
    }
    p->writing = false;
}

static void adapt(struct pool *p, size_t lines, int64_t ns)
{
    if (ns > SLOW_NS && p->limit > 1)
        p->limit /= 2;
    else if (ns < QUICK_NS && lines >= p->limit && p->limit < BATCH_LINES)
        p->limit *= 2;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    struct sd_record r = SD_RECORD_INIT;
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->taken == p->filled && !p->end)
            pthread_cond_wait(&p->work, &p->lock);
        if (p->taken == p->filled)
            break;
        struct batch *b = &p->batches[p->taken++ % p->size];
        pthread_mutex_unlock(&p->lock);
        int64_t start = sd_clock_ns();
        work_on_batch(p, w->index, b, &r);
        int64_t took = sd_clock_ns() - start;
        pthread_mutex_lock(&p->lock);
        adapt(p, b->lines, took);
        b->done = true;
        write_finished(p);
    }
    pthread_mutex_unlock(&p->lock);
    sd_record_free(&r);
    return NULL;
}

/* The reader has nothing to read: what is finished must not wait in the buffer. */
static void reader_waits(void *ctx)
{
    struct pool *p = ctx;
    pthread_mutex_lock(&p->lock);
    p->waiting = true;
    write_finished(p);
    pthread_mutex_unlock(&p->lock);
}

/* Fills b with one line, and with more as long as they are there without waiting. 1, 0 at the end, -1. */
static int fill_batch(struct pool *p, struct batch *b, size_t limit, struct sd_err *err)
{
    int got = 1;
    while (b->lines < limit && b->in.len < BATCH_BYTES && (b->lines == 0 || sd_stream_has_line(p->s))) {
        const char *line;
        size_t len;
        got = sd_stream_line(p->s, &line, &len, reader_waits, p, err);
        if (got <= 0)
            break;
        if (sd_buf_add(&b->in, line, len) || sd_buf_addc(&b->in, '\n'))
            return sd_err_memory(err, len);
        b->line_no[b->lines++] = p->s->line_no;
    }
    return got;
}

static int read_all(struct pool *p, struct sd_err *err)
{
    int got = 1;
    while (got == 1) {
        pthread_mutex_lock(&p->lock);
        p->waiting = false;
        while (p->filled - p->head == p->size)
            pthread_cond_wait(&p->room, &p->lock);
        struct batch *b = &p->batches[p->filled % p->size];
        size_t limit = p->limit;
        pthread_mutex_unlock(&p->lock);
        if (sd_stream_stopped(p->s))
            return 0;
        got = fill_batch(p, b, limit, err);
        if (b->lines) {
            pthread_mutex_lock(&p->lock);
            p->filled++;
            p->waiting = false;
            pthread_cond_signal(&p->work);
            pthread_mutex_unlock(&p->lock);
        }
    }
    return got;
}

/* One job: the reader works on each batch itself. */
static int read_and_work(struct pool *p, struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    struct batch *b = &p->batches[0];
    int got = 1;
    while (got == 1 && !sd_stream_stopped(p->s)) {
        got = fill_batch(p, b, p->limit, err);
        int64_t start = sd_clock_ns();
        work_on_batch(p, 0, b, &r);
        adapt(p, b->lines, sd_clock_ns() - start);
        write_batch(p->s, b);
    }
    sd_record_free(&r);
    return got < 0 ? -1 : 0;
}

static int run_workers(struct pool *p, int jobs, struct sd_err *err)
{
    struct worker *workers = calloc((size_t)jobs, sizeof *workers);
    if (!workers)
        return sd_err_memory(err, (size_t)jobs * sizeof *workers);
    int started = 0, bad = 0;
    for (; started < jobs; started++) {
        workers[started] = (struct worker){.pool = p, .index = started};
        if (pthread_create(&workers[started].thread, NULL, work, &workers[started]))
            break;
    }
    bad = started ? read_all(p, err) : sd_err_set(err, SD_ERR_MACHINE, "cannot start a thread");
    pthread_mutex_lock(&p->lock);
    p->end = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < started; i++)
        pthread_join(workers[i].thread, NULL);
    free(workers);
    return bad;
}

static void free_batches(struct pool *p)
{
    for (uint64_t i = 0; p->batches && i < p->size; i++) {
        sd_buf_free(&p->batches[i].in);
        sd_buf_free(&p->batches[i].out);
        sd_buf_free(&p->batches[i].messages);
        free(p->batches[i].line_no);
    }
    free(p->batches);
}

int sd_stream_each(struct sd_stream *s, sd_record_fn *fn, void *ctx, struct sd_err *err)
{
    int jobs = s->setup.jobs > 1 ? s->setup.jobs : 1;
    struct pool p = {.s = s, .fn = fn, .ctx = ctx, .limit = 1, .size = jobs > 1 ? 4 * (uint64_t)jobs : 1};
    int bad = 0;
    p.batches = calloc(p.size, sizeof *p.batches);
    for (uint64_t i = 0; p.batches && i < p.size && !bad; i++) {
        p.batches[i].hold_at = NOT_HELD;
        bad |= !(p.batches[i].line_no = malloc(BATCH_LINES * sizeof(uint64_t)));
    }
    if (!p.batches || bad) {
        free_batches(&p);
        sd_stream_status(s, SD_ERR_MACHINE);
        return sd_err_memory(err, p.size * sizeof *p.batches);
    }
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.work, NULL);
    pthread_cond_init(&p.room, NULL);
    bad = jobs > 1 ? run_workers(&p, jobs, err) : read_and_work(&p, err);
    pthread_cond_destroy(&p.room);
    pthread_cond_destroy(&p.work);
    pthread_mutex_destroy(&p.lock);
    free_batches(&p);
    if (bad)
        sd_stream_status(s, err && err->code ? err->code : SD_ERR_MACHINE);
    return bad ? -1 : 0;
}
