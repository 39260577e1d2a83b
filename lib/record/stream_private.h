/* What stream.c and each.c share. */
#ifndef SD_RECORD_STREAM_PRIVATE_H
#define SD_RECORD_STREAM_PRIVATE_H

#include "base/progress.h" /* sd_clock_ns */
#include "record/stream.h"

#include <pthread.h>

struct sd_stream {
    struct sd_stream_setup setup;

    /* input; used by one thread */
    char *in;
    size_t in_at, in_end, in_cap, in_seen; /* in_seen: up to here there is no newline */
    uint64_t line_no;
    bool in_eof;

    pthread_mutex_t lock; /* for all that follows */
    struct sd_buf out;
    int held;           /* the temporary file that output goes to, or -1 */
    int64_t flushed_at; /* ns */
    uint64_t written;
    int status;
    bool pipe, broken; /* the reader went away; output cannot be written */

    sd_record_fn *show_failed; /* or NULL */
    struct sd_spool *spool;    /* of sd_stream_hold, or NULL */
    bool holding;              /* what is kept goes there */

    /* records given back out of order: slot ticket % pending_cap; next_out is the first not yet written */
    struct sd_pending *pending;
    uint64_t pending_cap, next_out, next_ticket;
};

struct sd_pending {
    bool given;
    struct sd_buf text; /* empty: dropped */
};

/* The next line without its newline, borrowed until the next call; lines of white space are skipped. Flushes
 * the output before it waits for input, by calling before_wait when that is not NULL. 1, 0 at the end or when
 * stopped, -1. */
int sd_stream_line(struct sd_stream *s, const char **line, size_t *len, void (*before_wait)(void *),
                   void *ctx, struct sd_err *err);
bool sd_stream_has_line(struct sd_stream *s); /* a whole line lies in the buffer */

/* With the lock held. */
void sd_stream_flush_locked(struct sd_stream *s);
void sd_stream_append_locked(struct sd_stream *s, const char *lines, size_t len, uint64_t records);
void sd_stream_hold_locked(struct sd_stream *s, const char *lines, size_t len);
void sd_stream_status_locked(struct sd_stream *s, int status);
bool sd_stream_flush_due(struct sd_stream *s); /* long not flushed, or much to write */

/* The messages of the contract, appended to out. */
void sd_stream_describe_bad_line(struct sd_buf *out, uint64_t line_no, const struct sd_err *why,
                                 const char *line, size_t len);
void sd_stream_mark_failed(struct sd_stream *s, struct sd_record *r, const struct sd_err *why,
                           uint64_t line_no, struct sd_buf *message);

#endif
