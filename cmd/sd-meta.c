/* sd-meta: sd-scripts' metadata JSON becomes records, and records become metadata JSON. */
#include "cmd.h"

#include "base/atomic.h"
#include "base/seen.h"
#include "data/metadata.h"
#include "record/members.h"
#include "record/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WAIT_MS = 200 };

struct meta {
    struct sd_cmd cmd;
    const char *image_dir, *output;
    bool resolve, relative;
    struct sd_metadata scratch;
    struct sd_seen seen;
    struct sd_buf name, text;
    uint64_t entries;
    /* from */
    int in;
    const char *file; /* for messages */
    /* to */
    struct sd_atomic *out; /* NULL: standard output */
    uint64_t inexact, failed;
};

/* ---- from: metadata to records ---- */

/* Lets out what is done before it waits for more. */
static ssize_t read_input(void *ctx, void *bytes, size_t n)
{
    struct meta *m = ctx;
    struct pollfd ready = {.fd = m->in, .events = POLLIN};
    if (poll(&ready, 1, 0) <= 0) {
        sd_stream_flush(m->cmd.stream);
        while (!cmd_stopped(&m->cmd) && poll(&ready, 1, WAIT_MS) <= 0)
            ;
    }
    ssize_t got = -1;
    do
        if (cmd_stopped(&m->cmd))
            return 0;
    while ((got = read(m->in, bytes, n)) < 0 && (errno == EINTR || errno == EAGAIN));
    return got;
}

static int find_path(struct meta *m, const struct sd_members_item *item, struct sd_err *err)
{
    if (m->resolve)
        return sd_metadata_find(item->name, m->image_dir, &m->name, err);
    return sd_metadata_join(item->name, m->image_dir, &m->name, err);
}

/* The record of one entry. On failure it still carries what it can. */
static int make_record(struct meta *m, const struct sd_members_item *item, struct sd_record *r,
                       struct sd_err *err)
{
    struct sd_err why = {0};
    bool nul = memchr(item->name, 0, item->name_len) != NULL;
    int seen = sd_seen_add(&m->seen, item->name, item->name_len, &why), bad = seen != 0;
    if (seen == 1)
        sd_err_set(&why, SD_ERR_DATA, "the metadata has an entry of this name already");
    if (!bad && nul)
        bad = sd_err_set(&why, SD_ERR_DATA, "a NUL character in the name of the entry");
    int lost =
        bad ? sd_metadata_join(nul ? "" : item->name, m->image_dir, &m->name, err) : find_path(m, item, &why);
    const char *path = nul ? item->name : m->name.data;
    size_t len = nul ? item->name_len : m->name.len;
    if (sd_metadata_to_record(&m->scratch, item->value, item->value_len, path, len, r, err))
        return -1;
    if (bad || lost)
        *err = why;
    return bad || lost ? -1 : 0;
}

static void from(struct meta *m)
{
    struct sd_members members;
    struct sd_members_item item;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    int got;
    sd_members_init(&members, read_input, m, 0);
    while ((got = sd_members_next(&members, &item, &err)) == 1 && !cmd_stopped(&m->cmd)) {
        struct sd_err why = {0};
        if (make_record(m, &item, &r, &why)) {
            if (why.code == SD_ERR_MACHINE)
                cmd_die(&m->cmd, &why);
            cmd_fail(&m->cmd, &r, &why);
        }
        cmd_put_next(&m->cmd, &r);
        m->entries++;
    }
    if (got < 0 && !cmd_stopped(&m->cmd)) {
        sd_err_prefix(&err, "%s", m->file);
        sd_stream_report(m->cmd.stream, err.msg);
        cmd_status(&m->cmd, err.code);
    }
    sd_record_free(&r);
    sd_members_free(&members);
}

static void open_input(struct meta *m, const char *file)
{
    struct sd_err err = {0};
    m->in = 0;
    m->file = file ? file : "standard input";
    if (!file)
        return;
    struct stat st;
    m->in = open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (m->in >= 0 && (fstat(m->in, &st) || !S_ISDIR(st.st_mode)))
        return;
    errno = m->in < 0 ? errno : EISDIR;
    sd_err_errno(&err, file);
    err.code = SD_ERR_USAGE;
    cmd_die(&m->cmd, &err);
}

/* ---- to: records to metadata ---- */

static int put(struct meta *m, const char *text, size_t len, uint64_t entries, struct sd_err *err)
{
    if (m->out)
        return sd_atomic_write(m->out, text, len, err);
    sd_stream_write(m->cmd.stream, text, len, entries);
    return 0;
}

/* The record's entry with its name, in m->text. */
static int make_entry(struct meta *m, struct sd_record *r, struct sd_err *err)
{
    const char *path;
    bool inexact = false;
    sd_buf_clear(&m->text);
    if (sd_record_need_string(r, "path", &path, err) ||
        sd_metadata_name(path, m->image_dir, m->relative, &m->name, err))
        return -1;
    if (sd_buf_adds(&m->text, m->entries ? ",\n" : "{\n") ||
        sd_scan_quote(&m->text, m->name.data, m->name.len) || sd_buf_adds(&m->text, ": "))
        return sd_err_memory(err, m->name.len);
    if (sd_metadata_from_record(&m->scratch, r, &m->text, &inexact, err))
        return -1;
    int seen = sd_seen_add(&m->seen, m->name.data, m->name.len, err);
    if (seen == 1)
        sd_err_set(err, SD_ERR_DATA, "there is an entry \"%.200s\" already", m->name.data);
    m->inexact += !seen && inexact;
    return seen ? -1 : 0;
}

/* 1 when all records were read, 0 when stopped or -1. */
static int write_entries(struct meta *m, struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    uint64_t ticket;
    int got, bad = 0;
    while (!bad && (got = sd_stream_next(m->cmd.stream, &r, &ticket, err)) == 1) {
        struct sd_err why = {0};
        if (sd_record_failed(&r)) {
            m->failed++;
        } else if (!make_entry(m, &r, &why)) {
            bad = put(m, m->text.data, m->text.len, 1, err);
            m->entries++;
        } else if (why.code == SD_ERR_MACHINE) {
            *err = why;
            bad = -1;
        } else {
            cmd_fail(&m->cmd, &r, &why);
        }
        cmd_drop(&m->cmd, ticket);
    }
    sd_record_free(&r);
    if (bad || got < 0)
        return -1;
    return !cmd_stopped(&m->cmd);
}

static void to(struct meta *m)
{
    struct sd_err err = {0};
    if (m->output && sd_atomic_open(&m->out, m->output, &err)) {
        err.code = err.code == SD_ERR_DATA ? SD_ERR_USAGE : err.code;
        cmd_die(&m->cmd, &err);
    }
    int done = write_entries(m, &err);
    const char *end = m->entries ? "\n}\n" : "{\n}\n";
    if (done == 1 && (put(m, end, strlen(end), 0, &err) || (m->out && sd_atomic_commit(&m->out, &err))))
        done = -1;
    sd_atomic_discard(&m->out);
    if (done < 0) {
        sd_stream_report(m->cmd.stream, err.msg);
        cmd_status(&m->cmd, err.code);
    }
    if (m->failed) {
        cmd_warn(&m->cmd, "%llu records that carry an error are left out", (unsigned long long)m->failed);
        cmd_status(&m->cmd, SD_ERR_DATA);
    }
    if (m->inexact)
        cmd_warn(&m->cmd,
                 "%llu entries will be read as other captions or tags: a part holds a comma or a line break, "
                 "or begins or ends with a blank",
                 (unsigned long long)m->inexact);
}

/* ---- the program ---- */

static void check_usage(const struct meta *m, int argc, char **argv, bool back)
{
    if (back && argc > 2)
        cmd_usage(&m->cmd, "\"%s\": to reads records from standard input", argv[2]);
    if (back && !m->resolve)
        cmd_usage(&m->cmd, "--no-resolve goes with from");
    if (!back && (m->relative || m->output))
        cmd_usage(&m->cmd, "--%s goes with to", m->relative ? "relative" : "output");
    if (m->image_dir && !*m->image_dir)
        cmd_usage(&m->cmd, "--image-dir: an empty name");
    if (argc == 2 && isatty(0))
        cmd_usage(&m->cmd, "%s on standard input, please", back ? "records" : "a file, or metadata");
}

int main(int argc, char **argv)
{
    struct meta m = {.resolve = true};
    const struct sd_option options[] = {
        {SD_OPT_STRING("image-dir", 0, &m.image_dir, "DIR", "the folder that names of entries are in"),
         .alias = "train-data-dir"},
        {SD_OPT_HEADING("from")},
        {SD_OPT_BOOL("resolve", 0, &m.resolve, "look for each picture; without, names are paths unseen")},
        {SD_OPT_HEADING("to")},
        {SD_OPT_STRING("output", 'o', &m.output, "FILE", "write to this file, not to standard output")},
        {SD_OPT_BOOL("relative", 0, &m.relative, "entries are named by the file's name without its ending")},
        SD_OPT_END,
    };
    m.cmd.program = (struct sd_program){
        .name = "sd-meta",
        .args = "from [FILE] | to",
        .summary = "Turn sd-scripts' metadata JSON into records, or records into such metadata",
        .options = options,
        .min_args = 1,
        .max_args = 2,
    };
    cmd_start(&m.cmd, &argc, argv);
    bool back = !strcmp(argv[1], "to");
    if (!back && strcmp(argv[1], "from"))
        cmd_usage(&m.cmd, "\"%s\" is neither from nor to", argv[1]);
    check_usage(&m, argc, argv, back);
    if (back) {
        to(&m);
    } else {
        open_input(&m, argc > 2 ? argv[2] : NULL);
        from(&m);
    }
    if (m.cmd.common.verbose)
        cmd_say(&m.cmd, "%llu entries", (unsigned long long)m.entries);
    sd_metadata_free(&m.scratch);
    sd_seen_free(&m.seen);
    sd_buf_free(&m.name);
    sd_buf_free(&m.text);
    return cmd_finish(&m.cmd);
}
