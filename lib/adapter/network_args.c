#include "adapter/network_args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RANK = 65536 };

static const char *const keys[] = {
    "conv_dim",          "conv_alpha",
    "block_dims",        "block_alphas",
    "conv_block_dims",   "conv_block_alphas",
    "down_lr_weight",    "mid_lr_weight",
    "up_lr_weight",      "block_lr_zero_threshold",
    "loraplus_lr_ratio", "loraplus_unet_lr_ratio",
    "rank_dropout",      "loraplus_text_encoder_lr_ratio",
    "module_dropout",
};

/* The words while they are read. The first error sticks. */
struct words {
    const struct sd_strings *list;
    struct sd_err *err;
    bool failed;
};

static const char *value_of(const struct words *w, const char *key)
{
    const char *found = NULL;
    size_t len = strlen(key);
    for (size_t i = 0; i < w->list->n; i++)
        if (!strncmp(w->list->v[i], key, len) && w->list->v[i][len] == '=')
            found = w->list->v[i] + len + 1; /* the last one counts, as in a Python dict */
    return found;
}

static void fail(struct words *w, const char *key, const char *what)
{
    if (!w->failed)
        sd_err_set(w->err, SD_ERR_USAGE, "network_args: %s=%s: %s", key, value_of(w, key), what);
    w->failed = true;
}

/* The number that text, up to end, is; blanks around it are well. */
static bool number(const char *text, const char *end, double *v)
{
    char copy[64], *stop;
    size_t len = (size_t)(end - text);
    if (len >= sizeof copy)
        return false;
    memcpy(copy, text, len);
    copy[len] = 0;
    *v = strtod(copy, &stop);
    stop += strspn(stop, " \t");
    return stop != copy && !*stop && isfinite(*v) && !strpbrk(copy, "xXpP");
}

static bool one(struct words *w, const char *key, double low, double high, double *v)
{
    const char *text = value_of(w, key);
    char what[80];
    if (!text || w->failed)
        return false;
    if (number(text, text + strlen(text), v) && *v >= low && *v <= high)
        return true;
    snprintf(what, sizeof what, "expected a number from %g to %g", low, high);
    fail(w, key, what);
    return false;
}

/* Numbers between commas; an empty one is 0 where that is allowed. Returns how many there are, of which at
 * most max are kept. */
static int list(struct words *w, const char *key, bool empty, double *v, int max)
{
    int n = 0;
    for (const char *at = value_of(w, key);; n++) {
        const char *end = at + strcspn(at, ",");
        double x = 0;
        if (!(empty && at == end) && !number(at, end, &x)) {
            fail(w, key, "expected numbers with commas between them");
            return 0;
        }
        if (n < max)
            v[n] = x;
        if (!*end)
            return n + 1;
        at = end + 1;
    }
}

static bool blocks(struct words *w, const char *key, bool whole, double v[SD_UNET_BLOCKS])
{
    char what[80];
    if (w->failed || !value_of(w, key))
        return false;
    int n = list(w, key, false, v, SD_UNET_BLOCKS);
    if (!w->failed && n != SD_UNET_BLOCKS) {
        snprintf(what, sizeof what, "%d numbers, expected one for each of %d blocks", n, SD_UNET_BLOCKS);
        fail(w, key, what);
    }
    for (int i = 0; whole && i < SD_UNET_BLOCKS && !w->failed; i++)
        if (v[i] != floor(v[i]) || v[i] < 0 || v[i] > MAX_RANK)
            fail(w, key, "a rank is a whole number from 0 to 65536");
    return !w->failed;
}

/* --- rates by block */

/* A curve over the blocks of one side, NAME or NAME+X. */
static bool preset(const char *text, double v[SD_UNET_SIDE_BLOCKS])
{
    static const char *const names[] = {"sine", "cosine", "linear", "reverse_linear", "zeros"};
    const int last = SD_UNET_SIDE_BLOCKS - 1;
    size_t len = strcspn(text, "+");
    double base = 0;
    int kind = 0;
    if (text[len] && !number(text + len + 1, text + strlen(text), &base))
        return false;
    while (kind < 5 && (strlen(names[kind]) != len || memcmp(names[kind], text, len)))
        kind++;
    for (int i = 0; i <= last && kind < 5; i++) {
        double x = (kind == 1 || kind == 3 ? last - i : i) / (double)last;
        v[i] = base + (kind < 2 ? sin(M_PI * x / 2) : kind < 4 ? x : 0);
    }
    return kind < 5;
}

static void remark(struct sd_network_args *a, const char *key, const char *what)
{
    size_t used = strlen(a->remark);
    snprintf(a->remark + used, sizeof a->remark - used, "%s%s %s", used ? "; " : "", key, what);
}

/* n factors of one side of the U-Net, or of its middle. */
static bool rates(struct words *w, struct sd_network_args *a, const char *key, double threshold, int n,
                  double *v)
{
    const char *text = value_of(w, key);
    for (int i = 0; i < n; i++)
        v[i] = 1;
    if (!text || w->failed)
        return false;
    if (n > 1 && !strchr(text, ',')) {
        if (!preset(text, v))
            fail(w, key,
                 "expected numbers with commas between them, or sine, cosine, linear, reverse_linear, "
                 "zeros, which +X may follow");
    } else {
        int given = list(w, key, true, v, n);
        if (given > n)
            remark(a, key, "has more numbers than blocks; the rest is left out");
        else if (!w->failed && given < n)
            remark(a, key, "has fewer numbers than blocks; the rest is 1");
    }
    for (int i = 0; i < n; i++)
        v[i] = v[i] > threshold ? v[i] : 0;
    return true;
}

static void parse_rates(struct words *w, struct sd_network_args *a)
{
    double threshold = 0, *middle = a->rate + SD_UNET_SIDE_BLOCKS;
    bool limited = one(w, "block_lr_zero_threshold", -1e30, 1e30, &threshold);
    bool down = rates(w, a, "down_lr_weight", threshold, SD_UNET_SIDE_BLOCKS, a->rate);
    bool mid = rates(w, a, "mid_lr_weight", threshold, 1, middle);
    bool up = rates(w, a, "up_lr_weight", threshold, SD_UNET_SIDE_BLOCKS, middle + 1);
    a->by_rate = down || mid || up;
    if (limited && !a->by_rate)
        fail(w, "block_lr_zero_threshold", "needs down_lr_weight, mid_lr_weight or up_lr_weight");
}

/* --- ranks by block */

static void needs(struct words *w, const char *key, bool met, const char *what)
{
    if (!met && value_of(w, key))
        fail(w, key, what);
}

static void parse_blocks(struct words *w, struct sd_network_args *a, int64_t rank, float alpha)
{
    struct sd_lora_blocks *b = &a->blocks;
    double dims[SD_UNET_BLOCKS], alphas[SD_UNET_BLOCKS], conv_dims[SD_UNET_BLOCKS],
        conv_alphas[SD_UNET_BLOCKS];
    bool has_dims = blocks(w, "block_dims", true, dims);
    a->by_block = has_dims || a->by_rate;
    bool has_alphas = blocks(w, "block_alphas", false, alphas);
    bool has_conv = blocks(w, "conv_block_dims", true, conv_dims);
    bool has_conv_alphas = blocks(w, "conv_block_alphas", false, conv_alphas);
    needs(w, "block_alphas", a->by_block, "needs block_dims");
    needs(w, "conv_block_dims", a->by_block, "needs block_dims");
    needs(w, "conv_block_alphas", has_conv, "needs conv_block_dims");
    needs(w, "conv_alpha", has_conv || a->conv, "needs conv_dim");
    b->conv = has_conv || a->conv;
    for (int i = 0; i < SD_UNET_BLOCKS; i++) {
        bool still = a->by_rate && a->rate[i] == 0;
        b->rank[i] = still ? 0 : has_dims ? (int64_t)dims[i] : rank;
        b->alpha[i] = has_alphas ? (float)alphas[i] : alpha;
        b->conv_rank[i] = still ? 0 : has_conv ? (int64_t)conv_dims[i] : a->conv_rank;
        b->conv_alpha[i] = has_conv && has_conv_alphas ? (float)conv_alphas[i] : a->conv_alpha;
    }
}

static void check_keys(struct words *w)
{
    for (size_t i = 0; i < w->list->n && !w->failed; i++) {
        const char *word = w->list->v[i];
        size_t len = strcspn(word, "="), k = 0, n = sizeof keys / sizeof *keys;
        while (k < n && (strlen(keys[k]) != len || memcmp(keys[k], word, len)))
            k++;
        w->failed = !word[len] || k == n;
        if (!word[len])
            sd_err_set(w->err, SD_ERR_USAGE, "network_args: \"%s\" is not KEY=VALUE", word);
        else if (k == n)
            sd_err_set(w->err, SD_ERR_USAGE, "network_args: networks.lora has no \"%.*s\"", (int)len, word);
    }
}

int sd_network_args_parse(struct sd_network_args *a, const struct sd_strings *given, int64_t rank,
                          float alpha, struct sd_err *err)
{
    struct words w = {.list = given, .err = err};
    double v, plus = NAN;
    *a = (struct sd_network_args){.conv_alpha = 1, .plus_text = NAN, .plus_unet = NAN};
    check_keys(&w);
    if (one(&w, "conv_dim", 1, MAX_RANK, &v)) {
        a->conv = true;
        a->conv_rank = (int64_t)v;
        if (v != floor(v))
            fail(&w, "conv_dim", "a rank is a whole number");
    }
    if (one(&w, "conv_alpha", -1e30, 1e30, &v))
        a->conv_alpha = (float)v;
    parse_rates(&w, a);
    parse_blocks(&w, a, rank, alpha);
    one(&w, "loraplus_lr_ratio", 0, 1e30, &plus);
    if (one(&w, "loraplus_unet_lr_ratio", 0, 1e30, &v))
        a->plus_unet = v;
    if (one(&w, "loraplus_text_encoder_lr_ratio", 0, 1e30, &v))
        a->plus_text = v;
    a->plus_unet = isnan(a->plus_unet) || a->plus_unet == 0 ? plus : a->plus_unet;
    a->plus_text = isnan(a->plus_text) || a->plus_text == 0 ? plus : a->plus_text;
    one(&w, "rank_dropout", 0, 1 - 1e-6, &a->rank_dropout);
    one(&w, "module_dropout", 0, 1, &a->module_dropout);
    for (size_t i = 0; i < given->n; i++)
        a->shapes |= !strstr(given->v[i], "lr_weight=") && strncmp(given->v[i], "block_lr_", 9) != 0;
    return w.failed ? -1 : 0;
}

void sd_network_args_apply(const struct sd_network_args *a, struct sd_lora_options *o)
{
    o->conv_rank = a->conv_rank;
    o->conv_alpha = a->conv_alpha;
    o->blocks = a->by_block ? &a->blocks : NULL;
    o->dropout.rank = a->rank_dropout;
    o->dropout.module = a->module_dropout;
}
