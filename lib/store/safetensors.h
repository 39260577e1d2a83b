/* Reading safetensors files: an 8-byte length, a JSON header of that length, the tensors' bytes. They are
 * opened and asked like those of every other format, by store/tensor_file.h.
 *
 * The header is checked in full: every offset lies inside the file, agrees with shape and type, and the
 * tensors cover the data without gap or overlap, which is what the safetensors library demands too. */
#ifndef SD_STORE_SAFETENSORS_H
#define SD_STORE_SAFETENSORS_H

#include "store/tensor_file.h"

#endif
