#include "diffusion/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct sd_sampler_kind *const kinds[] = {&sd_sampler_ddim, &sd_sampler_euler};
#define KINDS (sizeof kinds / sizeof *kinds)

const char *const sd_sampler_names[] = {"ddim", "euler", "k_euler", NULL};

static const struct sd_sampler_kind *find(const char *name)
{
    for (size_t i = 0; i < KINDS; i++)
        if (!strcmp(name, kinds[i]->name) || (kinds[i]->alias && !strcmp(name, kinds[i]->alias)))
            return kinds[i];
    return NULL;
}

int sd_sampler_init(struct sd_sampler *s, const struct sd_sampler_setup *setup, struct sd_err *err)
{
    *s = (struct sd_sampler){.setup = *setup, .kind = find(setup->name), .init_sigma = 1};
    if (!s->kind)
        return sd_err_set(err, SD_ERR_USAGE, "there is no sampler \"%s\"; ddim, euler and k_euler are known",
                          setup->name);
    if (setup->steps < 1 || setup->steps > SD_TIMESTEPS)
        return sd_err_set(err, SD_ERR_USAGE, "a sampler takes 1 to %d steps, not %d", SD_TIMESTEPS,
                          setup->steps);
    s->n = setup->steps;
    s->timestep = calloc((size_t)s->n, sizeof *s->timestep);
    s->sigma = calloc((size_t)s->n + 1, sizeof *s->sigma);
    if (!s->timestep || !s->sigma) {
        sd_sampler_free(s);
        return sd_err_memory(err, (size_t)s->n * sizeof *s->timestep);
    }
    sd_schedule_init(&s->schedule);
    return s->kind->plan(s, err);
}

void sd_sampler_free(struct sd_sampler *s)
{
    free(s->timestep);
    free(s->sigma);
    s->timestep = s->sigma = NULL;
}

void sd_sampler_step(const struct sd_sampler *s, int i, double scale, float c[SD_STEP_COEFFICIENTS])
{
    double exact[SD_STEP_COEFFICIENTS] = {[SD_STEP_IN] = 1,
                                          [SD_STEP_FREE] = 1 - scale,
                                          [SD_STEP_GUIDED] = scale,
                                          [SD_STEP_X0_LIMIT] = INFINITY};
    s->kind->step(s, i, exact);
    for (int k = 0; k < SD_STEP_COEFFICIENTS; k++)
        c[k] = (float)exact[k];
}
