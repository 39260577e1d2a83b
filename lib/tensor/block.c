#include "tensor/block.h"

#include "tensor/frozen.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 }; /* as a device's own allocations are */

struct sd_block {
    struct sd_backend *backend;
    struct sd_var **vars;
    size_t *at; /* where in the block each begins */
    int n, placed;
    size_t bytes;
    char *device;  /* NULL: the host computes */
    char *half[2]; /* of the host; made when first wanted */
    int last;      /* half of the last fetch */
};

static size_t bytes_of(const struct sd_var *v)
{
    return (size_t)sd_var_count(v) * sd_dtype_size(v->dtype);
}

/* Copies all variables into a half, or out of it. */
static void move(const struct sd_block *k, char *half, bool out)
{
    for (int i = 0; i < k->n; i++)
        memcpy(out ? k->vars[i]->state : half + k->at[i], out ? half + k->at[i] : k->vars[i]->state,
               bytes_of(k->vars[i]));
}

/* Memory of the host that copies are quick with. */
static int make_halves(struct sd_block *k, struct sd_err *err)
{
    for (int i = 0; i < 2 && k->device; i++)
        if (!k->half[i] && !(k->half[i] = k->backend->device->alloc_host(k->backend, k->bytes + 1, err)))
            return -1;
    return 0;
}

static int lay_out(struct sd_block *k, struct sd_err *err)
{
    const struct sd_device *d = k->backend->device;
    for (int i = 0; i < k->n; i++) {
        k->at[i] = k->bytes;
        k->bytes += (bytes_of(k->vars[i]) + ALIGN - 1) / ALIGN * ALIGN;
    }
    if (!d || !k->n)
        return 0;
    if (!(k->device = d->alloc(k->backend, k->bytes + 1, err)))
        return -1;
    for (; k->placed < k->n; k->placed++)
        if (d->place(k->backend, k->vars[k->placed], k->device + k->at[k->placed], err))
            return -1;
    return 0;
}

struct sd_block *sd_block_new(struct sd_backend *b, struct sd_var *const *vars, int n, struct sd_err *err)
{
    struct sd_block *k = calloc(1, sizeof *k);
    if (k) {
        *k = (struct sd_block){.backend = b, .n = n};
        k->vars = calloc((size_t)n + 1, sizeof *k->vars);
        k->at = calloc((size_t)n + 1, sizeof *k->at);
    }
    if (!k || !k->vars || !k->at) {
        sd_err_memory(err, (size_t)n * sizeof *k->vars);
        sd_block_free(k);
        return NULL;
    }
    for (int i = 0; i < n; i++)
        k->vars[i] = vars[i];
    if (!lay_out(k, err))
        return k;
    sd_block_free(k);
    return NULL;
}

void sd_block_free(struct sd_block *k)
{
    if (!k)
        return;
    const struct sd_device *d = k->backend->device;
    if (k->device) {
        d->wait(k->backend, NULL); /* a fetch may be under way */
        for (int i = 0; i < k->placed; i++)
            d->drop(k->backend, k->vars[i]);
        d->release(k->backend, k->device);
        for (int i = 0; i < 2; i++)
            d->release_host(k->backend, k->half[i]);
    }
    free(k->vars);
    free(k->at);
    free(k);
}

int sd_block_fetch(struct sd_block *k, struct sd_err *err)
{
    int i = !k->last;
    if (make_halves(k, err))
        return -1;
    if (k->device)
        k->backend->device->copy_out(k->backend, k->half[i], k->device, k->bytes);
    return k->last = i;
}

void sd_block_take(struct sd_block *k, int half)
{
    if (k->device)
        move(k, k->half[half], true);
}

int sd_block_push(struct sd_block *k, struct sd_err *err)
{
    int i = !k->last;
    if (!k->device)
        return 0;
    if (make_halves(k, err))
        return -1;
    move(k, k->half[i], false);
    k->backend->device->copy_in(k->backend, k->device, k->half[i], k->bytes);
    return k->backend->device->wait(k->backend, err);
}

int sd_block_pull(struct sd_block *k, struct sd_err *err)
{
    int half = sd_block_fetch(k, err);
    if (half < 0 || (k->device && k->backend->device->wait(k->backend, err)))
        return -1;
    sd_block_take(k, half);
    return 0;
}
