/* sd-mix: checkpoints combined into one. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "mix_metadata.h"

struct mixer {
    struct sd_cmd c;
    struct sd_strings models, ratios;
    const char *weights, *block_weights, *output, *vae, *precision, *saving;
    bool difference, unet_only, show_skipped, hash, metadata, allow_nan;
    double multiplier, base;
    struct sd_mix_recipe recipe;
    double *numbers, blocks[SD_MIX_BLOCKS];
    struct sd_model_file **files, *vae_file;
    size_t count;
};

static enum sd_store_dtype dtype_of(const char *name)
{
    return !strcmp(name, "f16") || !strcmp(name, "fp16") ? SD_STORE_F16
           : !strcmp(name, "bf16")                       ? SD_STORE_BF16
                                                         : SD_STORE_F32;
}

/* One number of a list, which must end at the text's end or at a comma. Returns what follows. */
static const char *number(struct mixer *x, const char *option, const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    while (*end == ' ')
        end++;
    if (end == text || (*end && *end != ',') || !isfinite(*out))
        cmd_usage(&x->c, "--%s: \"%.40s\" is no number", option, text);
    return *end ? end + 1 : NULL;
}

/* Numbers with commas between them; exactly n. */
static void numbers(struct mixer *x, const char *option, const char *text, double *out, size_t n)
{
    size_t have = 0;
    for (const char *at = text; at; have++) {
        double v;
        at = number(x, option, at, &v);
        if (have < n)
            out[have] = v;
    }
    if (have != n)
        cmd_usage(&x->c, "--%s has %zu number%s, expected %zu", option, have, have == 1 ? "" : "s", n);
}

/* The models' weights, from whichever option has them. */
static void read_weights(struct mixer *x)
{
    double share = isnan(x->base) ? 0.5 : x->base, total = 0;
    for (size_t i = 0; i < x->count; i++)
        x->numbers[i] = 1.0 / (double)x->count;
    if (x->weights)
        numbers(x, "weights", x->weights, x->numbers, x->count);
    if (x->ratios.n && x->ratios.n != x->count)
        cmd_usage(&x->c, "--ratios has %zu number%s, expected %zu: one for each model", x->ratios.n,
                  x->ratios.n == 1 ? "" : "s", x->count);
    for (size_t i = 0; i < x->ratios.n; i++)
        if (number(x, "ratios", x->ratios.v[i], &x->numbers[i]))
            cmd_usage(&x->c, "--ratios: \"%.40s\" is no number", x->ratios.v[i]);
    if (x->recipe.blocks && !x->difference) {
        x->numbers[0] = 1 - share;
        x->numbers[1] = share;
    }
    for (size_t i = 0; i < x->count; i++)
        total += x->numbers[i];
    if (fabs(total - 1) > 1e-6 && !x->difference && x->c.common.verbose)
        cmd_warn(&x->c, "the weights sum to %g, not to 1", total);
}

static void check_usage(struct mixer *x)
{
    if (!x->output)
        cmd_usage(&x->c, "no output file: -o FILE");
    if (x->difference && x->count != 3)
        cmd_usage(&x->c, "--add-difference takes three models, A + m (B - C), but there %s %zu",
                  x->count == 1 ? "is" : "are", x->count);
    if (x->count < 2)
        cmd_usage(&x->c,
                  x->count ? "only one model is given: at least two are needed" : "no models are given");
    if (x->weights && x->ratios.n)
        cmd_usage(&x->c, "--weights and --ratios are the same: give one");
    if (x->difference && (x->weights || x->ratios.n))
        cmd_usage(&x->c, "--add-difference has no weights: see --multiplier");
    if (!x->difference && !isnan(x->multiplier))
        cmd_usage(&x->c, "--multiplier goes with --add-difference");
    if (x->block_weights && !x->difference && (x->count != 2 || x->weights || x->ratios.n))
        cmd_usage(&x->c, "--block-weights takes two models and no other weights than --base");
    if (!isnan(x->base) && !x->block_weights)
        cmd_usage(&x->c, "--base goes with --block-weights");
    if (!isnan(x->base) && !isnan(x->multiplier))
        cmd_usage(&x->c, "--base and --multiplier are the same here: give one");
}

static void make_recipe(struct mixer *x)
{
    struct sd_mix_recipe *r = &x->recipe;
    double rest = isnan(x->base) ? 1 : x->base;
    *r = (struct sd_mix_recipe){.difference = x->difference,
                                .multiplier = isnan(x->multiplier) ? rest : x->multiplier,
                                .unet_only = x->unet_only,
                                .keep_nan = x->allow_nan,
                                .precision = dtype_of(x->precision),
                                .saved = dtype_of(x->saving),
                                .jobs = x->c.common.jobs};
    if (x->block_weights) {
        numbers(x, "block-weights", x->block_weights, x->blocks, SD_MIX_BLOCKS);
        r->blocks = x->blocks;
    }
    read_weights(x);
    r->weights = x->numbers;
}

static void open_models(struct mixer *x)
{
    struct sd_err err = {0};
    for (size_t i = 0; i < x->count; i++) {
        if (sd_model_file_open(&x->files[i], x->models.v[i], &err))
            cmd_die(&x->c, &err);
        for (int p = 0; p < SD_PARTS; p++) /* now, for its message */
            if (sd_model_file_has(x->files[i], (enum sd_part)p) &&
                sd_model_file_need(x->files[i], (enum sd_part)p, &err))
                cmd_die(&x->c, &err);
        if (sd_model_file_config(x->files[i])->prediction != sd_model_file_config(x->files[0])->prediction)
            cmd_warn(&x->c, "%s and %s predict different things: one v, the other noise", x->models.v[0],
                     x->models.v[i]);
    }
    if (x->vae && sd_model_file_open(&x->vae_file, x->vae, &err))
        cmd_die(&x->c, &err);
}

/* "path: WHAT: N tensors (a, b, c, ...)", or each name. */
static void tell(struct mixer *x, const char *path, const char *what, const struct sd_strings *names)
{
    if (!names->n)
        return;
    if (x->show_skipped) {
        for (size_t i = 0; i < names->n; i++)
            cmd_warn(&x->c, "%s: %s: %s", path, what, names->v[i]);
        return;
    }
    struct sd_buf text = SD_BUF_INIT;
    int bad = 0;
    for (size_t i = 0; i < names->n && i < 3; i++)
        bad |= sd_buf_addf(&text, "%s%s", i ? ", " : "", names->v[i]);
    if (!bad)
        cmd_say(&x->c, "%s: %s: %zu tensor%s (%s%s)", path, what, names->n, names->n == 1 ? "" : "s",
                text.data, names->n > 3 ? ", ..." : "");
    sd_buf_free(&text);
}

static void tell_all(struct mixer *x, const struct sd_mix *m)
{
    tell(x, x->models.v[0], "left out, having no original name", sd_mix_skipped(m, 0));
    for (size_t i = 1; i < x->count; i++) {
        tell(x, x->models.v[i], "lacking, the first model's value stands in", sd_mix_lacking(m, i));
        tell(x, x->models.v[i], "skipped, not in the first model", sd_mix_skipped(m, i));
    }
}

static bool go_on(void *ctx, uint64_t bytes, uint64_t total)
{
    struct sd_cmd *c = ctx;
    c->total = total >> 20;
    cmd_progress(c, bytes >> 20, "MiB");
    return !cmd_stopped(c);
}

static void mix(struct mixer *x)
{
    struct sd_err err = {0};
    struct sd_mix *m = NULL;
    struct sd_meta meta = {0};
    struct mix_origin origin = {&x->recipe, x->files, x->count, x->output, x->vae, x->hash};
    struct sd_model_init_watch watch = {go_on, &x->c};
    if (sd_mix_plan(&m, &x->recipe, x->files, x->count, x->vae_file, &err))
        cmd_die(&x->c, &err);
    tell_all(x, m);
    if (x->metadata ? mix_metadata(&meta, &origin, &err) : mix_metadata_config(&meta, x->files[0], &err))
        cmd_die(&x->c, &err);
    if (sd_mix_write(m, x->output, x->metadata || meta.n ? meta.v : NULL, meta.n, &watch, &err)) {
        if (!cmd_stopped(&x->c))
            cmd_die(&x->c, &err);
    } else if (sd_mix_not_finite(m)) {
        cmd_warn(&x->c, "%s: %llu values are NaN or infinite", x->output,
                 (unsigned long long)sd_mix_not_finite(m));
    }
    sd_meta_free(&meta);
    sd_mix_free(m);
}

int main(int argc, char **argv)
{
    struct mixer x = {
        .precision = "f32", .saving = "f32", .hash = true, .metadata = true, .multiplier = NAN, .base = NAN};
    static const char types[] = "f32|f16|bf16|float|fp16";
    const struct sd_option options[] = {
        {SD_OPT_STRING("output", 'o', &x.output, "FILE", "the .safetensors file to write (required)")},
        {SD_OPT_WORDS("models", 0, &x.models, "MODEL", "the models, as arguments are")},
        {SD_OPT_HEADING("How they are combined")},
        {SD_OPT_STRING("weights", 0, &x.weights, "N,N,...",
                       "what each model is multiplied with (default: 1/n each)")},
        {SD_OPT_WORDS("ratios", 0, &x.ratios, "N", "the same, as separate arguments")},
        {SD_OPT_BOOL("add-difference", 0, &x.difference, "A + M (B - C) of three models")},
        {SD_OPT_DOUBLE("multiplier", 'm', &x.multiplier, "M", "of the difference (default: 1)")},
        {SD_OPT_STRING(
            "block-weights", 0, &x.block_weights, "N,N,...",
            "25 numbers, for IN00-IN11, M00, OUT00-OUT11 of the U-Net: B's share in A and B, or M")},
        {SD_OPT_DOUBLE("base", 0, &x.base, "N",
                       "the same for what is in none of these blocks (default: 0.5, of a difference 1)")},
        {SD_OPT_BOOL("unet-only", 0, &x.unet_only, "take text encoder and VAE from the first model")},
        {SD_OPT_STRING("vae", 0, &x.vae, "FILE", "take the VAE from this model or VAE")},
        {SD_OPT_HEADING("Numbers and output")},
        {SD_OPT_CHOICE("precision", 0, &x.precision, types, "type to calculate in")},
        {SD_OPT_CHOICE("saving-precision", 0, &x.saving, types, "type to write")},
        {SD_OPT_BOOL("allow-nan", 0, &x.allow_nan,
                     "write NaN and infinite values too; they are an error otherwise")},
        {SD_OPT_BOOL("show-skipped", 0, &x.show_skipped, "name each tensor that only some models have")},
        {SD_OPT_BOOL("hash", 0, &x.hash,
                     "put the SHA-256 of each model file into the metadata, which takes a read")},
        {SD_OPT_BOOL("metadata", 0, &x.metadata, "put into the metadata how the file was made")},
        SD_OPT_END,
    };
    x.c = (struct sd_cmd){.program = {.name = "sd-mix",
                                      .args = "[MODEL]...",
                                      .summary = "combine checkpoints: weighted sums, differences, by blocks",
                                      .options = options,
                                      .max_args = -1},
                          .source = true,
                          .own_progress = true};
    cmd_start(&x.c, &argc, argv);
    for (int i = 1; i < argc; i++)
        if (sd_strings_add(&x.models, argv[i]))
            cmd_usage(&x.c, "out of memory");
    x.count = x.models.n;
    check_usage(&x);
    x.files = calloc(x.count, sizeof *x.files);
    x.numbers = calloc(x.count, sizeof *x.numbers);
    if (!x.files || !x.numbers)
        cmd_usage(&x.c, "out of memory");
    make_recipe(&x);
    open_models(&x);
    mix(&x);
    for (size_t i = 0; i < x.count; i++)
        sd_model_file_close(x.files[i]);
    sd_model_file_close(x.vae_file);
    free(x.files);
    free(x.numbers);
    sd_strings_free(&x.models);
    sd_strings_free(&x.ratios);
    return cmd_finish(&x.c);
}
