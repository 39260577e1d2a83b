/* Reading safetensors files: an 8-byte length, a JSON header of that length, the tensors' bytes.
 *
 * The file is mapped, and its header is checked in full before anything is handed out: every offset lies
 * inside the file, agrees with shape and type, and the tensors cover the data without gap or overlap, which
 * is what the safetensors library demands too. Messages name the file, the tensor, and what was expected. */
#ifndef SD_STORE_SAFETENSORS_H
#define SD_STORE_SAFETENSORS_H

#include "store/dtype.h"

struct sd_tensor_file;

/* A string pair of the header's __metadata__. */
struct sd_store_meta {
    const char *key, *value;
};

/* On failure *tf is NULL. Nothing but the header is read. */
int sd_tensor_file_open(struct sd_tensor_file **tf, const char *path, struct sd_err *err);
void sd_tensor_file_close(struct sd_tensor_file *tf); /* takes NULL */

const char *sd_tensor_file_path(const struct sd_tensor_file *tf);
size_t sd_tensor_file_count(const struct sd_tensor_file *tf);

/* Entry i of 0 .. count-1, in the order in which the data lies in the file. Valid until close. */
const struct sd_store_entry *sd_tensor_file_entry(const struct sd_tensor_file *tf, size_t i);

/* The tensor of that name, or NULL. */
const struct sd_store_entry *sd_tensor_file_find(const struct sd_tensor_file *tf, const char *name);

/* Metadata in the order of the header; *count may be 0. */
const struct sd_store_meta *sd_tensor_file_metadata(const struct sd_tensor_file *tf, size_t *count);

/* The value of one key, or NULL. */
const char *sd_tensor_file_meta(const struct sd_tensor_file *tf, const char *key);

/* The same reading of bytes in memory, which must outlive the result; name stands for the file in messages.
 */
int sd_tensor_file_parse(struct sd_tensor_file **tf, const void *bytes, size_t size, const char *name,
                         struct sd_err *err);

#endif
