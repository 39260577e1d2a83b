/* sd-unpack: pictures in zip and tar archives become files, and the texts beside them members of records. */
#include "cmd.h"

#include "base/atomic.h"
#include "base/ordered.h"
#include "base/path.h"
#include "data/pack.h"
#include "data/picture.h"
#include "image/list.h" /* sd_image_has_extension */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { WINDOW = 256, SMALL_BYTES = 1 << 20 };

struct worker {
    struct sd_archive_member member;
    struct sd_buf scratch, from, to, folder, name, json, text; /* from: archive!/member; to: the file */
    struct sd_record record;
};

struct slot { /* what became of a member */
    struct sd_buf line, message;
    struct sd_err err;
};

struct unpack {
    struct sd_cmd cmd;
    const char *folder;
    struct sd_buf prefix; /* what comes before a member's name: the folder and a slash, or nothing for "." */
    bool overwrite, all;
    int64_t max_size, max_ratio;
    struct sd_archives archives;
    struct worker *workers;
    _Atomic uint64_t left; /* members that are no pictures */

    const char *path; /* of the archive being worked on */
    const struct sd_archive *archive;
    struct slot slots[WINDOW];
};

/* ---- one member ---- */

/* Makes the folders of w->to, unless they are those of the file before. */
static int make_folders(const struct unpack *u, struct worker *w, struct sd_err *err)
{
    size_t n = (size_t)(sd_path_base(w->to.data) - w->to.data);
    if (n == w->folder.len && (!n || !memcmp(w->folder.data, w->to.data, n)))
        return 0;
    for (char *p = w->to.data + u->prefix.len; (p = strchr(p, '/')); p++) {
        *p = 0;
        int bad = mkdir(w->to.data, 0777) && errno != EEXIST;
        if (bad)
            sd_err_errno(err, w->to.data);
        *p = '/';
        if (bad)
            return -1;
    }
    sd_buf_clear(&w->folder);
    return sd_buf_add(&w->folder, w->to.data, n) ? sd_err_memory(err, n) : 0;
}

static int check_limits(const struct unpack *u, const struct sd_archive_member *m, struct sd_err *err)
{
    if (m->size > (uint64_t)u->max_size * 1000000)
        return sd_err_set(err, SD_ERR_DATA, "%llu bytes, more than the %lld MB of --max-size",
                          (unsigned long long)m->size, (long long)u->max_size);
    if (m->size > SMALL_BYTES && m->size / (uint64_t)u->max_ratio > m->packed_size)
        return sd_err_set(
            err, SD_ERR_DATA, "%llu bytes unpacked from %llu, more than the %lld times of --max-ratio",
            (unsigned long long)m->size, (unsigned long long)m->packed_size, (long long)u->max_ratio);
    return 0;
}

static int write_file(const struct unpack *u, struct worker *w, const void *bytes, size_t len,
                      struct sd_err *err)
{
    struct sd_atomic *file;
    struct stat st;
    if (make_folders(u, w, err))
        return -1;
    if (!lstat(w->to.data, &st) && (!u->overwrite || !S_ISREG(st.st_mode)))
        return sd_err_set(err, SD_ERR_DATA, "%s is there already%s", w->to.data,
                          S_ISREG(st.st_mode) ? " (--overwrite replaces it)" : ", and is no regular file");
    if (sd_atomic_open(&file, w->to.data, err))
        return -1;
    sd_atomic_unsynced(file);
    int bad = sd_atomic_write(file, bytes, len, err) || sd_atomic_commit(&file, err);
    sd_atomic_discard(&file);
    return bad;
}

/* Writes w->member below the folder. info, when it is not NULL, receives what it is. */
static int extract(const struct unpack *u, struct worker *w, const struct sd_archive *a,
                   struct sd_image_info *info, struct sd_err *err)
{
    const void *bytes;
    sd_buf_clear(&w->to);
    if (sd_buf_add(&w->to, u->prefix.data, u->prefix.len) || sd_buf_adds(&w->to, w->member.name.data))
        return sd_err_memory(err, w->member.name.len);
    if (check_limits(u, &w->member, err) ||
        sd_archive_view(a, &w->member, (uint64_t)u->max_size * 1000000, &w->scratch, &bytes, err) ||
        (info && sd_image_probe_memory(bytes, (size_t)w->member.size, info, err)))
        return -1;
    return write_file(u, w, bytes, (size_t)w->member.size, err);
}

/* ---- its record ---- */

/* A record is one line. Line ends in JSON only stand between tokens. */
static void join_lines(struct sd_buf *json)
{
    while (json->len && strchr(" \t\r\n", json->data[json->len - 1]))
        json->data[--json->len] = 0;
    for (size_t i = 0; i < json->len; i++)
        if (json->data[i] == '\n' || json->data[i] == '\r')
            json->data[i] = ' ';
}

/* Reads the sample's .json and .txt, of the picture w->from. The results are NULL where there is none. */
static int read_texts(struct unpack *u, struct worker *w, const struct sd_buf **json,
                      const struct sd_buf **text, struct sd_err *err)
{
    int got = sd_picture_sidecar(&u->archives, w->from.data, ".json", &w->name, &w->json, err);
    *json = got == 1 ? &w->json : NULL;
    join_lines(&w->json);
    if (got >= 0)
        got = sd_picture_sidecar(&u->archives, w->from.data, ".txt", &w->name, &w->text, err);
    *text = got == 1 ? &w->text : NULL;
    return got < 0 ? -1 : 0;
}

/* What is not in the record yet. */
static int complete_record(struct worker *w, const struct sd_buf *text, const struct sd_image_info *info,
                           struct sd_err *err)
{
    struct sd_record *r = &w->record;
    if (sd_record_set_string(r, "path", w->to.data) || sd_record_remove(r, "error"))
        return sd_err_memory(err, w->to.len);
    if (!sd_record_find(r, "width") &&
        (sd_record_set_int(r, "width", info->width) || sd_record_set_int(r, "height", info->height) ||
         sd_record_set_string(r, "format", sd_image_format_name(info->format)) ||
         sd_record_set_int(r, "bytes", (int64_t)info->bytes)))
        return sd_err_memory(err, w->to.len);
    return sd_pack_merge(r, NULL, text, err);
}

/* The record begins as the .json stands, so that one that was packed comes back byte for byte. */
static int unpack_picture(struct unpack *u, struct worker *w, struct sd_err *err)
{
    const struct sd_buf *json, *text;
    struct sd_image_info info;
    if (read_texts(u, w, &json, &text, err))
        return -1;
    sd_record_reset(&w->record);
    if (json && sd_record_parse(&w->record, json->data, json->len, err))
        return sd_err_prefix(err, "its .json");
    if (extract(u, w, u->archive, &info, err))
        return -1;
    return complete_record(w, text, &info, err);
}

/* ---- all members of an archive ---- */

static void work(void *ctx, int thread, size_t item)
{
    struct unpack *u = ctx;
    struct worker *w = &u->workers[thread];
    struct slot *s = &u->slots[item % WINDOW];
    s->err = (struct sd_err){0};
    if (cmd_stopped(&u->cmd))
        return;
    int bad = sd_archive_member(u->archive, item, &w->member, &s->err);
    const char *name = w->member.name.data;
    bool picture = sd_image_has_extension(name) && *sd_path_base(name) != '.', nameless = bad && !*name;
    if (w->member.folder || (!picture && !nameless && !u->all)) {
        u->left += !w->member.folder;
        s->err.code = 0;
        return;
    }
    if (nameless)
        sd_err_prefix(&s->err, "member %zu", item + 1);
    sd_buf_clear(&w->from);
    if (sd_buf_adds(&w->from, u->path) || (!nameless && sd_buf_addf(&w->from, "!/%s", name)))
        bad = sd_err_memory(&s->err, w->member.name.len);
    else if (!bad)
        bad = picture ? unpack_picture(u, w, &s->err) : extract(u, w, u->archive, NULL, &s->err);
    if (bad) {
        sd_record_reset(&w->record);
        if (sd_path_visible(&s->message, w->from.data, w->from.len) ||
            sd_buf_addf(&s->message, ": %s", s->err.msg) ||
            sd_record_set_bytes(&w->record, "path", w->from.data, w->from.len) ||
            sd_record_set_error(&w->record, u->cmd.program.name, s->err.msg))
            s->err.code = SD_ERR_MACHINE;
    }
    if (picture && (sd_record_write(&w->record, &s->line) || sd_buf_addc(&s->line, '\n')))
        s->err.code = SD_ERR_MACHINE;
}

static void finish(void *ctx, size_t item)
{
    struct unpack *u = ctx;
    struct slot *s = &u->slots[item % WINDOW];
    if (s->message.len)
        sd_stream_report(u->cmd.stream, s->message.data);
    if (s->line.len)
        sd_stream_write(u->cmd.stream, s->line.data, s->line.len, 1);
    if (s->err.code)
        cmd_status(&u->cmd, s->err.code);
    sd_buf_clear(&s->line);
    sd_buf_clear(&s->message);
}

static void complain(struct unpack *u, const struct sd_err *err)
{
    sd_stream_report(u->cmd.stream, err->msg);
    cmd_status(&u->cmd, err->code);
}

static void unpack_archive(struct unpack *u, const char *path)
{
    struct sd_archive_use *use;
    struct sd_err err = {0};
    if (!sd_path_is_archive(path, strlen(path)))
        sd_err_set(&err, SD_ERR_USAGE, "%s: an archive's name ends in .zip or .tar", path);
    else
        sd_archives_get(&u->archives, path, strlen(path), &use, &err);
    if (err.code) {
        complain(u, &err);
        return;
    }
    u->path = path;
    u->archive = use->archive;
    const struct sd_ordered run = {.n = sd_archive_count(u->archive),
                                   .window = WINDOW,
                                   .jobs = u->cmd.common.jobs,
                                   .work = work,
                                   .finish = finish,
                                   .ctx = u};
    u->cmd.total += run.n;
    if (sd_ordered_run(&run, &err))
        cmd_die(&u->cmd, &err);
    if (sd_archive_damage(u->archive)->code) {
        err = *sd_archive_damage(u->archive);
        sd_err_prefix(&err, "%s", path);
        complain(u, &err);
    }
    sd_archives_done(&u->archives, use);
}

/* ---- records ---- */

static int find_and_extract(struct unpack *u, struct worker *w, const char *path, struct sd_err *err)
{
    struct sd_archive_use *use;
    const char *member = NULL;
    size_t len = sd_archive_split(path, &member);
    if (sd_archives_get(&u->archives, path, len, &use, err))
        return -1;
    int got = sd_archive_find(use->archive, member, &w->member, err);
    if (!got)
        sd_err_set(err, SD_ERR_DATA, "no such member in the archive");
    int bad = got == 1 ? extract(u, w, use->archive, NULL, err) : -1;
    sd_archives_done(&u->archives, use);
    return bad;
}

/* Pictures that are files already pass. */
static int unpack_record(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct unpack *u = ctx;
    struct worker *w = &u->workers[worker];
    const struct sd_buf *json, *text;
    const char *path;
    if (sd_record_need_string(r, "path", &path, err))
        return -1;
    if (!sd_archive_split(path, NULL))
        return SD_RECORD_KEEP;
    sd_buf_clear(&w->from);
    if (sd_buf_adds(&w->from, path))
        return sd_err_memory(err, strlen(path));
    if (read_texts(u, w, &json, &text, err) || find_and_extract(u, w, w->from.data, err) ||
        sd_pack_merge(r, json, text, err))
        return -1;
    return sd_record_set_string(r, "path", w->to.data) ? sd_err_memory(err, w->to.len) : SD_RECORD_KEEP;
}

/* ---- the program ---- */

static void free_all(struct unpack *u)
{
    for (int i = 0; i < u->cmd.common.jobs; i++) {
        struct worker *w = &u->workers[i];
        struct sd_buf *const all[] = {&w->member.name, &w->scratch, &w->from, &w->to,
                                      &w->folder,      &w->name,    &w->json, &w->text};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            sd_buf_free(all[k]);
        sd_record_free(&w->record);
    }
    for (int i = 0; i < WINDOW; i++) {
        sd_buf_free(&u->slots[i].line);
        sd_buf_free(&u->slots[i].message);
    }
    sd_buf_free(&u->prefix);
    free(u->workers);
    sd_archives_free(&u->archives);
}

int main(int argc, char **argv)
{
    static struct unpack u = {.folder = ".", .max_size = 1000, .max_ratio = 100};
    const struct sd_option options[] = {
        {SD_OPT_STRING("directory", 'd', &u.folder, "FOLDER",
                       "where the files go; it is made where it is missing")},
        {SD_OPT_BOOL("overwrite", 0, &u.overwrite, "replace files that are there already")},
        {SD_OPT_BOOL("all", 'a', &u.all,
                     "write the members that are no pictures too, captions and JSON among them")},
        {SD_OPT_INT("max-size", 0, &u.max_size, "MB", "refuse members of more millions of bytes"), .min = 1,
         .max = 1e6},
        {SD_OPT_INT("max-ratio", 0, &u.max_ratio, "N",
                    "refuse members over 1 MiB that unpack to more than N times their size"),
         .min = 1, .max = 1e6},
        SD_OPT_END,
    };
    u.cmd.program = (struct sd_program){
        .name = "sd-unpack",
        .args = "[ARCHIVE]...",
        .summary = "Unpack pictures, and their records, from zip and tar archives",
        .description =
            "Without arguments records are read from standard input, and those whose pictures are in\n"
            "archives get files.",
        .options = options,
        .max_args = -1,
    };
    cmd_start(&u.cmd, &argc, argv);
    if (!*u.folder)
        cmd_usage(&u.cmd, "--directory: an empty name");
    cmd_folder(&u.cmd, u.folder);
    if (strcmp(u.folder, ".") && sd_buf_addf(&u.prefix, "%s%s", u.folder, sd_path_slash(u.folder)))
        cmd_die(&u.cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    u.workers = calloc((size_t)u.cmd.common.jobs, sizeof *u.workers);
    if (!u.workers)
        cmd_die(&u.cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    for (int i = 1; i < argc && !cmd_stopped(&u.cmd); i++)
        unpack_archive(&u, argv[i]);
    if (argc == 1)
        cmd_each(&u.cmd, unpack_record, &u);
    if (u.left && u.cmd.common.verbose)
        cmd_say(&u.cmd, "%llu members that are no pictures were left (--all writes them)",
                (unsigned long long)u.left);
    free_all(&u);
    return cmd_finish(&u.cmd);
}
