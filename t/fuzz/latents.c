/* Any bytes as a latent cache, and as that of the mirrored picture beside it: what can be read can be
 * inspected and loaded too, and all three agree. fuzz-seeds: t/data/store */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/latents.h"

static char folder[64], path[96], flip[96];

static void tidy(void)
{
    unlink(path);
    unlink(flip);
    rmdir(folder);
}

static void must(int good)
{
    if (!good)
        abort();
}

/* One file under both names. */
static int open_file(void)
{
    static int fd = -1;
    if (fd >= 0)
        return fd;
    snprintf(folder, sizeof folder, "/tmp/sd-fuzz-XXXXXX");
    must(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/x.npz", folder);
    snprintf(flip, sizeof flip, "%s/x_flip.npz", folder);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    must(fd >= 0 && !link(path, flip));
    atexit(tidy);
    return fd;
}

/* The first latents as training loads them. */
static void check_load(const struct sd_latents *l)
{
    size_t n = (size_t)l->channels * (size_t)l->height * (size_t)l->width;
    float *out = malloc(n * sizeof *out);
    if (!out)
        return;
    must(!sd_latents_load(NULL, path, l->channels, l->height, l->width, false, out, NULL));
    must(!memcmp(out, l->latents, n * sizeof *out));
    must(!l->flipped == !!sd_latents_load(NULL, path, l->channels, l->height, l->width, true, out, NULL));
    must(sd_latents_load(NULL, path, l->channels, l->height + 1, l->width, false, out, NULL));
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_latents l;
    struct sd_latents_info info;
    struct sd_err err = {0};
    int fd = open_file();
    must(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size);
    if (sd_latents_read(&l, NULL, path, &a, &err)) {
        must(*err.msg);
        sd_latents_inspect(&info, NULL, path, &a, &err);
    } else {
        must(!sd_latents_inspect(&info, NULL, path, &a, &err));
        must(info.format == l.format && info.channels == l.channels && info.height == l.height &&
             info.width == l.width && info.flipped == !!l.flipped && info.mask_width == l.mask_width &&
             info.original_size[0] == l.original_size[0] && !info.source == !l.source);
        check_load(&l);
    }
    sd_arena_free(&a);
    return 0;
}
