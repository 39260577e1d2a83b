#include "adapter/network_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sd_network_file {
    struct sd_tensor_file *tensors;
    struct sd_arena arena;
    struct sd_network_layer *layers; /* in the order of paths */
    size_t count;
};

/* What can follow a layer's name in a key. */
static const struct {
    const char *leaf;
    enum sd_network_kind kind;
    enum sd_network_part part; /* SD_NETWORK_PARTS: alpha, which tells no kind */
} leaves[] = {
    {".alpha", SD_NETWORK_LORA, SD_NETWORK_PARTS},
    {".lora_up.weight", SD_NETWORK_LORA, SD_NETWORK_UP},
    {".lora_down.weight", SD_NETWORK_LORA, SD_NETWORK_DOWN},
    {".lora_mid.weight", SD_NETWORK_LOCON, SD_NETWORK_MID},
    {".hada_w1_a", SD_NETWORK_LOHA, SD_NETWORK_W1_A},
    {".hada_w1_b", SD_NETWORK_LOHA, SD_NETWORK_W1_B},
    {".hada_w2_a", SD_NETWORK_LOHA, SD_NETWORK_W2_A},
    {".hada_w2_b", SD_NETWORK_LOHA, SD_NETWORK_W2_B},
    {".hada_t1", SD_NETWORK_LOHA, SD_NETWORK_T1},
    {".hada_t2", SD_NETWORK_LOHA, SD_NETWORK_T2},
    {".lokr_w1", SD_NETWORK_LOKR, SD_NETWORK_W1},
    {".lokr_w1_a", SD_NETWORK_LOKR, SD_NETWORK_W1_A},
    {".lokr_w1_b", SD_NETWORK_LOKR, SD_NETWORK_W1_B},
    {".lokr_w2", SD_NETWORK_LOKR, SD_NETWORK_W2},
    {".lokr_w2_a", SD_NETWORK_LOKR, SD_NETWORK_W2_A},
    {".lokr_w2_b", SD_NETWORK_LOKR, SD_NETWORK_W2_B},
    {".lokr_t2", SD_NETWORK_LOKR, SD_NETWORK_T2},
    {".oft_blocks", SD_NETWORK_OFT, SD_NETWORK_BLOCKS},
};
enum { LEAVES = sizeof leaves / sizeof *leaves };

const char *sd_network_kind_name(enum sd_network_kind kind)
{
    static const char *const names[] = {"LoRA", "LoCon", "LoHa", "LoKr", "OFT"};
    return names[kind];
}

/* --- shapes */

/* A pattern of sizes; 0 ends it. Trailing sizes of 1 in the file do not matter. */
static bool shaped(const struct sd_store_entry *e, int64_t a, int64_t b, int64_t k)
{
    const int64_t want[4] = {a, b, k, k};
    int n = e->ndim;
    while (n > 2 && e->shape[n - 1] == 1)
        n--;
    int m = k > 1 ? 4 : 2;
    return n == m && !memcmp(e->shape, want, (size_t)m * sizeof *want);
}

/* [a, b k k], or the same with its last dimensions apart. */
static bool flat_or_shaped(const struct sd_store_entry *e, int64_t a, int64_t b, int64_t k)
{
    return shaped(e, a, b, k) || shaped(e, a, b * k * k, 1);
}

static int64_t size_of(const struct sd_store_entry *e, int dim)
{
    return e && dim < e->ndim ? e->shape[dim] : 0;
}

/* The checks of each kind: the part that is missing or does not fit, else SD_NETWORK_PARTS. */
static enum sd_network_part check_lora(struct sd_network_layer *l)
{
    const struct sd_target *t = l->target;
    const struct sd_store_entry *const *p = l->part;
    bool cp = p[SD_NETWORK_MID] != NULL;
    int64_t r = l->rank = size_of(p[SD_NETWORK_DOWN], 0);
    if (!p[SD_NETWORK_DOWN] || !(cp ? shaped(p[SD_NETWORK_DOWN], r, t->in, 1)
                                    : flat_or_shaped(p[SD_NETWORK_DOWN], r, t->in, t->kernel)))
        return SD_NETWORK_DOWN;
    if (cp && !shaped(p[SD_NETWORK_MID], r, r, t->kernel))
        return SD_NETWORK_MID;
    return p[SD_NETWORK_UP] && shaped(p[SD_NETWORK_UP], t->out, r, 1) ? SD_NETWORK_PARTS : SD_NETWORK_UP;
}

static enum sd_network_part check_loha(struct sd_network_layer *l)
{
    const struct sd_target *t = l->target;
    const struct sd_store_entry *const *p = l->part;
    bool cp = p[SD_NETWORK_T1] || p[SD_NETWORK_T2];
    int64_t r = l->rank = size_of(p[SD_NETWORK_W1_B], 0);
    static const enum sd_network_part a[] = {SD_NETWORK_W1_A, SD_NETWORK_W2_A},
                                      b[] = {SD_NETWORK_W1_B, SD_NETWORK_W2_B},
                                      core[] = {SD_NETWORK_T1, SD_NETWORK_T2};
    for (int i = 0; i < 2; i++) {
        if (!p[b[i]] || !(cp ? shaped(p[b[i]], r, t->in, 1) : flat_or_shaped(p[b[i]], r, t->in, t->kernel)))
            return b[i];
        if (!p[a[i]] || !(cp ? shaped(p[a[i]], r, t->out, 1) : shaped(p[a[i]], t->out, r, 1)))
            return a[i];
        if (cp && (!p[core[i]] || !shaped(p[core[i]], r, r, t->kernel)))
            return core[i];
    }
    return SD_NETWORK_PARTS;
}

static enum sd_network_part check_lokr(struct sd_network_layer *l)
{
    const struct sd_target *t = l->target;
    const struct sd_store_entry *const *p = l->part, *w1 = p[SD_NETWORK_W1], *w2 = p[SD_NETWORK_W2];
    const struct sd_store_entry *a1 = p[SD_NETWORK_W1_A], *b1 = p[SD_NETWORK_W1_B], *a2 = p[SD_NETWORK_W2_A],
                                *b2 = p[SD_NETWORK_W2_B];
    bool cp = p[SD_NETWORK_T2];
    int64_t rows = w1 ? size_of(w1, 0) : size_of(a1, 0), cols = w1 ? size_of(w1, 1) : size_of(b1, 1);
    int64_t r1 = size_of(b1, 0), r2 = size_of(b2, 0);
    l->rank = w1 ? w2 ? 0 : r2 : r1;
    if (rows < 1 || cols < 1 || t->out % rows || t->in % cols)
        return w1 ? SD_NETWORK_W1 : SD_NETWORK_W1_A;
    int64_t out = t->out / rows, in = t->in / cols;
    if (w1 && !shaped(w1, rows, cols, 1))
        return SD_NETWORK_W1;
    if (!w1 && (r1 < 1 || !shaped(a1, rows, r1, 1) || !shaped(b1, r1, cols, 1)))
        return SD_NETWORK_W1_B;
    if (w2)
        return shaped(w2, out, in, t->kernel) ? SD_NETWORK_PARTS : SD_NETWORK_W2;
    if (!a2 || !(cp ? shaped(a2, r2, out, 1) : shaped(a2, out, r2, 1)))
        return SD_NETWORK_W2_A;
    if (r2 < 1 || !(cp ? shaped(b2, r2, in, 1) : flat_or_shaped(b2, r2, in, t->kernel)))
        return SD_NETWORK_W2_B;
    return cp && !shaped(p[SD_NETWORK_T2], r2, r2, t->kernel) ? SD_NETWORK_T2 : SD_NETWORK_PARTS;
}

static enum sd_network_part check_oft(struct sd_network_layer *l)
{
    const struct sd_store_entry *e = l->part[SD_NETWORK_BLOCKS];
    int64_t n = size_of(e, 0), out = l->target->out;
    l->rank = n;
    bool fits = e->ndim == 3 && n > 0 && out % n == 0 && e->shape[1] == out / n && e->shape[2] == out / n;
    return fits ? SD_NETWORK_PARTS : SD_NETWORK_BLOCKS;
}

static const char *leaf_of(const struct sd_network_layer *l, enum sd_network_part part)
{
    for (int i = 0; i < LEAVES; i++)
        if (leaves[i].part == part && (leaves[i].kind == l->kind || part <= SD_NETWORK_MID))
            return leaves[i].leaf;
    return "";
}

static int check_layer(const struct sd_network_file *f, struct sd_network_layer *l, struct sd_err *err)
{
    static enum sd_network_part (*const checks[])(struct sd_network_layer *) = {
        check_lora, check_lora, check_loha, check_lokr, check_oft};
    enum sd_network_part bad = checks[l->kind](l);
    const struct sd_target *t = l->target;
    char text[96];
    if (bad != SD_NETWORK_PARTS && !l->part[bad])
        return sd_err_set(err, SD_ERR_DATA, "%s: %s%s is missing", sd_tensor_file_path(f->tensors), t->name,
                          leaf_of(l, bad));
    if (bad != SD_NETWORK_PARTS)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: %s is %s, which does not fit the %s of a layer from %lld to %lld",
                          sd_tensor_file_path(f->tensors), l->part[bad]->name,
                          sd_store_shape_text(l->part[bad]->ndim, l->part[bad]->shape, text, sizeof text),
                          sd_network_kind_name(l->kind), (long long)t->in, (long long)t->out);
    if (l->kind != SD_NETWORK_LOKR && l->rank < 1)
        return sd_err_set(err, SD_ERR_DATA, "%s: %s has no rank", sd_tensor_file_path(f->tensors), t->name);
    return 0;
}

/* --- keys */

/* A layer of the model, while keys are sorted in. */
struct slot {
    const struct sd_target *target;
    const struct sd_store_entry *alpha, *part[SD_NETWORK_PARTS];
    bool used;
    enum sd_network_kind kind;
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct slot *)a)->target->name, ((const struct slot *)b)->target->name);
}

/* The layer whose name is text[0..len), which is spelt with prefix "oft" in OFT files. */
static struct slot *find_slot(struct slot *slots, size_t n, const char *text, size_t len)
{
    bool oft = len > 4 && !memcmp(text, "oft_", 4);
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        const char *name = slots[mid].target->name;
        int c = oft ? strncmp("lora", name, 4) : 0;
        if (!c)
            c = oft ? strncmp(text + 3, name + 4, len - 3) : strncmp(text, name, len);
        if (!c && name[len + oft])
            c = -1;
        if (!c)
            return &slots[mid];
        *(c < 0 ? &high : &low) = c < 0 ? mid : mid + 1;
    }
    return NULL;
}

static int take_key(struct sd_network_file *f, struct slot *slots, size_t n, const struct sd_store_entry *e,
                    struct sd_lora_report *report, struct sd_err *err)
{
    size_t len = strcspn(e->name, "."), used = strlen(report->first);
    struct slot *s = find_slot(slots, n, e->name, len);
    int i = 0;
    if (!s) {
        if (report->unmatched++ < 4 &&
            used + strlen(e->name) + 3 <= sizeof report->first) /* whole names only */
            snprintf(report->first + used, sizeof report->first - used, "%s%s", used ? ", " : "", e->name);
        return 0;
    }
    while (i < LEAVES && strcmp(leaves[i].leaf, e->name + len))
        i++;
    if (i == LEAVES)
        return sd_err_set(
            err, SD_ERR_DATA,
            "%s: %s: there is no \"%s\" in a LoRA, LoCon, LoHa, LoKr or OFT; other networks cannot "
            "be applied",
            sd_tensor_file_path(f->tensors), e->name, e->name[len] ? e->name + len + 1 : "");
    if (leaves[i].part == SD_NETWORK_PARTS) {
        s->alpha = e;
        return 0;
    }
    bool lora = leaves[i].kind <= SD_NETWORK_LOCON;
    if (s->used && (s->kind <= SD_NETWORK_LOCON ? !lora : s->kind != leaves[i].kind))
        return sd_err_set(err, SD_ERR_DATA, "%s: %s is of both a %s and a %s",
                          sd_tensor_file_path(f->tensors), s->target->name, sd_network_kind_name(s->kind),
                          sd_network_kind_name(leaves[i].kind));
    if (!s->used || leaves[i].kind > s->kind)
        s->kind = leaves[i].kind;
    s->used = true;
    s->part[leaves[i].part] = e;
    return 0;
}

static int make_layer(struct sd_network_file *f, const struct slot *s, struct sd_err *err)
{
    struct sd_network_layer *l = &f->layers[f->count++];
    *l = (struct sd_network_layer){.target = s->target, .kind = s->kind};
    memcpy(l->part, s->part, sizeof l->part);
    if (check_layer(f, l, err))
        return -1;
    l->alpha = l->kind == SD_NETWORK_OFT ? INFINITY : (float)l->rank;
    if (s->alpha && s->alpha->bytes != sd_store_dtype_bytes(s->alpha->dtype))
        return sd_err_set(err, SD_ERR_DATA, "%s: %s is no single number", sd_tensor_file_path(f->tensors),
                          s->alpha->name);
    if (s->alpha)
        sd_store_to_f32(s->alpha->dtype, s->alpha->data, 1, &l->alpha);
    if (l->alpha == 0 && l->kind != SD_NETWORK_OFT)
        l->alpha = (float)l->rank;
    l->scale = l->rank && l->kind != SD_NETWORK_OFT ? (float)((double)l->alpha / (double)l->rank) : 1;
    return 0;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct sd_network_layer *)a)->target->path,
                  ((const struct sd_network_layer *)b)->target->path);
}

static int relate(struct sd_network_file *f, const struct sd_model_config *c, struct sd_lora_report *report,
                  struct sd_err *err)
{
    struct sd_target *targets;
    size_t n;
    if (sd_layers(c, &f->arena, &targets, &n, err))
        return -1;
    struct slot *slots = calloc(n + 1, sizeof *slots);
    f->layers = sd_arena_array(&f->arena, n + 1, sizeof *f->layers);
    if (!slots || !f->layers) {
        free(slots);
        return sd_err_memory(err, n * sizeof *slots);
    }
    for (size_t i = 0; i < n; i++)
        slots[i].target = &targets[i];
    if (n)
        qsort(slots, n, sizeof *slots, by_name);
    int rc = 0;
    for (size_t i = 0; i < sd_tensor_file_count(f->tensors) && !rc; i++)
        rc = take_key(f, slots, n, sd_tensor_file_entry(f->tensors, i), report, err);
    for (size_t i = 0; i < n && !rc; i++)
        if (slots[i].used)
            rc = make_layer(f, &slots[i], err);
    free(slots);
    if (f->count)
        qsort(f->layers, f->count, sizeof *f->layers, by_path);
    report->modules = f->count;
    return rc;
}

/* Takes tf over; rc tells whether it could be opened. */
static int finish(struct sd_network_file **file, const struct sd_model_config *c, struct sd_tensor_file *tf,
                  int rc, struct sd_lora_report *report, struct sd_err *err)
{
    struct sd_network_file *f = rc ? NULL : calloc(1, sizeof *f);
    *report = (struct sd_lora_report){0};
    *file = NULL;
    if (rc)
        return -1;
    if (!f) {
        sd_tensor_file_close(tf);
        return sd_err_memory(err, sizeof *f);
    }
    f->tensors = tf;
    if (relate(f, c, report, err)) {
        sd_network_file_close(f);
        return -1;
    }
    *file = f;
    return 0;
}

int sd_network_file_open(struct sd_network_file **file, const struct sd_model_config *c, const char *path,
                         struct sd_lora_report *report, struct sd_err *err)
{
    struct sd_tensor_file *tf;
    int rc = sd_tensor_file_open(&tf, path, err);
    return finish(file, c, tf, rc, report, err);
}

int sd_network_file_parse(struct sd_network_file **file, const struct sd_model_config *c, const void *bytes,
                          size_t size, const char *name, struct sd_lora_report *report, struct sd_err *err)
{
    struct sd_tensor_file *tf;
    int rc = sd_tensor_file_parse(&tf, bytes, size, name, err);
    return finish(file, c, tf, rc, report, err);
}

void sd_network_file_close(struct sd_network_file *f)
{
    if (!f)
        return;
    sd_tensor_file_close(f->tensors);
    sd_arena_free(&f->arena);
    free(f);
}

const struct sd_tensor_file *sd_network_file_tensors(const struct sd_network_file *f)
{
    return f->tensors;
}

size_t sd_network_file_count(const struct sd_network_file *f)
{
    return f->count;
}

const struct sd_network_layer *sd_network_file_layer(const struct sd_network_file *f, size_t i)
{
    return &f->layers[i];
}

const struct sd_network_layer *sd_network_file_find(const struct sd_network_file *f, const char *path)
{
    struct sd_target target = {.path = path};
    struct sd_network_layer key = {.target = &target};
    return f->count ? bsearch(&key, f->layers, f->count, sizeof key, by_path) : NULL;
}

bool sd_network_file_is_lora(const struct sd_network_file *f)
{
    for (size_t i = 0; i < f->count; i++) {
        const struct sd_network_layer *l = &f->layers[i];
        bool flat = l->target->kernel > 1 && l->part[SD_NETWORK_DOWN] && l->part[SD_NETWORK_DOWN]->ndim != 4;
        if (l->kind != SD_NETWORK_LORA || l->target->kind == SD_TARGET_OTHER || flat)
            return false;
    }
    return true;
}
