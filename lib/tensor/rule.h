/* The rules of optimizers: what sd_graph_step does to each element x of a parameter with its gradient g and
 * its moments. Every number that may change from update to update comes from the parameter's row of `hyper`,
 * worked out in double by the caller and then rounded: in f32 alone 1 - beta2 would be off by 5e-5. Column 0
 * is the same for all. What a rule takes for d, below, is g + DECAY x, unless it says otherwise. */
#ifndef SD_TENSOR_RULE_H
#define SD_TENSOR_RULE_H

#include "tensor/graph.h"

enum { SD_STEP_LIVE }; /* 0: the parameter and its moments stay as they are, and its gradient becomes 0 */

/* adam (Kingma and Ba, 2015; decoupled decay: Loshchilov and Hutter, 2019):
 *   m = BETA1 m + NEW1 d,  v = BETA2 v + NEW2 d^2,
 *   x = KEEP x - (RATE m + FRESH d) / (ROOT sqrt(v) + EPS)
 * amsgrad (Reddi et al., 2018) has a third moment, the largest v yet, and its root there. */
enum sd_adam_hyper {
    SD_ADAM_KEEP = 1,
    SD_ADAM_DECAY,
    SD_ADAM_BETA1,
    SD_ADAM_NEW1,
    SD_ADAM_BETA2,
    SD_ADAM_NEW2,
    SD_ADAM_EPS,
    SD_ADAM_RATE,
    SD_ADAM_FRESH,
    SD_ADAM_ROOT
};

/* lion (Chen et al., Symbolic Discovery of Optimization Algorithms, 2023):
 *   x = KEEP x - RATE sign(BETA1 m + NEW1 g),  then  m = BETA2 m + NEW2 g */
enum sd_lion_hyper {
    SD_LION_KEEP = 1,
    SD_LION_BETA1,
    SD_LION_NEW1,
    SD_LION_BETA2,
    SD_LION_NEW2,
    SD_LION_RATE
};

/* sgd: m = MOMENTUM m + NEW d,  x = KEEP x - (FRESH d + RATE m) */
enum sd_sgd_hyper { SD_SGD_KEEP = 1, SD_SGD_DECAY, SD_SGD_MOMENTUM, SD_SGD_NEW, SD_SGD_FRESH, SD_SGD_RATE };

/* rmsprop (Hinton, lecture 6e, 2012): v = ALPHA v + NEW d^2,  x = x - RATE d / (sqrt(v) + EPS)
 * rmsprop_full: v so,  a = ALPHA a + NEW d,  b = MOMENTUM b + d / (sqrt(max(v - CENTER a^2, 0)) + EPS),
 *   x = x - RATE b; its moments are v, a, b */
enum sd_rmsprop_hyper {
    SD_RMSPROP_DECAY = 1,
    SD_RMSPROP_ALPHA,
    SD_RMSPROP_NEW,
    SD_RMSPROP_EPS,
    SD_RMSPROP_RATE,
    SD_RMSPROP_CENTER,
    SD_RMSPROP_MOMENTUM
};

/* adadelta (Zeiler, 2012): v = RHO v + NEW d^2,  s = d sqrt(u + EPS) / sqrt(v + EPS),  u = RHO u + NEW s^2,
 *   x = x - RATE s; its moments are v, u */
enum sd_adadelta_hyper {
    SD_ADADELTA_DECAY = 1,
    SD_ADADELTA_RHO,
    SD_ADADELTA_NEW,
    SD_ADADELTA_EPS,
    SD_ADADELTA_RATE
};

/* adamax (Kingma and Ba, 2015): m = BETA1 m + NEW1 d,  u = max(BETA2 u, |d| + EPS),  x = x - RATE m / u */
enum sd_adamax_hyper {
    SD_ADAMAX_DECAY = 1,
    SD_ADAMAX_BETA1,
    SD_ADAMAX_NEW1,
    SD_ADAMAX_BETA2,
    SD_ADAMAX_EPS,
    SD_ADAMAX_RATE
};

/* rprop (Riedmiller and Braun, 1993): where g has p's sign s = min(UP s, MOST), where it has the other
 *   s = max(DOWN s, LEAST) and g = 0; x = x - s sign(g),  p = g; its moments are p, s */
enum sd_rprop_hyper { SD_RPROP_UP = 1, SD_RPROP_DOWN, SD_RPROP_LEAST, SD_RPROP_MOST };

enum { SD_STEP_HYPER = 12, SD_STEP_MOMENTS = 3 }; /* columns of hyper; moments that a rule has at most */

struct sd_rule_info {
    const char *name;
    int moments;
    bool codes; /* its moments may be codes of 8 bits */
};
extern const struct sd_rule_info sd_rules[];

/* What comes after the parameters among a node's inputs. */
enum { SD_STEP_IN_CLIP, SD_STEP_IN_HYPER, SD_STEP_IN_MAPS, SD_STEP_IN_COMMON };

/* Which input `what` is. */
static inline int sd_step_input(const struct sd_node *n, int what)
{
    return n->n_in - SD_STEP_IN_COMMON + what;
}

/* How many inputs each parameter has. */
static inline int sd_step_each(const struct sd_node *n)
{
    return 2 + sd_rules[n->attr.rule].moments * (n->in[sd_step_input(n, SD_STEP_IN_MAPS)] ? 2 : 1);
}

#endif
