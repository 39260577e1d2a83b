#include "adapter/lora_blocks.h"

#include <string.h>

#include "adapter/network_names.h"
#include "base/json.h"

enum { MID = 13 };

int sd_lora_block(const char *name)
{
    struct sd_network_block b;
    sd_network_block_of(name, &b);
    if (b.stage == SD_STAGE_TEXT || b.stage == SD_STAGE_MID)
        return b.stage == SD_STAGE_TEXT ? 0 : MID;
    if (b.layer < 0 || b.layer > 2 || b.index > 3)
        return -1;
    return 3 * b.index + b.layer + (b.stage == SD_STAGE_UP ? MID + 1 : 2);
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
