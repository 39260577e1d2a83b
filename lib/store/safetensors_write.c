#include "store/safetensors_write.h"

#include <nettle/sha2.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/atomic.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/ordered.h"
#include "store/emit.h"

static int file_order(const void *pa, const void *pb)
{
    const struct sd_store_tensor *const *a = pa, *const *b = pb;
    if ((*a)->dtype != (*b)->dtype)
        return (*a)->dtype > (*b)->dtype ? -1 : 1;
    return strcmp((*a)->name, (*b)->name);
}

/* Pointers to the tensors in the order of the file, for free(). */
static const struct sd_store_tensor **sorted(const struct sd_store_tensor *tensors, size_t count,
                                             struct sd_err *err)
{
    const struct sd_store_tensor **order = calloc(count + 1, sizeof *order);
    if (!order) {
        sd_err_memory(err, count * sizeof *order);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        order[i] = &tensors[i];
        if (sd_store_check(&tensors[i], err))
            goto fail;
        if (!strcmp(tensors[i].name, "__metadata__")) {
            sd_err_set(err, SD_ERR_DATA, "a tensor cannot be named __metadata__");
            goto fail;
        }
    }
    qsort(order, count, sizeof *order, file_order);
    for (size_t i = 1; i < count; i++)
        if (!strcmp(order[i - 1]->name, order[i]->name)) {
            sd_err_set(err, SD_ERR_DATA, "two tensors named \"%.100s\"", order[i]->name);
            goto fail;
        }
    return order;
fail:
    free(order);
    return NULL;
}

static int add_metadata(struct sd_buf *b, const struct sd_store_meta *meta, size_t count, const char *prefix)
{
    int bad = sd_buf_adds(b, "\"__metadata__\":{"), first = 1;
    for (size_t i = 0; i < count && !bad; i++) {
        if (strncmp(meta[i].key, prefix, strlen(prefix)))
            continue;
        bad = (!first && sd_buf_addc(b, ',')) || sd_json_add_string(b, meta[i].key, strlen(meta[i].key)) ||
              sd_buf_addc(b, ':') || sd_json_add_string(b, meta[i].value, strlen(meta[i].value));
        first = 0;
    }
    return bad || sd_buf_addc(b, '}');
}

static int add_tensor(struct sd_buf *b, const struct sd_store_tensor *t, uint64_t *at)
{
    uint64_t end = *at + (uint64_t)sd_store_bytes(t->dtype, t->ndim, t->shape);
    int bad = sd_json_add_string(b, t->name, strlen(t->name)) ||
              sd_buf_addf(b, ":{\"dtype\":\"%s\",\"shape\":[", sd_store_dtype_name(t->dtype));
    for (int i = 0; i < t->ndim && !bad; i++)
        bad = sd_buf_addf(b, i ? ",%lld" : "%lld", (long long)t->shape[i]);
    bad = bad ||
          sd_buf_addf(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)end);
    *at = end;
    return bad;
}

/* Length and header, padded; only metadata whose key starts with prefix. */
static int build_header(struct sd_buf *b, const struct sd_store_tensor *const *order, size_t count,
                        const struct sd_store_meta *meta, size_t meta_count, const char *prefix,
                        struct sd_err *err)
{
    for (size_t i = 0; i < meta_count; i++)
        if (!sd_utf8_valid(meta[i].key, strlen(meta[i].key)) ||
            !sd_utf8_valid(meta[i].value, strlen(meta[i].value)))
            return sd_err_set(err, SD_ERR_DATA, "metadata \"%.100s\" is not UTF-8", meta[i].key);
    uint64_t at = 0;
    int bad = sd_buf_add(b, "\0\0\0\0\0\0\0", 8) || sd_buf_addc(b, '{') ||
              (meta && (add_metadata(b, meta, meta_count, prefix) || (count && sd_buf_addc(b, ','))));
    for (size_t i = 0; i < count && !bad; i++)
        bad = (i && sd_buf_addc(b, ',')) || add_tensor(b, order[i], &at);
    bad = bad || sd_buf_addc(b, '}');
    while (!bad && b->len % 8)
        bad = sd_buf_addc(b, ' ');
    if (bad)
        return sd_err_memory(err, b->len);
    for (int i = 0; i < 8; i++)
        b->data[i] = (char)((uint64_t)(b->len - 8) >> 8 * i);
    return 0;
}

static int emit_tensors(const struct sd_store_tensor *const *order, size_t count, sd_store_sink *sink,
                        void *ctx, struct sd_err *err)
{
    unsigned char *chunk = malloc(SD_STORE_CHUNK);
    if (!chunk)
        return sd_err_memory(err, SD_STORE_CHUNK);
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++)
        rc = sd_store_emit(order[i], chunk, sink, ctx, err);
    free(chunk);
    return rc;
}

static int to_file(void *ctx, const void *bytes, size_t len, struct sd_err *err)
{
    return sd_atomic_write(ctx, bytes, len, err);
}

/* Pieces made by several threads. */
struct pieces {
    const struct sd_store_tensor *const *order;
    size_t count, *first; /* number of each tensor's first piece; first[count] is how many there are */
    struct sd_atomic *file;
    size_t window;
    unsigned char *slots; /* window pieces */
    struct sd_err *errs;  /* and what went wrong with them */
    size_t *bytes;
    atomic_bool failed;
    struct sd_err *err;
};

/* The tensor that piece `item` is of, and where it begins in it. */
static const struct sd_store_tensor *piece_at(const struct pieces *p, size_t item, uint64_t *at,
                                              size_t *bytes)
{
    size_t low = 0, high = p->count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (p->first[middle] <= item)
            low = middle;
        else
            high = middle;
    }
    const struct sd_store_tensor *t = p->order[low];
    *at = (uint64_t)(item - p->first[low]) * SD_STORE_CHUNK;
    uint64_t rest = (uint64_t)sd_store_bytes(t->dtype, t->ndim, t->shape) - *at;
    *bytes = rest < SD_STORE_CHUNK ? (size_t)rest : SD_STORE_CHUNK;
    return t;
}

static void make_piece(void *ctx, int thread, size_t item)
{
    struct pieces *p = ctx;
    size_t slot = item % p->window;
    unsigned char *to = p->slots + slot * SD_STORE_CHUNK;
    uint64_t at;
    (void)thread;
    if (atomic_load(&p->failed))
        return;
    const struct sd_store_tensor *t = piece_at(p, item, &at, &p->bytes[slot]);
    p->errs[slot].code = 0;
    if (t->data)
        memcpy(to, (const unsigned char *)t->data + at, p->bytes[slot]);
    else if (!t->fill)
        sd_err_set(&p->errs[slot], SD_ERR_DATA, "tensor \"%.100s\" has no data", t->name);
    else
        t->fill(t->ctx, at, to, p->bytes[slot], &p->errs[slot]);
}

static void write_piece(void *ctx, size_t item)
{
    struct pieces *p = ctx;
    size_t slot = item % p->window;
    struct sd_err *err = &p->errs[slot];
    if (atomic_load(&p->failed))
        return;
    if (!err->code)
        sd_atomic_write(p->file, p->slots + slot * SD_STORE_CHUNK, p->bytes[slot], err);
    if (err->code) {
        if (p->err)
            *p->err = *err;
        atomic_store(&p->failed, true);
    }
}

static int emit_pieces(const struct sd_store_tensor *const *order, size_t count, struct sd_atomic *file,
                       int jobs, struct sd_err *err)
{
    struct pieces p = {
        .order = order, .count = count, .file = file, .window = 2 * (size_t)jobs + 2, .err = err};
    p.first = calloc(count + 1, sizeof *p.first);
    p.slots = malloc(p.window * SD_STORE_CHUNK);
    p.errs = calloc(p.window, sizeof *p.errs);
    p.bytes = calloc(p.window, sizeof *p.bytes);
    int rc = -1;
    if (!p.first || !p.slots || !p.errs || !p.bytes) {
        sd_err_memory(err, p.window * SD_STORE_CHUNK);
    } else {
        for (size_t i = 0; i < count; i++) {
            uint64_t total = (uint64_t)sd_store_bytes(order[i]->dtype, order[i]->ndim, order[i]->shape);
            p.first[i + 1] = p.first[i] + (size_t)((total + SD_STORE_CHUNK - 1) / SD_STORE_CHUNK);
        }
        const struct sd_ordered run = {.n = p.first[count],
                                       .window = p.window,
                                       .jobs = jobs,
                                       .work = make_piece,
                                       .finish = write_piece,
                                       .ctx = &p};
        rc = sd_ordered_run(&run, err) || atomic_load(&p.failed) ? -1 : 0;
    }
    free(p.first);
    free(p.slots);
    free(p.errs);
    free(p.bytes);
    return rc;
}

int sd_store_write_jobs(const char *path, const struct sd_store_tensor *tensors, size_t count,
                        const struct sd_store_meta *meta, size_t meta_count, int jobs, struct sd_err *err)
{
    struct sd_buf header = SD_BUF_INIT;
    struct sd_atomic *file = NULL;
    int rc = -1;
    const struct sd_store_tensor **order = sorted(tensors, count, err);
    if (!order || build_header(&header, order, count, meta, meta_count, "", err)) {
        sd_err_prefix(err, "%s", path);
        goto out;
    }
    if (sd_atomic_open(&file, path, err) || sd_atomic_write(file, header.data, header.len, err) ||
        (jobs > 1 ? emit_pieces(order, count, file, jobs, err)
                  : emit_tensors(order, count, to_file, file, err)))
        goto out;
    rc = sd_atomic_commit(&file, err);
out:
    sd_atomic_discard(&file);
    sd_buf_free(&header);
    free(order);
    return rc;
}

int sd_store_write(const char *path, const struct sd_store_tensor *tensors, size_t count,
                   const struct sd_store_meta *meta, size_t meta_count, struct sd_err *err)
{
    return sd_store_write_jobs(path, tensors, count, meta, meta_count, 1, err);
}

struct digests {
    struct sha256_ctx data, window;
    uint64_t at; /* position in the file */
};

static int to_digests(void *ctx, const void *bytes, size_t len, struct sd_err *err)
{
    (void)err;
    struct digests *d = ctx;
    const uint64_t from = 0x100000, to = 0x110000;
    uint64_t a = d->at > from ? d->at : from, b = d->at + len < to ? d->at + len : to;
    sha256_update(&d->data, len, bytes);
    if (a < b)
        sha256_update(&d->window, (size_t)(b - a), (const uint8_t *)bytes + (a - d->at));
    d->at += len;
    return 0;
}

static void finish_digest(struct sha256_ctx *ctx, char *hex, size_t digits)
{
    uint8_t sum[SHA256_DIGEST_SIZE];
    sha256_digest(ctx, sizeof sum, sum);
    for (size_t i = 0; i < digits; i++)
        hex[i] = "0123456789abcdef"[sum[i / 2] >> (i % 2 ? 0 : 4) & 15];
    hex[digits] = 0;
}

int sd_store_hash(const struct sd_store_tensor *tensors, size_t count, const struct sd_store_meta *meta,
                  size_t meta_count, char model_hash[65], char legacy_hash[9], struct sd_err *err)
{
    static const struct sd_store_meta none;
    struct sd_buf header = SD_BUF_INIT;
    struct digests d = {.at = 0};
    int rc = -1;
    const struct sd_store_tensor **order = sorted(tensors, count, err);
    /* sd-scripts always passes a dictionary here, so __metadata__ is there even when it is empty */
    if (!order || build_header(&header, order, count, meta ? meta : &none, meta_count, "ss_", err))
        goto out;
    sha256_init(&d.data);
    sha256_init(&d.window);
    to_digests(&d, header.data, header.len, err);
    sha256_init(&d.data); /* anew: it leaves the header out */
    if (emit_tensors(order, count, to_digests, &d, err))
        goto out;
    finish_digest(&d.data, model_hash, 64);
    finish_digest(&d.window, legacy_hash, 8);
    rc = 0;
out:
    sd_buf_free(&header);
    free(order);
    return rc;
}
