#include "data/metadata.h"

#include "base/path.h"
#include "record/scan.h"
#include "store/archive.h"
#include "text/sidecar.h"
#include "text/str.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- texts ---- */

static const char LINE_ENDS[] = "\r\n", TAG_ENDS[] = ",\r\n";

static int split(char *text, size_t len, const char *at, struct sd_strings *parts, struct sd_err *err)
{
    const char *nul = len ? memchr(text, 0, len) : NULL;
    parts->n = 0;
    if (nul)
        return sd_err_set(err, SD_ERR_DATA, "a NUL character at byte %zu of the text",
                          (size_t)(nul - text) + 1);
    return sd_text_split(text, len, at, parts) ? sd_err_memory(err, len) : 0;
}

int sd_caption_set(struct sd_record *r, char *text, size_t len, struct sd_strings *parts, struct sd_err *err)
{
    if (split(text, len, LINE_ENDS, parts, err))
        return -1;
    int bad = parts->n > 1 ? sd_record_set_strings(r, "caption", parts->v, parts->n)
                           : sd_record_set_string(r, "caption", parts->n ? parts->v[0] : "");
    return bad ? sd_err_memory(err, len) : 0;
}

int sd_tags_set(struct sd_record *r, char *text, size_t len, struct sd_strings *parts, struct sd_err *err)
{
    if (split(text, len, TAG_ENDS, parts, err))
        return -1;
    return sd_record_set_strings(r, "tags", parts->v, parts->n) ? sd_err_memory(err, len) : 0;
}

/* What differs between captions and tags. */
struct kind {
    const char *name, *kept; /* the members */
    const char *ends, *between;
    int (*set)(struct sd_record *, char *, size_t, struct sd_strings *, struct sd_err *);
};

static const struct kind KINDS[] = {{"caption", "metadata_caption", LINE_ENDS, "\n", sd_caption_set},
                                    {"tags", "metadata_tags", TAG_ENDS, ", ", sd_tags_set}};
enum { N_KINDS = sizeof KINDS / sizeof *KINDS, SHOWN_BYTES = 100 };

static int join(const struct sd_strings *parts, const char *between, struct sd_buf *out)
{
    int bad = sd_buf_reserve(out, 0);
    out->len = 0;
    for (size_t i = 0; i < parts->n && !bad; i++)
        bad |= (i ? sd_buf_adds(out, between) : 0) || sd_buf_adds(out, parts->v[i]);
    return bad;
}

static int copy_text(struct sd_buf *to, const char *text, size_t len, struct sd_err *err)
{
    sd_buf_clear(to);
    return sd_buf_add(to, text, len) ? sd_err_memory(err, len) : 0;
}

void sd_metadata_free(struct sd_metadata *m)
{
    sd_record_free(&m->entry);
    sd_buf_free(&m->line);
    sd_buf_free(&m->text);
    sd_buf_free(&m->copy);
    sd_strings_free(&m->parts);
    sd_strings_free(&m->again);
}

/* ---- an entry becomes a record ---- */

static bool is_named(const struct sd_member *m, const char *name)
{
    return m->name_len == strlen(name) && !memcmp(m->name, name, m->name_len);
}

/* Adds `,"name":` as the text has it. */
static int add_name(struct sd_buf *out, const struct sd_member *m)
{
    const char *open = memchr(m->lead, '"', m->lead_len), *close = m->lead + m->lead_len;
    while (close[-1] != '"')
        close--;
    return sd_buf_add(out, open, (size_t)(close - open)) || sd_buf_addc(out, ':');
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Adds a JSON text without the white space between tokens that holds a line break; all else as it is. */
static int add_on_one_line(struct sd_buf *out, const char *p, size_t len)
{
    const char *end = p + len, *from = p;
    if (!memchr(p, '\n', len) && !memchr(p, '\r', len))
        return sd_buf_add(out, p, len);
    for (bool string = false; p < end;) {
        if (string || !is_space(*p)) {
            if (*p == '"')
                string = !string;
            p += string && *p == '\\' ? 2 : 1;
            continue;
        }
        const char *blank = p;
        bool breaks = false;
        for (; p < end && is_space(*p); p++)
            breaks |= *p == '\n' || *p == '\r';
        if (breaks) {
            if (sd_buf_add(out, from, (size_t)(blank - from)))
                return -1;
            from = p;
        }
    }
    return sd_buf_add(out, from, (size_t)(end - from));
}

/* Members of an entry that would be taken for the record's own. */
static int check_own(const struct sd_record *entry, struct sd_err *err)
{
    static const char *const own[] = {"path", "bucket", "error", "metadata_caption", "metadata_tags"};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (sd_record_find(entry, own[i]))
            return sd_err_set(err, SD_ERR_DATA, "the entry has a member \"%s\", which is the record's own",
                              own[i]);
    if (sd_record_find(entry, "image_size") &&
        (sd_record_find(entry, "width") || sd_record_find(entry, "height")))
        return sd_err_set(err, SD_ERR_DATA, "the entry has both image_size and width or height");
    return 0;
}

/* 1 with two sizes above 0, 0 when there is no such member, -1. */
static int get_size(const struct sd_record *r, const char *name, int64_t size[2], struct sd_err *err)
{
    int got = sd_record_ints(r, name, size, 2, err);
    if (got == 1 && (size[0] < 1 || size[1] < 1))
        return sd_err_set(err, SD_ERR_DATA, "member \"%s\": %lld by %lld is no size", name,
                          (long long)size[0], (long long)size[1]);
    return got;
}

static int add_entry_member(struct sd_buf *out, const struct sd_member *m, bool plain, const int64_t size[2])
{
    if (!plain && *m->value != 'n' && is_named(m, "image_size"))
        return sd_buf_addf(out, "\"width\":%lld,\"height\":%lld", (long long)size[0], (long long)size[1]);
    int bad = !plain && *m->value != 'n' && is_named(m, "train_resolution") ? sd_buf_adds(out, "\"bucket\":")
                                                                            : add_name(out, m);
    return bad || add_on_one_line(out, m->value, m->value_len) ? -1 : 0;
}

/* The record's line, with texts as they are. plain: with all names as they are too. */
static int make_line(struct sd_metadata *m, const char *path, size_t path_len, bool plain,
                     const int64_t size[2])
{
    struct sd_buf *out = &m->line;
    sd_buf_clear(out);
    int bad = sd_buf_adds(out, "{\"path\":") || sd_scan_quote(out, path, path_len);
    for (size_t i = 0; i < m->entry.count && !bad; i++)
        bad = sd_buf_addc(out, ',') || add_entry_member(out, &m->entry.members[i], plain, size);
    return bad || sd_buf_addc(out, '}') ? -1 : 0;
}

/* Sets the parts of the text, of which m->text is a copy, and keeps the text where it is not what they make.
 */
static int set_and_keep(struct sd_metadata *m, struct sd_record *r, const struct kind *k, const char *text,
                        size_t len, struct sd_err *err)
{
    if (k->set(r, m->text.data, len, &m->parts, err))
        return -1;
    if (join(&m->parts, k->between, &m->copy))
        return sd_err_memory(err, len);
    if (m->copy.len == len && !memcmp(m->copy.data, text, len))
        return 0;
    return sd_record_set_bytes(r, k->kept, text, len) ? sd_err_memory(err, len) : 0;
}

int sd_metadata_set_text(struct sd_metadata *m, struct sd_record *r, enum sd_text_kind kind, const char *text,
                         size_t len, struct sd_err *err)
{
    struct sd_str inner = sd_str_strip((struct sd_str){text, len});
    sd_buf_clear(&m->line);
    if (sd_buf_reserve(&m->line, inner.len))
        return sd_err_memory(err, len);
    for (size_t i = 0; i < inner.len; i++) {
        bool pair = inner.data[i] == '\r' && i + 1 < inner.len && inner.data[i + 1] == '\n';
        if (!pair && sd_buf_addc(&m->line, inner.data[i] == '\r' ? '\n' : inner.data[i]))
            return sd_err_memory(err, len);
    }
    if (copy_text(&m->text, m->line.data, m->line.len, err))
        return -1;
    return set_and_keep(m, r, &KINDS[kind], m->line.data, m->line.len, err);
}

/* The text of a member becomes its parts, unless one caption is all there is. */
static int part_text(struct sd_metadata *m, struct sd_record *r, const struct kind *k, struct sd_err *err)
{
    const struct sd_member *member = sd_record_find(r, k->name);
    const char *text;
    size_t len;
    if (!member)
        return 0;
    m->parts.n = 0;
    if (*member->value != '"')
        return sd_record_strings(r, k->name, &m->parts, err) < 0 ? -1 : 0;
    if (sd_record_string(r, k->name, &text, &len, err) < 0 || copy_text(&m->text, text, len, err))
        return -1;
    if (k->set == sd_caption_set && len && !strpbrk(m->text.data, "\r\n") && !is_space(text[0]) &&
        !is_space(text[len - 1]) && strlen(text) == len)
        return 0;
    if (set_and_keep(m, r, k, text, len, err))
        return sd_err_prefix(err, "member \"%s\"", k->name);
    return 0;
}

int sd_metadata_to_record(struct sd_metadata *m, const char *entry, size_t len, const char *path,
                          size_t path_len, struct sd_record *r, struct sd_err *err)
{
    struct sd_err inner = {0};
    int64_t size[2] = {0}, resolution[2];
    int bad = 0;
    if (sd_record_parse(&m->entry, entry, len, &inner))
        bad = inner.code == SD_ERR_DATA ? sd_err_set(err, SD_ERR_DATA, "the entry is no JSON object: %.*s",
                                                     (int)(len < SHOWN_BYTES ? len : SHOWN_BYTES), entry)
                                        : sd_err_memory(err, len);
    else
        bad = check_own(&m->entry, err) || get_size(&m->entry, "image_size", size, err) < 0 ||
              get_size(&m->entry, "train_resolution", resolution, err) < 0;
    sd_record_reset(r);
    if (make_line(m, path, path_len, bad, size))
        return sd_err_memory(err, len);
    if (sd_record_parse(r, m->line.data, m->line.len, bad ? &inner : err))
        return -1;
    if (bad)
        return sd_record_set_bytes(r, "path", path, path_len) ? sd_err_memory(err, path_len) : -1;
    for (int i = 0; i < N_KINDS; i++)
        if (part_text(m, r, &KINDS[i], err))
            return -1;
    return 0;
}

/* ---- a record becomes an entry ---- */

static bool same_parts(const struct sd_strings *a, const struct sd_strings *b)
{
    bool same = a->n == b->n;
    for (size_t i = 0; i < a->n && same; i++)
        same = !strcmp(a->v[i], b->v[i]);
    return same;
}

/* Adds the text that was kept when it has just these parts: 1, 0 when there is none, -1. */
static int add_kept(struct sd_metadata *m, struct sd_record *r, const struct kind *k, struct sd_buf *out,
                    struct sd_err *err)
{
    const struct sd_member *kept = sd_record_find(r, k->kept);
    const char *text;
    size_t len;
    if (!kept || sd_record_string(r, k->kept, &text, &len, NULL) != 1 || memchr(text, 0, len))
        return 0;
    if (copy_text(&m->text, text, len, err) || split(m->text.data, len, k->ends, &m->again, err))
        return -1;
    if (!same_parts(&m->parts, &m->again))
        return 0;
    return sd_buf_add(out, kept->value, kept->value_len) ? sd_err_memory(err, len) : 1;
}

static int add_joined(struct sd_metadata *m, const struct kind *k, struct sd_buf *out, bool *inexact,
                      struct sd_err *err)
{
    if (join(&m->parts, k->between, &m->copy) || sd_scan_quote(out, m->copy.data, m->copy.len))
        return sd_err_memory(err, m->copy.len);
    if (split(m->copy.data, m->copy.len, k->ends, &m->again, err))
        return -1;
    *inexact |= !same_parts(&m->parts, &m->again);
    return 0;
}

static const struct kind *find_kind(const struct sd_member *member)
{
    for (int i = 0; i < N_KINDS; i++)
        if (is_named(member, KINDS[i].name))
            return &KINDS[i];
    return NULL;
}

/* The parts of a member that is a string or an array of them. */
static int get_parts(struct sd_metadata *m, struct sd_record *r, const struct kind *k, bool string,
                     struct sd_err *err)
{
    const char *text;
    size_t len;
    m->parts.n = 0;
    if (!string) {
        if (sd_record_strings(r, k->name, &m->parts, err) < 0)
            return -1;
        m->parts.n -= m->parts.n == 1 && !*m->parts.v[0];
        return 0;
    }
    if (sd_record_string(r, k->name, &text, &len, err) < 0 || copy_text(&m->line, text, len, err))
        return -1;
    return split(m->line.data, len, k->ends, &m->parts, err);
}

/* A string goes as it is, an array joined, unless the text they were parted from was kept. */
static int add_text(struct sd_metadata *m, struct sd_record *r, const struct sd_member *member,
                    const struct kind *k, struct sd_buf *out, bool *inexact, struct sd_err *err)
{
    bool string = *member->value == '"';
    int got = 0;
    if (add_name(out, member))
        return sd_err_memory(err, member->value_len);
    if (*member->value != 'n' && (!string || sd_record_find(r, k->kept))) {
        if (get_parts(m, r, k, string, err))
            return -1;
        got = add_kept(m, r, k, out, err);
        if (!got && !string)
            return add_joined(m, k, out, inexact, err);
    }
    if (!got && sd_buf_add(out, member->value, member->value_len))
        return sd_err_memory(err, member->value_len);
    return got < 0 ? -1 : 0;
}

int sd_metadata_file_text(struct sd_metadata *m, struct sd_record *r, enum sd_text_kind kind,
                          struct sd_buf *out, struct sd_err *err)
{
    const struct kind *k = &KINDS[kind];
    m->parts.n = 0;
    int got = sd_record_strings(r, k->name, &m->parts, err);
    if (got < 1)
        return got;
    m->parts.n -= m->parts.n == 1 && !*m->parts.v[0];
    if (join(&m->parts, k->between, &m->copy) || sd_buf_add(out, m->copy.data, m->copy.len) ||
        sd_buf_addc(out, '\n'))
        return sd_err_memory(err, m->copy.len);
    if (split(m->copy.data, m->copy.len, k->ends, &m->again, err))
        return -1;
    if (!same_parts(&m->parts, &m->again))
        return sd_err_set(
            err, SD_ERR_DATA,
            "member \"%s\" cannot be written as a file: a part is empty, holds %s, or begins or "
            "ends with a blank",
            k->name, kind == SD_TEXT_TAGS ? "a comma or a line end" : "a line end");
    return 1;
}

struct sizes { /* which members are there, and valid */
    bool bucket, picture;
    int64_t image[2];
};

static int check_record(const struct sd_record *r, struct sizes *s, struct sd_err *err)
{
    int64_t bucket[2];
    int got = get_size(r, "bucket", bucket, err), w = sd_record_int(r, "width", &s->image[0], err),
        h = w < 0 ? -1 : sd_record_int(r, "height", &s->image[1], err);
    if (got < 0 || w < 0 || h < 0)
        return -1;
    s->bucket = got;
    s->picture = w && h;
    if (s->bucket && sd_record_find(r, "train_resolution"))
        return sd_err_set(err, SD_ERR_DATA, "the record has both bucket and train_resolution");
    if (s->picture && sd_record_find(r, "image_size"))
        return sd_err_set(err, SD_ERR_DATA, "the record has both image_size and width and height");
    return 0;
}

/* What of a record is not in its entry, or in another member of it. */
static bool left_out(const struct sd_member *m, const struct sizes *s)
{
    return is_named(m, "path") || is_named(m, "metadata_caption") || is_named(m, "metadata_tags") ||
           (s->picture && is_named(m, "height"));
}

int sd_metadata_from_record(struct sd_metadata *m, struct sd_record *r, struct sd_buf *out, bool *inexact,
                            struct sd_err *err)
{
    struct sizes s;
    if (check_record(r, &s, err))
        return -1;
    bool first = true;
    int bad = sd_buf_addc(out, '{');
    for (size_t i = 0; i < r->count && !bad; i++) {
        const struct sd_member *member = &r->members[i];
        const struct kind *k = find_kind(member);
        if (left_out(member, &s))
            continue;
        bad = !first && sd_buf_addc(out, ',');
        first = false;
        if (bad)
            break;
        if (k) {
            if (add_text(m, r, member, k, out, inexact, err))
                return -1;
        } else if (s.picture && is_named(member, "width")) {
            bad =
                sd_buf_addf(out, "\"image_size\":[%lld,%lld]", (long long)s.image[0], (long long)s.image[1]);
        } else {
            bad = (s.bucket && is_named(member, "bucket") ? sd_buf_adds(out, "\"train_resolution\":")
                                                          : add_name(out, member)) ||
                  sd_buf_add(out, member->value, member->value_len);
        }
    }
    return bad || sd_buf_addc(out, '}') ? sd_err_memory(err, out->len) : 0;
}

/* ---- names of entries ---- */

int sd_metadata_join(const char *name, const char *image_dir, struct sd_buf *path, struct sd_err *err)
{
    sd_buf_clear(path);
    size_t n = image_dir && *name != '/' ? strlen(image_dir) : 0;
    bool slash = n && image_dir[n - 1] != '/';
    if (sd_buf_add(path, image_dir, n) || (slash && sd_buf_addc(path, '/')) || sd_buf_adds(path, name))
        return sd_err_memory(err, n + strlen(name));
    return 0;
}

/* Of a picture in an archive: that there is the archive. */
static bool is_file(const char *path)
{
    struct stat st;
    size_t len = sd_archive_split(path, NULL);
    char *archive = len ? strndup(path, len) : NULL;
    bool there = (!len || archive) && !stat(archive ? archive : path, &st) && S_ISREG(st.st_mode);
    free(archive);
    return there;
}

int sd_metadata_find(const char *name, const char *image_dir, struct sd_buf *path, struct sd_err *err)
{
    /* in the order in which sd-scripts sorts what it finds */
    static const char *const endings[] = {".BMP", ".JPEG", ".JPG", ".PNG", ".WEBP",
                                          ".bmp", ".jpeg", ".jpg", ".png", ".webp"};
    if (sd_metadata_join(name, image_dir, path, err))
        return -1;
    if (is_file(path->data))
        return 0;
    size_t len = path->len;
    if (image_dir && is_file(name))
        return sd_metadata_join(name, NULL, path, err);
    for (size_t i = 0; i < sizeof endings / sizeof *endings && *name; i++) {
        if (sd_buf_adds(path, endings[i]))
            return sd_err_memory(err, len);
        if (is_file(path->data))
            return 0;
        path->len = len;
        path->data[len] = 0;
    }
    return sd_err_set(err, SD_ERR_DATA, "no such picture, with or without an ending%s",
                      image_dir ? "" : " (is it in another folder?)");
}

int sd_metadata_name(const char *path, const char *image_dir, bool stem, struct sd_buf *name,
                     struct sd_err *err)
{
    const char *rest = path;
    if (image_dir) {
        size_t n = strlen(image_dir);
        while (n > 1 && image_dir[n - 1] == '/')
            n--;
        bool inside = !strncmp(path, image_dir, n) && (path[n] == '/' || image_dir[n - 1] == '/');
        rest = inside ? path + n : path;
        while (inside && *rest == '/')
            rest++;
        if (!inside || !*rest || (stem && strchr(rest, '/')))
            return sd_err_set(err, SD_ERR_DATA, "not %sin the folder \"%s\"", stem ? "directly " : "",
                              image_dir);
    }
    if (stem)
        rest = sd_path_base(rest);
    sd_buf_clear(name);
    if (sd_buf_add(name, rest, stem ? sd_path_stem_len(rest) : strlen(rest)))
        return sd_err_memory(err, strlen(rest));
    return 0;
}
