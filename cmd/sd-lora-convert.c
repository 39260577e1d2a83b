/* sd-lora-convert: sd-scripts' names of LoRAs to diffusers', and back. */
#include "lora.h"

#include <string.h>

#include "adapter/lora_convert.h"

int main(int argc, char **argv)
{
    const char *to = NULL, *output = NULL, *save = NULL;
    const struct sd_option options[] = {
        {SD_OPT_STRING("output", 'o', &output, "FILE", "the LoRA to write (required)"), .alias = "save-to"},
        {SD_OPT_CHOICE("to", 0, &to, "diffusers|sd-scripts",
                       "whose names; those that LORA does not have if omitted")},
        {SD_OPT_CHOICE("save-precision", 0, &save, CMD_LORA_PRECISIONS,
                       "type of the weights; LORA's if omitted")},
        SD_OPT_END,
    };
    struct sd_cmd c = {
        .program = {.name = "sd-lora-convert",
                    .args = "LORA",
                    .summary = "rename a LoRA's tensors from sd-scripts' names to diffusers', or back",
                    .options = options,
                    .min_args = 1,
                    .max_args = 1},
        .source = true,
    };
    struct sd_err err = {0};
    struct sd_network n;
    struct sd_lora_out out = {0};
    struct sd_meta meta = {0};
    cmd_start(&c, &argc, argv);
    cmd_lora_check_device(&c);
    cmd_lora_check_output(&c, output);
    if (sd_network_open(&n, argv[1], &err))
        cmd_die(&c, &err);
    bool to_diffusers = to ? !strcmp(to, "diffusers") : !sd_lora_is_diffusers(&n);
    if (sd_lora_convert(&n, to_diffusers, cmd_lora_precision(save, SD_STORE_DTYPES), &out, &meta, &err))
        cmd_die(&c, &err);
    cmd_lora_make_folder(&c, output);
    if (sd_lora_out_write(&out, output, meta.v, meta.n, &err))
        cmd_die(&c, &err);
    cmd_say(&c, "%s: %zu modules in the names of %s", output, n.count,
            to_diffusers ? "diffusers" : "sd-scripts");
    sd_meta_free(&meta);
    sd_lora_out_free(&out);
    sd_network_close(&n);
    return cmd_finish(&c);
}
