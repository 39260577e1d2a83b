/* What every program shares: options, the stream on standard input and output, messages, signals, exit
 * status.
 *
 *     int main(int argc, char **argv)
 *     {
 *         struct mine o = {...};
 *         const struct sd_option options[] = {..., SD_OPT_END};
 *         struct sd_cmd c = {.program = {.name = "sd-x", .args = "", .summary = "...", .options = options}};
 *         cmd_start(&c, &argc, argv);      // --help, --version, wrong usage: exits
 *         cmd_each(&c, fn, &o);            // or cmd_next and cmd_put; cmd_put_next for sources
 *         return cmd_finish(&c);
 *     }
 */
#ifndef CMD_H
#define CMD_H

#include "base/options.h"
#include "base/progress.h"
#include "record/stream.h"

#define SD_VERSION "0.1.0"

struct sd_cmd {
    struct sd_program program;
    struct sd_common common; /* filled by cmd_start */
    bool source;             /* reads no records: does not take a terminal on standard input for a mistake */
    bool own_progress;       /* calls cmd_progress itself, with its own counts */
    uint64_t total;          /* how many records or steps will come, for the progress bar; 0 when unknown */
    struct sd_stream *stream;
    struct sd_progress progress; /* private, like the rest */
    bool wants_bar, bar_shown;
};

/* Parses the options (exits 0 after --help and --version, 2 on wrong usage, or when a filter was started on a
 * terminal with no arguments), installs the signal handlers and opens the stream. */
void cmd_start(struct sd_cmd *c, int *argc, char **argv);

/* "sd-x: message" on standard error. cmd_say is silent under -q; cmd_warn is not. */
void cmd_say(const struct sd_cmd *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cmd_warn(const struct sd_cmd *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The message and out, with the status the error calls for. For what cannot go on at all. */
_Noreturn void cmd_die(struct sd_cmd *c, const struct sd_err *err);
_Noreturn void cmd_usage(const struct sd_cmd *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Makes the folder where it is missing. Ends the program when that cannot be. */
void cmd_folder(struct sd_cmd *c, const char *path);

/* Redraws the progress bar when it is wanted and due; extra (may be NULL) is put behind the counts. */
void cmd_progress(struct sd_cmd *c, uint64_t done, const char *extra);

/* sd_stream_* on the program's stream; failures of the stream itself are noted for cmd_finish. */
void cmd_each(struct sd_cmd *c, sd_record_fn *fn, void *ctx);
bool cmd_next(struct sd_cmd *c, struct sd_record *r,
              uint64_t *ticket); /* false at the end, or when stopped */
void cmd_put(struct sd_cmd *c, uint64_t ticket, const struct sd_record *r);
void cmd_put_next(struct sd_cmd *c, const struct sd_record *r);
void cmd_fail(struct sd_cmd *c, struct sd_record *r, const struct sd_err *why); /* then put it */
void cmd_drop(struct sd_cmd *c, uint64_t ticket);
bool cmd_stopped(const struct sd_cmd *c); /* a signal came, or nobody reads the output any more */
void cmd_status(struct sd_cmd *c, int status);

/* Flushes, checks that everything could be written, and returns the exit status. A program stopped by a
 * signal dies by that signal here. */
int cmd_finish(struct sd_cmd *c);

#endif
