#include "base/options.h"

#include "base/nearest.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The common options as text, so that they can share the table's code; turned into struct sd_common at the
 * end. */
struct common_text {
    bool quiet, verbose, help, version, dump;
    int64_t jobs;
    const char *device, *progress;
};

#define COMMON_OPTIONS 9

static void common_table(struct common_text *c, struct sd_option table[COMMON_OPTIONS])
{
    const struct sd_option all[COMMON_OPTIONS] = {
        {SD_OPT_INT("jobs", 'j', &c->jobs, "N", "threads to use; 0 means one per processor"), .max = 4096},
        {SD_OPT_STRING("device", 0, &c->device, "auto|cpu|cuda[:N]", "where to compute")},
        {SD_OPT_CHOICE("progress", 0, &c->progress, "auto|never|always", "when to show a progress bar")},
        {SD_OPT_BOOL("quiet", 'q', &c->quiet, "say less on standard error")},
        {SD_OPT_BOOL("verbose", 'v', &c->verbose, "say more on standard error")},
        {SD_OPT_BOOL("help", 'h', &c->help, "print this help and exit")},
        {SD_OPT_BOOL("version", 'V', &c->version, "print the version and exit")},
        {SD_OPT_BOOL("dump-options", 0, &c->dump, "print the option table"), .hidden = true},
        SD_OPT_END};
    memcpy(table, all, sizeof all);
}

static const struct common_text common_defaults = {.device = "auto", .progress = "auto"};

int sd_strings_add(struct sd_strings *list, const char *s)
{
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 8;
        const char **v = realloc(list->v, cap * sizeof *v);
        if (!v)
            return -1;
        list->v = v;
        list->cap = cap;
    }
    list->v[list->n++] = s;
    return 0;
}

void sd_strings_free(struct sd_strings *list)
{
    free(list->v);
    *list = (struct sd_strings){0};
}

/* ---- names ---- */

static bool is_end(const struct sd_option *o)
{
    return !o->name && o->type == SD_TYPE_HEADING && !o->help;
}

/* Compares len bytes of word, where '_' is as good as '-', with name. */
static bool same_name(const char *word, size_t len, const char *name, size_t name_len)
{
    if (len != name_len)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((word[i] == '_' ? '-' : word[i]) != (name[i] == '_' ? '-' : name[i]))
            return false;
    return true;
}

static bool has_name(const struct sd_option *o, const char *word, size_t len)
{
    if (!o->name)
        return false;
    if (same_name(word, len, o->name, strlen(o->name)))
        return true;
    for (const char *a = o->alias; a && *a;) {
        size_t n = strcspn(a, " ");
        if (same_name(word, len, a, n))
            return true;
        a += n + strspn(a + n, " ");
    }
    return false;
}

static const struct sd_option *find_long(const struct sd_option *table, const char *word, size_t len)
{
    for (; !is_end(table); table++)
        if (has_name(table, word, len))
            return table;
    return NULL;
}

static const struct sd_option *find_letter(const struct sd_option *table, char c)
{
    for (; !is_end(table); table++)
        if (table->name && table->letter == c)
            return table;
    return NULL;
}

static int unknown_option(const struct sd_option *table, const struct sd_option *common, const char *word,
                          size_t len, struct sd_err *err)
{
    char typed[64];
    if (len >= sizeof typed)
        return sd_err_set(err, SD_ERR_USAGE, "unknown option --%.*s", (int)(len < 200 ? len : 200), word);
    for (size_t i = 0; i < len; i++)
        typed[i] = word[i] == '_' ? '-' : word[i];
    typed[len] = 0;
    struct sd_strings names = {0};
    for (const struct sd_option *o = table; !is_end(o); o++)
        if (o->name && !o->hidden)
            sd_strings_add(&names, o->name);
    for (const struct sd_option *o = common; !is_end(o); o++)
        if (!o->hidden)
            sd_strings_add(&names, o->name);
    const char *near = sd_strings_add(&names, NULL) ? NULL : sd_nearest_name(typed, len, names.v);
    sd_strings_free(&names);
    if (near)
        return sd_err_set(err, SD_ERR_USAGE, "unknown option --%.*s; did you mean --%s?", (int)len, word,
                          near);
    return sd_err_set(err, SD_ERR_USAGE, "unknown option --%.*s", (int)len, word);
}

/* ---- values ---- */

static int check_range(const struct sd_option *o, double v, const char *text, struct sd_err *err)
{
    if ((o->min == 0 && o->max == 0) || (v >= o->min && v <= o->max))
        return 0;
    return sd_err_set(err, SD_ERR_USAGE, "--%s: %s is not between %.12g and %.12g", o->name, text, o->min,
                      o->max);
}

static bool is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);
    for (const char *c = choices; *c;) {
        size_t n = strcspn(c, "|");
        if (n == len && !memcmp(c, text, n))
            return true;
        c += n + (c[n] == '|');
    }
    return false;
}

/* Checks text as a value of o and, when apply is on, stores it. */
static int set_value(const struct sd_option *o, const char *text, bool apply, struct sd_err *err)
{
    char *end = NULL;
    errno = 0;
    switch (o->type) {
    case SD_TYPE_INT: {
        long long v = strtoll(text, &end, 10);
        if (end == text || *end || errno)
            return sd_err_set(err, SD_ERR_USAGE, "--%s: '%s' is not a whole number", o->name, text);
        if (check_range(o, (double)v, text, err))
            return -1;
        if (apply)
            *(int64_t *)o->to = v;
        break;
    }
    case SD_TYPE_DOUBLE: {
        double v = strtod(text, &end);
        if (end == text || *end || isnan(v) || (errno && isinf(v)))
            return sd_err_set(err, SD_ERR_USAGE, "--%s: '%s' is not a number", o->name, text);
        if (check_range(o, v, text, err))
            return -1;
        if (apply)
            *(double *)o->to = v;
        break;
    }
    case SD_TYPE_CHOICE:
        if (!is_choice(o->metavar, text))
            return sd_err_set(err, SD_ERR_USAGE, "--%s: '%s' is not one of %s", o->name, text, o->metavar);
        /* fall through */
    case SD_TYPE_STRING:
        if (apply)
            *(const char **)o->to = text;
        break;
    case SD_TYPE_LIST:
    case SD_TYPE_WORDS:
        if (apply && sd_strings_add(o->to, text))
            return sd_err_memory(err, sizeof(char *));
        break;
    case SD_TYPE_BOOL:
    case SD_TYPE_HEADING:
        break;
    }
    if (apply && o->given)
        *o->given = true;
    return 0;
}

static void set_bool(const struct sd_option *o, bool v, bool apply)
{
    if (!apply)
        return;
    *(bool *)o->to = v;
    if (o->given)
        *o->given = true;
}

/* ---- parsing ---- */

struct parse {
    const struct sd_option *table, *common;
    int argc, at;
    char **argv;
    bool apply; /* off in the first walk, which only checks and looks for --help */
    struct sd_err *err;
};

/* The common options go to a scratch struct, so they are stored in both walks. */
static bool applies(const struct parse *p, const struct sd_option *o)
{
    return p->apply || (o >= p->common && o < p->common + COMMON_OPTIONS);
}

static const char *next_arg(struct parse *p, const struct sd_option *o)
{
    if (p->at < p->argc)
        return p->argv[p->at++];
    sd_err_set(p->err, SD_ERR_USAGE, "--%s needs a value: --%s %s", o->name, o->name, o->metavar);
    return NULL;
}

static bool looks_like_option(const char *s)
{
    return s[0] == '-' && s[1] && !strchr("0123456789.", s[1]);
}

/* The value of o, joined to the option (attached) or in the following arguments. */
static int take_value(struct parse *p, const struct sd_option *o, const char *attached)
{
    bool apply = applies(p, o);
    if (attached)
        return set_value(o, attached, apply, p->err);
    if (o->type == SD_TYPE_WORDS) {
        if (apply && o->given)
            *o->given = true;
        while (p->at < p->argc && !looks_like_option(p->argv[p->at]))
            if (set_value(o, p->argv[p->at++], apply, p->err))
                return -1;
        return 0;
    }
    const char *text = next_arg(p, o);
    return text ? set_value(o, text, apply, p->err) : -1;
}

static int parse_long(struct parse *p, const char *word)
{
    size_t len = strcspn(word, "=");
    const char *attached = word[len] ? word + len + 1 : NULL;
    const struct sd_option *o = find_long(p->table, word, len);
    if (!o)
        o = find_long(p->common, word, len);
    if (o && o->type == SD_TYPE_BOOL) {
        if (attached)
            return sd_err_set(p->err, SD_ERR_USAGE, "--%s takes no value", o->name);
        set_bool(o, true, applies(p, o));
        return 0;
    }
    if (o)
        return take_value(p, o, attached);
    if (!attached && len > 3 && same_name(word, 3, "no-", 3)) {
        o = find_long(p->table, word + 3, len - 3);
        if (!o)
            o = find_long(p->common, word + 3, len - 3);
        if (o && o->type == SD_TYPE_BOOL) {
            set_bool(o, false, applies(p, o));
            return 0;
        }
    }
    return unknown_option(p->table, p->common, word, len, p->err);
}

static int parse_letters(struct parse *p, const char *letters)
{
    while (*letters) {
        const struct sd_option *o = find_letter(p->table, *letters);
        if (!o)
            o = find_letter(p->common, *letters);
        if (!o)
            return sd_err_set(p->err, SD_ERR_USAGE, "unknown option -%.*s", (*letters & 0x80) ? 8 : 1,
                              letters);
        letters++;
        if (o->type != SD_TYPE_BOOL)
            return take_value(p, o, *letters ? letters + (*letters == '=') : NULL);
        set_bool(o, true, applies(p, o));
    }
    return 0;
}

/* One walk over the arguments. keep receives the positional ones (may be argv + 1 itself); returns their
 * number. */
static int walk(struct parse *p, char **keep)
{
    int kept = 0;
    for (p->at = 1; p->at < p->argc;) {
        char *a = p->argv[p->at++];
        if (!strcmp(a, "--")) {
            while (p->at < p->argc) {
                char *rest = p->argv[p->at++];
                if (keep)
                    keep[kept] = rest;
                kept++;
            }
        } else if (a[0] == '-' && a[1] == '-') {
            if (parse_long(p, a + 2))
                return -1;
        } else if (a[0] == '-' && a[1]) {
            if (parse_letters(p, a + 1))
                return -1;
        } else {
            if (keep)
                keep[kept] = a;
            kept++;
        }
    }
    return kept;
}

static int set_common(struct sd_common *c, const struct common_text *t, struct sd_err *err)
{
    enum sd_device_kind kind = SD_DEVICE_AUTO;
    long index = -1;
    if (!strcmp(t->device, "cpu")) {
        kind = SD_DEVICE_CPU;
    } else if (!strncmp(t->device, "cuda", 4) && (!t->device[4] || t->device[4] == ':')) {
        kind = SD_DEVICE_CUDA;
        char *end = NULL;
        if (t->device[4])
            index = strtol(t->device + 5, &end, 10);
        if (end && (end == t->device + 5 || *end || index < 0 || index > 4095))
            return sd_err_set(err, SD_ERR_USAGE, "--device: '%s' is not one of auto|cpu|cuda[:N]", t->device);
    } else if (strcmp(t->device, "auto")) {
        return sd_err_set(err, SD_ERR_USAGE, "--device: '%s' is not one of auto|cpu|cuda[:N]", t->device);
    }
    if (!c)
        return 0;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    c->quiet = t->quiet;
    c->verbose = t->verbose;
    c->jobs = t->jobs ? (int)t->jobs : processors > 0 ? (int)processors : 1;
    c->device = kind;
    c->device_index = (int)index;
    c->progress = *t->progress == 'n'                            ? SD_PROGRESS_NEVER
                  : *t->progress == 'a' && t->progress[1] == 'l' ? SD_PROGRESS_ALWAYS
                                                                 : SD_PROGRESS_AUTO;
    return 0;
}

static int check_count(const struct sd_program *p, int n, struct sd_err *err)
{
    if (n < p->min_args)
        return sd_err_set(err, SD_ERR_USAGE, "too few arguments: expected %s", p->args);
    if (p->max_args == 0 && n > 0)
        return sd_err_set(err, SD_ERR_USAGE, "too many arguments: expected none");
    if (p->max_args > 0 && n > p->max_args)
        return sd_err_set(err, SD_ERR_USAGE, "too many arguments: expected %s", p->args);
    return 0;
}

int sd_options_parse(const struct sd_program *p, int *argc, char **argv, struct sd_err *err)
{
    struct common_text text = common_defaults;
    struct sd_option common[COMMON_OPTIONS];
    common_table(&text, common);
    struct parse walker = {.table = p->options, .common = common, .argc = *argc, .argv = argv, .err = err};
    int n = walk(&walker, NULL);
    if (n < 0)
        return -1;
    if (text.help || text.version || text.dump)
        return text.help ? SD_OPTIONS_HELP : text.version ? SD_OPTIONS_VERSION : SD_OPTIONS_DUMP;
    if (check_count(p, n, err))
        return -1;
    if (set_common(p->common, &text, err))
        return -1;
    walker.apply = true;
    if (walk(&walker, argv + 1) < 0)
        return -1;
    *argc = n + 1;
    return SD_OPTIONS_RUN;
}

/* ---- the texts ---- */

int sd_options_usage(const struct sd_program *p, struct sd_buf *out)
{
    return sd_buf_addf(out, "Usage: %s [OPTION]...%s%s\n", p->name, p->args && *p->args ? " " : "",
                       p->args ? p->args : "");
}

/* The default as text; nothing when there is none to show. */
static int add_default(const struct sd_option *o, struct sd_buf *out)
{
    switch (o->type) {
    case SD_TYPE_BOOL:
        return *(bool *)o->to ? sd_buf_adds(out, "on") : 0;
    case SD_TYPE_INT:
        return sd_buf_addf(out, "%lld", (long long)*(int64_t *)o->to);
    case SD_TYPE_DOUBLE:
        return isnan(*(double *)o->to) ? 0 : sd_buf_addf(out, "%.12g", *(double *)o->to);
    case SD_TYPE_STRING:
    case SD_TYPE_CHOICE: {
        const char *s = *(const char **)o->to;
        return !s ? 0 : *s ? sd_buf_adds(out, s) : sd_buf_adds(out, "\"\"");
    }
    default:
        return 0;
    }
}

enum { HELP_INDENT = 30, HELP_WIDTH = 100 };

/* Adds text from column HELP_INDENT on, broken between words. */
static int add_wrapped(struct sd_buf *out, size_t column, const char *text)
{
    int bad = 0;
    if (column + 2 > HELP_INDENT)
        bad |= sd_buf_addf(out, "\n%*s", HELP_INDENT, "");
    else
        bad |= sd_buf_addf(out, "%*s", (int)(HELP_INDENT - column), "");
    column = HELP_INDENT;
    while (*text) {
        size_t n = strcspn(text, " ");
        if (column > HELP_INDENT && column + 1 + n > HELP_WIDTH) {
            bad |= sd_buf_addf(out, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        } else if (column > HELP_INDENT) {
            bad |= sd_buf_addc(out, ' ');
            column++;
        }
        bad |= sd_buf_add(out, text, n);
        column += n;
        text += n + strspn(text + n, " ");
    }
    return bad | sd_buf_addc(out, '\n');
}

static int add_option_help(const struct sd_option *o, struct sd_buf *out)
{
    if (o->hidden)
        return 0;
    if (o->type == SD_TYPE_HEADING)
        return sd_buf_addf(out, "\n%s:\n", o->help);
    size_t start = out->len;
    struct sd_buf def = SD_BUF_INIT, text = SD_BUF_INIT;
    int bad = o->letter ? sd_buf_addf(out, "  -%c, ", o->letter) : sd_buf_adds(out, "      ");
    bool on = o->type == SD_TYPE_BOOL && *(bool *)o->to;
    bad |= sd_buf_addf(out, "--%s%s", on ? "[no-]" : "", o->name);
    if (o->type != SD_TYPE_BOOL)
        bad |= sd_buf_addf(out, o->type == SD_TYPE_WORDS ? " %s..." : " %s", o->metavar);
    bad |= add_default(o, &def) | sd_buf_adds(&text, o->help);
    if (def.len)
        bad |= sd_buf_addf(&text, " (default: %s)", def.data);
    if (!bad)
        bad |= add_wrapped(out, out->len - start, text.data);
    sd_buf_free(&def);
    sd_buf_free(&text);
    return bad;
}

int sd_options_help(const struct sd_program *p, struct sd_buf *out)
{
    struct common_text text = common_defaults;
    struct sd_option common[COMMON_OPTIONS];
    common_table(&text, common);
    int bad = sd_options_usage(p, out) | sd_buf_addf(out, "%s.\n", p->summary);
    if (p->description)
        bad |= sd_buf_addf(out, "\n%s\n", p->description);
    if (!is_end(p->options) && p->options->type != SD_TYPE_HEADING)
        bad |= sd_buf_adds(out, "\nOptions:\n");
    for (const struct sd_option *o = p->options; !is_end(o); o++)
        bad |= add_option_help(o, out);
    bad |= sd_buf_adds(out, "\nCommon options:\n");
    for (const struct sd_option *o = common; !is_end(o); o++)
        bad |= add_option_help(o, out);
    return bad ? -1 : 0;
}

static int add_dump(const struct sd_option *o, struct sd_buf *out)
{
    static const char *const type_names[] = {"heading", "bool",   "int",  "double",
                                             "string",  "choice", "list", "words"};
    if (o->hidden)
        return 0;
    if (o->type == SD_TYPE_HEADING)
        return sd_buf_addf(out, "heading\t%s\n", o->help);
    struct sd_buf def = SD_BUF_INIT;
    int bad = add_default(o, &def);
    bad |= sd_buf_addf(out, "option\t%s\t%c\t%s\t%s\t%s\t%s\t%s\n", o->name, o->letter ? o->letter : '-',
                       type_names[o->type], o->metavar ? o->metavar : "-", def.len ? def.data : "-",
                       o->alias ? o->alias : "-", o->help);
    sd_buf_free(&def);
    return bad;
}

int sd_options_dump(const struct sd_program *p, struct sd_buf *out)
{
    struct common_text text = common_defaults;
    struct sd_option common[COMMON_OPTIONS];
    common_table(&text, common);
    int bad =
        sd_buf_addf(out, "program\t%s\t%s\t%s\n", p->name, p->args && *p->args ? p->args : "-", p->summary);
    for (const struct sd_option *o = p->options; !is_end(o); o++)
        bad |= add_dump(o, out);
    bad |= sd_buf_adds(out, "heading\tCommon options\n");
    for (const struct sd_option *o = common; !is_end(o); o++)
        bad |= add_dump(o, out);
    return bad ? -1 : 0;
}
