/* Any bytes as a pickle: what comes of it can be walked, and lies inside of the bytes or the arena, whose
 * size theirs bounds. Of an archive it is the first member's bytes, so that torch.save's files are seeds.
 * fuzz-seeds: t/data/torch */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/pickle.h"

static volatile unsigned char sink;

/* Values may contain themselves: few levels, few steps. */
static void look(const struct sd_pickle_value *v, int depth, int *steps)
{
    if (!v)
        abort();
    if (depth > 20 || ++*steps > 10000)
        return;
    switch (v->kind) {
    case SD_PICKLE_STR:
    case SD_PICKLE_BYTES:
    case SD_PICKLE_LONG:
        for (size_t i = 0; i < v->len; i++)
            sink ^= (unsigned char)v->text[i];
        return;
    case SD_PICKLE_TUPLE:
    case SD_PICKLE_LIST:
    case SD_PICKLE_SET:
    case SD_PICKLE_DICT:
        for (size_t i = 0; i < v->count; i++)
            look(v->items[i], depth + 1, steps);
        if (v->kind == SD_PICKLE_DICT && v->count % 2)
            abort();
        return;
    case SD_PICKLE_TENSOR:
        for (int i = 0; i < v->tensor->ndim; i++)
            if (v->tensor->shape[i] < 0 || v->tensor->stride[i] < 0)
                abort();
        return;
    case SD_PICKLE_OBJECT:
        look(v->object->args, depth + 1, steps);
        if (v->object->state)
            look(v->object->state, depth + 1, steps);
        if (v->object->items)
            look(v->object->items, depth + 1, steps);
        return;
    case SD_PICKLE_GLOBAL:
        sink ^= (unsigned char)*sd_pickle_name(v->global);
        return;
    default:
        return;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_pickle p;
    struct sd_err err = {0};
    int steps = 0;
    if (size > 30 && !memcmp(data, "PK\3\4", 4)) {
        size_t head = 30 + (data[26] | (size_t)data[27] << 8) + (data[28] | (size_t)data[29] << 8);
        head = head < size ? head : size;
        data += head;
        size -= head;
    }
    if (sd_pickle_parse(&p, data, size, &err)) {
        if (!*err.msg || p.value)
            abort();
        return 0;
    }
    if (p.used > size || p.spent > SD_PICKLE_FACTOR * p.used + SD_PICKLE_ALLOWANCE)
        abort();
    look(p.value, 0, &steps);
    for (const struct sd_pickle_storage *s = p.storages; s; s = s->next)
        for (size_t i = 0; i < s->key_len; i++)
            sink ^= (unsigned char)s->key[i];
    sd_pickle_free(&p);
    return 0;
}
