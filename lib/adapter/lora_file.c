/* LoRA networks in files. */
#include "adapter/lora.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora_out.h"
#include "base/buf.h"
#include "store/tensor_file.h"

/* The three tensors of one module in a file; alpha may be NULL. */
struct parts {
    const struct sd_store_entry *down, *up, *alpha;
};

static const struct sd_store_entry *find(const struct sd_tensor_file *tf, const char *name, const char *leaf,
                                         struct sd_buf *key)
{
    sd_buf_clear(key);
    return sd_buf_addf(key, "%s.%s", name, leaf) ? NULL : sd_tensor_file_find(tf, key->data);
}

static struct parts find_parts(const struct sd_tensor_file *tf, const char *name, struct sd_buf *key)
{
    return (struct parts){
        .down = find(tf, name, "lora_down.weight", key),
        .up = find(tf, name, "lora_up.weight", key),
        .alpha = find(tf, name, "alpha", key),
    };
}

static bool shaped(const struct sd_store_entry *e, int64_t rows, int64_t cols, int64_t kernel)
{
    int64_t want[4] = {rows, cols, kernel, kernel};
    int n = e->ndim;
    if (n > 4 || n < 2 || (kernel > 1 && n < 4))
        return false;
    return !memcmp(e->shape, want, (size_t)n * sizeof *want);
}

static int check_shapes(const struct sd_tensor_file *tf, const struct sd_target *t, const struct parts *p,
                        int64_t rank, struct sd_err *err)
{
    const struct sd_store_entry *wrong = !shaped(p->down, rank, t->in, t->kernel) ? p->down
                                         : !shaped(p->up, t->out, rank, 1)        ? p->up
                                                                                  : NULL;
    char text[96];
    if (!wrong)
        return 0;
    return sd_err_set(err, SD_ERR_DATA,
                      "%s: %s is %s, which does not fit rank %lld of a layer from %lld to %lld",
                      sd_tensor_file_path(tf), wrong->name,
                      sd_store_shape_text(wrong->ndim, wrong->shape, text, sizeof text), (long long)rank,
                      (long long)t->in, (long long)t->out);
}

static int read_values(const struct sd_tensor_file *tf, struct sd_lora_module *m, const struct parts *p,
                       struct sd_err *err)
{
    if (sd_tensor_file_read_f32(tf, p->down, (float *)m->down.data, err))
        return -1;
    return sd_tensor_file_read_f32(tf, p->up, (float *)m->up.data, err);
}

static int read_alpha(const struct sd_tensor_file *tf, const struct sd_store_entry *alpha, float otherwise,
                      float *value, struct sd_err *err)
{
    *value = otherwise;
    if (!alpha || alpha->bytes != sd_store_dtype_bytes(alpha->dtype))
        return 0;
    return sd_tensor_file_read_f32(tf, alpha, value, err);
}

/* Keys of the file that are no tensor of a module of this network. */
static void report_unmatched(const struct sd_lora *l, const struct sd_tensor_file *tf,
                             struct sd_lora_report *r)
{
    static const char *const leaf[] = {".lora_down.weight", ".lora_up.weight", ".alpha"};
    size_t used = 0;
    for (size_t i = 0; i < sd_tensor_file_count(tf); i++) {
        const char *name = sd_tensor_file_entry(tf, i)->name;
        const char *dot = strchr(name, '.');
        size_t len = dot ? (size_t)(dot - name) : strlen(name);
        bool known = false;
        for (int k = 0; k < 3 && !known && dot; k++)
            known = !strcmp(dot, leaf[k]);
        bool found = false;
        for (size_t k = 0; known && k < l->count && !found; k++)
            found = !strncmp(l->modules[k].target->name, name, len) && !l->modules[k].target->name[len];
        if (found)
            continue;
        if (r->unmatched++ < 4 && used + strlen(name) + 3 <= sizeof r->first) /* whole names only */
            used += (size_t)snprintf(r->first + used, sizeof r->first - used, "%s%s", used ? ", " : "", name);
    }
}

/* Chooses the modules: those of the file. A down matrix decides; its up matrix must be there. */
static int choose_modules(struct sd_lora *l, const struct sd_target *targets, size_t n,
                          const struct sd_tensor_file *tf, struct sd_err *err)
{
    struct sd_buf key = SD_BUF_INIT;
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        struct parts p = find_parts(tf, targets[i].name, &key);
        if (!p.down)
            continue;
        int64_t rank = p.down->ndim > 0 ? p.down->shape[0] : 0;
        if (!p.up)
            rc = sd_err_set(err, SD_ERR_DATA, "%s: %s.lora_up.weight is missing", sd_tensor_file_path(tf),
                            targets[i].name);
        else if (rank < 1)
            rc = sd_err_set(err, SD_ERR_DATA, "%s: %s has no rank", sd_tensor_file_path(tf), p.down->name);
        else
            rc = check_shapes(tf, &targets[i], &p, rank, err);
        float alpha;
        if (!rc)
            rc = read_alpha(tf, p.alpha, (float)rank, &alpha, err);
        if (!rc) {
            l->modules[l->count++] = (struct sd_lora_module){
                .target = &targets[i], .rank = rank, .alpha = alpha > 0 ? alpha : (float)rank};
            l->conv_projection |= !targets[i].conv && p.down->ndim == 4;
        }
    }
    sd_buf_free(&key);
    return rc;
}

int sd_lora_open(struct sd_lora **lora, const struct sd_model_config *c, const char *path, float multiplier,
                 bool trainable, struct sd_lora_report *report, struct sd_err *err)
{
    struct sd_tensor_file *tf = NULL;
    struct sd_buf key = SD_BUF_INIT;
    struct sd_target *targets;
    size_t n;
    int rc = -1;
    *report = (struct sd_lora_report){0};
    *lora = NULL;
    struct sd_lora *l = sd_lora_alloc(c, &targets, &n, err);
    if (!l)
        return -1;
    if (sd_tensor_file_open(&tf, path, err) || choose_modules(l, targets, n, tf, err) ||
        sd_lora_place(l, trainable, err))
        goto out;
    l->multiplier = multiplier;
    for (size_t i = 0; i < l->count; i++) {
        struct parts p = find_parts(tf, l->modules[i].target->name, &key);
        if (!p.down || !p.up) {
            sd_err_memory(err, key.len);
            goto out;
        }
        if (read_values(tf, &l->modules[i], &p, err))
            goto out;
    }
    report->modules = l->count;
    report_unmatched(l, tf, report);
    *lora = l;
    l = NULL;
    rc = 0;
out:
    sd_buf_free(&key);
    sd_tensor_file_close(tf);
    sd_lora_free(l);
    return rc;
}

int sd_lora_assign(struct sd_lora *l, const char *path, struct sd_lora_report *report, struct sd_err *err)
{
    struct sd_tensor_file *tf = NULL;
    struct sd_buf key = SD_BUF_INIT;
    int rc = sd_tensor_file_open(&tf, path, err);
    *report = (struct sd_lora_report){0};
    for (size_t i = 0; i < l->count && !rc; i++) {
        struct sd_lora_module *m = &l->modules[i];
        struct parts p = find_parts(tf, m->target->name, &key);
        if (!p.down || !p.up)
            continue;
        rc = check_shapes(tf, m->target, &p, m->rank, err);
        if (!rc)
            rc = read_values(tf, m, &p, err);
        if (!rc)
            rc = read_alpha(tf, p.alpha, m->alpha, &m->alpha, err);
        if (rc)
            break;
        report->modules++;
    }
    if (!rc)
        report_unmatched(l, tf, report);
    sd_buf_free(&key);
    sd_tensor_file_close(tf);
    return rc;
}

int sd_lora_save(const struct sd_lora *l, const char *path, enum sd_store_dtype dtype,
                 const struct sd_store_meta *meta, size_t meta_count, struct sd_err *err)
{
    struct sd_lora_out out;
    int rc = sd_lora_out_init(&out, 3 * l->count, err);
    for (size_t i = 0; i < l->count && !rc; i++) {
        const struct sd_lora_module *m = &l->modules[i];
        const struct sd_target *t = m->target;
        const struct sd_lora_shape shape = {m->rank,      t->in, t->out, t->kernel, sd_lora_is_conv(l, t),
                                            SD_LORA_KOHYA};
        rc = sd_lora_out_module(&out, t->name, &shape, m->alpha, m->down.data, m->up.data, dtype, err);
    }
    if (!rc)
        rc = sd_lora_out_write(&out, path, meta, meta_count, err);
    sd_lora_out_free(&out);
    return rc;
}
