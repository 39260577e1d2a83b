#include "compute.h"

#include "tensor/plugin.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Threads that wait for one another turn in circles for some milliseconds by default. Alone that gains
 * nothing measurable; beside another busy program each waits for threads that the other's circles keep from
 * the processor, and both take several times as long. libgomp reads how long from its environment, before
 * main: so the program starts itself once more. Where it cannot, it goes on as it is. */
static void wait_patiently(char **argv)
{
    char self[4096];
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY"))
        return;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || setenv("GOMP_SPINCOUNT", "1000", 1))
        return;
    self[n] = 0;
    execv(self, argv);
}

void cmd_start_computing(struct sd_cmd *c, int *argc, char **argv)
{
    wait_patiently(argv);
    cmd_start(c, argc, argv);
}

/* auto takes a card where the plugin is installed and there is one. */
static bool on_card(struct sd_cmd *c)
{
    if (c->common.device == SD_DEVICE_AUTO) {
        const struct sd_plugin *p = sd_plugin_load("cuda", NULL);
        c->common.device = p && p->count(NULL) > 0 ? SD_DEVICE_CUDA : SD_DEVICE_CPU;
    }
    return c->common.device == SD_DEVICE_CUDA;
}

struct sd_backend *cmd_backend(struct sd_cmd *c, bool tf32)
{
    struct sd_err err = {0};
    char name[32] = "cpu";
    omp_set_num_threads(c->common.jobs);
    if (on_card(c))
        snprintf(name, sizeof name, "cuda:%d", c->common.device_index < 0 ? 0 : c->common.device_index);
    struct sd_backend *b = sd_backend_new(name, &err);
    if (!b)
        cmd_die(c, &err);
    if (tf32 && !b->device)
        cmd_usage(c, "--allow-tf32: the processor has no TF32");
    b->tf32 = tf32;
    return b;
}

enum sd_dtype cmd_precision(struct sd_cmd *c, const char *name)
{
    if (strcmp(name, "fp16"))
        return !strcmp(name, "bf16") ? SD_BF16 : SD_F32;
    if (!on_card(c))
        cmd_usage(c, "fp16 is not computed on a CPU; use bf16 or no");
    return SD_F16;
}
