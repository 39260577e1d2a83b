#include "tensor/adafactor.h"
#include "tensor/ref/array.h"

#include <math.h>

/* One parameter's step. */
struct update {
    struct array param, grad, rows, columns, m, hyper;
    int64_t row;          /* of hyper: its first number */
    struct sd_matrices v; /* how param is taken */
    double clip, *u;      /* u: its update, element for element */
};

static double setting(const struct update *s, int which)
{
    return ld(s->hyper, s->row + which);
}

static double gradient(const struct update *s, int64_t i)
{
    return ld(s->grad, i) * s->clip;
}

static double root_mean_square(const double *x, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sqrt(sum / (double)n);
}

/* A second moment moves towards the mean of n squares of the gradient, `step` elements apart. */
static void follow(const struct update *s, struct array moment, int64_t which, int64_t first, int64_t n,
                   int64_t step)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += pow(gradient(s, first + i * step), 2);
    double fresh = sum / (double)n + setting(s, SD_ADAFACTOR_EPS);
    st(moment, which,
       setting(s, SD_ADAFACTOR_KEEP) * ld(moment, which) + setting(s, SD_ADAFACTOR_NEW) * fresh);
}

static void matrix(struct update *s, int64_t number)
{
    int64_t rows = s->v.rows, columns = s->v.columns, first = number * rows * columns;
    double mean = 0;
    for (int64_t i = 0; i < rows; i++) {
        follow(s, s->rows, number * rows + i, first + i * columns, columns, 1);
        mean += ld(s->rows, number * rows + i) / (double)rows;
    }
    for (int64_t j = 0; j < columns; j++)
        follow(s, s->columns, number * columns + j, first + j, rows, columns);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++) {
            double r = ld(s->rows, number * rows + i) / mean, c = ld(s->columns, number * columns + j);
            int64_t at = first + i * columns + j;
            s->u[at] = gradient(s, at) / sqrt(r) / sqrt(c);
        }
}

static void vector(struct update *s)
{
    for (int64_t i = 0; i < s->param.n; i++) {
        follow(s, s->rows, i, i, 1, 1);
        s->u[i] = gradient(s, i) / sqrt(ld(s->rows, i));
    }
}

/* The root mean square of the parameter before its step. */
static double step(struct update *s)
{
    int64_t n = s->param.n;
    for (int64_t i = 0; i < n; i++)
        s->u[i] = ld(s->param, i);
    double rms = root_mean_square(s->u, n), rate = setting(s, SD_ADAFACTOR_RATE);
    if (setting(s, SD_ADAFACTOR_SCALED) != 0)
        rate *= fmax(setting(s, SD_ADAFACTOR_LEAST), rms);
    for (int64_t k = 0; k < s->v.n && s->v.factored; k++)
        matrix(s, k);
    if (!s->v.factored)
        vector(s);
    double excess = root_mean_square(s->u, n) / setting(s, SD_ADAFACTOR_MOST);
    for (int64_t i = 0; i < n; i++) {
        double u = rate * s->u[i] / (excess <= 1 ? 1 : excess), x = ld(s->param, i); /* NaN stays */
        if (s->m.data) {
            st(s->m, i, setting(s, SD_ADAFACTOR_BETA1) * ld(s->m, i) + setting(s, SD_ADAFACTOR_NEW1) * u);
            u = ld(s->m, i);
        }
        st(s->param, i, x - setting(s, SD_ADAFACTOR_DECAY) * rate * x - u);
    }
    return rms;
}

static void run(const struct sd_call *c)
{
    int n = sd_adafactor_params(c->node);
    struct array clip = in(c, c->node->n_in - 2), hyper = in(c, c->node->n_in - 1);
    for (int i = 0; i < n; i++) {
        int k = i * SD_ADAFACTOR_EACH;
        struct update s = {in(c, k + SD_ADAFACTOR_PARAM), in(c, k + SD_ADAFACTOR_GRAD),
                           in(c, k + SD_ADAFACTOR_ROWS),  in(c, k + SD_ADAFACTOR_COLUMNS),
                           in(c, k + SD_ADAFACTOR_M),     hyper,
                           (int64_t)i * SD_STEP_HYPER,    sd_matrices_of(c->node, i),
                           ld(clip, SD_CLIP_COEFFICIENT), c->scratch};
        bool left = ld(clip, SD_CLIP_SKIP) != 0 || setting(&s, SD_STEP_LIVE) == 0;
        st(out(c, 0), i, left ? 0 : step(&s));
        for (int64_t j = 0; j < s.grad.n; j++)
            st(s.grad, j, 0);
    }
}

static int plan(struct sd_call *c, struct sd_err *err)
{
    (void)err;
    for (int i = 0; i < sd_adafactor_params(c->node); i++) {
        size_t bytes = (size_t)sd_tensor_count(c->node->in[i * SD_ADAFACTOR_EACH]) * sizeof(double);
        c->scratch_bytes = bytes > c->scratch_bytes ? bytes : c->scratch_bytes;
    }
    return 0;
}

const struct sd_kernel sd_ref_adafactor = {.plan = plan, .run = run};
