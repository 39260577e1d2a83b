/* Any bytes as a LoRA file: what is accepted can be read, named otherwise, resized and merged with itself.
 * fuzz-seeds: t/data/lora-tools t/data/inspect/peft.safetensors */
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "adapter/lora_combine.h"
#include "adapter/lora_convert.h"
#include "adapter/lora_pairs.h"
#include "adapter/network_names.h"
#include "adapter/lora_resize.h"

static void check_pair(const struct sd_network *n, const struct sd_network_module *m)
{
    struct sd_buf there = SD_BUF_INIT, back = SD_BUF_INIT;
    float *up, *down;
    if (sd_network_find(n, m->place) != m || m->rank < 1 || m->in < 1 || m->out < 1 || m->kernel < 1)
        abort();
    sd_lora_block(m->place);
    if (sd_network_path(m->place, &there) == 1 &&
        (sd_network_place(there.data, &back) != 1 || strcmp(back.data, m->place)))
        abort();
    if (!sd_lora_pair_read(m, &up, &down, NULL)) {
        free(up);
        free(down);
    }
    sd_buf_free(&there);
    sd_buf_free(&back);
}

static bool small(const struct sd_network *n)
{
    int64_t work = 0;
    for (size_t i = 0; i < n->count; i++) {
        const struct sd_network_module *m = &n->modules[i];
        if (m->type != SD_NETWORK_LORA)
            continue;
        if (m->rank > 64 || m->out > 256 || sd_lora_pair_width(m) > 4096)
            return false;
        work += m->rank * (m->out + sd_lora_pair_width(m));
    }
    return work < 1 << 14;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_network m;
    struct sd_err err = {0};
    double weights[SD_LORA_BLOCKS];
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(size < 60 ? size : 60), (const char *)data);
    sd_lora_block_weights(text, weights, &err);
    if (sd_network_parse(&m, data, size, "fuzz", &err))
        return 0;
    bool good = !sd_lora_check(&m, false, &err);
    for (size_t i = 0; good && i < m.count; i++)
        if (m.modules[i].type == SD_NETWORK_LORA)
            check_pair(&m, &m.modules[i]);
    if (good && small(&m)) {
        struct sd_lora_out resized = {0}, merged = {0}, renamed = {0};
        struct sd_meta meta = {0};
        struct sd_lora_resized *results = calloc(m.count, sizeof *results);
        struct sd_lora_share shares[2] = {{&m, 1, NULL}, {&m, -0.5, NULL}};
        struct sd_lora_combine_report report;
        size_t count;
        const struct sd_lora_resize_options r = {2, 2, SD_LORA_RESIZE_FRO, 0.9, SD_STORE_F16};
        const struct sd_lora_combine_options c = {.how = size % 3,
                                                  .precision = SD_STORE_BF16,
                                                  .save = SD_STORE_F16,
                                                  .rank = 3,
                                                  .conv_rank = 2,
                                                  .threads = 1};
        if (results)
            sd_lora_resize(&m, &r, 1, &resized, results, &count, &err);
        sd_lora_combine(shares, 2, &c, &merged, &report, &err);
        sd_lora_convert(&m, !sd_lora_is_diffusers(&m), SD_STORE_DTYPES, &renamed, &meta, &err);
        free(results);
        sd_lora_out_free(&resized);
        sd_lora_out_free(&merged);
        sd_lora_out_free(&renamed);
        sd_meta_free(&meta);
    }
    sd_network_close(&m);
    return 0;
}
