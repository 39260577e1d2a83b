/* Memory that several plans take turns in: it grows to what the largest needs. Inputs are then written just
 * before a plan's run, and outputs read before another plan's. */
#ifndef SD_TENSOR_WORKSPACE_H
#define SD_TENSOR_WORKSPACE_H

#include "tensor/backend.h"

struct sd_workspace {
    struct sd_backend *backend; /* whose memory it is; NULL while empty */
    char *arena, *scratch;      /* owned; on the device where the backend has one */
    size_t arena_bytes, scratch_bytes;
    unsigned generation; /* changes when the memory moved */
};

/* Makes it at least as large, for plans of one backend. 0, or -1 with err telling what there is; the old
 * memory is then gone, and its plans cannot run. */
int sd_workspace_claim(struct sd_workspace *w, struct sd_backend *b, size_t arena, size_t scratch,
                       struct sd_err *err);
/* Whether the last claim got no memory. */
bool sd_workspace_lost(const struct sd_workspace *w);
void sd_workspace_free(struct sd_workspace *w); /* after its plans, before its backend */

#endif
