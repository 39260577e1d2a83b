/* sd-pack: the pictures of records, and their texts, go into tar or zip archives. */
#include "cmd.h"

#include "base/path.h"
#include "data/pack.h"
#include "data/picture.h"
#include "image/list.h" /* sd_image_has_extension */
#include "record/spool.h"
#include "store/archive_write.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_WITH = 16 };

struct with { /* a file of each sample: its ending, and the record's members it is made of */
    char *ending;
    const char *members;
    struct sd_buf name, text;
    bool there;
};

struct pack {
    struct sd_cmd cmd;
    const char *out, *image_dir;
    struct sd_strings with_options;
    int64_t max_count, max_size, first;
    bool limits_given;

    const char *pattern; /* the "%06d" of out, or NULL */
    int digits;
    struct with with[MAX_WITH];
    size_t n_with;

    struct sd_archives archives;
    struct sd_seen seen;
    struct sd_pack_name name;
    struct sd_buf member, path; /* of the picture; of the archive being written */
    struct sd_archive_writer *writer;
    struct sd_spool spool; /* its records, until it is there */
    int64_t count;         /* of pictures in it */
    uint64_t pictures, shards, changed;
};

static _Noreturn void give_up(struct pack *p, const struct sd_err *err)
{
    sd_archive_writer_discard(&p->writer);
    cmd_die(&p->cmd, err);
}

/* ---- archives ---- */

static void name_shard(struct pack *p, uint64_t number)
{
    int bad;
    sd_buf_clear(&p->path);
    if (p->pattern)
        bad = sd_buf_add(&p->path, p->out, (size_t)(p->pattern - p->out)) ||
              sd_buf_addf(&p->path, "%0*llu", p->digits, (unsigned long long)number) ||
              sd_buf_adds(&p->path, strchr(p->pattern, 'd') + 1);
    else
        bad = sd_buf_adds(&p->path, p->out);
    if (bad)
        give_up(p, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
}

static void open_shard(struct pack *p)
{
    struct sd_err err = {0};
    name_shard(p, (uint64_t)p->first + p->shards);
    if (sd_archive_writer_open(&p->writer, p->path.data, &err))
        give_up(p, &err);
    p->count = 0;
}

/* The records that wait go out: their archive is there. */
static void write_records(struct pack *p)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    int got = sd_spool_rewind(&p->spool, &err);
    while (!got && (got = sd_spool_next(&p->spool, &r, &err)) == 1) {
        cmd_put_next(&p->cmd, &r);
        got = 0;
    }
    sd_record_free(&r);
    sd_spool_free(&p->spool);
    if (got < 0 || sd_spool_open(&p->spool, &err))
        give_up(p, &err);
}

static void close_shard(struct pack *p)
{
    struct sd_err err = {0};
    if (p->writer && sd_archive_writer_commit(&p->writer, &err))
        give_up(p, &err);
    p->shards++;
    write_records(p);
}

/* ---- one record ---- */

/* Where a record tells the file's size, the file must still have it. */
static int check_picture(const struct sd_record *r, const struct sd_picture_bytes *b,
                         struct sd_image_info *info, struct sd_err *err)
{
    int64_t bytes;
    int got = sd_record_int(r, "bytes", &bytes, err);
    if (got < 0)
        return -1;
    if (got && (bytes < 0 || (uint64_t)bytes != b->len))
        return sd_err_set(err, SD_ERR_DATA, "it has changed: %zu bytes, but the record says %lld", b->len,
                          (long long)bytes);
    return sd_image_probe_memory(b->bytes, b->len, info, err);
}

static int name_picture(struct pack *p, const char *path, const struct sd_image_info *info,
                        struct sd_err *err)
{
    if (sd_pack_name(&p->name, path, p->image_dir, &p->seen, err))
        return -1;
    sd_buf_clear(&p->member);
    int bad = sd_buf_add(&p->member, p->name.key.data, p->name.key.len) ||
              (*p->name.ending ? sd_buf_adds(&p->member, p->name.ending)
                               : sd_buf_addf(&p->member, ".%s", sd_image_format_name(info->format)));
    return bad ? sd_err_memory(err, p->member.len) : 0;
}

/* The texts of the record; *size gains what they take. */
static int make_texts(struct pack *p, struct sd_record *r, uint64_t *size, struct sd_err *err)
{
    for (size_t i = 0; i < p->n_with; i++) {
        struct with *w = &p->with[i];
        sd_buf_clear(&w->name);
        sd_buf_clear(&w->text);
        int got = sd_pack_text(r, w->members, &w->text, err);
        if (got < 0)
            return -1;
        w->there = got;
        if (sd_buf_add(&w->name, p->name.key.data, p->name.key.len) || sd_buf_adds(&w->name, w->ending))
            return sd_err_memory(err, w->text.len);
        *size += got ? sd_archive_writer_more(w->name.data, w->text.len) : 0;
    }
    return 0;
}

static void write_sample(struct pack *p, const struct sd_picture_bytes *b, uint64_t size)
{
    struct sd_err err = {0};
    uint64_t limit = (uint64_t)p->max_size * 1000000;
    bool full = p->writer && (p->count >= p->max_count || sd_archive_writer_size(p->writer) + size > limit);
    if (p->pattern && full)
        close_shard(p);
    if (!p->writer)
        open_shard(p);
    int bad = sd_archive_writer_add(p->writer, p->member.data, b->bytes, b->len, &err);
    for (size_t i = 0; i < p->n_with && !bad; i++) {
        const struct with *w = &p->with[i];
        if (w->there)
            bad = sd_archive_writer_add(p->writer, w->name.data, w->text.data ? w->text.data : "",
                                        w->text.len, &err);
    }
    if (bad)
        give_up(p, &err);
    p->count++;
    p->pictures++;
    p->changed += p->name.changed;
}

static int pack(struct pack *p, struct sd_record *r, struct sd_err *err)
{
    struct sd_picture_bytes b;
    struct sd_image_info info;
    const char *path;
    if (sd_record_need_string(r, "path", &path, err) || sd_picture_read(&p->archives, path, &b, err))
        return -1;
    int bad = check_picture(r, &b, &info, err) || name_picture(p, path, &info, err);
    uint64_t size = bad ? 0 : sd_archive_writer_more(p->member.data, b.len);
    bad = bad || make_texts(p, r, &size, err);
    if (!bad) {
        write_sample(p, &b, size);
        sd_buf_clear(&p->name.key);
        if (sd_buf_addf(&p->name.key, "%s!/%s", p->path.data, p->member.data) ||
            sd_record_set_string(r, "path", p->name.key.data))
            bad = sd_err_memory(err, p->path.len);
    }
    sd_picture_done(&b);
    return bad ? -1 : 0;
}

static void pack_all(struct pack *p)
{
    struct sd_record r = SD_RECORD_INIT;
    uint64_t ticket;
    while (cmd_next(&p->cmd, &r, &ticket)) {
        struct sd_err err = {0};
        cmd_drop(&p->cmd, ticket); /* it comes from the spool, when its archive is there */
        if (!sd_record_failed(&r) && pack(p, &r, &err))
            cmd_fail(&p->cmd, &r, &err);
        if (sd_spool_add(&p->spool, &r, &err))
            give_up(p, &err);
        cmd_progress(&p->cmd, p->pictures, NULL);
    }
    sd_record_free(&r);
}

/* ---- options ---- */

/* One %d or %06d, or nothing of that kind. */
static void read_pattern(struct pack *p)
{
    const char *percent = strchr(p->out, '%'), *at = percent;
    if (!sd_archive_writer_takes(p->out))
        cmd_usage(&p->cmd, "-o %s: the name must end in .tar or .zip", p->out);
    if (!percent) {
        if (p->limits_given)
            cmd_usage(&p->cmd,
                      "--max-count, --max-size and --first need a number in the name: -o x-%%06d.tar");
        p->max_count = INT64_MAX;
        return;
    }
    at += 1 + (at[1] == '0');
    if (isdigit((unsigned char)*at))
        p->digits = *at++ - '0';
    if (*at != 'd' || strchr(at, '%'))
        cmd_usage(&p->cmd, "-o %s: expected one number like %%06d", p->out);
    p->pattern = percent;
}

static void add_with(struct pack *p, const char *option)
{
    const char *equals = strchr(option, '=');
    if (!*option)
        return;
    while (*option == '.')
        option++;
    size_t n = equals > option ? (size_t)(equals - option) : 0;
    if (!n || !equals[1] || memchr(option, '/', n))
        cmd_usage(&p->cmd, "--with %s: expected ENDING=MEMBER", option);
    if (p->n_with == MAX_WITH)
        cmd_usage(&p->cmd, "--with: at most %d files", MAX_WITH);
    struct with *w = &p->with[p->n_with++];
    struct sd_buf ending = SD_BUF_INIT;
    if (sd_buf_addc(&ending, '.') || sd_buf_add(&ending, option, n))
        give_up(p, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    *w = (struct with){.ending = ending.data, .members = equals + 1};
    if (sd_image_has_extension(w->ending))
        cmd_usage(&p->cmd, "--with %s: the ending of a picture", option);
    for (size_t i = 0; i + 1 < p->n_with; i++)
        if (!strcmp(p->with[i].ending, w->ending))
            cmd_usage(&p->cmd, "--with %s: there are two", w->ending);
}

static void prepare(struct pack *p)
{
    struct sd_err err = {0};
    if (!p->out)
        cmd_usage(&p->cmd, "no archive: -o FILE");
    read_pattern(p);
    for (size_t i = 0; i < p->with_options.n; i++)
        add_with(p, p->with_options.v[i]);
    if (!p->with_options.n) {
        add_with(p, "json=record");
        add_with(p, "txt=caption,tags");
    }
    const char *base = sd_path_base(p->out);
    if (base > p->out + 1) {
        struct sd_buf folder = SD_BUF_INIT;
        if (p->pattern && p->pattern < base)
            cmd_usage(&p->cmd, "-o %s: the number must be in the file's name", p->out);
        if (sd_buf_add(&folder, p->out, (size_t)(base - p->out) - 1))
            give_up(p, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
        cmd_folder(&p->cmd, folder.data);
        sd_buf_free(&folder);
    }
    if (sd_spool_open(&p->spool, &err))
        cmd_die(&p->cmd, &err);
}

static void finish(struct pack *p)
{
    if (cmd_stopped(&p->cmd)) {
        sd_archive_writer_discard(&p->writer);
    } else {
        if (!p->writer && !p->pattern)
            open_shard(p); /* a name that was asked for is there, even if with nothing in it */
        if (p->writer)
            close_shard(p);
        else
            write_records(p);
        name_shard(p, (uint64_t)p->first + p->shards);
        if (p->pattern && !access(p->path.data, F_OK))
            cmd_warn(&p->cmd, "%s is there from before", p->path.data);
        cmd_say(&p->cmd, "%llu pictures in %llu archives", (unsigned long long)p->pictures,
                (unsigned long long)p->shards);
        if (p->changed)
            cmd_say(&p->cmd, "%llu names changed: a dot became _, or a name that came again got a number",
                    (unsigned long long)p->changed);
    }
    for (size_t i = 0; i < p->n_with; i++) {
        free(p->with[i].ending);
        sd_buf_free(&p->with[i].name);
        sd_buf_free(&p->with[i].text);
    }
    sd_strings_free(&p->with_options);
    sd_spool_free(&p->spool);
    sd_seen_free(&p->seen);
    sd_archives_free(&p->archives);
    sd_buf_free(&p->name.key);
    sd_buf_free(&p->member);
    sd_buf_free(&p->path);
}

int main(int argc, char **argv)
{
    static struct pack p = {.max_count = 100000, .max_size = 3000};
    const struct sd_option options[] = {
        {SD_OPT_STRING("output", 'o', &p.out, "FILE", "the archive, or with a number like %06d in it many")},
        {SD_OPT_INT("max-count", 0, &p.max_count, "N", "pictures in one archive, at most"), .min = 1,
         .max = 1e9, .given = &p.limits_given},
        {SD_OPT_INT("max-size", 0, &p.max_size, "MB", "millions of bytes of one archive, at most"), .min = 1,
         .max = 1e9, .given = &p.limits_given},
        {SD_OPT_INT("first", 0, &p.first, "N", "number of the first archive"), .min = 0, .max = 1e9,
         .given = &p.limits_given},
        {SD_OPT_LIST("with", 'w', &p.with_options, "ENDING=MEMBER[,MEMBER]...",
                     "a file beside each picture, of the first member there is, or of the whole record; "
                     "instead of json=record and txt=caption,tags")},
        {SD_OPT_STRING("image-dir", 0, &p.image_dir, "DIR",
                       "name pictures by what follows this folder in their path")},
        SD_OPT_END,
    };
    p.cmd.program = (struct sd_program){
        .name = "sd-pack",
        .summary = "Pack pictures and their records into tar or zip archives",
        .options = options,
    };
    p.cmd.own_progress = true;
    cmd_start(&p.cmd, &argc, argv);
    prepare(&p);
    pack_all(&p);
    finish(&p);
    return cmd_finish(&p.cmd);
}
