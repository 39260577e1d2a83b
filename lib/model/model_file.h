/* A Stable Diffusion model on disk, whatever its layout: one file (safetensors, .ckpt, .pt, .bin: every
 * format of store/tensor_file.h) with the original (LDM) names or with the names of names.h, a file of a
 * single part (a VAE), or a diffusers folder, whose parts may lie in several files each
 * (model/folder_files.h).
 *
 *     struct sd_model_file *mf;
 *     if (sd_model_file_open(&mf, path, &err) || sd_model_file_need(mf, SD_PART_UNET, &err)) ...
 *     sd_weights_new(sd_model_file_find, mf, &err);       // model/weights.h
 *
 * The configuration comes from the folder's config.json files, from the file's metadata "sd_config", or from
 * the shapes, compared with the built-in ones. Files are mapped; nothing but headers is read here. */
#ifndef SD_MODEL_MODEL_FILE_H
#define SD_MODEL_MODEL_FILE_H

#include "model/config.h"
#include "model/names.h"
#include "store/tensor_file.h"

struct sd_model_file;

/* Finds out what path holds and how it is configured. On failure *mf is NULL. */
int sd_model_file_open(struct sd_model_file **mf, const char *path, struct sd_err *err);

/* The same; of a folder only the files of this variant are taken: "fp16" for model.fp16.safetensors. NULL for
 * the plain ones, or else those in half precision. */
int sd_model_file_open_variant(struct sd_model_file **mf, const char *path, const char *variant,
                               struct sd_err *err);
void sd_model_file_close(struct sd_model_file *mf); /* takes NULL; entries given out end with it */

const char *sd_model_file_path(const struct sd_model_file *mf);
bool sd_model_file_is_folder(const struct sd_model_file *mf);

/* Of the parts it lacks, the configuration is SD1's. Shapes cannot tell v-prediction from epsilon: without a
 * scheduler's config.json or sd_config, prediction is SD_PREDICT_EPSILON, and the caller's options may know
 * better. */
const struct sd_model_config *sd_model_file_config(const struct sd_model_file *mf);

bool sd_model_file_has(const struct sd_model_file *mf, enum sd_part part);

/* From now on the U-Net's values are the moving averages that LDM's trainer keeps beside them (model_ema.*).
 * To be called before any of its tensors is asked for. An error when one of them has none. */
int sd_model_file_use_ema(struct sd_model_file *mf, struct sd_err *err);

/* Opens a part and relates its names; an error when the model has no such part. Every other call does this by
 * itself where it must, so this is for its message, and for use before several threads look things up. */
int sd_model_file_need(struct sd_model_file *mf, enum sd_part part, struct sd_err *err);

/* The tensor of a parameter, by its name with the part in front. False when it is not there. mf is a
 * struct sd_model_file *; entry->name is the name asked in, its data may be a part of a larger tensor's. */
bool sd_model_file_find(void *mf, const char *name, struct sd_store_entry *entry);

/* The parameters of a part in the order of their names; 0 and NULL for a part that is not there. */
size_t sd_model_file_count(struct sd_model_file *mf, enum sd_part part);
const struct sd_store_entry *sd_model_file_entry(struct sd_model_file *mf, enum sd_part part, size_t i);

/* Names a part's weights, however the file is laid out or called: SHA-256 over the name, type, shape and
 * SHA-256 of each parameter. Reads all of the part. */
int sd_model_file_hash(struct sd_model_file *mf, enum sd_part part, char hex[65], struct sd_err *err);

/* What the model's builder expects. Trailing dimensions of 1 do not matter: [N,C] and [N,C,1,1] are the same.
 */
struct sd_model_param {
    const char *name; /* "unet.conv_in.weight" */
    int ndim;
    const int64_t *shape;
};

/* 0 when the part holds exactly these parameters; else an error with the first few names that are missing, of
 * another shape, or left over. */
int sd_model_file_check(struct sd_model_file *mf, enum sd_part part, const struct sd_model_param *expected,
                        size_t count, struct sd_err *err);

/* The same, but what is left over does not matter. */
int sd_model_file_holds(struct sd_model_file *mf, enum sd_part part, const struct sd_model_param *expected,
                        size_t count, struct sd_err *err);

/* The file (or the shards together) a part lies in and how it spells names, or NULL: for metadata, and for
 * writing a file like it. */
const struct sd_tensor_file *sd_model_file_tensors(struct sd_model_file *mf, enum sd_part part);
const struct sd_part_names *sd_model_file_names(struct sd_model_file *mf, enum sd_part part);

/* Copies an entry of tf, which is one of mf's files, and gives a tensor that the file does not hold as it is
 * (compressed, strided) memory of its own that lives as long as mf. Together these may not be larger than the
 * files they come from. */
int sd_model_file_unpack(struct sd_model_file *mf, const struct sd_tensor_file *tf,
                         const struct sd_store_entry *from, struct sd_store_entry *e, struct sd_err *err);

#endif
