/* sd-inspect: headers and metadata of tensor files as records. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/filemap.h"
#include "base/json.h"
#include "cmd.h"
#include "model/model_file.h"
#include "store/npz.h"

struct inspect {
    struct sd_cmd c;
    bool metadata_only, tensors_only, parameters;
    struct sd_model_file *model; /* of the argument at hand, under --parameters; else NULL */
    struct sd_buf scratch;
};

/* Names from files may hold control characters, which a terminal should not get. */
static void warn(struct inspect *in, const struct sd_err *err)
{
    char text[sizeof err->msg];
    memcpy(text, err->msg, sizeof text);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    cmd_warn(&in->c, "%s", text);
    cmd_status(&in->c, err->code ? err->code : SD_ERR_DATA);
}

static void fail(struct inspect *in, const char *path, const struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    const char *msg = err->msg;
    size_t n = strlen(path);
    warn(in, err);
    if (!strncmp(msg, path, n) && !strncmp(msg + n, ": ", 2))
        msg += n + 2;
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "file", path) || sd_record_set_error(&r, "sd-inspect", msg))
        cmd_status(&in->c, SD_ERR_MACHINE);
    cmd_put_next(&in->c, &r);
    sd_record_free(&r);
}

/* Sets "metadata" to the pairs as an object of strings. */
static int set_metadata(struct inspect *in, struct sd_record *r, const struct sd_store_meta *meta,
                        size_t count)
{
    struct sd_buf *b = &in->scratch;
    sd_buf_clear(b);
    int bad = sd_buf_addc(b, '{');
    for (size_t i = 0; i < count && !bad; i++)
        bad = (i && sd_buf_addc(b, ',')) || sd_json_add_string(b, meta[i].key, strlen(meta[i].key)) ||
              sd_buf_addc(b, ':') || sd_json_add_string(b, meta[i].value, strlen(meta[i].value));
    return bad || sd_buf_addc(b, '}') || sd_record_set_raw(r, "metadata", b->data, b->len);
}

static int set_model(struct inspect *in, struct sd_record *r)
{
    const char *parts[SD_PARTS];
    size_t n = 0;
    for (int p = 0; p < SD_PARTS; p++)
        if (sd_model_file_has(in->model, (enum sd_part)p))
            parts[n++] = sd_part_name((enum sd_part)p);
    return sd_record_set_string(r, "model", sd_model_file_config(in->model)->name) ||
           sd_record_set_strings(r, "parts", parts, n);
}

/* The line about the file as a whole. */
static void put_file(struct inspect *in, const char *path, const char *format, size_t tensors, uint64_t bytes,
                     const struct sd_store_meta *meta, size_t meta_count)
{
    struct sd_record r = SD_RECORD_INIT;
    if (in->tensors_only)
        return;
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "file", path) || sd_record_set_string(&r, "format", format) ||
        sd_record_set_int(&r, "tensors", (int64_t)tensors) ||
        sd_record_set_int(&r, "bytes", (int64_t)bytes) || (in->model && set_model(in, &r)) ||
        set_metadata(in, &r, meta, meta_count))
        cmd_status(&in->c, SD_ERR_MACHINE);
    cmd_put_next(&in->c, &r);
    sd_record_free(&r);
}

/* Sets "parameter" to what the model calls this tensor: a name, or three where q, k and v are one tensor. */
static int set_parameter(struct inspect *in, struct sd_record *r, const char *path, const char *key)
{
    for (int p = 0; p < SD_PARTS; p++) {
        const struct sd_tensor_file *tf = sd_model_file_tensors(in->model, (enum sd_part)p);
        const struct sd_part_names *names = sd_model_file_names(in->model, (enum sd_part)p);
        const struct sd_model_config *config = sd_model_file_config(in->model);
        if (!tf || strcmp(sd_tensor_file_path(tf), path) ||
            sd_name_is_surplus(config, (enum sd_part)p, names, key))
            continue;
        int n = sd_name_from_file(config, (enum sd_part)p, names, key, 0, &in->scratch);
        if (n == 1)
            return sd_record_set_string(r, "parameter", in->scratch.data);
        if (n < 1)
            continue;
        char *list[3] = {NULL, NULL, NULL};
        int bad = 0;
        for (int i = 0; i < n; i++)
            bad |= sd_name_from_file(config, (enum sd_part)p, names, key, i, &in->scratch) != n ||
                   !(list[i] = strdup(in->scratch.data));
        bad = bad || sd_record_set_strings(r, "parameter", (const char *const *)list, (size_t)n);
        for (int i = 0; i < n; i++)
            free(list[i]);
        return bad;
    }
    return 0;
}

static void put_tensor(struct inspect *in, const char *path, const struct sd_store_entry *e)
{
    struct sd_record r = SD_RECORD_INIT;
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "file", path) || sd_record_set_string(&r, "tensor", e->name) ||
        sd_record_set_string(&r, "dtype", sd_store_dtype_name(e->dtype)) ||
        sd_record_set_ints(&r, "shape", e->shape, (size_t)e->ndim) ||
        sd_record_set_int(&r, "bytes", (int64_t)e->bytes) ||
        sd_record_set_int(&r, "offset", (int64_t)e->offset) ||
        (!e->data && sd_record_set_bool(&r, "deflated", true)) ||
        (in->model && set_parameter(in, &r, path, e->name)))
        cmd_status(&in->c, SD_ERR_MACHINE);
    cmd_put_next(&in->c, &r);
    sd_record_free(&r);
}

static void inspect_npz(struct inspect *in, const char *path)
{
    struct sd_npz *z;
    struct sd_err err = {0};
    uint64_t bytes = 0;
    if (sd_npz_open(&z, path, &err)) {
        fail(in, path, &err);
        return;
    }
    for (size_t i = 0; i < sd_npz_count(z); i++)
        bytes += sd_npz_entry(z, i)->bytes;
    put_file(in, path, "npz", sd_npz_count(z), bytes, NULL, 0);
    for (size_t i = 0; i < sd_npz_count(z) && !in->metadata_only && !cmd_stopped(&in->c); i++)
        put_tensor(in, path, sd_npz_entry(z, i));
    sd_npz_close(z);
}

static void inspect_safetensors(struct inspect *in, const char *path)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    uint64_t bytes = 0;
    size_t meta_count;
    if (sd_tensor_file_open(&tf, path, &err)) {
        fail(in, path, &err);
        return;
    }
    size_t n = sd_tensor_file_count(tf);
    for (size_t i = 0; i < n; i++)
        bytes += sd_tensor_file_entry(tf, i)->bytes;
    const struct sd_store_meta *meta = sd_tensor_file_metadata(tf, &meta_count);
    put_file(in, path, "safetensors", n, bytes, meta, meta_count);
    for (size_t i = 0; i < n && !in->metadata_only && !cmd_stopped(&in->c); i++)
        put_tensor(in, path, sd_tensor_file_entry(tf, i));
    sd_tensor_file_close(tf);
}

/* By content, not by name: every zip begins alike, and no safetensors header is that long. */
static void inspect_file(struct inspect *in, const char *path)
{
    struct sd_filemap map;
    struct sd_err err = {0};
    if (sd_filemap_open(&map, path, &err)) {
        fail(in, path, &err);
        return;
    }
    bool zip = map.size >= 4 && (!memcmp(map.data, "PK\3\4", 4) || !memcmp(map.data, "PK\5\6", 4));
    sd_filemap_close(&map);
    if (zip)
        inspect_npz(in, path);
    else
        inspect_safetensors(in, path);
}

static bool is_tensor_file(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcmp(dot, ".safetensors") || !strcmp(dot, ".npz"));
}

/* The tensor files of a folder and of the folders in it, by name. Returns how many. */
static size_t inspect_folder(struct inspect *in, const char *folder, int depth)
{
    struct dirent **list;
    size_t found = 0;
    int n = scandir(folder, &list, NULL, alphasort);
    if (n < 0) {
        struct sd_err err = {0};
        sd_err_errno(&err, folder);
        fail(in, folder, &err);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        struct stat st;
        if (list[i]->d_name[0] != '.' && asprintf(&path, "%s/%s", folder, list[i]->d_name) > 0 &&
            !stat(path, &st)) {
            if (S_ISDIR(st.st_mode) && depth > 0) {
                found += inspect_folder(in, path, depth - 1);
            } else if (S_ISREG(st.st_mode) && is_tensor_file(list[i]->d_name)) {
                inspect_file(in, path);
                found++;
            }
        }
        free(path);
        free(list[i]);
    }
    free(list);
    return found;
}

static void inspect_argument(struct inspect *in, const char *path)
{
    struct stat st;
    struct sd_err err = {0};
    if (in->parameters && sd_model_file_open(&in->model, path, &err))
        warn(in, &err);
    if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        inspect_file(in, path);
    } else if (!inspect_folder(in, path, 4)) {
        sd_err_set(&err, SD_ERR_DATA, "%s: no .safetensors or .npz file in this folder", path);
        fail(in, path, &err);
    }
    sd_model_file_close(in->model);
    in->model = NULL;
}

int main(int argc, char **argv)
{
    struct inspect in = {0};
    const struct sd_option options[] = {
        {SD_OPT_BOOL("metadata-only", 0, &in.metadata_only, "only the line about each file, no tensors")},
        {SD_OPT_BOOL("tensors-only", 0, &in.tensors_only, "only the tensors, no line about the file")},
        {SD_OPT_BOOL("parameters", 0, &in.parameters,
                     "tell the model's kind, and which of its parameters each tensor is")},
        SD_OPT_END};
    in.c = (struct sd_cmd){.program = {.name = "sd-inspect",
                                       .args = "FILE|FOLDER...",
                                       .summary = "show the header and metadata of tensor files as records",
                                       .options = options,
                                       .min_args = 1,
                                       .max_args = -1},
                           .source = true};
    cmd_start(&in.c, &argc, argv);
    if (in.metadata_only && in.tensors_only)
        cmd_usage(&in.c, "--metadata-only and --tensors-only exclude each other");
    for (int i = 1; i < argc && !cmd_stopped(&in.c); i++)
        inspect_argument(&in, argv[i]);
    sd_buf_free(&in.scratch);
    return cmd_finish(&in.c);
}
