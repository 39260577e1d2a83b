#include "data/clean_record.h"

#include <stdlib.h>
#include <string.h>

#include "record/scan.h"

typedef int clean_fn(const struct sd_cleaning *c, const char *text, size_t len, struct sd_buf *out,
                     struct sd_err *err);

static bool is_string(const struct sd_record *r, const char *name)
{
    const struct sd_member *m = sd_record_find(r, name);
    return m && *m->value == '"';
}

/* Cleans w->text into w->cleaned: 1 when they differ, 0, or -1. */
static int clean_text(struct sd_clean_worker *w, clean_fn *clean, struct sd_err *err)
{
    sd_buf_clear(&w->cleaned);
    if (sd_buf_reserve(&w->cleaned, w->text.len))
        return sd_err_memory(err, w->text.len);
    if (clean(&w->by, w->text.data, w->text.len, &w->cleaned, err))
        return -1;
    return w->cleaned.len != w->text.len || memcmp(w->cleaned.data, w->text.data, w->text.len);
}

static int clean_string(struct sd_clean_worker *w, struct sd_record *r, const char *name, clean_fn *clean,
                        struct sd_err *err)
{
    const char *s;
    size_t len;
    if (sd_record_string(r, name, &s, &len, err) < 0)
        return -1;
    sd_buf_clear(&w->text);
    if (sd_buf_add(&w->text, s, len))
        return sd_err_memory(err, len);
    int changed = clean_text(w, clean, err);
    if (changed == 1 && sd_record_set_bytes(r, name, w->cleaned.data, w->cleaned.len))
        return sd_err_memory(err, w->cleaned.len);
    return changed;
}

/* Several captions, each by itself. */
static int clean_lines(struct sd_clean_worker *w, struct sd_record *r, const char *name, struct sd_err *err)
{
    size_t n = w->parts.n, at = 0;
    char **cleaned = calloc(n + 1, sizeof *cleaned);
    int changed = 0, rc = cleaned ? 0 : sd_err_memory(err, n * sizeof *cleaned);
    for (; !rc && at < n; at++) {
        sd_buf_clear(&w->text);
        rc = sd_buf_adds(&w->text, w->parts.v[at]) ? sd_err_memory(err, strlen(w->parts.v[at])) : 0;
        int differs = rc ? rc : clean_text(w, sd_clean_caption_by, err);
        changed |= differs == 1;
        if (differs < 0)
            rc = -1;
        else if (!(cleaned[at] = strdup(w->cleaned.data)))
            rc = sd_err_memory(err, w->cleaned.len);
    }
    if (!rc && changed && sd_record_set_strings(r, name, (const char *const *)cleaned, n))
        rc = sd_err_memory(err, n);
    while (at > 0)
        free(cleaned[--at]);
    free(cleaned);
    return rc ? rc : changed;
}

/* The rules are about the tags as one text, with ", " between them. */
static int clean_list(struct sd_clean_worker *w, struct sd_record *r, const char *name, struct sd_err *err)
{
    int rc = 0;
    sd_buf_clear(&w->text);
    rc |= sd_buf_reserve(&w->text, 0);
    for (size_t i = 0; i < w->parts.n; i++)
        rc |= (i ? sd_buf_adds(&w->text, ", ") : 0) | sd_buf_adds(&w->text, w->parts.v[i]);
    if (rc)
        return sd_err_memory(err, w->text.len);
    int changed = clean_text(w, sd_clean_tags_by, err);
    if (changed < 1)
        return changed;
    w->parts.n = 0;
    for (char *s = w->cleaned.len ? w->cleaned.data : NULL, *next; s; s = next) {
        if ((next = strstr(s, ", "))) {
            *next = 0;
            next += 2;
        }
        rc |= sd_strings_add(&w->parts, s);
    }
    return rc || sd_record_set_strings(r, name, w->parts.v, w->parts.n) ? sd_err_memory(err, w->cleaned.len)
                                                                        : 1;
}

/* 1 when the member changed, 0 when it was clean or is not there, -1. */
static int clean_member(struct sd_clean_worker *w, struct sd_record *r, const char *name, clean_fn *clean,
                        struct sd_err *err)
{
    if (is_string(r, name))
        return clean_string(w, r, name, clean, err);
    w->parts.n = 0;
    int got = sd_record_strings(r, name, &w->parts, err);
    if (got < 1)
        return got;
    return clean == sd_clean_tags_by ? clean_list(w, r, name, err) : clean_lines(w, r, name, err);
}

static int add_quoted(struct sd_buf *b, const char *name, const char *s, size_t len)
{
    return sd_buf_adds(b, name) || sd_scan_quote(b, s, len);
}

/* "cleaned":[{"member":...,"rule":...,"from":...,"to":...},...] */
static int explain(struct sd_clean_worker *w, struct sd_record *r, struct sd_err *err)
{
    struct sd_buf *b = &w->json;
    const char *text = w->notes.text.data;
    sd_buf_clear(b);
    int bad = sd_buf_addc(b, '[');
    for (size_t i = 0; i < w->notes.n && !bad; i++) {
        const struct sd_clean_note *n = &w->notes.v[i];
        bad = (i && sd_buf_addc(b, ',')) || add_quoted(b, "{\"member\":", n->member, strlen(n->member)) ||
              add_quoted(b, ",\"rule\":", n->rule, strlen(n->rule)) ||
              add_quoted(b, ",\"from\":", text ? text + n->from : "", n->from_len) ||
              (n->gone ? sd_buf_adds(b, ",\"to\":null")
                       : add_quoted(b, ",\"to\":", text ? text + n->to : "", n->to_len)) ||
              sd_buf_addc(b, '}');
    }
    if (bad || sd_buf_addc(b, ']') || sd_record_set_raw(r, "cleaned", b->data, b->len))
        return sd_err_memory(err, b->len);
    return 0;
}

int sd_clean_record(struct sd_clean_worker *w, struct sd_record *r, struct sd_err *err)
{
    w->notes.n = 0;
    sd_buf_clear(&w->notes.text);
    int caption = w->captions ? clean_member(w, r, "caption", sd_clean_caption_by, err) : 0;
    int tags = w->tags && caption >= 0 ? clean_member(w, r, "tags", sd_clean_tags_by, err) : 0;
    if (caption < 0 || tags < 0 || (w->by.notes && caption + tags > 0 && explain(w, r, err)))
        return -1;
    w->changed_captions += (uint64_t)caption;
    w->changed_tags += (uint64_t)tags;
    return 0;
}

void sd_clean_worker_free(struct sd_clean_worker *w)
{
    sd_buf_free(&w->text);
    sd_buf_free(&w->cleaned);
    sd_buf_free(&w->json);
    sd_strings_free(&w->parts);
    sd_clean_notes_free(&w->notes);
}
