/* sd-inspect: what tensor files hold, as records: headers and metadata, and what their numbers say. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "adapter/identify.h"
#include "base/json.h"
#include "base/ordered.h"
#include "inspect.h"
#include "store/file_hash.h"
#include "store/tensor_file.h"
#include "store/tensor_stats.h"

/* Names from files may hold control characters, which a terminal should not get. */
void inspect_warn(struct inspect *in, const struct sd_err *err)
{
    char text[sizeof err->msg];
    memcpy(text, err->msg, sizeof text);
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    cmd_warn(&in->c, "%s", text);
    cmd_status(&in->c, err->code ? err->code : SD_ERR_DATA);
}

void inspect_fail(struct inspect *in, const char *path, const struct sd_err *err)
{
    struct sd_record r = SD_RECORD_INIT;
    const char *msg = err->msg;
    size_t n = strlen(path);
    inspect_warn(in, err);
    if (!strncmp(msg, path, n) && !strncmp(msg + n, ": ", 2))
        msg += n + 2;
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "file", path) || sd_record_set_error(&r, "sd-inspect", msg))
        cmd_status(&in->c, SD_ERR_MACHINE);
    cmd_put_next(&in->c, &r);
    sd_record_free(&r);
}

/* A string of the metadata; under --parse-metadata the object or array that it holds, on one line. */
static int add_value(struct inspect *in, const char *value)
{
    struct sd_buf *b = &in->scratch;
    size_t len = strlen(value), at = b->len;
    bool nested = in->parse_metadata && (value[0] == '{' || value[0] == '[');
    cJSON *tree = nested ? sd_json_parse(value, len, NULL) : NULL;
    cJSON_Delete(tree);
    if (!tree)
        return sd_json_add_string(b, value, len);
    if (sd_buf_add(b, value, len))
        return -1;
    for (; at < b->len; at++) /* line ends can only be white space: strings have them escaped */
        if (b->data[at] == '\n' || b->data[at] == '\r')
            b->data[at] = ' ';
    return 0;
}

/* Sets "metadata" to the pairs as an object. */
static int set_metadata(struct inspect *in, struct sd_record *r, const struct sd_store_meta *meta,
                        size_t count)
{
    struct sd_buf *b = &in->scratch;
    sd_buf_clear(b);
    int bad = sd_buf_addc(b, '{');
    for (size_t i = 0; i < count && !bad; i++)
        bad = (i && sd_buf_addc(b, ',')) || sd_json_add_string(b, meta[i].key, strlen(meta[i].key)) ||
              sd_buf_addc(b, ':') || add_value(in, meta[i].value);
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

static int set_hashes(struct inspect *in, struct sd_record *r, const struct sd_tensor_file *tf,
                      struct sd_err *err)
{
    struct sd_file_hash h;
    bool safetensors = !strcmp(sd_tensor_file_format(tf), "safetensors");
    if (sd_file_hash(sd_tensor_file_path(tf), safetensors ? tf : NULL, in->c.common.jobs, &h, err))
        return -1;
    int bad = sd_record_set_string(r, "sha256", h.sha256) || sd_record_set_string(r, "autov1", h.autov1) ||
              sd_record_set_bytes(r, "autov2", h.sha256, 10);
    if (!bad && safetensors)
        bad = sd_record_set_bytes(r, "autov3", h.data, 12) ||
              sd_record_set_string(r, "sshs_model_hash", h.model) ||
              sd_record_set_string(r, "sshs_legacy_hash", h.legacy);
    return bad ? sd_err_memory(err, sizeof h) : 0;
}

/* The line about the file as a whole. */
static void put_file(struct inspect *in, const struct sd_tensor_file *tf, const struct lora_report *lora)
{
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    size_t n = sd_tensor_file_count(tf), meta_count;
    uint64_t bytes = 0;
    if (in->tensors_only)
        return;
    for (size_t i = 0; i < n; i++)
        bytes += sd_tensor_file_entry(tf, i)->bytes;
    const struct sd_store_meta *meta = sd_tensor_file_metadata(tf, &meta_count);
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "file", sd_tensor_file_path(tf)) ||
        sd_record_set_string(&r, "format", sd_tensor_file_format(tf)) ||
        sd_record_set_int(&r, "tensors", (int64_t)n) || sd_record_set_int(&r, "bytes", (int64_t)bytes) ||
        (in->model && set_model(in, &r)) || (lora && lora_set_network(lora, &r)))
        cmd_status(&in->c, SD_ERR_MACHINE);
    if (in->hash && set_hashes(in, &r, tf, &err)) {
        inspect_warn(in, &err);
        sd_record_set_error(&r, "sd-inspect", err.msg);
    }
    if (set_metadata(in, &r, meta, meta_count))
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
        if (!tf || !sd_tensor_file_is_at(tf, path) || sd_name_is_surplus(config, (enum sd_part)p, names, key))
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

static int set_stats(struct sd_record *r, const struct sd_tensor_stats *s)
{
    return sd_record_set_double(r, "min", s->min) || sd_record_set_double(r, "max", s->max) ||
           sd_record_set_double(r, "mean", s->mean) || sd_record_set_double(r, "std", s->std) ||
           sd_record_set_double(r, "l2", s->l2) || sd_record_set_int(r, "nan", (int64_t)s->nan) ||
           sd_record_set_int(r, "inf", (int64_t)s->inf);
}

/* What --stats found out of a tensor. */
struct result {
    struct sd_tensor_stats stats;
    bool failed;
    struct sd_err err;
};

static void put_tensor(struct inspect *in, const struct sd_tensor_file *tf, const struct sd_store_entry *e,
                       const struct result *result)
{
    struct sd_record r = SD_RECORD_INIT;
    const char *path = sd_tensor_file_path(tf);
    bool npz = !strcmp(sd_tensor_file_format(tf), "npz");
    sd_record_reset(&r);
    if (sd_record_set_string(&r, "file", path) || sd_record_set_string(&r, "tensor", e->name) ||
        sd_record_set_string(&r, "dtype", sd_store_dtype_name(e->dtype)) ||
        sd_record_set_ints(&r, "shape", e->shape, (size_t)e->ndim) ||
        sd_record_set_int(&r, "bytes", (int64_t)e->bytes) ||
        sd_record_set_int(&r, "offset", (int64_t)e->offset) ||
        (!e->data && sd_record_set_bool(&r, npz ? "deflated" : "strided", true)) ||
        (in->model && set_parameter(in, &r, path, e->name)) ||
        (result && !result->failed && set_stats(&r, &result->stats)))
        cmd_status(&in->c, SD_ERR_MACHINE);
    if (result && result->failed) {
        inspect_warn(in, &result->err);
        sd_record_set_error(&r, "sd-inspect", result->err.msg);
    }
    cmd_put_next(&in->c, &r);
    sd_record_free(&r);
}

/* One file's tensors under --stats: computed side by side, put in order. */
struct measuring {
    struct inspect *in;
    const struct sd_tensor_file *tf;
    struct result *results; /* a ring */
    size_t window;
};

/* Tensors that the file does not hold as they are, and arrays of an npz, whose CRC is checked, are read
 * whole. */
static int measure_copy(const struct sd_tensor_file *tf, const struct sd_store_entry *e,
                        struct sd_tensor_stats *out, struct sd_err *err)
{
    struct sd_store_entry copy = *e;
    void *data = malloc(e->bytes + 1);
    int rc = data ? sd_tensor_file_read(tf, e, data, err) : sd_err_memory(err, e->bytes);
    if (!rc) {
        copy.data = data;
        copy.mapped = false;
        sd_tensor_stats(&copy, out);
    }
    free(data);
    return rc;
}

static void measure(void *ctx, int thread, size_t i)
{
    struct measuring *m = ctx;
    const struct sd_store_entry *e = sd_tensor_file_entry(m->tf, i);
    struct result *r = &m->results[i % m->window];
    (void)thread;
    *r = (struct result){0};
    if (cmd_stopped(&m->in->c))
        return;
    if (!e->data || !strcmp(sd_tensor_file_format(m->tf), "npz"))
        r->failed = measure_copy(m->tf, e, &r->stats, &r->err);
    else
        sd_tensor_stats(e, &r->stats);
}

static void put_measured(void *ctx, size_t i)
{
    struct measuring *m = ctx;
    if (!cmd_stopped(&m->in->c))
        put_tensor(m->in, m->tf, sd_tensor_file_entry(m->tf, i), &m->results[i % m->window]);
}

static int measure_tensors(struct inspect *in, const struct sd_tensor_file *tf, struct sd_err *err)
{
    struct measuring m = {.in = in, .tf = tf, .window = 4 * (size_t)in->c.common.jobs};
    if (!(m.results = calloc(m.window, sizeof *m.results)))
        return sd_err_memory(err, m.window * sizeof *m.results);
    const struct sd_ordered run = {.n = sd_tensor_file_count(tf),
                                   .window = m.window,
                                   .jobs = in->c.common.jobs,
                                   .work = measure,
                                   .finish = put_measured,
                                   .ctx = &m};
    int rc = sd_ordered_run(&run, err);
    free(m.results);
    return rc;
}

static void put_tensors(struct inspect *in, const struct sd_tensor_file *tf)
{
    struct sd_err err = {0};
    if (in->metadata_only)
        return;
    if (in->stats) {
        if (measure_tensors(in, tf, &err))
            inspect_warn(in, &err);
        return;
    }
    for (size_t i = 0; i < sd_tensor_file_count(tf) && !cmd_stopped(&in->c); i++)
        put_tensor(in, tf, sd_tensor_file_entry(tf, i), NULL);
}

static void inspect_tensors(struct inspect *in, const struct sd_tensor_file *tf)
{
    struct lora_report *lora = NULL;
    struct sd_err err = {0};
    if (in->lora && lora_report_new(&lora, in, sd_tensor_file_path(tf), &err)) {
        inspect_fail(in, sd_tensor_file_path(tf), &err);
        return;
    }
    put_file(in, tf, lora);
    if (!lora)
        put_tensors(in, tf);
    else if (!in->metadata_only)
        lora_put_modules(lora);
    lora_report_free(lora);
}

static void inspect_file(struct inspect *in, const char *path)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_open(&tf, path, &err)) {
        inspect_fail(in, path, &err);
        return;
    }
    if ((in->identify || in->lora) && !strcmp(sd_tensor_file_format(tf), "npz")) {
        sd_err_set(&err, SD_ERR_DATA, "%s: an npz archive is neither a model nor a network", path);
        inspect_fail(in, path, &err);
    } else if (in->identify) {
        inspect_identify(in, path);
    } else {
        inspect_tensors(in, tf);
    }
    sd_tensor_file_close(tf);
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
        inspect_fail(in, folder, &err);
        return 1;
    }
    for (int i = 0; i < n; i++) {
        char *path = NULL;
        struct stat st;
        if (list[i]->d_name[0] != '.' && asprintf(&path, "%s/%s", folder, list[i]->d_name) > 0 &&
            !stat(path, &st)) {
            if (S_ISDIR(st.st_mode) && depth > 0) {
                found += inspect_folder(in, path, depth - 1);
            } else if (S_ISREG(st.st_mode) && sd_tensor_file_named(list[i]->d_name)) {
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
        inspect_warn(in, &err);
    if (in->identify && sd_is_model_folder(path)) {
        inspect_identify(in, path);
    } else if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
        inspect_file(in, path);
    } else if (!inspect_folder(in, path, 4)) {
        sd_err_set(&err, SD_ERR_DATA, "%s: no tensor file in this folder", path);
        inspect_fail(in, path, &err);
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
        {SD_OPT_BOOL("stats", 0, &in.stats, "read the tensors: min, max, mean, std, l2, nan, inf of each")},
        {SD_OPT_BOOL("hash", 0, &in.hash,
                     "read the file: its hashes as web UIs and sd-scripts compute them")},
        {SD_OPT_BOOL("lora", 0, &in.lora,
                     "of LoRA and similar networks: their modules, ranks, alphas and norms, in place of the "
                     "tensors")},
        {SD_OPT_BOOL("identify", 0, &in.identify,
                     "tell only what each file or model folder is: kind, family, layout, what is missing")},
        {SD_OPT_BOOL("parse-metadata", 0, &in.parse_metadata,
                     "metadata that are JSON objects or arrays as such, not as strings")},
        SD_OPT_END};
    in.c = (struct sd_cmd){.program = {.name = "sd-inspect",
                                       .args = "FILE|FOLDER...",
                                       .summary = "show what tensor files hold, as records",
                                       .options = options,
                                       .min_args = 1,
                                       .max_args = -1},
                           .source = true};
    cmd_start(&in.c, &argc, argv);
    if (in.metadata_only && in.tensors_only)
        cmd_usage(&in.c, "--metadata-only and --tensors-only exclude each other");
    if (in.metadata_only && in.stats)
        cmd_usage(&in.c, "--stats is told of each tensor, which --metadata-only leaves out");
    if (in.identify &&
        (in.stats || in.lora || in.hash || in.parse_metadata || in.parameters || in.tensors_only))
        cmd_usage(&in.c, "--identify is told alone");
    if (in.stats && in.lora)
        cmd_usage(&in.c, "--stats is told of each tensor, in whose place --lora puts modules");
    if (in.tensors_only && (in.hash || in.parse_metadata))
        cmd_usage(&in.c, "--%s is told of each file, which --tensors-only leaves out",
                  in.hash ? "hash" : "parse-metadata");
    for (int i = 1; i < argc && !cmd_stopped(&in.c); i++)
        inspect_argument(&in, argv[i]);
    sd_buf_free(&in.scratch);
    return cmd_finish(&in.c);
}
