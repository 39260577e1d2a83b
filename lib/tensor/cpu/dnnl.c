#include "tensor/cpu/dnnl.h"

#include "tensor/cpu/gemm.h"

#include <stdlib.h>
#include <string.h>

struct sd_packed {
    struct sd_packed *next;
    const struct sd_var *var;
    bool gemm; /* for gemm.h, which knows what it is by `form`; else for oneDNN, by `md` */
    int form;
    dnnl_memory_desc_t md;
    void *data;
    size_t bytes;
};

int sd_dnnl_status(struct sd_err *err, dnnl_status_t st, const char *what)
{
    if (st == dnnl_success)
        return 0;
    if (st == dnnl_out_of_memory)
        return sd_err_set(err, SD_ERR_MACHINE, "%s: oneDNN is out of memory", what);
    if (st == dnnl_unimplemented)
        return sd_err_set(err, SD_ERR_MACHINE,
                          "%s: this CPU cannot compute it in this type (bf16 needs AVX-512)", what);
    return sd_err_set(err, SD_ERR_MACHINE, "%s: oneDNN status %d", what, (int)st);
}

dnnl_data_type_t sd_dnnl_type(enum sd_dtype t)
{
    return t == SD_F32 ? dnnl_f32 : t == SD_BF16 ? dnnl_bf16 : dnnl_data_type_undef;
}

int sd_dnnl_attr(dnnl_primitive_attr_t *attr, bool sum, struct sd_err *err)
{
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t st = dnnl_primitive_attr_create(attr);
    if (!st)
        st = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (!st && sum) {
        st = dnnl_post_ops_create(&ops);
        if (!st)
            st = dnnl_post_ops_append_sum(ops, 1);
        if (!st)
            st = dnnl_primitive_attr_set_post_ops(*attr, ops);
        dnnl_post_ops_destroy(ops);
    }
    return sd_dnnl_status(err, st, "attributes");
}

int sd_dnnl_arg(struct sd_call *c, struct sd_dnnl *d, int id, const dnnl_memory_desc_t *md,
                struct sd_err *err)
{
    struct sd_cpu *cpu = (struct sd_cpu *)c->backend;
    dnnl_exec_arg_t *a = &d->arg[d->n_arg];
    a->arg = id;
    if (sd_dnnl_status(err, dnnl_memory_create(&a->memory, md, cpu->engine, DNNL_MEMORY_NONE), "memory"))
        return -1;
    return d->n_arg++;
}

struct sd_dnnl *sd_dnnl_new(struct sd_call *c, dnnl_primitive_desc_t pd, struct sd_err *err)
{
    struct sd_dnnl *d = calloc(1, sizeof *d);
    if (!d) {
        dnnl_primitive_desc_destroy(pd);
        sd_err_memory(err, sizeof *d);
        return NULL;
    }
    d->scratch = -1;
    c->state = d;
    const dnnl_memory_desc_t *md = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    size_t bytes = md ? dnnl_memory_desc_get_size(md) : 0;
    if (bytes) {
        d->scratch = sd_dnnl_arg(c, d, DNNL_ARG_SCRATCHPAD, md, err);
        c->scratch_bytes = bytes;
    }
    dnnl_status_t st = dnnl_primitive_create(&d->primitive, pd);
    dnnl_primitive_desc_destroy(pd);
    if (sd_dnnl_status(err, st, "primitive") || (bytes && d->scratch < 0))
        return NULL; /* d is dropped with the call */
    return d;
}

void sd_dnnl_set(struct sd_dnnl *d, int i, const void *data)
{
    dnnl_memory_set_data_handle(d->arg[i].memory, (void *)data);
}

void sd_dnnl_run(const struct sd_call *c, struct sd_dnnl *d)
{
    struct sd_cpu *cpu = (struct sd_cpu *)c->backend;
    if (d->scratch >= 0)
        sd_dnnl_set(d, d->scratch, c->scratch);
    dnnl_primitive_execute(d->primitive, cpu->stream, d->n_arg, d->arg);
}

void sd_dnnl_drop(struct sd_call *c)
{
    struct sd_dnnl *d = c->state;
    if (!d)
        return;
    for (int i = 0; i < d->n_arg; i++)
        dnnl_memory_destroy(d->arg[i].memory);
    if (d->primitive)
        dnnl_primitive_destroy(d->primitive);
    free(d);
    c->state = NULL;
}

struct sd_var *sd_frozen_var(const struct sd_tensor *t)
{
    while (t->node->op == SD_OP_reshape)
        t = t->node->in[0];
    return t->node->op == SD_OP_var && !t->node->attr.var->state ? t->node->attr.var : NULL;
}

static int reorder(struct sd_cpu *cpu, const dnnl_memory_desc_t *from_md, const void *from,
                   const dnnl_memory_desc_t *to_md, void *to, struct sd_err *err)
{
    dnnl_memory_t src = NULL, dst = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t p = NULL;
    dnnl_status_t st = dnnl_memory_create(&src, from_md, cpu->engine, (void *)from);
    if (!st)
        st = dnnl_memory_create(&dst, to_md, cpu->engine, to);
    if (!st)
        st = dnnl_reorder_primitive_desc_create(&pd, from_md, cpu->engine, to_md, cpu->engine, NULL);
    if (!st)
        st = dnnl_primitive_create(&p, pd);
    if (!st)
        st = dnnl_primitive_execute(p, cpu->stream, 2,
                                    (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, src}, {DNNL_ARG_TO, dst}});
    if (!st)
        st = dnnl_stream_wait(cpu->stream);
    dnnl_primitive_destroy(p);
    dnnl_primitive_desc_destroy(pd);
    dnnl_memory_destroy(src);
    dnnl_memory_destroy(dst);
    return sd_dnnl_status(err, st, "packing weights");
}

/* Room for a packed form of var, and its weights as dtype: its own, or a copy to be freed. */
static struct sd_packed *packed_new(const struct sd_var *var, enum sd_dtype dtype, size_t bytes,
                                    const void **from, void **copy, struct sd_err *err)
{
    size_t n = (size_t)sd_var_count(var);
    struct sd_packed *p = calloc(1, sizeof *p);
    *from = var->data;
    *copy = NULL;
    bytes = (bytes + 63) & ~(size_t)63;
    if (!p || !(p->data = aligned_alloc(64, bytes)) ||
        (var->dtype != dtype && !(*copy = malloc(n * sd_dtype_size(dtype))))) {
        sd_err_memory(err, bytes);
        goto fail;
    }
    if (*copy) {
        if (sd_dtype_convert(*copy, dtype, var->data, var->dtype, n)) {
            sd_err_set(err, SD_ERR_DATA, "%s: %s weights cannot be used as %s", var->name,
                       sd_dtype_name(var->dtype), sd_dtype_name(dtype));
            goto fail;
        }
        *from = *copy;
    }
    p->var = var;
    p->bytes = bytes;
    return p;
fail:
    if (p)
        free(p->data);
    free(p);
    free(*copy);
    return NULL;
}

static const void *packed_keep(struct sd_cpu *cpu, struct sd_packed *p, struct sd_var *var)
{
    sd_var_drop_pages(var);
    p->next = cpu->packed;
    cpu->packed = p;
    cpu->packed_bytes += p->bytes;
    return p->data;
}

const void *sd_dnnl_packed(struct sd_cpu *cpu, struct sd_var *var, enum sd_dtype dtype,
                           const dnnl_memory_desc_t *plain, const dnnl_memory_desc_t *md, struct sd_err *err)
{
    for (struct sd_packed *p = cpu->packed; p; p = p->next)
        if (p->var == var && !p->gemm && dnnl_memory_desc_equal(&p->md, md))
            return p->data;
    const void *from;
    void *copy;
    struct sd_packed *p = packed_new(var, dtype, dnnl_memory_desc_get_size(md), &from, &copy, err);
    if (!p)
        return NULL;
    p->md = *md;
    int bad = reorder(cpu, plain, from, md, p->data, err);
    free(copy);
    if (bad) {
        free(p->data);
        free(p);
        return NULL;
    }
    return packed_keep(cpu, p, var);
}

const void *sd_gemm_packed(struct sd_cpu *cpu, struct sd_var *var, const struct sd_gemm *g,
                           struct sd_err *err)
{
    const struct sd_gemm_kernels *kernels = cpu->gemm[g->bf16];
    int form = kernels->packed_form(g);
    for (struct sd_packed *p = cpu->packed; p; p = p->next)
        if (p->var == var && p->gemm && p->form == form)
            return p->data;
    const void *from;
    void *copy;
    struct sd_packed *p =
        packed_new(var, g->bf16 ? SD_BF16 : SD_F32, kernels->packed_bytes(g), &from, &copy, err);
    if (!p)
        return NULL;
    p->gemm = true;
    p->form = form;
    kernels->pack(g, from, p->data);
    free(copy);
    return packed_keep(cpu, p, var);
}

void sd_dnnl_packed_free(struct sd_cpu *cpu)
{
    for (struct sd_packed *p = cpu->packed, *next; p; p = next) {
        next = p->next;
        free(p->data);
        free(p);
    }
    cpu->packed = NULL;
}
