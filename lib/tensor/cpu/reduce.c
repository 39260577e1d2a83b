/* reduce_to: sums over the middle of [outer, mid, inner]. Long middles are cut into slabs of a fixed number
 * of rows whose sums go to scratch and are added in order. */
#include "tensor/cpu/block.h"
#include "tensor/op.h"

#include <string.h>

#define SLAB 128 /* rows summed in f32 before doubles take over */

struct view {
    int64_t outer, mid, inner, slabs, blocks; /* blocks: pieces of SD_CPU_BLOCK columns */
};

static struct view view_of(const struct sd_call *c)
{
    struct view v;
    sd_op_broadcast(c->node->in[0], c->node->out[0], &v.outer, &v.mid, &v.inner);
    v.slabs = (v.mid + SLAB - 1) / SLAB;
    v.blocks = (v.inner + SD_CPU_BLOCK - 1) / SD_CPU_BLOCK;
    return v;
}

SD_CPU_CLONES static void add_row(int64_t n, const float *x, float *sum)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] += x[i];
}

SD_CPU_CLONES static float total(int64_t n, const float *x)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++)
        sum += x[i];
    return sum;
}

/* Tasks are (outer, slab, block); the sums of slab s are scratch [outer, slabs, inner]. */
static void slab_sums(const struct sd_call *c, int64_t from, int64_t to)
{
    struct view v = view_of(c);
    enum sd_dtype type = c->node->in[0]->dtype;
    float buf[SD_CPU_BLOCK];
    for (int64_t t = from; t < to; t++) {
        int64_t k = t % v.blocks * SD_CPU_BLOCK, s = t / v.blocks % v.slabs, o = t / v.blocks / v.slabs;
        int64_t n = sd_cpu_min(SD_CPU_BLOCK, v.inner - k), row = o * v.mid + s * SLAB;
        int64_t rows = sd_cpu_min(SLAB, v.mid - s * SLAB);
        float *sum = (float *)c->scratch + (o * v.slabs + s) * v.inner + k;
        if (v.inner == 1) { /* the rows are neighbours */
            *sum = total(rows, sd_cpu_load(c->in[0], type, row, rows, buf));
            continue;
        }
        memset(sum, 0, (size_t)n * sizeof *sum);
        for (int64_t r = row; r < row + rows; r++)
            add_row(n, sd_cpu_load(c->in[0], type, r * v.inner + k, n, buf), sum);
    }
}

SD_CPU_CLONES static void add_slabs(const float *sums, int64_t slabs, int64_t inner, int64_t n, float *y)
{
    double sum[SD_CPU_BLOCK] = {0};
    for (int64_t s = 0; s < slabs; s++)
#pragma omp simd
        for (int64_t i = 0; i < n; i++)
            sum[i] += (double)sums[s * inner + i];
    for (int64_t i = 0; i < n; i++)
        y[i] = (float)sum[i];
}

/* Tasks are (outer, block). */
static void combine(const struct sd_call *c, int64_t from, int64_t to)
{
    struct view v = view_of(c);
    float y[SD_CPU_BLOCK];
    for (int64_t t = from; t < to; t++) {
        int64_t o = t / v.blocks, k = t % v.blocks * SD_CPU_BLOCK, n = sd_cpu_min(SD_CPU_BLOCK, v.inner - k);
        add_slabs((const float *)c->scratch + o * v.slabs * v.inner + k, v.slabs, v.inner, n, y);
        sd_cpu_store(c->out[0], c->node->out[0]->dtype, o * v.inner + k, n, y);
    }
}

static int plan(struct sd_call *c, struct sd_err *err)
{
    struct view v = view_of(c);
    c->scratch_bytes = (size_t)(v.outer * v.slabs * v.inner) * sizeof(float);
    return sd_cpu_plan_floats(c, err);
}

static void run(const struct sd_call *c)
{
    struct view v = view_of(c);
    int64_t task = sd_cpu_min(SLAB, v.mid) * sd_cpu_min(SD_CPU_BLOCK, v.inner); /* elements */
    sd_cpu_split(c, v.outer * v.slabs * v.blocks, sd_cpu_max(1, SD_CPU_CHUNK / task), slab_sums);
    sd_cpu_split(c, v.outer * v.blocks, 1, combine);
}
const struct sd_kernel sd_cpu_reduce_to = {.plan = plan, .run = run};
