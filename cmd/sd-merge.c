/* sd-merge: captions, tags and other members join the records: from files beside the pictures, from
 * sd-scripts' metadata, and from other streams of records; and back into files beside the pictures. */
#include "cmd.h"

#include "base/arena.h"
#include "base/path.h"
#include "data/join.h"
#include "data/picture.h"
#include "data/sidecars.h"
#include "image/list.h"
#include "record/index.h"
#include "text/sidecar.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N_KINDS = 2 };
static const char *const KINDS[N_KINDS] = {"caption", "tags"}; /* by enum sd_text_kind */

struct sources { /* other streams, or metadata files */
    const char *const *files;
    size_t n;
    struct sd_index *indexes;
    struct sd_join_rules rules;
};

struct worker {
    struct sd_index_reader *streams, *metadata; /* of each source */
    struct sd_metadata scratch;
    struct sd_record other; /* what a source says */
    struct sd_buf path, text, name;
    struct sd_strings parts;
    uint64_t count[N_KINDS]; /* merged */
    bool merged;             /* something, into the current record */
};

enum { WAITING = SD_SIDECARS_QUEUE / N_KINDS };

struct waiting { /* a record whose files are being written */
    struct sd_record record;
    uint64_t ticket;
    bool ticketed; /* or else it is the next to be written */
    struct sd_err err;
};

struct merge {
    struct sd_cmd cmd;
    const char *extension[N_KINDS];
    struct sd_strings in_json, first, last, join, write;
    bool full_path, keep, keep_text, left, overwrite, debug, require[N_KINDS];
    struct sources streams, metadata;
    struct sd_join_rules rules; /* of files beside the pictures */
    const char *write_ending[N_KINDS];
    struct sd_sidecars sidecars;
    struct waiting waiting[WAITING];
    size_t n_waiting;
    struct sd_arena arena;
    struct worker *workers;
    struct sd_archives archives;
};

static _Noreturn void die_of_memory(struct merge *m)
{
    cmd_die(&m->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
}

/* ---- one record ---- */

static int join(struct worker *w, struct sd_record *r, struct sd_record *from,
                const struct sd_join_rules *rules, struct sd_err *err)
{
    for (int k = 0; k < N_KINDS; k++)
        w->count[k] += sd_record_find(from, KINDS[k]) &&
                       (!sd_record_find(r, KINDS[k]) || sd_join_way(rules, KINDS[k]) != SD_JOIN_FIRST);
    w->merged = true;
    return sd_join(r, from, rules, &w->name, err);
}

/* From the streams `from` and later. */
static int join_streams(struct merge *m, struct worker *w, struct sd_record *r, const char *path, size_t from,
                        struct sd_err *err)
{
    for (size_t i = from; i < m->streams.n; i++) {
        struct sd_index *x = &m->streams.indexes[i];
        size_t entry;
        int got = sd_index_find(x, &w->streams[i], path, strlen(path), &entry, err);
        if (got < 0)
            return -1;
        if (!got)
            continue;
        sd_index_use(x, entry);
        if (join(w, r, &w->streams[i].record, &m->streams.rules, err))
            return sd_err_prefix(err, "%s", x->file);
    }
    return 0;
}

/* Keys are paths, or names without ending: tried from the most to the least exact. */
static int find_metadata(const struct merge *m, struct worker *w, size_t i, const char *path,
                         struct sd_err *err)
{
    const char *base = sd_path_base(path);
    const char *const starts[] = {path, path, base, base};
    const size_t lens[] = {strlen(path), sd_path_stem_len(path), strlen(base), sd_path_stem_len(base)};
    int got = 0;
    size_t entry;
    for (size_t k = 0; k < (m->full_path ? 1 : 4) && !got; k++)
        got = sd_index_find(&m->metadata.indexes[i], &w->metadata[i], starts[k], lens[k], &entry, err);
    return got;
}

static int join_metadata(struct merge *m, struct worker *w, struct sd_record *r, const char *path,
                         struct sd_err *err)
{
    for (size_t i = 0; i < m->metadata.n; i++) {
        int got = find_metadata(m, w, i, path, err);
        if (got < 0)
            return -1;
        if (!got)
            continue;
        const struct sd_members_item *e = &w->metadata[i].item;
        if (sd_metadata_to_record(&w->scratch, e->value, e->value_len, path, strlen(path), &w->other, err) ||
            join(w, r, &w->other, &m->metadata.rules, err))
            return sd_err_prefix(err, "%s: entry \"%.*s\"", m->metadata.files[i], (int)e->name_len, e->name);
    }
    return 0;
}

static int set_text(struct merge *m, struct worker *w, enum sd_text_kind kind, struct sd_err *err)
{
    if (m->keep_text)
        return sd_metadata_set_text(&w->scratch, &w->other, kind, w->text.data, w->text.len, err);
    return (kind == SD_TEXT_TAGS ? sd_tags_set : sd_caption_set)(&w->other, w->text.data, w->text.len,
                                                                 &w->parts, err);
}

static int join_sidecar(struct merge *m, struct worker *w, struct sd_record *r, const char *path,
                        enum sd_text_kind kind, struct sd_err *err)
{
    if (!*m->extension[kind] ||
        (sd_join_way(&m->rules, KINDS[kind]) == SD_JOIN_FIRST && sd_record_find(r, KINDS[kind])))
        return 0;
    int got = sd_picture_sidecar(&m->archives, path, m->extension[kind], &w->path, &w->text, err);
    if (got < 1)
        return got;
    sd_record_reset(&w->other);
    return set_text(m, w, kind, err) || join(w, r, &w->other, &m->rules, err) ? -1 : 0;
}

static int need(const struct merge *m, const struct sd_record *r, int kind, struct sd_err *err)
{
    if (!m->require[kind] || sd_record_find(r, KINDS[kind]))
        return 0;
    if (!*m->extension[kind])
        return sd_err_set(err, SD_ERR_DATA, "no %s", KINDS[kind]);
    return sd_err_set(err, SD_ERR_DATA, "no %s (there is no %s file beside it)", KINDS[kind],
                      m->extension[kind]);
}

static void tell(const struct merge *m, const struct worker *w, const struct sd_record *r, const char *path)
{
    if (!m->debug || !w->merged)
        return;
    const struct sd_member *caption = sd_record_find(r, "caption"), *tags = sd_record_find(r, "tags");
    cmd_warn(&m->cmd, "%s: caption %.*s, tags %.*s", path, caption ? (int)caption->value_len : 4,
             caption ? caption->value : "none", tags ? (int)tags->value_len : 4, tags ? tags->value : "none");
}

/* All there is for a record that came from the stream `from` - 1; 0 is the first. */
static int merge_from(struct merge *m, struct worker *w, struct sd_record *r, size_t from, struct sd_err *err)
{
    const char *path;
    w->merged = false;
    if (sd_record_need_string(r, "path", &path, err) || join_streams(m, w, r, path, from, err))
        return -1;
    if (sd_record_failed(r)) /* another stream says so */
        return 0;
    if (join_metadata(m, w, r, path, err))
        return -1;
    for (int k = 0; k < N_KINDS; k++)
        if (join_sidecar(m, w, r, path, k, err))
            return -1;
    for (int k = 0; k < N_KINDS; k++)
        if (need(m, r, k, err))
            return -1;
    tell(m, w, r, path);
    for (int k = 0; k < N_KINDS; k++)
        if (m->write_ending[k] &&
            sd_sidecars_add(&m->sidecars, &w->scratch, r, k, path, m->write_ending[k], m->n_waiting, err))
            return -1;
    return 0;
}

/* A record that failed before takes nothing, but later streams' records of its path are not new ones. */
static int pass(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct merge *m = ctx;
    const char *path;
    size_t entry;
    if (sd_record_string(r, "path", &path, NULL, err) != 1)
        return 0;
    for (size_t i = 0; i < m->streams.n; i++)
        if (sd_index_find(&m->streams.indexes[i], &m->workers[worker].streams[i], path, strlen(path), &entry,
                          err) == 1)
            sd_index_use(&m->streams.indexes[i], entry);
    return 0;
}

static int merge(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct merge *m = ctx;
    return merge_from(m, &m->workers[worker], r, 0, err);
}

/* ---- all records ---- */

static void fail(void *ctx, size_t owner, const struct sd_err *err)
{
    struct merge *m = ctx;
    m->waiting[owner].err = *err;
}

/* Writes the files of the records that wait, and then these. */
static void hand_on(struct merge *m)
{
    struct sd_err err = {0};
    if (sd_sidecars_flush(&m->sidecars, fail, m, &err))
        cmd_die(&m->cmd, &err);
    for (size_t i = 0; i < m->n_waiting; i++) {
        struct waiting *w = &m->waiting[i];
        if (w->err.code)
            cmd_fail(&m->cmd, &w->record, &w->err);
        if (w->ticketed)
            cmd_put(&m->cmd, w->ticket, &w->record);
        else
            cmd_put_next(&m->cmd, &w->record);
    }
    m->n_waiting = 0;
}

/* Works on the record behind those that wait, which came from the stream `from` - 1, and lets it wait too. */
static void work_on(struct merge *m, size_t from)
{
    struct waiting *w = &m->waiting[m->n_waiting];
    struct sd_err err = {0};
    if (sd_record_failed(&w->record))
        pass(m, 0, &w->record, &err);
    else
        merge_from(m, &m->workers[0], &w->record, from, &w->err);
    m->n_waiting++;
    if (m->n_waiting == WAITING || !sd_stream_ready(m->cmd.stream))
        hand_on(m);
}

static struct waiting *next_waiting(struct merge *m, bool ticketed)
{
    struct waiting *w = &m->waiting[m->n_waiting];
    w->err = (struct sd_err){0};
    w->ticketed = ticketed;
    return w;
}

/* One after the other, for what must not depend on threads: of two pictures with one file the first has it.
 */
static void merge_in_order(struct merge *m)
{
    struct waiting *w;
    while (w = next_waiting(m, true), cmd_next(&m->cmd, &w->record, &w->ticket))
        work_on(m, 0);
    hand_on(m);
}

/* The records that only later streams have. */
static void add_others(struct merge *m)
{
    struct sd_err err = {0};
    for (size_t i = 0; i < m->streams.n; i++) {
        struct sd_index *x = &m->streams.indexes[i];
        struct sd_index_reader *reader = &m->workers[0].streams[i];
        for (size_t k = 0; k < x->n && !cmd_stopped(&m->cmd); k++) {
            if (sd_index_used(x, k))
                continue;
            struct sd_buf *text = &m->workers[0].text;
            sd_buf_clear(text);
            if (sd_index_read(x, reader, k, &err) || sd_record_write(&reader->record, text) ||
                sd_record_parse_copy(&next_waiting(m, false)->record, text->data, text->len, &err))
                cmd_die(&m->cmd, &err);
            work_on(m, i + 1);
        }
    }
    hand_on(m);
}

/* ---- sources ---- */

static void report(void *ctx, const char *message)
{
    struct merge *m = ctx;
    cmd_warn(&m->cmd, "%s", message);
    cmd_status(&m->cmd, SD_ERR_DATA);
}

static bool stopped(void *ctx)
{
    struct merge *m = ctx;
    return cmd_stopped(&m->cmd);
}

static void open_sources(struct merge *m, struct sources *s, const char *key)
{
    const struct sd_index_setup setup = {
        .key = key, .no_key = "the record has no \"path\"", .report = report, .stopped = stopped, .ctx = m};
    struct sd_err err = {0};
    if (!(s->indexes = calloc(s->n + 1, sizeof *s->indexes)))
        die_of_memory(m);
    for (size_t i = 0; i < s->n && !cmd_stopped(&m->cmd); i++) {
        if (sd_index_open(&s->indexes[i], s->files[i], &setup, &err)) {
            err.code = err.code == SD_ERR_MACHINE ? SD_ERR_MACHINE : SD_ERR_USAGE;
            cmd_die(&m->cmd, &err);
        }
        if (s->indexes[i].repeated)
            cmd_warn(&m->cmd,
                     "%s: %llu more records of pictures that were there before: the last of each counts",
                     s->files[i], (unsigned long long)s->indexes[i].repeated);
    }
}

/* The first stream is read as standard input. */
static void open_first(struct merge *m, const char *file)
{
    struct sd_err err = {0};
    if (!strcmp(file, "-"))
        return;
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || dup2(fd, STDIN_FILENO) < 0) {
        sd_err_errno(&err, "cannot open");
        sd_err_prefix(&err, "%s", file);
        err.code = SD_ERR_USAGE;
        cmd_die(&m->cmd, &err);
    }
    close(fd);
}

static void open_streams(struct merge *m, int n, char **files)
{
    int standard = n == 0;
    for (int i = 0; i < n; i++)
        standard += !strcmp(files[i], "-");
    for (size_t i = 0; i < m->in_json.n; i++)
        standard += !strcmp(m->in_json.v[i], "-");
    if (standard > 1)
        cmd_usage(&m->cmd, "standard input (-) can be read only once");
    m->streams.files = n ? (const char *const *)files + 1 : NULL;
    m->streams.n = n ? (size_t)n - 1 : 0;
    open_sources(m, &m->streams, "path");
    m->metadata.files = m->in_json.v;
    m->metadata.n = m->in_json.n;
    open_sources(m, &m->metadata, NULL);
    if (n)
        open_first(m, files[0]);
}

static void close_sources(struct sources *s)
{
    for (size_t i = 0; i < s->n; i++)
        sd_index_close(&s->indexes[i]);
    free(s->indexes);
}

static struct sd_index_reader *new_readers(struct merge *m, size_t n)
{
    struct sd_index_reader *readers = calloc(n + 1, sizeof *readers);
    if (!readers)
        die_of_memory(m);
    return readers;
}

static void start_workers(struct merge *m)
{
    if (!(m->workers = calloc((size_t)m->cmd.common.jobs, sizeof *m->workers)))
        die_of_memory(m);
    for (int i = 0; i < m->cmd.common.jobs; i++) {
        m->workers[i].streams = new_readers(m, m->streams.n);
        m->workers[i].metadata = new_readers(m, m->metadata.n);
    }
}

static void free_readers(struct sd_index_reader *readers, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sd_index_reader_free(&readers[i]);
    free(readers);
}

static void end_workers(struct merge *m)
{
    uint64_t count[N_KINDS] = {0};
    for (int i = 0; i < m->cmd.common.jobs; i++) {
        struct worker *w = &m->workers[i];
        for (int k = 0; k < N_KINDS; k++)
            count[k] += w->count[k];
        free_readers(w->streams, m->streams.n);
        free_readers(w->metadata, m->metadata.n);
        sd_metadata_free(&w->scratch);
        sd_record_free(&w->other);
        sd_buf_free(&w->path);
        sd_buf_free(&w->text);
        sd_buf_free(&w->name);
        sd_strings_free(&w->parts);
    }
    free(m->workers);
    if (!m->cmd.common.verbose)
        return;
    cmd_say(&m->cmd, "%llu captions and %llu lists of tags merged",
            (unsigned long long)count[SD_TEXT_CAPTION], (unsigned long long)count[SD_TEXT_TAGS]);
    if (m->write.n)
        cmd_say(&m->cmd, "%llu files written, %llu as they should be",
                (unsigned long long)m->sidecars.written, (unsigned long long)m->sidecars.unchanged);
}

/* ---- options ---- */

static void add_name(struct merge *m, struct sd_strings *list, const char *name, size_t len)
{
    const char *copy = sd_arena_strndup(&m->arena, name, len);
    if (!copy || sd_strings_add(list, copy))
        die_of_memory(m);
}

/* Adds the names of --first tags,caption to the list. */
static void add_names(struct merge *m, struct sd_strings *list, const struct sd_strings *from)
{
    for (size_t i = 0; i < from->n; i++)
        for (const char *at = from->v[i];; at++) {
            size_t len = strcspn(at, ",");
            add_name(m, list, at, len);
            at += len;
            if (!*at)
                break;
        }
}

static void make_rules(struct merge *m)
{
    struct sd_join_rules *all[] = {&m->rules, &m->streams.rules, &m->metadata.rules};
    for (size_t i = 0; i < 3; i++) {
        all[i]->way = m->keep ? SD_JOIN_FIRST : SD_JOIN_LAST;
        add_names(m, &all[i]->first, &m->first);
        add_names(m, &all[i]->last, &m->last);
        add_names(m, &all[i]->both, &m->join);
    }
    /* What the record knows of its picture is newer than metadata; only the texts are what these are for. */
    struct sd_join_rules *r = &m->metadata.rules;
    for (int k = 0; k < N_KINDS; k++)
        if (sd_join_way(r, KINDS[k]) == SD_JOIN_LAST)
            add_name(m, &r->last, KINDS[k], strlen(KINDS[k]));
    r->way = SD_JOIN_FIRST;
}

static void free_rules(struct sd_join_rules *r)
{
    sd_strings_free(&r->first);
    sd_strings_free(&r->last);
    sd_strings_free(&r->both);
}

/* sd-scripts takes endings with and without their dot. */
static const char *with_dot(struct merge *m, const char *ending)
{
    if (!*ending || *ending == '.')
        return ending;
    const char *dotted = sd_arena_printf(&m->arena, ".%s", ending);
    if (!dotted)
        die_of_memory(m);
    return dotted;
}

/* --write tags=.txt, or an ending that says which by itself. */
static void read_write(struct merge *m, const char *value)
{
    const char *equals = strchr(value, '='), *ending = with_dot(m, equals ? equals + 1 : value);
    int kind = 0;
    while (kind < N_KINDS && (equals ? strlen(KINDS[kind]) != (size_t)(equals - value) ||
                                           strncmp(KINDS[kind], value, (size_t)(equals - value))
                                     : strcmp(ending, kind == SD_TEXT_TAGS ? ".txt" : ".caption")))
        kind++;
    if (kind == N_KINDS)
        cmd_usage(&m->cmd, "--write: '%s' is none of .caption, .txt, caption=ENDING, tags=ENDING", value);
    if (!*ending || strchr(ending, '/') || sd_image_has_extension(ending))
        cmd_usage(&m->cmd, "--write: '%s' is no ending for a text", ending);
    if (m->write_ending[kind])
        cmd_usage(&m->cmd, "--write: two endings for %s", KINDS[kind]);
    m->write_ending[kind] = ending;
    if (m->write_ending[0] && m->write_ending[1] && !strcmp(m->write_ending[0], m->write_ending[1]))
        cmd_usage(&m->cmd, "--write: caption and tags cannot both go to %s", ending);
}

static void finish(struct merge *m)
{
    end_workers(m);
    close_sources(&m->streams);
    close_sources(&m->metadata);
    free_rules(&m->rules);
    free_rules(&m->streams.rules);
    free_rules(&m->metadata.rules);
    sd_archives_free(&m->archives);
    sd_strings_free(&m->in_json);
    sd_strings_free(&m->first);
    sd_strings_free(&m->last);
    sd_strings_free(&m->join);
    sd_strings_free(&m->write);
    sd_sidecars_free(&m->sidecars);
    for (size_t i = 0; i < WAITING; i++)
        sd_record_free(&m->waiting[i].record);
    sd_arena_free(&m->arena);
}

int main(int argc, char **argv)
{
    static struct merge m; /* zero, then set: a file need not hold its tables */
    bool asked[N_KINDS] = {false};
    const struct sd_option options[] = {
        {SD_OPT_HEADING("Files beside the pictures")},
        {SD_OPT_STRING("caption-extension", 0, &m.extension[SD_TEXT_CAPTION], "EXT",
                       "ending of caption files; an empty one: look for none"),
         .alias = "caption-extention", .given = &asked[SD_TEXT_CAPTION]},
        {SD_OPT_STRING("tags-extension", 0, &m.extension[SD_TEXT_TAGS], "EXT",
                       "ending of tag files; an empty one: look for none"),
         .given = &asked[SD_TEXT_TAGS]},
        {SD_OPT_BOOL("keep-text", 0, &m.keep_text,
                     "keep a file's text too where captions or tags do not tell all of it, for sd-meta to")},
        {SD_OPT_HEADING("Metadata of sd-scripts")},
        {SD_OPT_LIST("in-json", 0, &m.in_json, "FILE",
                     "take captions, tags and the rest from this file too")},
        {SD_OPT_BOOL("full-path", 0, &m.full_path, "its entries are named by paths, not by names or stems")},
        {SD_OPT_HEADING("Which side counts")},
        {SD_OPT_BOOL("keep", 'k', &m.keep, "what a record already has counts")},
        {SD_OPT_LIST("first", 0, &m.first, "MEMBER,...", "of these members, what the record has counts")},
        {SD_OPT_LIST("last", 0, &m.last, "MEMBER,...", "of these members, the last that is found counts")},
        {SD_OPT_LIST("join", 0, &m.join, "MEMBER,...",
                     "of these members, all that is found counts together")},
        {SD_OPT_BOOL("left", 'l', &m.left, "leave out pictures that only later streams have")},
        {SD_OPT_BOOL("require-caption", 0, &m.require[SD_TEXT_CAPTION],
                     "a record left without a caption fails")},
        {SD_OPT_BOOL("require-tags", 0, &m.require[SD_TEXT_TAGS], "a record left without tags fails")},
        {SD_OPT_HEADING("Writing")},
        {SD_OPT_LIST("write", 'w', &m.write, "[caption=|tags=]EXT",
                     "write captions or tags to files with this ending beside the pictures")},
        {SD_OPT_BOOL("overwrite", 0, &m.overwrite, "replace files that say something else")},
        {SD_OPT_BOOL("debug", 0, &m.debug, "tell on standard error what each picture was given")},
        SD_OPT_END,
    };
    m.cmd.program = (struct sd_program){
        .name = "sd-merge",
        .args = "[STREAM...]",
        .summary = "Add captions, tags and other members to the records of their pictures",
        .options = options,
        .max_args = -1,
    };
    m.extension[0] = ".caption";
    m.extension[1] = ".txt";
    cmd_start(&m.cmd, &argc, argv);
    for (int k = 0; k < N_KINDS;
         k++) /* joining streams is about what these say, unless files are asked for */
        m.extension[k] = argc > 2 && !asked[k] ? "" : with_dot(&m, m.extension[k]);
    for (size_t i = 0; i < m.write.n; i++)
        read_write(&m, m.write.v[i]);
    if (m.overwrite && !m.write.n)
        cmd_usage(&m.cmd, "--overwrite goes with --write");
    if (m.full_path && !m.in_json.n)
        cmd_usage(&m.cmd, "--full-path goes with --in-json");
    m.sidecars.overwrite = m.overwrite;
    make_rules(&m);
    open_streams(&m, argc - 1, argv + 1);
    start_workers(&m);
    sd_stream_show_failed(m.cmd.stream, pass);
    if (m.write.n || m.debug)
        merge_in_order(&m);
    else
        cmd_each(&m.cmd, merge, &m);
    if (!m.left)
        add_others(&m);
    finish(&m);
    return cmd_finish(&m.cmd);
}
