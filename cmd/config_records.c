#include "config_records.h"

#include "base/atomic.h"
#include "base/path.h"
#include "data/dreambooth.h"
#include "data/metadata.h"
#include "data/picture.h"
#include "record/index.h"
#include "record/scan.h"
#include "text/sidecar.h" /* sd_text_split */

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE_NAME "metadata_cache.json"

struct scratch { /* of one worker */
    struct sd_caption_file caption;
    struct sd_index_reader entry;
    struct sd_metadata metadata;
    struct sd_record record;
    struct sd_buf path;
};

struct run { /* over one subset at a time */
    struct sd_cmd *cmd;
    const struct sd_config *config;
    const struct sd_config_dataset *d;
    const struct sd_config_subset *s;
    int64_t seed;
    struct scratch *scratch; /* by worker */

    const char *folder, *class_tokens, *extension;
    bool wildcard, reg;
    const char *const *paths;            /* of the folder's pictures; NULL: entries tell them */
    struct sd_index entries;             /* of the metadata, or of the folder's cache */
    struct sd_buf lengths;               /* while they are indexed: see note_length */
    struct sd_masks masks;               /* of ControlNet data sets */
    uint32_t *order;                     /* NULL: as they are */
    size_t train;                        /* things from here on are for validation */
    struct sd_buf tail, validation_tail; /* what all records of the subset end with, less '}' */
    struct sd_atomic *cache;             /* being written */
    bool keeps_cache, cache_begun;       /* the first is for the workers, the second for what is written */
    _Atomic uint64_t uncaptioned, failed;
};

static int memory(struct sd_err *err)
{
    return sd_err_memory(err, sizeof(struct run));
}

static int look_at(const char *path, struct sd_image_info *info, struct sd_err *err)
{
    int fd = sd_picture_open(path, info, err);
    if (fd >= 0)
        close(fd);
    return fd < 0 ? -1 : 0;
}

/* ---- one picture of a folder ---- */

static int add_caption(const struct sd_strings *lines, struct sd_buf *out)
{
    bool array = lines->n > 1;
    int bad = sd_buf_adds(out, array ? ",\"caption\":[" : ",\"caption\":") ||
              (!lines->n && sd_buf_adds(out, "\"\""));
    for (size_t i = 0; i < lines->n && !bad; i++)
        bad = (i && sd_buf_addc(out, ',')) || sd_scan_quote(out, lines->v[i], strlen(lines->v[i]));
    return bad || (array && sd_buf_addc(out, ']')) ? -1 : 0;
}

/* The picture's entry in metadata_cache.json, in the form in which Python writes it. */
static int add_to_cache(const struct run *r, const char *path, const struct sd_strings *lines,
                        const struct sd_image_info *info, struct sd_buf *out)
{
    struct sd_buf text = SD_BUF_INIT;
    int bad = sd_buf_adds(&text, "");
    for (size_t i = 0; lines && i < lines->n && !bad; i++)
        bad = (i && sd_buf_addc(&text, '\n')) || sd_buf_adds(&text, lines->v[i]);
    if (!lines && r->class_tokens)
        bad = bad || sd_buf_adds(&text, r->class_tokens);
    bad = bad || sd_buf_adds(out, ",\n  ") || sd_scan_quote(out, path, strlen(path)) ||
          sd_buf_adds(out, ": {\n    \"caption\": ") ||
          sd_scan_quote(out, text.len ? text.data : "", text.len) ||
          sd_buf_addf(out, ",\n    \"resolution\": [\n      %u,\n      %u\n    ]\n  }", info->width,
                      info->height);
    sd_buf_free(&text);
    return bad;
}

static int end_line(const struct run *r, const char *path, bool validation, const struct sd_err *why,
                    struct cmd_lines *out)
{
    struct sd_buf *b = &out->lines;
    const struct sd_buf *tail = validation ? &r->validation_tail : &r->tail;
    const char *mask = r->d->kind == SD_CONFIG_CONTROLNET ? sd_masks_find(&r->masks, path) : NULL;
    int bad = mask && (sd_buf_adds(b, ",\"mask\":") || sd_scan_quote(b, mask, strlen(mask)));
    bad = bad || sd_buf_add(b, tail->data, tail->len) ||
          (why->code && sd_picture_error("sd-config", why->msg, b)) || sd_buf_adds(b, "}\n");
    out->records++;
    return bad ? -1 : 0;
}

static void fail(struct run *r, const char *path, const struct sd_err *err, struct cmd_lines *out)
{
    r->failed++;
    cmd_lines_fail(out, path, err);
}

static void make_picture(void *ctx, int worker, size_t i, struct cmd_lines *out)
{
    struct run *r = ctx;
    struct sd_caption_file *caption = &r->scratch[worker].caption;
    const char *path = r->paths[r->order ? r->order[i] : i];
    struct sd_image_info info = {0};
    struct sd_err err = {0};
    int got = 0;
    bool bad = look_at(path, &info, &err);
    if (!bad)
        bad = (got = sd_caption_file_read(caption, path, r->extension, r->wildcard, &err)) < 0;
    if (bad)
        fail(r, path, &err, out);
    if (!got && !bad && !r->class_tokens)
        r->uncaptioned++;
    int lost =
        sd_buf_adds(&out->lines, "{\"path\":") || sd_scan_quote(&out->lines, path, strlen(path)) ||
        (info.width && sd_picture_members(&info, &out->lines)) ||
        (got == 1 && add_caption(&caption->lines, &out->lines)) ||
        end_line(r, path, i >= r->train, &err, out) ||
        (r->keeps_cache && !bad && add_to_cache(r, path, got ? &caption->lines : NULL, &info, &out->aside));
    if (lost)
        out->status = SD_ERR_MACHINE;
}

/* ---- one of the folder's cache ---- */

static int read_cached(struct scratch *s, int64_t size[2], struct sd_err *err)
{
    const char *text = "";
    s->caption.lines.n = 0;
    const struct sd_members_item *entry = &s->entry.item;
    if (sd_record_parse(&s->record, entry->value, entry->value_len, err) ||
        sd_record_need_ints(&s->record, "resolution", size, 2, err) ||
        sd_record_string(&s->record, "caption", &text, NULL, err) < 0)
        return -1;
    if (size[0] < 1 || size[1] < 1)
        return sd_err_set(err, SD_ERR_DATA, "a resolution of %lld by %lld in " CACHE_NAME, (long long)size[0],
                          (long long)size[1]);
    sd_buf_clear(&s->caption.text);
    if (sd_buf_adds(&s->caption.text, text) ||
        sd_text_split(s->caption.text.data, s->caption.text.len, "\n", &s->caption.lines))
        return memory(err);
    return 0;
}

static void make_cached(void *ctx, int worker, size_t i, struct cmd_lines *out)
{
    struct run *r = ctx;
    struct scratch *s = &r->scratch[worker];
    struct sd_err err = {0};
    int64_t size[2] = {0};
    bool lost_entry = sd_index_read(&r->entries, &s->entry, r->order ? r->order[i] : i, &err),
         bad = lost_entry || read_cached(s, size, &err);
    const char *path = lost_entry ? "" : s->entry.item.name;
    if (bad)
        fail(r, path, &err, out);
    int lost = sd_buf_adds(&out->lines, "{\"path\":") ||
               sd_scan_quote(&out->lines, path, bad ? strlen(path) : s->entry.item.name_len) ||
               (!bad && sd_buf_addf(&out->lines, ",\"width\":%lld,\"height\":%lld", (long long)size[0],
                                    (long long)size[1])) ||
               (!bad && add_caption(&s->caption.lines, &out->lines)) ||
               end_line(r, path, i >= r->train, &err, out);
    if (lost)
        out->status = SD_ERR_MACHINE;
}

/* ---- one entry of a metadata file ---- */

static int set_info(struct sd_record *record, const struct sd_image_info *info, struct sd_err *err)
{
    bool bad = sd_record_set_int(record, "width", info->width) ||
               sd_record_set_int(record, "height", info->height) ||
               sd_record_set_string(record, "format", sd_image_format_name(info->format)) ||
               sd_record_set_int(record, "bytes", (int64_t)info->bytes);
    return bad ? memory(err) : 0;
}

/* The record, without what all of the subset have. On failure it still has its path. */
static int make_record(const struct run *r, struct scratch *s, size_t i, struct sd_err *err)
{
    struct sd_image_info info = {0};
    struct sd_err lost = {0};
    sd_buf_clear(&s->path);
    sd_record_reset(&s->record);
    if (sd_index_read(&r->entries, &s->entry, r->order[i], err))
        return -1;
    const struct sd_members_item *entry = &s->entry.item;
    bool nul = memchr(entry->name, 0, entry->name_len) != NULL;
    int missing = nul ? sd_metadata_join("", NULL, &s->path, &lost)
                      : sd_metadata_find(entry->name, r->folder, &s->path, &lost);
    if (nul)
        missing = sd_err_set(&lost, SD_ERR_DATA, "a NUL character in the name of the entry");
    else if (sd_index_repeated(&r->entries, r->order[i]))
        missing = sd_err_set(&lost, SD_ERR_DATA, "the metadata has an entry of this name already");
    if (sd_metadata_to_record(&s->metadata, entry->value, entry->value_len, nul ? entry->name : s->path.data,
                              nul ? entry->name_len : s->path.len, &s->record, err) ||
        sd_record_remove(&s->record, "image_path"))
        return -1;
    if (missing) {
        *err = lost;
        return -1;
    }
    return look_at(s->path.data, &info, err) || set_info(&s->record, &info, err) ? -1 : 0;
}

static void make_entry(void *ctx, int worker, size_t i, struct cmd_lines *out)
{
    struct run *r = ctx;
    struct scratch *s = &r->scratch[worker];
    struct sd_err err = {0};
    bool bad = make_record(r, s, i, &err);
    const char *path = s->path.data ? s->path.data : "";
    if (bad)
        fail(r, path, &err, out);
    if ((!s->record.count && sd_record_set_string(&s->record, "path", path)) ||
        sd_record_write(&s->record, &out->lines)) {
        out->status = SD_ERR_MACHINE;
        return;
    }
    out->lines.len -= out->lines.len > 1; /* the brace */
    if (end_line(r, path, false, &err, out))
        out->status = SD_ERR_MACHINE;
}

/* ---- a subset ---- */

static _Noreturn void out_of_memory(struct run *r)
{
    struct sd_err err = {0};
    memory(&err);
    cmd_die(r->cmd, &err);
}

static int make_tail(const struct run *r, bool validation, struct sd_buf *tail, struct sd_err *err)
{
    int64_t repeats = validation ? 1 : sd_config_int(r->config, r->d, r->s, SD_CONFIG_NUM_REPEATS);
    sd_buf_clear(tail);
    int bad = r->class_tokens && (sd_buf_adds(tail, ",\"class_tokens\":") ||
                                  sd_scan_quote(tail, r->class_tokens, strlen(r->class_tokens)));
    bad = bad || sd_buf_addf(tail, ",\"repeats\":%lld%s%s", (long long)repeats, r->reg ? ",\"reg\":true" : "",
                             validation ? ",\"validation\":true" : "");
    return bad ? memory(err) : sd_config_members(r->config, r->d, r->s, tail, err);
}

static void set_up(struct run *r, const struct sd_config_dataset *d, const struct sd_config_subset *s)
{
    struct sd_err err = {0};
    r->d = d;
    r->s = s;
    r->folder = sd_config_string(r->config, d, s, SD_CONFIG_IMAGE_DIR);
    r->class_tokens = sd_config_string(r->config, d, s, SD_CONFIG_CLASS_TOKENS);
    r->wildcard = sd_config_bool(r->config, d, s, SD_CONFIG_ENABLE_WILDCARD);
    r->reg = sd_config_bool(r->config, d, s, SD_CONFIG_IS_REG);
    r->uncaptioned = r->failed = 0;
    if (make_tail(r, false, &r->tail, &err) || make_tail(r, true, &r->validation_tail, &err))
        cmd_die(r->cmd, &err);
}

/* Chooses the pictures for validation: returns how many things there are, with those that are both. */
static size_t split(struct run *r, size_t n)
{
    const struct sd_config_value *part = sd_config_get(r->config, r->d, NULL, SD_CONFIG_VALIDATION_SPLIT),
                                 *seed = sd_config_get(r->config, r->d, NULL, SD_CONFIG_VALIDATION_SEED);
    size_t train, validation;
    r->train = n;
    if (!part || part->d <= 0 || r->d->kind != SD_CONFIG_DREAMBOOTH || r->reg || !n)
        return n;
    if (!(r->order = malloc(2 * n * sizeof *r->order))) /* at most all of them twice */
        out_of_memory(r);
    sd_validation_split(r->order, n, part->d, seed ? seed->i : r->seed, &train, &validation);
    size_t first = n - validation;
    if (first != train) /* some are both */
        memmove(r->order + train, r->order + first, validation * sizeof *r->order);
    r->train = train;
    return train + validation;
}

static void run(struct run *r, size_t n, void (*work)(void *, int, size_t, struct cmd_lines *),
                void (*aside)(void *, const char *, size_t))
{
    r->cmd->total += n;
    cmd_many(r->cmd, &(struct cmd_many){.n = n, .work = work, .aside = aside, .ctx = r});
    free(r->order);
    r->order = NULL;
}

static void tell_empty(const struct run *r, const char *where)
{
    cmd_warn(r->cmd, "%s: no pictures; this subset is left out", where);
}

/* ---- entries ---- */

/* Keeps the length of the entry's name in characters, and its number: the longer, the less. */
static int note_length(void *ctx, const char *name, size_t len, struct sd_err *err)
{
    struct run *r = ctx;
    uint32_t length = 0, number = (uint32_t)(r->lengths.len / sizeof(uint64_t));
    for (size_t i = 0; i < len; i++)
        length += (name[i] & 0xc0) != 0x80;
    uint64_t key = (uint64_t)(UINT32_MAX - length) << 32 | number;
    return sd_buf_add(&r->lengths, &key, sizeof key) ? sd_err_memory(err, r->lengths.len) : 0;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* sd-scripts takes the longest names first (library/train_util.py FineTuningDataset). */
static void sort_by_length(struct run *r)
{
    uint64_t *lengths = (uint64_t *)(void *)r->lengths.data;
    size_t n = r->entries.n;
    if (n && !(r->order = malloc(n * sizeof *r->order)))
        out_of_memory(r);
    if (n)
        qsort(lengths, n, sizeof *lengths, by_value);
    for (size_t i = 0; i < n; i++)
        r->order[i] = (uint32_t)lengths[i];
    sd_buf_free(&r->lengths);
}

/* Damaged JSON ends the program, and a file that is no regular one. */
static void open_entries(struct run *r, const char *file, const char *key,
                         int (*added)(void *, const char *, size_t, struct sd_err *))
{
    const struct sd_index_setup setup = {
        .key = key, .no_key = "no image_path", .regular = true, .all = true, .added = added, .ctx = r};
    struct sd_err err = {0};
    if (sd_index_open(&r->entries, file, &setup, &err))
        cmd_die(r->cmd, &err);
}

static void close_entries(struct run *r)
{
    for (int i = 0; i < r->cmd->common.jobs; i++)
        sd_index_reader_free(&r->scratch[i].entry);
    sd_index_close(&r->entries);
}

/* ---- the folder's cache ---- */

static void give_up_cache(struct run *r, const struct sd_err *err)
{
    sd_stream_report(r->cmd->stream, err->msg);
    cmd_status(r->cmd, err->code);
    sd_atomic_discard(&r->cache);
}

static void write_cache(void *ctx, const char *text, size_t len)
{
    struct run *r = ctx;
    struct sd_err err = {0};
    if (!r->cache)
        return;
    if ((!r->cache_begun && sd_atomic_write(r->cache, "{", 1, &err)) ||
        sd_atomic_write(r->cache, text + !r->cache_begun, len - !r->cache_begun, &err))
        give_up_cache(r, &err);
    r->cache_begun = true;
}

static void end_cache(struct run *r, const char *name)
{
    struct sd_err err = {0};
    if (r->cache && (r->failed || cmd_stopped(r->cmd))) {
        sd_atomic_discard(&r->cache);
        cmd_warn(r->cmd, "%s: not written, since not all pictures could be read", name);
    }
    if (r->cache && (sd_atomic_write(r->cache, "\n}", 2, &err) || sd_atomic_commit(&r->cache, &err)))
        give_up_cache(r, &err);
}

static size_t from_cache(struct run *r, const char *name)
{
    open_entries(r, name, NULL, NULL);
    size_t n = split(r, r->entries.n);
    if (!n)
        tell_empty(r, name);
    run(r, n, make_cached, NULL);
    close_entries(r);
    return n;
}

/* ---- kinds of subsets ---- */

static void complain(void *ctx, const struct sd_err *err)
{
    struct run *r = ctx;
    sd_stream_report(r->cmd->stream, err->msg);
    cmd_status(r->cmd, err->code);
}

/* The ending of caption files, with its dot. */
static char *caption_extension(struct run *r)
{
    const char *given = sd_config_string(r->config, r->d, r->s, SD_CONFIG_CAPTION_EXTENSION);
    struct sd_buf b = SD_BUF_INIT;
    given = given ? given : ".caption";
    if ((*given && *given != '.' && sd_buf_addc(&b, '.')) || sd_buf_adds(&b, given))
        out_of_memory(r);
    return b.data;
}

static size_t list_folder(struct run *r, const char *cache)
{
    struct sd_image_list list = SD_IMAGE_LIST_INIT;
    struct sd_err err = {0};
    if (sd_image_list_folder(&list, r->folder, 0, complain, r, &err))
        cmd_die(r->cmd, &err);
    size_t n = split(r, list.paths.n);
    bool keep = cache && n && !r->order;
    if (cache && r->order)
        cmd_warn(r->cmd, "%s: not written, since validation_split parts the pictures", cache);
    if (keep && sd_atomic_open(&r->cache, cache, &err))
        give_up_cache(r, &err);
    if (!n)
        tell_empty(r, r->folder);
    r->paths = list.paths.v;
    r->keeps_cache = r->cache != NULL;
    r->cache_begun = false;
    run(r, n, make_picture, write_cache);
    end_cache(r, cache);
    sd_image_list_free(&list);
    r->paths = NULL;
    return n;
}

static size_t folder_records(struct run *r)
{
    struct sd_err err = {0};
    struct sd_buf cache = SD_BUF_INIT;
    bool masks = r->d->kind == SD_CONFIG_CONTROLNET,
         cached = sd_config_bool(r->config, r->d, r->s, SD_CONFIG_CACHE_INFO);
    char *extension = caption_extension(r);
    r->extension = extension;
    if (masks &&
        sd_masks_open(&r->masks, sd_config_string(r->config, r->d, r->s, SD_CONFIG_CONDITIONING_DATA_DIR),
                      &err))
        cmd_die(r->cmd, &err);
    if (sd_buf_addf(&cache, "%s%s" CACHE_NAME, r->folder, sd_path_slash(r->folder)))
        out_of_memory(r);
    size_t n = cached && !access(cache.data, F_OK) ? from_cache(r, cache.data)
                                                   : list_folder(r, cached ? cache.data : NULL);
    if (r->uncaptioned)
        cmd_warn(
            r->cmd,
            "%s: %llu pictures have no caption file, and there are no class_tokens: their captions are empty",
            r->folder, (unsigned long long)r->uncaptioned);
    if (masks)
        sd_masks_close(&r->masks);
    sd_buf_free(&cache);
    free(extension);
    return n;
}

static size_t metadata_records(struct run *r)
{
    const char *file = sd_config_string(r->config, r->d, r->s, SD_CONFIG_METADATA_FILE);
    size_t len = strlen(file);
    bool lines = len >= 6 && !strcmp(file + len - 6, ".jsonl");
    open_entries(r, file, lines ? "image_path" : NULL, note_length);
    sort_by_length(r);
    size_t n = r->train = r->entries.n;
    if (!n)
        tell_empty(r, file);
    run(r, n, make_entry, NULL);
    close_entries(r);
    return n;
}

uint64_t config_write(struct sd_cmd *c, const struct sd_config *config, int64_t seed)
{
    struct run r = {.cmd = c, .config = config, .seed = seed};
    uint64_t n = 0;
    if (!(r.scratch = calloc((size_t)c->common.jobs, sizeof *r.scratch)))
        out_of_memory(&r);
    for (const struct sd_config_dataset *d = config->datasets; d; d = d->next)
        for (const struct sd_config_subset *s = d->subsets; s && !cmd_stopped(c); s = s->next) {
            if (s->dropped)
                continue;
            set_up(&r, d, s);
            n += d->kind == SD_CONFIG_FINE_TUNING ? metadata_records(&r) : folder_records(&r);
        }
    for (int i = 0; i < c->common.jobs; i++) {
        sd_caption_file_free(&r.scratch[i].caption);
        sd_metadata_free(&r.scratch[i].metadata);
        sd_record_free(&r.scratch[i].record);
        sd_buf_free(&r.scratch[i].path);
    }
    free(r.scratch);
    sd_buf_free(&r.tail);
    sd_buf_free(&r.validation_tail);
    return n;
}
