/* Where libraries are looked for, in this order:
 *   1. the folders that SD_CUDA_LIBRARIES names, parted by colons
 *   2. the loader's own places (LD_LIBRARY_PATH, ld.so.cache)
 *   3. $CUDA_HOME/lib64 and lib, $CUDA_PATH's, /usr/local/cuda's, $CONDA_PREFIX/lib
 *   4. in Python packages (nvidia/NAME/lib) of $VIRTUAL_ENV, $CONDA_PREFIX, the environment of the python3
 *      that PATH finds, ~/.local, /usr/local, /usr and /opt/conda */
#include "places.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace
{

void places_put(sd_cuda_places *p, const char *dir, size_t len)
{
    if (p->n == p->cap) {
        size_t cap = p->cap ? 2 * p->cap : 16;
        char **grown = static_cast<char **>(realloc(p->dir, cap * sizeof *grown));
        if (!grown)
            return;
        p->dir = grown;
        p->cap = cap;
    }
    if ((p->dir[p->n] = strndup(dir, len)))
        p->n++;
}

void places_add(sd_cuda_places *p, const char *dir, size_t len)
{
    bool known = len == 0 || len >= SD_CUDA_PATH_MAX;
    for (size_t i = 0; i < p->n; i++)
        known |= strlen(p->dir[i]) == len && !strncmp(p->dir[i], dir, len);
    if (!known)
        places_put(p, dir, len);
}

/* All folders that fit root followed by pattern. */
void places_glob(sd_cuda_places *p, const char *root, const char *pattern)
{
    char path[SD_CUDA_PATH_MAX];
    glob_t found = {};
    if (!root || !*root ||
        static_cast<size_t>(snprintf(path, sizeof path, "%s%s", root, pattern)) >= sizeof path)
        return;
    if (!glob(path, GLOB_NOSORT, NULL, &found))
        for (size_t i = 0; i < found.gl_pathc; i++)
            places_add(p, found.gl_pathv[i], strlen(found.gl_pathv[i]));
    globfree(&found);
}

void places_list(sd_cuda_places *p, const char *list)
{
    while (list && *list) {
        size_t len = strcspn(list, ":");
        places_add(p, list, len);
        list += len + (list[len] == ':');
    }
}

void places_python(sd_cuda_places *p, const char *root)
{
    places_glob(p, root, "/lib/python3*/site-packages/nvidia/*/lib");
    places_glob(p, root, "/lib/python3*/dist-packages/nvidia/*/lib");
}

/* The environments a python3 may be of: an environment's is a link to the system's, and may itself be what a
 * link in PATH leads to. */
void places_links(sd_cuda_places *p, char *python)
{
    for (int hops = 0; hops < 8; hops++) {
        char target[SD_CUDA_PATH_MAX], root[SD_CUDA_PATH_MAX];
        snprintf(root, sizeof root, "%s", python);
        for (int up = 0; up < 2; up++) /* bin/python3 */
            if (strrchr(root, '/'))
                *strrchr(root, '/') = 0;
        places_python(p, root);
        ssize_t len = readlink(python, target, sizeof target - 1);
        if (len <= 0)
            return;
        target[len] = 0;
        size_t dir = *target == '/' ? 0 : static_cast<size_t>(strrchr(python, '/') + 1 - python);
        if (dir + static_cast<size_t>(len) >= SD_CUDA_PATH_MAX)
            return;
        memcpy(python + dir, target, static_cast<size_t>(len) + 1);
    }
}

/* Programs are often started from containers whose PATH has an environment that nothing else names. */
void places_python3(sd_cuda_places *p)
{
    const char *list = getenv("PATH");
    while (list && *list) {
        char python[SD_CUDA_PATH_MAX];
        size_t len = strcspn(list, ":");
        int n = snprintf(python, sizeof python, "%.*s/python3",
                         static_cast<int>(len < SD_CUDA_PATH_MAX ? len : SD_CUDA_PATH_MAX), list);
        if (n > 0 && static_cast<size_t>(n) < sizeof python && *list == '/' && !access(python, X_OK)) {
            places_links(p, python);
            return;
        }
        list += len + (list[len] == ':');
    }
}

} // namespace

struct sd_cuda_places sd_cuda_places_find(void)
{
    sd_cuda_places p = {};
    places_list(&p, getenv("SD_CUDA_LIBRARIES"));
    places_put(&p, "", 0); /* the loader's own */
    static const char *const homes[] = {"CUDA_HOME", "CUDA_PATH"};
    for (const char *name : homes) {
        places_glob(&p, getenv(name), "/lib64");
        places_glob(&p, getenv(name), "/lib");
    }
    places_glob(&p, "/usr/local/cuda", "/lib64");
    places_glob(&p, "/usr/local/cuda", "/lib");
    places_glob(&p, getenv("CONDA_PREFIX"), "/lib");
    places_python(&p, getenv("VIRTUAL_ENV"));
    places_python(&p, getenv("CONDA_PREFIX"));
    places_python3(&p);
    const char *home = getenv("HOME");
    char local[SD_CUDA_PATH_MAX];
    if (home && static_cast<size_t>(snprintf(local, sizeof local, "%s/.local", home)) < sizeof local)
        places_python(&p, local);
    places_python(&p, "/usr/local");
    places_python(&p, "/usr");
    places_python(&p, "/opt/conda");
    return p;
}

void sd_cuda_places_free(struct sd_cuda_places *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->dir[i]);
    free(p->dir);
    *p = {};
}
