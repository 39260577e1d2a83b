#include "lora.h"

#include <stdlib.h>
#include <string.h>

enum sd_store_dtype cmd_lora_precision(const char *word, enum sd_store_dtype otherwise)
{
    return !word                    ? otherwise
           : !strcmp(word, "float") ? SD_STORE_F32
           : !strcmp(word, "fp16")  ? SD_STORE_F16
                                    : SD_STORE_BF16;
}

void cmd_lora_check_device(struct sd_cmd *c)
{
    if (c->common.device == SD_DEVICE_CUDA)
        cmd_usage(c, "--device cuda: this program computes on the processor");
}

void cmd_lora_check_output(struct sd_cmd *c, const char *path)
{
    if (!path)
        cmd_usage(c, "no output file: -o FILE");
    size_t n = strlen(path), e = strlen(".safetensors");
    if (n < e || strcmp(path + n - e, ".safetensors"))
        cmd_usage(c, "%s: only .safetensors files are written", path);
}

void cmd_lora_make_folder(struct sd_cmd *c, const char *path)
{
    const char *slash = strrchr(path, '/');
    struct sd_err err = {0};
    if (!slash || slash == path)
        return;
    char *folder = strndup(path, (size_t)(slash - path));
    if (!folder) {
        sd_err_memory(&err, strlen(path));
        cmd_die(c, &err);
    }
    cmd_folder(c, folder);
    free(folder);
}

void cmd_lora_check_meta(struct sd_cmd *c, const struct sd_meta *meta)
{
    struct sd_err err = {0};
    if (!meta->failed)
        return;
    sd_err_memory(&err, 64);
    cmd_die(c, &err);
}
