/* sd-init: a model file with random weights, of a known architecture and the original key names. */
#include "cmd.h"

#include <string.h>

#include "model/init.h"

static enum sd_store_dtype dtype_of(const char *name)
{
    return !strcmp(name, "f32") ? SD_STORE_F32 : !strcmp(name, "f16") ? SD_STORE_F16 : SD_STORE_BF16;
}

static bool go_on(void *ctx, uint64_t bytes, uint64_t total)
{
    struct sd_cmd *c = ctx;
    c->total = total >> 20;
    cmd_progress(c, bytes >> 20, "MiB");
    return !cmd_stopped(c);
}

int main(int argc, char **argv)
{
    const char *arch = "sd1", *dtype = "bf16", *output = NULL;
    int64_t seed = 0;
    const struct sd_option options[] = {
        {SD_OPT_CHOICE("arch", 'a', &arch, "sd1|sd2|sd2-v|tiny", "which model")},
        {SD_OPT_INT("seed", 's', &seed, "N", "random numbers to use"), .min = 0, .max = 9007199254740991.0},
        {SD_OPT_CHOICE("dtype", 't', &dtype, "f32|f16|bf16", "type of the weights")},
        {SD_OPT_STRING("output", 'o', &output, "FILE", "the file to write (required)")},
        SD_OPT_END,
    };
    struct sd_cmd c = {
        .program = {.name = "sd-init",
                    .args = "",
                    .summary = "write a Stable Diffusion model with random weights",
                    .description =
                        "The file has the original (LDM) key names and shapes, so any program that reads "
                        "Stable Diffusion models reads it.\nIt is for tests, measurements and training "
                        "from nothing: its pictures are noise.",
                    .options = options},
        .source = true,
        .own_progress = true,
    };
    struct sd_err err = {0};
    cmd_start(&c, &argc, argv);
    if (!output)
        cmd_usage(&c, "no output file: -o FILE");
    struct sd_model_init_watch watch = {go_on, &c};
    if (sd_model_init(output, sd_model_config_builtin(arch), (uint64_t)seed, dtype_of(dtype), &watch, &err) &&
        !cmd_stopped(&c))
        cmd_die(&c, &err);
    return cmd_finish(&c);
}
