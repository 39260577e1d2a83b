/* Any lines as the words of --network_args. fuzz-seeds: t/unit/network.c t/unit/train.c */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/network_args.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_network_args args;
    struct sd_strings words = {0};
    struct sd_err err = {0};
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    memcpy(text, data, size);
    text[size] = 0;
    for (char *at = text; *at;) { /* words end where a line or a string of C does */
        size_t len = strcspn(at, "\n\"");
        char *next = at[len] ? at + len + 1 : at + len;
        at[len] = 0;
        if (strchr(at, '=') && sd_strings_add(&words, at))
            break;
        at = next;
    }
    int rc = sd_network_args_parse(&args, &words, 4, 1, &err);
    if (rc && !*err.msg)
        abort();
    for (int i = 0; !rc && i < SD_UNET_BLOCKS; i++)
        if (args.blocks.rank[i] < 0 || args.blocks.conv_rank[i] < 0 || !isfinite(args.rate[i]))
            abort();
    sd_strings_free(&words);
    free(text);
    return 0;
}
