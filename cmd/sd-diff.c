/* sd-diff: two models or networks, tensor by tensor. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/ordered.h"
#include "cmd.h"
#include "model/listing.h"
#include "store/tensor_stats.h"

/* In the order in which they are shown. */
enum status { ONLY_A, ONLY_B, SHAPE, DIFFERENT, SAME, STATUSES };

static const char *const status_names[STATUSES] = {"only_a", "only_b", "shape", "different", "same"};

/* A name of either file. */
struct pair {
    const struct sd_store_entry *a, *b; /* NULL where it is missing */
    enum status status;
    double distance; /* relative L2, infinite where NaN or infinities differ */
    struct sd_tensor_diff diff;
};

struct options {
    struct sd_cmd c;
    bool exact, file_names, common, all;
    int64_t top;
    double tolerance;
};

struct run {
    struct options *o;
    struct pair *pairs;
    size_t count;
};

/* ---- comparing ---- */

static bool same_shape(const struct sd_store_entry *a, const struct sd_store_entry *b, bool exact)
{
    int na = a->ndim, nb = b->ndim;
    while (!exact && na > 0 && a->shape[na - 1] == 1)
        na--;
    while (!exact && nb > 0 && b->shape[nb - 1] == 1)
        nb--;
    return na == nb && (!na || !memcmp(a->shape, b->shape, (size_t)na * sizeof *a->shape));
}

static bool same_bytes(const struct sd_store_entry *a, const struct sd_store_entry *b)
{
    return a->dtype == b->dtype && a->bytes == b->bytes && (!a->bytes || !memcmp(a->data, b->data, a->bytes));
}

static enum status judge(const struct options *o, const struct pair *p)
{
    if (p->diff.nonfinite)
        return DIFFERENT;
    if (o->exact)
        return !p->diff.unequal && same_bytes(p->a, p->b) ? SAME : DIFFERENT;
    return !p->diff.unequal || p->distance <= o->tolerance ? SAME : DIFFERENT;
}

static void compare(void *ctx, int thread, size_t item)
{
    struct run *run = ctx;
    struct pair *p = &run->pairs[item];
    (void)thread;
    if (!p->a || !p->b || cmd_stopped(&run->o->c))
        return;
    if (!same_shape(p->a, p->b, run->o->exact)) {
        p->status = SHAPE;
        return;
    }
    sd_tensor_diff(p->a, p->b, &p->diff);
    p->distance = p->diff.nonfinite ? INFINITY : sd_tensor_diff_l2(&p->diff);
    p->status = judge(run->o, p);
}

static void done(void *ctx, size_t item)
{
    struct run *run = ctx;
    cmd_progress(&run->o->c, item + 1, NULL);
}

/* Joins the two sorted lists by name. */
static int join(struct run *run, const struct sd_listing *a, const struct sd_listing *b, struct sd_err *err)
{
    size_t i = 0, k = 0;
    if (!(run->pairs = calloc(a->count + b->count + 1, sizeof *run->pairs)))
        return sd_err_memory(err, (a->count + b->count) * sizeof *run->pairs);
    while (i < a->count || k < b->count) {
        int order = i == a->count ? 1 : k == b->count ? -1 : strcmp(a->entries[i].name, b->entries[k].name);
        struct pair p = {.status = order < 0 ? ONLY_A : order > 0 ? ONLY_B : SAME};
        if (order <= 0)
            p.a = &a->entries[i++];
        if (order >= 0)
            p.b = &b->entries[k++];
        if (!run->o->common || !order)
            run->pairs[run->count++] = p;
    }
    return 0;
}

/* ---- telling ---- */

static const char *name_of(const struct pair *p)
{
    return p->a ? p->a->name : p->b->name;
}

static int by_difference(const void *pa, const void *pb)
{
    const struct pair *a = pa, *b = pb;
    if (a->status != b->status)
        return a->status < b->status ? -1 : 1;
    if (a->distance != b->distance)
        return a->distance > b->distance ? -1 : 1;
    if (a->diff.max_abs != b->diff.max_abs)
        return a->diff.max_abs > b->diff.max_abs ? -1 : 1;
    return strcmp(name_of(a), name_of(b));
}

static int set_diff(struct sd_record *r, const struct sd_tensor_diff *d)
{
    uint64_t finite = d->count - d->nonfinite;
    return sd_record_set_double(r, "max_abs", d->max_abs) ||
           sd_record_set_double(r, "mean_abs", finite ? d->sum_abs / (double)finite : 0) ||
           sd_record_set_double(r, "relative_l2", sd_tensor_diff_l2(d)) ||
           sd_record_set_double(r, "cosine", sd_tensor_diff_cosine(d)) ||
           sd_record_set_int(r, "elements", (int64_t)d->count) ||
           sd_record_set_int(r, "unequal", (int64_t)d->unequal) ||
           sd_record_set_int(r, "nonfinite", (int64_t)d->nonfinite);
}

static int set_side(struct sd_record *r, const struct sd_store_entry *e, const char *dtype, const char *shape)
{
    return e && (sd_record_set_string(r, dtype, sd_store_dtype_name(e->dtype)) ||
                 sd_record_set_ints(r, shape, e->shape, (size_t)e->ndim));
}

static void put_pair(struct options *o, const struct pair *p)
{
    struct sd_record r = SD_RECORD_INIT;
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "tensor", name_of(p)) ||
        sd_record_set_string(&r, "status", status_names[p->status]) ||
        set_side(&r, p->a, "dtype_a", "shape_a") || set_side(&r, p->b, "dtype_b", "shape_b") ||
        (p->status >= DIFFERENT && set_diff(&r, &p->diff)))
        cmd_status(&o->c, SD_ERR_MACHINE);
    cmd_put_next(&o->c, &r);
    sd_record_free(&r);
}

static void put_summary(const struct run *run, const char *a, const char *b)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_tensor_diff sum = {0};
    int64_t counts[STATUSES] = {0};
    for (size_t i = 0; i < run->count; i++) {
        counts[run->pairs[i].status]++;
        if (run->pairs[i].status >= DIFFERENT)
            sd_tensor_diff_add(&sum, &run->pairs[i].diff);
    }
    sd_record_reset(&r);
    int bad = sd_record_set_string(&r, "a", a) || sd_record_set_string(&r, "b", b);
    for (int s = STATUSES; s-- > 0;)
        bad = bad || sd_record_set_int(&r, status_names[s], counts[s]);
    if (bad || set_diff(&r, &sum))
        cmd_status(&run->o->c, SD_ERR_MACHINE);
    cmd_put_next(&run->o->c, &r);
    sd_record_free(&r);
    if (counts[SAME] < (int64_t)run->count)
        cmd_status(&run->o->c, 1);
}

/* ---- the two files ---- */

/* Trouble is 2, as with cmp; 1 would say that the files differ. */
static _Noreturn void trouble(struct options *o, struct sd_err *err)
{
    if (err->code == SD_ERR_DATA)
        err->code = SD_ERR_USAGE;
    cmd_die(&o->c, err);
}

/* By the names of parameters where both are models, else by the names in the files. */
static void open_both(struct options *o, const char *const path[2], struct sd_listing l[2])
{
    struct sd_err err = {0};
    if (!o->file_names && !sd_listing_parameters(&l[0], path[0], &err)) {
        if (!sd_listing_parameters(&l[1], path[1], &err))
            return;
        sd_listing_close(&l[0]);
    }
    for (int i = 0; i < 2; i++)
        if (sd_listing_file(&l[i], path[i], &err))
            trouble(o, &err);
}

static void diff(struct options *o, const char *const path[2])
{
    struct sd_listing l[2] = {{0}};
    struct sd_err err = {0};
    struct run run = {.o = o};
    open_both(o, path, l);
    if (join(&run, &l[0], &l[1], &err))
        trouble(o, &err);
    o->c.total = run.count;
    const struct sd_ordered work = {.n = run.count,
                                    .window = 4 * (size_t)o->c.common.jobs,
                                    .jobs = o->c.common.jobs,
                                    .work = compare,
                                    .finish = done,
                                    .ctx = &run};
    if (sd_ordered_run(&work, &err))
        trouble(o, &err);
    if (!cmd_stopped(&o->c)) {
        qsort(run.pairs, run.count, sizeof *run.pairs, by_difference);
        put_summary(&run, path[0], path[1]);
    }
    int64_t shown = 0;
    for (size_t i = 0; i < run.count && shown != o->top && !cmd_stopped(&o->c); i++)
        if (run.pairs[i].status != SAME || o->all) {
            put_pair(o, &run.pairs[i]);
            shown++;
        }
    free(run.pairs);
    sd_listing_close(&l[0]);
    sd_listing_close(&l[1]);
}

int main(int argc, char **argv)
{
    struct options o = {.top = -1};
    const struct sd_option options[] = {
        {SD_OPT_INT("top", 'n', &o.top, "N", "show only the N largest differences; 0: only the summary"),
         .min = -1, .max = 1e9},
        {SD_OPT_DOUBLE("tolerance", 't', &o.tolerance, "X",
                       "tensors are the same up to this relative L2 distance"),
         .min = 0, .max = 1e9},
        {SD_OPT_BOOL("exact", 'e', &o.exact, "type, shape and every byte of the numbers must be the same")},
        {SD_OPT_BOOL("common", 0, &o.common, "leave out tensors that only one of the files has")},
        {SD_OPT_BOOL("file-names", 0, &o.file_names,
                     "go by the names in the files, not by the parameters of the model")},
        {SD_OPT_BOOL("all", 'a', &o.all, "show tensors that are the same, too")},
        SD_OPT_END};
    o.c = (struct sd_cmd){.program = {.name = "sd-diff",
                                      .args = "A B",
                                      .summary = "compare two models or networks, tensor by tensor",
                                      .options = options,
                                      .min_args = 2,
                                      .max_args = 2},
                          .source = true,
                          .own_progress = true};
    cmd_start(&o.c, &argc, argv);
    if (o.exact && o.tolerance > 0)
        cmd_usage(&o.c, "--exact and --tolerance exclude each other");
    diff(&o, (const char *const[]){argv[1], argv[2]});
    return cmd_finish(&o.c);
}
