/* sd-dedup: pictures that are there more than once. */
#include "cmd.h"

#include "base/hash.h"
#include "base/ordered.h"
#include "data/near.h"
#include "image/phash.h"
#include "record/spool.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BATCH = 256, SUM_BYTES = 32 };

/* What is known of a record's picture, for as long as the program runs. */
struct entry {
    uint64_t hash, bytes, pixels;
    int64_t modified; /* ns */
    size_t path;      /* in paths */
    uint8_t colour[3];
    bool good, hashed, summed; /* takes part; has a perceptual hash; has a sum */
};

struct sum { /* a file's SHA-256 */
    uint8_t bytes[SUM_BYTES];
    uint32_t id;
};

struct failure { /* of a file that could be read once, but not again */
    struct sd_err err;
    uint32_t id;
};

struct slot { /* a record being looked at, or a file being summed */
    struct sd_record record;
    struct entry entry;
    const char *path; /* NULL: the record has none */
    struct sum sum;
    struct sd_err err;
};

struct dedup {
    struct sd_cmd cmd;
    bool exact, trust, remove, groups;
    int64_t distance, colour;
    const char *keep;

    struct slot slots[BATCH];
    struct sd_spool spool;
    struct sd_buf paths;
    struct entry *entries;
    struct sum *sums;
    struct failure *failures;
    uint32_t *same_size; /* files to be summed */
    size_t n, cap, n_sums, sums_cap, n_failures, failures_cap;

    struct sd_sets sets;
    uint32_t *keeper, *size; /* of the set of that name */
    struct sd_err fatal;     /* what threads met that ends the program */
};

/* The array with room for one more, or NULL. */
static void *grown(void *v, size_t n, size_t *cap, size_t item, struct sd_err *err)
{
    if (n < *cap)
        return v;
    size_t more = *cap ? 2 * *cap : 1024;
    void *p = more <= SIZE_MAX / item ? realloc(v, more * item) : NULL;
    if (!p)
        sd_err_memory(err, more <= SIZE_MAX / item ? more * item : SIZE_MAX);
    else
        *cap = more;
    return p;
}

static void *array(struct dedup *d, size_t n, size_t item)
{
    void *p = calloc(n + 1, item);
    if (!p) {
        struct sd_err err;
        sd_err_memory(&err, n * item);
        cmd_die(&d->cmd, &err);
    }
    return p;
}

static const char *path_of(const struct dedup *d, uint32_t id)
{
    return d->paths.data + d->entries[id].path;
}

/* ---- looking at each picture ---- */

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 64 hexadecimal digits and nothing else. */
static bool read_sum(const char *hex, struct sum *sum)
{
    for (int i = 0; i < SUM_BYTES; i++) {
        int high = digit(hex[2 * i]), low = high < 0 ? -1 : digit(hex[2 * i + 1]);
        if (low < 0)
            return false;
        sum->bytes[i] = (uint8_t)(high << 4 | low);
    }
    return !hex[2 * SUM_BYTES];
}

static int trusted_sum(struct slot *s, struct sd_err *err)
{
    const char *hex;
    int got = sd_record_string(&s->record, "sha256", &hex, NULL, err);
    if (got < 1)
        return got;
    if (!read_sum(hex, &s->sum))
        return sd_err_set(err, SD_ERR_DATA, "member \"sha256\": not 64 hexadecimal digits");
    s->entry.summed = true;
    return 0;
}

static int look_at(const struct dedup *d, struct slot *s, struct sd_err *err)
{
    struct entry *e = &s->entry;
    struct sd_image im;
    struct stat st;
    if (sd_record_need_string(&s->record, "path", &s->path, err))
        return -1;
    if (stat(s->path, &st))
        return sd_err_errno(err, "cannot open");
    if (!S_ISREG(st.st_mode))
        return sd_err_set(err, SD_ERR_DATA, "not a regular file");
    e->bytes = (uint64_t)st.st_size;
    e->modified = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    if (d->trust && trusted_sum(s, err))
        return -1;
    if (d->exact)
        return 0;
    if (sd_image_load(s->path, 3, 0, &im, err))
        return -1;
    e->pixels = (uint64_t)im.width * im.height;
    e->hashed = sd_phash(&im, &e->hash);
    sd_mean_colour(&im, e->colour);
    sd_image_free(&im);
    return 0;
}

static void look(void *ctx, int thread, size_t item)
{
    struct dedup *d = ctx;
    struct slot *s = &d->slots[item];
    (void)thread;
    s->entry = (struct entry){0};
    s->err = (struct sd_err){0};
    s->path = NULL;
    if (!sd_record_failed(&s->record) && !cmd_stopped(&d->cmd))
        s->entry.good = !look_at(d, s, &s->err);
}

static int add_sum(struct dedup *d, const struct sum *sum, uint32_t id, struct sd_err *err)
{
    struct sum *sums = grown(d->sums, d->n_sums, &d->sums_cap, sizeof *sums, err);
    if (!sums)
        return -1;
    d->sums = sums;
    d->sums[d->n_sums] = *sum;
    d->sums[d->n_sums++].id = id;
    return 0;
}

static int remember_entry(struct dedup *d, struct slot *s, struct sd_err *err)
{
    if (d->n >= UINT32_MAX - 1)
        return sd_err_set(err, SD_ERR_DATA, "more than %zu records", d->n);
    if (s->err.code)
        cmd_fail(&d->cmd, &s->record, &s->err);
    if (!d->groups && sd_spool_add(&d->spool, &s->record, err))
        return -1;
    s->entry.path = d->paths.len;
    if (s->entry.good && sd_buf_add(&d->paths, s->path, strlen(s->path) + 1))
        return sd_err_memory(err, d->paths.len);
    if (s->entry.good && s->entry.summed && add_sum(d, &s->sum, (uint32_t)d->n, err))
        return -1;
    struct entry *entries = grown(d->entries, d->n, &d->cap, sizeof *entries, err);
    if (!entries)
        return -1;
    d->entries = entries;
    d->entries[d->n++] = s->entry;
    return 0;
}

static void remember(void *ctx, size_t item)
{
    struct dedup *d = ctx;
    if (!d->fatal.code && !remember_entry(d, &d->slots[item], &d->fatal))
        cmd_progress(&d->cmd, d->n, NULL);
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

/* ---- copies ---- */

static void sum_file(void *ctx, int thread, size_t item)
{
    struct dedup *d = ctx;
    struct slot *s = &d->slots[item % BATCH];
    char hex[2 * SUM_BYTES + 1];
    (void)thread;
    s->err = (struct sd_err){0};
    if (cmd_stopped(&d->cmd))
        return;
    int fd = open(path_of(d, d->same_size[item]), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        sd_err_errno(&s->err, "cannot open");
        return;
    }
    if (!sd_sha256_fd(fd, hex, &s->err))
        read_sum(hex, &s->sum);
    close(fd);
}

static void remember_sum(void *ctx, size_t item)
{
    struct dedup *d = ctx;
    struct slot *s = &d->slots[item % BATCH];
    uint32_t id = d->same_size[item];
    if (cmd_stopped(&d->cmd) || d->fatal.code)
        return;
    if (!s->err.code) {
        add_sum(d, &s->sum, id, &d->fatal);
        return;
    }
    struct failure *failures =
        grown(d->failures, d->n_failures, &d->failures_cap, sizeof *failures, &d->fatal);
    if (!failures)
        return;
    d->failures = failures;
    d->failures[d->n_failures++] = (struct failure){s->err, id};
    d->entries[id].good = false;
}

struct size {
    uint64_t bytes;
    uint32_t id;
};

static int by_size(const void *pa, const void *pb)
{
    const struct size *a = pa, *b = pb;
    if (a->bytes != b->bytes)
        return a->bytes < b->bytes ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static int by_sum(const void *pa, const void *pb)
{
    const struct sum *a = pa, *b = pb;
    int order = memcmp(a->bytes, b->bytes, SUM_BYTES);
    return order ? order : (a->id > b->id) - (a->id < b->id);
}

static int by_id(const void *pa, const void *pb)
{
    const struct failure *a = pa, *b = pb;
    return (a->id > b->id) - (a->id < b->id);
}

/* Sums the files that have another's size and no sum yet. */
static void sum_files(struct dedup *d)
{
    struct size *sizes = array(d, d->n, sizeof *sizes);
    size_t n = 0, wanted = 0;
    for (size_t i = 0; i < d->n; i++)
        if (d->entries[i].good)
            sizes[n++] = (struct size){d->entries[i].bytes, (uint32_t)i};
    qsort(sizes, n, sizeof *sizes, by_size);
    d->same_size = array(d, n, sizeof *d->same_size);
    for (size_t i = 0; i < n; i++) {
        bool shared = (i && sizes[i - 1].bytes == sizes[i].bytes) ||
                      (i + 1 < n && sizes[i + 1].bytes == sizes[i].bytes);
        if (shared && !d->entries[sizes[i].id].summed)
            d->same_size[wanted++] = sizes[i].id;
    }
    free(sizes);
    run_slots(d, wanted, sum_file, remember_sum);
    free(d->same_size);
    if (d->n_failures)
        qsort(d->failures, d->n_failures, sizeof *d->failures, by_id);
}

static void join_copies(struct dedup *d)
{
    sum_files(d);
    if (d->n_sums)
        qsort(d->sums, d->n_sums, sizeof *d->sums, by_sum);
    for (size_t i = 1; i < d->n_sums; i++)
        if (!memcmp(d->sums[i - 1].bytes, d->sums[i].bytes, SUM_BYTES))
            sd_sets_join(&d->sets, d->sums[i - 1].id, d->sums[i].id);
    free(d->sums);
}

/* ---- pictures that look alike ---- */

static void join_near(void *ctx, const struct sd_near *a, const struct sd_near *b, unsigned distance)
{
    struct dedup *d = ctx;
    (void)distance;
    for (int shift = 0; shift < 24; shift += 8)
        if (llabs((long long)(a->mark >> shift & 255) - (long long)(b->mark >> shift & 255)) > d->colour)
            return;
    sd_sets_join(&d->sets, a->id, b->id);
}

static void join_alike(struct dedup *d)
{
    struct sd_near *items = array(d, d->n, sizeof *items);
    struct sd_err err = {0};
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++) {
        const struct entry *e = &d->entries[i];
        uint32_t colour = (uint32_t)e->colour[0] << 16 | (uint32_t)e->colour[1] << 8 | e->colour[2];
        if (e->good && e->hashed)
            items[n++] = (struct sd_near){e->hash, colour, (uint32_t)i};
    }
    if (sd_near_pairs(items, n, (unsigned)d->distance, join_near, d, &err))
        cmd_die(&d->cmd, &err);
    free(items);
}

/* ---- groups ---- */

/* Whether b is to be kept rather than a, which came before it. */
static bool better(const struct dedup *d, const struct entry *a, const struct entry *b)
{
    if (!strcmp(d->keep, "newest"))
        return b->modified > a->modified;
    if (!strcmp(d->keep, "oldest"))
        return b->modified < a->modified;
    if (!strcmp(d->keep, "first"))
        return false;
    return b->pixels != a->pixels ? b->pixels > a->pixels : b->bytes > a->bytes;
}

static void find_groups(struct dedup *d)
{
    struct sd_err err = {0};
    if (sd_sets_init(&d->sets, d->n, &err))
        cmd_die(&d->cmd, &err);
    join_copies(d);
    if (!d->exact)
        join_alike(d);
    d->keeper = array(d, d->n, sizeof *d->keeper);
    d->size = array(d, d->n, sizeof *d->size);
    unsigned long long groups = 0, duplicates = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t set = sd_sets_find(&d->sets, i);
        if (!d->size[set]++ || better(d, &d->entries[d->keeper[set]], &d->entries[i]))
            d->keeper[set] = i;
        groups += d->size[set] == 2;
        duplicates += d->size[set] > 1;
    }
    if (d->cmd.common.verbose)
        cmd_say(&d->cmd, "%llu duplicates in %llu groups among %zu records%s", duplicates, groups, d->n,
                d->remove ? "; removed" : "");
}

/* ---- output ---- */

/* Sets what is found out of the record, and takes away what an earlier run found. */
static int mark(struct dedup *d, struct sd_record *r, uint32_t id)
{
    uint32_t set = sd_sets_find(&d->sets, id), keeper = d->keeper[set];
    if (d->size[set] > 1 && keeper != id)
        return sd_record_remove(r, "duplicates") ||
               sd_record_set_string(r, "duplicate_of", path_of(d, keeper));
    if (sd_record_remove(r, "duplicate_of"))
        return -1;
    return d->size[set] > 1 ? sd_record_set_int(r, "duplicates", d->size[set] - 1)
                            : sd_record_remove(r, "duplicates");
}

static void write_records(struct dedup *d)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    const struct failure *failure = d->failures, *failures_end = failure ? failure + d->n_failures : NULL;
    if (sd_spool_rewind(&d->spool, &err))
        cmd_die(&d->cmd, &err);
    for (uint32_t i = 0; i < d->n && !cmd_stopped(&d->cmd); i++) {
        int got = sd_spool_next(&d->spool, &r, &err);
        if (!got)
            sd_err_set(&err, SD_ERR_MACHINE, "the temporary file has become shorter");
        if (got < 1)
            cmd_die(&d->cmd, &err);
        if (failure != failures_end && failure->id == i)
            cmd_fail(&d->cmd, &r, &failure++->err);
        else if (d->entries[i].good && mark(d, &r, i))
            cmd_die(&d->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
        if (!d->remove || d->keeper[sd_sets_find(&d->sets, i)] == i)
            cmd_put_next(&d->cmd, &r);
    }
    sd_record_free(&r);
}

static int write_group(struct dedup *d, uint32_t set, const uint32_t *next, struct sd_strings *names,
                       struct sd_record *r)
{
    uint32_t keeper = d->keeper[set], i = set;
    int farthest = 0;
    names->n = 0;
    for (uint32_t left = d->size[set]; left > 0; left--, i = next[i]) {
        const struct entry *a = &d->entries[keeper], *b = &d->entries[i];
        if (i == keeper)
            continue;
        int distance = a->hashed && b->hashed ? __builtin_popcountll(a->hash ^ b->hash) : 0;
        farthest = distance > farthest ? distance : farthest;
        if (sd_strings_add(names, path_of(d, i)))
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
    struct sd_record r = SD_RECORD_INIT;
    struct sd_strings names = {0};
    /* The members of each set, in order: its name is the first. */
    uint32_t *next = array(d, d->n, sizeof *next), *last = array(d, d->n, sizeof *last);
    for (uint32_t i = 0; i < d->n; i++) {
        uint32_t set = sd_sets_find(&d->sets, i);
        if (set != i)
            next[last[set]] = i;
        last[set] = i;
    }
    for (size_t i = 0; i < d->n_failures; i++) {
        sd_record_reset(&r);
        if (!sd_record_set_string(&r, "path", path_of(d, d->failures[i].id)))
            cmd_fail(&d->cmd, &r, &d->failures[i].err);
    }
    for (uint32_t i = 0; i < d->n && !cmd_stopped(&d->cmd); i++)
        if (d->size[i] > 1 && write_group(d, i, next, &names, &r))
            cmd_die(&d->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
    free(next);
    free(last);
    sd_strings_free(&names);
    sd_record_free(&r);
}

int main(int argc, char **argv)
{
    static struct dedup d = {.distance = 4, .colour = 16, .keep = "largest"};
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
    sd_sets_free(&d.sets);
    sd_buf_free(&d.paths);
    free(d.entries);
    free(d.failures);
    free(d.keeper);
    free(d.size);
    return cmd_finish(&d.cmd);
}
