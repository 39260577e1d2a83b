#include "model/convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/filemap.h"
#include "model/declare.h"
#include "model/layout.h"

#define PIECE 4096 /* numbers converted at a time */

/* Where a tensor's numbers come from: one tensor of the source, three on one another, or, with n 0, ones. */
struct source {
    struct sd_convert *cv;
    enum sd_store_dtype to;
    int n;
    struct sd_store_entry from[3];
};

/* Lets go of every page that these bytes touch: what a neighbour still needs of it is read again. */
static void let_go(const struct sd_store_entry *e, const char *p, size_t bytes)
{
    size_t rim = (size_t)sysconf(_SC_PAGESIZE) - 1;
    if (e->mapped)
        sd_filemap_release(p - rim, bytes + 2 * rim);
}

static uint64_t count_infinite(const uint16_t *half, size_t n)
{
    uint64_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += (half[i] & 0x7fff) == 0x7c00;
    return count;
}

/* Numbers at .. at+count-1 of one source tensor. */
static int convert(struct source *s, const struct sd_store_entry *e, uint64_t at, size_t count, char *dst,
                   struct sd_err *err)
{
    size_t in = sd_store_dtype_bytes(e->dtype), out = sd_store_dtype_bytes(s->to);
    const char *src = (const char *)e->data + at * in;
    float numbers[PIECE];
    uint16_t half[PIECE];
    if (e->dtype == s->to) {
        memcpy(dst, src, count * in);
    } else {
        for (size_t i = 0, n; i < count; i += n) {
            n = count - i < PIECE ? count - i : PIECE;
            sd_store_to_f32(e->dtype, src + i * in, n, numbers);
            if (sd_store_from_f32(s->to, numbers, n, out == 2 ? (void *)half : dst + i * out))
                return sd_err_set(err, SD_ERR_USAGE, "no model is written as %s", sd_store_dtype_name(s->to));
            if (out == 2)
                memcpy(dst + i * out, half, n * out);
            if (s->to == SD_STORE_F16)
                s->cv->infinite += count_infinite(half, n);
        }
    }
    let_go(e, src, count * in);
    return 0;
}

static int fill(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    struct source *s = ctx;
    struct sd_convert *cv = s->cv;
    size_t width = sd_store_dtype_bytes(s->to);
    uint64_t at = offset / width, end = at + bytes / width, first = 0;
    char *to = dst;
    for (int i = 0; i < s->n; i++) {
        const struct sd_store_entry *e = &s->from[i];
        uint64_t count = e->bytes / sd_store_dtype_bytes(e->dtype);
        if (at < first + count && at < end) {
            size_t n = (size_t)((first + count < end ? first + count : end) - at);
            if (convert(s, e, at - first, n, to, err))
                return -1;
            at += n;
            to += n * width;
        }
        first += count;
    }
    for (const float one = 1; !s->n && at < end; at++, to += width)
        if (sd_store_from_f32(s->to, &one, 1, to))
            return sd_err_set(err, SD_ERR_USAGE, "no model is written as %s", sd_store_dtype_name(s->to));
    cv->bytes += bytes;
    if (cv->go_on && !cv->go_on(cv->ctx, cv->bytes, cv->total))
        return sd_err_set(err, SD_ERR_DATA, "stopped");
    return 0;
}

static bool is_float(enum sd_store_dtype d)
{
    return d == SD_STORE_F64 || d == SD_STORE_F32 || d == SD_STORE_F16 || d == SD_STORE_BF16 ||
           d == SD_STORE_F8_E5M2 || d == SD_STORE_F8_E4M3;
}

/* Appends a tensor with its source, whose `to` is set here from the type it has. key is borrowed. */
static int append(struct sd_convert *cv, const char *key, int ndim, const int64_t *shape,
                  const struct source *s, enum sd_store_dtype has, bool as_is, struct sd_err *err)
{
    if (cv->count == cv->cap) {
        size_t cap = cv->cap ? 2 * cv->cap : 2048;
        struct sd_store_tensor *more = realloc(cv->tensors, cap * sizeof *more);
        if (!more)
            return sd_err_memory(err, cap * sizeof *more);
        cv->tensors = more;
        cv->cap = cap;
    }
    struct source *kept = sd_arena_alloc(&cv->arena, sizeof *kept);
    if (!kept)
        return sd_err_memory(err, sizeof *kept);
    *kept = *s;
    kept->cv = cv;
    kept->to = cv->change_dtype && !as_is && is_float(has) ? cv->dtype : has;
    cv->tensors[cv->count++] = (struct sd_store_tensor){
        .name = key, .dtype = kept->to, .ndim = ndim, .shape = shape, .fill = fill, .ctx = kept};
    cv->total += (uint64_t)sd_store_bytes(kept->to, ndim, shape);
    return 0;
}

/* One tensor of a layout from the parameters it holds. */
static int append_params(struct sd_convert *cv, struct sd_model_file *mf, const struct sd_layout_tensor *t,
                         const char *key, struct sd_err *err)
{
    struct source s = {.n = t->params};
    for (int i = 0; i < s.n; i++) {
        if (!t->param[i] || !sd_model_file_find(mf, t->param[i], &s.from[i]))
            return sd_err_set(err, SD_ERR_DATA, "%s: no tensor for \"%.200s\"", sd_model_file_path(mf), key);
        if (s.from[i].dtype != s.from[0].dtype)
            return sd_err_set(err, SD_ERR_DATA,
                              "%s: \"%.200s\" and \"%.200s\" become one tensor and must be of one type",
                              sd_model_file_path(mf), t->param[0], t->param[i]);
    }
    return append(cv, key, t->ndim, t->shape, &s, s.from[0].dtype, false, err);
}

int sd_convert_part(struct sd_convert *cv, struct sd_model_file *mf, enum sd_part part,
                    const struct sd_part_names *names, struct sd_err *err)
{
    struct sd_layout_tensor *list;
    size_t n;
    struct sd_model_config c = *sd_model_file_config(mf);
    if (names->naming == SD_NAMING_LDM && c.text.act == SD_ACT_GELU)
        c.unet.linear_projection = true; /* SD2 has no other; in diffusers' layout sd-scripts writes 1x1
                                            convolutions too */
    if (sd_model_holds(mf, part, err) || sd_layout_part(&c, part, names, &cv->arena, &list, &n, err))
        return -1;
    for (size_t i = 0; i < n; i++)
        if (append_params(cv, mf, &list[i], list[i].key, err))
            return -1;
    return 0;
}

int sd_convert_tensor(struct sd_convert *cv, const char *key, const struct sd_store_entry *from, bool as_is,
                      struct sd_err *err)
{
    struct source s = {.n = 1, .from = {*from}};
    return append(cv, key, from->ndim, from->shape, &s, from->dtype, as_is, err);
}

int sd_convert_unused_openclip(struct sd_convert *cv, struct sd_model_file *mf,
                               const struct sd_part_names *names, struct sd_err *err)
{
    const struct sd_text_config *text = &sd_model_file_config(mf)->text;
    struct sd_layout_tensor *list;
    size_t n, skip = strlen(names->prefix);
    char layer[64], next[64];
    if (sd_layout_part(sd_model_file_config(mf), SD_PART_TEXT, names, &cv->arena, &list, &n, err))
        return -1;
    snprintf(layer, sizeof layer, "transformer.resblocks.%lld.", (long long)text->layers - 1);
    snprintf(next, sizeof next, "transformer.resblocks.%lld.", (long long)text->layers);
    enum sd_store_dtype has = SD_STORE_F32;
    for (size_t i = 0; i < n; i++) {
        struct sd_store_entry e;
        if (strncmp(list[i].key + skip, layer, strlen(layer)))
            continue;
        const char *key =
            sd_arena_printf(&cv->arena, "%s%s%s", names->prefix, next, list[i].key + skip + strlen(layer));
        if (!key)
            return sd_err_memory(err, skip);
        if (append_params(cv, mf, &list[i], key, err))
            return -1;
        if (sd_model_file_find(mf, list[i].param[0], &e))
            has = e.dtype;
    }
    const char *projection = sd_arena_printf(&cv->arena, "%stext_projection", names->prefix);
    const char *scale = sd_arena_printf(&cv->arena, "%slogit_scale", names->prefix);
    int64_t *square = sd_arena_array(&cv->arena, 2, sizeof *square);
    if (!projection || !scale || !square)
        return sd_err_memory(err, skip);
    square[0] = square[1] = text->width;
    return append(cv, projection, 2, square, &(struct source){.n = 0}, has, false, err) ||
                   append(cv, scale, 0, NULL, &(struct source){.n = 0}, has, false, err)
               ? -1
               : 0;
}

void sd_convert_free(struct sd_convert *cv)
{
    free(cv->tensors);
    sd_arena_free(&cv->arena);
    cv->tensors = NULL;
    cv->count = cv->cap = 0;
}
