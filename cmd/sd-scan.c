/* sd-scan: pictures in folders become records. */
#include "cmd.h"

#include "base/file.h"
#include "base/hash.h"
#include "base/ordered.h"
#include "base/path.h"
#include "image/list.h"
#include "image/probe.h"
#include "record/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK = 128, WINDOW = 64, FILE_BYTES = 1 << 30, NAMES_BYTES = 1 << 16 };

struct chunk {                     /* the records of CHUNK pictures */
    struct sd_buf lines, messages; /* messages: NUL-terminated, one after the other */
    size_t records;
    int status;
};

struct scan {
    struct sd_cmd cmd;
    bool recursive, all, null, sha256, verify;
    const char *const *paths; /* being worked on */
    size_t n;
    struct chunk chunks[WINDOW];
};

/* ---- one picture ---- */

struct picture {
    struct sd_image_info info;
    char sha256[65];
};

static int verify(const struct scan *s, const char *path, struct picture *p, struct sd_err *err)
{
    struct sd_buf file = SD_BUF_INIT;
    struct sd_image im = SD_IMAGE_INIT;
    int bad = sd_file_read_at(AT_FDCWD, path, FILE_BYTES, &file, err);
    bad = bad || sd_image_probe_memory(file.data, file.len, &p->info, err);
    bad = bad || (s->sha256 && sd_sha256(file.data, file.len, p->sha256, err));
    bad = bad || sd_image_decode(file.data, file.len, 3, SD_IMAGE_STRICT, &im, err);
    if (!bad && (im.width != p->info.width || im.height != p->info.height))
        bad = sd_err_set(err, SD_ERR_DATA, "the header says %ux%u, the picture is %ux%u", p->info.width,
                         p->info.height, im.width, im.height);
    sd_image_free(&im);
    sd_buf_free(&file);
    return bad ? -1 : 0;
}

static int look_at(const struct scan *s, const char *path, struct picture *p, struct sd_err *err)
{
    uint8_t buf[SD_IMAGE_PROBE_BYTES];
    if (s->verify)
        return verify(s, path, p, err);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return sd_err_errno(err, "cannot open");
    int bad = sd_image_probe_fd(fd, buf, &p->info, err);
    if (!bad && s->sha256)
        bad =
            lseek(fd, 0, SEEK_SET) < 0 ? sd_err_errno(err, "cannot read") : sd_sha256_fd(fd, p->sha256, err);
    close(fd);
    return bad;
}

/* The record's line, without building a struct sd_record: this is what the rate of the program hangs on. */
static int add_line(struct chunk *c, const char *path, const struct picture *p, const struct sd_err *err)
{
    struct sd_buf *b = &c->lines;
    int bad = sd_buf_add(b, "{\"path\":", 8) || sd_scan_quote(b, path, strlen(path));
    if (p->info.width) {
        char text[160];
        int n = snprintf(text, sizeof text, ",\"width\":%u,\"height\":%u,\"format\":\"%s\",\"bytes\":%llu",
                         p->info.width, p->info.height, sd_image_format_name(p->info.format),
                         (unsigned long long)p->info.bytes);
        bad = bad || sd_buf_add(b, text, (size_t)n);
    }
    if (p->sha256[0])
        bad = bad || sd_buf_addf(b, ",\"sha256\":\"%s\"", p->sha256);
    if (err->code)
        bad = bad || sd_buf_adds(b, ",\"error\":{\"tool\":\"sd-scan\",\"message\":") ||
              sd_scan_quote(b, err->msg, strlen(err->msg)) || sd_buf_addc(b, '}');
    return bad || sd_buf_add(b, "}\n", 2) ? -1 : 0;
}

/* ---- many pictures ---- */

static void work(void *ctx, int thread, size_t item)
{
    struct scan *s = ctx;
    struct chunk *c = &s->chunks[item % WINDOW];
    size_t end = (item + 1) * CHUNK < s->n ? (item + 1) * CHUNK : s->n;
    (void)thread;
    if (cmd_stopped(&s->cmd))
        return;
    for (size_t i = item * CHUNK; i < end; i++) {
        struct picture p = {0};
        struct sd_err err = {0};
        if (look_at(s, s->paths[i], &p, &err)) {
            c->status = err.code > c->status ? err.code : c->status;
            if (sd_path_visible(&c->messages, s->paths[i], strlen(s->paths[i])) ||
                sd_buf_addf(&c->messages, ": %s", err.msg) || sd_buf_addc(&c->messages, 0))
                c->status = SD_ERR_MACHINE;
        }
        if (add_line(c, s->paths[i], &p, &err))
            c->status = SD_ERR_MACHINE;
        c->records++;
    }
}

static void finish(void *ctx, size_t item)
{
    struct scan *s = ctx;
    struct chunk *c = &s->chunks[item % WINDOW];
    for (size_t at = 0; at < c->messages.len; at += strlen(c->messages.data + at) + 1)
        sd_stream_report(s->cmd.stream, c->messages.data + at);
    if (c->lines.len)
        sd_stream_write(s->cmd.stream, c->lines.data, c->lines.len, c->records);
    if (c->status)
        cmd_status(&s->cmd, c->status);
    sd_buf_clear(&c->lines);
    sd_buf_clear(&c->messages);
    c->records = 0;
    c->status = 0;
}

static void scan_files(struct scan *s, const char *const *paths, size_t n)
{
    struct sd_err err = {0};
    s->paths = paths;
    s->n = n;
    const struct sd_ordered run = {.n = (n + CHUNK - 1) / CHUNK,
                                   .window = WINDOW,
                                   .jobs = s->cmd.common.jobs,
                                   .work = work,
                                   .finish = finish,
                                   .ctx = s};
    if (sd_ordered_run(&run, &err))
        cmd_die(&s->cmd, &err);
}

static void complain(void *ctx, const struct sd_err *err)
{
    struct scan *s = ctx;
    sd_stream_report(s->cmd.stream, err->msg);
    cmd_status(&s->cmd, err->code);
}

static void scan_folder(struct scan *s, const char *folder)
{
    struct sd_image_list list = SD_IMAGE_LIST_INIT;
    struct sd_err err = {0};
    unsigned flags = (s->recursive ? SD_LIST_RECURSIVE : 0) | (s->all ? SD_LIST_HIDDEN : 0);
    if (sd_image_list_folder(&list, folder, flags, complain, s, &err))
        cmd_die(&s->cmd, &err);
    s->cmd.total += list.paths.n;
    scan_files(s, list.paths.v, list.paths.n);
    sd_image_list_free(&list);
}

/* Folders and files as they come; files in a row are worked on together. */
static void scan_names(struct scan *s, char **names, size_t n)
{
    size_t first = 0;
    for (size_t i = 0; i < n && !cmd_stopped(&s->cmd); i++) {
        struct stat st;
        if (stat(names[i], &st) || !S_ISDIR(st.st_mode))
            continue;
        scan_files(s, (const char *const *)names + first, i - first);
        scan_folder(s, names[i]);
        first = i + 1;
    }
    scan_files(s, (const char *const *)names + first, n - first);
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
    scan_names(s, (char **)names.v, names.n);
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
        {SD_OPT_BOOL("null", '0', &s.null, "names on standard input end with NUL, not newline")},
        {SD_OPT_BOOL("sha256", 0, &s.sha256, "add the file's SHA-256 as a member of that name")},
        {SD_OPT_BOOL("verify", 0, &s.verify, "decode each picture fully, to find the damaged ones")},
        SD_OPT_END,
    };
    s.cmd.program = (struct sd_program){
        .name = "sd-scan",
        .args = "[FOLDER|FILE]...",
        .summary = "Turn pictures into records: path, size, format",
        .description = "Without arguments the names are read from standard input, one a line.",
        .options = options,
        .max_args = -1,
    };
    cmd_start(&s.cmd, &argc, argv);
    if (argc > 1)
        scan_names(&s, argv + 1, (size_t)argc - 1);
    else
        scan_stdin(&s);
    for (int i = 0; i < WINDOW; i++) {
        sd_buf_free(&s.chunks[i].lines);
        sd_buf_free(&s.chunks[i].messages);
    }
    return cmd_finish(&s.cmd);
}
