/* What a tensor file holds: how each part's names are spelled, and which configuration its shapes are of. */
#ifndef SD_MODEL_MODEL_DETECT_H
#define SD_MODEL_MODEL_DETECT_H

#include "model/config.h"
#include "model/names.h"
#include "store/tensor_file.h"

/* Finds the spelling of a part in a file. False when nothing in it looks like that part. */
bool sd_model_detect_names(const struct sd_tensor_file *tf, enum sd_part part, struct sd_part_names *out);

/* The configuration of a file whose parts (has[p]) are spelled names[p]: from the metadata "sd_config", else
 * the built-in one whose shapes agree. */
int sd_model_detect_config(const struct sd_tensor_file *tf, const bool has[SD_PARTS],
                           const struct sd_part_names names[SD_PARTS], struct sd_model_config *out,
                           struct sd_err *err);

#endif
