/* Between the two forms of torch.save (torch_file.c) and what both hold (torch_tensors.c). */
#ifndef SD_STORE_TORCH_PRIVATE_H
#define SD_STORE_TORCH_PRIVATE_H

#include "store/pickle.h"
#include "store/tensor_file_private.h"

/* A storage's bytes in the mapped file. */
struct sd_torch_blob {
    const char *key; /* not NUL-terminated */
    size_t key_len;
    const unsigned char *data;
    uint64_t bytes;
};

struct sd_torch_blobs {
    struct sd_torch_blob *all; /* sorted by key */
    size_t count;
};

const struct sd_torch_blob *sd_torch_find_blob(const struct sd_torch_blobs *blobs, const char *key,
                                               size_t len);

/* Fills tf with the tensors and the metadata of what was saved.
 *
 * The tensors are those of the dict "state_dict", "model_state_dict", "model", "params_ema" or "params", the
 * first that is a dict with tensors in it; else all there are. Dicts, lists and ParameterDicts are walked,
 * and names joined by dots, with the index for a list's ("string_to_param.*"). Values that are no tensors are
 * passed over; the numbers and texts of the outermost dict are the file's metadata.
 *
 * A storage must be as long as the pickle says, and a tensor lie inside of it. Strides that are not those of
 * a plain array are followed when the tensor is read, but not where they make it larger than its storage.
 * Memory is counted as the pickle's own. */
int sd_torch_collect(struct sd_tensor_file *tf, struct sd_pickle *saved, const struct sd_torch_blobs *blobs,
                     struct sd_err *err);

/* How much of a name goes into a message, for "%.*s". */
static inline int sd_torch_shown(size_t len)
{
    return len < 100 ? (int)len : 100;
}

#endif
