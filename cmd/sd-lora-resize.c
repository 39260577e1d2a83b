/* sd-lora-resize: a LoRA of another rank. */
#include "lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adapter/lora_resize.h"
#include "base/json.h"
#include "base/pyfloat.h"

struct resize {
    struct sd_cmd c;
    const char *input, *output, *save, *method;
    int64_t rank, conv_rank;
    bool conv_rank_given;
    double param;
};

static void put_record(struct resize *x, const char *module, const struct sd_lora_resized *r)
{
    struct sd_record rec = SD_RECORD_INIT;
    sd_record_reset(&rec);
    if (sd_record_set_string(&rec, "module", module) || sd_record_set_int(&rec, "old_rank", r->old_rank) ||
        sd_record_set_int(&rec, "rank", r->rank) || sd_record_set_double(&rec, "alpha", r->alpha) ||
        sd_record_set_double(&rec, "sum_retained", r->sum_retained) ||
        sd_record_set_double(&rec, "fro_retained", r->fro_retained) ||
        sd_record_set_double(&rec, "max_ratio", r->max_ratio))
        cmd_status(&x->c, SD_ERR_MACHINE);
    cmd_put_next(&x->c, &rec);
    sd_record_free(&rec);
}

/* Records of the modules, and the mean of what they keep. */
static void tell(struct resize *x, const struct sd_lora_resized *r, size_t count)
{
    double sum = 0, square = 0;
    size_t n = 0;
    for (size_t i = 0; i < count; i++) {
        put_record(x, r[i].module->name, &r[i]);
        if (isnan(r[i].fro_retained))
            continue;
        sum += r[i].fro_retained;
        square += r[i].fro_retained * r[i].fro_retained;
        n++;
    }
    if (n)
        cmd_say(&x->c, "Frobenius norm retained: %.2f %% on average, standard deviation %.3f",
                100 * sum / (double)n, sqrt(fmax(0, square / (double)n - sum / (double)n * sum / (double)n)));
}

static void set_metadata(struct resize *x, const struct sd_tensor_file *file, const struct sd_lora_resized *r,
                         size_t count, const struct sd_lora_resize_options *o, struct sd_meta *meta)
{
    char param[SD_JSON_DOUBLE_BYTES], conv[48] = "";
    int64_t old = 0;
    const char *comment = sd_tensor_file_meta(file, "ss_training_comment");
    char *text;
    for (size_t i = 0; i < count; i++)
        old = r[i].old_rank > old ? r[i].old_rank : old;
    comment = comment ? comment : "";
    sd_python_float(o->param, param);
    if (o->conv_rank != o->rank)
        snprintf(conv, sizeof conv, " (conv: %lld)", (long long)o->conv_rank);
    if (x->method)
        text = sd_arena_printf(&meta->arena, "Dynamic resize with %s: %s from %lld; %s", x->method, param,
                               (long long)old, comment);
    else
        text = sd_arena_printf(&meta->arena, "dimension is resized from %lld to %lld%s; %s", (long long)old,
                               (long long)o->rank, conv, comment);
    meta->failed |= !text;
    sd_meta_copy(meta, file);
    sd_meta_set(meta, "ss_training_comment", text);
    if (x->method) {
        sd_meta_set(meta, "ss_network_dim", "Dynamic");
        sd_meta_set(meta, "ss_network_alpha", "Dynamic");
    } else {
        sd_meta_set_int(meta, "ss_network_dim", o->rank);
        sd_meta_set_float(meta, "ss_network_alpha", r[count - 1].alpha);
    }
}

static enum sd_lora_resize_method method_of(const char *word)
{
    return !word                       ? SD_LORA_RESIZE_FIXED
           : !strcmp(word, "sv_ratio") ? SD_LORA_RESIZE_RATIO
           : !strcmp(word, "sv_fro")   ? SD_LORA_RESIZE_FRO
                                       : SD_LORA_RESIZE_CUMULATIVE;
}

static void run(struct resize *x)
{
    struct sd_err err = {0};
    struct sd_network n;
    size_t count;
    struct sd_lora_out out = {0};
    struct sd_meta meta = {0};
    const struct sd_lora_resize_options o = {
        .rank = x->rank,
        .conv_rank = x->conv_rank_given ? x->conv_rank : x->rank,
        .method = method_of(x->method),
        .param = x->param,
        .save = cmd_lora_precision(x->save, SD_STORE_F32),
    };
    if (sd_network_open(&n, x->input, &err))
        cmd_die(&x->c, &err);
    struct sd_lora_resized *results = calloc(n.count + 1, sizeof *results);
    if (!results)
        sd_err_memory(&err, n.count * sizeof *results);
    if (!results || sd_lora_resize(&n, &o, x->c.common.jobs, &out, results, &count, &err))
        cmd_die(&x->c, &err);
    set_metadata(x, n.file, results, count, &o, &meta);
    cmd_lora_check_meta(&x->c, &meta);
    cmd_lora_make_folder(&x->c, x->output);
    if (sd_lora_out_write(&out, x->output, meta.v, meta.n, &err))
        cmd_die(&x->c, &err);
    if (x->c.common.verbose)
        tell(x, results, count);
    cmd_say(&x->c, "%s: %zu modules", x->output, count);
    free(results);
    sd_meta_free(&meta);
    sd_lora_out_free(&out);
    sd_network_close(&n);
}

static void check(struct resize *x, int argc, char **argv)
{
    cmd_lora_check_device(&x->c);
    if (x->input && argc > 1)
        cmd_usage(&x->c, "two LoRAs: %s and %s", x->input, argv[1]);
    x->input = argc > 1 ? argv[1] : x->input;
    if (!x->input)
        cmd_usage(&x->c, "no LoRA to resize");
    cmd_lora_check_output(&x->c, x->output);
    if (!x->method != isnan(x->param))
        cmd_usage(&x->c, "--dynamic-method and --dynamic-param go together");
    if (x->method && !(x->param > 0))
        cmd_usage(&x->c, "--dynamic-param must be larger than 0");
    if (x->method && strcmp(x->method, "sv_ratio") && x->param > 1)
        cmd_usage(&x->c, "--dynamic-param: a share to keep is at most 1");
}

int main(int argc, char **argv)
{
    struct resize x = {.rank = 4, .param = NAN};
    const struct sd_option options[] = {
        {SD_OPT_STRING("model", 0, &x.input, "LORA", "the same as LORA"), .hidden = true},
        {SD_OPT_STRING("output", 'o', &x.output, "FILE", "the LoRA to write (required)"), .alias = "save-to"},
        {SD_OPT_INT("new-rank", 0, &x.rank, "N", "rank of linear layers; with a method, the most"), .min = 1,
         .max = 65536},
        {SD_OPT_INT("new-conv-rank", 0, &x.conv_rank, "N",
                    "rank of convolutions, 1x1 too; --new-rank if omitted"),
         .min = 1, .max = 65536, .given = &x.conv_rank_given},
        {SD_OPT_CHOICE("dynamic-method", 0, &x.method, "sv_ratio|sv_fro|sv_cumulative",
                       "choose each module's rank by its singular values")},
        {SD_OPT_DOUBLE("dynamic-param", 0, &x.param, "P",
                       "sv_ratio: largest by smallest kept; else the share to keep of norm or sum")},
        {SD_OPT_CHOICE("save-precision", 0, &x.save, CMD_LORA_PRECISIONS,
                       "type of the weights; float if omitted")},
        SD_OPT_END,
    };
    x.c = (struct sd_cmd){
        .program = {.name = "sd-lora-resize",
                    .args = "LORA",
                    .summary = "make a LoRA of another rank",
                    .description = "With --verbose, a record for each module tells what became of it.",
                    .options = options,
                    .max_args = 1},
        .source = true,
    };
    cmd_start(&x.c, &argc, argv);
    check(&x, argc, argv);
    run(&x);
    return cmd_finish(&x.c);
}
