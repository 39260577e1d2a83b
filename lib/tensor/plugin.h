/* Backends in shared objects, so that one set of programs serves machines with a device and without.
 *
 * libsdcuda.so is looked for in the folder that $SD_PLUGINS names, or else beside the program and in
 * ../lib/sd of it. It exports one function, sd_plugin, whose table carries the number of this interface: a
 * plugin of another number is refused, not guessed at. */
#ifndef SD_TENSOR_PLUGIN_H
#define SD_TENSOR_PLUGIN_H

#include "tensor/backend.h"

#define SD_PLUGIN_VERSION 3

/* One device, as sd-device tells it. */
struct sd_device_info {
    int index;
    char name[128], uuid[48];
    int major, minor;     /* compute capability */
    int processors;       /* streaming multiprocessors */
    uint64_t bytes;       /* memory */
    uint64_t free;        /* of it, now */
    int driver, runtime;  /* CUDA versions, 1000 major + 10 minor */
    char libraries[1000]; /* cuBLASLt and cuDNN, or what is missing */
};

struct sd_plugin {
    int version;       /* SD_PLUGIN_VERSION */
    size_t call_bytes; /* sizeof(struct sd_call), sizeof(struct sd_node): built from the same headers? */
    size_t node_bytes;
    int ops;          /* SD_OP_COUNT */
    const char *name; /* "cuda" */
    /* How many devices there are; -1 with err set (no driver, too old a driver). */
    int (*count)(struct sd_err *err);
    int (*describe)(int index, struct sd_device_info *info, struct sd_err *err);
    struct sd_backend *(*open)(int index, struct sd_err *err);
};

/* The plugin, loaded at the first call and for good, as CUDA cannot be unloaded; NULL with err set to where
 * it was looked for, or what is wrong with it. */
const struct sd_plugin *sd_plugin_load(const char *name, struct sd_err *err);

#endif
