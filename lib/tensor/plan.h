/* Plans: a graph compiled for a backend, with every activation at a fixed offset of one arena.
 *
 * The offsets come from liveness, before anything runs, so the memory a run needs is known exactly and
 * nothing is allocated during it. Inputs and outputs keep their place for the plan's life. */
#ifndef SD_TENSOR_PLAN_H
#define SD_TENSOR_PLAN_H

#include "tensor/workspace.h"

struct sd_plan;

struct sd_plan_memory {
    size_t arena;   /* activations, inputs and outputs */
    size_t scratch; /* work space shared by all kernels */
    size_t frozen;  /* converted and packed weights, shared by all plans of the backend */
    size_t live;    /* lower bound of arena: the largest sum of bytes live at one node */
};

/* Verifies, plans and compiles. The graph must outlive the plan and not change. NULL with err set on failure.
 */
struct sd_plan *sd_plan_new(const struct sd_graph *g, struct sd_backend *b, struct sd_err *err);
/* The same in a workspace, which must outlive the plan. */
struct sd_plan *sd_plan_new_in(const struct sd_graph *g, struct sd_backend *b, struct sd_workspace *w,
                               struct sd_err *err);
void sd_plan_free(struct sd_plan *p);

/* Runs it: 0, or -1 when the device failed (SD_ERR_MACHINE), which nothing but a new backend mends. */
int sd_plan_run(struct sd_plan *p, struct sd_err *err);
/* The two halves of it. Between them the caller may do other work, but must leave inputs and outputs alone;
 * plans of one backend run in the order they were started. */
int sd_plan_start(struct sd_plan *p, struct sd_err *err);
int sd_plan_wait(struct sd_plan *p, struct sd_err *err);
/* Starts p and behind it next, which a device replays as one: p keeps that recording, so it is freed before
 * next. Either's sd_plan_wait waits for both. */
int sd_plan_start_with(struct sd_plan *p, struct sd_plan *next, struct sd_err *err);
/* The host's memory of an input or output tensor, valid until a plan is made or freed. Write inputs before,
 * read outputs after a run. */
void *sd_plan_data(struct sd_plan *p, const struct sd_tensor *t);
struct sd_plan_memory sd_plan_memory(const struct sd_plan *p);

/* Offsets only, without a backend: what the arena would take. For predictions. */
int sd_plan_arena_bytes(const struct sd_graph *g, size_t *bytes, struct sd_err *err);

/* Seconds spent by op in runs since sd_plan_profile(p, true); for bench/ and --profile. */
void sd_plan_profile(struct sd_plan *p, bool on);
double sd_plan_seconds(const struct sd_plan *p, enum sd_op op);

#endif
