/* sd-sample: prompt lines in, a picture each in a folder, a record each on standard output. */
#include "compute.h"
#include "networks.h"

#include "adapter/lora.h"
#include "base/path.h"
#include "image/png.h"
#include "sample/pipeline.h"
#include "text/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct options {
    const char *model, *vae, *output, *precision, *sampler, *negative;
    struct sd_strings lora;
    bool v_prediction, clip_sample, alpha_to_one, strict, tf32;
    int64_t clip_skip, width, height, steps, seed, steps_offset;
    double scale;
};

struct ctx {
    struct sd_cmd *cmd;
    const struct options *o;
    struct sd_pipeline *pipeline;
    uint64_t number; /* of the prompt in the stream */
};

static bool on_step(void *ctx, int done, int of)
{
    struct ctx *x = ctx;
    char extra[48];
    snprintf(extra, sizeof extra, "step %d/%d", done, of);
    cmd_progress(x->cmd, x->number, extra);
    return !cmd_stopped(x->cmd);
}

/* --- LoRA
 * ----------------------------------------------------------------------------------------------------------
 */

/* What --lora names: networks that run beside the layers, and one set of weights with the others added. */
struct networks {
    struct sd_lora **loras;
    size_t n_loras;
    struct sd_merge_part *parts;
    size_t n_parts;
    struct sd_merged *merged; /* NULL without parts */
};

/* Opens FILE[:MULTIPLIER]. */
static void open_network(struct sd_cmd *c, const struct options *o, const struct sd_model_config *config,
                         const char *word, struct networks *n)
{
    char *path = strdup(word), *colon = path ? strrchr(path, ':') : NULL, *end = NULL;
    double factor = 1;
    struct sd_network network;
    struct sd_lora_report report;
    struct sd_err err = {0};
    if (colon && colon[1] && (factor = strtod(colon + 1, &end), !*end))
        *colon = 0;
    else
        factor = 1;
    if (!path) {
        sd_err_memory(&err, strlen(word));
        cmd_die(c, &err);
    }
    cmd_network(c, path, config, o->strict, &network);
    if (!sd_network_is_lora(&network)) {
        n->parts[n->n_parts++] = (struct sd_merge_part){network, (float)factor};
    } else {
        sd_network_close(&network);
        if (sd_lora_open(&n->loras[n->n_loras], config, path, (float)factor, false, &report, &err))
            cmd_die(c, &err);
        n->n_loras++;
    }
    free(path);
}

static struct networks open_networks(struct sd_cmd *c, const struct options *o, struct sd_model_file *model)
{
    struct networks n = {.loras = calloc(o->lora.n + 1, sizeof *n.loras),
                         .parts = calloc(o->lora.n + 1, sizeof *n.parts)};
    struct sd_err err = {0};
    if (!n.loras || !n.parts) {
        sd_err_memory(&err, o->lora.n * sizeof *n.parts);
        cmd_die(c, &err);
    }
    for (size_t i = 0; i < o->lora.n; i++)
        open_network(c, o, sd_model_file_config(model), o->lora.v[i], &n);
    n.merged = cmd_merged(c, model, n.parts, n.n_parts);
    return n;
}

static void close_networks(struct networks *n)
{
    for (size_t i = 0; i < n->n_loras; i++)
        sd_lora_free(n->loras[i]);
    sd_merged_free(n->merged);
    free(n->loras);
    free(n->parts);
}

/* --- one prompt
 * ---------------------------------------------------------------------------------------------------- */

static int64_t side(int64_t v)
{
    return v / 8 * 8 < 64 ? 64 : v / 8 * 8; /* as sd-scripts rounds */
}

/* What the line says, with the program's options as defaults. Strings are NUL-terminated copies in the arena.
 */
static int read_line(const struct options *o, struct sd_str line, struct sd_arena *arena, struct sd_draw *d,
                     struct sd_err *err)
{
    struct sd_prompt p;
    sd_prompt_parse(line, &p);
    if (p.bad.len)
        return sd_err_set(err, SD_ERR_DATA, "\"--%.*s\" has no number that can be read", (int)p.bad.len,
                          p.bad.data);
    d->prompt = sd_arena_strndup(arena, p.prompt.data, p.prompt.len);
    d->negative = o->negative;
    d->sampler = (struct sd_sampler_setup){.name = o->sampler,
                                           .steps = (int)o->steps,
                                           .clip_sample = o->clip_sample,
                                           .steps_offset = (int)o->steps_offset,
                                           .end_at_first = !o->alpha_to_one};
    d->width = side(p.set & SD_PROMPT_WIDTH ? p.width : o->width);
    d->height = side(p.set & SD_PROMPT_HEIGHT ? p.height : o->height);
    d->scale = p.set & SD_PROMPT_SCALE ? p.scale : o->scale;
    if (p.set & SD_PROMPT_STEPS)
        d->sampler.steps = p.steps;
    if (p.set & SD_PROMPT_NEGATIVE)
        d->negative = sd_arena_strndup(arena, p.negative_prompt.data, p.negative_prompt.len);
    if (p.set & SD_PROMPT_SAMPLER)
        d->sampler.name = sd_arena_strndup(arena, p.sample_sampler.data, p.sample_sampler.len);
    if (p.set & SD_PROMPT_SEED)
        d->seed = p.seed;
    else if (o->seed >= 0)
        d->seed = (uint64_t)o->seed;
    else
        d->seed = (uint64_t)(sd_clock_ns() & 0xffffffff);
    return d->prompt && d->sampler.name ? 0 : sd_err_memory(err, line.len);
}

/* The text AUTOMATIC1111's web UI writes into its pictures and reads back. */
static const char *parameters(const struct options *o, const struct sd_draw *d, struct sd_arena *arena)
{
    const char *slash = strrchr(o->model, '/'), *name = slash ? slash + 1 : o->model,
               *dot = strrchr(name, '.');
    return sd_arena_printf(
        arena, "%s\n%s%s%sSteps: %d, Sampler: %s, CFG scale: %g, Seed: %llu, Size: %lldx%lld, Model: %.*s",
        d->prompt, d->negative && *d->negative ? "Negative prompt: " : "", d->negative ? d->negative : "",
        d->negative && *d->negative ? "\n" : "", d->sampler.steps,
        strcmp(d->sampler.name, "ddim") ? "Euler" : "DDIM", d->scale, (unsigned long long)d->seed,
        (long long)d->width, (long long)d->height, (int)(dot ? dot - name : (long)strlen(name)), name);
}

static void put_record(struct sd_cmd *c, const struct sd_draw *d, const struct sd_image *im, const char *path)
{
    struct sd_record r = SD_RECORD_INIT;
    sd_record_reset(&r);
    sd_record_set_string(&r, "path", path);
    sd_record_set_int(&r, "width", im->width);
    sd_record_set_int(&r, "height", im->height);
    sd_record_set_string(&r, "prompt", d->prompt);
    if (d->negative)
        sd_record_set_string(&r, "negative_prompt", d->negative);
    char seed[24]; /* up to 2^64-1 */
    sd_record_set_raw(&r, "seed", seed,
                      (size_t)snprintf(seed, sizeof seed, "%llu", (unsigned long long)d->seed));
    sd_record_set_int(&r, "steps", d->sampler.steps);
    sd_record_set_double(&r, "scale", d->scale);
    sd_record_set_string(&r, "sampler", d->sampler.name);
    cmd_put_next(c, &r);
    sd_stream_flush(c->stream);
    sd_record_free(&r);
}

static int draw(struct ctx *x, struct sd_str line, struct sd_arena *arena, struct sd_err *err)
{
    struct sd_draw d = {.step = on_step, .ctx = x};
    struct sd_image im = SD_IMAGE_INIT;
    if (read_line(x->o, line, arena, &d, err))
        return -1;
    int rc = sd_pipeline_draw(x->pipeline, &d, &im, err);
    if (rc)
        return rc < 0 ? -1 : 0;
    const char *path =
        sd_arena_printf(arena, "%s%s%05llu-%llu.png", x->o->output, sd_path_slash(x->o->output),
                        (unsigned long long)x->number, (unsigned long long)d.seed);
    const char *text = parameters(x->o, &d, arena);
    rc = path && text ? sd_png_save(path, &im, &(struct sd_png_text){"parameters", text}, 1, err)
                      : sd_err_memory(err, line.len);
    if (!rc)
        put_record(x->cmd, &d, &im, path);
    sd_image_free(&im);
    return rc;
}

static void each_line(struct ctx *x, FILE *in)
{
    char *text = NULL;
    size_t cap = 0;
    ssize_t len;
    uint64_t number = 0;
    struct sd_arena arena = SD_ARENA_INIT;
    while (!cmd_stopped(x->cmd) && (len = getline(&text, &cap, in)) >= 0) {
        struct sd_str line = {text, (size_t)len};
        struct sd_err err = {0};
        number++;
        if (!sd_prompt_is_line(&line))
            continue;
        sd_arena_reset(&arena);
        if (draw(x, line, &arena, &err)) {
            cmd_warn(x->cmd, "line %llu: %s", (unsigned long long)number, err.msg);
            cmd_status(x->cmd, err.code == SD_ERR_USAGE ? SD_ERR_DATA : err.code); /* one line's fault */
            if (err.code == SD_ERR_MACHINE)
                break;
        }
        x->number++;
    }
    sd_arena_free(&arena);
    free(text);
}

/* A sampler that the options ask for and that cannot be is wrong usage; one that a line asks for fails that
 * line. */
static void check_sampler(struct sd_cmd *c, const struct options *o)
{
    struct sd_sampler s;
    struct sd_err err = {0};
    struct sd_sampler_setup setup = {
        .name = o->sampler, .steps = (int)o->steps, .steps_offset = (int)o->steps_offset};
    if (sd_sampler_init(&s, &setup, &err))
        cmd_usage(c, "%s", err.msg);
    sd_sampler_free(&s);
}

int main(int argc, char **argv)
{
    struct options o = {.output = "out",
                        .precision = "no",
                        .sampler = "ddim",
                        .width = 512,
                        .height = 512,
                        .steps = 30,
                        .seed = -1,
                        .scale = 7.5,
                        .steps_offset = 1};
    const struct sd_option options[] = {
        {SD_OPT_HEADING("Model and output")},
        {SD_OPT_STRING("model", 'm', &o.model, "FILE|FOLDER", "model file or diffusers folder"),
         .alias = "ckpt pretrained-model-name-or-path"},
        {SD_OPT_STRING("vae", 0, &o.vae, "FILE|FOLDER", "another VAE")},
        {SD_OPT_LIST("lora", 0, &o.lora, "FILE[:X]",
                     "apply this LoRA, LoCon, LoHa, LoKr or OFT, X times as strongly; may be repeated")},
        {SD_OPT_BOOL("strict", 0, &o.strict, "refuse a LoRA with keys that match nothing")},
        {SD_OPT_STRING("output", 'o', &o.output, "FOLDER", "where the pictures go: NUMBER-SEED.png"),
         .alias = "outdir"},
        {SD_OPT_HEADING("Defaults of a prompt line")},
        {SD_OPT_INT("width", 0, &o.width, "N",
                    "--w of the line; rounded down to a multiple of 8, at least 64"),
         .alias = "W", .min = 1, .max = 16384},
        {SD_OPT_INT("height", 0, &o.height, "N", "--h of the line"), .alias = "H", .min = 1, .max = 16384},
        {SD_OPT_INT("steps", 0, &o.steps, "N", "--s of the line"), .min = 1, .max = 1000},
        {SD_OPT_INT("seed", 0, &o.seed, "N", "--d of the line; negative: by the clock"), .min = -1,
         .max = 9e15},
        {SD_OPT_DOUBLE("scale", 0, &o.scale, "X",
                       "--l of the line: classifier-free guidance; 1 turns it off")},
        {SD_OPT_STRING("negative-prompt", 0, &o.negative, "TEXT", "--n of the line")},
        {SD_OPT_STRING("sampler", 0, &o.sampler, "NAME", "--ss of the line: ddim, euler"),
         .alias = "sample-sampler"},
        {SD_OPT_HEADING("Computing")},
        {SD_OPT_CHOICE("mixed-precision", 0, &o.precision, "no|bf16|fp16",
                       "type to compute in: no means f32")},
        CMD_OPT_TF32(&o.tf32),
        {SD_OPT_BOOL("v-parameterization", 0, &o.v_prediction, "the model predicts velocity (768-v models)")},
        {SD_OPT_INT("clip-skip", 0, &o.clip_skip, "N", "use the text encoder's N-th layer from the end"),
         .max = 23},
        {SD_OPT_BOOL("clip-sample", 0, &o.clip_sample,
                     "ddim: clamp latents as sd-scripts' training samples do")},
        {SD_OPT_INT("steps-offset", 0, &o.steps_offset, "N",
                    "ddim: added to the timesteps; training samples use 0"),
         .max = 1},
        {SD_OPT_BOOL("set-alpha-to-one", 0, &o.alpha_to_one, "ddim: end without noise, as sd-scripts does")},
        SD_OPT_END};
    struct sd_cmd c = {
        .program = {.name = "sd-sample",
                    .args = "",
                    .summary = "draw a picture for each prompt line of standard input",
                    .description = "A line is a prompt and what goes for it alone: --n NEGATIVE --w WIDTH "
                                   "--h HEIGHT --d SEED --s STEPS --l SCALE --ss SAMPLER.",
                    .options = options},
        .own_progress = true};
    cmd_start_computing(&c, &argc, argv);
    if (!o.model)
        cmd_usage(&c, "no model: --model FILE");
    struct sd_err err = {0};
    struct sd_model_file *model, *vae = NULL;
    check_sampler(&c, &o);
    cmd_folder(&c, o.output);
    if (sd_model_file_open(&model, o.model, &err) || (o.vae && sd_model_file_open(&vae, o.vae, &err)))
        cmd_die(&c, &err);
    const struct sd_model_config *config = sd_model_file_config(model);
    struct sd_backend *backend = cmd_backend(&c, o.tf32);
    struct networks networks = open_networks(&c, &o, model);
    struct sd_lora_stack stack = {networks.loras, networks.n_loras};
    struct sd_pipeline_options p = {.dtype = cmd_precision(&c, o.precision),
                                    .adapt = stack.count ? sd_lora_adapt : NULL,
                                    .adapt_ctx = &stack,
                                    .find = networks.merged ? sd_merged_find : NULL,
                                    .find_ctx = networks.merged,
                                    .clip_skip = (int)o.clip_skip,
                                    .v_prediction = o.v_prediction || config->prediction == SD_PREDICT_V};
    struct ctx x = {.cmd = &c, .o = &o};
    if (sd_pipeline_new(&x.pipeline, model, vae, backend, &p, &err))
        cmd_die(&c, &err);
    each_line(&x, stdin);
    sd_pipeline_free(x.pipeline);
    close_networks(&networks);
    sd_strings_free(&o.lora);
    sd_backend_free(backend);
    sd_model_file_close(vae);
    sd_model_file_close(model);
    return cmd_finish(&c);
}
