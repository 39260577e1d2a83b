#include "adapter/lora_delta.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_names.h"

/* How keys end. */
static const struct {
    const char *ending;
    enum sd_delta_role role;
    enum sd_delta_type type;
} endings[] = {
    {".lora_down.weight", SD_ROLE_DOWN, SD_DELTA_LORA},
    {".lora_up.weight", SD_ROLE_UP, SD_DELTA_LORA},
    {".lora_mid.weight", SD_ROLE_MID, SD_DELTA_LORA},
    {".lora_A.weight", SD_ROLE_DOWN, SD_DELTA_LORA}, /* PEFT */
    {".lora_B.weight", SD_ROLE_UP, SD_DELTA_LORA},
    {".lora_A.default.weight", SD_ROLE_DOWN, SD_DELTA_LORA},
    {".lora_B.default.weight", SD_ROLE_UP, SD_DELTA_LORA},
    {".lora.down.weight", SD_ROLE_DOWN, SD_DELTA_LORA}, /* diffusers before 0.20 */
    {".lora.up.weight", SD_ROLE_UP, SD_DELTA_LORA},
    {"_lora.down.weight", SD_ROLE_DOWN, SD_DELTA_LORA}, /* diffusers' attention processors */
    {"_lora.up.weight", SD_ROLE_UP, SD_DELTA_LORA},
    {".alpha", SD_ROLE_ALPHA, SD_DELTA_OTHER},
    {".dora_scale", SD_ROLE_DORA, SD_DELTA_OTHER},
    {".lora_magnitude_vector", SD_ROLE_DORA, SD_DELTA_OTHER},
    {".hada_w1_a", SD_ROLE_W1_A, SD_DELTA_LOHA},
    {".hada_w1_b", SD_ROLE_W1_B, SD_DELTA_LOHA},
    {".hada_w2_a", SD_ROLE_W2_A, SD_DELTA_LOHA},
    {".hada_w2_b", SD_ROLE_W2_B, SD_DELTA_LOHA},
    {".hada_t1", SD_ROLE_T1, SD_DELTA_LOHA},
    {".hada_t2", SD_ROLE_T2, SD_DELTA_LOHA},
    {".lokr_w1", SD_ROLE_W1, SD_DELTA_LOKR},
    {".lokr_w1_a", SD_ROLE_W1_A, SD_DELTA_LOKR},
    {".lokr_w1_b", SD_ROLE_W1_B, SD_DELTA_LOKR},
    {".lokr_w2", SD_ROLE_W2, SD_DELTA_LOKR},
    {".lokr_w2_a", SD_ROLE_W2_A, SD_DELTA_LOKR},
    {".lokr_w2_b", SD_ROLE_W2_B, SD_DELTA_LOKR},
    {".lokr_t2", SD_ROLE_T2, SD_DELTA_LOKR},
    {".diff", SD_ROLE_DIFF, SD_DELTA_DIFF},
    {".diff_b", SD_ROLE_DIFF_B, SD_DELTA_OTHER},
    {".oft_blocks", SD_ROLE_OFT, SD_DELTA_OFT},
    {".oft_diag", SD_ROLE_OFT, SD_DELTA_OFT},
    {".oft_R.weight", SD_ROLE_OFT, SD_DELTA_OFT},
    {".w_norm", SD_ROLE_W_NORM, SD_DELTA_OTHER},
    {".b_norm", SD_ROLE_B_NORM, SD_DELTA_OTHER},
};

enum { ENDINGS = sizeof endings / sizeof *endings };

const char *sd_delta_type_name(enum sd_delta_type t)
{
    static const char *const names[] = {"lora", "loha", "lokr", "diff", "oft", "other"};
    return names[t];
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

enum sd_delta_type sd_delta_type_of(const char *key)
{
    int ending = ending_of(key);
    return ending < 0 ? SD_DELTA_OTHER : endings[ending].type;
}

const char *sd_delta_role_name(enum sd_delta_role r)
{
    static const char *const names[SD_ROLES] = {"down", "up",   "mid",    "alpha", "dora_scale", "w1",
                                                "w1_a", "w1_b", "w2",     "w2_a",  "w2_b",       "t1",
                                                "t2",   "diff", "diff_b", "oft",   "w_norm",     "b_norm"};
    return names[r];
}

/* ---- shapes ---- */

#define LARGEST ((int64_t)1 << 24) /* a row or column of a layer */
#define LARGEST_RANK ((int64_t)1 << 16)
#define LARGEST_FACTOR ((int64_t)1 << 28) /* elements of a factor with its core */

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

/* The shape of a matrix: whole, or a [rows,rank] times b [rank,cols]; with a core t [rank,rank,k,k], where a
 * is [rank,rows] if turned. False when they do not fit. *cols has the core's k*k in it, *window is that. */
struct size {
    int64_t rows, cols, rank, window;
};

static bool measure(const struct sd_store_entry *whole, const struct sd_store_entry *a,
                    const struct sd_store_entry *b, const struct sd_store_entry *t, bool turned,
                    struct size *s)
{
    *s = (struct size){0};
    if (whole) {
        s->rows = dim(whole, 0);
        s->cols = product(whole, 1);
        s->window = whole->ndim > 1 ? product(whole, 2) : 1;
    } else if (a && b && a->ndim > 1 && b->ndim > 1) {
        turned = turned && t;
        s->rank = dim(b, 0);
        s->rows = turned ? product(a, 1) : dim(a, 0);
        s->cols = product(b, 1);
        s->window = product(b, 2);
        if (s->rank < 1 || s->rank > LARGEST_RANK || (turned ? dim(a, 0) : product(a, 1)) != s->rank)
            return false;
        if (t) {
            int64_t window = product(t, 2);
            if (dim(t, 0) != s->rank || dim(t, 1) != s->rank || window < 1 || s->window != 1 ||
                s->cols > LARGEST / window)
                return false;
            s->cols *= window;
            s->window = window;
            if (s->cols > LARGEST_FACTOR / s->rank)
                return false;
        }
    }
    return s->rows > 0 && s->rows <= LARGEST && s->cols > 0 && s->window > 0 && s->cols % s->window == 0;
}

static double read_alpha(const struct sd_store_entry *e, double otherwise)
{
    float value = (float)otherwise;
    if (e && e->bytes == sd_store_dtype_bytes(e->dtype))
        sd_store_to_f32(e->dtype, e->data, 1, &value);
    return value;
}

/* Sizes of a module from its tensors' shapes. */
static bool size_module(struct sd_delta_module *m)
{
    const struct sd_store_entry *const *t = m->tensor;
    struct size a, b = {0};
    bool good;
    if (m->type == SD_DELTA_LORA) {
        good = measure(NULL, t[SD_ROLE_UP], t[SD_ROLE_DOWN], t[SD_ROLE_MID], false, &a);
    } else if (m->type == SD_DELTA_LOHA) {
        good = measure(NULL, t[SD_ROLE_W1_A], t[SD_ROLE_W1_B], t[SD_ROLE_T1], true, &a) &&
               measure(NULL, t[SD_ROLE_W2_A], t[SD_ROLE_W2_B], t[SD_ROLE_T2], true, &b) && a.rows == b.rows &&
               a.cols == b.cols;
        /* its second factor's window is lost when a convolution is written as a matrix */
    } else if (m->type == SD_DELTA_LOKR) {
        good = measure(t[SD_ROLE_W1], t[SD_ROLE_W1_A], t[SD_ROLE_W1_B], NULL, false, &a) &&
               measure(t[SD_ROLE_W2], t[SD_ROLE_W2_A], t[SD_ROLE_W2_B], t[SD_ROLE_T2], true, &b) &&
               a.rows <= LARGEST / b.rows && a.cols <= LARGEST / b.cols;
        if (good) {
            a.rows *= b.rows;
            a.cols *= b.cols;
            a.window = b.window;
            a.rank = a.rank ? a.rank : b.rank;
        }
    } else {
        good = measure(t[SD_ROLE_DIFF], NULL, NULL, NULL, false, &a);
    }
    if (!good || a.cols > ((int64_t)1 << 33) / a.rows)
        return false;
    m->rank = a.rank;
    m->out = a.rows;
    m->in = a.cols / a.window;
    m->window = a.window;
    return true;
}

static void finish_module(struct sd_delta_module *m)
{
    m->dora = m->tensor[SD_ROLE_DORA];
    m->has_delta = m->type <= SD_DELTA_DIFF && size_module(m);
    if (m->type <= SD_DELTA_DIFF && !m->has_delta)
        m->fault = "the shapes of its tensors do not fit one another, or one is missing";
    m->alpha = read_alpha(m->tensor[SD_ROLE_ALPHA], (double)m->rank);
    m->scale = m->rank ? m->alpha / (double)m->rank : 1;
}

/* ---- modules ---- */

static char *place_of(struct sd_arena *arena, const char *name)
{
    struct sd_buf b = SD_BUF_INIT;
    char *place = name && sd_network_place(name, &b) >= 0 ? sd_arena_strdup(arena, b.data) : NULL;
    sd_buf_free(&b);
    return place;
}

struct key {
    const struct sd_store_entry *entry;
    size_t len; /* of the module's name */
    int ending;
};

static int by_module(const void *pa, const void *pb)
{
    const struct key *a = pa, *b = pb;
    int order = memcmp(a->entry->name, b->entry->name, a->len < b->len ? a->len : b->len);
    if (order || a->len != b->len)
        return order ? order : a->len < b->len ? -1 : 1;
    return a->ending - b->ending;
}

static int by_place(const void *pa, const void *pb)
{
    const struct sd_delta_module *a = pa, *b = pb;
    int order = strcmp(a->place, b->place);
    return order ? order : strcmp(a->name, b->name);
}

/* The keys of one module, side by side in keys. */
static int add_module(struct sd_delta_file *f, const struct key *keys, size_t n, struct sd_err *err)
{
    struct sd_delta_module *m = &f->modules[f->count];
    *m = (struct sd_delta_module){.type = SD_DELTA_OTHER, .alpha = NAN};
    m->name = sd_arena_printf(&f->arena, "%.*s", (int)keys->len, keys->entry->name);
    m->place = place_of(&f->arena, m->name);
    if (!m->name || !m->place)
        return sd_err_memory(err, keys->len);
    for (size_t i = 0; i < n; i++) {
        m->tensor[endings[keys[i].ending].role] = keys[i].entry;
        if (endings[keys[i].ending].type < m->type)
            m->type = endings[keys[i].ending].type;
        m->peft |= !strncmp(endings[keys[i].ending].ending, ".lora_A", 7);
    }
    finish_module(m);
    f->count++;
    return 0;
}

static int group(struct sd_delta_file *f, struct key *keys, size_t n, struct sd_err *err)
{
    qsort(keys, n, sizeof *keys, by_module);
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && keys[k].len == keys[i].len &&
                        !memcmp(keys[k].entry->name, keys[i].entry->name, keys[i].len);)
            k++;
        if (add_module(f, &keys[i], k - i, err))
            return -1;
    }
    qsort(f->modules, f->count, sizeof *f->modules, by_place);
    return 0;
}

int sd_delta_open(struct sd_delta_file *f, const char *path, struct sd_err *err)
{
    *f = (struct sd_delta_file){0};
    if (sd_tensor_file_open(&f->tf, path, err))
        return -1;
    size_t n = sd_tensor_file_count(f->tf), used = 0;
    struct key *keys = calloc(n + 1, sizeof *keys);
    f->modules = sd_arena_array(&f->arena, n + 1, sizeof *f->modules);
    int rc = keys && f->modules ? 0 : sd_err_memory(err, n * sizeof *f->modules);
    for (size_t i = 0; i < n && !rc; i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(f->tf, i);
        int ending = ending_of(e->name);
        if (ending >= 0)
            keys[used++] = (struct key){e, strlen(e->name) - strlen(endings[ending].ending), ending};
        else if (!f->others++)
            f->first_other = e->name;
    }
    if (!rc && !used)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: no tensor in it is of a LoRA or similar network", path);
    if (!rc)
        rc = group(f, keys, used, err);
    free(keys);
    if (rc)
        sd_delta_close(f);
    return rc;
}

void sd_delta_close(struct sd_delta_file *f)
{
    sd_tensor_file_close(f->tf);
    sd_arena_free(&f->arena);
    *f = (struct sd_delta_file){0};
}
