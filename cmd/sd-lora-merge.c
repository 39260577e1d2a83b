/* sd-lora-merge: LoRAs into a model, or several made one. */
#include "lora.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adapter/lora_bake.h"
#include "adapter/lora_pairs.h"
#include "adapter/network_layers.h"
#include "model/modelspec.h"

struct merge {
    struct sd_cmd c;
    const char *model, *output, *precision, *save, *device;
    struct sd_strings models, ratios, lbws;
    int64_t new_rank, new_conv_rank, seed;
    bool rank_given, conv_rank_given, seed_given;
    bool v2, concat, shuffle, no_metadata;
    /* one each of `models` */
    struct sd_network *networks;
    struct sd_lora_share *shares;
    double (*blocks)[SD_LORA_BLOCKS];
};

static bool go_on(void *ctx, uint64_t bytes, uint64_t total)
{
    struct sd_cmd *c = ctx;
    c->total = total >> 20;
    cmd_progress(c, bytes >> 20, "MiB");
    return !cmd_stopped(c);
}

static double ratio(struct merge *m, const char *word)
{
    char *end;
    errno = 0;
    double v = strtod(word, &end);
    if (end == word || *end || !isfinite(v) || errno)
        cmd_usage(&m->c, "--ratios: \"%s\" is no number", word);
    return v;
}

static void *array(struct merge *m, size_t n, size_t size)
{
    struct sd_err err = {0};
    void *p = calloc(n + 1, size);
    if (!p) {
        sd_err_memory(&err, n * size);
        cmd_die(&m->c, &err);
    }
    return p;
}

/* Opens LoRA i; to be merged into a model of this configuration (else NULL), it may be a network of any kind.
 */
static void open_lora(struct merge *m, size_t i, const struct sd_model_config *config)
{
    struct sd_err err = {0};
    struct sd_lora_report report;
    struct sd_network *n = &m->networks[i];
    const char *path = m->models.v[i];
    int rc = sd_network_open(n, path, &err) || (config && sd_network_relate(n, config, &report, &err));
    if (!rc && config && !report.modules && sd_lora_check(n, true, &err))
        rc = sd_err_set(&err, SD_ERR_DATA, "%s: no LoRA, nor another network, for this model", path);
    if (rc)
        cmd_die(&m->c, &err);
    m->shares[i].network = n;
}

static void open_loras(struct merge *m, const struct sd_model_config *config)
{
    struct sd_err err = {0};
    m->networks = array(m, m->models.n, sizeof *m->networks);
    m->shares = array(m, m->models.n, sizeof *m->shares);
    m->blocks = array(m, m->models.n, sizeof *m->blocks);
    for (size_t i = 0; i < m->models.n; i++) {
        struct sd_lora_share *s = &m->shares[i];
        s->ratio = m->ratios.n ? ratio(m, m->ratios.v[i]) : 1;
        if (m->lbws.n) {
            if (sd_lora_block_weights(m->lbws.v[i], m->blocks[i], &err))
                cmd_usage(&m->c, "%s", err.msg);
            s->blocks = m->blocks[i];
        }
        open_lora(m, i, config);
    }
}

/* Titles of what was merged, with the model in front when there is one. */
static const char *merged_from(struct merge *m, struct sd_meta *meta, const struct sd_tensor_file *model)
{
    const char *text = model ? sd_modelspec_title(meta, model, m->model) : NULL;
    for (size_t i = 0; i < m->models.n; i++) {
        const char *title = sd_modelspec_title(meta, m->networks[i].file, m->models.v[i]);
        if (text && title)
            text = sd_arena_printf(&meta->arena, "%s, %s", text, title);
        else if (!i && !model)
            text = title;
        meta->failed |= !text;
    }
    return text;
}

static void add_modelspec(struct merge *m, struct sd_meta *meta, const struct sd_tensor_file *model, bool v2,
                          bool v)
{
    if (!m->no_metadata)
        sd_modelspec_set(meta, &(struct sd_modelspec){.v2 = v2,
                                                      .v_prediction = v,
                                                      .lora = !m->model,
                                                      .path = m->output,
                                                      .merged_from = merged_from(m, meta, model),
                                                      .date = time(NULL)});
}

static void merge_into_model(struct merge *m)
{
    struct sd_err err = {0};
    struct sd_model_file *mf;
    struct sd_meta meta = {0};
    struct sd_lora_bake_report report;
    if (sd_model_file_open(&mf, m->model, &err))
        cmd_die(&m->c, &err);
    const struct sd_model_config *config = sd_model_file_config(mf);
    bool v2 = config->unet.linear_projection;
    if (m->v2 && !v2)
        cmd_usage(&m->c, "--v2, but %s is no SD 2.x model", m->model);
    if (sd_model_file_need(mf, SD_PART_UNET, &err))
        cmd_die(&m->c, &err);
    open_loras(m, config);
    const struct sd_tensor_file *tf = sd_model_file_tensors(mf, SD_PART_UNET);
    /* what sd_model_file_open goes by where shapes do not tell */
    sd_meta_set(&meta, "sd_config", sd_tensor_file_meta(tf, "sd_config"));
    add_modelspec(m, &meta, tf, v2, v2);
    cmd_lora_check_meta(&m->c, &meta);
    cmd_lora_make_folder(&m->c, m->output);
    enum sd_store_dtype precision = cmd_lora_precision(m->precision, SD_STORE_F32);
    const struct sd_lora_bake_options o = {.precision = precision,
                                           .save = cmd_lora_precision(m->save, precision),
                                           .threads = m->c.common.jobs,
                                           .go_on = go_on,
                                           .ctx = &m->c};
    int rc = sd_lora_bake(mf, m->shares, m->models.n, &o, m->output, meta.v, meta.n, &report, &err);
    if (rc && !cmd_stopped(&m->c))
        cmd_die(&m->c, &err);
    if (!rc) {
        if (report.unmatched)
            cmd_warn(&m->c, "%zu modules belong to no layer of this model, the first is %s", report.unmatched,
                     report.first);
        cmd_say(&m->c, "%s: %zu layers changed", m->output, report.layers);
    }
    sd_meta_free(&meta);
    sd_model_file_close(mf);
}

/* The first value of a key in the LoRAs' metadata. */
static const char *inherited(const struct merge *m, const char *key)
{
    const char *value = NULL;
    for (size_t i = 0; i < m->models.n && !value; i++)
        value = sd_tensor_file_meta(m->networks[i].file, key);
    return value;
}

static void set_network(struct merge *m, struct sd_meta *meta, const struct sd_lora_combine_options *o,
                        const struct sd_lora_combine_report *r)
{
    const char *v2 = inherited(m, "ss_v2");
    bool is_v2 = v2 && !strcmp(v2, "True");
    sd_meta_set(meta, "ss_network_module", "networks.lora");
    if (o->how == SD_LORA_SVD) {
        sd_meta_set_int(meta, "ss_network_dim", o->rank);
        sd_meta_set_int(meta, "ss_network_alpha", o->rank);
    } else {
        if (r->rank)
            sd_meta_set_int(meta, "ss_network_dim", r->rank);
        else
            sd_meta_set(meta, "ss_network_dim", "Dynamic");
        if (isnan(r->alpha))
            sd_meta_set(meta, "ss_network_alpha", "Dynamic");
        else
            sd_meta_set_float(meta, "ss_network_alpha", r->alpha);
    }
    sd_meta_set(meta, "ss_v2", v2);
    sd_meta_set(meta, "ss_base_model_version", inherited(m, "ss_base_model_version"));
    if (o->how == SD_LORA_SVD) {
        char *args = sd_arena_printf(&meta->arena, "{\"conv_dim\": %lld, \"conv_alpha\": %lld}",
                                     (long long)o->conv_rank, (long long)o->conv_rank);
        meta->failed |= !args;
        sd_meta_set(meta, "ss_network_args", args);
    }
    add_modelspec(m, meta, NULL, is_v2, is_v2);
}

static void merge_together(struct merge *m)
{
    struct sd_err err = {0};
    struct sd_meta meta = {0};
    struct sd_lora_out out = {0};
    struct sd_lora_combine_report report;
    enum sd_store_dtype precision = cmd_lora_precision(m->precision, SD_STORE_F32);
    const struct sd_lora_combine_options o = {
        .how = m->rank_given ? SD_LORA_SVD
               : m->concat   ? SD_LORA_CONCAT
                             : SD_LORA_ADD,
        .precision = precision,
        .save = cmd_lora_precision(m->save, precision),
        .rank = m->new_rank,
        .conv_rank = m->conv_rank_given ? m->new_conv_rank : m->new_rank,
        .shuffle = m->shuffle,
        .seed = (uint64_t)m->seed,
        .threads = m->c.common.jobs,
    };
    open_loras(m, NULL);
    if (sd_lora_combine(m->shares, m->models.n, &o, &out, &report, &err))
        cmd_die(&m->c, &err);
    set_network(m, &meta, &o, &report);
    cmd_lora_check_meta(&m->c, &meta);
    cmd_lora_make_folder(&m->c, m->output);
    if (sd_lora_out_write(&out, m->output, meta.v, meta.n, &err))
        cmd_die(&m->c, &err);
    cmd_say(&m->c, "%s: %zu modules", m->output, report.modules);
    sd_meta_free(&meta);
    sd_lora_out_free(&out);
}

static void check(struct merge *m)
{
    cmd_lora_check_device(&m->c);
    cmd_lora_check_output(&m->c, m->output);
    if (!m->models.n)
        cmd_usage(&m->c, "no LoRA to merge");
    if (m->ratios.n && m->ratios.n != m->models.n)
        cmd_usage(&m->c, "%zu --ratios for %zu LoRAs", m->ratios.n, m->models.n);
    if (m->lbws.n && m->lbws.n != m->models.n)
        cmd_usage(&m->c, "%zu --lbws for %zu LoRAs", m->lbws.n, m->models.n);
    if (m->lbws.n && !m->model && !m->rank_given)
        cmd_usage(&m->c,
                  "--lbws: matrices that are added or concatenated take no block weights; give --new-rank");
    if (m->model && (m->rank_given || m->conv_rank_given || m->concat || m->shuffle))
        cmd_usage(&m->c,
                  "--new-rank, --new-conv-rank, --concat and --shuffle are for LoRAs, not for --sd-model");
    if (m->conv_rank_given && !m->rank_given)
        cmd_usage(&m->c, "--new-conv-rank goes with --new-rank");
    if (m->rank_given && (m->concat || m->shuffle))
        cmd_usage(&m->c, "--new-rank excludes --concat and --shuffle");
    if (m->rank_given && m->precision && strcmp(m->precision, "float"))
        cmd_usage(&m->c, "--precision %s: singular values are found in float", m->precision);
    if (m->seed_given && !m->shuffle)
        cmd_usage(&m->c, "--seed is for --shuffle");
    if (m->v2 && !m->model)
        cmd_usage(&m->c, "--v2 is for --sd-model; LoRAs tell by themselves");
}

int main(int argc, char **argv)
{
    struct merge m = {.new_rank = 4};
    const struct sd_option options[] = {
        {SD_OPT_STRING("output", 'o', &m.output, "FILE", "the file to write (required)"), .alias = "save-to"},
        {SD_OPT_STRING("sd-model", 0, &m.model, "FILE",
                       "merge into this model; without it, the LoRAs are merged")},
        {SD_OPT_WORDS("models", 0, &m.models, "LORA...", "the LoRAs, before those that are arguments")},
        {SD_OPT_WORDS("ratios", 0, &m.ratios, "R...", "how strongly each counts; 1 if omitted")},
        {SD_OPT_WORDS("lbws", 0, &m.lbws, "LIST...",
                      "JSON lists of 17 or 26 block weights, one for each LoRA")},
        {SD_OPT_BOOL("concat", 0, &m.concat, "put ranks beside one another instead of adding matrices")},
        {SD_OPT_BOOL("shuffle", 0, &m.shuffle, "put the ranks of each module into a random order")},
        {SD_OPT_INT("seed", 0, &m.seed, "N", "random numbers of --shuffle"), .min = 0,
         .max = 9007199254740991.0, .given = &m.seed_given},
        {SD_OPT_INT("new-rank", 0, &m.new_rank, "N",
                    "add products and cut them to this rank by their singular values"),
         .min = 1, .max = 65536, .given = &m.rank_given},
        {SD_OPT_INT("new-conv-rank", 0, &m.new_conv_rank, "N",
                    "rank of 3x3 convolutions; --new-rank if omitted"),
         .min = 1, .max = 65536, .given = &m.conv_rank_given},
        {SD_OPT_CHOICE("precision", 0, &m.precision, CMD_LORA_PRECISIONS,
                       "type of the arithmetic; float if omitted")},
        {SD_OPT_CHOICE("save-precision", 0, &m.save, CMD_LORA_PRECISIONS,
                       "type of the weights written; --precision if omitted")},
        {SD_OPT_BOOL("v2", 0, &m.v2, "expect an SD 2.x model; which it is is found out anyway")},
        {SD_OPT_BOOL("no-metadata", 0, &m.no_metadata, "leave modelspec metadata out")},
        SD_OPT_END,
    };
    m.c = (struct sd_cmd){
        .program = {.name = "sd-lora-merge",
                    .args = "[LORA]...",
                    .summary = "merge LoRAs into a model, or with one another",
                    .options = options,
                    .max_args = -1},
        .source = true,
        .own_progress = true,
    };
    cmd_start(&m.c, &argc, argv);
    for (int i = 1; i < argc; i++)
        if (sd_strings_add(&m.models, argv[i]))
            cmd_usage(&m.c, "out of memory");
    check(&m);
    if (m.model)
        merge_into_model(&m);
    else
        merge_together(&m);
    for (size_t i = 0; i < m.models.n; i++)
        sd_network_close(&m.networks[i]);
    free(m.networks);
    free(m.shares);
    free(m.blocks);
    sd_strings_free(&m.models);
    sd_strings_free(&m.ratios);
    sd_strings_free(&m.lbws);
    return cmd_finish(&m.c);
}
