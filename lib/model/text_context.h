/* What the U-Net's cross-attention reads for a prompt of any number of chunks (behaviour of sd-scripts'
 * SdTextEncodingStrategy): each chunk of 77 ids is encoded alone, then one BOS state, the 75 inner states of
 * every chunk and the last state of the last chunk are joined. */
#ifndef SD_MODEL_TEXT_CONTEXT_H
#define SD_MODEL_TEXT_CONTEXT_H

#include "model/clip_text.h"

/* ids i32 [n*chunks,77], chunks of one prompt consecutive, to [n, 75*chunks+2, C] in the builder's type. */
struct sd_tensor *sd_text_context(struct sd_nn *b, const struct sd_text_config *c, struct sd_tensor *ids,
                                  int chunks, int clip_skip);

#endif
