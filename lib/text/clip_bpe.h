/* The CLIP tokenizer: text to ids as transformers' CLIPTokenizer makes them (without ftfy).
 *
 * Text is cleaned (control and unassigned characters dropped, CJK set apart, NFC, lower case), cut into
 * words, numbers and runs of signs, and each piece becomes byte-level BPE symbols. Any bytes are accepted;
 * malformed UTF-8 reads as U+FFFD, which the cleaning drops. The vocabulary of openai/clip-vit-large-patch14
 * is part of the program.
 *
 *     struct sd_clip_bpe *bpe;
 *     int32_t ids[1][77];
 *     sd_clip_bpe_new(SD_CLIP_SD1, &bpe, err) || sd_clip_bpe_chunks(bpe, text, strlen(text), 77, ids[0],
 * err);
 *
 * Encoding and decoding only read the tokenizer, so any number of threads may share one. */
#ifndef SD_TEXT_CLIP_BPE_H
#define SD_TEXT_CLIP_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SD_CLIP_BOS = 49406,   /* <|startoftext|> */
    SD_CLIP_EOS = 49407,   /* <|endoftext|> */
    SD_CLIP_VOCAB = 49408, /* ids from here on are added tokens */
    SD_CLIP_CONTEXT = 77,  /* ids the text encoder takes at a time, with BOS and EOS */
};

/* Stable Diffusion 1 pads with EOS. Stable Diffusion 2 pads with id 0, "!", and its tokenizer therefore takes
 * every "!" in a text for a special token of its own, id 0 instead of 256. */
enum sd_clip_kind { SD_CLIP_SD1, SD_CLIP_SD2 };

struct sd_clip_bpe;

/* A new tokenizer in *out, to be freed by the caller; takes about half a millisecond. */
int sd_clip_bpe_new(enum sd_clip_kind kind, struct sd_clip_bpe **out, struct sd_err *err);
void sd_clip_bpe_free(struct sd_clip_bpe *bpe);

/* Adds a token found as a literal, case-sensitive substring before any cleaning, the longest first, as
 * tokenizer.add_tokens does; *id becomes the next free id. A token that exists already, or an empty one, is
 * an error. Not to be called while other threads use bpe. */
int sd_clip_bpe_add_token(struct sd_clip_bpe *bpe, const char *token, size_t len, int32_t *id,
                          struct sd_err *err);

/* Ids there are, added tokens included. */
int32_t sd_clip_bpe_size(const struct sd_clip_bpe *bpe);

/* The id padding is made of: 49407 (SD1) or 0 (SD2). */
int32_t sd_clip_bpe_pad(const struct sd_clip_bpe *bpe);

/* Ids of text[len], without BOS and EOS around them. *ids is the caller's to free; it is never NULL. */
int sd_clip_bpe_encode(const struct sd_clip_bpe *bpe, const char *text, size_t len, int32_t **ids, size_t *n,
                       struct sd_err *err);

/* Length in bytes of the beginning of text[len] that the first `room` of its ids cover in whole words,
 * numbers and runs of signs: what is behind it falls off, or is cut into, where the ids are cut. *fit is len
 * when there are no more ids than that. */
int sd_clip_bpe_fit(const struct sd_clip_bpe *bpe, const char *text, size_t len, size_t room, size_t *fit,
                    struct sd_err *err);

/* Chunks of 77 ids for a model length of 77, 152 or 227 (75, 150, 225 tokens): 1, 2 or 3. */
size_t sd_clip_bpe_chunk_count(int length);

/* Model input: BOS, text cut to length - 2 tokens, EOS, padding, then cut into chunks[n][77], each with the
 * first and last id of the whole. With SD2 padding a chunk that ends inside the text ends in EOS, and one
 * that starts with padding starts with EOS. */
int sd_clip_bpe_chunks(const struct sd_clip_bpe *bpe, const char *text, size_t len, int length,
                       int32_t *chunks, struct sd_err *err);

/* The same from ids[n] made before. */
int sd_clip_bpe_chunk_ids(const struct sd_clip_bpe *bpe, const int32_t *ids, size_t n, int length,
                          int32_t *chunks, struct sd_err *err);

/* Text of ids[n], special tokens spelled out: tokenizer.decode(ids). *text is the caller's to free,
 * NUL-ended, valid UTF-8 of *len bytes. An id outside the vocabulary is an error. */
int sd_clip_bpe_decode(const struct sd_clip_bpe *bpe, const int32_t *ids, size_t n, char **text, size_t *len,
                       struct sd_err *err);

#endif
