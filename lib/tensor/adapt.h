/* Optimizers that find their step size d themselves: D-Adaptation (Defazio and Mishchenko, 2023) and Prodigy
 * (Mishchenko and Defazio, 2024), as dadaptation 3.2 and prodigyopt 1.1.2 compute them.
 *
 * An update is two nodes. sd_graph_adapt_step steps by the d that there is, as sd_graph_step does, and sums
 * over all elements of all parameters what tells how far the start was from the solution; sd_graph_adapt
 * makes of the sums the next d. Prodigy moves by the new d: its prodigy is followed by adapt, and that by
 * prodigy_move.
 *
 * Rules, for an element x with its gradient g, clipped, and its moments. r is d RATE; d, g + DECAY x where g
 * stands below but in lion and sgd's NORM; names in capitals are columns of the parameter's row of hyper.
 * TOP, SQUARES and SIZE are the sums.
 *
 *   preprint  m, v, s      m = BETA1 m + NEW1 r g,  v = BETA2 v + NEW2 g^2,  s = BETA3 s + NEW3 r g,
 *                          D = sqrt(v) + EPS,  x = (1 - LOSE r) x - m / D;
 *                          TOP g^2 / D,  SQUARES s^2 / D,  SIZE |s|
 *   adam      m, v, s      the same, but TOP g s / D of s and D before
 *   adagrad   a, s, x0     a = a + g^2 (1e-6 at first),  s = s + r g,  D = sqrt(a) + EPS,
 *                          x = BETA1 x + NEW1 (x0 - s / D);
 *                          TOP g^2 / D,  and by how much grow  SQUARES s^2 / D,  SIZE |s|
 *   adan      m, q, n, s, h  diff = g - h (0 at first),  m = BETA1 m + NEW1 r g,  q = BETA2 q + NEW2 r diff,
 *                          n = BETA3 n + NEW3 (g + BETA2 diff)^2,  s = BETA3 s + NEW3 r g,  h = g,
 *                          D = sqrt(n) + EPS,  x = ((1 - LOSE r) x - (m + BETA2 q) / D) / (1 + PROX r);
 *                          TOP g^2 / D,  SQUARES s^2 / D,  SIZE |s|
 *   adan_ip   m, q, n, s, h  the same, but TOP g s / D of s and D before
 *   lion      m, s         u = sign(BETA1 m + NEW1 g),  m = BETA2 m + NEW2 r g,  x = (1 - LOSE r) x - r u;
 *                          TOP u s of s before,  s = BETA3 s + NEW3 r u,  SIZE |s|
 *   sgd       s, x0        r is over NORM, all gradients' norm in the first update;  s = s + r g,
 *                          x = BETA1 x + NEW1 (x0 - s);  TOP g s of s before,  SIZE s^2,  SQUARES g^2
 *   prodigy   m, v, s, x0  m = BETA1 m + NEW1 d g,  v = BETA2 v + NEW2 d^2 g^2,  s = BETA3 s + NEW3 d^2 g;
 *                          TOP g (x0 - x),  SIZE |s|;  x stays
 *   prodigy_move  m, v     x = (1 - LOSE r) x - r m / (sqrt(v) + d EPS), r of d before the last adapt;
 *                          where BETA1 is 0, m is made what it were of the d that there is
 *
 * x0 is what x was in the first update. */
#ifndef SD_TENSOR_ADAPT_H
#define SD_TENSOR_ADAPT_H

#include "tensor/graph.h"

enum sd_adapt_hyper {
    SD_ADAPT_LIVE,  /* 0: the parameter and its moments stay as they are, and its gradient becomes 0 */
    SD_ADAPT_FIRST, /* 1: this is the parameter's first update */
    SD_ADAPT_RATE,  /* what d is multiplied by; the same in all rows, also of those that stay */
    SD_ADAPT_BETA1,
    SD_ADAPT_NEW1,
    SD_ADAPT_BETA2,
    SD_ADAPT_NEW2,
    SD_ADAPT_BETA3,
    SD_ADAPT_NEW3,
    SD_ADAPT_EPS,
    SD_ADAPT_DECAY,
    SD_ADAPT_LOSE,
    SD_ADAPT_PROX,
    SD_ADAPT_MAX_NORM, /* sgd: clip's */
    SD_ADAPT_HYPER     /* how many */
};

/* The sums: each two f32, of which the second is what the first lost by rounding. */
enum sd_adapt_sum { SD_ADAPT_TOP, SD_ADAPT_SQUARES, SD_ADAPT_SIZE, SD_ADAPT_SUMS };

/* The state: a mutable f32 variable. At first D, BEFORE and MOST are d0, and the rest is 0. */
enum sd_adapt_state {
    SD_ADAPT_D,
    SD_ADAPT_BEFORE, /* d of the last update; 0: it did nothing */
    SD_ADAPT_MOST,   /* the largest estimate yet (Prodigy) */
    SD_ADAPT_NORM,   /* sgd's; 0: there was no update yet */
    SD_ADAPT_TOTALS, /* the sums over updates, as the sums */
    SD_ADAPT_STATE = SD_ADAPT_TOTALS + 2 * SD_ADAPT_SUMS
};

/* Among a node's inputs, after the parameters'. */
enum { SD_ADAPT_IN_CLIP, SD_ADAPT_IN_HYPER, SD_ADAPT_IN_STATE, SD_ADAPT_IN_COMMON };
enum { SD_ADAPT_MOMENTS = 5 }; /* that a rule has at most */

struct sd_adapt_info {
    const char *name;
    bool sums;   /* takes gradients, and makes sums */
    int moments; /* inputs of a parameter after itself and its gradient */
    int written; /* so many of them in every update, the rest only in the first */
};
extern const struct sd_adapt_info sd_adapt_rules[];

static inline int sd_adapt_each(const struct sd_node *n)
{
    const struct sd_adapt_info *r = &sd_adapt_rules[n->attr.adapt_rule];
    return 1 + r->sums + r->moments;
}

static inline int sd_adapt_input(const struct sd_node *n, int what)
{
    return n->n_in - SD_ADAPT_IN_COMMON + what;
}

#endif
