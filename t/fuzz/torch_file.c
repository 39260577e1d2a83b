/* Any bytes as a file of torch.save: what is accepted lies inside of the bytes, and can be read. The CRC of
 * an archive's first member, the pickle, is made right first, so that what was changed in there is met.
 * fuzz-seeds: t/data/torch */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "store/tensor_file.h"

/* The pickle's size stands in the directory alone where it was written as a stream. */
static void repair(uint8_t *p, size_t size)
{
    uint8_t *entry = size > 76 ? memmem(p, size, "PK\1\2", 4) : NULL;
    if (!entry || memcmp(p, "PK\3\4", 4) || (size_t)(p + size - entry) < 46)
        return;
    size_t head = 30 + (p[26] | (size_t)p[27] << 8) + (p[28] | (size_t)p[29] << 8);
    size_t n = entry[20] | (size_t)entry[21] << 8;
    if (head > size || n > size - head)
        return;
    uLong crc = crc32(crc32(0, NULL, 0), p + head, (uInt)n);
    for (int i = 0; i < 4; i++)
        entry[16 + i] = (uint8_t)(crc >> 8 * i);
}

static void use(const struct sd_tensor_file *tf, const struct sd_store_entry *e, const uint8_t *data,
                size_t size)
{
    const uint8_t *p = e->data;
    struct sd_err err = {0};
    if (p && (p < data || e->bytes > (size_t)(data + size - p)))
        abort();
    if (e->offset > size || e->bytes > 1032 * size || sd_tensor_file_find(tf, e->name) != e)
        abort();
    void *out = malloc(e->bytes + 1);
    if (out && sd_tensor_file_read(tf, e, out, &err) && !*err.msg)
        abort();
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    uint8_t *copy = malloc(size + !size);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    repair(copy, size);
    if (!sd_tensor_file_parse(&tf, copy, size, "fuzz", &err)) {
        for (size_t i = 0; i < sd_tensor_file_count(tf); i++)
            use(tf, sd_tensor_file_entry(tf, i), copy, size);
        sd_tensor_file_close(tf);
    } else if (!*err.msg || tf) {
        abort();
    }
    free(copy);
    return 0;
}
