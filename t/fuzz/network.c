/* Any bytes as a file of an adapter network: its modules' products can be computed, and those that are
 * accepted for a model fit its layers. fuzz-seeds: t/data/network t/data/inspect
 * t/data/lora/args-blocks.safetensors */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_layers.h"
#include "adapter/network_product.h"

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

static void check_module(const struct sd_network *n, const struct sd_network_module *m)
{
    struct sd_delta d;
    struct sd_err err;
    double norm;
    if (m->has_delta && (m->fault || m->out < 1 || m->in < 1 || m->window < 1))
        abort();
    if (!m->fault && sd_network_find(n, m->place) != m)
        abort();
    if (m->has_delta && m->out * m->in * m->window < 1 << 16 && !sd_delta_load(&d, m, &err)) {
        sd_delta_norm(&d, &norm, &err);
        sd_delta_free(&d);
    }
}

/* Of a module that has a layer. */
static void apply(const struct sd_network *n, const struct sd_network_module *m)
{
    struct sd_err err;
    size_t count = sd_network_weight_count(m);
    float *w = calloc(count, sizeof *w), *delta = malloc(count * sizeof *delta);
    if (sd_network_at(n, m->target) != m)
        abort();
    if (w && delta)
        sd_network_delta(m, w, delta, &err);
    free(w);
    free(delta);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_network n;
    struct sd_lora_report report;
    struct sd_err err = {0};
    struct sd_model_config c = config();
    if (sd_network_parse(&n, data, size, "fuzz", &err)) {
        if (!*err.msg || n.file)
            abort();
        return 0;
    }
    for (size_t i = 0; i < n.count; i++)
        check_module(&n, &n.modules[i]);
    bool related = !sd_network_relate(&n, &c, &report, &err);
    for (size_t i = 0; related && i < n.count; i++)
        if (n.modules[i].target)
            apply(&n, &n.modules[i]);
    sd_network_close(&n);
    return 0;
}
