#include "model/declare.h"

#include <stdlib.h>

#include "model/clip_text.h"
#include "model/unet.h"
#include "model/vae.h"

static struct sd_tensor *image(struct sd_graph *g, int64_t side, int64_t channels)
{
    return sd_graph_input(g, "image", SD_F32, 4, (int64_t[]){1, side, side, channels});
}

static void build(struct sd_nn *b, const struct sd_model_config *c, enum sd_part part)
{
    struct sd_graph *g = b->g;
    if (part == SD_PART_TEXT) {
        int64_t dim[2] = {1, c->text.positions};
        sd_clip_text(b, &c->text, sd_graph_input(g, "ids", SD_I32, 2, dim), 0);
    } else if (part == SD_PART_UNET) {
        struct sd_tensor *t = sd_graph_input(g, "t", SD_F32, 1, (int64_t[]){1});
        struct sd_tensor *context =
            sd_graph_input(g, "context", SD_F32, 3, (int64_t[]){1, 1, c->unet.context});
        sd_unet(b, &c->unet, image(g, 1 << c->unet.levels, c->unet.in_channels), t, context);
    } else {
        sd_vae_encode(b, &c->vae, image(g, 1 << c->vae.levels, c->vae.in_channels));
        sd_vae_decode(b, &c->vae, image(g, 1, c->vae.latent_channels));
    }
}

int sd_model_declare(struct sd_weights *w, const struct sd_model_config *c, enum sd_part part,
                     sd_nn_adapt *adapt, void *adapt_ctx, struct sd_err *err)
{
    struct sd_nn b;
    struct sd_graph *g = sd_graph_new();
    if (!g)
        return sd_err_memory(err, sizeof *g);
    sd_nn_init(&b, g, SD_F32, sd_weights_param, w);
    b.adapt = adapt;
    b.adapt_ctx = adapt_ctx;
    build(&b, c, part);
    int rc = sd_graph_error(g, err);
    sd_nn_free(&b);
    sd_graph_free(g);
    return rc;
}

static int check(struct sd_model_file *mf, enum sd_part part, bool exactly, struct sd_err *err)
{
    if (sd_model_file_need(mf, part, err))
        return -1;
    struct sd_weights *w = sd_weights_new(NULL, NULL, err);
    struct sd_model_param *list = NULL;
    int rc = -1;
    if (!w || sd_model_declare(w, sd_model_file_config(mf), part, NULL, NULL, err))
        goto out;
    size_t n = sd_weights_count(w);
    if (!(list = malloc((n + 1) * sizeof *list))) {
        sd_err_memory(err, n * sizeof *list);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        const struct sd_var *v = sd_weights_var(w, i);
        list[i] = (struct sd_model_param){.name = v->name, .ndim = v->ndim, .shape = v->dim};
    }
    rc = exactly ? sd_model_file_check(mf, part, list, n, err) : sd_model_file_holds(mf, part, list, n, err);
out:
    free(list);
    sd_weights_free(w);
    return rc;
}

int sd_model_check(struct sd_model_file *mf, enum sd_part part, struct sd_err *err)
{
    return check(mf, part, true, err);
}

int sd_model_holds(struct sd_model_file *mf, enum sd_part part, struct sd_err *err)
{
    return check(mf, part, false, err);
}
