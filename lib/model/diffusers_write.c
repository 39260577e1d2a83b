#include "model/diffusers_write.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/atomic.h"
#include "base/file.h"
#include "base/json.h"
#include "model/config_json.h"
#include "text/clip_files.h"

#define VERSION "0.32.1" /* of diffusers, whose form this is */
#define TEXT_LIMIT ((size_t)64 << 20)

static bool alone(const struct sd_diffusers_files *f)
{
    return f->has[SD_PART_UNET] + f->has[SD_PART_VAE] + f->has[SD_PART_TEXT] == 1;
}

static int put(struct sd_folder *to, const char *name, const char *bytes, size_t len, struct sd_err *err)
{
    struct sd_buf path = SD_BUF_INIT;
    int rc = sd_buf_addf(&path, "%s/%s", sd_folder_path(to), name)
                 ? sd_err_memory(err, strlen(name))
                 : sd_atomic_put(path.data, bytes, len, err);
    sd_buf_free(&path);
    return rc;
}

/* Writes and deletes the tree. */
static int put_json(struct sd_folder *to, const char *name, cJSON *json, struct sd_err *err)
{
    char *text = json ? cJSON_Print(json) : NULL;
    struct sd_buf lines = SD_BUF_INIT;
    int rc = !text || sd_buf_addf(&lines, "%s\n", text) ? sd_err_memory(err, 0)
                                                        : put(to, name, lines.data, lines.len, err);
    sd_buf_free(&lines);
    cJSON_free(text);
    cJSON_Delete(json);
    return rc;
}

static int put_text(struct sd_folder *to, const char *name, const char *json, struct sd_err *err)
{
    cJSON *tree = sd_json_parse(json, strlen(json), err);
    return tree ? put_json(to, name, tree, err) : -1;
}

static bool all_ones(const cJSON *list)
{
    for (const cJSON *item = list ? list->child : NULL; item; item = item->next)
        if (item->valueint != 1)
            return false;
    return true;
}

/* What only their own readers look for, and what older ones want in another form. */
static int complete(cJSON *part, enum sd_part p, const struct sd_model_config *c, struct sd_err *err)
{
    bool good = true;
    if (p == SD_PART_TEXT) {
        static const struct {
            const char *name;
            double value;
        } more[] = {{"attention_dropout", 0},    {"dropout", 0},      {"initializer_factor", 1},
                    {"initializer_range", 0.02}, {"bos_token_id", 0}, {"eos_token_id", 2},
                    {"pad_token_id", 1}};
        for (size_t i = 0; i < sizeof more / sizeof *more; i++)
            good = good && cJSON_AddNumberToObject(part, more[i].name, more[i].value);
        good = good && cJSON_AddNumberToObject(part, "projection_dim", (double)c->text.width);
    } else {
        good = cJSON_AddStringToObject(part, "_diffusers_version", VERSION) &&
               cJSON_AddStringToObject(part, "act_fn", "silu");
        if (p == SD_PART_VAE)
            good = good && cJSON_AddNumberToObject(part, "sample_size", 8.0 * (double)c->unet.sample_size);
        if (all_ones(cJSON_GetObjectItemCaseSensitive(part, "transformer_layers_per_block")))
            cJSON_DeleteItemFromObjectCaseSensitive(part, "transformer_layers_per_block");
    }
    return good ? 0 : sd_err_memory(err, 0);
}

static int put_config(struct sd_folder *to, const struct sd_diffusers_files *f, enum sd_part p,
                      struct sd_err *err)
{
    struct sd_buf text = SD_BUF_INIT;
    char name[64];
    int rc = sd_model_config_write(&text, f->config) ? sd_err_memory(err, text.len) : 0;
    cJSON *whole = rc ? NULL : sd_json_parse(text.data, text.len, err);
    cJSON *part = whole ? cJSON_DetachItemFromObjectCaseSensitive(whole, sd_part_name(p)) : NULL;
    cJSON_Delete(whole);
    sd_buf_free(&text);
    if (!part)
        return -1;
    if (complete(part, p, f->config, err)) {
        cJSON_Delete(part);
        return -1;
    }
    snprintf(name, sizeof name, "%s%sconfig.json", alone(f) ? "" : sd_part_name(p), alone(f) ? "" : "/");
    return put_json(to, name, part, err);
}

/* REFERENCE/name, or NULL in *path where there is no such file. */
static int find(const struct sd_diffusers_files *f, const char *name, char **path, struct sd_err *err)
{
    struct sd_buf b = SD_BUF_INIT;
    struct stat st;
    *path = NULL;
    if (!f->reference)
        return 0;
    if (sd_buf_addf(&b, "%s/%s", f->reference, name))
        return sd_err_memory(err, strlen(name));
    if (!stat(b.data, &st) && S_ISREG(st.st_mode))
        *path = b.data;
    else
        sd_buf_free(&b);
    return 0;
}

/* *class_name is the scheduler's, for free(). */
static int put_scheduler(struct sd_folder *to, const struct sd_diffusers_files *f, char **class_name,
                         struct sd_err *err)
{
    static const char ddim[] =
        "{\"_class_name\":\"DDIMScheduler\",\"_diffusers_version\":\"" VERSION "\",\"beta_start\":0.00085,"
        "\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\",\"num_train_timesteps\":1000,"
        "\"clip_sample\":false,\"set_alpha_to_one\":false,\"steps_offset\":1,\"trained_betas\":null}";
    static const char name[] = "scheduler/scheduler_config.json";
    char *path;
    if (sd_folder_make(to, "scheduler", err) || find(f, name, &path, err))
        return -1;
    cJSON *json = path ? sd_json_read(path, err) : sd_json_parse(ddim, sizeof ddim - 1, err);
    const cJSON *class = json ? sd_json_get(json, "_class_name") : NULL;
    int rc = json ? 0 : -1;
    if (!rc && !cJSON_IsString(class))
        rc = sd_err_set(err, SD_ERR_DATA, "%s: no _class_name, expected a scheduler's", path);
    free(path);
    if (!rc) {
        const char *type = f->config->prediction == SD_PREDICT_V ? "v_prediction" : "epsilon";
        *class_name = strdup(class->valuestring);
        cJSON_DeleteItemFromObjectCaseSensitive(json, "prediction_type");
        if (*class_name && cJSON_AddStringToObject(json, "prediction_type", type))
            return put_json(to, name, json, err);
        rc = sd_err_memory(err, 0);
    }
    cJSON_Delete(json);
    return rc;
}

static int copy(struct sd_folder *to, const char *name, const char *path, struct sd_err *err)
{
    struct sd_buf bytes = SD_BUF_INIT;
    int rc = sd_file_read(path, TEXT_LIMIT, &bytes, err) || put(to, name, bytes.data, bytes.len, err);
    sd_buf_free(&bytes);
    return rc ? -1 : 0;
}

/* The built-in vocabulary. */
static int put_clip(struct sd_folder *to, enum sd_clip_kind kind, struct sd_err *err)
{
    struct sd_buf vocab = SD_BUF_INIT, merges = SD_BUF_INIT, config = SD_BUF_INIT, special = SD_BUF_INIT;
    int rc = sd_clip_vocab_json(&vocab) || sd_clip_merges_txt(&merges) ||
                     sd_clip_tokenizer_config(&config, kind) || sd_clip_special_tokens(&special, kind)
                 ? sd_err_memory(err, vocab.len)
                 : put(to, "tokenizer/vocab.json", vocab.data, vocab.len, err) ||
                       put(to, "tokenizer/merges.txt", merges.data, merges.len, err) ||
                       put_text(to, "tokenizer/tokenizer_config.json", config.data, err) ||
                       put_text(to, "tokenizer/special_tokens_map.json", special.data, err);
    sd_buf_free(&vocab);
    sd_buf_free(&merges);
    sd_buf_free(&config);
    sd_buf_free(&special);
    return rc ? -1 : 0;
}

static int put_tokenizer(struct sd_folder *to, const struct sd_diffusers_files *f, struct sd_err *err)
{
    static const char *const names[] = {"tokenizer/vocab.json",
                                        "tokenizer/merges.txt",
                                        "tokenizer/tokenizer_config.json",
                                        "tokenizer/special_tokens_map.json",
                                        "tokenizer/added_tokens.json",
                                        "tokenizer/tokenizer.json"};
    size_t found = 0;
    if (sd_folder_make(to, "tokenizer", err))
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path;
        if (find(f, names[i], &path, err))
            return -1;
        found += path != NULL;
        int rc = path ? copy(to, names[i], path, err) : 0;
        free(path);
        if (rc)
            return -1;
    }
    return found ? 0 : put_clip(to, f->config->text.pad == 0 ? SD_CLIP_SD2 : SD_CLIP_SD1, err);
}

static int put_index(struct sd_folder *to, const char *scheduler, struct sd_err *err)
{
    static const char *const members[][3] = {{"image_encoder", NULL, NULL},
                                             {"feature_extractor", NULL, NULL},
                                             {"safety_checker", NULL, NULL},
                                             {"scheduler", "diffusers", NULL},
                                             {"text_encoder", "transformers", "CLIPTextModel"},
                                             {"tokenizer", "transformers", "CLIPTokenizer"},
                                             {"unet", "diffusers", "UNet2DConditionModel"},
                                             {"vae", "diffusers", "AutoencoderKL"}};
    struct sd_buf b = SD_BUF_INIT;
    int bad = sd_buf_adds(&b, "{\"_class_name\":\"StableDiffusionPipeline\",\"_diffusers_version\":\"" VERSION
                              "\",\"requires_safety_checker\":false");
    for (size_t i = 0; i < sizeof members / sizeof *members && !bad; i++) {
        const char *const *m = members[i], *class = m[1] && !m[2] ? scheduler : m[2];
        bad = sd_buf_addf(&b, ",\"%s\":[", m[0]) ||
              (m[1] ? sd_buf_addf(&b, "\"%s\",", m[1]) || sd_json_add_string(&b, class, strlen(class))
                    : sd_buf_adds(&b, "null,null")) ||
              sd_buf_addc(&b, ']');
    }
    bad = bad || sd_buf_addc(&b, '}');
    int rc = bad ? sd_err_memory(err, b.len) : put_text(to, "model_index.json", b.data, err);
    sd_buf_free(&b);
    return rc;
}

int sd_diffusers_write(struct sd_folder *to, const struct sd_diffusers_files *f, struct sd_err *err)
{
    char *scheduler = NULL;
    for (int p = 0; p < SD_PARTS; p++)
        if (f->has[p] && ((!alone(f) && sd_folder_make(to, sd_part_name((enum sd_part)p), err)) ||
                          put_config(to, f, (enum sd_part)p, err)))
            return -1;
    if (alone(f))
        return 0;
    int rc = (f->has[SD_PART_UNET] && put_scheduler(to, f, &scheduler, err)) ||
             (f->has[SD_PART_TEXT] && put_tokenizer(to, f, err)) ||
             (f->has[SD_PART_UNET] && f->has[SD_PART_TEXT] && f->has[SD_PART_VAE] &&
              put_index(to, scheduler, err));
    free(scheduler);
    return rc ? -1 : 0;
}

int sd_diffusers_weights(struct sd_buf *out, const struct sd_diffusers_files *f, enum sd_part p,
                         const char *ending)
{
    if (!alone(f) && (sd_buf_adds(out, sd_part_name(p)) || sd_buf_addc(out, '/')))
        return -1;
    const char *stem = p != SD_PART_TEXT         ? "diffusion_pytorch_model"
                       : !strcmp(ending, ".bin") ? "pytorch_model" /* transformers' other name */
                                                 : "model";
    return sd_buf_addf(out, "%s%s", stem, ending);
}

/* -- what may be replaced -------------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static bool starts_with(const char *s, const char *start)
{
    return !strncmp(s, start, strlen(start));
}

/* Beside the folders of a model lie few files, and only of these names. */
static bool is_of_a_model(const char *name, bool folder, bool inside)
{
    static const char *const folders[] = {
        "unet", "vae", "text_encoder", "scheduler", "tokenizer", "safety_checker", "feature_extractor"};
    static const char *const starts[] = {"model_index.json",        "config.json", "left-over.safetensors",
                                         "diffusion_pytorch_model", "model.",      "pytorch_model."};
    static const char *const endings[] = {".json", ".safetensors", ".bin", "merges.txt"};
    bool found = false;
    for (size_t i = 0; folder && !inside && i < sizeof folders / sizeof *folders; i++)
        found |= !strcmp(name, folders[i]);
    if (folder)
        return found;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        found |= ends_with(name, endings[i]);
    for (size_t i = 0; found && !inside && i < sizeof starts / sizeof *starts; i++)
        if (starts_with(name, starts[i]))
            return true;
    return found && inside;
}

/* Counts what is in a folder in *n; *index tells of a model's own configuration. */
static int look_into(const char *path, bool inside, size_t *n, bool *index, struct sd_err *err)
{
    DIR *dir = opendir(path);
    int rc = dir ? 0 : sd_err_errno(err, path);
    for (struct dirent *d; !rc && (d = readdir(dir));) {
        struct sd_buf name = SD_BUF_INIT;
        struct stat st;
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        ++*n;
        if (sd_buf_addf(&name, "%s/%s", path, d->d_name))
            rc = sd_err_memory(err, strlen(path));
        else if (lstat(name.data, &st))
            rc = sd_err_errno(err, name.data);
        else if (!(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) ||
                 !is_of_a_model(d->d_name, S_ISDIR(st.st_mode), inside))
            rc = sd_err_set(err, SD_ERR_DATA,
                            "%s: is no part of a diffusers model, so the folder it is in is not replaced",
                            name.data);
        else if (S_ISDIR(st.st_mode))
            rc = look_into(name.data, true, n, index, err);
        *index |= !rc && (!strcmp(d->d_name, "model_index.json") || !strcmp(d->d_name, "config.json"));
        sd_buf_free(&name);
    }
    if (dir)
        closedir(dir);
    return rc;
}

int sd_diffusers_replaceable(const char *path, struct sd_err *err)
{
    struct stat st;
    size_t n = 0;
    bool index = false;
    if (stat(path, &st))
        return errno == ENOENT ? 0 : sd_err_errno(err, path);
    if (!S_ISDIR(st.st_mode))
        return sd_err_set(err, SD_ERR_DATA, "%s: is a file, expected a folder or nothing", path);
    if (look_into(path, false, &n, &index, err))
        return -1;
    if (n && !index)
        return sd_err_set(err, SD_ERR_DATA, "%s: holds other files than a model's, so it is not replaced",
                          path);
    return 0;
}
