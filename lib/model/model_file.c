#include "model/model_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/filemap.h"
#include "base/hash.h"
#include "model/config_json.h"
#include "model/folder_files.h"
#include "model/model_detect.h"

/* One part: the file it lies in and its parameters under our names. */
struct part {
    bool there, ready;
    const char *path;          /* the part's own file in a folder, else NULL */
    struct sd_tensor_file *tf; /* of a folder's part; a single file is shared */
    struct sd_part_names names;
    struct sd_store_entry *entries; /* sorted by name */
    size_t count;
    const char **extra; /* keys of the part that are no parameter */
    size_t extras;
};

struct sd_model_file {
    const char *path, *variant;
    bool folder, ema;
    struct sd_tensor_file *single; /* NULL in a folder */
    struct sd_model_config config;
    struct part part[SD_PARTS];
    uint64_t unpacked; /* bytes of tensors that a file does not hold as they are */
    struct sd_arena arena;
};

static bool exists(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

/* Of the variant asked for, else of any. */
static int find_weights(struct sd_model_file *mf, enum sd_part p, const char *dir, struct sd_err *err)
{
    if (sd_folder_weights(dir, mf->variant, &mf->arena, &mf->part[p].path, err))
        return -1;
    mf->part[p].there = mf->part[p].path;
    return 0;
}

/* A folder of one part only, such as a VAE that is published alone: config.json lies in it and names its
 * class. */
static int open_part_folder(struct sd_model_file *mf, const char *config_path, struct sd_err *err)
{
    cJSON *object = sd_json_read(config_path, err), *wrapped = NULL;
    if (!object)
        return -1;
    const cJSON *class = sd_json_get(object, "_class_name");
    enum sd_part p = !cJSON_IsString(class)                                ? SD_PART_TEXT
                     : !strcmp(class->valuestring, "AutoencoderKL")        ? SD_PART_VAE
                     : !strcmp(class->valuestring, "UNet2DConditionModel") ? SD_PART_UNET
                                                                           : SD_PARTS;
    int rc = -1;
    if (p == SD_PARTS) {
        sd_err_set(err, SD_ERR_DATA, "_class_name %.60s is not supported", class->valuestring);
    } else if (!(wrapped = cJSON_CreateObject())) {
        sd_err_memory(err, sizeof *wrapped);
    } else {
        cJSON_AddItemToObject(wrapped, sd_part_name(p), object);
        object = NULL;
        rc = sd_model_config_parse(&mf->config, wrapped, err);
    }
    cJSON_Delete(wrapped);
    cJSON_Delete(object);
    return rc ? sd_err_prefix(err, "%s", config_path) : find_weights(mf, p, mf->path, err);
}

static int open_folder(struct sd_model_file *mf, struct sd_err *err)
{
    mf->folder = true;
    char *own = sd_arena_printf(&mf->arena, "%s/config.json", mf->path);
    if (!own)
        return sd_err_memory(err, strlen(mf->path));
    if (exists(own))
        return open_part_folder(mf, own, err);
    if (sd_model_config_read_folder(&mf->config, mf->path, err))
        return -1;
    for (int p = 0; p < SD_PARTS; p++) {
        char *dir = sd_arena_printf(&mf->arena, "%s/%s", mf->path, sd_part_name((enum sd_part)p));
        if (!dir)
            return sd_err_memory(err, strlen(mf->path));
        if (find_weights(mf, (enum sd_part)p, dir, err))
            return -1;
    }
    return 0;
}

static int open_single(struct sd_model_file *mf, struct sd_err *err)
{
    bool has[SD_PARTS], any = false;
    struct sd_part_names names[SD_PARTS];
    if (sd_tensor_file_open(&mf->single, mf->path, err))
        return -1;
    for (int p = 0; p < SD_PARTS; p++) {
        has[p] = mf->part[p].there = sd_model_detect_names(mf->single, (enum sd_part)p, &names[p]);
        if (has[p])
            mf->part[p].names = names[p];
        any |= has[p];
    }
    if (!any)
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: not a Stable Diffusion model (no tensor of a U-Net, VAE or CLIP)", mf->path);
    return sd_model_detect_config(mf->single, has, names, &mf->config, err);
}

int sd_model_file_open(struct sd_model_file **out, const char *path, struct sd_err *err)
{
    return sd_model_file_open_variant(out, path, NULL, err);
}

int sd_model_file_open_variant(struct sd_model_file **out, const char *path, const char *variant,
                               struct sd_err *err)
{
    *out = NULL;
    struct sd_model_file *mf = calloc(1, sizeof *mf);
    if (!mf)
        return sd_err_memory(err, sizeof *mf);
    mf->config = *sd_model_config_builtin("sd1");
    struct stat st;
    int rc;
    if (!(mf->path = sd_arena_strdup(&mf->arena, path)) ||
        (variant && !(mf->variant = sd_arena_strdup(&mf->arena, variant))))
        rc = sd_err_memory(err, strlen(path));
    else if (stat(path, &st))
        rc = sd_err_errno(err, path);
    else
        rc = S_ISDIR(st.st_mode) ? open_folder(mf, err) : open_single(mf, err);
    if (rc) {
        sd_model_file_close(mf);
        return -1;
    }
    *out = mf;
    return 0;
}

void sd_model_file_close(struct sd_model_file *mf)
{
    if (!mf)
        return;
    for (int p = 0; p < SD_PARTS; p++)
        sd_tensor_file_close(mf->part[p].tf);
    sd_tensor_file_close(mf->single);
    sd_arena_free(&mf->arena);
    free(mf);
}

static int by_name(const void *pa, const void *pb)
{
    const struct sd_store_entry *a = pa, *b = pb;
    return strcmp(a->name, b->name);
}

/* Appends the parameter that a file's tensor is, or the third of one: rows [slice*R/3, (slice+1)*R/3). */
static int add_entry(struct sd_model_file *mf, struct part *part, const char *name,
                     const struct sd_store_entry *from, int slice, int slices, struct sd_err *err)
{
    struct sd_store_entry *e = &part->entries[part->count];
    *e = *from;
    e->name = sd_arena_strdup(&mf->arena, name);
    if (!e->name)
        return sd_err_memory(err, strlen(name));
    part->count++;
    if (slices == 1)
        return 0;
    if (from->ndim < 1 || from->shape[0] % slices)
        return sd_err_set(err, SD_ERR_DATA, "%s: tensor \"%s\": its rows cannot be divided into q, k and v",
                          mf->path, from->name);
    int64_t *shape = sd_arena_array(&mf->arena, (size_t)from->ndim, sizeof *shape);
    if (!shape)
        return sd_err_memory(err, (size_t)from->ndim * sizeof *shape);
    memcpy(shape, from->shape, (size_t)from->ndim * sizeof *shape);
    shape[0] /= slices;
    e->shape = shape;
    e->bytes = from->bytes / (size_t)slices;
    e->data = (const char *)from->data + (size_t)slice * e->bytes;
    e->offset = from->offset + (uint64_t)slice * e->bytes;
    return 0;
}

/* *e becomes the moving average of the tensor it is. */
static int take_average(struct sd_model_file *mf, const struct sd_store_entry **e, struct sd_buf *name,
                        struct sd_err *err)
{
    const struct sd_store_entry *plain = *e;
    int got = sd_name_ema(name, plain->name);
    if (got < 0)
        return sd_err_memory(err, name->len);
    *e = got ? sd_tensor_file_find(mf->single, name->data) : NULL;
    if (!*e)
        return sd_err_set(err, SD_ERR_DATA, "%s: there is no moving average of \"%.100s\" (%.120s)%s",
                          mf->path, plain->name, got ? name->data : "only whole original files have them",
                          got ? "; a file that was pruned to its averages has them as its plain weights"
                              : "");
    if ((*e)->ndim != plain->ndim ||
        (plain->ndim && memcmp((*e)->shape, plain->shape, (size_t)plain->ndim * sizeof *plain->shape)))
        return sd_err_set(err, SD_ERR_DATA, "%s: \"%.100s\" is not of the shape of the tensor it averages",
                          mf->path, (*e)->name);
    return 0;
}

int sd_model_file_unpack(struct sd_model_file *mf, const struct sd_tensor_file *tf,
                         const struct sd_store_entry *from, struct sd_store_entry *e, struct sd_err *err)
{
    *e = *from;
    if (e->data || !e->bytes)
        return 0;
    mf->unpacked += e->bytes;
    if (mf->unpacked > sd_tensor_file_size(tf))
        return sd_err_set(err, SD_ERR_DATA, "%s: its tensors are larger than the file when they are unpacked",
                          sd_tensor_file_path(tf));
    void *data = sd_arena_alloc(&mf->arena, e->bytes);
    if (!data)
        return sd_err_memory(err, e->bytes);
    e->data = data;
    return sd_tensor_file_read(tf, from, data, err);
}

/* One key of the file: one or three parameters, something known that nobody needs, or left over. */
static int add_key(struct sd_model_file *mf, enum sd_part p, const struct sd_tensor_file *tf,
                   const struct sd_store_entry *e, struct sd_buf *name, struct sd_err *err)
{
    struct part *part = &mf->part[p];
    const struct sd_store_entry *values = e;
    struct sd_store_entry whole;
    if (strncmp(e->name, part->names.prefix, strlen(part->names.prefix)) ||
        sd_name_is_surplus(&mf->config, p, &part->names, e->name))
        return 0;
    int n = sd_name_from_file(&mf->config, p, &part->names, e->name, 0, name);
    if (n < 0)
        return sd_err_memory(err, name->len);
    if (!n)
        part->extra[part->extras++] = e->name;
    else if ((mf->ema && p == SD_PART_UNET && take_average(mf, &values, name, err)) ||
             sd_model_file_unpack(mf, tf, values, &whole, err))
        return -1;
    for (int i = 0; i < n; i++)
        if (sd_name_from_file(&mf->config, p, &part->names, e->name, i, name) < 0 ||
            add_entry(mf, part, name->data, &whole, i, n, err))
            return -1;
    return 0;
}

static int index_part(struct sd_model_file *mf, enum sd_part p, const struct sd_tensor_file *tf,
                      struct sd_err *err)
{
    struct part *part = &mf->part[p];
    size_t n = sd_tensor_file_count(tf);
    struct sd_buf name = SD_BUF_INIT;
    part->count = part->extras = 0;
    part->entries = sd_arena_array(&mf->arena, 3 * n, sizeof *part->entries);
    part->extra = sd_arena_array(&mf->arena, n, sizeof *part->extra);
    int rc = part->entries && part->extra ? 0 : sd_err_memory(err, n * sizeof *part->entries);
    for (size_t i = 0; i < n && !rc; i++)
        rc = add_key(mf, p, tf, sd_tensor_file_entry(tf, i), &name, err);
    sd_buf_free(&name);
    if (rc)
        return -1;
    qsort(part->entries, part->count, sizeof *part->entries, by_name);
    part->ready = true;
    return 0;
}

int sd_model_file_use_ema(struct sd_model_file *mf, struct sd_err *err)
{
    mf->ema = true;
    if (!mf->single)
        return sd_err_set(err, SD_ERR_DATA, "%s: a folder holds no moving averages", mf->path);
    return sd_model_file_need(mf, SD_PART_UNET, err);
}

static bool has_averages(const struct sd_tensor_file *tf)
{
    bool has = false;
    for (size_t i = 0; i < sd_tensor_file_count(tf) && !has; i++)
        has = !strncmp(sd_tensor_file_entry(tf, i)->name, SD_EMA_PREFIX, strlen(SD_EMA_PREFIX));
    return has;
}

int sd_model_file_need(struct sd_model_file *mf, enum sd_part p, struct sd_err *err)
{
    static const char *const names[SD_PARTS] = {"U-Net", "VAE", "text encoder"};
    struct part *part = &mf->part[p];
    if (part->ready)
        return 0;
    if (!part->there && p == SD_PART_UNET && mf->single && has_averages(mf->single))
        return sd_err_set(err, SD_ERR_DATA,
                          "%s: there is no U-Net in this model but its moving averages (" SD_EMA_PREFIX
                          "*), which have their names from the plain weights that should be beside them",
                          mf->path);
    if (!part->there)
        return sd_err_set(err, SD_ERR_DATA, "%s: there is no %s in this model%s%s%s", mf->path, names[p],
                          mf->folder ? " (no weights in " : "", mf->folder ? sd_part_name(p) : "",
                          mf->folder ? ")" : "");
    if (!part->path)
        return index_part(mf, p, mf->single, err);
    if (!part->tf && sd_tensor_file_open(&part->tf, part->path, err))
        return -1;
    if (!sd_model_detect_names(part->tf, p, &part->names))
        return sd_err_set(err, SD_ERR_DATA, "%s: no tensor in it is of a %s", part->path, names[p]);
    return index_part(mf, p, part->tf, err);
}

bool sd_model_file_find(void *ctx, const char *name, struct sd_store_entry *entry)
{
    struct sd_model_file *mf = ctx;
    const char *rest;
    int p = sd_part_of(name, &rest);
    if (p < 0 || sd_model_file_need(mf, (enum sd_part)p, NULL))
        return false;
    struct sd_store_entry key = {.name = name};
    const struct part *part = &mf->part[p];
    const struct sd_store_entry *e = bsearch(&key, part->entries, part->count, sizeof key, by_name);
    if (e)
        *entry = *e;
    return e;
}

size_t sd_model_file_count(struct sd_model_file *mf, enum sd_part part)
{
    return sd_model_file_need(mf, part, NULL) ? 0 : mf->part[part].count;
}

const struct sd_store_entry *sd_model_file_entry(struct sd_model_file *mf, enum sd_part part, size_t i)
{
    return i < sd_model_file_count(mf, part) ? &mf->part[part].entries[i] : NULL;
}

int sd_model_file_hash(struct sd_model_file *mf, enum sd_part part, char hex[65], struct sd_err *err)
{
    struct sd_buf text = SD_BUF_INIT;
    if (sd_model_file_need(mf, part, err))
        return -1;
    int rc = 0;
    for (size_t i = 0; i < sd_model_file_count(mf, part) && !rc; i++) {
        const struct sd_store_entry *e = sd_model_file_entry(mf, part, i);
        int ndim = e->ndim;
        while (ndim > 1 && e->shape[ndim - 1] == 1) /* layouts differ in them */
            ndim--;
        sd_sha256(e->data, e->bytes, hex);
        if (e->mapped) /* whoever only asks for the hash does not want all weights in memory */
            sd_filemap_release(e->data, e->bytes);
        int full = sd_buf_addf(&text, "%s %s", e->name, sd_store_dtype_name(e->dtype));
        for (int k = 0; k < ndim; k++)
            full |= sd_buf_addf(&text, " %lld", (long long)e->shape[k]);
        if (full | sd_buf_addf(&text, " %s\n", hex))
            rc = sd_err_memory(err, text.len);
    }
    if (!rc)
        sd_sha256(text.data ? text.data : "", text.len, hex);
    sd_buf_free(&text);
    return rc;
}

const char *sd_model_file_path(const struct sd_model_file *mf)
{
    return mf->path;
}

bool sd_model_file_is_folder(const struct sd_model_file *mf)
{
    return mf->folder;
}

const struct sd_model_config *sd_model_file_config(const struct sd_model_file *mf)
{
    return &mf->config;
}

bool sd_model_file_has(const struct sd_model_file *mf, enum sd_part part)
{
    return mf->part[part].there;
}

const struct sd_tensor_file *sd_model_file_tensors(struct sd_model_file *mf, enum sd_part part)
{
    if (sd_model_file_need(mf, part, NULL))
        return NULL;
    return mf->part[part].tf ? mf->part[part].tf : mf->single;
}

const struct sd_part_names *sd_model_file_names(struct sd_model_file *mf, enum sd_part part)
{
    return sd_model_file_need(mf, part, NULL) ? NULL : &mf->part[part].names;
}

#define NAMES_SHOWN 3

/* Faults of one kind: how many, and the first few names. */
struct faults {
    const char *kind;
    size_t count;
    struct sd_buf names;
};

static int note(struct faults *f, const char *name, const char *detail)
{
    if (f->count++ >= NAMES_SHOWN)
        return 0;
    return sd_buf_addf(&f->names, "%s%s%s", f->names.len ? ", " : "", name, detail);
}

static int significant(int ndim, const int64_t *shape)
{
    while (ndim > 0 && shape[ndim - 1] == 1)
        ndim--;
    return ndim;
}

static int compare(struct sd_model_file *mf, const struct sd_model_param *p, struct faults *missing,
                   struct faults *misshapen)
{
    struct sd_store_entry e;
    if (!sd_model_file_find(mf, p->name, &e))
        return note(missing, p->name, "");
    int n = significant(e.ndim, e.shape);
    if (n == significant(p->ndim, p->shape) &&
        (!n || !memcmp(e.shape, p->shape, (size_t)n * sizeof *e.shape)))
        return 0;
    char have[64], want[64], detail[160];
    snprintf(detail, sizeof detail, " %s instead of %s",
             sd_store_shape_text(e.ndim, e.shape, have, sizeof have),
             sd_store_shape_text(p->ndim, p->shape, want, sizeof want));
    return note(misshapen, p->name, detail);
}

static int param_by_name(const void *pa, const void *pb)
{
    const struct sd_model_param *const *a = pa, *const *b = pb;
    return strcmp((*a)->name, (*b)->name);
}

/* Notes what the part has that is not expected. */
static int find_extra(const struct part *part, const struct sd_model_param *expected, size_t count,
                      struct faults *extra)
{
    const struct sd_model_param **order = malloc((count + 1) * sizeof *order);
    if (!order)
        return -1;
    for (size_t i = 0; i < count; i++)
        order[i] = &expected[i];
    qsort(order, count, sizeof *order, param_by_name);
    int bad = 0;
    for (size_t i = 0; i < part->count; i++) {
        struct sd_model_param key = {.name = part->entries[i].name}, *pkey = &key;
        if (!bsearch(&pkey, order, count, sizeof *order, param_by_name))
            bad |= note(extra, key.name, "");
    }
    for (size_t i = 0; i < part->extras; i++)
        bad |= note(extra, part->extra[i], "");
    free(order);
    return bad;
}

static int check(struct sd_model_file *mf, enum sd_part p, const struct sd_model_param *expected,
                 size_t count, bool exactly, struct sd_err *err)
{
    if (sd_model_file_need(mf, p, err))
        return -1;
    struct faults f[3] = {{.kind = "missing"}, {.kind = "of another shape"}, {.kind = "unknown"}};
    struct sd_buf text = SD_BUF_INIT;
    int bad = 0;
    for (size_t i = 0; i < count; i++)
        bad |= compare(mf, &expected[i], &f[0], &f[1]);
    if (exactly)
        bad |= find_extra(&mf->part[p], expected, count, &f[2]);
    for (int i = 0; i < 3; i++)
        if (f[i].count)
            bad |= sd_buf_addf(&text, "%s%zu %s (%s%s)", text.len ? "; " : "", f[i].count, f[i].kind,
                               f[i].names.data, f[i].count > NAMES_SHOWN ? ", ..." : "");
    int rc = 0;
    if (bad)
        rc = sd_err_memory(err, text.len);
    else if (text.len)
        rc = sd_err_set(err, SD_ERR_DATA, "%s: the %s's tensors do not fit its configuration: %s",
                        mf->part[p].path ? mf->part[p].path : mf->path, sd_part_name(p), text.data);
    for (int i = 0; i < 3; i++)
        sd_buf_free(&f[i].names);
    sd_buf_free(&text);
    return rc;
}

int sd_model_file_check(struct sd_model_file *mf, enum sd_part part, const struct sd_model_param *expected,
                        size_t count, struct sd_err *err)
{
    return check(mf, part, expected, count, true, err);
}

int sd_model_file_holds(struct sd_model_file *mf, enum sd_part part, const struct sd_model_param *expected,
                        size_t count, struct sd_err *err)
{
    return check(mf, part, expected, count, false, err);
}
