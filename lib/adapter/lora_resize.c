#include "adapter/lora_resize.h"

#include <math.h>
#include <stdlib.h>

#include "adapter/lora_pairs.h"
#include "adapter/svd.h"

/* Below this a matrix counts as zero. */
static const double least_value = 1e-6;

/* How many of s[n], the values of a matrix of `full` in all, the method keeps. sd-scripts adds one to what it
 * looks for, and once more to what it finds. */
static int64_t choose(const struct sd_lora_resize_options *o, const double *s, int64_t n, int64_t full)
{
    double total = 0, sum = 0;
    int64_t index = 0;
    bool fro = o->method == SD_LORA_RESIZE_FRO;
    for (int64_t i = 0; i < n; i++)
        total += fro ? s[i] * s[i] : s[i];
    if (o->method == SD_LORA_RESIZE_RATIO) {
        while (index < n && s[index] > s[0] / o->param)
            index++;
    } else {
        double target = fro ? o->param * o->param : o->param;
        for (; index < n; index++) {
            sum += fro ? s[index] * s[index] : s[index];
            if (sum / total >= target)
                break;
        }
        index++;
    }
    index = index < full - 1 ? index : full - 1;
    return (index > 1 ? index : 1) + 1;
}

static void retained(struct sd_lora_resized *r, const double *s, int64_t n)
{
    double sum = 0, kept = 0, square = 0, kept_square = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += s[i];
        square += s[i] * s[i];
        if (i + 1 == r->rank) {
            kept = sum;
            kept_square = square;
        }
    }
    r->sum_retained = (r->rank >= n ? sum : kept) / sum;
    r->fro_retained = sqrt((r->rank >= n ? square : kept_square) / square);
    r->max_ratio = r->rank <= n ? s[0] / s[r->rank - 1] : INFINITY;
}

static int resize(const struct sd_network_module *p, const struct sd_lora_resize_options *o,
                  struct sd_svd *svd, struct sd_lora_resized *r, struct sd_err *err)
{
    float *up, *down;
    int64_t width = sd_lora_pair_width(p), full = p->out < width ? p->out : width;
    int64_t most = sd_lora_pair_is_conv(p) ? o->conv_rank : o->rank;
    if (sd_lora_pair_read(p, &up, &down, err))
        return -1;
    int rc = sd_svd_product(svd, up, down, p->out, p->rank, width, err);
    free(up);
    free(down);
    if (rc)
        return sd_err_prefix(err, "%s", p->name);
    most = most < full ? most : full;
    r->old_rank = p->rank;
    r->rank = o->method == SD_LORA_RESIZE_FIXED ? most : choose(o, svd->s, svd->rank, full);
    if (svd->s[0] <= least_value)
        r->rank = 1;
    r->rank = r->rank < most ? r->rank : most;
    r->alpha = (double)((float)r->rank * sd_lora_pair_scale(p));
    retained(r, svd->s, svd->rank);
    return sd_svd_truncate(svd, r->rank, err);
}

static int resize_into(const struct sd_network_module *p, const struct sd_lora_resize_options *o,
                       struct sd_lora_out *out, struct sd_lora_resized *r, struct sd_err *err)
{
    struct sd_svd svd = {0};
    int rc = resize(p, o, &svd, r, err);
    if (!rc) {
        struct sd_lora_shape shape = {r->rank,    p->in, p->out, p->kernel, sd_lora_pair_is_conv(p),
                                      p->spelling};
        bool implied = p->spelling != SD_LORA_KOHYA && !p->tensor[SD_ROLE_ALPHA];
#pragma omp critical(sd_lora_resize)
        rc = sd_lora_out_module(out, p->name, &shape, implied ? NAN : (float)r->alpha, svd.vt, svd.us,
                                o->save, err);
    }
    sd_svd_free(&svd);
    return rc;
}

/* Tensors of other kinds go along, converted as sd-scripts does. */
static int add_others(const struct sd_network *n, enum sd_store_dtype save, struct sd_lora_out *out,
                      struct sd_err *err)
{
    for (size_t i = 0; i < sd_tensor_file_count(n->file); i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(n->file, i);
        if (sd_lora_holds(n, i))
            continue;
        float *v = malloc((e->bytes / sd_store_dtype_bytes(e->dtype) + 1) * sizeof *v);
        if (!v)
            return sd_err_memory(err, e->bytes);
        int rc = sd_tensor_file_read_f32(n->file, e, v, err) ||
                 sd_lora_out_add(out, e->name, v, e->ndim, e->shape, save, err);
        free(v);
        if (rc)
            return -1;
    }
    return 0;
}

int sd_lora_resize(const struct sd_network *n, const struct sd_lora_resize_options *o, int threads,
                   struct sd_lora_out *out, struct sd_lora_resized *results, size_t *count,
                   struct sd_err *err)
{
    bool failed = false;
    *count = 0;
    if (sd_lora_check(n, false, err) ||
        sd_lora_out_init(out, 3 * n->count + sd_tensor_file_count(n->file), err) ||
        add_others(n, o->save, out, err))
        return -1;
    for (size_t i = 0; i < n->count; i++)
        if (n->order[i]->type == SD_NETWORK_LORA)
            results[(*count)++].module = n->order[i];
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
    for (size_t i = 0; i < *count; i++) {
        struct sd_err mine = {0};
        if (resize_into(results[i].module, o, out, &results[i], &mine)) {
#pragma omp critical(sd_lora_resize)
            if (!failed) {
                *err = mine;
                failed = true;
            }
        }
    }
    return failed ? -1 : 0;
}
