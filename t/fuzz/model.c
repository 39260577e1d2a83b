/* Any bytes as a model file, converted to both layouts: what is accepted has all its tensors, whose bytes can
 * be had; what is left over is told. fuzz-seeds: t/data/model contrib/tiny t/data/torch */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model/convert.h"

static void read_all(const struct sd_convert *cv)
{
    static char piece[1 << 16];
    for (size_t i = 0; i < cv->count; i++) {
        const struct sd_store_tensor *t = &cv->tensors[i];
        uint64_t total = (uint64_t)sd_store_bytes(t->dtype, t->ndim, t->shape);
        struct sd_err err = {0};
        for (uint64_t at = 0; at < total; at += sizeof piece)
            if (t->fill(t->ctx, at, piece, total - at < sizeof piece ? (size_t)(total - at) : sizeof piece,
                        &err))
                abort();
    }
    if (cv->bytes != cv->total)
        abort();
}

static void convert(struct sd_model_file *mf, bool ldm)
{
    struct sd_convert cv = {.change_dtype = ldm, .dtype = SD_STORE_F16};
    struct sd_err err = {0};
    bool taken[SD_PARTS] = {false}, good = true;
    for (int p = 0; p < SD_PARTS && good; p++) {
        struct sd_part_names names = {"", SD_NAMING_DIFFUSERS};
        if (!sd_model_file_has(mf, (enum sd_part)p))
            continue;
        if (ldm)
            names = sd_names_ldm(sd_model_file_config(mf), (enum sd_part)p);
        taken[p] = good = !sd_convert_part(&cv, mf, (enum sd_part)p, &names, &err);
        if (good && ldm && names.naming == SD_NAMING_OPENCLIP)
            good = !sd_convert_unused_openclip(&cv, mf, &names, &err);
    }
    struct sd_leftover *left;
    size_t n;
    struct sd_arena arena = {0};
    if (good && sd_model_leftovers(mf, taken, &arena, &left, &n, &err))
        abort();
    if (good)
        read_all(&cv);
    else if (!*err.msg)
        abort();
    sd_arena_free(&arena);
    sd_convert_free(&cv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_model_file *mf;
    struct sd_err err = {0};
    char path[64];
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!sd_model_file_open(&mf, path, &err)) {
        convert(mf, true);
        convert(mf, false);
        sd_model_file_close(mf);
    } else if (!*err.msg) {
        abort();
    }
    if (!sd_model_file_open(&mf, path, &err)) {
        if (!sd_model_file_use_ema(mf, &err))
            convert(mf, true);
        sd_model_file_close(mf);
    }
    close(fd);
    return 0;
}
