/* What the writers of all formats do with a tensor. */
#ifndef SD_STORE_EMIT_H
#define SD_STORE_EMIT_H

#include "store/safetensors_write.h"

#define SD_STORE_CHUNK ((size_t)1 << 20)

typedef int sd_store_sink(void *ctx, const void *bytes, size_t len, struct sd_err *err);

/* Its name is UTF-8 and its shape possible. */
int sd_store_check(const struct sd_store_tensor *t, struct sd_err *err);

/* Hands the tensor's bytes to the sink, in pieces of at most SD_STORE_CHUNK bytes; chunk is that much memory.
 */
int sd_store_emit(const struct sd_store_tensor *t, unsigned char *chunk, sd_store_sink *sink, void *ctx,
                  struct sd_err *err);

#endif
