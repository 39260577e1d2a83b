/* Matrix products on the CPU: which kernels run, and the f32 kernels for each instruction set. */
#include "tensor/cpu/gemm.h"

#include <omp.h>
#include <string.h>

#include "base/half.h"
#include "tensor/cpu/ahead.h"
#include "tensor/cpu/vector.h"

/* A unit is a block of y that one thread makes from start to end, a part of k at a time: it copies its rows
 * of op(a) and columns of op(b), then multiplies the copies. Sizes are what measures best with 2 MiB of
 * second-level cache. */
#define PART 256 /* steps of k */
#define UNIT_ROWS 512
#define UNIT_COLUMNS 192
#define UNITS 16 /* wanted, to keep many cores busy */
#define FETCH 12 /* lines of each factor fetched ahead beside a block of sums */

struct cut {
    int64_t rows, columns;    /* of a unit, filled up to whole blocks */
    int64_t across, units;    /* units side by side, and in all */
    int64_t parts;            /* of k */
    size_t a, b, sums, local; /* bytes of the copies, the sums, all */
};

struct job {
    const struct sd_gemm *g;
    const void *a, *b, *acc;
    const float *bias;
    void *y;
    struct cut cut;
};

static int64_t low(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t blocks(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* n in `pieces` even pieces, filled up to a multiple of `whole` */
static int64_t piece(int64_t n, int64_t pieces, int64_t whole)
{
    return blocks(blocks(n, pieces), whole) * whole;
}

/* By shape alone. */
static struct cut cut_of(const struct sd_gemm *g, int64_t block_rows, int64_t block_columns)
{
    int64_t rows = UNIT_ROWS, columns = UNIT_COLUMNS, few = g->n <= 96 ? 32 : 128;
    while (blocks(g->m, rows) * blocks(g->n, columns) < UNITS && (rows > few || columns > 96))
        if (columns > 96 && (rows <= few || g->n >= g->m))
            columns /= 2;
        else
            rows /= 2;
    struct cut c = {.rows = piece(g->m, blocks(g->m, rows), block_rows),
                    .columns = piece(g->n, blocks(g->n, columns), block_columns),
                    .parts = blocks(g->k, PART)};
    c.across = blocks(g->n, c.columns);
    c.units = c.across * blocks(g->m, c.rows);
    c.a = ((size_t)(c.rows * PART) * sizeof(float) + 63) & ~(size_t)63;
    c.b = ((size_t)(c.columns * PART) * sizeof(float) + 63) & ~(size_t)63;
    c.sums = ((size_t)(c.rows * c.columns) * sizeof(float) + 63) & ~(size_t)63;
    c.local = c.a + c.b + c.sums;
    return c;
}

static int64_t part_from(const struct job *j, int64_t part)
{
    return part * j->g->k / j->cut.parts;
}

/* What the copies of a part of k will read */
static void look_ahead(const struct job *j, int64_t row, int64_t column, int64_t part, struct sd_ahead f[2])
{
    const struct sd_gemm *g = j->g;
    int64_t k = part_from(j, part), steps = part_from(j, part + 1) - k, size = g->bf16 ? 2 : 4;
    int64_t rows = low(j->cut.rows, g->m - row), columns = low(j->cut.columns, g->n - column);
    int64_t at_a = g->trans_a ? k * g->m + row : row * g->k + k,
            at_b = g->trans_b ? column * g->k + k : k * g->n + column;
    f[0] = (struct sd_ahead){.row = (const char *)j->a + at_a * size,
                             .stride = (g->trans_a ? g->m : g->k) * size,
                             .width = (g->trans_a ? rows : steps) * size,
                             .rows = g->trans_a ? steps : rows};
    f[1] = (struct sd_ahead){.row = (const char *)j->b + at_b * size,
                             .stride = (g->trans_b ? g->k : g->n) * size,
                             .width = (g->trans_b ? steps : columns) * size,
                             .rows = g->trans_b ? columns : steps};
}

#define ISA(name) name##_plain
#define TARGET
#define LANES 4
#define VF vf4
#define VI __attribute__((vector_size(16))) int32_t
#define ROWS 4
#define VFMA fma_plain
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#include "gemm_f32.inc"

#if defined(__x86_64__)
#define ISA(name) name##_avx2
#define TARGET AVX2
#define LANES 8
#define VF vf8
#define VI __attribute__((vector_size(32))) int32_t
#define ROWS 4
#define VFMA _mm256_fmadd_ps
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#include "gemm_f32.inc"

#define ISA(name) name##_avx512
#define TARGET AVX512
#define LANES 16
#define VF vf16
#define VI __attribute__((vector_size(64))) int32_t
#define ROWS 8
#define VFMA _mm512_fmadd_ps
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#include "gemm_f32.inc"
#endif

const struct sd_gemm_kernels *sd_gemm_kernels(enum sd_isa isa)
{
    if (!sd_isa_runs(isa))
        return NULL;
    switch (isa) {
#if defined(__x86_64__)
    case SD_ISA_AVX2:
        return &kernels_avx2;
    case SD_ISA_AVX512:
        return &kernels_avx512;
    case SD_ISA_AMX:
        return sd_gemm_amx();
#endif
    default:
        return &kernels_plain;
    }
}
