#include "adapter/network.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_names.h"
#include "adapter/network_private.h"

/* How keys end; an ending stands before those that it ends with itself. */
static const struct {
    const char *ending;
    enum sd_network_role role;
    enum sd_network_type type;
    enum sd_lora_spelling spelling;
} endings[] = {
    {".lora_down.weight", SD_ROLE_DOWN, SD_NETWORK_LORA, SD_LORA_KOHYA},
    {".lora_up.weight", SD_ROLE_UP, SD_NETWORK_LORA, SD_LORA_KOHYA},
    {".lora_mid.weight", SD_ROLE_MID, SD_NETWORK_LORA, SD_LORA_KOHYA},
    {".lora_A.weight", SD_ROLE_DOWN, SD_NETWORK_LORA, SD_LORA_PEFT},
    {".lora_B.weight", SD_ROLE_UP, SD_NETWORK_LORA, SD_LORA_PEFT},
    {".lora_A.default.weight", SD_ROLE_DOWN, SD_NETWORK_LORA, SD_LORA_PEFT_DEFAULT},
    {".lora_B.default.weight", SD_ROLE_UP, SD_NETWORK_LORA, SD_LORA_PEFT_DEFAULT},
    {".lora.down.weight", SD_ROLE_DOWN, SD_NETWORK_LORA, SD_LORA_DIFFUSERS},
    {".lora.up.weight", SD_ROLE_UP, SD_NETWORK_LORA, SD_LORA_DIFFUSERS},
    {".lora_linear_layer.down.weight", SD_ROLE_DOWN, SD_NETWORK_LORA, SD_LORA_DIFFUSERS_TEXT},
    {".lora_linear_layer.up.weight", SD_ROLE_UP, SD_NETWORK_LORA, SD_LORA_DIFFUSERS_TEXT},
    {"_lora.down.weight", SD_ROLE_DOWN, SD_NETWORK_LORA, SD_LORA_PROCESSOR},
    {"_lora.up.weight", SD_ROLE_UP, SD_NETWORK_LORA, SD_LORA_PROCESSOR},
    {".down.weight", SD_ROLE_DOWN, SD_NETWORK_LORA, SD_LORA_CONTROL},
    {".up.weight", SD_ROLE_UP, SD_NETWORK_LORA, SD_LORA_CONTROL},
    {".alpha", SD_ROLE_ALPHA, SD_NETWORK_OTHER, 0},
    {".dora_scale", SD_ROLE_DORA, SD_NETWORK_OTHER, 0},
    {".lora_magnitude_vector", SD_ROLE_DORA, SD_NETWORK_OTHER, 0},
    {".hada_w1_a", SD_ROLE_W1_A, SD_NETWORK_LOHA, 0},
    {".hada_w1_b", SD_ROLE_W1_B, SD_NETWORK_LOHA, 0},
    {".hada_w2_a", SD_ROLE_W2_A, SD_NETWORK_LOHA, 0},
    {".hada_w2_b", SD_ROLE_W2_B, SD_NETWORK_LOHA, 0},
    {".hada_t1", SD_ROLE_T1, SD_NETWORK_LOHA, 0},
    {".hada_t2", SD_ROLE_T2, SD_NETWORK_LOHA, 0},
    {".lokr_w1", SD_ROLE_W1, SD_NETWORK_LOKR, 0},
    {".lokr_w1_a", SD_ROLE_W1_A, SD_NETWORK_LOKR, 0},
    {".lokr_w1_b", SD_ROLE_W1_B, SD_NETWORK_LOKR, 0},
    {".lokr_w2", SD_ROLE_W2, SD_NETWORK_LOKR, 0},
    {".lokr_w2_a", SD_ROLE_W2_A, SD_NETWORK_LOKR, 0},
    {".lokr_w2_b", SD_ROLE_W2_B, SD_NETWORK_LOKR, 0},
    {".lokr_t2", SD_ROLE_T2, SD_NETWORK_LOKR, 0},
    {".diff", SD_ROLE_DIFF, SD_NETWORK_DIFF, 0},
    {".diff_b", SD_ROLE_DIFF_B, SD_NETWORK_OTHER, 0},
    {".oft_blocks", SD_ROLE_OFT, SD_NETWORK_OFT, 0},
    {".oft_diag", SD_ROLE_OFT, SD_NETWORK_OFT, 0},
    {".oft_R.weight", SD_ROLE_OFT, SD_NETWORK_OFT, 0},
    {".w_norm", SD_ROLE_W_NORM, SD_NETWORK_OTHER, 0},
    {".b_norm", SD_ROLE_B_NORM, SD_NETWORK_OTHER, 0},
};

enum { ENDINGS = sizeof endings / sizeof *endings };

const struct sd_network_factor sd_network_factors[SD_NETWORK_DIFF + 1][2] = {
    [SD_NETWORK_LORA] = {{SD_ROLE_NONE, SD_ROLE_UP, SD_ROLE_DOWN, SD_ROLE_MID, false}},
    [SD_NETWORK_LOHA] = {{SD_ROLE_NONE, SD_ROLE_W1_A, SD_ROLE_W1_B, SD_ROLE_T1, true},
                         {SD_ROLE_NONE, SD_ROLE_W2_A, SD_ROLE_W2_B, SD_ROLE_T2, true}},
    [SD_NETWORK_LOKR] = {{SD_ROLE_W1, SD_ROLE_W1_A, SD_ROLE_W1_B, SD_ROLE_NONE, false},
                         {SD_ROLE_W2, SD_ROLE_W2_A, SD_ROLE_W2_B, SD_ROLE_T2, true}},
    [SD_NETWORK_DIFF] = {{SD_ROLE_DIFF, SD_ROLE_NONE, SD_ROLE_NONE, SD_ROLE_NONE, false}},
};

const char *sd_network_type_name(enum sd_network_type t)
{
    static const char *const names[] = {"lora", "loha", "lokr", "diff", "oft", "other"};
    return names[t];
}

const char *sd_network_kind_name(enum sd_network_type t)
{
    static const char *const names[] = {"LoRA", "LoHa", "LoKr", "full difference", "OFT", "unknown network"};
    return names[t];
}

const char *sd_network_role_name(enum sd_network_role r)
{
    static const char *const names[SD_ROLES] = {"down", "up",   "mid",    "alpha", "dora_scale", "w1",
                                                "w1_a", "w1_b", "w2",     "w2_a",  "w2_b",       "t1",
                                                "t2",   "diff", "diff_b", "oft",   "w_norm",     "b_norm"};
    return names[r];
}

/* How a tensor's key ends in a module of this type and spelling. */
static const char *ending_for(enum sd_network_type t, enum sd_lora_spelling s, enum sd_network_role r)
{
    int i = 0;
    while (endings[i].role != r || (endings[i].type != t && endings[i].type != SD_NETWORK_OTHER) ||
           (t == SD_NETWORK_LORA && r <= SD_ROLE_UP && endings[i].spelling != s))
        i++;
    return endings[i].ending;
}

const char *sd_lora_down_ending(enum sd_lora_spelling s)
{
    return ending_for(SD_NETWORK_LORA, s, SD_ROLE_DOWN);
}

const char *sd_lora_up_ending(enum sd_lora_spelling s)
{
    return ending_for(SD_NETWORK_LORA, s, SD_ROLE_UP);
}

/* The row of endings that key ends with, or -1. */
static int ending_of(const char *key)
{
    size_t n = strlen(key);
    for (int i = 0; i < ENDINGS; i++) {
        size_t k = strlen(endings[i].ending);
        if (n > k && !strcmp(key + n - k, endings[i].ending))
            return i;
    }
    return -1;
}

enum sd_network_type sd_network_type_of(const char *key)
{
    int i = ending_of(key);
    bool vague = i >= 0 && endings[i].spelling == SD_LORA_CONTROL; /* models have such names too */
    return i < 0 || vague ? SD_NETWORK_OTHER : endings[i].type;
}

/* ---- shapes ---- */

#define LARGEST ((int64_t)1 << 24) /* a row or column of a layer */
#define LARGEST_RANK ((int64_t)1 << 16)
#define LARGEST_FACTOR ((int64_t)1 << 28) /* elements of a factor with its core */
#define LARGEST_LAYER ((int64_t)1 << 33)

/* Elements in the dimensions from..; 0 when there are none, or too many to be a layer's. */
static int64_t product(const struct sd_store_entry *e, int from)
{
    int64_t n = 1;
    for (int i = from; i < e->ndim; i++) {
        if (e->shape[i] < 1 || e->shape[i] > LARGEST / n)
            return 0;
        n *= e->shape[i];
    }
    return n;
}

static int64_t dim(const struct sd_store_entry *e, int i)
{
    return i < e->ndim ? e->shape[i] : 1;
}

/* cols has the window in it. */
struct size {
    int64_t rows, cols, rank, window, kernel;
};

static void measure_window(struct size *s, const struct sd_store_entry *e)
{
    s->window = product(e, 2);
    s->kernel = s->window == 1 ? 1 : e->ndim == 4 && e->shape[2] == e->shape[3] ? e->shape[2] : 0;
}

/* The role of the tensor that is missing or does not fit the others; SD_ROLE_NONE: they fit. */
static enum sd_network_role measure(const struct sd_store_entry *const *tensor,
                                    const struct sd_network_factor *f, struct size *s)
{
    const struct sd_store_entry *whole = tensor[f->whole], *a = tensor[f->a], *b = tensor[f->b],
                                *t = tensor[f->core];
    *s = (struct size){0};
    if (whole) {
        s->rows = dim(whole, 0);
        s->cols = product(whole, 1);
        measure_window(s, whole);
        return s->rows > 0 && s->rows <= LARGEST && s->cols > 0 ? SD_ROLE_NONE : f->whole;
    }
    if (!a || !b)
        return f->b == SD_ROLE_NONE || (!a && !b && f->whole != SD_ROLE_NONE) ? f->whole : b ? f->a : f->b;
    bool turned = f->turned && t;
    s->rank = dim(b, 0);
    s->cols = product(b, 1);
    if (b->ndim < 2 || s->rank < 1 || s->rank > LARGEST_RANK || s->cols < 1)
        return f->b;
    s->rows = turned ? product(a, 1) : dim(a, 0);
    if (a->ndim < 2 || s->rows < 1 || s->rows > LARGEST || (turned ? dim(a, 0) : product(a, 1)) != s->rank)
        return f->a;
    measure_window(s, b);
    if (!t)
        return SD_ROLE_NONE;
    if (s->window != 1)
        return f->b;
    measure_window(s, t);
    if (dim(t, 0) != s->rank || dim(t, 1) != s->rank || s->window < 1 || s->cols > LARGEST / s->window)
        return f->core;
    s->cols *= s->window;
    return s->cols > LARGEST_FACTOR / s->rank ? f->core : SD_ROLE_NONE;
}

/* Sizes of a module from its tensors' shapes; the role as above. */
static enum sd_network_role size_module(struct sd_network_module *m)
{
    const struct sd_network_factor *f = sd_network_factors[m->type];
    struct size a, b;
    enum sd_network_role bad = measure(m->tensor, &f[0], &a);
    if (bad == SD_ROLE_NONE && sd_network_has_two(m->type))
        bad = measure(m->tensor, &f[1], &b);
    if (bad != SD_ROLE_NONE)
        return bad;
    if (m->type == SD_NETWORK_LOHA && (a.rows != b.rows || a.cols != b.cols))
        return f[1].b;
    if (m->type == SD_NETWORK_LOKR) {
        if (a.rows > LARGEST / b.rows || a.cols > LARGEST / b.cols)
            return m->tensor[f[1].whole] ? f[1].whole : f[1].b;
        a.rows *= b.rows;
        a.cols *= b.cols;
        a.window = b.window;
        a.kernel = b.kernel;
        a.rank = a.rank ? a.rank : b.rank;
    }
    if (a.cols > LARGEST_LAYER / a.rows)
        return m->tensor[f->whole] ? f->whole : f->a;
    m->rank = a.rank;
    m->out = a.rows;
    m->in = a.cols / a.window;
    m->window = a.window;
    m->kernel = a.kernel;
    return SD_ROLE_NONE;
}

/* ---- modules ---- */

/* A module that cannot be used; the first fault stays. */
static void refuse(struct sd_network_module *m, const char *fault)
{
    m->fault = m->fault ? m->fault : fault ? fault : "memory is out";
    m->has_delta = false;
    m->rank = m->out = m->in = m->window = m->kernel = 0;
}

/* bad is missing, or does not fit. */
static void refuse_tensor(struct sd_network *n, struct sd_network_module *m, enum sd_network_role bad)
{
    const struct sd_store_entry *e = m->tensor[bad];
    char text[96];
    if (!e)
        refuse(m,
               sd_arena_printf(&n->arena, "%s%s is missing", m->name, ending_for(m->type, m->spelling, bad)));
    else
        refuse(m, sd_arena_printf(&n->arena, "%s is %s, expected a shape that fits the others of its module",
                                  e->name, sd_store_shape_text(e->ndim, e->shape, text, sizeof text)));
}

static void read_alpha(struct sd_network *n, struct sd_network_module *m)
{
    const struct sd_store_entry *e = m->tensor[SD_ROLE_ALPHA];
    float value = (float)m->rank;
    bool one = !e || e->bytes == sd_store_dtype_bytes(e->dtype);
    if (e && one)
        sd_store_to_f32(e->dtype, e->data, 1, &value);
    if (!one || isnan(value) || (isinf(value) && m->type != SD_NETWORK_OFT))
        refuse(m, sd_arena_printf(&n->arena, "%s is no single number", e->name));
    m->alpha = (double)value;
    m->scale = m->rank ? m->alpha / (double)m->rank : 1;
}

static void finish_module(struct sd_network *n, struct sd_network_module *m)
{
    m->dora = m->tensor[SD_ROLE_DORA];
    if (m->type <= SD_NETWORK_DIFF && !m->fault) {
        enum sd_network_role bad = size_module(m);
        m->has_delta = bad == SD_ROLE_NONE;
        if (bad != SD_ROLE_NONE)
            refuse_tensor(n, m, bad);
    }
    read_alpha(n, m);
}

struct key {
    const struct sd_store_entry *entry;
    size_t index; /* of entry */
    const char *name, *place;
    int ending;
};

static int by_module(const void *pa, const void *pb)
{
    const struct key *a = pa, *b = pb;
    int order = strcmp(a->place, b->place);
    order = order ? order : strcmp(a->name, b->name);
    return order ? order : a->ending - b->ending;
}

/* Puts the key's tensor into its module. */
static void add_tensor(struct sd_network *n, struct sd_network_module *m, const struct key *k)
{
    enum sd_network_role role = endings[k->ending].role;
    enum sd_network_type type = endings[k->ending].type;
    enum sd_lora_spelling spelling = endings[k->ending].spelling;
    bool lora = type == SD_NETWORK_LORA && m->type == SD_NETWORK_LORA;
    if (m->tensor[role] || (lora && spelling != m->spelling)) {
        refuse(m, sd_arena_printf(&n->arena, "%s is there in two spellings", m->name));
    } else if (type != SD_NETWORK_OTHER && m->type != SD_NETWORK_OTHER && type != m->type) {
        refuse(m, sd_arena_printf(&n->arena, "%s is of both a %s and a %s", m->name,
                                  sd_network_kind_name(m->type), sd_network_kind_name(type)));
    } else if (type != SD_NETWORK_OTHER) {
        m->type = type;
        m->spelling = spelling;
    }
    n->of[k->index] = m;
    if (!m->tensor[role])
        m->tensor[role] = k->entry;
}

static void group(struct sd_network *n, struct key *keys, size_t count)
{
    if (count)
        qsort(keys, count, sizeof *keys, by_module);
    for (size_t i = 0; i < count;) {
        struct sd_network_module *m = &n->modules[n->count++];
        *m = (struct sd_network_module){
            .name = keys[i].name, .place = keys[i].place, .type = SD_NETWORK_OTHER};
        for (; i < count && !strcmp(keys[i].name, m->name); i++)
            add_tensor(n, m, &keys[i]);
        if ((m > n->modules && !strcmp(m[-1].place, m->place)) ||
            (i < count && !strcmp(keys[i].place, m->place)))
            refuse(m, sd_arena_printf(&n->arena, "%s is there in two spellings", m->place));
        finish_module(n, m);
    }
}

static enum sd_network_role first_role(const struct sd_network_module *m)
{
    int r = 0;
    while (!m->tensor[r])
        r++;
    return (enum sd_network_role)r;
}

/* The tensor with its values in memory where the file does not hold them as they are (compressed, strided);
 * these may not come to more than the file. NULL is an error. */
static const struct sd_store_entry *unpack(struct sd_network *n, const struct sd_store_entry *e,
                                           struct sd_err *err)
{
    if (e->data || !e->bytes)
        return e;
    n->unpacked += e->bytes;
    if (n->unpacked > sd_tensor_file_size(n->file)) {
        sd_err_set(err, SD_ERR_DATA, "%s: its tensors are larger than the file when they are unpacked",
                   sd_tensor_file_path(n->file));
        return NULL;
    }
    struct sd_store_entry *copy = sd_arena_alloc(&n->arena, sizeof *copy);
    void *data = sd_arena_alloc(&n->arena, e->bytes);
    if (!copy || !data) {
        sd_err_memory(err, e->bytes);
        return NULL;
    }
    *copy = *e;
    copy->data = data;
    copy->mapped = false;
    return sd_tensor_file_read(n->file, e, data, err) ? NULL : copy;
}

/* 1, 0 when it is no tensor of a module, -1. */
static int make_key(struct sd_network *n, size_t index, struct key *k, struct sd_buf *scratch,
                    struct sd_err *err)
{
    const struct sd_store_entry *e = sd_tensor_file_entry(n->file, index);
    *k = (struct key){.index = index, .ending = ending_of(e->name)};
    if (k->ending < 0)
        return 0;
    if (!(k->entry = unpack(n, e, err)))
        return -1;
    k->name = sd_arena_strndup(&n->arena, e->name, strlen(e->name) - strlen(endings[k->ending].ending));
    if (!k->name || sd_network_place(k->name, scratch) < 0 ||
        !(k->place = sd_arena_strdup(&n->arena, scratch->data)))
        return sd_err_memory(err, strlen(e->name));
    return 1;
}

/* Finds the modules of n->file. */
static int read_modules(struct sd_network *n, struct key *keys, size_t count, struct sd_err *err)
{
    struct sd_buf scratch = SD_BUF_INIT;
    size_t used = 0, placed = 0;
    int rc = 0;
    for (size_t i = 0; i < count && rc >= 0; i++) {
        rc = make_key(n, i, &keys[used], &scratch, err);
        used += rc > 0;
        n->others += !rc;
    }
    sd_buf_free(&scratch);
    if (rc < 0)
        return -1;
    group(n, keys, used);
    for (size_t i = 0; i < count; i++) {
        struct sd_network_module *m = n->of[i];
        if (m && m->tensor[first_role(m)]->name == sd_tensor_file_entry(n->file, i)->name)
            n->order[placed++] = m;
    }
    return 0;
}

/* Takes n->file over, which opened says whether there is; on failure n is closed. */
static int read_file(struct sd_network *n, int opened, struct sd_err *err)
{
    if (opened)
        return -1;
    size_t count = sd_tensor_file_count(n->file);
    struct key *keys = calloc(count + 1, sizeof *keys);
    n->modules = sd_arena_array(&n->arena, count + 1, sizeof *n->modules);
    n->order = sd_arena_array(&n->arena, count + 1, sizeof *n->order);
    n->of = sd_arena_array(&n->arena, count + 1, sizeof *n->of);
    int rc = keys && n->modules && n->order && n->of ? read_modules(n, keys, count, err)
                                                     : sd_err_memory(err, count * sizeof *n->modules);
    free(keys);
    if (rc)
        sd_network_close(n);
    return rc;
}

int sd_network_open(struct sd_network *n, const char *path, struct sd_err *err)
{
    *n = (struct sd_network){0};
    return read_file(n, sd_tensor_file_open(&n->file, path, err), err);
}

int sd_network_parse(struct sd_network *n, const void *bytes, size_t size, const char *name,
                     struct sd_err *err)
{
    *n = (struct sd_network){0};
    return read_file(n, sd_tensor_file_parse(&n->file, bytes, size, name, err), err);
}

void sd_network_close(struct sd_network *n)
{
    sd_tensor_file_close(n->file);
    sd_arena_free(&n->arena);
    *n = (struct sd_network){0};
}

int sd_network_some(const struct sd_network *n, struct sd_err *err)
{
    return n->count ? 0
                    : sd_err_set(err, SD_ERR_DATA, "%s: no tensor in it is of a LoRA or similar network",
                                 sd_tensor_file_path(n->file));
}

static int by_place(const void *a, const void *b)
{
    return strcmp(((const struct sd_network_module *)a)->place, ((const struct sd_network_module *)b)->place);
}

struct sd_network_module *sd_network_find(const struct sd_network *n, const char *place)
{
    struct sd_network_module key = {.place = place};
    return n->count ? bsearch(&key, n->modules, n->count, sizeof key, by_place) : NULL;
}
