#define _GNU_SOURCE
#include "cmd.h"

#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal; /* the signal that asked us to end */

static void on_signal(int sig)
{
    stop_signal = sig;
}

/* A second signal of the same kind kills at once. What the parent told us to ignore (nohup) stays ignored. */
static void catch_signal(int sig)
{
    struct sigaction old, new = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    if (!sigaction(sig, NULL, &old) && old.sa_handler != SIG_IGN)
        sigaction(sig, &new, NULL);
}

/* Files must not land on the numbers of standard streams that were closed. */
static void fill_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

/* ---- messages ---- */

static void hide_bar(const struct sd_cmd *c)
{
    if (c->bar_shown)
        fputs("\r\033[K", stderr);
}

static void print_message(const struct sd_cmd *c, const char *fmt, va_list ap)
{
    struct sd_buf text = SD_BUF_INIT;
    char *message = NULL;
    int len = vasprintf(&message, fmt, ap);
    /* Names from outside may hold control characters, which a terminal must not get. */
    if (len < 0 || sd_path_visible(&text, message, (size_t)len))
        sd_buf_clear(&text);
    flockfile(stderr);
    hide_bar(c);
    fprintf(stderr, "%s: %s\n", c->program.name, text.data ? text.data : "out of memory");
    funlockfile(stderr);
    sd_buf_free(&text);
    free(len < 0 ? NULL : message);
}

void cmd_say(const struct sd_cmd *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!c->common.quiet)
        print_message(c, fmt, ap);
    va_end(ap);
}

void cmd_warn(const struct sd_cmd *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_message(c, fmt, ap);
    va_end(ap);
}

void cmd_die(struct sd_cmd *c, const struct sd_err *err)
{
    if (c->stream)
        sd_stream_close(c->stream);
    cmd_warn(c, "%s", err->msg);
    exit(err->code ? err->code : SD_ERR_DATA);
}

void cmd_usage(const struct sd_cmd *c, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    print_message(c, fmt, ap);
    va_end(ap);
    fprintf(stderr, "Try '%s --help'.\n", c->program.name);
    exit(SD_ERR_USAGE);
}

void cmd_folder(struct sd_cmd *c, const char *path)
{
    struct sd_err err = {0};
    struct stat st;
    if (!mkdir(path, 0777) || (errno == EEXIST && !stat(path, &st) && S_ISDIR(st.st_mode)))
        return;
    if (errno == EEXIST)
        errno = ENOTDIR;
    sd_err_errno(&err, path);
    cmd_die(c, &err);
}

/* From the stream: the message may hold a copied input line with any bytes. */
static void report(void *ctx, const char *message, size_t len)
{
    struct sd_cmd *c = ctx;
    flockfile(stderr);
    hide_bar(c);
    fprintf(stderr, "%s: ", c->program.name);
    fwrite(message, 1, len, stderr);
    putc('\n', stderr);
    funlockfile(stderr);
}

/* ---- progress ---- */

/* In a pipeline only the last program shows a bar, and none where records go to the same terminal. */
static bool wants_bar(const struct sd_common *common)
{
    struct stat out;
    if (common->progress != SD_PROGRESS_AUTO)
        return common->progress == SD_PROGRESS_ALWAYS;
    return !common->quiet && isatty(2) && !isatty(1) && !fstat(1, &out) && !S_ISFIFO(out.st_mode);
}

void cmd_progress(struct sd_cmd *c, uint64_t done, const char *extra)
{
    struct sd_buf line = SD_BUF_INIT;
    if (!c->wants_bar || !sd_progress_due(&c->progress))
        return;
    c->progress.total = c->total;
    if (!sd_progress_line(&c->progress, done, extra, &line)) {
        flockfile(stderr);
        hide_bar(c);
        fprintf(stderr, "%s: %s", c->program.name, line.data);
        c->bar_shown = true;
        funlockfile(stderr);
    }
    sd_buf_free(&line);
}

static void stream_progress(void *ctx, uint64_t done)
{
    struct sd_cmd *c = ctx;
    if (!c->own_progress)
        cmd_progress(c, done, NULL);
}

/* ---- start ---- */

static _Noreturn void print_and_exit(int bad, const struct sd_buf *text)
{
    if (!bad)
        fputs(text->data, stdout);
    exit(bad || fflush(stdout) || ferror(stdout) ? SD_ERR_MACHINE : 0);
}

static void parse(struct sd_cmd *c, int *argc, char **argv)
{
    struct sd_err err = {0};
    struct sd_buf text = SD_BUF_INIT;
    c->program.common = &c->common;
    if (!c->source && *argc == 1 && isatty(0)) {
        if (!sd_options_usage(&c->program, &text))
            fputs(text.data, stderr);
        fprintf(stderr, "Try '%s --help'.\n", c->program.name);
        exit(SD_ERR_USAGE);
    }
    switch (sd_options_parse(&c->program, argc, argv, &err)) {
    case SD_OPTIONS_RUN:
        return;
    case SD_OPTIONS_HELP:
        print_and_exit(sd_options_help(&c->program, &text), &text);
    case SD_OPTIONS_VERSION:
        print_and_exit(sd_buf_addf(&text, "%s %s\n", c->program.name, SD_VERSION), &text);
    case SD_OPTIONS_DUMP:
        print_and_exit(sd_options_dump(&c->program, &text), &text);
    default:
        cmd_usage(c, "%s", err.msg);
    }
}

void cmd_start(struct sd_cmd *c, int *argc, char **argv)
{
    struct sd_err err = {0};
    fill_standard_fds();
    parse(c, argc, argv);
    catch_signal(SIGINT);
    catch_signal(SIGTERM);
    catch_signal(SIGHUP);
    signal(SIGPIPE, SIG_IGN); /* writing fails with EPIPE instead; cmd_finish ends quietly */
    c->wants_bar = wants_bar(&c->common);
    sd_progress_start(&c->progress, c->total);
    const struct sd_stream_setup setup = {.in = 0,
                                          .out = 1,
                                          .tool = c->program.name,
                                          .jobs = c->common.jobs,
                                          .report = report,
                                          .progress = c->wants_bar ? stream_progress : NULL,
                                          .ctx = c,
                                          .stop = &stop_signal};
    c->stream = sd_stream_open(&setup, &err);
    if (!c->stream)
        cmd_die(c, &err);
}

/* ---- the stream ---- */

void cmd_each(struct sd_cmd *c, sd_record_fn *fn, void *ctx)
{
    struct sd_err err = {0};
    if (sd_stream_each(c->stream, fn, ctx, &err))
        sd_stream_report(c->stream, err.msg);
}

bool cmd_next(struct sd_cmd *c, struct sd_record *r, uint64_t *ticket)
{
    struct sd_err err = {0};
    int got = sd_stream_next(c->stream, r, ticket, &err);
    if (got < 0)
        sd_stream_report(c->stream, err.msg);
    return got == 1;
}

void cmd_put(struct sd_cmd *c, uint64_t ticket, const struct sd_record *r)
{
    sd_stream_put(c->stream, ticket, r);
}

void cmd_drop(struct sd_cmd *c, uint64_t ticket)
{
    sd_stream_drop(c->stream, ticket);
}

void cmd_put_next(struct sd_cmd *c, const struct sd_record *r)
{
    sd_stream_put_next(c->stream, r);
}

void cmd_fail(struct sd_cmd *c, struct sd_record *r, const struct sd_err *why)
{
    sd_stream_fail(c->stream, r, why);
}

bool cmd_stopped(const struct sd_cmd *c)
{
    return sd_stream_stopped(c->stream);
}

void cmd_status(struct sd_cmd *c, int status)
{
    sd_stream_status(c->stream, status);
}

/* Ends by the signal, so that the shell sees what it would of any program. */
static _Noreturn void die_by(int sig)
{
    signal(sig, SIG_DFL);
    raise(sig);
    exit(128 + sig);
}

int cmd_finish(struct sd_cmd *c)
{
    int status = sd_stream_close(c->stream);
    c->stream = NULL;
    hide_bar(c);
    if (status == SD_STREAM_PIPE)
        die_by(SIGPIPE);
    if (stop_signal)
        die_by(stop_signal);
    if (close(1) && errno != EBADF &&
        errno != EINTR) { /* network file systems tell of a full disk only now */
        struct sd_err err;
        sd_err_errno(&err, "standard output");
        cmd_warn(c, "%s", err.msg);
        return SD_ERR_MACHINE;
    }
    return status;
}
