/* Rules that clean_captions_and_tags.py has not; off until asked for. */
#include <string.h>

#include "base/json.h" /* sd_utf8_valid */
#include "text/clean_private.h"
#include "text/strmap.h"
#include "text/unicode.h"

/* Bytes that are not UTF-8 (they stand for themselves in a record) have no normal form. */
int clean_nfc(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    struct sd_unicode u = {0};
    struct sd_err err;
    size_t i = 0;
    while (i < text->len && !(text->data[i] & 0x80))
        i++;
    if (i == text->len || !sd_utf8_valid(text->data, text->len))
        return 0;
    int rc = sd_unicode_decode(text->data, text->len, &u, &err) || sd_unicode_nfc(&u, &err);
    sd_buf_clear(text);
    for (i = 0; i < u.len && !rc; i++) {
        char bytes[4];
        rc = sd_buf_add(text, bytes, sd_unicode_encode(u.cp[i], bytes));
    }
    sd_unicode_release(&u);
    return rc;
}

/* Appends s with single blanks between its words. */
static int add_squeezed(struct sd_buf *out, struct sd_str s)
{
    size_t start = out->len;
    int blank = 0;
    for (size_t i = 0; i < s.len;) {
        uint32_t cp;
        size_t bytes = sd_unicode_next(s.data + i, s.len - i, &cp);
        if (sd_unicode_is_space(cp)) {
            blank = out->len > start;
        } else {
            if ((blank && sd_buf_addc(out, ' ')) || sd_buf_add(out, s.data + i, bytes))
                return -1;
            blank = 0;
        }
        i += bytes;
    }
    return 0;
}

static void take(struct sd_buf *text, struct sd_buf *from)
{
    sd_buf_free(text);
    *text = *from;
}

int clean_caption_spaces(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    struct sd_buf out = SD_BUF_INIT;
    if (sd_buf_reserve(&out, text->len) || add_squeezed(&out, clean_view(text))) {
        sd_buf_free(&out);
        return -1;
    }
    take(text, &out);
    return 0;
}

/* Appends to out what becomes of a tag: 1 when it stays, 0 when it goes (nothing is appended), -1. */
typedef int each_tag(void *ctx, struct sd_str tag, struct sd_buf *out);

static int for_each_tag(struct sd_buf *text, each_tag *fn, void *ctx)
{
    struct sd_buf out = SD_BUF_INIT;
    struct sd_str rest = clean_view(text), tag;
    int rc = sd_buf_reserve(&out, text->len), any = 0;
    if (text->len == 0)
        rest.data = NULL;
    while (!rc && sd_str_cut(&rest, sd_str_of(", "), &tag)) {
        size_t before = out.len;
        if (any && sd_buf_adds(&out, ", ")) {
            rc = -1;
            break;
        }
        int stays = fn(ctx, tag, &out);
        if (stays < 0)
            rc = -1;
        else if (stays)
            any = 1;
        else
            out.len = before;
    }
    if (rc) {
        sd_buf_free(&out);
        return -1;
    }
    if (out.data)
        out.data[out.len] = 0;
    take(text, &out);
    return 0;
}

static int squeeze_tag(void *ctx, struct sd_str tag, struct sd_buf *out)
{
    (void)ctx;
    size_t before = out->len;
    return add_squeezed(out, tag) ? -1 : out->len > before;
}

int clean_tag_spaces(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    return for_each_tag(text, squeeze_tag, NULL);
}

static int keep_tag(struct sd_buf *out, struct sd_str tag)
{
    return tag.len && sd_buf_add(out, tag.data, tag.len) ? -1 : 1;
}

static int drop_rating(void *ctx, struct sd_str tag, struct sd_buf *out)
{
    static const char *const ratings[] = {"general", "sensitive", "questionable", "explicit"};
    (void)ctx;
    for (size_t i = 0; i < sizeof ratings / sizeof *ratings; i++)
        if (tag.len == strlen(ratings[i]) && !memcmp(tag.data, ratings[i], tag.len))
            return 0;
    return sd_str_starts(tag, sd_str_of("rating:")) ? 0 : keep_tag(out, tag);
}

int clean_rating_tags(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    return for_each_tag(text, drop_rating, NULL);
}

static int blank_underscores(void *ctx, struct sd_str tag, struct sd_buf *out)
{
    (void)ctx;
    size_t before = out->len, characters = 0;
    for (size_t i = 0; i < tag.len && characters <= 3; characters++) {
        uint32_t cp;
        i += sd_unicode_next(tag.data + i, tag.len - i, &cp);
    }
    if (keep_tag(out, tag) < 0)
        return -1;
    for (size_t i = before; characters > 3 && i < out->len; i++)
        if (out->data[i] == '_')
            out->data[i] = ' ';
    return 1;
}

int clean_wd_underscores(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    return for_each_tag(text, blank_underscores, NULL);
}

static int drop_seen(void *ctx, struct sd_str tag, struct sd_buf *out)
{
    size_t old;
    if (sd_strmap_put(ctx, tag, 0, &old))
        return -1;
    return old == SD_STRMAP_NONE ? keep_tag(out, tag) : 0;
}

int clean_duplicates(const struct sd_cleaning *c, enum sd_clean_id id, struct sd_buf *text)
{
    (void)c, (void)id;
    struct sd_strmap seen = {0};
    int rc = for_each_tag(text, drop_seen, &seen);
    sd_strmap_free(&seen);
    return rc;
}
