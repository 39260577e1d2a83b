#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "store/torch_private.h"

#define MOST_DEPTH 32
#define MOST_NAME 65536

/* A walk through saved values. They may contain themselves and each other many times over: depth, steps and
 * memory have limits, the latter two by the pickle's size. */
struct walk {
    struct sd_tensor_file *tf;
    struct sd_pickle *saved;
    const struct sd_torch_blobs *blobs;
    struct sd_buf name;
    size_t steps;
    struct sd_err *err;
};

static int spend(struct walk *w, size_t bytes)
{
    return sd_pickle_spend(w->saved, bytes, w->err) ? sd_err_prefix(w->err, "%s", w->tf->path) : 0;
}

static void *array(struct walk *w, size_t count, size_t size)
{
    if (spend(w, count * size)) /* of values that there are */
        return NULL;
    void *p = sd_arena_array(&w->tf->arena, count, size);
    if (!p)
        sd_err_memory(w->err, count * size);
    return p;
}

/* A copy of text in the file's arena. NULL after an error. */
static const char *keep(struct walk *w, const char *text, size_t len)
{
    char *copy = array(w, len + 1, 1);
    return copy ? memcpy(copy, text, len) : NULL;
}

/* ---- one tensor ---- */

static bool contiguous(const struct sd_pickle_tensor *t)
{
    int64_t want = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != want)
            return false;
        want *= t->shape[i]; /* all together fit into 2^62 */
    }
    return true;
}

/* How many elements of the storage a tensor reaches over, from its first to its last; it has one at least. */
static bool span(const struct sd_pickle_tensor *t, uint64_t *elements)
{
    *elements = 1;
    for (int i = 0; i < t->ndim; i++) {
        uint64_t step;
        if (__builtin_mul_overflow((uint64_t)t->shape[i] - 1, (uint64_t)t->stride[i], &step) ||
            __builtin_add_overflow(*elements, step, elements))
            return false;
    }
    return true;
}

static const struct sd_torch_blob *blob_of(struct walk *w, const struct sd_pickle_storage *s)
{
    const struct sd_torch_blob *blob = sd_torch_find_blob(w->blobs, s->key, s->key_len);
    if (!blob)
        sd_err_set(w->err, SD_ERR_DATA, "storage \"%.*s\" is not in the file", sd_torch_shown(s->key_len),
                   s->key);
    else if (s->elements > blob->bytes || s->elements * sd_store_dtype_bytes(s->dtype) != blob->bytes) {
        sd_err_set(w->err, SD_ERR_DATA,
                   "storage \"%.*s\" is said to have %" PRIu64 " elements of %s, but has %" PRIu64 " bytes",
                   sd_torch_shown(s->key_len), s->key, s->elements, sd_store_dtype_name(s->dtype),
                   blob->bytes);
        blob = NULL;
    }
    return blob;
}

/* Where the tensor's first element lies in its storage, in bytes; checks that all of it lies there. */
static int place(struct walk *w, const struct sd_pickle_tensor *t, const struct sd_torch_blob *blob,
                 int64_t bytes, uint64_t *first)
{
    size_t size = sd_store_dtype_bytes(t->dtype);
    uint64_t reach = 0, room = blob->bytes / size;
    char text[96];
    sd_store_shape_text(t->ndim, t->shape, text, sizeof text);
    *first = 0;
    if (!bytes)
        return 0;
    if (__builtin_add_overflow(t->offset, t->storage->view, first) || *first > room || !span(t, &reach) ||
        reach > room - *first)
        return sd_err_set(w->err, SD_ERR_DATA,
                          "shape %s from element %" PRIu64 " on reaches outside of its storage "
                          "of %" PRIu64 " elements",
                          text, t->offset, room);
    if ((uint64_t)bytes > blob->bytes)
        return sd_err_set(w->err, SD_ERR_DATA, "shape %s repeats its storage of %" PRIu64 " elements", text,
                          room);
    *first *= size;
    return 0;
}

static int fill_slot(struct walk *w, struct sd_tensor_slot *s, const struct sd_pickle_tensor *t)
{
    char text[96];
    int64_t bytes = sd_store_bytes(t->dtype, t->ndim, t->shape);
    if (bytes < 0)
        return sd_err_set(w->err, SD_ERR_DATA, "shape %s of %s is too large",
                          sd_store_shape_text(t->ndim, t->shape, text, sizeof text),
                          sd_store_dtype_name(t->dtype));
    uint64_t first;
    const struct sd_torch_blob *blob = blob_of(w, t->storage);
    if (!blob || place(w, t, blob, bytes, &first))
        return -1;
    size_t n = (size_t)t->ndim;
    int64_t *dims = array(w, 2 * n, sizeof *dims);
    if (!dims)
        return -1;
    if (n) {
        memcpy(dims, t->shape, n * sizeof *dims);
        memcpy(dims + n, t->stride, n * sizeof *dims);
    }
    s->e.dtype = t->dtype;
    s->e.ndim = t->ndim;
    s->e.shape = dims;
    s->e.bytes = (size_t)bytes;
    s->from = blob->data + first;
    s->e.offset = (uint64_t)(s->from - w->tf->map.data);
    if (!bytes || contiguous(t))
        s->e.data = s->from;
    else
        s->stride = dims + t->ndim;
    return 0;
}

static int add_tensor(struct walk *w, const struct sd_pickle_tensor *t)
{
    const char *text = w->name.len ? w->name.data : "tensor"; /* one that was saved alone */
    size_t len = w->name.len ? w->name.len : strlen(text);
    if (memchr(text, 0, len) || !sd_utf8_valid(text, len))
        return sd_err_set(w->err, SD_ERR_DATA, "%s: a tensor's name is not UTF-8, or has a NUL in it",
                          w->tf->path);
    struct sd_tensor_slot *s = NULL;
    if (!spend(w, 2 * sizeof *s + sizeof *w->tf->by_name)) /* a growing array of them, and the index */
        s = sd_tensor_file_add(w->tf, w->err);
    if (!s || !(s->e.name = keep(w, text, len)))
        return -1;
    const char *name = s->e.name;
    return fill_slot(w, s, t) ? sd_err_prefix(w->err, "%s: tensor \"%.150s\"", w->tf->path, name) : 0;
}

/* ---- all of them ---- */

static int walk_value(struct walk *w, const struct sd_pickle_value *v, int depth);

/* The value under a name that is put behind the one so far. */
static int walk_named(struct walk *w, const struct sd_pickle_value *v, const char *name, size_t len,
                      int depth)
{
    size_t before = w->name.len;
    if (len > MOST_NAME || before > MOST_NAME)
        return sd_err_set(w->err, SD_ERR_DATA, "%s: a name of more than %d bytes", w->tf->path, MOST_NAME);
    if ((before && sd_buf_addc(&w->name, '.')) || sd_buf_add(&w->name, name, len))
        return sd_err_memory(w->err, before + len);
    int rc = walk_value(w, v, depth + 1);
    w->name.len = before;
    if (w->name.data)
        w->name.data[before] = 0;
    return rc;
}

static int walk_numbered(struct walk *w, const struct sd_pickle_value *v, int64_t number, int depth)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, number);
    return walk_named(w, v, text, (size_t)n, depth);
}

static int walk_dict(struct walk *w, const struct sd_pickle_value *dict, int depth)
{
    int rc = 0;
    for (size_t i = 0; i + 1 < dict->count && !rc; i += 2) {
        const struct sd_pickle_value *key = dict->items[i], *v = dict->items[i + 1];
        if (key->kind == SD_PICKLE_STR)
            rc = walk_named(w, v, key->text, key->len, depth);
        else if (key->kind == SD_PICKLE_INT)
            rc = walk_numbered(w, v, key->integer, depth);
    }
    return rc;
}

/* Of the objects, only a ParameterDict has tensors that anybody wants. */
static int walk_object(struct walk *w, const struct sd_pickle_object *o, int depth)
{
    const struct sd_pickle_value *v = sd_pickle_get(o->state, "_parameters");
    if (strcmp(sd_pickle_name(o->class), "ParameterDict") || !v)
        return 0;
    return walk_value(w, v, depth + 1);
}

static int walk_value(struct walk *w, const struct sd_pickle_value *v, int depth)
{
    int rc = 0;
    if (depth > MOST_DEPTH)
        return sd_err_set(w->err, SD_ERR_DATA, "%s: values nested more than %d deep", w->tf->path,
                          MOST_DEPTH);
    if (++w->steps > SD_PICKLE_FACTOR * w->saved->used + SD_PICKLE_ALLOWANCE)
        return sd_err_set(w->err, SD_ERR_DATA,
                          "%s: its values refer to one another too often for a file of its size",
                          w->tf->path);
    switch (v->kind) {
    case SD_PICKLE_TENSOR:
        return add_tensor(w, v->tensor);
    case SD_PICKLE_DICT:
        return walk_dict(w, v, depth);
    case SD_PICKLE_OBJECT:
        return walk_object(w, v->object, depth);
    case SD_PICKLE_LIST:
    case SD_PICKLE_TUPLE:
        for (size_t i = 0; i < v->count && !rc; i++)
            rc = walk_numbered(w, v->items[i], (int64_t)i, depth);
        return rc;
    default:
        return 0;
    }
}

/* ---- metadata ---- */

/* The text of a scalar, or NULL for any other value and for texts that are none. */
static const char *scalar_text(struct walk *w, const struct sd_pickle_value *v, bool *failed)
{
    char text[SD_JSON_DOUBLE_BYTES];
    const char *p = text;
    if (v->kind == SD_PICKLE_STR && v->len && !memchr(v->text, 0, v->len) && sd_utf8_valid(v->text, v->len)) {
        const char *copy = keep(w, v->text, v->len);
        *failed = !copy;
        return copy;
    }
    if (v->kind == SD_PICKLE_INT)
        snprintf(text, sizeof text, "%" PRId64, v->integer);
    else if (v->kind == SD_PICKLE_BOOL)
        p = v->integer ? "true" : "false";
    else if (v->kind == SD_PICKLE_FLOAT)
        p = sd_json_double(text, v->number);
    else
        return NULL;
    p = keep(w, p, strlen(p));
    *failed = !p;
    return p;
}

static int take_metadata(struct walk *w, const struct sd_pickle_value *dict)
{
    struct sd_tensor_file *tf = w->tf;
    if (dict->kind != SD_PICKLE_DICT)
        return 0;
    tf->meta = array(w, dict->count / 2, sizeof *tf->meta);
    if (!tf->meta)
        return -1;
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        bool failed = false;
        const struct sd_pickle_value *key = dict->items[i];
        const char *name = key->kind == SD_PICKLE_STR ? scalar_text(w, key, &failed) : NULL;
        const char *value = name ? scalar_text(w, dict->items[i + 1], &failed) : NULL;
        if (failed)
            return -1;
        if (value)
            tf->meta[tf->meta_count++] = (struct sd_store_meta){name, value};
    }
    return 0;
}

/* ---- */

static bool has_tensor(const struct sd_pickle_value *dict)
{
    bool has = false;
    for (size_t i = 1; i < dict->count && !has; i += 2)
        has = dict->items[i]->kind == SD_PICKLE_TENSOR;
    return has;
}

static const struct sd_pickle_value *weights_of(const struct sd_pickle_value *saved)
{
    static const char *const names[] = {"state_dict", "model_state_dict", "model", "params_ema", "params"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct sd_pickle_value *v = sd_pickle_get(saved, names[i]);
        if (v && v->kind == SD_PICKLE_DICT && has_tensor(v))
            return v;
    }
    return saved;
}

int sd_torch_collect(struct sd_tensor_file *tf, struct sd_pickle *saved, const struct sd_torch_blobs *blobs,
                     struct sd_err *err)
{
    struct walk w = {.tf = tf, .saved = saved, .blobs = blobs, .err = err};
    int rc = take_metadata(&w, saved->value) || walk_value(&w, weights_of(saved->value), 0) ? -1 : 0;
    sd_buf_free(&w.name);
    return rc ? -1 : sd_tensor_file_index(tf, err);
}
