/* The hashes by which web UIs and sd-scripts know model files. */
#ifndef SD_STORE_FILE_HASH_H
#define SD_STORE_FILE_HASH_H

#include "store/safetensors.h"

/* Texts of hexadecimal digits; "" where a file of this kind has none. */
struct sd_file_hash {
    char sha256[65]; /* of the file; AutoV2 is its first 10 digits; sd-scripts' ss_new_sd_model_hash */
    char autov1[9];  /* SHA-256 of the bytes 0x100000 .. 0x10ffff; sd-scripts' ss_sd_model_hash */
    char data[65];   /* SHA-256 of all behind a safetensors header; AutoV3 is its first 12 digits */
    char model[65];  /* sshs_model_hash and sshs_legacy_hash, as sd-scripts would write them into a file of */
    char legacy[9];  /* these tensors and ss_* pairs, whatever order this file keeps the tensors in */
};

/* Reads all of path; tf is the same file opened, or NULL when it is no safetensors file. The hashes are
 * computed side by side on up to jobs threads, in little memory. */
int sd_file_hash(const char *path, const struct sd_tensor_file *tf, int jobs, struct sd_file_hash *out,
                 struct sd_err *err);

#endif
