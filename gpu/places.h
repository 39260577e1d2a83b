/* The folders in which CUDA's libraries may be. */
#ifndef SD_GPU_PLACES_H
#define SD_GPU_PLACES_H

#include <stddef.h>

constexpr size_t SD_CUDA_PATH_MAX = 1024; /* of a folder, and of a file in it */

struct sd_cuda_places {
    char **dir; /* owned; "": the loader's own places */
    size_t n, cap;
};

/* In the order in which they are to be tried; fewer where memory is out. */
struct sd_cuda_places sd_cuda_places_find(void);
void sd_cuda_places_free(struct sd_cuda_places *p);

#endif
