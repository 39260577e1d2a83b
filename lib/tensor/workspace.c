#include "tensor/workspace.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define ALIGN ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)

/* The kernel promises memory it has not got; asking it for the real amount beats being killed half-way. */
static int fits_machine(size_t bytes, struct sd_err *err)
{
    size_t pages = (size_t)sysconf(_SC_PHYS_PAGES), page = (size_t)sysconf(_SC_PAGESIZE);
    if (bytes / page < pages)
        return 0;
    return sd_err_set(err, SD_ERR_MACHINE,
                      "this size needs %zu MiB of activations, the machine has %zu MiB of memory",
                      bytes >> 20, pages * page >> 20);
}

static void *host_memory(size_t bytes, struct sd_err *err)
{
    if (fits_machine(bytes, err))
        return NULL;
    void *p =
        aligned_alloc(bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGN, (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1));
    if (p)
        madvise(p, bytes, MADV_HUGEPAGE); /* fewer page faults and TLB misses; a refusal does no harm */
    else
        sd_err_memory(err, bytes);
    return p;
}

static void release(struct sd_backend *b, void *p)
{
    if (b && b->device)
        b->device->release(b, p);
    else
        free(p);
}

/* At least bytes at *p, which held *have; what was there is lost. 1 when it moved. */
static int grow(struct sd_backend *b, char **p, size_t *have, size_t bytes, struct sd_err *err)
{
    bytes = (bytes + ALIGN) & ~(ALIGN - 1);
    if (*p && *have >= bytes)
        return 0;
    if (b->device && *p && b->device->wait(b, err)) /* it may be in use */
        return -1;
    release(b, *p);
    *have = 0;
    *p = b->device ? b->device->alloc(b, bytes, err) : host_memory(bytes, err);
    if (!*p)
        return -1;
    *have = bytes;
    return 1;
}

int sd_workspace_claim(struct sd_workspace *w, struct sd_backend *b, size_t arena, size_t scratch,
                       struct sd_err *err)
{
    w->backend = b;
    int a = grow(b, &w->arena, &w->arena_bytes, arena, err);
    int s = a < 0 ? -1 : grow(b, &w->scratch, &w->scratch_bytes, scratch, err);
    if (a || s)
        w->generation++;
    if (s >= 0)
        return 0;
    return b->device ? sd_err_prefix(err, "this size needs %zu MiB of activations and %zu MiB to work in",
                                     arena >> 20, scratch >> 20)
                     : -1;
}

bool sd_workspace_lost(const struct sd_workspace *w)
{
    return w->backend && (!w->arena || !w->scratch);
}

void sd_workspace_free(struct sd_workspace *w)
{
    release(w->backend, w->arena);
    release(w->backend, w->scratch);
    *w = (struct sd_workspace){0};
}
