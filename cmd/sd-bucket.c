/* sd-bucket: records with width and height in, the same with bucket, resize and crop out; regularisation
 * pictures balanced. */
#include "cmd.h"

#include "data/bucket_report.h"

#include <stdlib.h>
#include <string.h>

struct worker {
    struct sd_bucket_last last;
    struct sd_bucket_counts counts;
    struct sd_balance balance;
};

struct bucket {
    struct sd_cmd cmd;
    struct sd_bucket_settings settings; /* the command line's */
    bool balance, histogram, dry_run, json;
    struct sd_bucket_datasets *sets;
    struct worker *workers;
    struct sd_spool held; /* from the first regularisation picture on */
    struct sd_buf text;
};

static _Noreturn void die_of_memory(struct bucket *b)
{
    cmd_die(&b->cmd, &(struct sd_err){SD_ERR_MACHINE, "out of memory"});
}

/* ---- each picture ---- */

struct picture {
    struct sd_size size;
    int64_t repeats;
    bool reg;
    const struct sd_bucket_dataset *set;
    struct sd_bucket_choice choice;
};

static int read_picture(struct bucket *b, struct worker *w, const struct sd_record *r, struct picture *p,
                        struct sd_err *err)
{
    *p = (struct picture){.repeats = 1};
    if (sd_record_need_int(r, "width", &p->size.w, err) || sd_record_need_int(r, "height", &p->size.h, err) ||
        sd_record_int(r, "repeats", &p->repeats, err) < 0 || sd_record_bool(r, "reg", &p->reg, err) < 0)
        return -1;
    if (p->repeats < 1)
        return sd_err_set(err, SD_ERR_DATA, "repeats is %lld, less than 1", (long long)p->repeats);
    if (!(p->set = sd_bucket_dataset_of(b->sets, &w->last, r, err)))
        return -1;
    return sd_bucket_choose(&p->set->variants[0].buckets, p->size, &p->choice, err);
}

/* A regularisation picture is counted when its repeats are known. */
static int choose(void *ctx, int worker, struct sd_record *r, struct sd_err *err)
{
    struct bucket *b = ctx;
    struct worker *w = &b->workers[worker];
    struct picture p;
    if (read_picture(b, w, r, &p, err))
        return -1;
    const struct sd_bucket_choice *c = &p.choice;
    bool hold = b->balance && p.reg;
    if ((!b->dry_run && (sd_record_set_ints(r, "bucket", (int64_t[]){c->bucket.w, c->bucket.h}, 2) ||
                         sd_record_set_ints(r, "resize", (int64_t[]){c->resize.w, c->resize.h}, 2) ||
                         sd_record_set_ints(r, "crop", (int64_t[]){c->crop_x, c->crop_y}, 2))) ||
        (!hold && sd_bucket_counts_add(&w->counts, p.set, p.size, p.repeats, c)) ||
        sd_balance_count(&w->balance, p.set->settings.index, p.reg, p.repeats))
        return sd_err_memory(err, 64);
    if (hold)
        return SD_RECORD_HOLD;
    return b->dry_run ? SD_RECORD_DROP : SD_RECORD_KEEP;
}

/* Brings together in the first worker what all of them counted. */
static void merge_workers(struct bucket *b)
{
    struct worker *to = &b->workers[0];
    for (int i = 1; i < b->cmd.common.jobs; i++) {
        struct worker *w = &b->workers[i];
        if (sd_bucket_counts_merge(&to->counts, &w->counts) || sd_balance_merge(&to->balance, &w->balance))
            die_of_memory(b);
    }
}

/* ---- what was held ---- */

/* Sets the repeats of a regularisation picture; false when it is not used. */
static bool balance(struct bucket *b, struct sd_record *r)
{
    struct worker *w = &b->workers[0];
    struct picture p;
    struct sd_err err = {0};
    if (read_picture(b, w, r, &p, &err))
        cmd_die(&b->cmd, &err); /* it went well before */
    int64_t own = p.repeats;
    p.repeats = sd_balance_next(&w->balance, p.set->settings.index, own);
    if (!p.repeats)
        return false;
    if ((p.repeats != own && sd_record_set_int(r, "repeats", p.repeats)) ||
        sd_bucket_counts_add(&w->counts, p.set, p.size, p.repeats, &p.choice))
        die_of_memory(b);
    return true;
}

static void tell_unused(struct bucket *b, struct sd_record *r)
{
    const char *path;
    if (b->cmd.common.verbose && sd_record_string(r, "path", &path, NULL, NULL) == 1)
        cmd_say(&b->cmd, "%s: not used: there are enough regularisation pictures", path);
}

static void release_held(struct bucket *b)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    int got = 0;
    if (!b->held.file)
        return;
    if (sd_spool_rewind(&b->held, &err))
        cmd_die(&b->cmd, &err);
    while (!cmd_stopped(&b->cmd) && (got = sd_spool_next(&b->held, &r, &err)) == 1) {
        bool reg = false,
             weigh = b->balance && !sd_record_failed(&r) && sd_record_bool(&r, "reg", &reg, NULL) == 1 && reg;
        if (weigh && !balance(b, &r))
            tell_unused(b, &r);
        else if (!b->dry_run)
            cmd_put_next(&b->cmd, &r);
    }
    if (got < 0)
        cmd_die(&b->cmd, &err);
    sd_record_free(&r);
}

/* ---- at the end ---- */

/* Each line of the text as a message. */
static void say_lines(struct bucket *b)
{
    for (char *line = b->text.data, *end; line && (end = strchr(line, '\n')); line = end + 1)
        cmd_warn(&b->cmd, "%.*s", (int)(end - line), line);
    sd_buf_clear(&b->text);
}

/* The lines sd-scripts prints when it makes its buckets. */
static void say_buckets(struct bucket *b, const struct sd_bucket_dataset *set,
                        const struct sd_bucket_table *t)
{
    const struct sd_bucket_config *asked = &set->settings.config, *got = &set->variants[0].buckets.config;
    if (set->settings.index >= 0)
        cmd_say(&b->cmd, "[Dataset %lld]", (long long)set->settings.index);
    if (got->min_reso != asked->min_reso || got->max_reso != asked->max_reso)
        cmd_say(&b->cmd, "bucket sides are rounded to whole steps: %lld to %lld", (long long)got->min_reso,
                (long long)got->max_reso);
    cmd_say(&b->cmd, "number of images (including repeats)");
    for (size_t i = 0; i < t->n; i++)
        cmd_say(&b->cmd, "bucket %zu: resolution (%lld, %lld), count: %llu", i,
                (long long)t->rows[i].bucket.w, (long long)t->rows[i].bucket.h,
                (unsigned long long)t->rows[i].count.repeated);
    cmd_say(&b->cmd, "mean ar error (without repeats): %.17g", sd_bucket_mean_error(&t->sum.count));
}

static void say_balance(struct bucket *b)
{
    const struct sd_balance *all = &b->workers[0].balance;
    for (size_t i = 0; i < all->n; i++) {
        const struct sd_balance_set *s = &all->sets[i];
        char set[48] = "";
        if (s->index >= 0)
            snprintf(set, sizeof set, "[Dataset %lld] ", (long long)s->index);
        if (s->unused)
            cmd_warn(
                &b->cmd,
                "%s%llu of %llu regularisation pictures are left out: the others match the %llu training "
                "pictures (including repeats)",
                set, (unsigned long long)s->unused, (unsigned long long)s->reg_pictures,
                (unsigned long long)s->train);
    }
}

static void summary(struct bucket *b)
{
    const struct sd_bucket_counts *counts = &b->workers[0].counts;
    struct sd_err err = {0};
    size_t n;
    const struct sd_bucket_dataset **sets = sd_bucket_datasets_sorted(b->sets, &n);
    if (!sets)
        die_of_memory(b);
    for (size_t i = 0; i < n; i++) {
        struct sd_bucket_table t;
        if (sd_bucket_table(counts, sets[i], 0, &t, &err))
            cmd_die(&b->cmd, &err);
        if (t.n && !b->dry_run)
            say_buckets(b, sets[i], &t);
        if (t.n && b->histogram) {
            if ((b->dry_run && sd_bucket_add_title(&b->text, sets[i])) ||
                sd_bucket_add_histogram(&b->text, &t))
                die_of_memory(b);
            say_lines(b);
        }
        sd_bucket_table_free(&t);
    }
    free(sets);
}

static void report(struct bucket *b)
{
    struct sd_err err = {0};
    const struct worker *w = &b->workers[0];
    if (sd_bucket_report(&b->text, b->sets, &w->counts, &w->balance, b->json, &err))
        cmd_die(&b->cmd, &err);
    sd_stream_write(b->cmd.stream, b->text.data, b->text.len, 1);
}

/* ---- the program ---- */

static void run(struct bucket *b)
{
    if (!(b->workers = calloc((size_t)b->cmd.common.jobs, sizeof *b->workers)))
        die_of_memory(b);
    if (b->balance || b->dry_run)
        sd_stream_hold(b->cmd.stream, &b->held, b->dry_run);
    cmd_each(&b->cmd, choose, b);
    merge_workers(b);
    release_held(b);
    if (!cmd_stopped(&b->cmd)) {
        if (b->balance)
            say_balance(b);
        summary(b);
        if (b->dry_run)
            report(b);
    }
    for (int i = 0; i < b->cmd.common.jobs; i++) {
        sd_buf_free(&b->workers[i].last.text);
        sd_bucket_counts_free(&b->workers[i].counts);
        sd_balance_free(&b->workers[i].balance);
    }
    free(b->workers);
    sd_spool_free(&b->held);
    sd_buf_free(&b->text);
}

int main(int argc, char **argv)
{
    struct bucket b = {.settings = {.index = -1, .batch_size = 1, .config = SD_BUCKET_DEFAULT},
                       .balance = true};
    struct sd_bucket_config *config = &b.settings.config;
    const char *resolution = "512,512";
    bool enable = true;
    const struct sd_option options[] = {
        {SD_OPT_HEADING("Where a record's data set has settings of its own, they count instead")},
        {SD_OPT_STRING("resolution", 0, &resolution, "N|W,H",
                       "training resolution; its area limits every bucket"),
         .alias = "max-resolution"},
        {SD_OPT_INT("min-bucket-reso", 0, &config->min_reso, "N", "smallest side of a bucket")},
        {SD_OPT_INT("max-bucket-reso", 0, &config->max_reso, "N", "largest side of a bucket")},
        {SD_OPT_INT("bucket-reso-steps", 0, &config->steps, "N", "sides are multiples of this")},
        {SD_OPT_BOOL("bucket-no-upscale", 0, &config->no_upscale,
                     "never enlarge: buckets follow the pictures' own sizes")},
        {SD_OPT_BOOL("enable-bucket", 0, &enable,
                     "choose among buckets; --no-enable-bucket has only the resolution")},
        {SD_OPT_INT("batch-size", 'b', &b.settings.batch_size, "N", "pictures in a batch, for the reports"),
         .alias = "train-batch-size", .min = 1, .max = 1 << 20},
        {SD_OPT_HEADING("Regularisation pictures")},
        {SD_OPT_BOOL(
            "balance", 0, &b.balance,
            "give them the repeats that match the training pictures, and leave out what is too much")},
        {SD_OPT_HEADING("Reports")},
        {SD_OPT_BOOL("histogram", 0, &b.histogram,
                     "show the buckets as a table with bars on standard error")},
        {SD_OPT_BOOL(
            "dry-run", 'n', &b.dry_run,
            "write no records but a report: what is cropped and enlarged, and what other settings do")},
        {SD_OPT_BOOL("json", 0, &b.json, "that report as a JSON object")},
        SD_OPT_END};
    b.cmd.program =
        (struct sd_program){.name = "sd-bucket",
                            .summary = "Choose the training size of each picture, as sd-scripts does",
                            .options = options};
    struct sd_err err = {0};
    cmd_start(&b.cmd, &argc, argv);
    config->single = !enable;
    if (b.json && !b.dry_run)
        cmd_usage(&b.cmd, "--json goes with --dry-run");
    if (sd_size_parse(resolution, &config->resolution, &err))
        cmd_die(&b.cmd, &err);
    if (sd_bucket_check_latents(config, &err))
        cmd_usage(&b.cmd, "--%s", err.msg);
    if (!(b.sets = sd_bucket_datasets_new(&b.settings, b.dry_run, &err)))
        cmd_die(&b.cmd, &err);
    run(&b);
    sd_bucket_datasets_free(b.sets);
    return cmd_finish(&b.cmd);
}
