/* lib/model's names, configurations and model files: the small models of t/data/model, whose original names
 * and values sd-scripts made, and the same written here as diffusers folders and files of one part; then
 * models that are wrong. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/atomic.h"
#include "model/config_json.h"
#include "model/model_file.h"
#include "store/safetensors_write.h"
#include "tap.h"

#define OURS "t/data/model/sd1-small.safetensors"
#define LDM "t/data/model/sd1-small-ldm.safetensors"
#define LDM2 "t/data/model/sd2-small-ldm.safetensors"

static char folder[4096];

static char *in_folder(struct sd_arena *a, const char *name)
{
    return sd_arena_printf(a, "%s/%s", folder, name);
}

static struct sd_model_file *open_model(const char *path)
{
    struct sd_model_file *mf;
    struct sd_err err = {0};
    if (sd_model_file_open(&mf, path, &err))
        printf("# %s\n", err.msg);
    return mf;
}

/* --- names --- */

static int to_file(const char *arch, const char *name, const char *key)
{
    const struct sd_model_config *c = sd_model_config_builtin(arch);
    const char *rest;
    struct sd_part_names n = sd_names_ldm(c, (enum sd_part)sd_part_of(name, &rest));
    struct sd_buf b = SD_BUF_INIT;
    int slice, got = sd_name_to_file(c, &n, name, &b, &slice);
    int good = key ? got == 1 && !strcmp(b.data, key) : got == 0;
    if (!good)
        printf("# %s: %s becomes %s\n", arch, name, got == 1 ? b.data : "nothing");
    sd_buf_free(&b);
    return good;
}

static void test_averages(void)
{
    struct sd_buf b = SD_BUF_INIT;
    ok(sd_name_ema(&b, "model.diffusion_model.input_blocks.10.0.in_layers.0.weight") == 1 &&
           !strcmp(b.data, "model_ema.diffusion_modelinput_blocks100in_layers0weight"),
       "what LDM calls a moving average");
    ok(sd_name_ema(&b, "first_stage_model.quant_conv.bias") == 0, "the VAE has none");
    ok(sd_name_is_stray("model_ema.decay") && sd_name_is_stray("betas") && !sd_name_is_stray("betas2"),
       "what training leaves behind");
    sd_buf_free(&b);
}

static void test_known_names(void)
{
    static const struct {
        const char *arch, *name, *key;
    } cases[] = {
        {"sd1", "unet.time_embedding.linear_2.bias", "model.diffusion_model.time_embed.2.bias"},
        {"sd1", "unet.down_blocks.2.downsamplers.0.conv.weight",
         "model.diffusion_model.input_blocks.9.0.op.weight"},
        {"sd1", "unet.up_blocks.0.upsamplers.0.conv.weight",
         "model.diffusion_model.output_blocks.2.1.conv.weight"},
        {"sd1", "unet.up_blocks.2.upsamplers.0.conv.weight",
         "model.diffusion_model.output_blocks.8.2.conv.weight"},
        {"tiny", "unet.up_blocks.0.upsamplers.0.conv.weight",
         "model.diffusion_model.output_blocks.1.1.conv.weight"},
        {"tiny", "unet.up_blocks.1.attentions.1.norm.bias",
         "model.diffusion_model.output_blocks.3.1.norm.bias"},
        {"sd1", "vae.decoder.up_blocks.0.resnets.2.conv1.weight",
         "first_stage_model.decoder.up.3.block.2.conv1.weight"},
        {"sd1", "vae.encoder.mid_block.attentions.0.to_out.0.bias",
         "first_stage_model.encoder.mid.attn_1.proj_out.bias"},
        {"sd1", "text_encoder.text_model.final_layer_norm.bias",
         "cond_stage_model.transformer.text_model.final_layer_norm.bias"},
        {"sd2", "text_encoder.text_model.encoder.layers.22.mlp.fc2.bias",
         "cond_stage_model.model.transformer.resblocks.22.mlp.c_proj.bias"},
        {"sd2", "text_encoder.text_model.embeddings.position_embedding.weight",
         "cond_stage_model.model.positional_embedding"},
        {"sd1", "unet.down_blocks.3.downsamplers.0.conv.weight", NULL},
        {"sd1", "unet.down_blocks.3.attentions.0.norm.weight", NULL},
        {"sd1", "unet.down_blocks.0.resnets.2.norm1.weight", NULL},
        {"sd1", "unet.down_blocks.00.resnets.0.norm1.weight", NULL},
        {"sd1", "unet.up_blocks.4.resnets.0.norm1.weight", NULL},
        {"sd1", "unet.mid_block.resnets.0.norm3.weight", NULL},
        {"sd1", "vae.decoder.up_blocks.4.resnets.0.norm1.weight", NULL},
        {"sd2", "text_encoder.text_model.encoder.layers.23.mlp.fc2.bias", NULL},
    };
    int good = 1;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        good &= to_file(cases[i].arch, cases[i].name, cases[i].key);
    ok(good, "known names, and names that no configuration has");
}

/* Every parameter of a model, into the file's name and back. */
static int round_trip(struct sd_model_file *mf, enum sd_part part)
{
    const struct sd_model_config *c = sd_model_file_config(mf);
    const struct sd_part_names *n = sd_model_file_names(mf, part);
    struct sd_buf key = SD_BUF_INIT, back = SD_BUF_INIT;
    int good = sd_model_file_count(mf, part) > 0;
    for (size_t i = 0; i < sd_model_file_count(mf, part); i++) {
        const char *name = sd_model_file_entry(mf, part, i)->name;
        int slice, got = sd_name_to_file(c, n, name, &key, &slice);
        int same =
            got == 1 &&
            sd_name_from_file(c, part, n, key.data, slice < 0 ? 0 : slice, &back) == (slice < 0 ? 1 : 3) &&
            !strcmp(back.data, name);
        if (!same)
            printf("# %s does not come back from %s\n", name, got == 1 ? key.data : "nothing");
        good &= same;
    }
    sd_buf_free(&key);
    sd_buf_free(&back);
    return good;
}

static int same_values(const struct sd_store_entry *a, const struct sd_store_entry *b)
{
    size_t n = a->bytes / sd_store_dtype_bytes(a->dtype);
    if (n != b->bytes / sd_store_dtype_bytes(b->dtype))
        return 0;
    float *x = malloc((n + 1) * sizeof *x), *y = malloc((n + 1) * sizeof *y);
    sd_store_to_f32(a->dtype, a->data, n, x);
    sd_store_to_f32(b->dtype, b->data, n, y);
    int same = !memcmp(x, y, n * sizeof *x);
    free(x);
    free(y);
    return same;
}

/* Whether b has all parameters of a's part with the same values, and no others. */
static int same_part(struct sd_model_file *a, struct sd_model_file *b, enum sd_part part)
{
    size_t n = sd_model_file_count(a, part), bad = 0;
    for (size_t i = 0; i < n; i++) {
        struct sd_store_entry e;
        const struct sd_store_entry *want = sd_model_file_entry(a, part, i);
        if ((!sd_model_file_find(b, want->name, &e) || !same_values(want, &e)) && bad++ < 3)
            printf("# %s is missing or differs\n", want->name);
    }
    return n && !bad && n == sd_model_file_count(b, part);
}

static void test_original(void)
{
    struct sd_model_file *ours = open_model(OURS), *ldm = open_model(LDM), *ldm2 = open_model(LDM2);
    if (!ours || !ldm || !ldm2) {
        ok(0, "the fixtures open");
    } else {
        for (int p = 0; p < SD_PARTS; p++) {
            ok(same_part(ours, ldm, (enum sd_part)p), "sd-scripts' original file holds the same parameters");
            ok(round_trip(ldm, (enum sd_part)p), "and its names come back");
            ok(round_trip(ldm2, (enum sd_part)p), "so do SD2's");
        }
        struct sd_store_entry k;
        const struct sd_store_entry *fused =
            sd_tensor_file_find(sd_model_file_tensors(ldm2, SD_PART_TEXT),
                                "cond_stage_model.model.transformer.resblocks.1.attn.in_proj_weight");
        ok(fused &&
               sd_model_file_find(ldm2, "text_encoder.text_model.encoder.layers.1.self_attn.k_proj.weight",
                                  &k) &&
               k.ndim == 2 && k.shape[0] * 3 == fused->shape[0] && k.bytes * 3 == fused->bytes &&
               (const char *)k.data == (const char *)fused->data + k.bytes &&
               k.offset == fused->offset + k.bytes,
           "OpenCLIP's fused q, k, v are thirds of one tensor");
        ok(!sd_model_file_find(ldm2, "text_encoder.text_model.encoder.layers.2.self_attn.k_proj.weight", &k),
           "its last layer is left out");
    }
    sd_model_file_close(ours);
    sd_model_file_close(ldm);
    sd_model_file_close(ldm2);
}

/* --- other layouts, written here --- */

static const char *renamed(struct sd_arena *a, const char *name, const char *const *swaps)
{
    for (; swaps && *swaps; swaps += 2) {
        const char *at = strstr(name, swaps[0]);
        if (at)
            return sd_arena_printf(a, "%.*s%s%s", (int)(at - name), name, swaps[1], at + strlen(swaps[0]));
    }
    return name;
}

/* Writes a part of mf under prefix + its name without the part, words swapped. except leaves one parameter
 * out. */
static int write_part(struct sd_model_file *mf, enum sd_part part, const char *path, const char *prefix,
                      const char *const *swaps, const char *except, const char *json)
{
    struct sd_arena a = SD_ARENA_INIT;
    struct sd_err err = {0};
    size_t n = sd_model_file_count(mf, part), used = 0;
    struct sd_store_tensor *t = sd_arena_array(&a, n + 1, sizeof *t);
    struct sd_store_meta meta = {"sd_config", json};
    for (size_t i = 0; i < n; i++) {
        const struct sd_store_entry *e = sd_model_file_entry(mf, part, i);
        const char *rest;
        sd_part_of(e->name, &rest);
        if (except && !strcmp(rest, except))
            continue;
        t[used++] =
            (struct sd_store_tensor){.name = sd_arena_printf(&a, "%s%s", prefix, renamed(&a, rest, swaps)),
                                     .dtype = e->dtype,
                                     .ndim = e->ndim,
                                     .shape = e->shape,
                                     .data = e->data};
    }
    int rc = sd_store_write(path, t, used, json ? &meta : NULL, json != NULL, &err);
    if (rc)
        printf("# %s\n", err.msg);
    sd_arena_free(&a);
    return rc;
}

static const char *const old_vae[] = {"attentions.0.to_q",     "attentions.0.query",     "attentions.0.to_k",
                                      "attentions.0.key",      "attentions.0.to_v",      "attentions.0.value",
                                      "attentions.0.to_out.0", "attentions.0.proj_attn", NULL};
static const char *const bare_clip[] = {"text_model.", "", NULL};

static int write_config(struct sd_model_file *mf, const char *part, const char *path)
{
    const char *json = sd_tensor_file_meta(sd_model_file_tensors(mf, SD_PART_UNET), "sd_config");
    cJSON *all = cJSON_Parse(json);
    char *text = cJSON_Print(cJSON_GetObjectItem(all, part));
    struct sd_err err;
    int rc = text ? sd_atomic_put(path, text, strlen(text), &err) : -1;
    free(text);
    cJSON_Delete(all);
    return rc;
}

static void test_folder(struct sd_model_file *ours, struct sd_arena *a)
{
    int bad = mkdir(in_folder(a, "unet"), 0777) | mkdir(in_folder(a, "vae"), 0777) |
              mkdir(in_folder(a, "text_encoder"), 0777) | mkdir(in_folder(a, "scheduler"), 0777) |
              mkdir(in_folder(a, "tokenizer"), 0777);
    bad |= write_config(ours, "unet", in_folder(a, "unet/config.json")) |
           write_config(ours, "vae", in_folder(a, "vae/config.json")) |
           write_config(ours, "text_encoder", in_folder(a, "text_encoder/config.json"));
    const char *scheduler =
        "{\"prediction_type\": \"v_prediction\", \"beta_start\": 0.00085, \"beta_end\": 0.012}";
    bad |=
        sd_atomic_put(in_folder(a, "scheduler/scheduler_config.json"), scheduler, strlen(scheduler), NULL) |
        sd_atomic_put(in_folder(a, "tokenizer/special_tokens_map.json"), "{\"pad_token\": \"!\"}", 18, NULL);
    bad |=
        write_part(ours, SD_PART_UNET, in_folder(a, "unet/diffusion_pytorch_model.fp16.safetensors"), "",
                   NULL, NULL, NULL) |
        write_part(ours, SD_PART_VAE, in_folder(a, "vae/diffusion_pytorch_model.safetensors"), "", old_vae,
                   NULL, NULL) |
        write_part(ours, SD_PART_TEXT, in_folder(a, "text_encoder/model.safetensors"), "", NULL, NULL, NULL);
    struct sd_model_file *mf = bad ? NULL : open_model(folder);
    ok(mf && sd_model_file_is_folder(mf), "a diffusers folder opens");
    for (int p = 0; mf && p < SD_PARTS; p++)
        ok(same_part(ours, mf, (enum sd_part)p), "its part has the same parameters");
    ok(mf && sd_model_file_config(mf)->prediction == SD_PREDICT_V && sd_model_file_config(mf)->text.pad == 0,
       "its scheduler and tokenizer are heeded");
    sd_model_file_close(mf);
    mf = open_model(in_folder(a, "vae"));
    ok(mf && same_part(ours, mf, SD_PART_VAE) && !sd_model_file_has(mf, SD_PART_UNET),
       "a folder of a VAE alone");
    sd_model_file_close(mf);

    struct sd_err err = {0};
    unlink(in_folder(a, "vae/diffusion_pytorch_model.safetensors"));
    mf = open_model(folder);
    ok(mf && sd_model_file_need(mf, SD_PART_VAE, &err) && strstr(err.msg, "no VAE in this model") &&
           !sd_model_file_need(mf, SD_PART_UNET, &err),
       "a folder without the VAE's weights still has its U-Net");
    sd_model_file_close(mf);
    sd_atomic_put(in_folder(a, "vae/config.json"), "{\"block_out_channels\": 5}", 25, NULL);
    ok(sd_model_file_open(&mf, folder, &err) && strstr(err.msg, "vae/config.json: block_out_channels"),
       "a wrong config.json is named");
}

static void test_single_parts(struct sd_model_file *ours, struct sd_arena *a)
{
    const char *json = sd_tensor_file_meta(sd_model_file_tensors(ours, SD_PART_UNET), "sd_config");
    struct sd_model_file *mf = NULL;
    char *path = in_folder(a, "part.safetensors");
    const struct {
        const char *what;
        enum sd_part part;
        const char *prefix;
        const char *const *swaps;
    } cases[] = {
        {"a VAE with diffusers' names", SD_PART_VAE, "", NULL},
        {"a VAE with old names", SD_PART_VAE, "", old_vae},
        {"a text encoder of early transformers", SD_PART_TEXT, "cond_stage_model.transformer.", bare_clip},
        {"a U-Net with diffusers' names", SD_PART_UNET, "", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int bad = write_part(ours, cases[i].part, path, cases[i].prefix, cases[i].swaps, NULL, json);
        mf = bad ? NULL : open_model(path);
        ok(mf && same_part(ours, mf, cases[i].part) && round_trip(mf, cases[i].part) &&
               sd_model_file_has(mf, SD_PART_UNET) == (cases[i].part == SD_PART_UNET),
           "%s", cases[i].what);
        sd_model_file_close(mf);
    }
    unlink(path);
}

/* --- models that are wrong --- */

static void test_check(struct sd_model_file *ours)
{
    struct sd_model_file *ldm = open_model(LDM);
    size_t n = sd_model_file_count(ours, SD_PART_VAE);
    struct sd_model_param *p = calloc(n + 4, sizeof *p);
    struct sd_err err = {0};
    size_t q = 0;
    for (size_t i = 0; i < n; i++) {
        const struct sd_store_entry *e = sd_model_file_entry(ours, SD_PART_VAE, i);
        p[i] = (struct sd_model_param){e->name, e->ndim, e->shape};
        if (!strcmp(e->name, "vae.encoder.mid_block.attentions.0.to_q.weight"))
            q = i;
    }
    ok(!sd_model_file_check(ldm, SD_PART_VAE, p, n, &err), "1x1 convolutions pass for linear layers");
    const int64_t other[] = {9, 9};
    p[q].shape = other;
    ok(sd_model_file_check(ldm, SD_PART_VAE, p, n, &err) && strstr(err.msg, LDM ": ") &&
           strstr(err.msg, "1 of another shape (vae.encoder.mid_block.attentions.0.to_q.weight "
                           "[8,8,1,1] instead of [9,9])"),
       "a misshapen tensor");
    p[q] = p[n - 1];
    ok(sd_model_file_check(ldm, SD_PART_VAE, p, n - 1, &err) &&
           strstr(err.msg, "1 unknown (vae.encoder.mid_block.attentions.0.to_q.weight)"),
       "a tensor too many");
    for (int i = 0; i < 5; i++)
        p[i].name = (const char *const[]){"vae.a", "vae.b", "vae.c", "vae.d", "vae.e"}[i];
    ok(sd_model_file_check(ldm, SD_PART_VAE, p, n - 1, &err) &&
           strstr(err.msg, "5 missing (vae.a, vae.b, vae.c, ...)"),
       "missing tensors, of which the first few are named");
    free(p);
    sd_model_file_close(ldm);
}

static int write_shapes(const char *path, const char *const *names, const int64_t (*shapes)[4],
                        const int *ndim, size_t n)
{
    struct sd_store_tensor t[4];
    void *zeros = calloc(1280, 4096);
    for (size_t i = 0; i < n; i++)
        t[i] = (struct sd_store_tensor){
            .name = names[i], .dtype = SD_STORE_U8, .ndim = ndim[i], .shape = shapes[i], .data = zeros};
    int rc = zeros ? sd_store_write(path, t, n, NULL, 0, NULL) : -1;
    free(zeros);
    return rc;
}

static int detected(const char *path, int64_t in, int64_t context, const char *vae, const char *want)
{
    const char *const names[] = {
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight",
        "encoder.conv_in.weight", "encoder.down.0.block.0.norm1.weight"};
    const int64_t shapes[4][4] = {{320, in, 3, 3}, {1280, context}, {128, 3, 3, 3}, {128}};
    const int ndim[] = {4, 2, 4, 1};
    int skip = vae ? 2 : 0;
    struct sd_model_file *mf;
    struct sd_err err = {0};
    if (write_shapes(path, names + skip, shapes + skip, ndim + skip, 2))
        return 0;
    int good = sd_model_file_open(&mf, path, &err)
                   ? !want && strstr(err.msg, "shapes are not those of Stable Diffusion")
                   : want && !strcmp(sd_model_file_config(mf)->name, want) &&
                         (vae || sd_model_file_config(mf)->unet.in_channels == in);
    if (!good)
        printf("# context %d: %s\n", (int)context, mf ? sd_model_file_config(mf)->name : err.msg);
    sd_model_file_close(mf);
    return good;
}

static void test_detection(struct sd_arena *a)
{
    char *path = in_folder(a, "shapes.safetensors");
    ok(detected(path, 4, 768, NULL, "sd1"), "SD1 by its shapes");
    ok(detected(path, 4, 1024, NULL, "sd2"), "SD2 by its shapes");
    ok(detected(path, 9, 768, NULL, "sd1"), "an inpainting model by its shapes");
    ok(detected(path, 4, 2048, NULL, NULL), "a model of another kind is refused");
    ok(detected(path, 0, 0, "vae", "sd1"), "a VAE without a prefix by its shapes");
    unlink(path);
    struct sd_model_file *mf;
    struct sd_err err = {0};
    ok(sd_model_file_open(&mf, "t/data/store/types.safetensors", &err) &&
           strstr(err.msg, "not a Stable Diffusion model"),
       "a file of other tensors");
    ok(sd_model_file_open(&mf, "t/data/store", &err) && strstr(err.msg, "no unet/config.json"),
       "a folder of other files");
    ok(sd_model_file_open(&mf, "t/data/nothing", &err) && strstr(err.msg, "t/data/nothing: No such file"),
       "no file");
}

/* --- configurations --- */

static int same_text(const struct sd_model_config *a, const struct sd_model_config *b)
{
    struct sd_buf x = SD_BUF_INIT, y = SD_BUF_INIT;
    int same = !sd_model_config_write(&x, a) && !sd_model_config_write(&y, b) && !strcmp(x.data, y.data) &&
               a->text.pad == b->text.pad;
    sd_buf_free(&x);
    sd_buf_free(&y);
    return same;
}

static void test_builtin(void)
{
    for (const char *const *arch = sd_model_config_names; *arch; arch++) {
        const struct sd_model_config *c = sd_model_config_builtin(*arch);
        struct sd_model_config back = *sd_model_config_builtin("sd1");
        struct sd_buf b = SD_BUF_INIT;
        struct sd_err err = {0};
        ok(!sd_model_config_check(c, &err) && !sd_model_config_write(&b, c) &&
               !sd_model_config_parse_text(&back, b.data, &err) && same_text(c, &back) &&
               !strcmp(back.name, *arch),
           "%s", *arch);
        sd_buf_free(&b);
    }
    struct sd_model_file *mf = open_model("contrib/tiny/sd.safetensors");
    ok(mf && same_text(sd_model_file_config(mf), sd_model_config_builtin("tiny")),
       "the tiny model is what its file says it is");
    sd_model_file_close(mf);
    ok(!sd_model_config_builtin("sd3"), "no other name");
}

static void test_refused_configs(void)
{
    static const struct {
        const char *json, *expect;
    } cases[] = {
        {"{\"unet\": 3}", "unet: not a JSON object"},
        {"{\"unet\": {}}", "unet: block_out_channels: expected a list"},
        {"{\"unet\": {\"class_embed_type\": \"timestep\"}}",
         "class_embed_type is \"timestep\", only null is supported"},
        {"{\"unet\": {\"addition_embed_type\": \"text_time\"}}", "addition_embed_type is \"text_time\""},
        {"{\"unet\": {\"dual_cross_attention\": true}}",
         "dual_cross_attention is true, only false is supported"},
        {"{\"unet\": {\"only_cross_attention\": [false, true]}}", "only_cross_attention is true"},
        {"{\"unet\": {\"block_out_channels\": [8], \"down_block_types\": [\"AttnDownBlock2D\"]}}",
         "down_block_types: AttnDownBlock2D is not supported, only DownBlock2D and CrossAttnDownBlock2D"},
        {"{\"unet\": {\"block_out_channels\": [8], \"down_block_types\": []}}",
         "down_block_types: expected a list of 1"},
        {"{\"unet\": {\"block_out_channels\": [8,8,8,8,8,8,8,8,8]}}", "expected a list of 1 to 8"},
        {"{\"unet\": {\"block_out_channels\": [30], \"down_block_types\": [\"DownBlock2D\"], "
         "\"up_block_types\": "
         "[\"UpBlock2D\"]}}",
         "unet: block_out_channels 30 cannot be divided into 32 groups"},
        {"{\"unet\": {\"block_out_channels\": [32], \"down_block_types\": [\"DownBlock2D\"], "
         "\"up_block_types\": "
         "[\"UpBlock2D\"], \"attention_head_dim\": 7}}",
         "unet: block_out_channels 32 cannot be divided into 7 heads"},
        {"{\"unet\": {\"block_out_channels\": [32], \"down_block_types\": [\"DownBlock2D\"], "
         "\"up_block_types\": "
         "[\"UpBlock2D\"], \"cross_attention_dim\": 1.5}}",
         "cross_attention_dim: expected a whole number"},
        {"{\"vae\": {\"shift_factor\": 0.1}}", "vae: shift_factor is 0.1, only null is supported"},
        {"{\"vae\": {\"block_out_channels\": [32], \"down_block_types\": [\"X\"]}}",
         "vae: down_block_types: X"},
        {"{\"text_encoder\": {\"hidden_act\": \"relu\"}}", "text_encoder: hidden_act"},
        {"{\"text_encoder\": {\"model_type\": \"t5\"}}", "text_encoder: model_type is \"t5\""},
        {"{\"text_encoder\": {\"num_attention_heads\": 0}}", "num_attention_heads"},
        {"{\"scheduler\": {\"prediction_type\": \"sample\"}}", "scheduler: prediction_type: sample"},
        {"{\"scheduler\": {\"beta_end\": 0.02}}", "scheduler: beta_end is 0.02"},
        {"[]", "not a JSON object"},
        {"{", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sd_model_config c = *sd_model_config_builtin("sd1");
        struct sd_err err = {0};
        int rc = sd_model_config_parse_text(&c, cases[i].json, &err);
        ok(rc && strstr(err.msg, cases[i].expect) && same_text(&c, sd_model_config_builtin("sd1")), "%s",
           cases[i].expect);
        if (!rc || !strstr(err.msg, cases[i].expect))
            printf("# %s\n", err.msg);
    }
}

int main(void)
{
    const char *tmp = getenv("TMPDIR");
    struct sd_arena a = SD_ARENA_INIT;
    snprintf(folder, sizeof folder, "%s/sd-names-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    test_known_names();
    test_averages();
    test_original();
    struct sd_model_file *ours = open_model(OURS);
    if (ours) {
        test_folder(ours, &a);
        test_single_parts(ours, &a);
        test_check(ours);
    }
    sd_model_file_close(ours);
    test_detection(&a);
    test_builtin();
    test_refused_configs();
    char *clean = sd_arena_printf(&a, "rm -r '%s'", folder);
    ok(clean && !system(clean), "cleaned up");
    sd_arena_free(&a);
    return tap_end();
}
