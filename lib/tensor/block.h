/* Mutable variables that lie together in a device's memory, so that one copy brings all of them to the host
 * and one takes them back, where hundreds of small ones would keep the device waiting. Where the host
 * computes there is nothing to copy, and all of this does nothing. */
#ifndef SD_TENSOR_BLOCK_H
#define SD_TENSOR_BLOCK_H

#include "tensor/backend.h"

struct sd_block;

/* Lays vars together, filled from the host's. They are borrowed, must outlive the block, and no plan of the
 * backend may have had them yet. NULL with err set. */
struct sd_block *sd_block_new(struct sd_backend *b, struct sd_var *const *vars, int n, struct sd_err *err);
/* After the plans that have the variables. */
void sd_block_free(struct sd_block *k);

/* Enqueues the copy of what they are after all that was started so far, into one of two halves of memory of
 * the block's own, made at the first time: returns which. The next but one takes the same half. -1 with err
 * set. */
int sd_block_fetch(struct sd_block *k, struct sd_err *err);
/* The host's variables become what that half holds; after a wait that came after its fetch. */
void sd_block_take(struct sd_block *k, int half);

/* The device's variables become the host's, and the other way round; both wait. 0 or -1. */
int sd_block_push(struct sd_block *k, struct sd_err *err);
int sd_block_pull(struct sd_block *k, struct sd_err *err);

#endif
