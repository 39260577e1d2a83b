#include "store/safetensors.h"

#include <string.h>

#include "base/json.h"
#include "store/tensor_file_private.h"

#define HEADER_LIMIT ((uint64_t)100000000) /* as the safetensors library has it */

/* Where the header has been found to end and the data to begin. */
struct layout {
    const unsigned char *data;
    uint64_t start, bytes;
};

/* The member `name` of a tensor's object, which must be there exactly once. */
static const cJSON *only_member(const cJSON *object, const char *name)
{
    const cJSON *found = NULL;
    for (const cJSON *m = object->child; m; m = m->next)
        if (!strcmp(m->string, name)) {
            if (found)
                return NULL;
            found = m;
        }
    return found;
}

static int parse_shape(struct sd_tensor_file *tf, struct sd_store_entry *e, const cJSON *shape,
                       struct sd_err *err)
{
    if (!cJSON_IsArray(shape))
        return sd_err_set(err, SD_ERR_DATA, "shape is missing or not an array");
    e->ndim = cJSON_GetArraySize(shape);
    if (e->ndim > SD_STORE_DIMS)
        return sd_err_set(err, SD_ERR_DATA, "a shape of %d dimensions, expected at most %d", e->ndim,
                          SD_STORE_DIMS);
    int64_t *dims = sd_arena_array(&tf->arena, (size_t)e->ndim, sizeof *dims);
    if (!dims)
        return sd_err_memory(err, (size_t)e->ndim * sizeof *dims);
    e->shape = dims;
    for (const cJSON *d = shape->child; d; d = d->next) {
        uint64_t n;
        if (!sd_json_uint(d, &n))
            return sd_err_set(err, SD_ERR_DATA, "shape holds something else than whole numbers from 0 up");
        *dims++ = (int64_t)n;
    }
    return 0;
}

/* Fills *e from {"dtype":.., "shape":.., "data_offsets":[begin,end]}. The message lacks file and tensor. */
static int parse_entry(struct sd_tensor_file *tf, struct sd_store_entry *e, const cJSON *item,
                       const struct layout *lay, struct sd_err *err)
{
    if (!cJSON_IsObject(item))
        return sd_err_set(err, SD_ERR_DATA, "its entry is not a JSON object");
    const cJSON *dtype = only_member(item, "dtype"), *offsets = only_member(item, "data_offsets");
    if (!cJSON_IsString(dtype))
        return sd_err_set(err, SD_ERR_DATA, "dtype is missing or not a string");
    if (sd_store_dtype_parse(dtype->valuestring, &e->dtype))
        return sd_err_set(err, SD_ERR_DATA, "unknown dtype \"%.40s\"", dtype->valuestring);
    if (parse_shape(tf, e, only_member(item, "shape"), err))
        return -1;
    uint64_t begin, end;
    if (!cJSON_IsArray(offsets) || cJSON_GetArraySize(offsets) != 2 ||
        !sd_json_uint(offsets->child, &begin) || !sd_json_uint(offsets->child->next, &end))
        return sd_err_set(err, SD_ERR_DATA, "data_offsets is not a pair of whole numbers");
    char text[96];
    sd_store_shape_text(e->ndim, e->shape, text, sizeof text);
    int64_t bytes = sd_store_bytes(e->dtype, e->ndim, e->shape);
    if (bytes < 0)
        return sd_err_set(err, SD_ERR_DATA, "shape %s of %s is too large", text, dtype->valuestring);
    if (begin > end || end > lay->bytes)
        return sd_err_set(err, SD_ERR_DATA, "data_offsets [%llu,%llu] reach outside the %llu bytes of data",
                          (unsigned long long)begin, (unsigned long long)end, (unsigned long long)lay->bytes);
    if (end - begin != (uint64_t)bytes)
        return sd_err_set(err, SD_ERR_DATA, "data_offsets span %llu bytes, but %s of shape %s takes %lld",
                          (unsigned long long)(end - begin), dtype->valuestring, text, (long long)bytes);
    e->offset = lay->start + begin;
    e->bytes = (size_t)bytes;
    e->data = lay->data + begin;
    return 0;
}

static int parse_metadata(struct sd_tensor_file *tf, const cJSON *item, struct sd_err *err)
{
    if (tf->meta)
        return sd_err_set(err, SD_ERR_DATA, "%s: __metadata__ appears twice", tf->path);
    if (!cJSON_IsObject(item))
        return sd_err_set(err, SD_ERR_DATA, "%s: __metadata__ is not a JSON object", tf->path);
    size_t n = (size_t)cJSON_GetArraySize(item);
    tf->meta = sd_arena_array(&tf->arena, n, sizeof *tf->meta);
    if (!tf->meta)
        return sd_err_memory(err, n * sizeof *tf->meta);
    for (const cJSON *m = item->child; m; m = m->next) {
        if (!cJSON_IsString(m))
            return sd_err_set(err, SD_ERR_DATA, "%s: metadata \"%.100s\" is not a string", tf->path,
                              m->string);
        struct sd_store_meta *out = &tf->meta[tf->meta_count++];
        out->key = sd_arena_strdup(&tf->arena, m->string);
        out->value = sd_arena_strdup(&tf->arena, m->valuestring);
        if (!out->key || !out->value)
            return sd_err_memory(err, strlen(m->valuestring));
    }
    return 0;
}

/* The tensors must follow one another from the first byte of the data to the last. */
static int check_cover(struct sd_tensor_file *tf, const struct layout *lay, struct sd_err *err)
{
    uint64_t at = lay->start;
    for (size_t i = 0; i < tf->count; i++) {
        const struct sd_store_entry *e = &tf->slots[i].e;
        if (e->offset != at)
            return sd_err_set(err, SD_ERR_DATA,
                              "%s: tensor \"%.150s\": its data starts at %llu, expected %llu (%s)", tf->path,
                              e->name, (unsigned long long)(e->offset - lay->start),
                              (unsigned long long)(at - lay->start),
                              e->offset < at ? "it overlaps the one before" : "a gap before it");
        at += e->bytes;
    }
    if (at != lay->start + lay->bytes)
        return sd_err_set(err, SD_ERR_DATA, "%s: the tensors take %llu bytes, but the file holds %llu",
                          tf->path, (unsigned long long)(at - lay->start), (unsigned long long)lay->bytes);
    return 0;
}

static int parse_header(struct sd_tensor_file *tf, const cJSON *root, const struct layout *lay,
                        struct sd_err *err)
{
    if (!cJSON_IsObject(root))
        return sd_err_set(err, SD_ERR_DATA, "%s: the header is not a JSON object", tf->path);
    for (const cJSON *m = root->child; m; m = m->next) {
        if (!strcmp(m->string, "__metadata__")) {
            if (parse_metadata(tf, m, err))
                return -1;
            continue;
        }
        struct sd_tensor_slot *slot = sd_tensor_file_add(tf, err);
        if (!slot)
            return -1;
        slot->e.name = sd_arena_strdup(&tf->arena, m->string);
        if (!slot->e.name)
            return sd_err_memory(err, strlen(m->string));
        if (parse_entry(tf, &slot->e, m, lay, err))
            return sd_err_prefix(err, "%s: tensor \"%.150s\"", tf->path, m->string);
    }
    if (sd_tensor_file_index(tf, err))
        return -1;
    return check_cover(tf, lay, err);
}

int sd_safetensors_read(struct sd_tensor_file *tf, struct sd_err *err)
{
    const unsigned char *p = tf->map.data;
    uint64_t size = tf->map.size, n = 0;
    if (size < 8)
        return sd_err_set(err, SD_ERR_DATA, "%s: %llu bytes, too short for a safetensors file", tf->path,
                          (unsigned long long)size);
    for (int i = 7; i >= 0; i--)
        n = n << 8 | p[i];
    if (n > size - 8)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: the header's length %llu goes beyond the end of the file (%llu bytes): "
                          "cut short, or not a safetensors file",
                          tf->path, (unsigned long long)n, (unsigned long long)size);
    if (n > HEADER_LIMIT)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: the header's length %llu is more than the format's limit %llu", tf->path,
                          (unsigned long long)n, (unsigned long long)HEADER_LIMIT);
    struct layout lay = {p + 8 + n, 8 + n, size - 8 - n};
    cJSON *root = sd_json_parse((const char *)p + 8, (size_t)n, err);
    if (!root)
        return sd_err_prefix(err, "%s: safetensors header", tf->path);
    int rc = parse_header(tf, root, &lay, err);
    cJSON_Delete(root);
    return rc;
}
