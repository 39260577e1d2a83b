/* Any bytes go through the CLIP tokenizer; its ids decode, and encode within bounds. */
#include <stdint.h>
#include <stdlib.h>

#include "text/clip_bpe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sd_clip_bpe *bpe[2];
    struct sd_err err;
    if (!bpe[0]) {
        int32_t id;
        if (sd_clip_bpe_new(SD_CLIP_SD1, &bpe[0], &err) || sd_clip_bpe_new(SD_CLIP_SD2, &bpe[1], &err) ||
            sd_clip_bpe_add_token(bpe[1], "<a>", 3, &id, &err) ||
            sd_clip_bpe_add_token(bpe[1], "<a>a", 4, &id, &err))
            abort();
    }
    for (int k = 0; k < 2; k++) {
        int32_t *ids, chunks[3 * SD_CLIP_CONTEXT];
        size_t n, len;
        char *text;
        if (sd_clip_bpe_encode(bpe[k], (const char *)data, size, &ids, &n, &err))
            abort();
        for (size_t i = 0; i < n; i++)
            if (ids[i] < 0 || ids[i] >= sd_clip_bpe_size(bpe[k]))
                abort();
        if (sd_clip_bpe_chunk_ids(bpe[k], ids, n, 227, chunks, &err) ||
            sd_clip_bpe_decode(bpe[k], ids, n, &text, &len, &err))
            abort();
        free(ids);
        free(text);
    }
    return 0;
}
