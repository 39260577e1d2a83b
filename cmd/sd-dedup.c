/* sd-dedup: pictures that are there more than once. */
#include "cmd.h"

#include "base/arena.h"
#include "base/hash.h"
#include "base/ordered.h"
#include "data/duplicates.h"
#include "data/picture.h"
#include "image/phash.h"
#include "record/spool.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 256, HASH_SIDE = 256 /* pixels a side suffice for 32 cells */ };

struct failure { /* of a file that could be looked at once, but not again */
    struct sd_err err;
    uint32_t id;
};

struct slot { /* a record being looked at, or a file being summed */
    struct sd_record record;
    struct sd_dup_picture picture;
    struct sd_dup_sum sum;
    const char *path; /* borrowed from the record */
    struct sd_err err;
};

struct dedup {
    struct sd_cmd cmd;
    bool exact, trust, remove, groups;
    int64_t distance, colour;
    const char *keep;

    struct slot slots[BATCH];
    struct sd_archives archives;
    struct sd_spool spool;
    struct sd_duplicates found;
    uint32_t *unsummed;
    struct failure *failures;
    size_t n_failures;
    struct sd_buf path;  /* for output */
    struct sd_err fatal; /* what threads met that ends the program */
};

static _Noreturn void die_of_memory(struct dedup *d)
{
    cmd_die(&d->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
}

static void run_slots(struct dedup *d, size_t n, void (*work)(void *, int, size_t),
                      void (*finish)(void *, size_t))
{
    struct sd_err err = {0};
    const struct sd_ordered run = {
        .n = n, .window = BATCH, .jobs = d->cmd.common.jobs, .work = work, .finish = finish, .ctx = d};
    if (sd_ordered_run(&run, &err))
        cmd_die(&d->cmd, &err);
    if (d->fatal.code)
        cmd_die(&d->cmd, &d->fatal);
}

/* ---- looking at each picture ---- */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* SHA-256 in 64 hexadecimal digits and nothing else. */
static bool read_sum(const char *hex, struct sd_dup_sum *sum)
{
    for (int i = 0; i < SD_SHA256_BYTES; i++) {
        int high = digit(hex[2 * i]), low = high < 0 ? -1 : digit(hex[2 * i + 1]);
        if (low < 0)
            return false;
        if (i < SD_SUM_BYTES)
            sum->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return !hex[2 * SD_SHA256_BYTES];
}

static int trusted_sum(struct slot *s, struct sd_err *err)
{
    const char *hex;
    int got = sd_record_string(&s->record, "sha256", &hex, NULL, err);
    if (got < 1)
        return got;
    if (!read_sum(hex, &s->sum))
        return sd_err_set(err, SD_ERR_DATA, "member \"sha256\": not 64 hexadecimal digits");
    s->picture.summed = true;
    return 0;
}

static int look_at(struct dedup *d, struct slot *s, struct sd_err *err)
{
    struct sd_dup_picture *p = &s->picture;
    struct sd_image im;
    uint32_t full[2];
    struct sd_picture_stat st;
    if (sd_record_need_string(&s->record, "path", &s->path, err) ||
        sd_picture_stat(&d->archives, s->path, &st, err))
        return -1;
    p->bytes = st.bytes;
    p->modified = (int64_t)st.modified.tv_sec * 1000000000 + st.modified.tv_nsec;
    if (d->trust && trusted_sum(s, err))
        return -1;
    if (d->exact)
        return 0;
    if (sd_picture_load_small(&d->archives, s->path, 3, HASH_SIDE, HASH_SIDE, full, &im, err))
        return -1;
    p->pixels = (uint64_t)full[0] * full[1];
    p->hashed = sd_phash(&im, &p->hash);
    sd_mean_colour(&im, p->colour);
    sd_image_free(&im);
    return 0;
}

static void look(void *ctx, int thread, size_t item)
{
    struct dedup *d = ctx;
    struct slot *s = &d->slots[item];
    (void)thread;
    s->picture = (struct sd_dup_picture){0};
    s->err = (struct sd_err){0};
    if (!sd_record_failed(&s->record) && !cmd_stopped(&d->cmd))
        s->picture.good = !look_at(d, s, &s->err);
}

static void remember(void *ctx, size_t item)
{
    struct dedup *d = ctx;
    struct slot *s = &d->slots[item];
    if (d->fatal.code)
        return;
    if (s->err.code)
        cmd_fail(&d->cmd, &s->record, &s->err);
    if (d->groups || !sd_spool_add(&d->spool, &s->record, &d->fatal))
        sd_duplicates_add(&d->found, &s->picture, s->path, &s->sum, &d->fatal);
    cmd_progress(&d->cmd, d->found.n, NULL);
}

static void look_at_all(struct dedup *d)
{
    uint64_t ticket;
    size_t n;
    do {
        for (n = 0; n < BATCH && cmd_next(&d->cmd, &d->slots[n].record, &ticket); n++)
            cmd_drop(&d->cmd, ticket); /* it is written again from the spool */
        run_slots(d, n, look, remember);
    } while (n == BATCH);
    for (n = 0; n < BATCH; n++)
        sd_record_free(&d->slots[n].record);
}

/* ---- groups ---- */

static void sum_file(void *ctx, int thread, size_t item)
{
    struct dedup *d = ctx;
    struct slot *s = &d->slots[item % BATCH];
    char hex[2 * SD_SHA256_BYTES + 1];
    struct sd_buf path = SD_BUF_INIT;
    (void)thread;
    s->err = (struct sd_err){0};
    if (cmd_stopped(&d->cmd))
        return;
    if (!sd_duplicates_path(&d->found, d->unsummed[item], &path, &s->err) &&
        !sd_picture_sha256(&d->archives, path.data, hex, &s->err))
        read_sum(hex, &s->sum);
    sd_buf_free(&path);
}

static void remember_sum(void *ctx, size_t item)
{
    struct dedup *d = ctx;
    struct slot *s = &d->slots[item % BATCH];
    uint32_t id = d->unsummed[item];
    if (cmd_stopped(&d->cmd) || d->fatal.code)
        return;
    if (!s->err.code) {
        sd_duplicates_add_sum(&d->found, id, &s->sum, &d->fatal);
        return;
    }
    struct failure *more = realloc(d->failures, (d->n_failures + 1) * sizeof *more);
    if (!more) {
        sd_err_memory(&d->fatal, sizeof *more);
        return;
    }
    d->failures = more;
    d->failures[d->n_failures++] = (struct failure){s->err, id};
    d->found.good[id] = false;
}

static int by_id(const void *pa, const void *pb)
{
    const struct failure *a = pa, *b = pb;
    return (a->id > b->id) - (a->id < b->id);
}

static enum sd_keep keep_rule(const char *word)
{
    switch (*word) {
    case 'f':
        return SD_KEEP_FIRST;
    case 'n':
        return SD_KEEP_NEWEST;
    case 'o':
        return SD_KEEP_OLDEST;
    default:
        return SD_KEEP_LARGEST;
    }
}

static void find_groups(struct dedup *d)
{
    const struct sd_dup_rules rules = {.alike = !d->exact,
                                       .distance = (unsigned)d->distance,
                                       .colour = (unsigned)d->colour,
                                       .keep = keep_rule(d->keep)};
    struct sd_err err = {0};
    size_t n;
    if (sd_duplicates_unsummed(&d->found, &d->unsummed, &n, &err))
        cmd_die(&d->cmd, &err);
    run_slots(d, n, sum_file, remember_sum);
    free(d->unsummed);
    if (d->n_failures)
        qsort(d->failures, d->n_failures, sizeof *d->failures, by_id);
    if (cmd_stopped(&d->cmd))
        return;
    if (sd_duplicates_group(&d->found, &rules, &err))
        cmd_die(&d->cmd, &err);
    if (d->cmd.common.verbose)
        cmd_say(&d->cmd, "%zu duplicates in %zu groups among %zu records%s", d->found.redundant,
                d->found.groups, d->found.n, d->remove ? "; removed" : "");
}

/* ---- output ---- */

/* The path of a picture, until the next call. */
static const char *path_of(struct dedup *d, uint32_t id)
{
    struct sd_err err = {0};
    if (sd_duplicates_path(&d->found, id, &d->path, &err))
        cmd_die(&d->cmd, &err);
    return d->path.data;
}

/* Puts what is found into the record, and takes away what an earlier run found. */
static int mark(struct dedup *d, struct sd_record *r, uint32_t id)
{
    struct sd_duplicates *f = &d->found;
    uint32_t set = sd_sets_find(&f->sets, id), keeper = f->keeper[set];
    if (f->size[set] > 1 && keeper != id)
        return sd_record_remove(r, "duplicates") ||
               sd_record_set_string(r, "duplicate_of", path_of(d, keeper));
    if (sd_record_remove(r, "duplicate_of"))
        return -1;
    return f->size[set] > 1 ? sd_record_set_int(r, "duplicates", f->size[set] - 1)
                            : sd_record_remove(r, "duplicates");
}

static void write_records(struct dedup *d)
{
    struct sd_duplicates *f = &d->found;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    size_t failed = 0;
    if (sd_spool_rewind(&d->spool, &err))
        cmd_die(&d->cmd, &err);
    for (uint32_t i = 0; i < f->n && !cmd_stopped(&d->cmd); i++) {
        int got = sd_spool_next(&d->spool, &r, &err);
        if (!got)
            sd_err_set(&err, SD_ERR_MACHINE, "the temporary file has become shorter");
        if (got < 1)
            cmd_die(&d->cmd, &err);
        if (failed < d->n_failures && d->failures[failed].id == i)
            cmd_fail(&d->cmd, &r, &d->failures[failed++].err);
        else if (f->good[i] && mark(d, &r, i))
            die_of_memory(d);
        if (!d->remove || f->keeper[sd_sets_find(&f->sets, i)] == i)
            cmd_put_next(&d->cmd, &r);
    }
    sd_record_free(&r);
}

/* next: the picture of the same group that follows each. */
static int write_group(struct dedup *d, uint32_t set, const uint32_t *next, struct sd_strings *names,
                       struct sd_arena *texts, struct sd_record *r)
{
    struct sd_duplicates *f = &d->found;
    uint32_t keeper = f->keeper[set], i = set;
    unsigned farthest = 0, distance;
    struct sd_err err = {0};
    names->n = 0;
    sd_arena_reset(texts);
    for (uint32_t left = f->size[set]; left > 0; left--, i = next[i]) {
        if (sd_duplicates_distance(f, keeper, i, &distance, &err))
            cmd_die(&d->cmd, &err);
        farthest = distance > farthest ? distance : farthest;
        char *path = i == keeper ? NULL : sd_arena_strdup(texts, path_of(d, i));
        if (i != keeper && (!path || sd_strings_add(names, path)))
            return -1;
    }
    sd_record_reset(r);
    if (sd_record_set_string(r, "keep", path_of(d, keeper)) ||
        sd_record_set_strings(r, "duplicates", names->v, names->n) ||
        sd_record_set_int(r, "distance", farthest))
        return -1;
    cmd_put_next(&d->cmd, r);
    return 0;
}

static void write_groups(struct dedup *d)
{
    struct sd_duplicates *f = &d->found;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_strings names = {0};
    struct sd_arena texts = SD_ARENA_INIT;
    uint32_t *next = calloc(f->n + 1, sizeof *next), *last = calloc(f->n + 1, sizeof *last);
    if (!next || !last)
        die_of_memory(d);
    for (uint32_t i = 0; i < f->n; i++) {
        uint32_t set = sd_sets_find(&f->sets, i);
        if (set != i)
            next[last[set]] = i;
        last[set] = i;
    }
    for (size_t i = 0; i < d->n_failures; i++) {
        sd_record_reset(&r);
        if (sd_record_set_string(&r, "path", path_of(d, d->failures[i].id)))
            die_of_memory(d);
        cmd_fail(&d->cmd, &r, &d->failures[i].err);
    }
    for (uint32_t i = 0; i < f->n && !cmd_stopped(&d->cmd); i++)
        if (f->size[i] > 1 && write_group(d, i, next, &names, &texts, &r))
            die_of_memory(d);
    free(next);
    free(last);
    sd_strings_free(&names);
    sd_arena_free(&texts);
    sd_record_free(&r);
}

int main(int argc, char **argv)
{
    static struct dedup d; /* zero, then set: a file need not hold its tables */
    bool distance_given = false, colour_given = false;
    struct sd_err err = {0};
    const struct sd_option options[] = {
        {SD_OPT_INT("distance", 'd', &d.distance, "N", "bits two perceptual hashes may differ in"),
         .max = SD_NEAR_MAX_DISTANCE, .given = &distance_given},
        {SD_OPT_INT("colour", 0, &d.colour, "N",
                    "levels of 255 two mean colours may differ in, each channel"),
         .alias = "color", .max = 255, .given = &colour_given},
        {SD_OPT_BOOL("exact", 'e', &d.exact, "find only copies of the same bytes; decode nothing")},
        {SD_OPT_CHOICE("keep", 'k', &d.keep, "largest|first|newest|oldest",
                       "which picture of a group to keep")},
        {SD_OPT_BOOL("remove", 'r', &d.remove, "leave the records of duplicates out")},
        {SD_OPT_BOOL("groups", 'g', &d.groups, "write a line for each group instead of the records")},
        {SD_OPT_BOOL("trust", 0, &d.trust, "believe the member sha256 instead of reading the file for it")},
        SD_OPT_END,
    };
    d.cmd.program = (struct sd_program){
        .name = "sd-dedup",
        .summary = "Find pictures that are there more than once, or look alike",
        .options = options,
    };
    d.cmd.own_progress = true;
    d.distance = 4;
    d.colour = 16;
    d.keep = "largest";
    cmd_start(&d.cmd, &argc, argv);
    if (d.exact && (distance_given || colour_given))
        cmd_usage(&d.cmd, "--%s has no meaning with --exact", distance_given ? "distance" : "colour");
    if (d.remove && d.groups)
        cmd_usage(&d.cmd, "--remove and --groups exclude each other");
    if (!d.groups && sd_spool_open(&d.spool, &err))
        cmd_die(&d.cmd, &err);
    look_at_all(&d);
    if (!cmd_stopped(&d.cmd))
        find_groups(&d);
    if (!cmd_stopped(&d.cmd))
        d.groups ? write_groups(&d) : write_records(&d);
    sd_spool_free(&d.spool);
    sd_archives_free(&d.archives);
    sd_duplicates_free(&d.found);
    sd_buf_free(&d.path);
    free(d.failures);
    return cmd_finish(&d.cmd);
}
