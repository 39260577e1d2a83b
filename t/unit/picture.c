/* Pictures drawn with the tiny model, whole path, against diffusers' own (t/ref/tiny.py), within 1/255 a
 * channel. */
#include "sample/pipeline.h"
#include "backend.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>

static const struct {
    const char *name, *sampler, *prompt, *negative;
    uint64_t seed;
    int64_t width, height;
    int steps;
    double scale;
} pictures[] = {
    {"ddim", "ddim", "a red circle on a blue ground", "", 1, 64, 64, 30, 7.5},
    {"euler", "euler", "a green square on a yellow ground", "blue", 2, 64, 64, 20, 5.0},
    {"wide", "ddim", "a white triangle on a red ground", "", 3, 80, 48, 10, 1.0},
};
#define PICTURES (int)(sizeof pictures / sizeof *pictures)

static int largest_difference(const struct sd_image *a, const struct sd_image *b)
{
    int most = 0;
    if (a->width != b->width || a->height != b->height)
        return 256;
    for (size_t i = 0; i < (size_t)a->width * a->height * 3; i++) {
        int d = abs(a->data[i] - b->data[i]);
        most = d > most ? d : most;
    }
    return most;
}

static int check(struct sd_pipeline *p, int i, struct sd_err *err)
{
    struct sd_draw d = {.prompt = pictures[i].prompt,
                        .negative = pictures[i].negative,
                        .seed = pictures[i].seed,
                        .width = pictures[i].width,
                        .height = pictures[i].height,
                        .scale = pictures[i].scale,
                        .sampler = {.name = pictures[i].sampler,
                                    .steps = pictures[i].steps,
                                    .steps_offset = 1,
                                    .end_at_first = true}};
    char path[64];
    struct sd_image ours, theirs;
    snprintf(path, sizeof path, "t/data/tiny/%s.png", pictures[i].name);
    if (sd_image_load(path, 3, 0, &theirs, err))
        return -1;
    int rc = sd_pipeline_draw(p, &d, &ours, err);
    if (!rc) {
        int most = largest_difference(&ours, &theirs);
        ok(most <= 1, "%s is diffusers' picture (largest difference %d/255)", pictures[i].name, most);
        sd_image_free(&ours);
    }
    sd_image_free(&theirs);
    return rc;
}

int main(void)
{
    struct sd_err err = {0};
    struct sd_model_file *model;
    struct sd_pipeline *p;
    struct sd_backend *b = sd_backend_new(test_backend(), &err);
    if (!b || sd_model_file_open(&model, "contrib/tiny/sd.safetensors", &err) ||
        sd_pipeline_new(&p, model, NULL, b, &(struct sd_pipeline_options){.dtype = SD_F32}, &err)) {
        printf("Bail out! %s\n", err.msg);
        return 1;
    }
    for (int i = 0; i < PICTURES; i++)
        if (check(p, i, &err)) {
            ok(0, "%s", pictures[i].name);
            printf("# %s\n", err.msg);
        }
    sd_pipeline_free(p);
    sd_model_file_close(model);
    sd_backend_free(b);
    return tap_end();
}
