/* Any bytes as a file of an adapter network: what is accepted has layers whose changes can be computed.
 * fuzz-seeds: t/data/network t/data/lora/args-blocks.safetensors */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_file.h"

/* Layers of the small model that the seeds are for. */
static struct sd_model_config config(void)
{
    struct sd_model_config c = *sd_model_config_builtin("sd1");
    static const int64_t channels[] = {8, 8, 8, 12};
    memcpy(c.unet.channels, channels, sizeof channels);
    for (int i = 0; i < 4; i++)
        c.unet.heads[i] = 2;
    c.unet.groups = 4;
    c.unet.context = c.text.width = 32;
    c.text.mlp = 64;
    c.text.heads = 4;
    c.text.layers = 2;
    c.text.vocab = 128;
    return c;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_network_file *f;
    struct sd_lora_report report;
    struct sd_err err = {0};
    struct sd_model_config c = config();
    if (sd_network_file_parse(&f, &c, data, size, "fuzz", &report, &err)) {
        if (!*err.msg || f)
            abort();
        return 0;
    }
    for (size_t i = 0; i < sd_network_file_count(f); i++) {
        const struct sd_network_layer *l = sd_network_file_layer(f, i);
        size_t n = sd_network_weight_count(l);
        float *w = calloc(n, sizeof *w), *delta = malloc(n * sizeof *delta);
        if (sd_network_file_find(f, l->target->path) != l)
            abort();
        if (w && delta)
            sd_network_delta(l, w, delta, &err);
        free(w);
        free(delta);
    }
    sd_network_file_close(f);
    return 0;
}
