/* Adapter networks of other kinds against LyCORIS and sd-scripts (t/data/network, made by t/ref/adapters.py):
 * what they add to weights, what is refused; and the words of --network_args. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adapter/merged.h"
#include "adapter/network_args.h"
#include "adapter/network_product.h"
#include "model/model_file.h"
#include "store/safetensors_write.h"
#include "tap.h"

static const char *const kinds[][2] = {
    {"locon", "LoRA"},  {"locon-cp", "LoRA"},   {"loha", "LoHa"},     {"loha-cp", "LoHa"},
    {"lokr", "LoKr"},   {"lokr-small", "LoKr"}, {"lokr-cp", "LoKr"},  {"lokr-full", "LoKr"},
    {"dylora", "LoRA"}, {"oft", "OFT"},         {"oft-tight", "OFT"},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static void bail(const struct sd_err *err)
{
    printf("Bail out! %s\n", err->msg);
    exit(1);
}

static char *fixture(const char *name, char path[128])
{
    snprintf(path, 128, "t/data/network/%s.safetensors", name);
    return path;
}

static struct sd_network open_network(const char *name, const struct sd_model_config *c)
{
    struct sd_network n;
    struct sd_lora_report report;
    struct sd_err err = {0};
    char path[128];
    if (sd_network_open(&n, fixture(name, path), &err) || sd_network_relate(&n, c, &report, &err))
        bail(&err);
    if (report.unmatched)
        printf("# %s: %s\n", name, report.first);
    return n;
}

/* The layer's weight in the model, as f32. */
static float *weight_of(struct sd_model_file *model, const struct sd_network_module *l)
{
    char name[256];
    struct sd_store_entry e;
    struct sd_err err = {0};
    size_t n = sd_network_weight_count(l);
    float *w = malloc(n * sizeof *w);
    snprintf(name, sizeof name, "%s.weight", l->target->path);
    sd_err_set(&err, SD_ERR_DATA, "%s", name);
    if (!w || !sd_model_file_find(model, name, &e))
        bail(&err);
    sd_store_to_f32(e.dtype, e.data, n, w);
    return w;
}

/* |got - want| / |want| as norms; a layer that is not in the file is an error of 1. */
static double error_of(const struct sd_tensor_file *want, const char *kind, const struct sd_network_module *l,
                       const float *got)
{
    char key[256];
    double d = 0, scale = 0;
    snprintf(key, sizeof key, "%s/%s", kind, l->target->path);
    const struct sd_store_entry *e = sd_tensor_file_find(want, key);
    if (!e || e->bytes / 4 != sd_network_weight_count(l))
        return 1;
    for (size_t i = 0; i < e->bytes / 4; i++) {
        double w = (double)((const float *)e->data)[i];
        d += ((double)got[i] - w) * ((double)got[i] - w);
        scale += w * w;
    }
    return sqrt(d / scale);
}

static void test_kind(const char *const kind[2], struct sd_model_file *model,
                      const struct sd_tensor_file *want)
{
    struct sd_err err = {0};
    struct sd_network net = open_network(kind[0], sd_model_file_config(model));
    double worst = 0;
    size_t n = net.count, special = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sd_network_module *l = &net.modules[i];
        size_t count = sd_network_weight_count(l);
        float *w = weight_of(model, l), *delta = malloc(count * sizeof *delta);
        memset(delta, 0xff, count * sizeof *delta);
        if (sd_network_delta(l, w, delta, &err))
            bail(&err);
        worst = fmax(worst, error_of(want, kind[0], l, delta));
        bool core = strstr(kind[0], "-cp") == NULL || l->tensor[SD_ROLE_MID] || l->tensor[SD_ROLE_T2];
        special += core && !strcmp(sd_network_kind_name(l->type), kind[1]);
        free(w);
        free(delta);
    }
    bool oft = !strcmp(kind[1], "OFT");
    ok(n == 6 - (size_t)oft && special > 0 && worst < (oft ? 1e-5 : 1e-6),
       "%s: %zu layers, %zu of them %s (%.1e)", kind[0], n, special, kind[1], worst);
    sd_network_close(&net);
}

/* Two networks in one set of weights, and what neither changes. */
static void test_merged(struct sd_model_file *model)
{
    struct sd_err err = {0};
    const struct sd_model_config *c = sd_model_file_config(model);
    struct sd_merge_part parts[] = {{open_network("loha", c), 0.5f}, {open_network("lokr-full", c), -2}};
    struct sd_merged *m;
    if (sd_merged_new(&m, sd_model_file_find, model, parts, 2, &err))
        bail(&err);
    double worst = 0, moved = 0;
    for (size_t i = 0; i < parts[0].network.count; i++) {
        const struct sd_network_module *a = &parts[0].network.modules[i];
        const struct sd_network_module *b = sd_network_at(&parts[1].network, a->target);
        size_t n = sd_network_weight_count(a);
        float *w = weight_of(model, a), *x = malloc(n * sizeof *x), *y = malloc(n * sizeof *y);
        struct sd_store_entry e = {0};
        char name[256];
        snprintf(name, sizeof name, "%s.weight", a->target->path);
        if (!b || sd_network_delta(a, NULL, x, &err) || sd_network_delta(b, NULL, y, &err) ||
            !sd_merged_find(m, name, &e) || e.bytes != 4 * n)
            bail(&err);
        for (size_t k = 0; k < n; k++) {
            double got = (double)((const float *)e.data)[k];
            worst = fmax(worst, fabs(got - ((double)w[k] + 0.5 * (double)x[k] - 2 * (double)y[k])));
            moved = fmax(moved, fabs(got - (double)w[k]));
        }
        free(w);
        free(x);
        free(y);
    }
    ok(sd_merged_count(m) == 6 && worst < 1e-5 && moved > 0.1, "two networks are added to 6 layers (%.1e)",
       worst);
    struct sd_store_entry was, is;
    const char *bias = "unet.conv_in.bias";
    ok(sd_model_file_find(model, bias, &was) && sd_merged_find(m, bias, &is) && was.data == is.data &&
           !sd_merged_find(m, "unet.none.weight", &is),
       "the other weights are the model's");
    sd_merged_free(m);
    sd_network_close(&parts[0].network);
    sd_network_close(&parts[1].network);
}

/* --- what is refused */

/* A file of tensors with these names (separated by blanks), all of one shape. */
static void test_refused(const struct sd_model_config *c, const char *names, int ndim, const int64_t *shape,
                         const char *want)
{
    static const float zeros[64];
    char path[] = "/tmp/sd-network-XXXXXX", *keys = strdup(names), *rest = keys;
    int fd = mkstemp(path);
    struct sd_err err = {0};
    struct sd_network n;
    struct sd_lora_report report;
    struct sd_store_tensor t[4];
    size_t count = 0;
    for (const char *key; (key = strsep(&rest, " ")) && count < 4;)
        t[count++] = (struct sd_store_tensor){
            .name = key, .dtype = SD_STORE_F32, .ndim = ndim, .shape = shape, .data = zeros};
    if (fd >= 0)
        close(fd);
    if (sd_store_write(path, t, count, NULL, 0, &err) || sd_network_open(&n, path, &err))
        bail(&err);
    bool refused = sd_network_relate(&n, c, &report, &err) && strstr(err.msg, want);
    ok(refused, "%s: %s", names, strchr(err.msg, ':') ? strchr(err.msg, ':') + 2 : "");
    sd_network_close(&n);
    unlink(path);
    free(keys);
}

#define CONV "lora_unet_conv_in."
#define FF "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2."

static void test_refusals(const struct sd_model_config *c)
{
    const int64_t s[] = {2, 4, 2, 1}, square[] = {2, 2}, column[] = {8, 1};
    test_refused(c, CONV "dora_scale", 2, s, "no \"dora_scale\" in a LoRA");
    test_refused(c, CONV "diff", 2, s, "no \"diff\" in a LoRA");
    test_refused(c, "oft_unet_conv_in.oft_diag", 3, s, "no \"oft_diag\" in a LoRA");
    test_refused(c, CONV "what.ever", 2, s, "no \"what.ever\" in a LoRA");
    test_refused(c, "unet.conv_in.lora_magnitude_vector", 2, s, "no \"lora_magnitude_vector\" in a LoRA");
    test_refused(c, CONV "lora_down.weight", 2, s, "lora_up.weight is missing");
    test_refused(c, CONV "lora_up.weight", 2, s, "lora_down.weight is missing");
    test_refused(c, CONV "lora_mid.weight", 4, s, "lora_down.weight is missing");
    test_refused(c, CONV "lora_down.weight " CONV "lora_up.weight", 2, s,
                 "lora_up.weight is [2,4], expected");
    test_refused(c, CONV "lora_down.weight " CONV "lora_up.weight", 2, square,
                 "lora_up.weight is [2,2], which does not fit the LoRA of a layer from 4 to 8");
    test_refused(c, CONV "hada_w1_a", 2, s, "hada_w1_b is missing");
    test_refused(c, CONV "hada_t1", 4, s, "hada_w1_b is missing");
    test_refused(c, CONV "lokr_w1", 2, s, "lokr_w2 is missing");
    test_refused(c, CONV "lokr_w1", 1, s, "lokr_w2 is missing");
    test_refused(c, CONV "lokr_w1 " CONV "lokr_w2", 2, s, "lokr_w1 is [2,4], which does not fit the LoKr");
    test_refused(c, FF "lokr_w1 " FF "lokr_w2", 2, column, "does not fit the LoKr");
    test_refused(c, CONV "lokr_t2", 4, s, "lokr_w1 is missing");
    test_refused(c, CONV "lokr_w2_b", 2, s, "lokr_w1 is missing");
    test_refused(c, "oft_unet_conv_in.oft_blocks", 3, s, "does not fit the OFT");
    test_refused(c, "oft_unet_conv_in.oft_blocks", 0, s, "does not fit the OFT");
    test_refused(c, CONV "lora_down.weight " CONV "hada_w1_a", 2, s, "is of both a LoRA and a LoHa");
    test_refused(c, CONV "lora_down.weight unet.conv_in.lora_A.weight", 2, s, "is there in two spellings");
    test_refused(c, CONV "alpha " CONV "lora_down.weight", 2, s, "lora_up.weight is missing");
    test_refused(c, FF "alpha " FF "lora_down.weight " FF "lora_up.weight", 2, square, "is no single number");
}

/* --- network_args */

static int parse(struct sd_network_args *a, const char *const *words, struct sd_err *err)
{
    struct sd_strings list = {.v = (const char **)words};
    while (words[list.n])
        list.n++;
    return sd_network_args_parse(a, &list, 4, 1, err);
}

static void test_bad_words(const char *word, const char *want)
{
    struct sd_network_args a;
    struct sd_err err = {0};
    ok(parse(&a, (const char *const[]){word, NULL}, &err) && strstr(err.msg, want), "%s", err.msg);
}

static void test_words(void)
{
    struct sd_network_args a;
    struct sd_err err = {0};
    int rc = parse(&a, (const char *const[]){NULL}, &err);
    ok(!rc && !a.conv && !a.by_block && !a.by_rate && isnan(a.plus_unet) && isnan(a.plus_text) && !a.shapes,
       "no words, nothing special");
    rc = parse(&a, (const char *const[]){"down_lr_weight=reverse_linear+0.5", "up_lr_weight=zeros", NULL},
               &err);
    ok(!rc && a.by_rate && a.by_block && a.rate[0] == 1.5 && a.rate[11] == 0.5 && a.rate[12] == 1 &&
           a.rate[13] == 0 && a.blocks.rank[13] == 0 && a.blocks.rank[11] == 4 && !a.blocks.conv && !a.shapes,
       "curves of rates; blocks without a rate have no rank");
    rc = parse(&a, (const char *const[]){"down_lr_weight=cosine", "mid_lr_weight=1,2", NULL}, &err);
    ok(!rc && a.rate[0] == 1 && a.rate[11] == 0 && a.rate[12] == 1 && a.rate[24] == 1 &&
           strstr(a.remark, "mid_lr_weight has more"),
       "%s", a.remark);
    rc = parse(&a,
               (const char *const[]){"loraplus_lr_ratio=3", "loraplus_unet_lr_ratio=0", "conv_dim=2",
                                     "conv_dim=8", NULL},
               &err);
    ok(!rc && a.plus_unet == 3 && a.plus_text == 3 && a.conv_rank == 8 && a.conv_alpha == 1 && a.shapes,
       "a ratio of 0 is none; the last of two words counts");
    test_bad_words("foo=1", "no \"foo\"");
    test_bad_words("dropout=0.1", "no \"dropout\"");
    test_bad_words("conv_dim", "not KEY=VALUE");
    test_bad_words("conv_dim=x", "conv_dim=x: expected a number");
    test_bad_words("conv_dim=1.5", "whole number");
    test_bad_words("conv_dim=0x10", "expected a number");
    test_bad_words("conv_alpha=1", "needs conv_dim");
    test_bad_words("block_dims=1,2,3", "3 numbers");
    test_bad_words("block_dims=1,,3", "expected numbers");
    test_bad_words("block_alphas=1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "needs block_dims");
    test_bad_words("block_lr_zero_threshold=0.1", "needs down_lr_weight");
    test_bad_words("down_lr_weight=1", "down_lr_weight=1: expected");
    test_bad_words("up_lr_weight=sine+x", "expected numbers");
    test_bad_words("rank_dropout=1", "from 0 to");
    test_bad_words("module_dropout=nan", "from 0 to 1");
}

int main(void)
{
    struct sd_err err = {0};
    struct sd_model_file *model;
    struct sd_tensor_file *want;
    char path[128];
    if (sd_model_file_open(&model, "t/data/model/sd1-small.safetensors", &err) ||
        sd_tensor_file_open(&want, fixture("want", path), &err))
        bail(&err);
    for (int i = 0; i < KINDS; i++)
        test_kind(kinds[i], model, want);
    test_merged(model);
    test_refusals(sd_model_file_config(model));
    test_words();
    sd_tensor_file_close(want);
    sd_model_file_close(model);
    return tap_end();
}
