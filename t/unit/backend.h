/* The backend that unit tests compute on: cpu, or the one that $SD_TEST_BACKEND names ("cuda"). */
#ifndef SD_T_BACKEND_H
#define SD_T_BACKEND_H

#include "tensor/plan.h"

#include <stdio.h>
#include <stdlib.h>

static inline const char *test_backend(void)
{
    const char *name = getenv("SD_TEST_BACKEND");
    return name ? name : "cpu";
}

static inline void must(int rc, const struct sd_err *err)
{
    if (!rc)
        return;
    printf("Bail out! %s\n", err->msg);
    exit(1);
}

static inline void plan_run(struct sd_plan *p)
{
    struct sd_err err = {0};
    must(sd_plan_run(p, &err), &err);
}

static inline void var_push(struct sd_backend *b, const struct sd_var *v)
{
    struct sd_err err = {0};
    must(sd_var_push(b, v, &err), &err);
}

static inline void var_pull(struct sd_backend *b, const struct sd_var *v)
{
    struct sd_err err = {0};
    must(sd_var_pull(b, v, &err), &err);
}

#endif
