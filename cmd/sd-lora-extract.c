/* sd-lora-extract: the difference of two models as a LoRA. */
#include "lora.h"

#include <stdio.h>
#include <time.h>

#include "adapter/lora_extract.h"
#include "model/modelspec.h"

struct extract {
    struct sd_cmd c;
    const char *original, *tuned, *output, *load, *save;
    const char *original_to, *tuned_to;
    int64_t dim, conv_dim;
    bool conv_given, v2, v_parameterization, v_given, sdxl, no_metadata;
    double clamp_quantile, min_diff;
};

static bool go_on(void *ctx, size_t done, size_t total)
{
    struct sd_cmd *c = ctx;
    c->total = total;
    cmd_progress(c, done, "layers");
    return !cmd_stopped(c);
}

static struct sd_model_file *open_model(struct extract *x, const char *path)
{
    struct sd_model_file *mf;
    struct sd_err err = {0};
    if (sd_model_file_open(&mf, path, &err))
        cmd_die(&x->c, &err);
    return mf;
}

static void set_metadata(const struct extract *x, const struct sd_model_config *config, struct sd_meta *m)
{
    char args[96] = "{}";
    bool v2 = config->unet.linear_projection, v = x->v_given ? x->v_parameterization : v2;
    if (x->conv_dim)
        snprintf(args, sizeof args, "{\"conv_dim\": \"%lld\", \"conv_alpha\": \"%lld.0\"}",
                 (long long)x->conv_dim, (long long)x->conv_dim);
    sd_meta_set(m, "ss_v2", v2 ? "True" : "False");
    sd_meta_set(m, "ss_base_model_version", !v2 ? v ? "sd_v1_v" : "sd_v1" : v ? "sd_v2_v" : "sd_v2");
    sd_meta_set(m, "ss_network_module", "networks.lora");
    sd_meta_set_int(m, "ss_network_dim", x->dim);
    sd_meta_set_float(m, "ss_network_alpha", (double)x->dim);
    sd_meta_set(m, "ss_network_args", args);
    if (!x->no_metadata)
        sd_modelspec_set(
            m, &(struct sd_modelspec){
                   .v2 = v2, .v_prediction = v, .lora = true, .path = x->output, .date = time(NULL)});
}

static void run(struct extract *x)
{
    struct sd_err err = {0};
    struct sd_lora_out out = {0};
    struct sd_meta meta = {0};
    struct sd_lora_extract_report report;
    struct sd_model_file *original = open_model(x, x->original), *tuned = open_model(x, x->tuned);
    const struct sd_model_config *config = sd_model_file_config(original);
    const struct sd_lora_extract_options o = {
        .dim = x->dim,
        .conv_dim = x->conv_dim,
        .clamp_quantile = x->clamp_quantile,
        .min_diff = x->min_diff,
        .load = cmd_lora_precision(x->load, SD_STORE_F32),
        .save = cmd_lora_precision(x->save, SD_STORE_F32),
        .threads = x->c.common.jobs,
        .go_on = go_on,
        .ctx = &x->c,
    };
    if (x->v2 && !config->unet.linear_projection)
        cmd_usage(&x->c, "--v2, but %s is no SD 2.x model", x->original);
    int rc = sd_lora_extract(original, tuned, &o, &out, &report, &err);
    if (rc && !cmd_stopped(&x->c))
        cmd_die(&x->c, &err);
    if (!rc) {
        if (!report.text_encoder)
            cmd_say(&x->c,
                    "the text encoder is the same (largest difference %g): only the U-Net is extracted",
                    (double)report.text_diff);
        if (!report.different)
            cmd_warn(&x->c, "the models do not differ: this LoRA does nothing");
        set_metadata(x, config, &meta);
        cmd_lora_check_meta(&x->c, &meta);
        cmd_lora_make_folder(&x->c, x->output);
        if (sd_lora_out_write(&out, x->output, meta.v, meta.n, &err))
            cmd_die(&x->c, &err);
        cmd_say(&x->c, "%s: %zu modules", x->output, report.modules);
    }
    sd_meta_free(&meta);
    sd_lora_out_free(&out);
    sd_model_file_close(tuned);
    sd_model_file_close(original);
}

int main(int argc, char **argv)
{
    struct extract x = {.dim = 4, .clamp_quantile = 0.99, .min_diff = 0.01};
    const struct sd_option options[] = {
        {SD_OPT_STRING("model-org", 0, &x.original, "MODEL", "the model to start from (required)")},
        {SD_OPT_STRING("model-tuned", 0, &x.tuned, "MODEL", "the model that the LoRA leads to (required)")},
        {SD_OPT_STRING("output", 'o', &x.output, "FILE", "the LoRA to write (required)"), .alias = "save-to"},
        {SD_OPT_INT("dim", 0, &x.dim, "N", "rank of linear layers and 1x1 convolutions"), .min = 1,
         .max = 65536},
        {SD_OPT_INT("conv-dim", 0, &x.conv_dim, "N",
                    "rank of 3x3 convolutions; without it, layers outside of transformers are left out"),
         .min = 1, .max = 65536, .given = &x.conv_given},
        {SD_OPT_DOUBLE("clamp-quantile", 0, &x.clamp_quantile, "Q",
                       "clamp a module's values beyond this quantile"),
         .min = 0, .max = 1},
        {SD_OPT_DOUBLE("min-diff", 0, &x.min_diff, "D",
                       "leave the text encoder out unless some value in it differs by more"),
         .min = 0, .max = 1e30},
        {SD_OPT_CHOICE("load-precision", 0, &x.load, CMD_LORA_PRECISIONS,
                       "round the models' weights to this first")},
        {SD_OPT_CHOICE("save-precision", 0, &x.save, CMD_LORA_PRECISIONS,
                       "type of the LoRA's weights; float if omitted")},
        {SD_OPT_BOOL("v2", 0, &x.v2, "expect SD 2.x models; which they are is found out anyway")},
        {SD_OPT_BOOL("v-parameterization", 0, &x.v_parameterization,
                     "note v-prediction in the metadata (the default for SD 2.x)"),
         .given = &x.v_given},
        {SD_OPT_BOOL("no-metadata", 0, &x.no_metadata, "leave modelspec metadata out")},
        {SD_OPT_BOOL("sdxl", 0, &x.sdxl, "not available"), .hidden = true},
        {SD_OPT_STRING("load-original-model-to", 0, &x.original_to, "DEVICE", "not available"),
         .hidden = true},
        {SD_OPT_STRING("load-tuned-model-to", 0, &x.tuned_to, "DEVICE", "not available"), .hidden = true},
        SD_OPT_END,
    };
    x.c = (struct sd_cmd){
        .program = {.name = "sd-lora-extract",
                    .args = "",
                    .summary = "extract a LoRA from the difference of two models",
                    .options = options},
        .source = true,
        .own_progress = true,
    };
    cmd_start(&x.c, &argc, argv);
    cmd_lora_check_device(&x.c);
    if (x.sdxl)
        cmd_usage(&x.c, "--sdxl: SDXL models are not read by this program");
    if (x.original_to || x.tuned_to)
        cmd_usage(&x.c, "--load-original-model-to, --load-tuned-model-to: only for SDXL; models are mapped "
                        "from the disk");
    if (!x.original || !x.tuned)
        cmd_usage(&x.c, "two models are needed: --model-org MODEL --model-tuned MODEL");
    cmd_lora_check_output(&x.c, x.output);
    run(&x);
    return cmd_finish(&x.c);
}
