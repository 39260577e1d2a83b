/* Options: one table per program, from which parsing, --help, the man page's OPTIONS and completions come.
 *
 *     struct mine o = {.steps = 1600, .extension = ".caption"};   // the values here are the defaults shown
 *     const struct sd_option table[] = {
 *         {SD_OPT_BOOL("recursive", 'r', &o.recursive, "look into folders inside folders too")},
 *         {SD_OPT_INT("max-train-steps", 0, &o.steps, "N", "steps to train"), .min = 1, .max = 1e9},
 *         {SD_OPT_STRING("caption-extension", 0, &o.extension, "EXT", "ending of caption files"),
 *          .alias = "caption-extention"},
 *         SD_OPT_END};
 *
 * Long names are written with hyphens here; underscores are accepted for them on the command line, so
 * sd-scripts spellings work. --opt value, --opt=value, -o value, -ovalue, -ab, --no-opt for switches, -- ends
 * the options. The common options (struct sd_common) are understood by every program and not part of its
 * table. Nothing here prints or exits. */
#ifndef SD_BASE_OPTIONS_H
#define SD_BASE_OPTIONS_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sd_option_type {
    SD_TYPE_HEADING, /* not an option: a title in --help, without a colon */
    SD_TYPE_BOOL,    /* bool: --x sets it, --no-x clears it */
    SD_TYPE_INT,     /* int64_t */
    SD_TYPE_DOUBLE,  /* double; NaN as the default means "not given" and is not shown */
    SD_TYPE_STRING,  /* const char *, points into argv; NULL means "not given" */
    SD_TYPE_CHOICE,  /* const char *, one of the words of the metavar "a|b|c" */
    SD_TYPE_LIST,    /* struct sd_strings: each use adds one value */
    SD_TYPE_WORDS,   /* struct sd_strings: takes all arguments up to the next option (argparse's nargs='*') */
};

/* A list of strings. v is owned (free with sd_strings_free), the strings themselves are borrowed. */
struct sd_strings {
    const char **v;
    size_t n, cap;
};

int sd_strings_add(struct sd_strings *list, const char *s); /* 0, or -1 when memory is out */
void sd_strings_free(struct sd_strings *list);

struct sd_option {
    const char *name; /* with hyphens, without "--" */
    char letter;      /* or 0 */
    enum sd_option_type type;
    void *to;            /* what is set; its value before parsing is the default shown in the help */
    const char *metavar; /* the value's name in the help: N, FILE, a|b|c */
    const char *help;    /* one phrase, no full stop; "(default: ...)" is added */
    const char *alias;   /* other long names accepted, separated by spaces; not shown in --help */
    double min, max;     /* for numbers; no check while both are 0 */
    bool *given;         /* set to true when the option was used; may be NULL */
    bool hidden;         /* accepted, but in no help or completion */
};

/* The destination's type is checked by the compiler. */
#define SD_OPT_TO(type, p) (1 ? (p) : (type *)0)
#define SD_OPT_BOOL(n, c, p, h) \
    .name = n, .letter = c, .type = SD_TYPE_BOOL, .to = SD_OPT_TO(bool, p), .help = h
#define SD_OPT_ARG(t, ctype, n, c, p, m, h) \
    .name = n, .letter = c, .type = t, .to = SD_OPT_TO(ctype, p), .metavar = m, .help = h
#define SD_OPT_INT(n, c, p, m, h) SD_OPT_ARG(SD_TYPE_INT, int64_t, n, c, p, m, h)
#define SD_OPT_DOUBLE(n, c, p, m, h) SD_OPT_ARG(SD_TYPE_DOUBLE, double, n, c, p, m, h)
#define SD_OPT_STRING(n, c, p, m, h) SD_OPT_ARG(SD_TYPE_STRING, const char *, n, c, p, m, h)
#define SD_OPT_CHOICE(n, c, p, m, h) SD_OPT_ARG(SD_TYPE_CHOICE, const char *, n, c, p, m, h)
#define SD_OPT_LIST(n, c, p, m, h) SD_OPT_ARG(SD_TYPE_LIST, struct sd_strings, n, c, p, m, h)
#define SD_OPT_WORDS(n, c, p, m, h) SD_OPT_ARG(SD_TYPE_WORDS, struct sd_strings, n, c, p, m, h)
#define SD_OPT_HEADING(h) .type = SD_TYPE_HEADING, .help = h
/* clang-format off */
#define SD_OPT_END {.name = NULL}
/* clang-format on */

enum sd_device_kind { SD_DEVICE_AUTO, SD_DEVICE_CPU, SD_DEVICE_CUDA };
enum sd_progress_when { SD_PROGRESS_AUTO, SD_PROGRESS_NEVER, SD_PROGRESS_ALWAYS };

/* What every program understands. */
struct sd_common {
    bool quiet, verbose;        /* -q, -v */
    int jobs;                   /* -j: threads; the number of processors when not given */
    enum sd_device_kind device; /* --device */
    int device_index;           /* N of cuda:N; -1: none was given */
    enum sd_progress_when progress;
};

struct sd_program {
    const char *name;        /* "sd-scan" */
    const char *args;        /* the rest of the usage line after [OPTION]...: "[FILE|FOLDER]..." */
    const char *summary;     /* one sentence without a full stop */
    const char *description; /* more lines for --help, or NULL */
    const struct sd_option *options;
    struct sd_common *common;
    int min_args, max_args; /* positional arguments; max_args -1: any number */
};

enum sd_options_action {
    SD_OPTIONS_RUN,
    SD_OPTIONS_HELP,    /* --help: print sd_options_help */
    SD_OPTIONS_VERSION, /* --version */
    SD_OPTIONS_DUMP,    /* --dump-options: print sd_options_dump */
};

/* Parses argv: sets the destinations and leaves the positional arguments in argv[1..*argc-1] (reordered in
 * place). Returns an enum sd_options_action, or -1 with err (code SD_ERR_USAGE); only SD_OPTIONS_RUN sets
 * anything. */
int sd_options_parse(const struct sd_program *p, int *argc, char **argv, struct sd_err *err);

/* The texts, added to out. 0, or -1 when memory is out. */
int sd_options_usage(const struct sd_program *p, struct sd_buf *out); /* "Usage: ..." line */
int sd_options_help(const struct sd_program *p, struct sd_buf *out);

/* Machine form. One line of tab-separated fields each:
 *     program NAME ARGS SUMMARY
 *     heading TEXT
 *     option NAME LETTER TYPE METAVAR DEFAULT ALIASES HELP      (empty fields are "-")  */
int sd_options_dump(const struct sd_program *p, struct sd_buf *out);

#endif
