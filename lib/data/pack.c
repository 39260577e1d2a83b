#include "data/pack.h"

#include <string.h>

#include "base/path.h"
#include "data/metadata.h"
#include "store/archive.h"

enum { NUMBERS = 1000, KEY_BYTES = 4000 }; /* pictures that may share a name; bytes of a key */

/* ---- names ---- */

/* Appends the folders of path[0..len) without those that say nothing or lead upwards, each with its slash. */
static int add_folders(struct sd_buf *key, const char *path, size_t len)
{
    for (const char *p = path, *end = path + len; p < end;) {
        const char *slash = memchr(p, '/', (size_t)(end - p));
        size_t n = (size_t)(slash - p);
        bool skip = !n || (n == 1 && *p == '.') || (n == 2 && !memcmp(p, "..", 2));
        if (!skip && sd_buf_add(key, p, n + 1))
            return -1;
        p = slash + 1;
    }
    return 0;
}

static int number(struct sd_pack_name *n, struct sd_seen *seen, struct sd_err *err)
{
    size_t len = n->key.len;
    for (int i = 2;; i++) {
        int was = sd_seen_add(seen, n->key.data, n->key.len, err);
        if (was <= 0)
            return was;
        if (i > NUMBERS)
            return sd_err_set(err, SD_ERR_DATA, "more than %d pictures would get its name", NUMBERS);
        n->changed = true;
        n->key.len = len;
        if (sd_buf_addf(&n->key, "-%d", i))
            return sd_err_memory(err, len);
    }
}

int sd_pack_name(struct sd_pack_name *n, const char *path, const char *folder, struct sd_seen *seen,
                 struct sd_err *err)
{
    struct sd_buf rest = SD_BUF_INIT;
    const char *from = path;
    sd_buf_clear(&n->key);
    n->changed = false;
    if (folder) {
        if (sd_metadata_name(path, folder, false, &rest, err)) {
            sd_buf_free(&rest);
            return -1;
        }
        from = path + strlen(path) - rest.len;
        sd_buf_free(&rest);
    }
    sd_archive_split(from, &from);
    const char *base = sd_path_base(from);
    size_t stem = sd_path_stem_len(from) - (size_t)(base - from);
    n->ending = base + stem;
    if (!stem)
        return sd_err_set(err, SD_ERR_DATA, "its path ends in a slash");
    if (add_folders(&n->key, from, (size_t)(base - from)) || sd_buf_add(&n->key, base, stem))
        return sd_err_memory(err, strlen(from));
    if (n->key.len > KEY_BYTES)
        return sd_err_set(err, SD_ERR_DATA, "its name is too long for an archive");
    for (char *dot = n->key.data + n->key.len - stem; (dot = strchr(dot, '.'));) {
        *dot = '_';
        n->changed = true;
    }
    return number(n, seen, err);
}

/* ---- other files of the sample ---- */

static int add_member(struct sd_record *r, const char *name, struct sd_buf *out, struct sd_err *err)
{
    const struct sd_member *m = sd_record_find(r, name);
    struct sd_strings list = {0};
    if (!m)
        return 0;
    if (*m->value != '"' && *m->value != '[')
        return sd_buf_add(out, m->value, m->value_len) ? sd_err_memory(err, m->value_len) : 1;
    const char *between = strcmp(name, "caption") ? ", " : "\n";
    int bad = sd_record_strings(r, name, &list, err) < 0;
    for (size_t i = 0; i < list.n && !bad; i++)
        if ((i && sd_buf_adds(out, between)) || sd_buf_adds(out, list.v[i]))
            bad = sd_err_memory(err, out->len);
    sd_strings_free(&list);
    return bad ? -1 : 1;
}

int sd_pack_text(struct sd_record *r, const char *members, struct sd_buf *out, struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT;
    int got = 0;
    for (const char *p = members; *p && !got; p += *p == ',') {
        size_t n = strcspn(p, ",");
        sd_buf_clear(&name);
        if (sd_buf_add(&name, p, n))
            got = sd_err_memory(err, n);
        else if (!strcmp(name.data, "record"))
            got = sd_record_write(r, out) ? sd_err_memory(err, out->len) : 1;
        else
            got = add_member(r, name.data, out, err);
        p += n;
    }
    sd_buf_free(&name);
    return got;
}

static bool is_named(const struct sd_member *m, const char *name)
{
    return m->name_len == strlen(name) && !memcmp(m->name, name, m->name_len);
}

static int add_missing(struct sd_record *r, const struct sd_record *from, struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT;
    int bad = 0;
    for (size_t i = 0; i < from->count && !bad; i++) {
        const struct sd_member *m = &from->members[i];
        if (memchr(m->name, 0, m->name_len) || is_named(m, "path") || is_named(m, "error"))
            continue;
        sd_buf_clear(&name);
        if (sd_buf_add(&name, m->name, m->name_len) ||
            (!sd_record_find(r, name.data) && sd_record_set_raw(r, name.data, m->value, m->value_len)))
            bad = sd_err_memory(err, m->value_len);
    }
    sd_buf_free(&name);
    return bad;
}

int sd_pack_merge(struct sd_record *r, const struct sd_buf *json, const struct sd_buf *text,
                  struct sd_err *err)
{
    struct sd_record from = SD_RECORD_INIT;
    struct sd_strings parts = {0};
    struct sd_buf copy = SD_BUF_INIT;
    int bad = 0;
    if (json)
        bad = sd_record_parse(&from, json->data ? json->data : "", json->len, err)
                  ? sd_err_prefix(err, "its .json")
                  : add_missing(r, &from, err);
    if (!bad && text && text->len && !sd_record_find(r, "caption") && !sd_record_find(r, "tags"))
        bad = sd_buf_add(&copy, text->data, text->len) ? sd_err_memory(err, text->len)
                                                       : sd_caption_set(r, copy.data, copy.len, &parts, err);
    sd_buf_free(&copy);
    sd_strings_free(&parts);
    sd_record_free(&from);
    return bad;
}
