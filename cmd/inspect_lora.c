/* sd-inspect --lora: what a network is made of, and how much it changes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_product.h"
#include "adapter/network_names.h"
#include "base/filemap.h"
#include "base/json.h"
#include "base/ordered.h"
#include "inspect.h"

/* Of one tensor, what check_lora_weights.py prints. */
struct magnitude {
    double mean, min, max;
};

struct measured {
    double norm; /* of the scaled dW; NaN where there is none */
    struct magnitude of[SD_ROLES];
    bool failed;
    struct sd_err err;
};

struct lora_report {
    struct inspect *in;
    const char *path;
    struct sd_network file;
    struct measured *measured; /* beside file.modules */
};

/* ---- measuring ---- */

static struct magnitude measure_tensor(const struct sd_store_entry *e)
{
    enum { BLOCK = 4096 };
    float v[BLOCK];
    size_t width = sd_store_dtype_bytes(e->dtype), n = e->bytes / width;
    struct magnitude m = {.mean = n ? 0 : NAN, .min = n ? INFINITY : NAN, .max = n ? 0 : NAN};
    for (size_t at = 0; at < n; at += BLOCK) {
        size_t count = n - at < BLOCK ? n - at : BLOCK;
        sd_store_to_f32(e->dtype, (const char *)e->data + at * width, count, v);
        for (size_t i = 0; i < count; i++) {
            double a = fabs((double)v[i]);
            m.mean += a;
            m.min = a < m.min || isnan(a) ? a : m.min;
            m.max = a > m.max || isnan(a) ? a : m.max;
        }
    }
    m.mean /= (double)n;
    if (e->mapped)
        sd_filemap_release(e->data, e->bytes);
    return m;
}

static int measure_norm(const struct sd_network_module *m, double *norm, struct sd_err *err)
{
    struct sd_delta d;
    if (sd_delta_load(&d, m, err))
        return -1;
    int rc = sd_delta_norm(&d, norm, err);
    sd_delta_free(&d);
    return rc;
}

static void measure(void *ctx, int thread, size_t i)
{
    struct lora_report *r = ctx;
    const struct sd_network_module *m = &r->file.modules[i];
    struct measured *out = &r->measured[i];
    (void)thread;
    out->norm = NAN;
    if (cmd_stopped(&r->in->c))
        return;
    for (int role = 0; role < SD_ROLES; role++)
        if (m->tensor[role])
            out->of[role] = measure_tensor(m->tensor[role]);
    if (m->fault)
        out->failed = sd_err_set(&out->err, SD_ERR_DATA, "%s: module %s: %s", r->path, m->name, m->fault);
    else if (m->has_delta)
        out->failed = measure_norm(m, &out->norm, &out->err);
}

static void done(void *ctx, size_t i)
{
    (void)ctx;
    (void)i;
}

int lora_report_new(struct lora_report **out, struct inspect *in, const char *path, struct sd_err *err)
{
    struct lora_report *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r)
        return sd_err_memory(err, sizeof *r);
    r->in = in;
    r->path = path;
    int rc = sd_network_open(&r->file, path, err) || sd_network_some(&r->file, err) ? -1 : 0;
    if (!rc && !(r->measured = calloc(r->file.count, sizeof *r->measured)))
        rc = sd_err_memory(err, r->file.count * sizeof *r->measured);
    const struct sd_ordered run = {.n = r->file.count,
                                   .window = 4 * (size_t)in->c.common.jobs,
                                   .jobs = in->c.common.jobs,
                                   .work = measure,
                                   .finish = done,
                                   .ctx = r};
    if (!rc)
        rc = sd_ordered_run(&run, err);
    if (rc) {
        lora_report_free(r);
        return -1;
    }
    *out = r;
    return 0;
}

void lora_report_free(struct lora_report *r)
{
    if (!r)
        return;
    sd_network_close(&r->file);
    free(r->measured);
    free(r);
}

/* ---- the file as a whole ---- */

/* Modules that belong together. */
struct group {
    struct sd_network_block block;
    size_t modules;
    double square; /* of the norms; NaN as soon as one is */
};

static void add_to_group(struct group *g, const struct sd_network_module *m, double norm)
{
    g->modules++;
    if (m->has_delta)
        g->square += norm * norm;
}

static int write_number(struct sd_buf *b, double v)
{
    char text[SD_JSON_DOUBLE_BYTES];
    return sd_buf_adds(b, sd_json_double(text, v));
}

static int write_group(struct sd_buf *b, const struct group *g)
{
    return sd_buf_addf(b, "\"modules\":%zu,\"norm\":", g->modules) || write_number(b, sqrt(g->square)) ||
           sd_buf_addc(b, '}');
}

/* Text encoders before the U-Net; within them the way of the data. */
static int by_block(const void *pa, const void *pb)
{
    const struct sd_network_block *a = &((const struct group *)pa)->block,
                                  *b = &((const struct group *)pb)->block;
    int order = strcmp(a->part, b->part);
    if (order)
        return order;
    if (a->stage != b->stage)
        return a->stage < b->stage ? -1 : 1;
    return a->index != b->index ? (a->index < b->index ? -1 : 1) : strcmp(a->name, b->name);
}

static bool same_block(const struct sd_network_block *a, const struct sd_network_block *b, bool whole_part)
{
    return !strcmp(a->part, b->part) && (whole_part || !strcmp(a->name, b->name));
}

/* The groups of all modules, sorted: by part, or by block. Returns how many. */
static size_t collect(const struct lora_report *r, struct group *groups, bool whole_parts)
{
    size_t n = 0;
    for (size_t i = 0; i < r->file.count; i++) {
        struct sd_network_block block;
        size_t k = 0;
        sd_network_block_of(r->file.modules[i].place, &block);
        while (k < n && !same_block(&groups[k].block, &block, whole_parts))
            k++;
        if (k == n)
            groups[n++] = (struct group){.block = block};
        add_to_group(&groups[k], &r->file.modules[i], r->measured[i].norm);
    }
    qsort(groups, n, sizeof *groups, by_block);
    return n;
}

/* How often each number occurs, the smallest first: {"8":10,"16":182}. */
static int by_number(const void *pa, const void *pb)
{
    const double *a = pa, *b = pb;
    return *a < *b ? -1 : *a > *b;
}

static int write_counts(struct sd_buf *b, double *numbers, size_t n)
{
    qsort(numbers, n, sizeof *numbers, by_number);
    int bad = sd_buf_addc(b, '{');
    for (size_t i = 0, k; i < n && !bad; i = k) {
        for (k = i + 1; k < n && numbers[k] == numbers[i];)
            k++;
        bad = (i && sd_buf_addc(b, ',')) || sd_buf_addc(b, '"') || write_number(b, numbers[i]) ||
              sd_buf_addf(b, "\":%zu", k - i);
    }
    return bad || sd_buf_addc(b, '}');
}

/* The kind people call it by: LoRA of convolutions with a window is LoCon. */
static const char *kind_of(const struct sd_network *f)
{
    enum sd_network_type type = SD_NETWORK_OTHER;
    bool window = false, mixed = false;
    for (size_t i = 0; i < f->count; i++) {
        const struct sd_network_module *m = &f->modules[i];
        mixed |= type != SD_NETWORK_OTHER && m->type != SD_NETWORK_OTHER && m->type != type;
        if (m->type != SD_NETWORK_OTHER)
            type = m->type;
        window |= m->window > 1;
    }
    return mixed ? "mixed" : type == SD_NETWORK_LORA && window ? "locon" : sd_network_type_name(type);
}

static int write_network(const struct lora_report *r, struct sd_buf *b, struct group *groups, double *numbers)
{
    const struct sd_network *f = &r->file;
    size_t n = 0, dora = 0, parts, blocks;
    for (size_t i = 0; i < f->count; i++)
        dora += f->modules[i].dora;
    int bad = sd_buf_addf(b, "{\"type\":\"%s\",\"modules\":%zu,\"dora\":%s,\"other_tensors\":%zu,\"ranks\":",
                          kind_of(f), f->count, dora ? "true" : "false", f->others);
    for (size_t i = 0; i < f->count; i++)
        if (f->modules[i].rank)
            numbers[n++] = (double)f->modules[i].rank;
    bad = bad || write_counts(b, numbers, n) || sd_buf_adds(b, ",\"alphas\":");
    n = 0;
    for (size_t i = 0; i < f->count; i++)
        if (f->modules[i].rank && isfinite(f->modules[i].alpha))
            numbers[n++] = f->modules[i].alpha;
    bad = bad || write_counts(b, numbers, n) || sd_buf_adds(b, ",\"parts\":{");
    parts = collect(r, groups, true);
    for (size_t i = 0; i < parts && !bad; i++)
        bad = sd_buf_addf(b, "%s\"%s\":{", i ? "," : "", groups[i].block.part) || write_group(b, &groups[i]);
    bad = bad || sd_buf_adds(b, "},\"blocks\":[");
    blocks = collect(r, groups, false);
    for (size_t i = 0; i < blocks && !bad; i++)
        bad = sd_buf_addf(b, "%s{\"part\":\"%s\",\"block\":\"%s\",", i ? "," : "", groups[i].block.part,
                          groups[i].block.name) ||
              write_group(b, &groups[i]);
    return bad || sd_buf_adds(b, "]}");
}

int lora_set_network(const struct lora_report *r, struct sd_record *record)
{
    struct sd_buf b = SD_BUF_INIT;
    struct group *groups = calloc(r->file.count, sizeof *groups);
    double *numbers = calloc(r->file.count, sizeof *numbers);
    int bad = !groups || !numbers || write_network(r, &b, groups, numbers) ||
              sd_record_set_raw(record, "network", b.data, b.len);
    free(groups);
    free(numbers);
    sd_buf_free(&b);
    return bad ? -1 : 0;
}

/* ---- modules ---- */

static int set_tensors(struct sd_record *r, const struct sd_network_module *m, const struct measured *v)
{
    struct sd_buf b = SD_BUF_INIT;
    int bad = sd_buf_addc(&b, '{'), first = 1;
    for (int role = 0; role < SD_ROLES && !bad; role++) {
        const struct magnitude *g = &v->of[role];
        if (!m->tensor[role] || role == SD_ROLE_ALPHA)
            continue;
        bad = sd_buf_addf(&b, "%s\"%s\":{\"mean_abs\":", first ? "" : ",",
                          sd_network_role_name((enum sd_network_role)role)) ||
              write_number(&b, g->mean) || sd_buf_adds(&b, ",\"min_abs\":") || write_number(&b, g->min) ||
              sd_buf_adds(&b, ",\"max_abs\":") || write_number(&b, g->max) || sd_buf_addc(&b, '}');
        first = 0;
    }
    bad = bad || sd_buf_addc(&b, '}') || sd_record_set_raw(r, "tensors", b.data, b.len);
    sd_buf_free(&b);
    return bad;
}

static int set_module(struct sd_record *r, const struct sd_network_module *m, const struct measured *v)
{
    struct sd_network_block block;
    sd_network_block_of(m->place, &block);
    return sd_record_set_string(r, "module", m->name) || sd_record_set_string(r, "part", block.part) ||
           sd_record_set_string(r, "block", block.name) ||
           sd_record_set_string(r, "type", sd_network_type_name(m->type)) ||
           (m->dora && sd_record_set_bool(r, "dora", true)) ||
           (m->rank &&
            (sd_record_set_int(r, "rank", m->rank) || sd_record_set_double(r, "alpha", m->alpha))) ||
           (m->out && (sd_record_set_int(r, "in", m->in) || sd_record_set_int(r, "out", m->out) ||
                       sd_record_set_int(r, "window", m->window))) ||
           sd_record_set_double(r, "norm", v->norm) || set_tensors(r, m, v);
}

void lora_put_modules(const struct lora_report *r)
{
    struct sd_record record = SD_RECORD_INIT;
    for (size_t i = 0; i < r->file.count && !cmd_stopped(&r->in->c); i++) {
        const struct measured *v = &r->measured[i];
        sd_record_reset(&record);
        if (sd_record_set_string(&record, "file", r->path) || set_module(&record, &r->file.modules[i], v))
            cmd_status(&r->in->c, SD_ERR_MACHINE);
        if (v->failed) {
            inspect_warn(r->in, &v->err);
            if (sd_record_set_error(&record, "sd-inspect", v->err.msg))
                cmd_status(&r->in->c, SD_ERR_MACHINE);
        }
        cmd_put_next(&r->in->c, &record);
    }
    sd_record_free(&record);
}
