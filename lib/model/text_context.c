#include "model/text_context.h"

struct sd_tensor *sd_text_context(struct sd_nn *b, const struct sd_text_config *c, struct sd_tensor *ids,
                                  int chunks, int clip_skip)
{
    struct sd_tensor *h = sd_clip_text(b, c, ids, clip_skip);
    if (!h || chunks == 1)
        return h;
    int64_t n = h->dim[0] / chunks, t = h->dim[1], w = h->dim[2];
    /* The states of a prompt as one row, so that stretches of tokens are slices of it. */
    struct sd_tensor *row = sd_graph_reshape(b->g, h, 2, (int64_t[]){n, chunks * t * w});
    struct sd_tensor *all =
        sd_graph_slice(b->g, row, 0, (t - 1) * w); /* BOS and the inner states of chunk 0 */
    for (int i = 1; i < chunks; i++) {
        int64_t from = (i * t + 1) * w, len = i == chunks - 1 ? (t - 1) * w : (t - 2) * w;
        all = sd_graph_concat(b->g, all, sd_graph_slice(b->g, row, from, len));
    }
    return sd_graph_reshape(b->g, all, 3, (int64_t[]){n, chunks * (t - 2) + 2, w});
}
