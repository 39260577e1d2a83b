/* CLIP's vocabulary as the files that transformers' CLIPTokenizer reads. */
#ifndef SD_TEXT_CLIP_FILES_H
#define SD_TEXT_CLIP_FILES_H

#include "base/buf.h"
#include "text/clip_bpe.h"

/* Appends vocab.json, {"!": 0, ...} in the order of the ids, and merges.txt, a comment and a pair a line. 0,
 * or -1 when memory is out. */
int sd_clip_vocab_json(struct sd_buf *out);
int sd_clip_merges_txt(struct sd_buf *out);

/* Appends tokenizer_config.json and special_tokens_map.json, which tell what a prompt is padded with. */
int sd_clip_tokenizer_config(struct sd_buf *out, enum sd_clip_kind kind);
int sd_clip_special_tokens(struct sd_buf *out, enum sd_clip_kind kind);

#endif
