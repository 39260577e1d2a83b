/* AdaFactor in stages: second moments, of all that is small together with the size of its update; columns of
 * large matrices from what their parts added up; the size of their updates; each parameter's rate; the step.
 * Parts depend on the shapes only and are added in order. */
#include "tensor/adafactor.h"
#include "tensor/cpu/block.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a task has of a parameter: matrices [from, to), rows [from, to) of the matrix of that number where
 * they are large, or elements [from, to) of a vector. */
struct part {
    int param;
    int64_t matrix, from, to;
    int64_t sums; /* large: where its sums of columns lie in scratch */
};

/* A large matrix, which parts [first, first + parts) share. */
struct large {
    int param;
    int64_t matrix, first, parts;
};

struct work {
    int64_t parts, large, sums; /* how many; numbers in scratch */
    struct part *part;
    struct large *matrix;
};

/* A part's sums of squares, of the parameter and of the update; a parameter's rate and what its update is
 * times. */
struct squares {
    double param, update;
};
struct scale {
    double rate, factor;
};

static bool is_large(const struct sd_matrices *v)
{
    return v->factored && v->rows * v->columns > SD_CPU_CHUNK;
}

/* Matrices, rows or elements of a part. Sums of columns cost a pass over one row in so many. */
static int64_t part_length(const struct sd_matrices *v)
{
    if (!v->factored)
        return SD_CPU_CHUNK;
    if (is_large(v))
        return sd_cpu_max(32, 4 * SD_CPU_CHUNK / v->columns);
    return sd_cpu_max(1, SD_CPU_CHUNK / (v->rows * v->columns));
}

/* Adds the parts of [0, n) of one matrix, of a vector or of all small matrices; counts only while there is no
 * memory for them. */
static void add_parts(struct work *w, int param, const struct sd_matrices *v, int64_t matrix, int64_t n)
{
    int64_t length = part_length(v), first = w->parts;
    for (int64_t at = 0; at < n; at += length) {
        if (w->part)
            w->part[w->parts] = (struct part){param, matrix, at, sd_cpu_min(n, at + length), w->sums};
        w->parts++;
        w->sums += is_large(v) ? v->columns : 0;
    }
    if (!is_large(v))
        return;
    if (w->matrix)
        w->matrix[w->large] = (struct large){param, matrix, first, w->parts - first};
    w->large++;
}

static void add_all(struct work *w, const struct sd_node *node)
{
    w->parts = w->large = w->sums = 0;
    for (int i = 0; i < sd_adafactor_params(node); i++) {
        struct sd_matrices v = sd_matrices_of(node, i);
        for (int64_t k = 0; k < v.n && is_large(&v); k++)
            add_parts(w, i, &v, k, v.rows);
        if (!is_large(&v))
            add_parts(w, i, &v, 0, v.factored ? v.n : v.columns);
    }
}

static int plan(struct sd_call *c, struct sd_err *err)
{
    struct work count = {0}, *w;
    add_all(&count, c->node);
    size_t bytes =
        sizeof *w + (size_t)count.parts * sizeof *w->part + (size_t)count.large * sizeof *w->matrix;
    if (!(w = malloc(bytes)))
        return sd_err_memory(err, bytes);
    w->part = (struct part *)(w + 1);
    w->matrix = (struct large *)(w->part + count.parts);
    add_all(w, c->node);
    c->state = w;
    c->scratch_bytes = (size_t)w->parts * sizeof(struct squares) +
                       (size_t)sd_adafactor_params(c->node) * sizeof(struct scale) +
                       (size_t)w->sums * sizeof(double);
    return 0;
}

static void drop(struct sd_call *c)
{
    free(c->state);
}

/* A parameter in a run. */
struct subject {
    const float *hyper;
    float *param, *grad, *rows, *columns, *m, clip;
    struct sd_matrices v;
    bool stays; /* nothing but its gradient is written */
};

static struct subject subject_of(const struct sd_call *c, int param)
{
    void *const *in = c->in + (size_t)param * SD_ADAFACTOR_EACH;
    const float *clip = c->in[c->node->n_in - 2],
                *hyper = (const float *)c->in[c->node->n_in - 1] + (size_t)param * SD_STEP_HYPER;
    return (struct subject){hyper,
                            in[SD_ADAFACTOR_PARAM],
                            in[SD_ADAFACTOR_GRAD],
                            in[SD_ADAFACTOR_ROWS],
                            in[SD_ADAFACTOR_COLUMNS],
                            in[SD_ADAFACTOR_M],
                            clip[SD_CLIP_COEFFICIENT],
                            sd_matrices_of(c->node, param),
                            clip[SD_CLIP_SKIP] != 0 || hyper[SD_STEP_LIVE] == 0};
}

static const struct work *work_of(const struct sd_call *c)
{
    return c->state;
}

static struct squares *squares_of(const struct sd_call *c)
{
    return c->scratch;
}

static struct scale *scales_of(const struct sd_call *c)
{
    return (struct scale *)(squares_of(c) + work_of(c)->parts);
}

static double *sums_of(const struct sd_call *c)
{
    return (double *)(scales_of(c) + sd_adafactor_params(c->node));
}

/* The sum of a row's squares, which are added to columns too. */
SD_CPU_CLONES static double add_row(int64_t n, const float *grad, float clip, double *columns)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        double g = (double)(grad[i] * clip);
        columns[i] += g * g;
        sum += g * g;
    }
    return sum;
}

/* Second moments after the means of squares. */
SD_CPU_CLONES static void follow(int64_t n, const float *hyper, const double *sums, double count,
                                 float *moment)
{
    float keep = hyper[SD_ADAFACTOR_KEEP], fresh = hyper[SD_ADAFACTOR_NEW], eps = hyper[SD_ADAFACTOR_EPS];
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        moment[i] = keep * moment[i] + fresh * ((float)(sums[i] / count) + eps);
}

SD_CPU_CLONES static void follow_vector(int64_t n, const float *hyper, const float *grad, float clip,
                                        float *moment)
{
    float keep = hyper[SD_ADAFACTOR_KEEP], fresh = hyper[SD_ADAFACTOR_NEW], eps = hyper[SD_ADAFACTOR_EPS];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float g = grad[i] * clip;
        moment[i] = keep * moment[i] + fresh * (g * g + eps);
    }
}

SD_CPU_CLONES static void inverse_roots(int64_t n, const float *x, float *y)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        y[i] = 1 / sqrtf(x[i]);
}

/* The sum of squares of factor grad[i] by[i]. */
SD_CPU_CLONES static double sum_update(int64_t n, const float *grad, const float *by, float factor)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        float u = grad[i] * factor * by[i];
        sum += (double)u * (double)u;
    }
    return sum;
}

SD_CPU_CLONES static void move(int64_t n, const float *grad, const float *by, float factor, float fall,
                               float *param)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        param[i] -= fall * param[i] + grad[i] * factor * by[i];
}

SD_CPU_CLONES static void move_moment(int64_t n, const float *grad, const float *by, float factor, float fall,
                                      const float *hyper, float *m, float *param)
{
    float beta1 = hyper[SD_ADAFACTOR_BETA1], new1 = hyper[SD_ADAFACTOR_NEW1];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        m[i] = beta1 * m[i] + new1 * (grad[i] * factor * by[i]);
        param[i] -= fall * param[i] + m[i];
    }
}

/* A piece of a matrix, or of a vector, which is one row. */
struct window {
    int64_t matrix, row, rows, column, columns;
};

/* The step of a window's elements, or without a scale only the sum of squares of what it would be. */
static double walk(const struct subject *s, struct window w, const struct scale *scale)
{
    const float *columns = s->v.factored ? s->columns + w.matrix * s->v.columns : s->rows,
                *rows = s->rows + w.matrix * s->v.rows;
    float by[SD_CPU_BLOCK];
    double mean = 0, sum = 0;
    for (int64_t i = 0; i < s->v.rows && s->v.factored; i++)
        mean += (double)rows[i];
    mean /= (double)s->v.rows;
    for (int64_t j = w.column, n, end = w.column + w.columns; j < end; j += n) {
        n = sd_cpu_min(SD_CPU_BLOCK, end - j);
        inverse_roots(n, columns + j, by);
        for (int64_t i = w.row; i < w.row + w.rows; i++) {
            int64_t at = (w.matrix * s->v.rows + i) * s->v.columns + j;
            double factor = (double)s->clip * (s->v.factored ? 1 / sqrt((double)rows[i] / mean) : 1);
            if (!scale) {
                sum += sum_update(n, s->grad + at, by, (float)factor);
                continue;
            }
            float fall = (float)((double)s->hyper[SD_ADAFACTOR_DECAY] * scale->rate);
            factor *= scale->factor;
            if (s->m)
                move_moment(n, s->grad + at, by, (float)factor, fall, s->hyper, s->m + at, s->param + at);
            else
                move(n, s->grad + at, by, (float)factor, fall, s->param + at);
        }
    }
    return sum;
}

/* The same for all of a part. */
static double walk_part(const struct subject *s, const struct part *p, const struct scale *scale)
{
    double sum = 0;
    if (is_large(&s->v))
        return walk(s, (struct window){p->matrix, p->from, p->to - p->from, 0, s->v.columns}, scale);
    if (!s->v.factored)
        return walk(s, (struct window){0, 0, 1, p->from, p->to - p->from}, scale);
    for (int64_t k = p->from; k < p->to; k++)
        sum += walk(s, (struct window){k, 0, s->v.rows, 0, s->v.columns}, scale);
    return sum;
}

/* The elements of a part; returns the first. */
static int64_t elements_of(const struct subject *s, const struct part *p, int64_t *n)
{
    int64_t first = p->from, unit = 1;
    if (is_large(&s->v)) {
        unit = s->v.columns;
        first += p->matrix * s->v.rows;
    } else if (s->v.factored) {
        unit = s->v.rows * s->v.columns;
    }
    *n = (p->to - p->from) * unit;
    return first * unit;
}

/* Rows of a matrix follow their mean squares; columns get their sums. */
static void gather_rows(const struct subject *s, int64_t matrix, int64_t from, int64_t to, double *columns)
{
    memset(columns, 0, (size_t)s->v.columns * sizeof *columns);
    for (int64_t i = from; i < to; i++) {
        int64_t row = matrix * s->v.rows + i;
        double sum = add_row(s->v.columns, s->grad + row * s->v.columns, s->clip, columns);
        follow(1, s->hyper, &sum, (double)s->v.columns, s->rows + row);
    }
}

static void gather_small(const struct subject *s, const struct part *p)
{
    double columns[SD_CPU_CHUNK];
    for (int64_t k = p->from; k < p->to; k++) {
        gather_rows(s, k, 0, s->v.rows, columns);
        follow(s->v.columns, s->hyper, columns, (double)s->v.rows, s->columns + k * s->v.columns);
    }
}

static void gather(const struct sd_call *c, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        const struct part *p = &work_of(c)->part[i];
        struct subject s = subject_of(c, p->param);
        int64_t n, first = elements_of(&s, p, &n);
        if (s.stays)
            continue;
        if (is_large(&s.v))
            gather_rows(&s, p->matrix, p->from, p->to, sums_of(c) + p->sums);
        else if (s.v.factored)
            gather_small(&s, p);
        else
            follow_vector(n, s.hyper, s.grad + first, s.clip, s.rows + first);
        squares_of(c)[i].param = sd_cpu_sum_squares(n, s.param + first);
        squares_of(c)[i].update = is_large(&s.v) ? 0 : walk_part(&s, p, NULL); /* large: measure */
    }
}

/* Columns of large matrices. */
static void combine(const struct sd_call *c, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        const struct large *l = &work_of(c)->matrix[i];
        struct subject s = subject_of(c, l->param);
        double *sums = sums_of(c) + work_of(c)->part[l->first].sums;
        if (s.stays)
            continue;
        for (int64_t k = 1; k < l->parts; k++)
            for (int64_t j = 0; j < s.v.columns; j++)
                sums[j] += sums[k * s.v.columns + j];
        follow(s.v.columns, s.hyper, sums, (double)s.v.rows, s.columns + l->matrix * s.v.columns);
    }
}

/* Updates of large matrices. */
static void measure(const struct sd_call *c, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        const struct part *p = &work_of(c)->part[i];
        struct subject s = subject_of(c, p->param);
        if (!s.stays && is_large(&s.v))
            squares_of(c)[i].update = walk_part(&s, p, NULL);
    }
}

static void find_scales(const struct sd_call *c)
{
    const struct work *w = work_of(c);
    for (int64_t i = 0, at = 0; i < sd_adafactor_params(c->node); i++) {
        struct subject s = subject_of(c, (int)i);
        double count = (double)sd_tensor_count(c->node->in[i * SD_ADAFACTOR_EACH]);
        struct squares sum = {0, 0};
        for (; at < w->parts && w->part[at].param == i; at++)
            if (!s.stays) {
                sum.param += squares_of(c)[at].param;
                sum.update += squares_of(c)[at].update;
            }
        double rms = sqrt(sum.param / count), rate = (double)s.hyper[SD_ADAFACTOR_RATE],
               excess = sqrt(sum.update / count) / (double)s.hyper[SD_ADAFACTOR_MOST];
        if (s.hyper[SD_ADAFACTOR_SCALED] != 0)
            rate *= fmax((double)s.hyper[SD_ADAFACTOR_LEAST], rms);
        scales_of(c)[i] = (struct scale){rate, rate / (excess <= 1 ? 1 : excess)}; /* NaN stays */
        ((float *)c->out[0])[i] = (float)rms;
    }
}

static void apply(const struct sd_call *c, int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        const struct part *p = &work_of(c)->part[i];
        struct subject s = subject_of(c, p->param);
        int64_t n, first = elements_of(&s, p, &n);
        if (!s.stays)
            walk_part(&s, p, &scales_of(c)[p->param]);
        memset(s.grad + first, 0, (size_t)n * sizeof *s.grad);
    }
}

static void run(const struct sd_call *c)
{
    const struct work *w = work_of(c);
    sd_cpu_split(c, w->parts, 1, gather);
    sd_cpu_split(c, w->large, 1, combine);
    sd_cpu_split(c, w->parts, 1, measure);
    find_scales(c);
    sd_cpu_split(c, w->parts, 1, apply);
}

const struct sd_kernel sd_cpu_adafactor = {.plan = plan, .run = run, .drop = drop};
