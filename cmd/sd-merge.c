/* sd-merge: captions and tags from files beside the pictures, and from sd-scripts' metadata, join the
 * records. */
#include "cmd.h"

#include "base/file.h"
#include "base/path.h"
#include "data/metadata.h"
#include "data/picture.h"
#include "record/names.h"
#include "text/sidecar.h"

#include <stdlib.h>
#include <string.h>

enum { JSON_BYTES = 1 << 30 };

struct metadata { /* one --in-json file */
    struct sd_buf text;
    struct sd_record object;
    struct sd_names names;
};

struct worker {
    struct sd_buf path, text;
    struct sd_strings parts;
    struct sd_record entry;
    uint64_t captions, tags;
};

struct merge {
    struct sd_cmd cmd;
    const char *caption_extension, *tags_extension;
    struct sd_strings in_json;
    bool keep, require_caption, require_tags;
    struct metadata *metadata;
    struct worker *workers;
    struct sd_archives archives;
};

/* ---- text into members ---- */

static int set_caption(struct sd_record *r, struct worker *w, struct sd_err *err)
{
    w->captions++;
    return sd_caption_set(r, w->text.data, w->text.len, &w->parts, err);
}

static int set_tags(struct sd_record *r, struct worker *w, struct sd_err *err)
{
    w->tags++;
    return sd_tags_set(r, w->text.data, w->text.len, &w->parts, err);
}

/* ---- sd-scripts' metadata ---- */

/* Keys are paths, or names without ending: tried from the most to the least exact. */
static const struct sd_member *look_up(const struct metadata *m, const char *path)
{
    const char *base = sd_path_base(path);
    const char *const starts[] = {path, path, base, base};
    const size_t lens[] = {strlen(path), sd_path_stem_len(path), strlen(base), sd_path_stem_len(base)};
    for (size_t i = 0; i < 4; i++) {
        size_t at = sd_names_find(&m->names, starts[i], lens[i]);
        if (at != SD_NAMES_NONE)
            return &m->object.members[at];
    }
    return NULL;
}

static int take_text(struct sd_record *r, struct worker *w, const char *name, bool keep,
                     int (*set)(struct sd_record *, struct worker *, struct sd_err *), struct sd_err *err)
{
    const char *text;
    size_t len;
    int got = keep && sd_record_find(r, name) ? 0 : sd_record_string(&w->entry, name, &text, &len, err);
    if (got <= 0)
        return got;
    sd_buf_clear(&w->text);
    return sd_buf_add(&w->text, text, len) ? sd_err_memory(err, len) : set(r, w, err);
}

static int merge_metadata(const struct merge *m, const struct metadata *from, struct worker *w,
                          struct sd_record *r, const char *path, struct sd_err *err)
{
    const struct sd_member *entry = look_up(from, path);
    if (!entry)
        return 0;
    if (sd_record_parse(&w->entry, entry->value, entry->value_len, err) ||
        take_text(r, w, "caption", m->keep, set_caption, err) ||
        take_text(r, w, "tags", m->keep, set_tags, err))
        return sd_err_prefix(err, "entry \"%.*s\" of the metadata", (int)entry->name_len, entry->name);
    return 0;
}

static void read_metadata(struct merge *m)
{
    struct sd_err err = {0};
    m->metadata = calloc(m->in_json.n + 1, sizeof *m->metadata);
    for (size_t i = 0; i < m->in_json.n; i++) {
        struct metadata *d = &m->metadata[i];
        const char *file = m->in_json.v[i];
        int bad = sd_file_read(file, JSON_BYTES, &d->text, &err);
        if (!bad && (sd_record_parse(&d->object, d->text.data, d->text.len, &err) ||
                     sd_names_build(&d->names, &d->object, &err)))
            bad = sd_err_prefix(&err, "%s", file);
        if (bad) {
            err.code = err.code == SD_ERR_MACHINE ? SD_ERR_MACHINE : SD_ERR_USAGE;
            cmd_die(&m->cmd, &err);
        }
    }
}

/* ---- sidecars ---- */

static int merge_sidecar(struct merge *m, struct worker *w, struct sd_record *r, const char *path,
                         const char *ending, const char *name,
                         int (*set)(struct sd_record *, struct worker *, struct sd_err *), struct sd_err *err)
{
    if (!*ending || (m->keep && sd_record_find(r, name)))
        return 0;
    int got = sd_picture_sidecar(&m->archives, path, ending, &w->path, &w->text, err);
    return got == 1 ? set(r, w, err) : got;
}

static int need(const struct sd_record *r, const char *name, const char *ending, struct sd_err *err)
{
    if (sd_record_find(r, name))
        return 0;
    return sd_err_set(err, SD_ERR_DATA, "no %s (there is no %s file beside it)", name, ending);
}

static int merge(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct merge *m = ctx;
    struct worker *w = &m->workers[worker];
    const char *path;
    if (sd_record_need_string(r, "path", &path, err))
        return -1;
    for (size_t i = 0; i < m->in_json.n; i++)
        if (merge_metadata(m, &m->metadata[i], w, r, path, err))
            return -1;
    if (merge_sidecar(m, w, r, path, m->caption_extension, "caption", set_caption, err) ||
        merge_sidecar(m, w, r, path, m->tags_extension, "tags", set_tags, err))
        return -1;
    if ((m->require_caption && need(r, "caption", m->caption_extension, err)) ||
        (m->require_tags && need(r, "tags", m->tags_extension, err)))
        return -1;
    return 0;
}

/* ---- the program ---- */

/* sd-scripts takes endings with and without their dot. */
static const char *with_dot(const char *ending, struct sd_buf *store)
{
    if (!*ending || *ending == '.')
        return ending;
    return sd_buf_addc(store, '.') || sd_buf_adds(store, ending) ? ending : store->data;
}

static void finish(struct merge *m)
{
    uint64_t captions = 0, tags = 0;
    for (int i = 0; i < m->cmd.common.jobs; i++) {
        struct worker *w = &m->workers[i];
        captions += w->captions;
        tags += w->tags;
        sd_buf_free(&w->path);
        sd_buf_free(&w->text);
        sd_strings_free(&w->parts);
        sd_record_free(&w->entry);
    }
    for (size_t i = 0; i < m->in_json.n; i++) {
        sd_names_free(&m->metadata[i].names);
        sd_record_free(&m->metadata[i].object);
        sd_buf_free(&m->metadata[i].text);
    }
    free(m->metadata);
    free(m->workers);
    sd_archives_free(&m->archives);
    sd_strings_free(&m->in_json);
    if (m->cmd.common.verbose)
        cmd_say(&m->cmd, "%llu captions and %llu lists of tags merged", (unsigned long long)captions,
                (unsigned long long)tags);
}

int main(int argc, char **argv)
{
    struct merge m = {.caption_extension = ".caption", .tags_extension = ".txt"};
    const struct sd_option options[] = {
        {SD_OPT_STRING("caption-extension", 0, &m.caption_extension, "EXT",
                       "ending of caption files; an empty one: look for none"),
         .alias = "caption-extention"},
        {SD_OPT_STRING("tags-extension", 0, &m.tags_extension, "EXT",
                       "ending of tag files; an empty one: look for none")},
        {SD_OPT_LIST("in-json", 0, &m.in_json, "FILE",
                     "take captions and tags from sd-scripts' metadata too")},
        {SD_OPT_BOOL("keep", 'k', &m.keep, "keep the caption and tags a record already has")},
        {SD_OPT_BOOL("require-caption", 0, &m.require_caption, "a record left without a caption fails")},
        {SD_OPT_BOOL("require-tags", 0, &m.require_tags, "a record left without tags fails")},
        SD_OPT_END,
    };
    m.cmd.program = (struct sd_program){
        .name = "sd-merge",
        .summary = "Add the captions and tags that lie beside the pictures to their records",
        .options = options,
    };
    cmd_start(&m.cmd, &argc, argv);
    struct sd_buf caption_store = SD_BUF_INIT, tags_store = SD_BUF_INIT;
    m.caption_extension = with_dot(m.caption_extension, &caption_store);
    m.tags_extension = with_dot(m.tags_extension, &tags_store);
    read_metadata(&m);
    m.workers = calloc((size_t)m.cmd.common.jobs, sizeof *m.workers);
    if (!m.workers)
        cmd_die(&m.cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    cmd_each(&m.cmd, merge, &m);
    finish(&m);
    sd_buf_free(&caption_store);
    sd_buf_free(&tags_store);
    return cmd_finish(&m.cmd);
}
