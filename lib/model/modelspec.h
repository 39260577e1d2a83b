/* What a file says of the model in it, by the keys of https://github.com/Stability-AI/ModelSpec, as
 * sd-scripts writes them into checkpoints and LoRAs. */
#ifndef SD_MODEL_MODELSPEC_H
#define SD_MODEL_MODELSPEC_H

#include <time.h>

#include "store/meta.h"

struct sd_modelspec {
    bool v2, v_prediction, lora;
    bool diffusers;          /* under diffusers' names; a LoRA counts as that */
    const char *path;        /* of the file to be written; its title comes from it */
    int side;                /* of the pictures it is made for; 0: what the architecture was */
    const char *merged_from; /* or NULL */
    time_t date;
    const char *timestep_range; /* "MIN,MAX", or NULL */
    int clip_skip;              /* 0 leaves encoder_layer out */
};
void sd_modelspec_set(struct sd_meta *m, const struct sd_modelspec *spec);

/* A model's title: modelspec.title, else its file's name without folders and ending. tf NULL stands for a
 * folder, whose name has no ending. In m's arena; NULL sticks as m's failure. */
const char *sd_modelspec_title(struct sd_meta *m, const struct sd_tensor_file *tf, const char *path);

#endif
