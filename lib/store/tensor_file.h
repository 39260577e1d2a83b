/* Files of tensors, whatever their format; their content tells it, not their name:
 *
 *     safetensors    store/safetensors.h
 *     torch          what torch.save writes, a zip archive (.ckpt, .pt, .bin): store/torch_file.h
 *     torch-legacy   what it wrote before 1.6
 *     npz            NumPy's archives: store/npz.h
 *     shards         a model in several of these, by the JSON index that diffusers and transformers put
 * beside them (*.index.json: {"metadata":.., "weight_map": {tensor: file}}); all its files must be there and
 * lie in its folder
 *
 * The file is mapped, and all that it says of its tensors is checked before anything is handed out: each
 * one's bytes lie inside of the file and agree with shape and type. Messages name the file, the tensor, and
 * what was expected. */
#ifndef SD_STORE_TENSOR_FILE_H
#define SD_STORE_TENSOR_FILE_H

#include "store/dtype.h"

struct sd_tensor_file;

/* A string pair: of a safetensors header's __metadata__, or a text or number that lies beside the tensors of
 * a torch.save ("epoch", "12"). */
struct sd_store_meta {
    const char *key, *value;
};

/* On failure *tf is NULL. Nothing but headers is read. */
int sd_tensor_file_open(struct sd_tensor_file **tf, const char *path, struct sd_err *err);
void sd_tensor_file_close(struct sd_tensor_file *tf); /* takes NULL */

const char *sd_tensor_file_path(const struct sd_tensor_file *tf);
const char *sd_tensor_file_format(const struct sd_tensor_file *tf); /* as above: "safetensors" */
uint64_t sd_tensor_file_size(const struct sd_tensor_file *tf);      /* in bytes, with all shards */
size_t sd_tensor_file_count(const struct sd_tensor_file *tf);

/* Entry i of 0 .. count-1, in the order in which the data lies in the file. Valid until close. Its data is
 * NULL where the file does not hold the tensor's bytes as they are: compressed (npz), or with strides
 * (torch). */
const struct sd_store_entry *sd_tensor_file_entry(const struct sd_tensor_file *tf, size_t i);

/* The tensor of that name, or NULL. */
const struct sd_store_entry *sd_tensor_file_find(const struct sd_tensor_file *tf, const char *name);

/* The bytes of an entry of tf, e->bytes of them, into out; also where its data is NULL. */
int sd_tensor_file_read(const struct sd_tensor_file *tf, const struct sd_store_entry *e, void *out,
                        struct sd_err *err);

/* Its values, converted to f32. */
int sd_tensor_file_read_f32(const struct sd_tensor_file *tf, const struct sd_store_entry *e, float *out,
                            struct sd_err *err);

/* Metadata in the order of the file; *count may be 0. Of shards it is the first one's. */
const struct sd_store_meta *sd_tensor_file_metadata(const struct sd_tensor_file *tf, size_t *count);

/* The value of one key, or NULL. */
const char *sd_tensor_file_meta(const struct sd_tensor_file *tf, const char *key);

/* Whether path is the file's, or one of its shards'. */
bool sd_tensor_file_is_at(const struct sd_tensor_file *tf, const char *path);

/* The name ends as those of tensor files do. */
bool sd_tensor_file_named(const char *name);

/* The same reading of bytes in memory, which must outlive the result; name stands for the file in messages.
 * No shards.
 */
int sd_tensor_file_parse(struct sd_tensor_file **tf, const void *bytes, size_t size, const char *name,
                         struct sd_err *err);

#endif
