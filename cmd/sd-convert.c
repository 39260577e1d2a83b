/* sd-convert: a Stable Diffusion model in another layout, format or precision. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/path.h"
#include "cmd.h"
#include "convert_metadata.h"
#include "model/config_json.h"
#include "model/convert.h"
#include "model/diffusers_write.h"
#include "store/torch_write.h"

#define LEFT_OVER "left-over.safetensors"

enum target { TO_SAFETENSORS, TO_TORCH, TO_FOLDER };

struct job {
    struct sd_cmd c;
    const char *output, *save_as, *layout, *dtype, *precision, *vae_path, *reference, *variant;
    bool fp16, bf16, float32, unet_only, ema, prefix, prefix_given, old_vae, v1, v2, v, v_given, keep_all,
        metadata, modelspec;
    struct sd_strings parts, meta, drop_meta;
    enum target target;
    bool bin; /* a folder's weights as .bin */
    int64_t epoch, global_step;
    struct sd_model_file *source, *vae;
    struct sd_model_file *from[SD_PARTS]; /* where each part comes from; NULL leaves it out */
    struct sd_model_config config;
    struct sd_tensor_file *left_over; /* what an earlier --keep-all put beside a folder's parts */
    struct sd_arena arena;
    uint64_t before, total, infinite; /* bytes of files written already, and of all */
    size_t dropped[SD_LEFTOVER_UNKNOWN + 1];
    struct sd_buf unknown; /* the first few names */
};

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcasecmp(s + n - k, end);
}

static void check(struct job *j, int rc, const struct sd_err *err)
{
    if (rc && !cmd_stopped(&j->c))
        cmd_die(&j->c, err);
}

static bool go_on(void *ctx, uint64_t bytes, uint64_t total)
{
    struct job *j = ctx;
    (void)total;
    j->c.total = j->total >> 20;
    cmd_progress(&j->c, (j->before + bytes) >> 20, "MiB");
    return !cmd_stopped(&j->c);
}

static struct sd_convert start(struct job *j)
{
    const char *type = j->fp16 ? "f16" : j->bf16 ? "bf16" : j->float32 ? "f32" : j->dtype;
    struct sd_convert cv = {.go_on = go_on, .ctx = j, .change_dtype = type};
    if (type)
        cv.dtype = !strcmp(type, "f32") ? SD_STORE_F32 : !strcmp(type, "f16") ? SD_STORE_F16 : SD_STORE_BF16;
    return cv;
}

/* -- what goes where ------------------------------------------------------------------------------------- */

static struct sd_part_names names_for(const struct job *j, enum sd_part part)
{
    static const char *const prefixes[SD_PARTS] = {"unet.", "vae.", "text_encoder."};
    struct sd_part_names n = sd_names_ldm(sd_model_file_config(j->from[part]), part);
    if (j->target == TO_FOLDER || !strcmp(j->layout, "diffusers"))
        n = (struct sd_part_names){prefixes[part], part == SD_PART_VAE && j->old_vae ? SD_NAMING_OLD_VAE
                                                                                     : SD_NAMING_DIFFUSERS};
    if (j->target == TO_FOLDER || !j->prefix)
        n.prefix = "";
    return n;
}

static int add_leftover(struct job *j, struct sd_convert *cv, const char *key, const struct sd_leftover *l,
                        bool as_is, struct sd_err *err)
{
    struct sd_store_entry e;
    return sd_model_file_unpack(j->source, l->file, l->from, &e, err) ||
                   sd_convert_tensor(cv, key, &e, as_is, err)
               ? -1
               : 0;
}

/* What is kept of the tensors that are no parameter goes into cv, or is counted. */
static int sort_leftover(struct job *j, struct sd_convert *cv, const struct sd_leftover *l,
                         const struct sd_part_names *from, bool *whole_text, struct sd_err *err)
{
    if (l->kind == SD_LEFTOVER_TEXT && j->target != TO_FOLDER) {
        struct sd_part_names to = names_for(j, SD_PART_TEXT);
        if (from && from->naming == to.naming && strcmp(j->layout, "diffusers")) {
            const char *rest = l->from->name + strlen(from->prefix);
            const char *key = sd_arena_printf(&j->arena, "%s%s", to.prefix, rest);
            *whole_text |= !strncmp(rest, "transformer.resblocks.", 22);
            return key ? add_leftover(j, cv, key, l, false, err) : sd_err_memory(err, 0);
        }
    }
    if (j->keep_all)
        return add_leftover(j, cv, l->key, l, true, err);
    if (l->kind == SD_LEFTOVER_UNKNOWN && j->dropped[l->kind] < 3)
        (void)!sd_buf_addf(&j->unknown, "%s%s", j->unknown.len ? ", " : "", l->key);
    j->dropped[l->kind]++;
    return 0;
}

/* Of a folder's left-over.safetensors, whose names are those of an original file. */
static int add_left_over_file(struct job *j, struct sd_convert *cv, bool *whole_text, struct sd_err *err)
{
    const struct sd_model_config *c = sd_model_file_config(j->source);
    struct sd_part_names ldm = sd_names_ldm(c, SD_PART_TEXT);
    for (size_t i = 0; i < sd_tensor_file_count(j->left_over); i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(j->left_over, i);
        bool text = sd_name_is_surplus(c, SD_PART_TEXT, &ldm, e->name);
        struct sd_leftover l = {text                        ? SD_LEFTOVER_TEXT
                                : sd_name_is_stray(e->name) ? SD_LEFTOVER_KNOWN
                                                            : SD_LEFTOVER_UNKNOWN,
                                e->name, e, j->left_over};
        if (text && !j->from[SD_PART_TEXT])
            continue;
        if (sort_leftover(j, cv, &l, &ldm, whole_text, err))
            return -1;
    }
    return 0;
}

static int add_leftovers(struct job *j, struct sd_convert *cv, struct sd_err *err)
{
    struct sd_leftover *list;
    size_t n;
    bool taken[SD_PARTS], whole_text = false;
    for (int p = 0; p < SD_PARTS; p++)
        taken[p] = j->from[p] == j->source;
    if (sd_model_leftovers(j->source, taken, &j->arena, &list, &n, err))
        return -1;
    const struct sd_part_names *from =
        taken[SD_PART_TEXT] ? sd_model_file_names(j->source, SD_PART_TEXT) : NULL;
    for (size_t i = 0; i < n; i++)
        if (sort_leftover(j, cv, &list[i], from, &whole_text, err))
            return -1;
    if (j->left_over && add_left_over_file(j, cv, &whole_text, err))
        return -1;
    if (j->target == TO_FOLDER || !taken[SD_PART_TEXT] || whole_text)
        return 0;
    struct sd_part_names to = names_for(j, SD_PART_TEXT);
    return to.naming == SD_NAMING_OPENCLIP ? sd_convert_unused_openclip(cv, j->source, &to, err) : 0;
}

/* -- metadata -------------------------------------------------------------------------------------------- */

/* The source as one file, or NULL for a folder. */
static const struct sd_tensor_file *source_file(const struct job *j)
{
    for (int p = 0; p < SD_PARTS && !sd_model_file_is_folder(j->source); p++)
        if (sd_model_file_has(j->source, (enum sd_part)p))
            return sd_model_file_tensors(j->source, (enum sd_part)p);
    return NULL;
}

static int make_metadata(struct job *j, struct sd_meta *meta, struct sd_err *err)
{
    struct convert_metadata m = {
        .keep = j->metadata,
        .modelspec = j->modelspec,
        .set = &j->meta,
        .drop = &j->drop_meta,
        .config = &j->config,
        .parts = {j->from[0] != NULL, j->from[1] != NULL, j->from[2] != NULL},
        .ldm = !strcmp(j->layout, "ldm"),
        .output = j->output,
    };
    return convert_metadata(&m, source_file(j), meta, err);
}

/* -- writing --------------------------------------------------------------------------------------------- */

/* The dictionary that LDM's trainer saves, counting on from the source's. */
static int write_checkpoint(struct job *j, const struct sd_convert *cv, struct sd_err *err)
{
    struct sd_torch_number numbers[] = {{"epoch", j->epoch}, {"global_step", j->global_step}};
    const struct sd_tensor_file *tf = source_file(j);
    for (int i = 0; i < 2; i++) {
        const char *had = tf ? sd_tensor_file_meta(tf, numbers[i].key) : NULL;
        char *end;
        errno = 0;
        long long v = had ? strtoll(had, &end, 10) : 0;
        if (had && !*end && !errno && v >= 0 && v < INT32_MAX)
            numbers[i].value += v;
    }
    return sd_torch_write(j->output, cv->tensors, cv->count, "state_dict", numbers, 2, err);
}

static void write_file(struct job *j)
{
    struct sd_err err = {0};
    struct sd_convert cv = start(j);
    struct sd_meta meta = {0};
    int rc = 0;
    for (int p = 0; p < SD_PARTS && !rc; p++) {
        struct sd_part_names n;
        if (j->from[p] && (n = names_for(j, (enum sd_part)p), true))
            rc = sd_convert_part(&cv, j->from[p], (enum sd_part)p, &n, &err);
    }
    rc = rc || add_leftovers(j, &cv, &err) || make_metadata(j, &meta, &err);
    j->total = cv.total;
    if (!rc)
        rc = j->target == TO_TORCH
                 ? write_checkpoint(j, &cv, &err)
                 : sd_store_write(j->output, cv.tensors, cv.count, meta.n ? meta.v : NULL, meta.n, &err);
    j->infinite = cv.infinite;
    sd_convert_free(&cv);
    sd_meta_free(&meta);
    check(j, rc, &err);
}

static int write_tensors(struct job *j, struct sd_folder *to, const char *name, struct sd_convert *cv,
                         struct sd_err *err)
{
    static const struct sd_store_meta format = {"format", "pt"}; /* transformers asks for it */
    char *path = sd_arena_printf(&j->arena, "%s/%s", sd_folder_path(to), name);
    if (!path)
        return sd_err_memory(err, strlen(name));
    int rc = ends_with(name, ".bin") ? sd_torch_write(path, cv->tensors, cv->count, NULL, NULL, 0, err)
                                     : sd_store_write(path, cv->tensors, cv->count, &format, 1, err);
    j->before += cv->bytes;
    j->infinite += cv->infinite;
    return rc;
}

static int fill_folder(struct job *j, struct sd_folder *to, const struct sd_diffusers_files *files,
                       struct sd_convert cv[SD_PARTS + 1], struct sd_err *err)
{
    struct sd_buf name = SD_BUF_INIT;
    int rc = 0;
    for (int p = 0; p < SD_PARTS && !rc; p++) {
        struct sd_part_names n;
        if (j->from[p] && (n = names_for(j, (enum sd_part)p), true))
            rc = sd_convert_part(&cv[p], j->from[p], (enum sd_part)p, &n, err);
    }
    rc = rc || add_leftovers(j, &cv[SD_PARTS], err);
    for (int p = 0; p <= SD_PARTS; p++)
        j->total += cv[p].total;
    rc = rc || sd_diffusers_write(to, files, err);
    for (int p = 0; p < SD_PARTS && !rc; p++) {
        sd_buf_clear(&name);
        if (j->from[p])
            rc = sd_diffusers_weights(&name, files, (enum sd_part)p, j->bin ? ".bin" : ".safetensors")
                     ? sd_err_memory(err, name.len)
                     : write_tensors(j, to, name.data, &cv[p], err);
    }
    if (!rc && cv[SD_PARTS].count)
        rc = write_tensors(j, to, LEFT_OVER, &cv[SD_PARTS], err);
    sd_buf_free(&name);
    return rc;
}

static void write_folder(struct job *j)
{
    struct sd_err err = {0};
    struct sd_folder *to = NULL;
    struct sd_convert cv[SD_PARTS + 1] = {start(j), start(j), start(j), start(j)};
    struct sd_diffusers_files files = {
        .config = &j->config,
        .has = {j->from[0] != NULL, j->from[1] != NULL, j->from[2] != NULL},
        .reference = j->reference                         ? j->reference
                     : sd_model_file_is_folder(j->source) ? sd_model_file_path(j->source)
                                                          : NULL,
    };
    int rc = sd_diffusers_replaceable(j->output, &err) || sd_folder_open(&to, j->output, &err) ||
             fill_folder(j, to, &files, cv, &err) || sd_folder_commit(&to, &err);
    sd_folder_discard(&to);
    for (int p = 0; p <= SD_PARTS; p++)
        sd_convert_free(&cv[p]);
    check(j, rc, &err);
}

/* -- options --------------------------------------------------------------------------------------------- */

static enum target target_of(struct job *j)
{
    struct stat st;
    const char *o = j->output, *as = j->save_as;
    static const char *const torch[] = {".ckpt", ".pt", ".pth", ".bin"};
    j->bin = as && !strcmp(as, "diffusers");
    if (as)
        return !strcmp(as, "safetensors") ? TO_SAFETENSORS : !strcmp(as, "ckpt") ? TO_TORCH : TO_FOLDER;
    if (ends_with(o, ".safetensors"))
        return TO_SAFETENSORS;
    for (size_t i = 0; i < sizeof torch / sizeof *torch; i++)
        if (ends_with(o, torch[i]))
            return TO_TORCH;
    if (!*sd_path_base(o) || sd_path_stem_len(o) == strlen(o) || (!stat(o, &st) && S_ISDIR(st.st_mode)))
        return TO_FOLDER;
    cmd_usage(&j->c,
              "%s: neither the name of a .safetensors or .ckpt file nor one without ending, for a folder: "
              "--save-model-as says what is meant",
              o);
}

/* A folder of a model that has a place for a part. */
static bool expects(const struct job *j, const char *part)
{
    struct stat st;
    char path[4096];
    int n = snprintf(path, sizeof path, "%s/%s", sd_model_file_path(j->source), part);
    return sd_model_file_is_folder(j->source) && n > 0 && (size_t)n < sizeof path && !stat(path, &st);
}

static void take_parts(struct job *j)
{
    bool wanted[SD_PARTS] = {false};
    const char *names[SD_PARTS];
    for (int p = 0; p < SD_PARTS; p++)
        names[p] = sd_part_name((enum sd_part)p);
    for (size_t i = 0; i < j->parts.n; i++) {
        int p = 0;
        while (p < SD_PARTS && strcmp(names[p], j->parts.v[i]))
            p++;
        if (p == SD_PARTS)
            cmd_usage(&j->c, "--part %s: expected unet, vae or text_encoder", j->parts.v[i]);
        wanted[p] = true;
    }
    wanted[SD_PART_UNET] |= j->unet_only;
    bool all = !j->parts.n && !j->unet_only;
    int taken = 0, last = 0;
    for (int p = 0; p < SD_PARTS; p++) {
        struct sd_model_file *mf = p == SD_PART_VAE && j->vae ? j->vae : j->source;
        struct sd_err err = {0};
        bool expected = wanted[p] || (all && mf == j->source && expects(j, names[p]));
        if (expected && sd_model_file_need(mf, (enum sd_part)p, &err))
            cmd_die(&j->c, &err);
        if ((all && sd_model_file_has(mf, (enum sd_part)p)) || wanted[p]) {
            j->from[p] = mf;
            taken++;
            last = p;
        }
    }
    if (j->vae && !j->from[SD_PART_VAE])
        cmd_usage(&j->c, "--vae, but no VAE is written: --part vae");
    if (!j->prefix_given) /* as such files are published: a VAE alone, and what diffusers keeps in a file each
                           */
        j->prefix = taken > 1 || (last != SD_PART_VAE && !strcmp(j->layout, "ldm"));
    if (!j->prefix && taken > 1 && j->target != TO_FOLDER)
        cmd_usage(&j->c, "--no-prefix is for one part: --part says which");
}

/* It must have something to take, and its prediction type counts where the model's is not known. */
static void look_at_reference(struct job *j, bool predicts)
{
    struct sd_err err = {0};
    struct stat st;
    const char *scheduler = sd_arena_printf(&j->arena, "%s/scheduler/scheduler_config.json", j->reference);
    const char *tokenizer = sd_arena_printf(&j->arena, "%s/tokenizer/vocab.json", j->reference);
    bool has = scheduler && !stat(scheduler, &st);
    if (!has && (!tokenizer || stat(tokenizer, &st)))
        cmd_usage(&j->c,
                  "--reference %s: there is no scheduler/scheduler_config.json and no tokenizer/vocab.json",
                  j->reference);
    if (!has || !predicts)
        return;
    cJSON *json = sd_json_read(scheduler, &err);
    if (!json)
        cmd_die(&j->c, &err);
    if (sd_scheduler_config_parse(&j->config.prediction, json, &err)) {
        sd_err_prefix(&err, "%s", scheduler);
        cmd_die(&j->c, &err);
    }
    cJSON_Delete(json);
}

static void settle_config(struct job *j)
{
    const struct sd_tensor_file *tf = source_file(j);
    j->config = *sd_model_file_config(j->source);
    if (j->vae)
        j->config.vae = sd_model_file_config(j->vae)->vae;
    bool sd2 = j->config.text.act == SD_ACT_GELU;
    bool tells = j->from[SD_PART_TEXT] || j->from[SD_PART_UNET];
    if (tells && ((j->v1 && sd2) || (j->v2 && !sd2)))
        cmd_usage(&j->c, "%s: is a model of Stable Diffusion %d, which --v%d denies",
                  sd_model_file_path(j->source), sd2 ? 2 : 1, sd2 ? 1 : 2);
    bool known = sd_model_file_is_folder(j->source) || (tf && sd_tensor_file_meta(tf, "sd_config"));
    if (j->reference)
        look_at_reference(j, !known);
    if (j->v_given)
        j->config.prediction = j->v ? SD_PREDICT_V : SD_PREDICT_EPSILON;
    if (!strcmp(j->config.name, "sd2") && j->config.prediction == SD_PREDICT_V) {
        j->config.name = "sd2-v";
        if (!known) /* Stability's v-model is for 768 pixels */
            j->config.unet.sample_size = 96;
    }
}

static void open_all(struct job *j, const char *path)
{
    struct sd_err err = {0};
    if (sd_model_file_open_variant(&j->source, path, j->variant, &err) ||
        (j->ema && sd_model_file_use_ema(j->source, &err)) ||
        (j->vae_path && (sd_model_file_open_variant(&j->vae, j->vae_path, NULL, &err) ||
                         sd_model_file_need(j->vae, SD_PART_VAE, &err))))
        cmd_die(&j->c, &err);
    if (j->variant && !sd_model_file_is_folder(j->source))
        cmd_usage(&j->c, "--variant is for a folder, and %s is a file", path);
    if (!sd_model_file_is_folder(j->source))
        return;
    struct stat st;
    char *left = sd_arena_printf(&j->arena, "%s/%s", path, LEFT_OVER);
    if (left && !stat(left, &st) && sd_tensor_file_open(&j->left_over, left, &err))
        cmd_die(&j->c, &err);
}

static void report(struct job *j)
{
    static const char *const what[SD_PARTS] = {"U-Net", "VAE", "text encoder"};
    size_t known = j->dropped[SD_LEFTOVER_KNOWN] + j->dropped[SD_LEFTOVER_TEXT];
    if (j->dropped[SD_LEFTOVER_UNKNOWN])
        cmd_warn(&j->c, "%zu tensors of no known use left out (%s%s): --keep-all keeps them",
                 j->dropped[SD_LEFTOVER_UNKNOWN], j->unknown.data,
                 j->dropped[SD_LEFTOVER_UNKNOWN] > 3 ? ", ..." : "");
    if (known && j->c.common.verbose)
        cmd_say(&j->c,
                "%zu tensors left out that only training needs (averages, noise schedule and the like)",
                known);
    if (j->infinite)
        cmd_warn(&j->c, "%llu numbers are too large for f16 and became infinite",
                 (unsigned long long)j->infinite);
    int taken = 0, missing = 0;
    for (int p = 0; p < SD_PARTS; p++) {
        taken += j->from[p] != NULL;
        missing = j->from[p] ? missing : p;
    }
    if (j->target == TO_FOLDER && taken == 2)
        cmd_say(&j->c, "%s: no model_index.json, as there is no %s", j->output, what[missing]);
}

static void finish(struct job *j)
{
    sd_tensor_file_close(j->left_over);
    sd_model_file_close(j->vae);
    sd_model_file_close(j->source);
    sd_strings_free(&j->parts);
    sd_strings_free(&j->meta);
    sd_strings_free(&j->drop_meta);
    sd_buf_free(&j->unknown);
    sd_arena_free(&j->arena);
}

static void check_options(struct job *j)
{
    int types = j->fp16 + j->bf16 + j->float32 + (j->dtype != NULL) + (j->precision != NULL);
    if (!j->output)
        cmd_usage(&j->c, "no output: -o FILE or -o FOLDER");
    if (types > 1)
        cmd_usage(&j->c, "more than one of --dtype, --fp16, --bf16, --float and --save-precision-as");
    if (j->precision)
        *(*j->precision == 'b' ? &j->bf16 : j->precision[1] == 'p' ? &j->fp16 : &j->float32) = true;
    if (j->v1 && j->v2)
        cmd_usage(&j->c, "--v1 and --v2 exclude each other");
    for (size_t i = 0; i < j->meta.n; i++)
        if (!strchr(j->meta.v[i], '=') || *j->meta.v[i] == '=')
            cmd_usage(&j->c, "--meta %s: expected KEY=VALUE", j->meta.v[i]);
    j->target = target_of(j);
    if (j->reference && j->target != TO_FOLDER)
        cmd_usage(&j->c, "--reference is for a folder");
    if (j->target != TO_SAFETENSORS && (j->meta.n || j->drop_meta.n || !j->metadata || j->modelspec))
        cmd_usage(&j->c, "metadata goes into .safetensors files only");
    if (j->target != TO_TORCH && (j->epoch || j->global_step))
        cmd_usage(&j->c, "--epoch and --global-step are for a .ckpt");
}

int main(int argc, char **argv)
{
    struct job j = {.layout = "ldm", .prefix = true, .metadata = true};
    bool layout_given = false;
    const struct sd_option options[] = {
        {SD_OPT_STRING("output", 'o', &j.output, "FILE|FOLDER", "what to write (required)")},
        {SD_OPT_CHOICE(
            "save-model-as", 0, &j.save_as, "ckpt|safetensors|diffusers|diffusers_safetensors",
            "a file, or a folder with .bin or .safetensors files (default: by the output's name)")},
        {SD_OPT_CHOICE("layout", 0, &j.layout, "ldm|diffusers", "names of the tensors in a file"),
         .given = &layout_given},
        {SD_OPT_CHOICE("dtype", 't', &j.dtype, "f32|f16|bf16", "type of the weights (default: as they are)")},
        {SD_OPT_BOOL("fp16", 0, &j.fp16, "--dtype f16")},
        {SD_OPT_BOOL("bf16", 0, &j.bf16, "--dtype bf16")},
        {SD_OPT_BOOL("float", 0, &j.float32, "--dtype f32")},
        {SD_OPT_CHOICE("save-precision-as", 0, &j.precision, "fp16|bf16|float", "the same as --dtype")},
        {SD_OPT_HEADING("What is taken")},
        {SD_OPT_LIST("part", 'p', &j.parts, "PART", "only unet, vae or text_encoder; may be given again")},
        {SD_OPT_BOOL("unet-only", 0, &j.unet_only, "--part unet")},
        {SD_OPT_STRING("vae", 0, &j.vae_path, "FILE|FOLDER", "take the VAE from there")},
        {SD_OPT_BOOL("ema", 0, &j.ema, "take the U-Net's moving averages (model_ema.*)")},
        {SD_OPT_STRING("variant", 0, &j.variant, "NAME",
                       "of a folder take NAME's files: fp16 for model.fp16.safetensors")},
        {SD_OPT_BOOL("keep-all", 0, &j.keep_all, "keep tensors that are no part of the model"),
         .alias = "keep-unknown"},
        {SD_OPT_HEADING("How it is written")},
        {SD_OPT_BOOL("prefix", 0, &j.prefix, "names with the part in front (default: but for a VAE alone)"),
         .given = &j.prefix_given},
        {SD_OPT_BOOL("old-vae-names", 0, &j.old_vae,
                     "query, key, value in the VAE, for diffusers before 0.17")},
        {SD_OPT_STRING("reference", 0, &j.reference, "FOLDER",
                       "take scheduler and tokenizer from this diffusers folder"),
         .alias = "reference-model"},
        {SD_OPT_BOOL("v-parameterization", 0, &j.v, "the model predicts v, which its tensors do not tell"),
         .given = &j.v_given},
        {SD_OPT_BOOL("v1", 0, &j.v1, "refuse it if it is not Stable Diffusion 1")},
        {SD_OPT_BOOL("v2", 0, &j.v2, "refuse it if it is not Stable Diffusion 2")},
        {SD_OPT_INT("epoch", 0, &j.epoch, "N", "count these epochs to those of a .ckpt"), .max = INT32_MAX},
        {SD_OPT_INT("global-step", 0, &j.global_step, "N", "and these steps"), .max = INT32_MAX},
        {SD_OPT_LIST("meta", 'm', &j.meta, "KEY=VALUE", "set this metadata; may be given again")},
        {SD_OPT_LIST("drop-meta", 0, &j.drop_meta, "KEY", "leave this metadata out; may be given again")},
        {SD_OPT_BOOL("metadata", 0, &j.metadata, "keep the metadata there is")},
        {SD_OPT_BOOL("modelspec", 0, &j.modelspec,
                     "add modelspec.* (title, architecture, date, ...) as sd-scripts does")},
        SD_OPT_END,
    };
    j.c = (struct sd_cmd){
        .program = {.name = "sd-convert",
                    .args = "FILE|FOLDER",
                    .summary = "convert a Stable Diffusion model to another layout or precision",
                    .options = options,
                    .min_args = 1,
                    .max_args = 1},
        .source = true,
        .own_progress = true};
    cmd_start(&j.c, &argc, argv);
    check_options(&j);
    if (layout_given && j.target == TO_FOLDER && !strcmp(j.layout, "ldm"))
        cmd_usage(&j.c, "a folder has diffusers' layout");
    if (j.target == TO_FOLDER && j.prefix_given)
        cmd_usage(&j.c, "--prefix and --no-prefix are for a file");
    if (j.old_vae && j.target != TO_FOLDER && !strcmp(j.layout, "ldm"))
        cmd_usage(&j.c, "--old-vae-names is for diffusers' layout");
    open_all(&j, argv[1]);
    take_parts(&j);
    settle_config(&j);
    if (j.target == TO_FOLDER)
        write_folder(&j);
    else
        write_file(&j);
    if (!cmd_stopped(&j.c))
        report(&j);
    finish(&j);
    return cmd_finish(&j.c);
}
