/* lib/store/torch_file against files of torch.save (t/data/torch, made by t/ref/torch_files.py), each beside
 * a safetensors file with what should be found; what torch_write writes; then attacks (t/data/torch/bad, made
 * by t/ref/pickles.py). SD_KEEP=DIR keeps what is written.
 *
 *     torch IN OUT     only writes the tensors of IN to OUT, as sd-scripts writes a .ckpt: for tests of
 * programs */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "model/model_file.h"
#include "store/torch_write.h"
#include "tap.h"

static char folder[4096];

static const char *in_folder(const char *name)
{
    static char path[8192];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static struct sd_tensor_file *open_file(const char *path)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    if (sd_tensor_file_open(&tf, path, &err))
        printf("# %s\n", err.msg);
    return tf;
}

/* The same name, type, shape and bytes, however they lie in the file. */
static int same_tensor(const struct sd_tensor_file *tf, const struct sd_store_entry *want)
{
    const struct sd_store_entry *e = sd_tensor_file_find(tf, want->name);
    struct sd_err err = {0};
    if (!e || e->dtype != want->dtype || e->ndim != want->ndim || e->bytes != want->bytes ||
        (e->ndim && memcmp(e->shape, want->shape, (size_t)e->ndim * sizeof *e->shape)))
        return 0;
    void *bytes = malloc(e->bytes + 1);
    int same = bytes && !sd_tensor_file_read(tf, e, bytes, &err) && !memcmp(bytes, want->data, e->bytes) &&
               (!e->data || !memcmp(e->data, want->data, e->bytes));
    free(bytes);
    return same;
}

static int same_tensors(const struct sd_tensor_file *tf, const struct sd_tensor_file *want)
{
    if (!tf || !want || sd_tensor_file_count(tf) != sd_tensor_file_count(want))
        return 0;
    int same = 1;
    for (size_t i = 0; i < sd_tensor_file_count(want); i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(want, i);
        int one = same_tensor(tf, e);
        if (!one)
            printf("# %s differs\n", e->name);
        same &= one;
    }
    return same;
}

static void test_fixtures(void)
{
    static const char *const names[] = {
        "types.pt",       "types-legacy.pt",
        "views.pt",       "views-legacy.bin",
        "lightning.ckpt", "lightning-legacy.ckpt",
        "protocol4.ckpt", "protocol5.ckpt",
        "embedding.pt",   "embedding-diffusers.bin",
        "nested.pt",      "alone.pt",
        "list.pt",        "no-crc.pt",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[256], want[256];
        snprintf(path, sizeof path, "t/data/torch/%s", names[i]);
        snprintf(want, sizeof want, "t/data/torch/%.*s.safetensors", (int)(strrchr(names[i], '.') - names[i]),
                 names[i]);
        struct sd_tensor_file *tf = open_file(path), *ref = open_file(want);
        ok(same_tensors(tf, ref), "%s: names, types, shapes, values", names[i]);
        ok(tf && !strcmp(sd_tensor_file_format(tf), strstr(names[i], "legacy") ? "torch-legacy" : "torch"),
           "%s: its format", names[i]);
        sd_tensor_file_close(tf);
        sd_tensor_file_close(ref);
    }
}

static void test_what_lies_beside(void)
{
    struct sd_tensor_file *tf = open_file("t/data/torch/lightning.ckpt");
    const char *step = tf ? sd_tensor_file_meta(tf, "global_step") : NULL;
    const char *version = tf ? sd_tensor_file_meta(tf, "pytorch-lightning_version") : NULL;
    const char *half = tf ? sd_tensor_file_meta(tf, "half") : NULL;
    ok(step && !strcmp(step, "470000") && version && !strcmp(version, "1.4.2") && half &&
           !strcmp(half, "0.5"),
       "numbers and texts beside the weights are metadata");
    ok(tf && !sd_tensor_file_meta(tf, "nothing") && !sd_tensor_file_meta(tf, "huge"), "and nothing else is");
    const struct sd_store_entry *e = tf ? sd_tensor_file_find(tf, "model.diffusion_model.turned") : NULL;
    float values[24] = {0};
    struct sd_err err = {0};
    ok(e && !e->data && !sd_tensor_file_read_f32(tf, e, values, &err) && values[0] == 0 &&
           values[1] == 6.0f / 8 && values[23] == 23.0f / 8,
       "a transposed tensor has no bytes of its own, and its values are read in its order");
    sd_tensor_file_close(tf);
}

/* Hands on the bytes of the entry that is ctx, piece by piece. */
static int fill_from(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    const struct sd_store_entry *e = ctx;
    (void)err;
    memcpy(dst, (const char *)e->data + offset, bytes);
    return 0;
}

/* All tensors of a file, to be written; every second one through a fill. For free(). */
static struct sd_store_tensor *tensors_of(const struct sd_tensor_file *tf, size_t *count)
{
    *count = sd_tensor_file_count(tf);
    struct sd_store_tensor *t = calloc(*count + 1, sizeof *t);
    for (size_t i = 0; t && i < *count; i++) {
        const struct sd_store_entry *e = sd_tensor_file_entry(tf, i);
        t[i] = (struct sd_store_tensor){e->name, e->dtype, e->ndim, e->shape, e->data, NULL, NULL};
        if (i % 2) {
            t[i].data = NULL;
            t[i].fill = fill_from;
            t[i].ctx = (void *)e;
        }
    }
    return t;
}

static void test_written(void)
{
    static const struct sd_torch_number numbers[] = {
        {"epoch", 3}, {"global_step", INT64_C(1) << 40}, {"less", -5}};
    struct sd_tensor_file *from = open_file("t/data/torch/types.safetensors");
    size_t n;
    struct sd_store_tensor *t = from ? tensors_of(from, &n) : NULL;
    struct sd_err err = {0};
    if (!ok(t != NULL, "something to write"))
        return;
    ok(!sd_torch_write(in_folder("plain.pt"), t, n, NULL, NULL, 0, &err), "a dict of every type is written");
    struct sd_tensor_file *tf = open_file(in_folder("plain.pt"));
    ok(same_tensors(tf, from), "and read again");
    int aligned = tf != NULL;
    for (size_t i = 0; tf && i < sd_tensor_file_count(tf); i++)
        aligned &= sd_tensor_file_entry(tf, i)->offset % 64 == 0 && sd_tensor_file_entry(tf, i)->data;
    ok(aligned, "its data lies at multiples of 64");
    sd_tensor_file_close(tf);
    ok(!sd_torch_write(in_folder("whole.ckpt"), t, n, "state_dict", numbers, 3, &err),
       "a checkpoint is written");
    tf = open_file(in_folder("whole.ckpt"));
    ok(same_tensors(tf, from), "and read again");
    const char *step = tf ? sd_tensor_file_meta(tf, "global_step") : NULL,
               *less = tf ? sd_tensor_file_meta(tf, "less") : NULL;
    ok(step && !strcmp(step, "1099511627776") && less && !strcmp(less, "-5"), "with its numbers");
    sd_tensor_file_close(tf);
    ok(!sd_torch_write(in_folder("none.pt"), t, 0, NULL, NULL, 0, &err), "no tensors at all");
    tf = open_file(in_folder("none.pt"));
    ok(tf && !sd_tensor_file_count(tf), "are read again");
    sd_tensor_file_close(tf);
    free(t);
    sd_tensor_file_close(from);
}

/* The same weights in one file, under other names. */
static void test_folder(void)
{
    struct sd_model_file *folder_model, *single;
    struct sd_err err = {0};
    if (sd_model_file_open(&folder_model, "t/data/torch/folder", &err) ||
        sd_model_file_open(&single, "t/data/model/sd1-small-ldm.safetensors", &err)) {
        ok(0, "%s", err.msg);
        return;
    }
    for (int p = 0; p < SD_PARTS; p++) {
        char a[65] = "", b[65] = "none";
        int rc = sd_model_file_hash(folder_model, (enum sd_part)p, a, &err) ||
                 sd_model_file_hash(single, (enum sd_part)p, b, &err);
        ok(!rc && !strcmp(a, b), "a folder's %s, in shards or .bin: the weights of the single file",
           sd_part_name((enum sd_part)p));
    }
    ok(!strcmp(sd_tensor_file_format(sd_model_file_tensors(folder_model, SD_PART_UNET)), "shards") &&
           !strcmp(sd_tensor_file_format(sd_model_file_tensors(folder_model, SD_PART_VAE)), "torch"),
       "they are what they should be");
    sd_model_file_close(folder_model);
    sd_model_file_close(single);
}

/* Tensors whose strides are not those of a plain array, as parts of a model. */
static void test_strided_model(void)
{
    struct sd_model_file *strided, *single;
    struct sd_err err = {0};
    char a[65] = "", b[65] = "none";
    if (sd_model_file_open(&strided, "t/data/torch/channels-last.ckpt", &err) ||
        sd_model_file_open(&single, "t/data/model/sd1-small-ldm.safetensors", &err)) {
        ok(0, "%s", err.msg);
        return;
    }
    int rc =
        sd_model_file_hash(strided, SD_PART_VAE, a, &err) || sd_model_file_hash(single, SD_PART_VAE, b, &err);
    ok(!rc && !strcmp(a, b), "a VAE saved with its channels last: the weights of the plain one");
    sd_model_file_close(strided);
    sd_model_file_close(single);
}

static int fill_fails(void *ctx, uint64_t offset, void *dst, size_t bytes, struct sd_err *err)
{
    (void)ctx, (void)offset, (void)dst, (void)bytes;
    return sd_err_set(err, SD_ERR_DATA, "no more");
}

static void test_refused_writes(void)
{
    static const int64_t four[] = {4}, huge[] = {INT64_C(1) << 40, INT64_C(1) << 40};
    const float x[4] = {0};
    const struct sd_store_tensor twice[] = {{"x", SD_STORE_F32, 1, four, x, NULL, NULL},
                                            {"x", SD_STORE_F32, 1, four, x, NULL, NULL}};
    const struct sd_store_tensor latin = {"\xe9", SD_STORE_F32, 1, four, x, NULL, NULL};
    const struct sd_store_tensor large = {"x", SD_STORE_F32, 2, huge, x, NULL, NULL};
    const struct sd_store_tensor fails = {"x", SD_STORE_F32, 1, four, NULL, fill_fails, NULL};
    struct sd_err err = {0};
    const char *path = in_folder("refused.pt");
    ok(sd_torch_write(path, twice, 2, NULL, NULL, 0, &err) && strstr(err.msg, "two tensors named \"x\""),
       "two of a name");
    ok(sd_torch_write(path, &latin, 1, NULL, NULL, 0, &err) && strstr(err.msg, "not UTF-8"),
       "a name that is no text");
    ok(sd_torch_write(path, &large, 1, NULL, NULL, 0, &err) && strstr(err.msg, "impossible shape"),
       "2^80 values");
    ok(sd_torch_write(path, &fails, 1, NULL, NULL, 0, &err) && strstr(err.msg, "no more"),
       "a source that fails");
    ok(access(path, F_OK), "leaves no file");
}

/* Each line of expected.txt: a file, a tab, a part of the message with which it is refused. */
static void test_attacks(void)
{
    struct sd_buf list = SD_BUF_INIT;
    struct sd_err err = {0};
    int refused = 0;
    if (sd_file_read("t/data/torch/bad/expected.txt", 1 << 20, &list, &err)) {
        ok(0, "%s", err.msg);
        return;
    }
    for (char *line = list.data, *end; *line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        char path[256], *tab = strchr(line, '\t');
        struct sd_tensor_file *tf;
        *tab = 0;
        snprintf(path, sizeof path, "t/data/torch/bad/%s", line);
        err = (struct sd_err){0};
        int rc = sd_tensor_file_open(&tf, path, &err);
        if (!ok(rc && !tf && strstr(err.msg, tab + 1) && strstr(err.msg, path), "refused: %s", line))
            printf("# %s\n# want: %s\n", err.msg, tab + 1);
        refused += rc != 0;
        sd_tensor_file_close(tf);
    }
    ok(refused > 100, "the corpus was there");
    sd_buf_free(&list);
}

/* Cut anywhere, a file is refused or holds the same: nothing is read behind its end (the sanitizers look). */
static void test_lengths(const char *path)
{
    struct sd_buf file = SD_BUF_INIT;
    struct sd_err err = {0};
    int accepted = 0;
    if (sd_file_read(path, 1 << 20, &file, &err)) {
        ok(0, "%s", err.msg);
        return;
    }
    for (size_t n = 0; n < file.len; n++) {
        struct sd_tensor_file *tf;
        char *exact = malloc(n + 1);
        memcpy(exact, file.data, n);
        if (!sd_tensor_file_parse(&tf, exact, n, "cut", &err)) {
            accepted++;
            sd_tensor_file_close(tf);
        }
        free(exact);
    }
    ok(!accepted, "%s: cut short anywhere it is refused", path);
    sd_buf_free(&file);
}

static int convert(const char *in, const char *out)
{
    static const struct sd_torch_number numbers[] = {{"epoch", 0}, {"global_step", 0}};
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    size_t n;
    if (sd_tensor_file_open(&tf, in, &err))
        goto failed;
    struct sd_store_tensor *t = tensors_of(tf, &n);
    if (!t || sd_torch_write(out, t, n, "state_dict", numbers, 2, &err))
        goto failed;
    free(t);
    sd_tensor_file_close(tf);
    return 0;
failed:
    fprintf(stderr, "%s\n", err.msg);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc == 3)
        return convert(argv[1], argv[2]);
    const char *keep = getenv("SD_KEEP"), *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s%s", keep ? keep : tmp ? tmp : "/tmp", keep ? "" : "/sd-torch-XXXXXX");
    if (!keep && !mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    test_fixtures();
    test_what_lies_beside();
    test_written();
    test_folder();
    test_strided_model();
    test_refused_writes();
    test_attacks();
    test_lengths("t/data/torch/views.pt");
    test_lengths("t/data/torch/lightning-legacy.ckpt");
    if (!keep) {
        unlink(in_folder("plain.pt"));
        unlink(in_folder("whole.ckpt"));
        unlink(in_folder("none.pt"));
        ok(!rmdir(folder), "nothing else was left behind");
    }
    return tap_end();
}
