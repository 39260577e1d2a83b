#include "model/folder_files.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"

static bool exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

/* The parts of "model.safetensors.index.fp16.json": diffusers puts the variant there, and before the ending
 * of a file of weights. */
static const char *const stems[] = {"diffusion_pytorch_model", "model", "pytorch_model"};
static const char *const variants[] = {"", ".fp16", ".bf16", ".non_ema"};
static const char *const endings[] = {".safetensors", ".bin"};

enum { STEMS = sizeof stems / sizeof *stems, VARIANTS = sizeof variants / sizeof *variants };

/* One candidate's path, kept when it is there. */
static int try(const char *dir, struct sd_arena *a, const char *stem, const char *variant, const char *ending,
               bool index, const char **path, struct sd_err *err)
{
    char *p = index ? sd_arena_printf(a, "%s/%s%s.index%s.json", dir, stem, ending, variant)
                    : sd_arena_printf(a, "%s/%s%s%s", dir, stem, variant, ending);
    if (!p)
        return sd_err_memory(err, strlen(dir));
    if (exists(p))
        *path = p;
    return 0;
}

/* "diffusion_pytorch_model-00001-of-00002.safetensors" */
static bool is_shard(const char *name)
{
    const char *of = strstr(name, "-of-");
    return of && of - name > 6 && of[-6] == '-' && strspn(of - 5, "0123456789") == 5 &&
           strspn(of + 4, "0123456789") == 5 && (!strcmp(of + 9, endings[0]) || !strcmp(of + 9, endings[1]));
}

static int refuse_shards(const char *dir, struct sd_err *err)
{
    DIR *d = opendir(dir);
    int rc = 0;
    for (struct dirent *e; d && !rc && (e = readdir(d));)
        if (is_shard(e->d_name))
            rc = sd_err_set(err, SD_ERR_DATA,
                            "%s: %.100s is a part of a model, but the index (*.index.json) that "
                            "goes with it is missing",
                            dir, e->d_name);
    if (d)
        closedir(d);
    return rc;
}

int sd_folder_weights(const char *dir, const char *variant, struct sd_arena *a, const char **path,
                      struct sd_err *err)
{
    *path = NULL;
    const char *only = variant ? sd_arena_printf(a, ".%s", variant) : NULL;
    if (variant && !only)
        return sd_err_memory(err, strlen(variant));
    for (int v = 0; v < (variant ? 1 : VARIANTS); v++)
        for (int e = 0; e < 2; e++)
            for (int index = 0; index < 2; index++)
                for (int s = 0; s < STEMS; s++) {
                    if (try(dir, a, stems[s], only ? only : variants[v], endings[e], index, path, err))
                        return -1;
                    if (*path)
                        return 0;
                }
    return refuse_shards(dir, err);
}
