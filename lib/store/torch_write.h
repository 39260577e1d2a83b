/* Writing what torch.save would write, since PyTorch 1.6: a zip archive that torch.load takes, also with
 * weights_only=True and mmap=True (store/torch_file.c tells the form). The tensors are a dict from names to
 * contiguous tensors on the CPU, each with a storage of its own, in the order given. */
#ifndef SD_STORE_TORCH_WRITE_H
#define SD_STORE_TORCH_WRITE_H

#include "store/safetensors_write.h"

/* A number beside the tensors, as sd-scripts writes "epoch" and "global_step". */
struct sd_torch_number {
    const char *key;
    int64_t value;
};

/* key NULL saves the dict of tensors itself, without numbers; else a dict in which that one has this key
 * ("state_dict"), with the numbers behind it. Tensors as in sd_store_write: one that has a fill is converted
 * on the way. The file appears whole or not at all. */
int sd_torch_write(const char *path, const struct sd_store_tensor *tensors, size_t count, const char *key,
                   const struct sd_torch_number *numbers, size_t number_count, struct sd_err *err);

#endif
