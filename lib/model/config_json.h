/* Configurations in diffusers' form: the config.json files of a model folder, or one JSON object
 * {"unet": {..}, "vae": {..}, "text_encoder": {..}, "scheduler": {..}} with the same members, which the
 * toolkit keeps in the metadata "sd_config" of files whose shapes alone do not tell everything.
 *
 * Members that do not change the network are ignored; those that ask for something this toolkit does not
 * build (class embeddings, other block types, ...) are refused by name. Absent members take diffusers'
 * defaults. */
#ifndef SD_MODEL_CONFIG_JSON_H
#define SD_MODEL_CONFIG_JSON_H

#include "base/buf.h"
#include "base/json.h"
#include "model/config.h"

/* One part each. *out is untouched on failure; messages start with the member's name. */
int sd_unet_config_parse(struct sd_unet_config *out, const cJSON *object, struct sd_err *err);
int sd_vae_config_parse(struct sd_vae_config *out, const cJSON *object, struct sd_err *err);
int sd_text_config_parse(struct sd_text_config *out, const cJSON *object, struct sd_err *err);

/* A scheduler_config.json: its prediction_type, and a noise schedule that must be SD's. */
int sd_scheduler_config_parse(enum sd_prediction *out, const cJSON *object, struct sd_err *err);

/* The parts present in object replace those of *c, which starts as the caller's default. */
int sd_model_config_parse(struct sd_model_config *c, const cJSON *object, struct sd_err *err);
int sd_model_config_parse_text(struct sd_model_config *c, const char *json, struct sd_err *err);

/* The same from the folders that exist: FOLDER/unet/config.json, vae/, text_encoder/,
 * scheduler/scheduler_config.json, tokenizer/special_tokens_map.json (for the padding token). Messages name
 * the file. */
int sd_model_config_read_folder(struct sd_model_config *c, const char *folder, struct sd_err *err);

/* Appends c as that one JSON object, with the members that diffusers needs to rebuild the parts. */
int sd_model_config_write(struct sd_buf *out, const struct sd_model_config *c);

#endif
