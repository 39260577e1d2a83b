/* What a file or diffusers folder is, told from its tensors: a whole model or a part of one, of which family
 * and layout; a network of some kind; an embedding. Kinds this toolkit cannot use are named where they are
 * known. */
#ifndef SD_ADAPTER_IDENTIFY_H
#define SD_ADAPTER_IDENTIFY_H

#include "base/arena.h"
#include "store/dtype.h"

enum { SD_IDENTIFY_NAMES = 5 }; /* names given of what is missing or extra */

/* How many, and the first few names. */
struct sd_name_list {
    size_t count;
    const char *names[SD_IDENTIFY_NAMES];
};

/* Texts are static or the identity's own; NULL is "cannot be told", or "does not apply". */
struct sd_identity {
    const char *kind;    /* checkpoint, unet, vae, text_encoder; lora, locon, loha, lokr, dylora, oft, diff;
                            textual_inversion, hypernetwork, controlnet, ...; unknown */
    const char *family;  /* sd1, sd2, sdxl, sd3, flux, ...; of a model of another size tiny or custom */
    const char *variant; /* inpainting, depth, instruct-pix2pix, upscaler, unclip */
    const char *layout;  /* original, diffusers, diffusers-old (VAE of diffusers < 0.17), transformers; of
                            networks sd-scripts, diffusers, peft */
    const char
        *prediction;      /* epsilon, v_prediction, sample: from metadata or the scheduler's configuration */
    const char *parts[4]; /* those that are there, from unet, vae, text_encoder, text_encoder_2 */
    size_t part_count, tensors;
    uint64_t parameters; /* floating-point elements, without EMA and noise schedule */
    bool ema;
    uint64_t bytes[SD_STORE_DTYPES]; /* by type */

    bool model;     /* kind is a model or a part of one; the rest is of those */
    bool supported; /* this toolkit can use it as it is */
    const char *why_not;
    bool checked; /* its family is supported, so that what should be there is known: */
    struct sd_name_list missing, misshapen, extra;

    struct sd_arena arena; /* private */
};

/* Reads headers only. A folder is one when it has the parts' folders or a config.json in it. */
int sd_identify(struct sd_identity *id, const char *path, struct sd_err *err);
void sd_identity_free(struct sd_identity *id); /* takes a zeroed struct */

/* True for a folder that sd_identify takes as a whole. */
bool sd_is_model_folder(const char *path);

#endif
