/* sd-scan: pictures in folders and archives become records. */
#include "many.h"

#include "base/hash.h"
#include "base/path.h"
#include "data/picture.h"
#include "image/list.h"
#include "record/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_BYTES = 1 << 16 };

struct scratch { /* of a worker */
    struct sd_archive_member member;
    struct sd_buf path, bytes;
};

struct scan {
    struct sd_cmd cmd;
    bool recursive, all, null, sha256, verify, archives;
    struct sd_archives open;
    const char *const *paths;         /* being worked on: these files, */
    const struct sd_archive *archive; /* or the members of this */
    const char *archive_path;
    struct scratch *scratch; /* by worker */
};

/* ---- one picture ---- */

struct picture {
    struct sd_image_info info;
    char sha256[65];
};

/* What needs the whole file. */
static int read_through(const struct scan *s, const void *bytes, size_t len, struct picture *p,
                        struct sd_err *err)
{
    struct sd_image im = SD_IMAGE_INIT;
    int bad = sd_image_probe_memory(bytes, len, &p->info, err);
    if (!bad && s->sha256)
        sd_sha256(bytes, len, p->sha256);
    bad = bad || (s->verify && sd_image_decode(bytes, len, 3, SD_IMAGE_STRICT, &im, err));
    if (!bad && s->verify && (im.width != p->info.width || im.height != p->info.height))
        bad = sd_err_set(err, SD_ERR_DATA, "the header says %ux%u, the picture is %ux%u", p->info.width,
                         p->info.height, im.width, im.height);
    sd_image_free(&im);
    return bad ? -1 : 0;
}

static int look_at(struct scan *s, const char *path, struct picture *p, struct sd_err *err)
{
    if (s->verify || sd_archive_split(path, NULL)) {
        struct sd_picture_bytes b;
        if (sd_picture_read(&s->open, path, &b, err))
            return -1;
        int bad = read_through(s, b.bytes, b.len, p, err);
        sd_picture_done(&b);
        return bad;
    }
    int fd = sd_picture_open(path, &p->info, err), bad = 0;
    if (fd < 0)
        return -1;
    if (s->sha256)
        bad =
            lseek(fd, 0, SEEK_SET) < 0 ? sd_err_errno(err, "cannot read") : sd_sha256_fd(fd, p->sha256, err);
    close(fd);
    return bad;
}

static int look_at_member(const struct scan *s, const struct sd_archive_member *m, struct sd_buf *scratch,
                          struct picture *p, struct sd_err *err)
{
    const void *bytes;
    if (!s->verify && !s->sha256)
        return sd_picture_probe_member(s->archive, m, scratch, &p->info, err);
    if (sd_archive_view(s->archive, m, SD_PICTURE_BYTES, scratch, &bytes, err))
        return -1;
    return read_through(s, bytes, (size_t)m->size, p, err);
}

/* The record's line, without building a struct sd_record: this is what the rate of the program hangs on. */
static int add_line(struct sd_buf *b, const char *path, const struct picture *p, const struct sd_err *err)
{
    int bad = sd_buf_add(b, "{\"path\":", 8) || sd_scan_quote(b, path, strlen(path));
    if (p->info.width)
        bad = bad || sd_picture_members(&p->info, b);
    if (p->sha256[0])
        bad = bad || sd_buf_addf(b, ",\"sha256\":\"%s\"", p->sha256);
    if (err->code)
        bad = bad || sd_picture_error("sd-scan", err->msg, b);
    return bad || sd_buf_add(b, "}\n", 2) ? -1 : 0;
}

/* ---- many pictures ---- */

static void add(struct cmd_lines *out, const char *path, const struct picture *p, struct sd_err *err)
{
    size_t len = strlen(path);
    if (err->code) {
        if (!strncmp(err->msg, path, len) && !strncmp(err->msg + len, ": ", 2))
            memmove(err->msg, err->msg + len + 2, strlen(err->msg + len + 2) + 1);
        cmd_lines_fail(out, path, err);
    }
    if (add_line(&out->lines, path, p, err))
        out->status = SD_ERR_MACHINE;
    out->records++;
}

/* Some part of the path begins with a dot. */
static bool is_hidden(const char *path)
{
    return *path == '.' || strstr(path, "/.");
}

static void scan_member(struct scan *s, struct scratch *x, size_t i, struct cmd_lines *out)
{
    struct picture p = {0};
    struct sd_err err = {0};
    int bad = sd_archive_member(s->archive, i, &x->member, &err);
    const char *name = x->member.name.data;
    if (bad && !*name) {
        sd_err_prefix(&err, "member %zu", i + 1);
        cmd_lines_fail(out, s->archive_path, &err);
    }
    if (x->member.folder || !sd_image_has_extension(name) || (!bad && !s->all && is_hidden(name)))
        return;
    sd_buf_clear(&x->path);
    if (sd_buf_addf(&x->path, "%s!/%s", s->archive_path, name)) {
        out->status = SD_ERR_MACHINE;
        return;
    }
    if (!bad)
        look_at_member(s, &x->member, &x->bytes, &p, &err);
    add(out, x->path.data, &p, &err);
}

static void scan_file(struct scan *s, const char *path, struct cmd_lines *out)
{
    struct picture p = {0};
    struct sd_err err = {0};
    look_at(s, path, &p, &err);
    add(out, path, &p, &err);
}

static void work(void *ctx, int worker, size_t i, struct cmd_lines *out)
{
    struct scan *s = ctx;
    if (s->archive)
        scan_member(s, &s->scratch[worker], i, out);
    else
        scan_file(s, s->paths[i], out);
}

static void scan_all(struct scan *s, size_t n)
{
    cmd_many(&s->cmd, &(struct cmd_many){.n = n, .work = work, .ctx = s});
}

static void complain(void *ctx, const struct sd_err *err)
{
    struct scan *s = ctx;
    sd_stream_report(s->cmd.stream, err->msg);
    cmd_status(&s->cmd, err->code);
}

static void scan_archive(struct scan *s, const char *path)
{
    struct sd_err err = {0};
    struct sd_archive *a;
    if (sd_archive_open(&a, path, &err)) {
        complain(s, &err);
        return;
    }
    s->archive = a;
    s->archive_path = path;
    s->cmd.total += sd_archive_count(a);
    scan_all(s, sd_archive_count(a));
    s->archive = NULL;
    if (sd_archive_damage(a)->code) {
        err = *sd_archive_damage(a);
        sd_err_prefix(&err, "%s", path);
        complain(s, &err);
    }
    sd_archive_close(a);
}

static void scan_files(struct scan *s, const char *const *paths, size_t n)
{
    s->paths = paths;
    scan_all(s, n);
}

static void scan_folder(struct scan *s, const char *folder);

/* Folders, archives and files as they come; files in a row are worked on together. */
static void scan_names(struct scan *s, const char *const *names, size_t n, bool folders)
{
    size_t first = 0;
    for (size_t i = 0; i < n && !cmd_stopped(&s->cmd); i++) {
        struct stat st;
        bool archive = sd_path_is_archive(names[i], strlen(names[i]));
        if (!(archive || folders) || stat(names[i], &st) || !(S_ISDIR(st.st_mode) || archive))
            continue;
        scan_files(s, names + first, i - first);
        if (S_ISDIR(st.st_mode))
            scan_folder(s, names[i]);
        else
            scan_archive(s, names[i]);
        first = i + 1;
    }
    scan_files(s, names + first, n - first);
}

static void scan_folder(struct scan *s, const char *folder)
{
    struct sd_image_list list = SD_IMAGE_LIST_INIT;
    struct sd_err err = {0};
    unsigned flags = (s->recursive ? SD_LIST_RECURSIVE : 0) | (s->all ? SD_LIST_HIDDEN : 0) |
                     (s->archives ? SD_LIST_ARCHIVES : 0);
    if (sd_image_list_folder(&list, folder, flags, complain, s, &err))
        cmd_die(&s->cmd, &err);
    s->cmd.total += list.paths.n;
    scan_names(s, list.paths.v, list.paths.n, false);
    sd_image_list_free(&list);
}

/* ---- names on standard input ---- */

/* Works on the complete names in *in (all of them at the end) and keeps the rest. */
static void scan_block(struct scan *s, struct sd_buf *in, bool end)
{
    struct sd_strings names = {0};
    char separator = s->null ? 0 : '\n', *at = in->data, *stop = in->data + in->len, *next;
    for (; at < stop; at = next + 1) {
        next = memchr(at, separator, (size_t)(stop - at));
        if (!next && !end)
            break;
        if (!next)
            next = stop; /* where the buffer has its NUL */
        *next = 0;
        if (*at && sd_strings_add(&names, at))
            cmd_die(&s->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    }
    scan_names(s, names.v, names.n, true);
    sd_strings_free(&names);
    in->len = at < stop ? (size_t)(stop - at) : 0;
    memmove(in->data, at, in->len);
}

static void scan_stdin(struct scan *s)
{
    struct sd_buf in = SD_BUF_INIT;
    struct sd_err err = {0};
    for (ssize_t n = 1; n && !cmd_stopped(&s->cmd);) {
        struct pollfd ready = {.fd = 0, .events = POLLIN};
        if (poll(&ready, 1, 0) <= 0)
            sd_stream_flush(s->cmd.stream);
        n = sd_buf_reserve(&in, NAMES_BYTES) ? -1 : read(0, in.data + in.len, NAMES_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            sd_err_errno(&err, "standard input");
            err.code = SD_ERR_USAGE;
            cmd_die(&s->cmd, &err);
        }
        in.len += (size_t)n;
        in.data[in.len] = 0;
        scan_block(s, &in, n == 0);
    }
    sd_buf_free(&in);
}

int main(int argc, char **argv)
{
    static struct scan s;
    const struct sd_option options[] = {
        {SD_OPT_BOOL("recursive", 'r', &s.recursive, "look into folders inside folders too")},
        {SD_OPT_BOOL("all", 'a', &s.all, "take names that begin with a dot too")},
        {SD_OPT_BOOL("archives", 0, &s.archives, "look into the zip and tar archives found in folders too")},
        {SD_OPT_BOOL("null", '0', &s.null, "names on standard input end with NUL, not newline")},
        {SD_OPT_BOOL("sha256", 0, &s.sha256, "add the file's SHA-256 as a member of that name")},
        {SD_OPT_BOOL("verify", 0, &s.verify, "decode each picture fully, to find the damaged ones")},
        SD_OPT_END,
    };
    s.cmd.program = (struct sd_program){
        .name = "sd-scan",
        .args = "[FOLDER|ARCHIVE|FILE]...",
        .summary = "Turn pictures into records: path, size, format",
        .description = "Without arguments the names are read from standard input, one a line.",
        .options = options,
        .max_args = -1,
    };
    cmd_start(&s.cmd, &argc, argv);
    s.scratch = calloc((size_t)s.cmd.common.jobs, sizeof *s.scratch);
    if (!s.scratch) {
        struct sd_err err;
        sd_err_memory(&err, sizeof *s.scratch);
        cmd_die(&s.cmd, &err);
    }
    if (argc > 1)
        scan_names(&s, (const char *const *)argv + 1, (size_t)argc - 1, true);
    else
        scan_stdin(&s);
    for (int i = 0; i < s.cmd.common.jobs; i++) {
        sd_buf_free(&s.scratch[i].member.name);
        sd_buf_free(&s.scratch[i].path);
        sd_buf_free(&s.scratch[i].bytes);
    }
    free(s.scratch);
    sd_archives_free(&s.open);
    return cmd_finish(&s.cmd);
}
