/* A model's tensors under other names, in other shapes and types, on the way from one file to another.
 *
 *     struct sd_convert cv = {.dtype = SD_STORE_F16, .change_dtype = true};
 *     sd_convert_part(&cv, mf, SD_PART_UNET, &names, &err)      // each part that is to go into the file
 *     sd_store_write(path, cv.tensors, cv.count, meta, n, &err)
 *     sd_convert_free(&cv)
 *
 * Nothing is read before the writer asks for it, and then in pieces, whose pages of the mapped source are let
 * go at once: memory does not grow with the model. */
#ifndef SD_MODEL_CONVERT_H
#define SD_MODEL_CONVERT_H

#include "base/arena.h"
#include "model/model_file.h"
#include "store/safetensors_write.h"

struct sd_convert {
    enum sd_store_dtype dtype; /* F32, F16 or BF16 for all floats, where change_dtype is set */
    bool change_dtype;
    bool (*go_on)(void *ctx, uint64_t bytes, uint64_t total); /* asked for every piece; may be NULL. False
                                                                 gives up, which is an error like others */
    void *ctx;
    struct sd_store_tensor *tensors; /* to be written; the source files must stay open as long */
    size_t count;
    uint64_t infinite;     /* numbers too large for F16 so far, now infinite */
    uint64_t bytes, total; /* written so far, and what all tensors have */
    struct sd_arena arena; /* private, like the rest */
    size_t cap;
};

/* Appends the tensors of a part as names spells them, its configuration being the file's. An error when the
 * part is not there, or some of its tensors are missing or misshapen; what is left over does not matter. */
int sd_convert_part(struct sd_convert *cv, struct sd_model_file *mf, enum sd_part part,
                    const struct sd_part_names *names, struct sd_err *err);

/* Appends one tensor of the source, under the name key, which is borrowed; in its own type if as_is. */
int sd_convert_tensor(struct sd_convert *cv, const char *key, const struct sd_store_entry *from, bool as_is,
                      struct sd_err *err);

/* Appends what original files of SD2 have and nobody uses, where the file mf has none of it, as sd-scripts
 * makes it up: a last text layer like the one before it, a projection of ones and a logit_scale of 1. */
int sd_convert_unused_openclip(struct sd_convert *cv, struct sd_model_file *mf,
                               const struct sd_part_names *names, struct sd_err *err);

void sd_convert_free(struct sd_convert *cv);

/* A tensor of the source that is no parameter of its model. */
enum sd_leftover_kind {
    SD_LEFTOVER_TEXT,    /* of the text encoder: position_ids, OpenCLIP's last layer and projection */
    SD_LEFTOVER_KNOWN,   /* averages, noise schedule, a VAE's loss: what training left behind */
    SD_LEFTOVER_UNKNOWN, /* none of these */
};

struct sd_leftover {
    enum sd_leftover_kind kind;
    const char *key; /* in an original file; for tensors of a folder made up with the part's name */
    const struct sd_store_entry *from;
    const struct sd_tensor_file *file; /* that it is of: its data may need sd_model_file_unpack */
};

/* All that the file or folder holds beside the parameters of the parts taken, in the arena: tensors of parts
 * not taken are not among them. */
int sd_model_leftovers(struct sd_model_file *mf, const bool taken[SD_PARTS], struct sd_arena *arena,
                       struct sd_leftover **out, size_t *count, struct sd_err *err);

#endif
