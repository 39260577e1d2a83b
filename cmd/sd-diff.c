/* sd-diff: two models or networks, tensor by tensor. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_product.h"
#include "base/ordered.h"
#include "cmd.h"
#include "model/listing.h"
#include "store/tensor_stats.h"

/* In the order in which they are shown. */
enum status { ONLY_A, ONLY_B, SHAPE, DIFFERENT, SAME, STATUSES };

static const char *const status_names[STATUSES] = {"only_a", "only_b", "shape", "different", "same"};

/* A name of either file: a tensor, or under --lora a module. NULL where it is missing. */
struct pair {
    const char *name;
    const struct sd_store_entry *a, *b;
    const struct sd_network_module *ma, *mb;
    enum status status;
    double distance; /* relative L2, infinite where NaN or infinities differ */
    struct sd_tensor_diff diff;
    struct sd_err err; /* code 0 unless it could not be compared */
};

struct options {
    struct sd_cmd c;
    bool exact, file_names, common, all, lora;
    int64_t top;
    double tolerance;
};

/* What is compared: tensors or modules. Both lists are sorted by name. */
struct side {
    struct sd_listing tensors;
    struct sd_network network;
    size_t count;
};

struct run {
    struct options *o;
    struct side sides[2];
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
    return !p->diff.unequal || p->distance <= o->tolerance ? SAME : DIFFERENT;
}

/* Row by row, so that what two networks add to a large layer never has to be in memory. */
static int compare_rows(const struct sd_delta d[2], struct sd_tensor_diff *sum, struct sd_err *err)
{
    size_t bytes = (size_t)d[0].width * sizeof(double);
    double *row[2] = {malloc(bytes), malloc(bytes)}, *scratch = malloc(bytes + sizeof *scratch);
    int rc = row[0] && row[1] && scratch ? 0 : sd_err_memory(err, bytes);
    for (int64_t i = 0; i < d[0].out && !rc; i++) {
        struct sd_store_entry e[2];
        struct sd_tensor_diff one;
        for (int k = 0; k < 2; k++) {
            sd_delta_row(&d[k], i, row[k], scratch);
            e[k] = (struct sd_store_entry){.dtype = SD_STORE_F64, .data = row[k], .bytes = bytes};
        }
        sd_tensor_diff(&e[0], &e[1], &one);
        sd_tensor_diff_add(sum, &one);
    }
    free(row[0]);
    free(row[1]);
    free(scratch);
    return rc;
}

static int compare_products(struct pair *p, struct sd_err *err)
{
    struct sd_delta d[2] = {{0}};
    int rc = sd_delta_load(&d[0], p->ma, err) || sd_delta_load(&d[1], p->mb, err) ||
             compare_rows(d, &p->diff, err);
    sd_delta_free(&d[0]);
    sd_delta_free(&d[1]);
    return rc;
}

/* Modules without a product (OFT, norms) are compared tensor by tensor where the kinds agree. */
static void compare_tensors_of(struct pair *p)
{
    for (int r = 0; r < SD_ROLES; r++) {
        const struct sd_store_entry *a = p->ma->tensor[r], *b = p->mb->tensor[r];
        struct sd_tensor_diff one;
        if (!a != !b || (a && !same_shape(a, b, false))) {
            p->status = SHAPE;
            return;
        }
        if (a) {
            sd_tensor_diff(a, b, &one);
            sd_tensor_diff_add(&p->diff, &one);
        }
    }
}

static void compare_modules(const struct options *o, struct pair *p)
{
    const struct sd_network_module *a = p->ma, *b = p->mb;
    const char *fault = a->fault ? a->fault : b->fault;
    if (fault) {
        sd_err_set(&p->err, SD_ERR_DATA, "module %s: %s", a->fault ? a->name : b->name, fault);
        return;
    }
    if (a->has_delta != b->has_delta ||
        (a->has_delta && (a->out != b->out || a->in * a->window != b->in * b->window)))
        p->status = SHAPE;
    else if (!a->has_delta)
        compare_tensors_of(p);
    else if (compare_products(p, &p->err))
        return;
    if (p->status == SHAPE)
        return;
    p->distance = p->diff.nonfinite ? INFINITY : sd_tensor_diff_l2(&p->diff);
    p->status = judge(o, p);
}

static void compare_tensors(struct run *run, struct pair *p)
{
    struct sd_store_entry a = {0}, b = {0};
    void *memory[2] = {NULL, NULL};
    if (!sd_listing_load(&run->sides[0].tensors, p->a, &a, &memory[0], &p->err) &&
        !sd_listing_load(&run->sides[1].tensors, p->b, &b, &memory[1], &p->err)) {
        sd_tensor_diff(&a, &b, &p->diff);
        p->distance = p->diff.nonfinite ? INFINITY : sd_tensor_diff_l2(&p->diff);
        p->status = judge(run->o, p);
        if (run->o->exact && (p->diff.unequal || !same_bytes(&a, &b)))
            p->status = DIFFERENT;
    }
    free(memory[0]);
    free(memory[1]);
}

static void compare(void *ctx, int thread, size_t item)
{
    struct run *run = ctx;
    struct pair *p = &run->pairs[item];
    (void)thread;
    if (p->status != SAME || cmd_stopped(&run->o->c))
        return;
    if (run->o->lora) {
        compare_modules(run->o, p);
        return;
    }
    if (!same_shape(p->a, p->b, run->o->exact)) {
        p->status = SHAPE;
        return;
    }
    compare_tensors(run, p);
}

static void done(void *ctx, size_t item)
{
    struct run *run = ctx;
    cmd_progress(&run->o->c, item + 1, NULL);
}

static const char *side_name(const struct side *s, size_t i)
{
    return s->network.modules ? s->network.modules[i].place : s->tensors.entries[i].name;
}

/* Joins the two lists by name. */
static int join(struct run *run, const struct side *a, const struct side *b, struct sd_err *err)
{
    bool lora = run->o->lora;
    size_t i = 0, k = 0;
    if (!(run->pairs = calloc(a->count + b->count + 1, sizeof *run->pairs)))
        return sd_err_memory(err, (a->count + b->count) * sizeof *run->pairs);
    while (i < a->count || k < b->count) {
        int order = i == a->count ? 1 : k == b->count ? -1 : strcmp(side_name(a, i), side_name(b, k));
        struct pair p = {.status = order < 0   ? ONLY_A
                                   : order > 0 ? ONLY_B
                                               : SAME,
                         .name = order <= 0 ? side_name(a, i) : side_name(b, k)};
        if (order <= 0 && lora)
            p.ma = &a->network.modules[i];
        else if (order <= 0)
            p.a = &a->tensors.entries[i];
        if (order >= 0 && lora)
            p.mb = &b->network.modules[k];
        else if (order >= 0)
            p.b = &b->tensors.entries[k];
        i += order <= 0;
        k += order >= 0;
        if (!run->o->common || !order)
            run->pairs[run->count++] = p;
    }
    return 0;
}

/* ---- telling ---- */

static int by_difference(const void *pa, const void *pb)
{
    const struct pair *a = pa, *b = pb;
    if (a->status != b->status)
        return a->status < b->status ? -1 : 1;
    if (a->distance != b->distance)
        return a->distance > b->distance ? -1 : 1;
    if (a->diff.max_abs != b->diff.max_abs)
        return a->diff.max_abs > b->diff.max_abs ? -1 : 1;
    return strcmp(a->name, b->name);
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

static int set_tensor(struct sd_record *r, const struct sd_store_entry *e, const char *dtype,
                      const char *shape)
{
    return e && (sd_record_set_string(r, dtype, sd_store_dtype_name(e->dtype)) ||
                 sd_record_set_ints(r, shape, e->shape, (size_t)e->ndim));
}

static int set_module(struct sd_record *r, const struct sd_network_module *m, const char *type,
                      const char *rank, const char *alpha)
{
    return m &&
           (sd_record_set_string(r, type, sd_network_type_name(m->type)) ||
            (m->rank && (sd_record_set_int(r, rank, m->rank) || sd_record_set_double(r, alpha, m->alpha))));
}

static void put_pair(struct options *o, const struct pair *p)
{
    struct sd_record r = SD_RECORD_INIT;
    sd_record_reset(&r);
    if (sd_record_set_string(&r, o->lora ? "module" : "tensor", p->name) ||
        sd_record_set_string(&r, "status", status_names[p->status]) ||
        set_tensor(&r, p->a, "dtype_a", "shape_a") || set_tensor(&r, p->b, "dtype_b", "shape_b") ||
        set_module(&r, p->ma, "type_a", "rank_a", "alpha_a") ||
        set_module(&r, p->mb, "type_b", "rank_b", "alpha_b") ||
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

static void close_sides(struct side s[2])
{
    for (int i = 0; i < 2; i++) {
        sd_listing_close(&s[i].tensors);
        sd_network_close(&s[i].network);
    }
}

/* By the names of parameters where both are models, else by the names in the files. */
static int open_tensors(const struct options *o, const char *const path[2], struct side s[2],
                        struct sd_err *err)
{
    if (!o->file_names && !sd_listing_parameters(&s[0].tensors, path[0], err)) {
        if (!sd_listing_parameters(&s[1].tensors, path[1], err))
            return 0;
        sd_listing_close(&s[0].tensors);
    }
    return sd_listing_file(&s[0].tensors, path[0], err) || sd_listing_file(&s[1].tensors, path[1], err);
}

static int open_network(struct sd_network *n, const char *path, struct sd_err *err)
{
    return sd_network_open(n, path, err) || sd_network_some(n, err);
}

static void open_sides(struct options *o, const char *const path[2], struct side s[2])
{
    struct sd_err err = {0};
    int rc = o->lora
                 ? open_network(&s[0].network, path[0], &err) || open_network(&s[1].network, path[1], &err)
                 : open_tensors(o, path, s, &err);
    if (rc)
        trouble(o, &err);
    for (int i = 0; i < 2; i++)
        s[i].count = o->lora ? s[i].network.count : s[i].tensors.count;
}

static void compare_all(struct run *run)
{
    struct options *o = run->o;
    struct sd_err err = {0};
    const struct sd_ordered work = {.n = run->count,
                                    .window = 4 * (size_t)o->c.common.jobs,
                                    .jobs = o->c.common.jobs,
                                    .work = compare,
                                    .finish = done,
                                    .ctx = run};
    o->c.total = run->count;
    if (sd_ordered_run(&work, &err))
        trouble(o, &err);
    for (size_t i = 0; i < run->count; i++)
        if (run->pairs[i].err.code)
            trouble(o, &run->pairs[i].err);
    qsort(run->pairs, run->count, sizeof *run->pairs, by_difference);
}

static void diff(struct options *o, const char *const path[2])
{
    struct sd_err err = {0};
    struct run run = {.o = o};
    struct side *s = run.sides;
    open_sides(o, path, s);
    if (join(&run, &s[0], &s[1], &err))
        trouble(o, &err);
    compare_all(&run);
    if (!cmd_stopped(&o->c))
        put_summary(&run, path[0], path[1]);
    int64_t shown = 0;
    for (size_t i = 0; i < run.count && shown != o->top && !cmd_stopped(&o->c); i++)
        if (run.pairs[i].status != SAME || o->all) {
            put_pair(o, &run.pairs[i]);
            shown++;
        }
    free(run.pairs);
    close_sides(s);
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
        {SD_OPT_BOOL("lora", 0, &o.lora, "compare what LoRA and similar networks add to the weights")},
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
    if (o.lora && (o.exact || o.file_names))
        cmd_usage(&o.c, "--lora and --%s exclude each other", o.exact ? "exact" : "file-names");
    diff(&o, (const char *const[]){argv[1], argv[2]});
    return cmd_finish(&o.c);
}
