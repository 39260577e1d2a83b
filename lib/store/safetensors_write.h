/* Writing safetensors files, byte for byte as the safetensors library lays them out: tensors sorted by
 * falling element type (enum sd_store_dtype), then by name; header members without spaces, padded with spaces
 * to 8. */
#ifndef SD_STORE_SAFETENSORS_WRITE_H
#define SD_STORE_SAFETENSORS_WRITE_H

#include "store/dtype.h"
#include "store/safetensors.h"

/* One tensor to write. Its bytes come from data, or, where that is NULL, from fill, so that a whole model can
 * be converted on the way to the disk in little memory. All is borrowed. */
struct sd_store_tensor {
    const char *name; /* UTF-8 */
    enum sd_store_dtype dtype;
    int ndim;
    const int64_t *shape;
    const void *data;
    /* Puts bytes [offset, offset+bytes) of the tensor at dst. Called in rising order without gaps; offset and
     * bytes are multiples of the element's size, and the pieces are at most 1 MiB. Returns 0 or -1 with err.
     */
    int (*fill)(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err);
    void *ctx;
};

/* meta NULL leaves __metadata__ out; meta with a count of 0 writes an empty one; pairs keep their order. The
 * file appears whole or not at all. */
int sd_store_write(const char *path, const struct sd_store_tensor *tensors, size_t count,
                   const struct sd_store_meta *meta, size_t meta_count, struct sd_err *err);

/* The same with several threads: fill is called for several pieces at once, of one tensor or of different
 * ones, in no particular order, while the pieces before them are written. Memory for 2 jobs + 2 pieces. */
int sd_store_write_jobs(const char *path, const struct sd_store_tensor *tensors, size_t count,
                        const struct sd_store_meta *meta, size_t meta_count, int jobs, struct sd_err *err);

/* The hashes that sd-scripts writes as sshs_model_hash (64 hex digits: SHA-256 of the tensors' bytes) and
 * sshs_legacy_hash (8 hex digits: of bytes 0x100000..0x10ffff of the file with only the ss_* pairs of meta).
 */
int sd_store_hash(const struct sd_store_tensor *tensors, size_t count, const struct sd_store_meta *meta,
                  size_t meta_count, char model_hash[65], char legacy_hash[9], struct sd_err *err);

#endif
