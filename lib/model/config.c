#include "model/config.h"

#include <string.h>

#define SIZE_LIMIT 65536 /* no width of any published model comes near */

#define SD_VAE                                                                          \
    {                                                                                   \
        .in_channels = 3, .out_channels = 3, .latent_channels = 4, .levels = 4,         \
        .channels = {128, 256, 512, 512}, .layers = 2, .groups = 32, .scale = 0.18215f, \
    }

#define SD2_TEXT                                                                                \
    {                                                                                           \
        .vocab = 49408, .positions = 77, .width = 1024, .mlp = 4096, .layers = 23, .heads = 16, \
        .act = SD_ACT_GELU, .eps = 1e-5f, .pad = 0,                                             \
    }

#define SD2_UNET(size)                                                                                     \
    {                                                                                                      \
        .in_channels = 4, .out_channels = 4, .levels = 4, .channels = {320, 640, 1280, 1280}, .layers = 2, \
        .down_attention = {true, true, true, false}, .up_attention = {false, true, true, true},            \
        .heads = {5, 10, 20, 20}, .transformer_layers = {1, 1, 1, 1}, .context = 1024,                     \
        .linear_projection = true, .groups = 32, .eps = 1e-5f, .sample_size = size,                        \
    }

static const struct sd_model_config builtin[] = {
    {
        .name = "sd1",
        .text = {.vocab = 49408,
                 .positions = 77,
                 .width = 768,
                 .mlp = 3072,
                 .layers = 12,
                 .heads = 12,
                 .act = SD_ACT_QUICK_GELU,
                 .eps = 1e-5f,
                 .pad = 49407},
        .unet = {.in_channels = 4,
                 .out_channels = 4,
                 .levels = 4,
                 .channels = {320, 640, 1280, 1280},
                 .layers = 2,
                 .down_attention = {true, true, true, false},
                 .up_attention = {false, true, true, true},
                 .heads = {8, 8, 8, 8},
                 .transformer_layers = {1, 1, 1, 1},
                 .context = 768,
                 .groups = 32,
                 .eps = 1e-5f,
                 .sample_size = 64},
        .vae = SD_VAE,
    },
    /* SD2's last text layer is never used, so it counts 23 of the 24 in the file. */
    {.name = "sd2", .text = SD2_TEXT, .unet = SD2_UNET(64), .vae = SD_VAE},
    {.name = "sd2-v", .text = SD2_TEXT, .unet = SD2_UNET(96), .vae = SD_VAE, .prediction = SD_PREDICT_V},
    {
        .name = "tiny",
        .text = {.vocab = 49408,
                 .positions = 77,
                 .width = 32,
                 .mlp = 128,
                 .layers = 2,
                 .heads = 2,
                 .act = SD_ACT_QUICK_GELU,
                 .eps = 1e-5f,
                 .pad = 49407},
        .unet = {.in_channels = 4,
                 .out_channels = 4,
                 .levels = 2,
                 .channels = {48, 64},
                 .layers = 1,
                 .down_attention = {true, false},
                 .up_attention = {false, true},
                 .heads = {2, 2},
                 .transformer_layers = {1, 1},
                 .context = 32,
                 .groups = 8,
                 .eps = 1e-5f,
                 .sample_size = 8},
        .vae = {.in_channels = 3,
                .out_channels = 3,
                .latent_channels = 4,
                .levels = 4,
                .channels = {16, 16, 24, 32},
                .layers = 1,
                .groups = 8,
                .scale = 0.18215f},
    },
};

const char *const sd_model_config_names[] = {"sd1", "sd2", "sd2-v", "tiny", NULL};

const struct sd_model_config *sd_model_config_builtin(const char *arch)
{
    for (size_t i = 0; i < sizeof builtin / sizeof *builtin; i++)
        if (!strcmp(builtin[i].name, arch))
            return &builtin[i];
    return NULL;
}

static int check_range(const char *what, int64_t value, int64_t max, struct sd_err *err)
{
    if (value >= 1 && value <= max)
        return 0;
    return sd_err_set(err, SD_ERR_DATA, "%s is %lld, expected 1 to %lld", what, (long long)value,
                      (long long)max);
}

static int check_divides(const char *what, int64_t value, const char *by, int64_t divisor, struct sd_err *err)
{
    if (divisor >= 1 && value % divisor == 0)
        return 0;
    return sd_err_set(err, SD_ERR_DATA, "%s %lld cannot be divided into %lld %s", what, (long long)value,
                      (long long)divisor, by);
}

static int check_levels(const char *part, int levels, const int64_t *channels, int64_t groups,
                        struct sd_err *err)
{
    if (check_range("number of levels", levels, SD_MAX_LEVELS, err))
        return sd_err_prefix(err, "%s", part);
    for (int i = 0; i < levels; i++)
        if (check_range("block_out_channels", channels[i], SIZE_LIMIT, err) ||
            check_divides("block_out_channels", channels[i], "groups", groups, err))
            return sd_err_prefix(err, "%s", part);
    return 0;
}

static int check_unet(const struct sd_unet_config *u, struct sd_err *err)
{
    if (check_levels("unet", u->levels, u->channels, u->groups, err))
        return -1;
    if (check_range("in_channels", u->in_channels, SIZE_LIMIT, err) ||
        check_range("out_channels", u->out_channels, SIZE_LIMIT, err) ||
        check_range("layers_per_block", u->layers, 8, err) ||
        check_range("cross_attention_dim", u->context, SIZE_LIMIT, err) ||
        check_divides("block_out_channels[0]", u->channels[0], "halves", 2, err))
        return sd_err_prefix(err, "unet");
    for (int i = 0; i < u->levels; i++) {
        bool attention = u->down_attention[i] || u->up_attention[u->levels - 1 - i] || i == u->levels - 1;
        if (!attention) /* the deepest level always has some, in the middle block */
            continue;
        if (check_range("attention_head_dim", u->heads[i], SIZE_LIMIT, err) ||
            check_divides("block_out_channels", u->channels[i], "heads", u->heads[i], err) ||
            check_range("transformer_layers_per_block", u->transformer_layers[i], 64, err))
            return sd_err_prefix(err, "unet");
    }
    return 0;
}

static int check_vae(const struct sd_vae_config *v, struct sd_err *err)
{
    if (check_levels("vae", v->levels, v->channels, v->groups, err))
        return -1;
    if (check_range("in_channels", v->in_channels, SIZE_LIMIT, err) ||
        check_range("out_channels", v->out_channels, SIZE_LIMIT, err) ||
        check_range("latent_channels", v->latent_channels, SIZE_LIMIT, err) ||
        check_range("layers_per_block", v->layers, 8, err))
        return sd_err_prefix(err, "vae");
    if (!(v->scale > 0 && v->scale < 1e6f))
        return sd_err_set(err, SD_ERR_DATA, "vae: scaling_factor is %g, expected a number above 0", v->scale);
    return 0;
}

static int check_text(const struct sd_text_config *t, struct sd_err *err)
{
    if (check_range("vocab_size", t->vocab, 1 << 24, err) ||
        check_range("max_position_embeddings", t->positions, SIZE_LIMIT, err) ||
        check_range("hidden_size", t->width, SIZE_LIMIT, err) ||
        check_range("intermediate_size", t->mlp, 4 * SIZE_LIMIT, err) ||
        check_range("num_hidden_layers", t->layers, 256, err) ||
        check_divides("hidden_size", t->width, "heads", t->heads, err))
        return sd_err_prefix(err, "text_encoder");
    return 0;
}

int sd_model_config_check(const struct sd_model_config *c, struct sd_err *err)
{
    return check_unet(&c->unet, err) || check_vae(&c->vae, err) || check_text(&c->text, err) ? -1 : 0;
}
