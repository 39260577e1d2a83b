#include "adapter/lora_blocks.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

enum { MID = 13 };

int sd_lora_block(const char *name)
{
    char kind[16];
    int i, j;
    if (strstr(name, "text_model_encoder_"))
        return 0;
    const char *at = strstr(name, "_blocks_");
    while (at && sscanf(at, "_blocks_%2d_%15[a-z]_%2d_", &i, kind, &j) != 3)
        at = strstr(at + 1, "_blocks_");
    if (!at)
        return strstr(name, "mid_block_") ? MID : -1;
    bool down = at - name >= 4 && !memcmp(at - 4, "down", 4), up = at - name >= 2 && !memcmp(at - 2, "up", 2);
    bool layer = !strcmp(kind, "resnets") || !strcmp(kind, "attentions");
    if (i > 3 || j > 2 || i < 0 || j < 0)
        return -1;
    if (down && (layer || !strcmp(kind, "downsamplers")))
        return layer ? 1 + 3 * i + j + 1 : 1 + 3 * (i + 1);
    if (up && (layer || !strcmp(kind, "upsamplers")))
        return layer ? MID + 1 + 3 * i + j : MID + 1 + 3 * i + 2;
    return strstr(name, "mid_block_") ? MID : -1;
}

int sd_lora_block_weights(const char *text, double weights[SD_LORA_BLOCKS], struct sd_err *err)
{
    static const unsigned char attention[] = {0, 2, 3, 5, 6, 8, 9, MID, 17, 18, 19, 20, 21, 22, 23, 24, 25};
    enum { ATTENTION = sizeof attention };
    cJSON *list = sd_json_parse(text, strlen(text), err);
    int n = cJSON_GetArraySize(list), i = 0, rc = 0;
    if (!list)
        return sd_err_prefix(err, "block weights");
    if (!cJSON_IsArray(list) || (n != SD_LORA_BLOCKS && n != ATTENTION))
        rc = sd_err_set(err, SD_ERR_USAGE, "block weights %.60s: expected a JSON list of %d or %d numbers",
                        text, (int)ATTENTION, (int)SD_LORA_BLOCKS);
    for (int b = 0; b < SD_LORA_BLOCKS; b++)
        weights[b] = 1;
    for (const cJSON *w = rc ? NULL : list->child; w; w = w->next, i++) {
        if (!cJSON_IsNumber(w))
            rc = sd_err_set(err, SD_ERR_USAGE, "block weights %.60s: a value is not a number", text);
        weights[n == ATTENTION ? attention[i] : i] = w->valuedouble;
    }
    cJSON_Delete(list);
    return rc;
}
