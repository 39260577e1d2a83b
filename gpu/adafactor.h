/* What the passes of AdaFactor (adafactor.cu) share: how parameters are cut up for blocks, and what a block
 * knows of its own. */
#ifndef SD_GPU_ADAFACTOR_H
#define SD_GPU_ADAFACTOR_H

#include "tables.h"

extern "C" {
#include "tensor/adafactor.h"
}

namespace
{

enum kind : uint8_t { VECTOR, SMALL, TILED };

constexpr int TILE = 4096;      /* elements of a tile */
constexpr int RUN = 16;         /* a thread's of them */
constexpr int MOST_SMALL = 256; /* elements of a matrix that is taken whole */
constexpr int BATCH = 2048;     /* elements of a block of such matrices at most */

/* How a parameter is shared out among blocks. */
struct cut {
    int64_t matrices, rows, columns;
    unsigned blocks, lines;           /* of all passes but combine and settle; of combine */
    unsigned batch;                   /* SMALL: matrices a block */
    unsigned across, down;            /* TILED: tiles of a matrix */
    unsigned row_lines, column_lines; /* TILED: blocks of combine for a matrix */
    uint8_t kind, columns2;           /* TILED: log2 of a tile's columns */

    /* What the passes leave for each other in scratch: squares of the parameter and of its update by block,
     * sums of R by line of rows; sums of rows by tile across, of columns by tile down. */
    size_t doubles() const
    {
        return 2 * static_cast<size_t>(blocks) + static_cast<size_t>(matrices) * row_lines;
    }
    __host__ __device__ int64_t row_floats() const
    {
        return (matrices * across * rows + UNIT - 1) / UNIT * UNIT;
    }
    size_t floats() const
    {
        return static_cast<size_t>(row_floats() + matrices * down * columns);
    }
};

struct parameter {
    struct cut cut;
    float *param, *grad, *rows, *columns, *m;
    double *sums; /* cut.doubles() */
    float *parts; /* cut.floats() */
    unsigned first_block, first_line;
    bool wide; /* units of UNIT elements lie at multiples of 16 bytes, in each row of tiles too */

    __device__ double *row_sums() const
    {
        return sums + 2 * cut.blocks;
    }
    __device__ float *column_parts() const
    {
        return parts + cut.row_floats();
    }
};

/* What settle finds. */
struct scale {
    float factor; /* that an update is times */
    float fall;   /* that weights decay by */
};

struct parameters {
    static constexpr int most = (TABLE - 64) / sizeof(struct parameter);

    struct parameter p[most];
    int n, from; /* the first one's number in the node */
    unsigned blocks, lines;
    const float *clip, *hyper;
    struct scale *scales; /* of all parameters */
    float *rms;
};

/* The block's parameter, and what it does there. */
struct task {
    const struct parameter &p;
    const float *hyper;
    const struct scale *scale;
    unsigned block; /* of the parameter's */
    float clip;
    bool stays; /* nothing but its gradient is written */
};

__device__ struct task task_of(const parameters &t, int set, unsigned first)
{
    const float *hyper = t.hyper + (t.from + set) * SD_STEP_HYPER;
    bool stays = t.clip[SD_CLIP_SKIP] != 0 || hyper[SD_STEP_LIVE] == 0;
    return {t.p[set], hyper, t.scales + t.from + set, blockIdx.x - first, t.clip[SD_CLIP_COEFFICIENT], stays};
}

__device__ struct task task_of_block(const parameters &t)
{
    int set = set_of_block(t.n, [&](int i) { return t.p[i].first_block; });
    return task_of(t, set, t.p[set].first_block);
}

__device__ float followed(const struct task &t, float moment, float mean)
{
    return t.hyper[SD_ADAFACTOR_KEEP] * moment +
           t.hyper[SD_ADAFACTOR_NEW] * (mean + t.hyper[SD_ADAFACTOR_EPS]);
}

__device__ double squared(float x)
{
    return static_cast<double>(x) * static_cast<double>(x);
}

/* The step, as apply makes it. */
struct step {
    const struct parameter &p;
    float factor, fall, beta1, new1;

    __device__ explicit step(const struct task &t)
        : p(t.p), factor(t.scale->factor), fall(t.scale->fall), beta1(t.hyper[SD_ADAFACTOR_BETA1]),
          new1(t.hyper[SD_ADAFACTOR_NEW1])
    {
    }

    /* Of unit number i, u being the update before it is scaled. */
    template <int W> __device__ void operator()(int64_t i, sd_wide<float, W> u) const
    {
        auto x = sd_load<W>(p.param, i);
        sd_wide<float, W> m = {};
        if (p.m)
            m = sd_load<W>(p.m, i);
        for (int k = 0; k < W; k++) {
            u.v[k] *= factor;
            m.v[k] = beta1 * m.v[k] + new1 * u.v[k];
            x.v[k] -= fall * x.v[k] + (p.m ? m.v[k] : u.v[k]);
        }
        sd_store<W>(p.param, i, x);
        sd_store<W>(p.grad, i, sd_wide<float, W>{});
        if (p.m)
            sd_store<W>(p.m, i, m);
    }
};

/* Leaves what a block has found of its parameter. */
__device__ void leave(const struct task &t, double param, double update)
{
    SD_SHARED(double, spare, SD_WARP);
    param = sd_block_sum(param, spare);
    update = sd_block_sum(update, spare);
    if (threadIdx.x == 0) {
        t.p.sums[2 * int64_t{t.block}] = param;
        t.p.sums[2 * int64_t{t.block} + 1] = update;
    }
}

} // namespace

#endif
