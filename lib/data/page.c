#include "data/page.h"

#include "base/atomic.h"
#include "base/base64.h"
#include "base/hash.h"
#include "base/path.h"
#include "base/temp.h"
#include "record/spool.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const char sd_page_html[] __attribute__((visibility("hidden")));
__asm__(".pushsection .rodata\n"
        ".global sd_page_html\n"
        ".hidden sd_page_html\n"
        "sd_page_html:\n"
        ".incbin \"lib/data/page.html\"\n"
        ".byte 0\n"
        ".popsection\n");

struct sd_page {
    struct sd_atomic *out;
    char *path, *title;
    struct sd_spool records;
    FILE *pictures; /* their elements, as they go into the page */
    size_t n;
    struct sd_record slim;
    struct sd_buf text;
};

/* ---- text of others in a page ---- */

/* Appends text as HTML. What is no text there (control characters, bytes that are not UTF-8) becomes U+FFFD.
 */
static int add_html(struct sd_buf *out, const char *s, size_t len)
{
    for (size_t at = 0; at < len;) {
        uint32_t cp;
        char utf8[4];
        at += sd_unicode_next(s + at, len - at, &cp);
        if ((cp < 0x20 && cp != '\n' && cp != '\t') || (cp >= 0x7f && cp < 0xa0))
            cp = 0xfffd;
        const char *entity = cp == '<'   ? "&lt;"
                             : cp == '>' ? "&gt;"
                             : cp == '&' ? "&amp;"
                             : cp == '"' ? "&quot;"
                                         : NULL;
        if (entity ? sd_buf_adds(out, entity) : sd_buf_add(out, utf8, sd_unicode_encode(cp, utf8)))
            return -1;
    }
    return 0;
}

/* Appends JSON so that a script element can hold it: a "<" stands in strings only, and none is left that
 * could end the element. */
static int add_json(struct sd_buf *out, const char *s, size_t len)
{
    for (size_t at = 0; at < len;) {
        const char *lt = memchr(s + at, '<', len - at);
        size_t n = lt ? (size_t)(lt - s) - at : len - at;
        if (sd_buf_add(out, s + at, n) || (lt && sd_buf_adds(out, "\\u003c")))
            return -1;
        at += n + (lt != NULL);
    }
    return 0;
}

/* ---- adding ---- */

int sd_page_open(struct sd_page **p, const char *path, const char *title, struct sd_err *err)
{
    const char *base = sd_path_base(path);
    *p = calloc(1, sizeof **p);
    if (!*p)
        return sd_err_memory(err, sizeof **p);
    (*p)->path = strdup(path);
    (*p)->title = title ? strdup(title) : strndup(base, sd_path_stem_len(base));
    if (!(*p)->path || !(*p)->title)
        sd_err_memory(err, strlen(path));
    else if (!sd_atomic_open(&(*p)->out, path, err) && !sd_spool_open(&(*p)->records, err) &&
             ((*p)->pictures = sd_temp_stream(err)))
        return 0;
    sd_page_discard(p);
    return -1;
}

/* The members that the page shows, as they are. */
static int slim_down(const struct sd_record *r, struct sd_record *slim, struct sd_err *err)
{
    static const char *const shown[] = {"path",    "width", "height", "caption", "tags",
                                        "repeats", "reg",   "seen",   "error"};
    sd_record_reset(slim);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        const struct sd_member *m = sd_record_find(r, shown[i]);
        if (m && sd_record_set_raw(slim, shown[i], m->value, m->value_len))
            return sd_err_memory(err, m->value_len);
    }
    return 0;
}

static int add_picture(struct sd_page *p, const void *picture, size_t len, struct sd_err *err)
{
    static const char png[] = "\x89PNG";
    const char *type = len > 4 && !memcmp(picture, png, 4) ? "png" : "jpeg";
    sd_buf_clear(&p->text);
    if (sd_buf_addf(&p->text, "<script type=\"text/plain\" id=\"p%zu\">data:image/%s;base64,", p->n, type) ||
        sd_base64_add(&p->text, picture, len) || sd_buf_adds(&p->text, "</script>\n"))
        return sd_err_memory(err, len * 2);
    if (fwrite(p->text.data, 1, p->text.len, p->pictures) != p->text.len)
        return sd_temp_failed(err, "cannot write the temporary file");
    return 0;
}

int sd_page_add(struct sd_page *p, const struct sd_record *r, const void *picture, size_t len,
                struct sd_err *err)
{
    if (slim_down(r, &p->slim, err) || sd_spool_add(&p->records, &p->slim, err) ||
        (len && add_picture(p, picture, len, err)))
        return -1;
    p->n++;
    return 0;
}

/* ---- writing ---- */

static int put(struct sd_page *p, struct sd_err *err)
{
    return sd_atomic_write(p->out, p->text.data, p->text.len, err);
}

static int write_title(struct sd_page *p, struct sd_err *err)
{
    sd_buf_clear(&p->text);
    return add_html(&p->text, p->title, strlen(p->title)) ? sd_err_memory(err, p->text.len) : put(p, err);
}

/* The hash by which the page's policy knows its script: of all between the markers' ends. */
static int write_hash(struct sd_page *p, struct sd_err *err)
{
    const char *begin = strstr(sd_page_html, "<script>@BEGIN@"), *end = strstr(sd_page_html, "@END@");
    uint8_t digest[SD_SHA256_BYTES];
    if (!begin || !end)
        return sd_err_set(err, SD_ERR_MACHINE, "the built-in page has no script");
    begin += strlen("<script>@BEGIN@");
    sd_sha256_sum(begin, (size_t)(end - begin), digest);
    sd_buf_clear(&p->text);
    return sd_base64_add(&p->text, digest, sizeof digest) ? sd_err_memory(err, 64) : put(p, err);
}

static int write_records(struct sd_page *p, struct sd_err *err)
{
    const char *before = "[\n";
    int got;
    if (sd_spool_rewind(&p->records, err))
        return -1;
    while ((got = sd_spool_next(&p->records, &p->slim, err)) > 0) {
        struct sd_buf line = SD_BUF_INIT;
        sd_buf_clear(&p->text);
        int bad = sd_record_write(&p->slim, &line) || sd_buf_adds(&p->text, before) ||
                  add_json(&p->text, line.data, line.len);
        sd_buf_free(&line);
        if (bad)
            return sd_err_memory(err, p->text.len);
        if (put(p, err))
            return -1;
        before = ",\n";
    }
    return got < 0 ? -1 : sd_atomic_write(p->out, p->n ? "\n]" : "[]", 2, err);
}

/* A line of the list for readers without scripts. */
static int add_list_line(struct sd_record *r, struct sd_buf *out)
{
    struct sd_record seen = SD_RECORD_INIT;
    const struct sd_member *m = sd_record_find(r, "seen");
    const char *path, *caption;
    size_t path_len, caption_len;
    int bad = sd_buf_adds(out, "<li>");
    if (sd_record_string(r, "path", &path, &path_len, NULL) == 1)
        bad |= sd_buf_adds(out, "<b>") || add_html(out, path, path_len) || sd_buf_adds(out, "</b> ");
    if (m && !sd_record_parse(&seen, m->value, m->value_len, NULL) &&
        sd_record_string(&seen, "caption", &caption, &caption_len, NULL) == 1)
        bad |= add_html(out, caption, caption_len);
    sd_record_free(&seen);
    return bad | sd_buf_adds(out, "</li>\n");
}

static int write_list(struct sd_page *p, struct sd_err *err)
{
    int got;
    if (sd_spool_rewind(&p->records, err))
        return -1;
    while ((got = sd_spool_next(&p->records, &p->slim, err)) > 0) {
        sd_buf_clear(&p->text);
        if (add_list_line(&p->slim, &p->text))
            return sd_err_memory(err, p->text.len);
        if (put(p, err))
            return -1;
    }
    return got;
}

static int write_pictures(struct sd_page *p, struct sd_err *err)
{
    char block[65536];
    size_t n;
    if (fflush(p->pictures) || fseeko(p->pictures, 0, SEEK_SET))
        return sd_temp_failed(err, "cannot write the temporary file");
    while ((n = fread(block, 1, sizeof block, p->pictures)) > 0)
        if (sd_atomic_write(p->out, block, n, err))
            return -1;
    return ferror(p->pictures) ? sd_temp_failed(err, "cannot read the temporary file") : 0;
}

static int write_nothing(struct sd_page *p, struct sd_err *err)
{
    (void)p, (void)err;
    return 0;
}

static int write_page(struct sd_page *p, struct sd_err *err)
{
    static const struct {
        const char *marker;
        int (*write)(struct sd_page *p, struct sd_err *err);
    } parts[] = {{"@HASH@", write_hash},        {"@TITLE@", write_title},   {"@RECORDS@", write_records},
                 {"@LIST@", write_list},        {"@BEGIN@", write_nothing}, {"@END@", write_nothing},
                 {"@PICTURES@", write_pictures}};
    const char *at = sd_page_html, *stop;
    while ((stop = strchr(at, '@'))) {
        size_t i = 0, n = sizeof parts / sizeof *parts;
        while (i < n && strncmp(stop, parts[i].marker, strlen(parts[i].marker)))
            i++;
        size_t len = i < n ? 0 : 1; /* an @ of the page itself */
        if (sd_atomic_write(p->out, at, (size_t)(stop - at) + len, err) || (i < n && parts[i].write(p, err)))
            return -1;
        at = stop + (i < n ? strlen(parts[i].marker) : 1);
    }
    return sd_atomic_write(p->out, at, strlen(at), err);
}

int sd_page_commit(struct sd_page **p, uint64_t *bytes, struct sd_err *err)
{
    int rc = write_page(*p, err);
    *bytes = sd_atomic_size((*p)->out);
    rc = rc ? sd_err_prefix(err, "%s", (*p)->path) : sd_atomic_commit(&(*p)->out, err);
    sd_page_discard(p);
    return rc;
}

void sd_page_discard(struct sd_page **p)
{
    if (!*p)
        return;
    sd_atomic_discard(&(*p)->out);
    sd_spool_free(&(*p)->records);
    if ((*p)->pictures)
        fclose((*p)->pictures);
    sd_record_free(&(*p)->slim);
    sd_buf_free(&(*p)->text);
    free((*p)->path);
    free((*p)->title);
    free(*p);
    *p = NULL;
}
