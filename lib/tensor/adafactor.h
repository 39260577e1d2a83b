/* AdaFactor (Shazeer and Stern, 2018) as transformers.optimization.Adafactor has it, by a row of
 * hyper [n, SD_STEP_HYPER] for each parameter.
 *
 * The last two dimensions of a parameter are rows and columns; those before number matrices that are each for
 * themselves. With g the clipped gradient: rows = KEEP rows + NEW (mean of g^2 over the columns + EPS),
 * columns likewise over the rows, u = g / sqrt(rows / mean(rows)) / sqrt(columns). Of a vector, rows
 * being as large as the parameter: rows = KEEP rows + NEW (g^2 + EPS), u = g / sqrt(rows).
 *
 * Then rate = RATE, times max(LEAST, rms(param)) where SCALED; u = rate u / max(1, rms(u) / MOST); where
 * there is m, m = BETA1 m + NEW1 u and u = m; param = param - DECAY rate param - u. */
#ifndef SD_TENSOR_ADAFACTOR_H
#define SD_TENSOR_ADAFACTOR_H

#include "tensor/rule.h"

enum sd_adafactor_hyper {
    SD_ADAFACTOR_RATE = 1, /* 0 is SD_STEP_LIVE */
    SD_ADAFACTOR_SCALED,
    SD_ADAFACTOR_LEAST,
    SD_ADAFACTOR_EPS,
    SD_ADAFACTOR_KEEP,
    SD_ADAFACTOR_NEW, /* 1 - KEEP */
    SD_ADAFACTOR_MOST,
    SD_ADAFACTOR_BETA1,
    SD_ADAFACTOR_NEW1, /* 1 - BETA1 */
    SD_ADAFACTOR_DECAY
};

/* A node's inputs: what each parameter has, in this order, as struct sd_adafactor_tensors; behind the last
 * one's come clip and hyper. */
enum sd_adafactor_input {
    SD_ADAFACTOR_PARAM,
    SD_ADAFACTOR_GRAD,
    SD_ADAFACTOR_ROWS,
    SD_ADAFACTOR_COLUMNS,
    SD_ADAFACTOR_M,
    SD_ADAFACTOR_EACH
};

static inline int sd_adafactor_params(const struct sd_node *node)
{
    return (node->n_in - 2) / SD_ADAFACTOR_EACH;
}

/* A parameter as n matrices, or, where it is not factored, as a vector: one row. */
struct sd_matrices {
    int64_t n, rows, columns;
    bool factored;
};

static inline struct sd_matrices sd_matrices_of(const struct sd_node *node, int param)
{
    struct sd_tensor *const *in = node->in + (size_t)param * SD_ADAFACTOR_EACH;
    const struct sd_tensor *t = in[SD_ADAFACTOR_PARAM];
    struct sd_matrices m = {1, 1, sd_tensor_count(t), in[SD_ADAFACTOR_COLUMNS] != NULL};
    if (!m.factored)
        return m;
    m.rows = t->dim[t->ndim - 2];
    m.columns = t->dim[t->ndim - 1];
    for (int i = 0; i + 2 < t->ndim; i++)
        m.n *= t->dim[i];
    return m;
}

#endif
