/* Any bytes as a LoRA file: what is accepted can be read, named otherwise, resized and merged with itself.
 * fuzz-seeds: t/data/lora-tools */
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "adapter/lora_combine.h"
#include "adapter/lora_convert.h"
#include "adapter/lora_resize.h"

static void check_pair(const struct sd_lora_modules *m, const struct sd_lora_pair *p)
{
    struct sd_buf there = SD_BUF_INIT, back = SD_BUF_INIT;
    float *up, *down;
    if (sd_lora_modules_find(m, p->name) != p || p->rank < 1 || p->in < 1 || p->out < 1 || p->kernel < 1)
        abort();
    sd_lora_block(p->name);
    if (sd_network_path(p->name, &there) == 1 &&
        (sd_network_place(there.data, &back) != 1 || strcmp(back.data, p->name)))
        abort();
    if (!sd_lora_pair_read(p, &up, &down, NULL)) {
        free(up);
        free(down);
    }
    sd_buf_free(&there);
    sd_buf_free(&back);
}

static bool small(const struct sd_lora_modules *m)
{
    int64_t work = 0;
    for (size_t i = 0; i < m->count; i++) {
        const struct sd_lora_pair *p = &m->pairs[i];
        if (p->rank > 64 || p->out > 256 || sd_lora_pair_width(p) > 4096)
            return false;
        work += p->rank * (p->out + sd_lora_pair_width(p));
    }
    return work < 1 << 14;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_lora_modules m;
    struct sd_err err = {0};
    double weights[SD_LORA_BLOCKS];
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(size < 60 ? size : 60), (const char *)data);
    sd_lora_block_weights(text, weights, &err);
    if (sd_lora_modules_parse(&m, data, size, "fuzz", &err))
        return 0;
    for (size_t i = 0; i < m.count; i++)
        check_pair(&m, &m.pairs[i]);
    if (small(&m)) {
        struct sd_lora_out resized = {0}, merged = {0}, renamed = {0};
        struct sd_meta meta = {0};
        struct sd_lora_resized *results = calloc(m.count, sizeof *results);
        struct sd_lora_share shares[2] = {{&m, NULL, 1, NULL}, {&m, NULL, -0.5, NULL}};
        struct sd_lora_combine_report report;
        const struct sd_lora_resize_options r = {2, 2, SD_LORA_RESIZE_FRO, 0.9, SD_STORE_F16};
        const struct sd_lora_combine_options c = {.how = size % 3,
                                                  .precision = SD_STORE_BF16,
                                                  .save = SD_STORE_F16,
                                                  .rank = 3,
                                                  .conv_rank = 2,
                                                  .threads = 1};
        if (results)
            sd_lora_resize(&m, &r, 1, &resized, results, &err);
        sd_lora_combine(shares, 2, &c, &merged, &report, &err);
        sd_lora_convert(&m, !sd_lora_is_diffusers(&m), SD_STORE_DTYPES, &renamed, &meta, &err);
        free(results);
        sd_lora_out_free(&resized);
        sd_lora_out_free(&merged);
        sd_lora_out_free(&renamed);
        sd_meta_free(&meta);
    }
    sd_lora_modules_close(&m);
    return 0;
}
