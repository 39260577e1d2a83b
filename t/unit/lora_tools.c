/* The LoRA workbench against sd-scripts' own scripts (t/data/lora-tools, made by t/ref/lora_tools.py):
 * products of up and down matrices, times alpha / rank, agree within 1e-4 of their norm. */
#include "tap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapter/lora_bake.h"
#include "adapter/lora_extract.h"
#include "adapter/lora_pairs.h"
#include "adapter/network_layers.h"
#include "adapter/network_names.h"
#include "adapter/network_product.h"
#include "adapter/lora_convert.h"
#include "adapter/lora_resize.h"
#include "adapter/target.h"

#define DATA "t/data/lora-tools/"
#define BASE "t/data/model/sd1-small-ldm.safetensors"
#define LBW "[1,0.5,1,0.25,1,1,1,0.75,1,1,1,1,1,1,1,2,1]"

static const double tolerance = 1e-4;
static char out_path[] = "/tmp/sd-lora-tools.XXXXXX";

static struct sd_network lora(const char *path)
{
    struct sd_network m;
    struct sd_err err = {0};
    if (sd_network_open(&m, path, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return m;
}

static float *product(const struct sd_network_module *p)
{
    float *up = NULL, *down = NULL;
    int64_t width = sd_lora_pair_width(p);
    float *w = calloc((size_t)(p->out * width), sizeof *w);
    if (!w || sd_lora_pair_read(p, &up, &down, NULL))
        exit(1);
    for (int64_t i = 0; i < p->out; i++)
        for (int64_t r = 0; r < p->rank; r++)
            for (int64_t j = 0; j < width; j++)
                w[i * width + j] += up[i * p->rank + r] * down[r * width + j] * sd_lora_pair_scale(p);
    free(up);
    free(down);
    return w;
}

static double distance(const float *a, const float *b, int64_t n)
{
    double d = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(d / norm) : sqrt(d);
}

/* Compares the file that was written with a fixture, and removes it. */
static void compare(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, DATA "%s.safetensors", name);
    struct sd_network got = lora(out_path), want = lora(path);
    double worst = 0;
    size_t alike = 0;
    const char *where = "";
    for (size_t i = 0; i < want.count; i++) {
        const struct sd_network_module *w = want.order[i], *g = sd_network_find(&got, w->place);
        if (!g || g->rank != w->rank || g->out != w->out ||
            sd_lora_pair_is_conv(g) != sd_lora_pair_is_conv(w) ||
            sd_lora_pair_width(g) != sd_lora_pair_width(w)) {
            printf("# %s: %s\n", w->name, g ? "another rank or shape" : "missing");
            continue;
        }
        float *a = product(g), *b = product(w);
        double d = distance(a, b, w->out * sd_lora_pair_width(w));
        free(a);
        free(b);
        alike++;
        if (!(d <= worst)) {
            worst = d;
            where = w->name;
        }
    }
    ok(alike == want.count && got.count == want.count, "%s: the same modules, ranks and shapes", name);
    if (!ok(worst <= tolerance, "%s: the same products", name))
        printf("# %g in %s\n", worst, where);
    else
        printf("# %g at most\n", worst);
    sd_network_close(&got);
    sd_network_close(&want);
    unlink(out_path);
}

static void write_out(struct sd_lora_out *out)
{
    struct sd_err err = {0};
    ok(!sd_lora_out_write(out, out_path, NULL, 0, &err), "written %s", err.msg);
    sd_lora_out_free(out);
}

static void extract(const char *name, const struct sd_lora_extract_options *o, bool text)
{
    struct sd_model_file *a, *b;
    struct sd_lora_out out = {0};
    struct sd_lora_extract_report report;
    struct sd_err err = {0};
    if (sd_model_file_open(&a, BASE, &err) || sd_model_file_open(&b, DATA "tuned.safetensors", &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    ok(!sd_lora_extract(a, b, o, &out, &report, &err), "%s %s", name, err.msg);
    ok(report.text_encoder == text && report.different, "%s: the text encoder is %s", name,
       text ? "in" : "out");
    write_out(&out);
    compare(name);
    sd_model_file_close(a);
    sd_model_file_close(b);
}

static void combine(const char *name, const char *second, double r0, double r1, const char *lbw,
                    const struct sd_lora_combine_options *o)
{
    struct sd_network a = lora(DATA "a.safetensors"), b = lora(second);
    double blocks[SD_LORA_BLOCKS];
    struct sd_err err = {0};
    struct sd_lora_out out = {0};
    struct sd_lora_combine_report report;
    if (lbw)
        ok(!sd_lora_block_weights(lbw, blocks, &err), "block weights %s", err.msg);
    struct sd_lora_share shares[2] = {{&a, r0, lbw ? blocks : NULL}, {&b, r1, lbw ? blocks : NULL}};
    ok(!sd_lora_combine(shares, 2, o, &out, &report, &err), "%s %s", name, err.msg);
    write_out(&out);
    compare(name);
    sd_network_close(&a);
    sd_network_close(&b);
}

static void resize(const char *name, const struct sd_lora_resize_options *o)
{
    struct sd_network a = lora(DATA "a.safetensors");
    struct sd_lora_resized *r = calloc(a.count, sizeof *r);
    size_t count;
    struct sd_lora_out out = {0};
    struct sd_err err = {0};
    ok(!sd_lora_resize(&a, o, 2, &out, r, &count, &err) && count == a.count, "%s %s", name, err.msg);
    write_out(&out);
    compare(name);
    free(r);
    sd_network_close(&a);
}

/* The merged model: the tensors that sd-scripts' merge changed, to the last bits; all others as they were. */
static void bake(void)
{
    struct sd_network a = lora(DATA "a.safetensors"), c = lora(DATA "c.safetensors");
    struct sd_lora_share shares[2] = {{&a, 0.8, NULL}, {&c, -0.5, NULL}};
    struct sd_lora_bake_options o = {.precision = SD_STORE_F32, .save = SD_STORE_F32, .threads = 2};
    struct sd_lora_bake_report report;
    struct sd_lora_report found;
    struct sd_model_file *mf;
    struct sd_tensor_file *got, *want, *base;
    struct sd_err err = {0};
    if (sd_model_file_open(&mf, BASE, &err) || sd_tensor_file_open(&want, DATA "model.safetensors", &err) ||
        sd_tensor_file_open(&base, BASE, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    const struct sd_model_config *config = sd_model_file_config(mf);
    ok(!sd_network_relate(&a, config, &found, &err) && !sd_network_relate(&c, config, &found, &err) &&
           !sd_lora_bake(mf, shares, 2, &o, out_path, NULL, 0, &report, &err),
       "merged %s", err.msg);
    ok(!report.unmatched && report.layers == sd_tensor_file_count(want), "%zu layers changed", report.layers);
    if (sd_tensor_file_open(&got, out_path, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    double worst = 0;
    size_t same = 0, changed = 0, kinds = 0;
    for (size_t i = 0; i < sd_tensor_file_count(got); i++) {
        const struct sd_store_entry *g = sd_tensor_file_entry(got, i),
                                    *b = sd_tensor_file_find(base, g->name);
        const struct sd_store_entry *w = sd_tensor_file_find(want, g->name), *like = w ? w : b;
        size_t n = g->bytes / sd_store_dtype_bytes(g->dtype);
        if (!like || like->bytes / sd_store_dtype_bytes(like->dtype) != n)
            continue;
        kinds += g->dtype == (b->dtype == SD_STORE_F16 ? SD_STORE_F32 : b->dtype);
        float *x = malloc((n + 1) * sizeof *x), *y = malloc((n + 1) * sizeof *y);
        sd_store_to_f32(g->dtype, g->data, n, x);
        sd_store_to_f32(like->dtype, like->data, n, y);
        if (w)
            worst = fmax(worst, distance(x, y, (int64_t)n));
        changed += w != NULL;
        same += !w && !memcmp(x, y, n * sizeof *x);
        free(x);
        free(y);
    }
    ok(worst < 1e-6 && changed == sd_tensor_file_count(want), "changed layers: %g", worst);
    ok(same + changed == sd_tensor_file_count(base), "all others are as they were");
    ok(kinds == sd_tensor_file_count(base), "weights are F32, strays keep their types");
    sd_tensor_file_close(got);
    sd_tensor_file_close(want);
    sd_tensor_file_close(base);
    sd_model_file_close(mf);
    sd_network_close(&a);
    sd_network_close(&c);
    unlink(out_path);
}

/* A network of another kind, merged: the difference of the models is what its own modules add. */
static void bake_network(const char *kind)
{
    struct sd_model_file *base, *merged = NULL;
    struct sd_network net;
    struct sd_tensor_file *want;
    struct sd_lora_report found;
    struct sd_lora_bake_report report;
    struct sd_lora_bake_options o = {.precision = SD_STORE_F32, .save = SD_STORE_F32, .threads = 1};
    struct sd_err err = {0};
    char path[128];
    double worst = 0;
    snprintf(path, sizeof path, "t/data/network/%s.safetensors", kind);
    if (sd_model_file_open(&base, BASE, &err) ||
        sd_tensor_file_open(&want, "t/data/network/want.safetensors", &err) ||
        sd_network_open(&net, path, &err) ||
        sd_network_relate(&net, sd_model_file_config(base), &found, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    const char *config = sd_tensor_file_meta(sd_model_file_tensors(base, SD_PART_UNET), "sd_config");
    struct sd_store_meta meta = {"sd_config", config};
    struct sd_lora_share share = {&net, 1, NULL};
    ok(!sd_lora_bake(base, &share, 1, &o, out_path, &meta, 1, &report, &err) && !report.unmatched &&
           report.layers == found.modules && !sd_model_file_open(&merged, out_path, &err),
       "%s merged %s", kind, err.msg);
    for (size_t i = 0; merged && i < net.count; i++) {
        const struct sd_network_module *l = &net.modules[i];
        struct sd_store_entry a, b;
        char name[256];
        snprintf(name, sizeof name, "%s/%s", kind, l->target->path);
        const struct sd_store_entry *w = sd_tensor_file_find(want, name);
        snprintf(name, sizeof name, "%s.weight", l->target->path);
        size_t n = sd_network_weight_count(l);
        float *x = malloc(3 * n * sizeof *x);
        if (!w || !sd_model_file_find(base, name, &a) || !sd_model_file_find(merged, name, &b) || !x)
            exit(1);
        sd_store_to_f32(a.dtype, a.data, n, x);
        sd_store_to_f32(b.dtype, b.data, n, x + n);
        sd_store_to_f32(w->dtype, w->data, n, x + 2 * n);
        for (size_t k = 0; k < n; k++)
            x[n + k] -= x[k];
        worst = fmax(worst, distance(x + n, x + 2 * n, (int64_t)n));
        free(x);
    }
    ok(worst < tolerance, "%s: as its own modules: %g", kind, worst);
    sd_tensor_file_close(want);
    sd_network_close(&net);
    sd_model_file_close(merged);
    sd_model_file_close(base);
    unlink(out_path);
}

/* Names of every layer of a model are those of its path, and back. */
static void names(const char *arch)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_target *t;
    struct sd_buf there = SD_BUF_INIT, back = SD_BUF_INIT;
    struct sd_err err = {0};
    size_t n = 0, good = 0;
    ok(!sd_targets(sd_model_config_builtin(arch), &arena, &t, &n, &err), "layers of %s", arch);
    for (size_t i = 0; i < n; i++)
        good += sd_network_path(t[i].name, &there) == 1 && !strcmp(there.data, t[i].path) &&
                sd_network_place(there.data, &back) == 1 && !strcmp(back.data, t[i].name);
    ok(good == n && n > 200, "names of all %zu layers, there and back", n);
    sd_buf_free(&there);
    sd_buf_free(&back);
    sd_arena_free(&arena);
}

/* LoCon's CP form: down [2,3,1,1], mid [2,2,3,3], up [4,2,1,1]. */
static void cp_form(void)
{
    float down[6], mid[36], up[8], alpha = 1;
    for (int i = 0; i < 36; i++)
        mid[i] = (float)(i % 7) - 3;
    for (int i = 0; i < 8; i++)
        up[i] = (float)(i % 3) - 1;
    for (int i = 0; i < 6; i++)
        down[i] = (float)(i % 5) - 2;
    const struct sd_store_tensor tensors[] = {
        {.name = "x.alpha", .dtype = SD_STORE_F32, .data = &alpha},
        {.name = "x.lora_down.weight",
         .dtype = SD_STORE_F32,
         .ndim = 4,
         .shape = (int64_t[]){2, 3, 1, 1},
         .data = down},
        {.name = "x.lora_mid.weight",
         .dtype = SD_STORE_F32,
         .ndim = 4,
         .shape = (int64_t[]){2, 2, 3, 3},
         .data = mid},
        {.name = "x.lora_up.weight",
         .dtype = SD_STORE_F32,
         .ndim = 4,
         .shape = (int64_t[]){4, 2, 1, 1},
         .data = up},
    };
    struct sd_err err = {0};
    ok(!sd_store_write(out_path, tensors, 4, NULL, 0, &err), "CP form %s", err.msg);
    struct sd_network m = lora(out_path);
    const struct sd_network_module *p = m.modules;
    ok(p->kernel == 3 && p->rank == 2 && p->in == 3 && p->out == 4 && sd_lora_pair_width(p) == 27,
       "its sizes");
    float *w = product(p);
    double worst = 0;
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 3; i++)
            for (int a = 0; a < 9; a++) {
                double v = 0;
                for (int r = 0; r < 2; r++)
                    for (int q = 0; q < 2; q++)
                        v += (double)up[o * 2 + r] * mid[(r * 2 + q) * 9 + a] * down[q * 3 + i] / 2;
                worst = fmax(worst, fabs(v - w[(o * 3 + i) * 9 + a]));
            }
    ok(worst < 1e-6, "its product");
    free(w);
    sd_network_close(&m);
    unlink(out_path);
}

static void blocks(void)
{
    static const struct {
        const char *name;
        int block;
    } cases[] = {
        {"lora_te_text_model_encoder_layers_0_mlp_fc1", 0},
        {"lora_unet_down_blocks_0_attentions_0_proj_in", 2},
        {"lora_unet_down_blocks_0_downsamplers_0_conv", 4},
        {"lora_unet_down_blocks_3_resnets_1_conv1", 12},
        {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q", 13},
        {"lora_unet_up_blocks_0_resnets_0_conv1", 14},
        {"lora_unet_up_blocks_1_upsamplers_0_conv", 19},
        {"lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_ff_net_2", 25},
        {"lora_unet_up_blocks_9_attentions_2_proj_in", -1},
        {"lora_unet_strange", -1},
    };
    double w[SD_LORA_BLOCKS];
    struct sd_err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ok(sd_lora_block(cases[i].name) == cases[i].block, "block of %s", cases[i].name);
    ok(!sd_lora_block_weights(LBW, w, &err) && w[1] == 1 && w[2] == 0.5 && w[13] == 0.75 && w[24] == 2,
       "block weights");
}

int main(void)
{
    if (mkstemp(out_path) < 0)
        return 1;
    const struct sd_lora_extract_options whole = {.dim = 3,
                                                  .conv_dim = 5,
                                                  .clamp_quantile = 0.99,
                                                  .min_diff = 0.001,
                                                  .load = SD_STORE_F32,
                                                  .save = SD_STORE_F32,
                                                  .threads = 2};
    struct sd_lora_extract_options part = whole;
    part.dim = 2;
    part.conv_dim = 0;
    part.min_diff = 100;
    part.clamp_quantile = 0.9;
    extract("extract", &whole, true);
    extract("unet", &part, false);

    struct sd_lora_combine_options c = {.precision = SD_STORE_F32, .save = SD_STORE_F32, .threads = 2};
    combine("add", DATA "b.safetensors", 0.7, -0.4, NULL, &c);
    c.how = SD_LORA_CONCAT;
    combine("concat", DATA "c.safetensors", 0.7, 0.3, NULL, &c);
    c.shuffle = true;
    combine("concat", DATA "c.safetensors", 0.7, 0.3, NULL, &c); /* the order of ranks changes no product */
    c = (struct sd_lora_combine_options){
        .how = SD_LORA_SVD, .save = SD_STORE_F32, .rank = 2, .conv_rank = 3, .threads = 2};
    combine("svd", DATA "c.safetensors", 0.7, 0.3, LBW, &c);

    struct sd_lora_resize_options r = {.rank = 2, .conv_rank = 3, .save = SD_STORE_F32};
    resize("fixed", &r);
    r = (struct sd_lora_resize_options){4, 4, SD_LORA_RESIZE_RATIO, 3, SD_STORE_F32};
    resize("ratio", &r);
    r.method = SD_LORA_RESIZE_FRO;
    r.param = 0.9;
    resize("fro", &r);
    r.method = SD_LORA_RESIZE_CUMULATIVE;
    r.param = 0.7;
    resize("cumulative", &r);
    bake();
    static const char *const kinds[] = {"locon-cp", "loha", "loha-cp", "lokr", "lokr-full", "dylora", "oft"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        bake_network(kinds[i]);
    names("sd1");
    names("sd2");
    cp_form();
    blocks();
    return tap_end();
}
