/* Captions at fetch time. The steps and their order are process_caption's; every random draw is there too. */
#include "text/caption.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/str.h"

/* Tags of a caption: pieces of its text, borrowed. */
struct tags {
    struct sd_str *tag;
    size_t len;
};

static int is_set(const char *s)
{
    return s && *s;
}

static struct sd_str view(const struct sd_buf *b)
{
    return (struct sd_str){.data = b->data ? b->data : "", .len = b->len};
}

/* Replaces text by `piece`, which may lie inside it. */
static int keep_piece(struct sd_buf *text, struct sd_str piece)
{
    struct sd_buf kept = SD_BUF_INIT;
    if (sd_buf_add(&kept, piece.data, piece.len))
        return -1;
    sd_buf_free(text);
    *text = kept;
    return 0;
}

int sd_caption_join(const char *caption, const char *const *tags, size_t tags_len, const char *separator,
                    struct sd_buf *out)
{
    int rc = sd_buf_adds(out, caption ? caption : "");
    if (caption && tags_len)
        rc |= sd_buf_adds(out, separator ? separator : ",");
    for (size_t i = 0; i < tags_len; i++)
        rc |= (i ? sd_buf_adds(out, ", ") : 0) | sd_buf_adds(out, tags[i]);
    return rc;
}

/* Piece number k of text cut at every separator. */
static struct sd_str piece_at(struct sd_str text, struct sd_str separator, size_t k)
{
    struct sd_str piece = {0};
    do
        sd_str_cut(&text, separator, &piece);
    while (k-- > 0);
    return piece;
}

static size_t count_pieces(struct sd_str text, struct sd_str separator)
{
    struct sd_str piece;
    size_t n = 0;
    while (sd_str_cut(&text, separator, &piece))
        n++;
    return n;
}

static struct sd_str choose_piece(struct sd_str text, struct sd_str separator, struct sd_pyrandom *random)
{
    return piece_at(text, separator, sd_pyrandom_below(random, count_pieces(text, separator)));
}

/* Every {a|b|c} becomes one of a, b, c. */
static int choose_alternatives(struct sd_buf *text, struct sd_pyrandom *random)
{
    struct sd_buf out = SD_BUF_INIT;
    struct sd_str s = view(text);
    size_t i = 0;
    int rc = 0;
    while (i < s.len && rc == 0) {
        const char *end = s.data[i] == '{' ? memchr(s.data + i, '}', s.len - i) : NULL;
        if (end && end > s.data + i + 1) {
            struct sd_str inside = {.data = s.data + i + 1, .len = (size_t)(end - s.data) - i - 1};
            struct sd_str chosen = choose_piece(inside, sd_str_of("|"), random);
            rc = sd_buf_add(&out, chosen.data, chosen.len);
            i = (size_t)(end - s.data) + 1;
        } else {
            rc = sd_buf_addc(&out, s.data[i++]);
        }
    }
    if (rc)
        sd_buf_free(&out);
    else {
        sd_buf_free(text);
        *text = out;
    }
    return rc;
}

/* Wildcards, where {{ and }} stand for plain braces: they hide behind brackets the caption does not use. */
static int expand_wildcards(struct sd_buf *text, struct sd_pyrandom *random)
{
    struct sd_buf open = SD_BUF_INIT, close = SD_BUF_INIT;
    struct sd_str newline = sd_str_of("\n");
    int rc = 0;
    if (sd_str_find(view(text), newline, 0) != SIZE_MAX)
        rc = keep_piece(text, choose_piece(view(text), newline, random));
    do
        rc = rc || sd_buf_adds(&open, "\u2985") || sd_buf_adds(&close, "\u2986");
    while (!rc && (sd_str_find(view(text), view(&open), 0) != SIZE_MAX ||
                   sd_str_find(view(text), view(&close), 0) != SIZE_MAX));
    rc = rc || sd_str_replace(text, sd_str_of("{{"), view(&open)) ||
         sd_str_replace(text, sd_str_of("}}"), view(&close)) || choose_alternatives(text, random) ||
         sd_str_replace(text, view(&open), sd_str_of("{")) ||
         sd_str_replace(text, view(&close), sd_str_of("}"));
    sd_buf_free(&open);
    sd_buf_free(&close);
    return rc ? -1 : 0;
}

/* The stripped pieces of text, without the empty ones unless asked for. */
static int split_tags(struct sd_str text, struct sd_str separator, int keep_empty, struct tags *out)
{
    size_t n = count_pieces(text, separator);
    struct sd_str piece;
    out->len = 0;
    if (!(out->tag = malloc(n * sizeof *out->tag)))
        return -1;
    while (sd_str_cut(&text, separator, &piece)) {
        piece = sd_str_strip(piece);
        if (piece.len > 0 || keep_empty)
            out->tag[out->len++] = piece;
    }
    return 0;
}

/* list[:n] of Python, where a negative n counts from the end. */
static size_t slice_end(size_t len, double n)
{
    if (n < 0)
        n += (double)len;
    return n <= 0 ? 0 : n < (double)len ? (size_t)n : len;
}

/* Number of flexible tags in use at this step of the warm-up. */
static size_t warm_tags(struct sd_caption_options *o, const struct sd_caption_context *context, size_t len)
{
    if (o->token_warmup_step < 1)
        o->token_warmup_step = floor(o->token_warmup_step * (double)context->max_train_steps);
    double step = (double)context->step;
    if (o->token_warmup_step == 0 || step >= o->token_warmup_step)
        return len;
    double slope = ((double)len - (double)o->token_warmup_min) / o->token_warmup_step;
    return slice_end(len, floor(step * slope) + (double)o->token_warmup_min);
}

static int add_joined(struct sd_buf *out, const struct sd_str *tag, size_t n, int *some)
{
    for (size_t i = 0; i < n; i++) {
        if (((*some)++ && sd_buf_adds(out, ", ")) || sd_buf_add(out, tag[i].data, tag[i].len))
            return -1;
    }
    return 0;
}

/* Splits text into fixed and flexible tags; the latter are cut short, shuffled and thinned. */
static int arrange_tags(struct sd_caption_options *o, const struct sd_caption_context *context,
                        struct sd_pyrandom *random, struct sd_buf *text)
{
    struct sd_str separator = sd_str_of(o->separator), keep = sd_str_of(o->keep_tokens_separator);
    struct tags fixed = {0}, flex = {0}, ending = {0};
    struct sd_str rest = view(text), part;
    struct sd_buf out = SD_BUF_INIT;
    size_t first = 0; /* flexible tags that are fixed after all */
    int some = 0, rc;
    if (keep.len > 0 && sd_str_find(rest, keep, 0) != SIZE_MAX) {
        sd_str_cut(&rest, keep, &part);
        rc = split_tags(part, separator, 0, &fixed);
        sd_str_cut(&rest, keep, &part);
        rc = rc || split_tags(part, separator, 0, &flex);
        if (rest.data)
            rc = rc || split_tags(rest, separator, 0, &ending);
    } else {
        rc = split_tags(sd_str_strip(rest), separator, 1, &flex);
        if (o->keep_tokens > 0)
            first = (uint64_t)o->keep_tokens < flex.len ? (size_t)o->keep_tokens : flex.len;
    }
    if (rc == 0) {
        struct sd_str *tag = flex.tag + first;
        size_t n = warm_tags(o, context, flex.len - first), kept = 0;
        if (o->shuffle)
            sd_pyrandom_shuffle(random, tag, n, sizeof *tag);
        for (size_t i = 0; i < n; i++)
            if (o->tag_dropout_rate <= 0 || sd_pyrandom_random(random) >= o->tag_dropout_rate)
                tag[kept++] = tag[i];
        rc = add_joined(&out, fixed.tag, fixed.len, &some) || add_joined(&out, flex.tag, first, &some) ||
             add_joined(&out, tag, kept, &some) || add_joined(&out, ending.tag, ending.len, &some);
    }
    free(fixed.tag);
    free(flex.tag);
    free(ending.tag);
    if (rc) {
        sd_buf_free(&out);
        return -1;
    }
    sd_buf_free(text);
    *text = out;
    return 0;
}

static int replace_concepts(const struct sd_caption_context *context, struct sd_pyrandom *random,
                            struct sd_buf *text)
{
    for (size_t i = 0; i < context->replacements_len; i++) {
        const struct sd_caption_replacement *r = &context->replacements[i];
        if (r->to_len == 0)
            continue;
        size_t k = !is_set(r->from) && r->is_list ? sd_pyrandom_below(random, r->to_len) : 0;
        if (is_set(r->from) ? sd_str_replace(text, sd_str_of(r->from), sd_str_of(r->to[k]))
                            : keep_piece(text, sd_str_of(r->to[k])))
            return -1;
    }
    return 0;
}

static int process(struct sd_caption_options *o, const struct sd_caption_context *context,
                   struct sd_pyrandom *random, struct sd_buf *text)
{
    if (o->enable_wildcard ? expand_wildcards(text, random)
                           : keep_piece(text, piece_at(view(text), sd_str_of("\n"), 0)))
        return -1;
    if ((o->shuffle || o->token_warmup_step > 0 || o->tag_dropout_rate > 0) &&
        arrange_tags(o, context, random, text))
        return -1;
    if (is_set(o->secondary_separator) &&
        sd_str_replace(text, sd_str_of(o->secondary_separator), sd_str_of(o->separator)))
        return -1;
    return replace_concepts(context, random, text);
}

int sd_caption_process(struct sd_caption_options *options, const struct sd_caption_context *context,
                       struct sd_pyrandom *random, const char *caption, size_t len, struct sd_buf *out,
                       struct sd_err *err)
{
    struct sd_caption_options *o = options;
    if (!o->separator)
        o->separator = ",";
    if (!*o->separator)
        return sd_err_set(err, SD_ERR_USAGE, "the caption separator is empty");
    int dropped = o->dropout_rate > 0 && sd_pyrandom_random(random) < o->dropout_rate;
    if (dropped || (o->dropout_every_n_epochs > 0 && context->epoch % o->dropout_every_n_epochs == 0))
        return 0;
    struct sd_buf text = SD_BUF_INIT;
    int rc = 0;
    if (is_set(o->prefix))
        rc = sd_buf_adds(&text, o->prefix) || sd_buf_addc(&text, ' ');
    rc = rc || sd_buf_add(&text, caption, len);
    if (is_set(o->suffix))
        rc = rc || sd_buf_addc(&text, ' ') || sd_buf_adds(&text, o->suffix);
    rc = rc || process(o, context, random, &text) || sd_buf_add(out, view(&text).data, text.len);
    sd_buf_free(&text);
    return rc ? sd_err_memory(err, len) : 0;
}
