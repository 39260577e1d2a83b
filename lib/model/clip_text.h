/* CLIP's text encoder (Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
 * 2021): OpenAI's ViT-L/14 in SD1, OpenCLIP's ViT-H/14 in SD2. Follows transformers' CLIPTextModel. */
#ifndef SD_MODEL_CLIP_TEXT_H
#define SD_MODEL_CLIP_TEXT_H

#include "model/config.h"
#include "nn/nn.h"

/* ids i32 [N,T], T at most c->positions, to hidden states [N,T,C] in the builder's type, after the final
 * norm. clip_skip n takes the state n layers from the end; 0 and 1 both mean the last. SD2's configuration
 * has 23 layers of OpenCLIP's 24, so that its last state is the penultimate one that SD2 was trained on.
 * Parameters are named text_encoder.text_model.* . */
struct sd_tensor *sd_clip_text(struct sd_nn *b, const struct sd_text_config *c, struct sd_tensor *ids,
                               int clip_skip);

#endif
