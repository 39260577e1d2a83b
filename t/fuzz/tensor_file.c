/* Any bytes as a tensor file of any format: what is accepted can be walked, looked up, read, and recognised
 * as a model. fuzz-seeds: t/data/torch t/data/store */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_detect.h"

static void use_entry(const struct sd_tensor_file *tf, const struct sd_store_entry *e, const uint8_t *data,
                      size_t size)
{
    const uint8_t *p = e->data;
    size_t n = e->bytes / sd_store_dtype_bytes(e->dtype),
           most = strcmp(sd_tensor_file_format(tf), "npz") ? 1 : 1032;
    struct sd_err err = {0};
    if (p && (p < data || e->bytes > (size_t)(data + size - p) || e->offset != (uint64_t)(p - data)))
        abort();
    if (e->bytes > most * size || sd_tensor_file_find(tf, e->name) != e)
        abort();
    float *values = malloc((n + 1) * sizeof *values);
    if (values && sd_tensor_file_read_f32(tf, e, values, &err) && !*err.msg)
        abort();
    free(values);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_parse(&tf, data, size, "fuzz", &err)) {
        if (!*err.msg || tf)
            abort();
        return 0;
    }
    size_t count;
    uint64_t total = 0;
    const struct sd_store_meta *meta = sd_tensor_file_metadata(tf, &count);
    for (size_t i = 0; i < count; i++)
        if (!sd_tensor_file_meta(tf, meta[i].key))
            abort();
    for (size_t i = 0; i < sd_tensor_file_count(tf); i++) {
        use_entry(tf, sd_tensor_file_entry(tf, i), data, size);
        total += sd_tensor_file_entry(tf, i)->bytes;
    }
    if (total > size && !strcmp(sd_tensor_file_format(tf), "safetensors"))
        abort();
    bool has[SD_PARTS];
    struct sd_part_names names[SD_PARTS];
    struct sd_model_config config;
    for (int p = 0; p < SD_PARTS; p++)
        has[p] = sd_model_detect_names(tf, (enum sd_part)p, &names[p]);
    sd_model_detect_config(tf, has, names, &config, &err);
    sd_tensor_file_close(tf);
    return 0;
}
