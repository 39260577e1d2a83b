/* Names of optimizers and their arguments, as Python's argparse and ast.literal_eval take them. */
#include "base/buf.h"
#include "base/pyfloat.h"
#include "optim/kind.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Arguments of one name are its numbers in turn. */
static const struct {
    const char *name;
    bool truth;    /* True or False */
    bool share;    /* from 0 to below 1 */
    bool falls;    /* an exponent: 0 or below */
    bool positive; /* not 0 */
    bool none;     /* may be None, which is NaN */
} args[SD_OPTIM_ARGS] = {
    [SD_OPTIM_BETA1] = {"betas", .share = true},
    [SD_OPTIM_BETA2] = {"betas", .share = true},
    [SD_OPTIM_BETA3] = {"betas", .share = true},
    [SD_OPTIM_EPS] = {"eps"},
    [SD_OPTIM_EPS_SCALE] = {"eps"},
    [SD_OPTIM_WEIGHT_DECAY] = {"weight_decay"},
    [SD_OPTIM_AMSGRAD] = {"amsgrad", .truth = true},
    [SD_OPTIM_DECOUPLED] = {"decoupled_weight_decay", .truth = true},
    [SD_OPTIM_MOMENTUM_DECAY] = {"momentum_decay"},
    [SD_OPTIM_MOMENTUM] = {"momentum"},
    [SD_OPTIM_DAMPENING] = {"dampening"},
    [SD_OPTIM_NESTEROV] = {"nesterov", .truth = true},
    [SD_OPTIM_ALPHA] = {"alpha"},
    [SD_OPTIM_CENTERED] = {"centered", .truth = true},
    [SD_OPTIM_LR_DECAY] = {"lr_decay"},
    [SD_OPTIM_INITIAL] = {"initial_accumulator_value"},
    [SD_OPTIM_RHO] = {"rho", .share = true},
    [SD_OPTIM_LAMBD] = {"lambd"},
    [SD_OPTIM_T0] = {"t0"},
    [SD_OPTIM_ETA_MINUS] = {"etas"},
    [SD_OPTIM_ETA_PLUS] = {"etas"},
    [SD_OPTIM_STEP_LEAST] = {"step_sizes"},
    [SD_OPTIM_STEP_MOST] = {"step_sizes"},
    [SD_OPTIM_CLIP_THRESHOLD] = {"clip_threshold"},
    [SD_OPTIM_DECAY_RATE] = {"decay_rate", .falls = true},
    [SD_OPTIM_FIRST] = {"beta1", .share = true, .none = true},
    [SD_OPTIM_SCALE_PARAMETER] = {"scale_parameter", .truth = true},
    [SD_OPTIM_RELATIVE_STEP] = {"relative_step", .truth = true},
    [SD_OPTIM_WARMUP_INIT] = {"warmup_init", .truth = true},
    [SD_OPTIM_D0] = {"d0", .positive = true},
    [SD_OPTIM_GROWTH_RATE] = {"growth_rate"},
    [SD_OPTIM_D_COEF] = {"d_coef"},
    [SD_OPTIM_PRODIGY_BETA3] = {"beta3", .share = true, .none = true},
    [SD_OPTIM_DECOUPLE] = {"decouple", .truth = true},
    [SD_OPTIM_BIAS_CORRECTION] = {"use_bias_correction", .truth = true},
    [SD_OPTIM_SAFEGUARD] = {"safeguard_warmup", .truth = true},
    [SD_OPTIM_NO_PROX] = {"no_prox", .truth = true},
};

/* What they say of how torch computes is of no consequence here. */
static const char *const hints[] = {"foreach", "fused", "capturable"};

/* --- Python's literals: numbers, truths, None, and tuples and lists of them --- */

enum { MOST = 4 };

struct literal {
    double v[MOST]; /* True is 1, None is NaN */
    int n;
    bool truth;     /* the only one is True or False */
    char text[128]; /* as Python prints it */
};

static const char *skip_blanks(const char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    return s;
}

/* One number or word at s; its end, or NULL. */
static const char *scalar(const char *s, struct literal *l, struct sd_buf *text)
{
    static const struct {
        const char *word;
        double v;
        bool truth;
    } words[] = {{"True", 1, true}, {"False", 0, true}, {"None", NAN, false}};
    if (l->n == MOST)
        return NULL;
    for (int i = 0; i < 3; i++) {
        size_t len = strlen(words[i].word);
        if (strncmp(s, words[i].word, len))
            continue;
        l->v[l->n++] = words[i].v;
        l->truth = words[i].truth;
        return sd_buf_adds(text, words[i].word) ? NULL : s + len;
    }
    size_t len = strspn(s, "0123456789+-.eE");
    char copy[64], *end, shown[32];
    if (!len || len >= sizeof copy)
        return NULL;
    memcpy(copy, s, len);
    copy[len] = 0;
    double v = strtod(copy, &end);
    if (*end || end == copy || !isfinite(v))
        return NULL;
    l->v[l->n++] = v;
    if (copy[strcspn(copy, ".eE")])
        sd_python_float(v, shown);
    else
        snprintf(shown, sizeof shown, "%.0f", v);
    return sd_buf_adds(text, shown) ? NULL : s + len;
}

/* Scalars with commas between them, up to what ends them. */
static const char *row(const char *s, char close, struct literal *l, struct sd_buf *text)
{
    for (;;) {
        if (!(s = scalar(skip_blanks(s), l, text)))
            return NULL;
        s = skip_blanks(s);
        if (*s != ',')
            return s;
        s = skip_blanks(s + 1);
        if (*s == close)
            return s;
        if (sd_buf_adds(text, ", "))
            return NULL;
    }
}

/* Whether all of s is one. */
static bool read_literal(const char *s, struct literal *l)
{
    struct sd_buf text = SD_BUF_INIT;
    *l = (struct literal){0};
    s = skip_blanks(s);
    char open = *s, close = (char)(open == '(' ? ')' : open == '[' ? ']' : 0);
    s = row(close ? s + 1 : s, close, l, &text);
    if (s && close)
        s = *s == close ? s + 1 : NULL;
    bool good = s && !*skip_blanks(s) && text.len + 3 < sizeof l->text;
    if (good)
        snprintf(l->text, sizeof l->text,
                 l->n == 1 && open != '[' ? "%s"
                 : open == '['            ? "[%s]"
                                          : "(%s)",
                 text.data);
    sd_buf_free(&text);
    return good;
}

/* --- arguments --- */

static bool takes(const struct sd_optim_kind *k, enum sd_optim_arg arg)
{
    for (int i = 0; i < k->n_args; i++)
        if (k->args[i].arg == arg)
            return !k->args[i].fixed;
    return false;
}

static int refuse(const struct sd_optim_config *c, const char *word, const char *what, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_USAGE, "optimizer_args: %s: %s of %s", word, what, c->kind->name);
}

/* The arguments that a kind takes, for a message. */
static int refuse_name(const struct sd_optim_config *c, const char *word, struct sd_err *err)
{
    char list[240] = "";
    for (int i = 0; i < c->kind->n_args; i++) {
        const struct sd_optim_default *d = &c->kind->args[i];
        const char *name = args[d->arg].name;
        size_t used = strlen(list);
        if (!d->fixed && !(i && !strcmp(args[d[-1].arg].name, name)))
            snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", name);
    }
    return sd_err_set(err, SD_ERR_USAGE, "optimizer_args: %s: %s takes %s", word, c->kind->name, list);
}

static int check_value(const struct sd_optim_config *c, const char *word, enum sd_optim_arg arg,
                       const struct literal *l, double v, struct sd_err *err)
{
    if (args[arg].none && isnan(v))
        return 0;
    if (args[arg].truth != l->truth)
        return refuse(c, word,
                      args[arg].truth ? "expected True or False for this argument"
                                      : "expected a number for this argument",
                      err);
    if (args[arg].falls)
        return v <= 0 ? 0 : refuse(c, word, "expected no number above 0 for this argument", err);
    if (!(v >= 0))
        return refuse(c, word, "expected no number below 0 for this argument", err);
    if (args[arg].positive && v == 0)
        return refuse(c, word, "expected a number above 0 for this argument", err);
    if (args[arg].share && v >= 1)
        return refuse(c, word, "expected a number below 1 for this argument", err);
    return 0;
}

static bool is_hint(const char *word, size_t len)
{
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strlen(hints[i]) == len && !memcmp(hints[i], word, len))
            return true;
    return false;
}

/* Adds "key=value" to the text of what was given. */
static int note(struct sd_optim_config *c, const char *key, int len, const char *value, struct sd_err *err)
{
    size_t used = strlen(c->text);
    int n = snprintf(c->text + used, sizeof c->text - used, "%s%.*s=%s", used ? "," : "", len, key, value);
    return n < (int)(sizeof c->text - used) ? 0 : sd_err_set(err, SD_ERR_USAGE, "optimizer_args: too many");
}

static int take_word(struct sd_optim_config *c, const char *word, struct sd_err *err)
{
    const char *equals = strchr(word, '=');
    size_t len = equals ? (size_t)(equals - word) : 0;
    struct literal l;
    enum sd_optim_arg found[SD_OPTIM_ARGS];
    int n = 0;
    if (!equals || strchr(equals + 1, '='))
        return sd_err_set(err, SD_ERR_USAGE, "optimizer_args: %s: expected KEY=VALUE", word);
    for (enum sd_optim_arg a = 0; a < SD_OPTIM_ARGS; a++)
        if (strlen(args[a].name) == len && !memcmp(args[a].name, word, len) && takes(c->kind, a))
            found[n++] = a;
    bool hint = is_hint(word, len);
    if (!n && !hint)
        return refuse_name(c, word, err);
    if (!read_literal(equals + 1, &l))
        return sd_err_set(err, SD_ERR_USAGE,
                          "optimizer_args: %s: expected a number, True, False, None or numbers with commas "
                          "between them",
                          word);
    if (!hint && l.n != n)
        return sd_err_set(err, SD_ERR_USAGE, "optimizer_args: %s: %d numbers, expected %d", word, l.n, n);
    for (int i = 0; i < n; i++) {
        if (check_value(c, word, found[i], &l, l.v[i], err))
            return -1;
        c->arg[found[i]] = l.v[i];
    }
    return note(c, word, (int)len, l.text, err);
}

static bool given(const struct sd_strings *words, const char *word)
{
    size_t len = strcspn(word, "=") + 1;
    for (size_t i = 0; words && i < words->n; i++)
        if (!strncmp(words->v[i], word, len))
            return true;
    return false;
}

/* What holds between arguments. */
static int check_together(const struct sd_optim_config *c, struct sd_err *err)
{
    const double *a = c->arg;
    if (takes(c->kind, SD_OPTIM_DAMPENING) && a[SD_OPTIM_NESTEROV] != 0 &&
        (a[SD_OPTIM_MOMENTUM] == 0 || a[SD_OPTIM_DAMPENING] != 0))
        return sd_err_set(err, SD_ERR_USAGE,
                          "optimizer_args: Nesterov momentum requires a momentum and zero dampening");
    if (takes(c->kind, SD_OPTIM_ETA_PLUS) && !(a[SD_OPTIM_ETA_MINUS] < 1 && a[SD_OPTIM_ETA_PLUS] > 1))
        return sd_err_set(err, SD_ERR_USAGE, "optimizer_args: etas: expected one below 1 and one above");
    if (c->kind->factored && a[SD_OPTIM_CLIP_THRESHOLD] == 0)
        return sd_err_set(err, SD_ERR_USAGE, "optimizer_args: clip_threshold: expected a number above 0");
    return 0;
}

/* warmup_init is of relative steps, so it turns them on; in the text, too. */
static void turn_relative(struct sd_optim_config *c)
{
    static const char off[] = "relative_step=False", on[] = "relative_step=True";
    char *at = strstr(c->text, off);
    if (!c->kind->factored || c->arg[SD_OPTIM_WARMUP_INIT] == 0)
        return;
    c->arg[SD_OPTIM_RELATIVE_STEP] = 1;
    if (at) {
        memcpy(at, on, sizeof on - 1);
        memmove(at + sizeof on - 1, at + sizeof off - 1, strlen(at + sizeof off - 1) + 1);
    }
}

static int unknown(const char *name, struct sd_err *err)
{
    char list[500] = "";
    for (int i = 0; sd_optim_kind(i); i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", sd_optim_kind(i)->name);
    }
    return sd_err_set(err, SD_ERR_USAGE, "no optimizer %s: there are %s", name, list);
}

int sd_optim_config_init(struct sd_optim_config *c, const char *name, const struct sd_strings *words,
                         struct sd_err *err)
{
    int i = 0;
    if (!*name)
        name = "AdamW";
    while (sd_optim_kind(i) && strcasecmp(sd_optim_kind(i)->name, name))
        i++;
    *c = (struct sd_optim_config){.kind = sd_optim_kind(i), .max_grad_norm = 1};
    if (!c->kind)
        return unknown(name, err);
    for (i = 0; i < c->kind->n_args; i++)
        c->arg[c->kind->args[i].arg] = c->kind->args[i].value;
    for (size_t k = 0; words && k < words->n; k++)
        if (take_word(c, words->v[k], err))
            return -1;
    const char *added = c->kind->given;
    if (added && !given(words, added) && take_word(c, added, err))
        return -1;
    turn_relative(c);
    return check_together(c, err);
}
