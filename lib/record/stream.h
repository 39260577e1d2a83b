/* A program's stream of records: reading them, working on them in parallel, writing them in order, and the
 * rules for what fails on the way (sd-record(5)):
 *
 *   - a line that is not a JSON object is reported with its number, copied to the report, and sets status 1;
 *   - a record that already carries an error is passed on untouched;
 *   - a record on which the work fails is passed on with "error" set, reported once, and sets the status;
 *   - output keeps the order of the input, and is flushed whenever no input is ready;
 *   - a reader that went away (EPIPE) or a stop flag ends the work quietly, with whole lines written.
 *
 * Filters use sd_stream_each. Programs that collect records before they work (batches) use sd_stream_next,
 * keep the ticket of each, and give the records back with sd_stream_put in any order. Sources use
 * sd_stream_put_next. Nothing here prints or exits: what people should read goes to the report function. */
#ifndef SD_RECORD_STREAM_H
#define SD_RECORD_STREAM_H

#include "record/record.h"
#include "record/spool.h"

#include <signal.h>

struct sd_stream;

struct sd_stream_setup {
    int in, out;      /* file descriptors; in is -1 for a source */
    const char *tool; /* goes into error members */
    int jobs;         /* threads of sd_stream_each; 1 runs everything in the calling thread */
    /* Gets one message without the last newline ("photos/x.png: truncated PNG"); serialised, may be NULL. */
    void (*report)(void *ctx, const char *message, size_t len);
    /* Called now and then with the number of records written, from one thread at a time; may be NULL. */
    void (*progress)(void *ctx, uint64_t done);
    void *ctx;                         /* for these two */
    const volatile sig_atomic_t *stop; /* set by a signal handler: finish and end; may be NULL */
};

/* NULL when memory is out. */
struct sd_stream *sd_stream_open(const struct sd_stream_setup *setup, struct sd_err *err);

/* Flushes and frees. Returns the exit status the whole run calls for: 0, 1 (records failed), 2, 3 (output
 * could not be written, memory), or SD_STREAM_PIPE when the reader of the output went away. */
int sd_stream_close(struct sd_stream *s);
enum { SD_STREAM_PIPE = 141 };

/* ---- filters ---- */

enum { SD_RECORD_KEEP = 0, SD_RECORD_DROP = 1, SD_RECORD_HOLD = 2 };

/* Works on one record. Returns SD_RECORD_KEEP, SD_RECORD_DROP (it is meant to leave the stream),
 * SD_RECORD_HOLD (keep it, but see sd_stream_hold) or -1 with err. worker is 0 .. jobs-1 and never runs twice
 * at once: the index of per-thread state. The message may begin with the record's path or not: the stream
 * adds it where it is missing. */
typedef int sd_record_fn(void *ctx, int worker, struct sd_record *r, struct sd_err *err);

/* Runs fn over all records. 0, or -1 with err when the input could not be read to its end (status noted). */
int sd_stream_each(struct sd_stream *s, sd_record_fn *fn, void *ctx, struct sd_err *err);

/* Shows fn the records that pass because they carry an error, which it must not change; what it returns does
 * not count. To be called before sd_stream_each, whose ctx it gets. */
void sd_stream_show_failed(struct sd_stream *s, sd_record_fn *fn);

/* From the first record on for which fn returns SD_RECORD_HOLD, or from the start, all that is kept goes to
 * the spool, in order, and not to the output: the program gives it back with sd_stream_put_next when it has
 * seen the whole input. The spool is opened when it is needed; its file is NULL before. To be called before
 * sd_stream_each. */
void sd_stream_hold(struct sd_stream *s, struct sd_spool *spool, bool from_start);

/* ---- collecting programs ---- */

/* Reads the next record (a copy that lives on its own) and its place in the order. Malformed lines are
 * handled inside. 1, 0 at the end or when stopped, -1 with err. Records that carry an error come too: give
 * them back as they are. */
int sd_stream_next(struct sd_stream *s, struct sd_record *r, uint64_t *ticket, struct sd_err *err);

/* False when sd_stream_next would have to wait for input: the moment to work on an unfinished batch. */
bool sd_stream_ready(struct sd_stream *s);

/* Gives the record with this ticket to the output, which writes it as soon as all earlier ones are given.
 * Each ticket is given back exactly once; sd_stream_drop does so without a record. Safe from several threads.
 */
void sd_stream_put(struct sd_stream *s, uint64_t ticket, const struct sd_record *r);
void sd_stream_drop(struct sd_stream *s, uint64_t ticket);

/* Marks the record with why->msg, reports it, notes the status. Then put it like any other. */
void sd_stream_fail(struct sd_stream *s, struct sd_record *r, const struct sd_err *why);

/* Keeps the output back, in a nameless temporary file ($TMPDIR or /tmp), for records that name what is not
 * there yet. sd_stream_release gives it out; without it nothing of it ever is. */
int sd_stream_withhold(struct sd_stream *s, struct sd_err *err);
void sd_stream_release(struct sd_stream *s);

/* ---- sources ---- */

void sd_stream_put_next(struct sd_stream *s, const struct sd_record *r); /* the next in order */
void sd_stream_write(struct sd_stream *s, const char *lines, size_t len, uint64_t records);
void sd_stream_flush(struct sd_stream *s);

/* ---- all ---- */

void sd_stream_report(struct sd_stream *s, const char *message);
void sd_stream_status(struct sd_stream *s, int status); /* the exit status is the highest noted */
bool sd_stream_stopped(struct sd_stream *s);            /* by a signal, or because output cannot be written */

#endif
