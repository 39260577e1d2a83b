#include "config_records.h"

#include "base/path.h"
#include "base/seen.h"
#include "data/dreambooth.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_SHOWN = 5 };

static _Noreturn void missing(struct sd_cmd *c, const char *what, const char *path)
{
    struct sd_err err = {0};
    sd_err_errno(&err, path);
    sd_err_prefix(&err, "%s", what);
    err.code = SD_ERR_USAGE;
    cmd_die(c, &err);
}

static bool is_folder(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return false;
    errno = ENOTDIR;
    return S_ISDIR(st.st_mode);
}

static void look_for_folder(struct sd_cmd *c, struct sd_config_subset *s, const char *folder)
{
    struct sd_err err = {0};
    if (is_folder(folder))
        return;
    sd_err_errno(&err, folder);
    sd_err_prefix(&err, "image_dir");
    sd_stream_report(c->stream, err.msg);
    cmd_status(c, SD_ERR_DATA);
    s->dropped = true;
}

/* ---- masks ---- */

struct unmatched {
    uint64_t n;
    struct sd_buf names; /* the first few */
};

static void note(struct unmatched *u, const char *path)
{
    if (u->n++ < NAMES_SHOWN && sd_buf_addf(&u->names, "%s%s", u->n > 1 ? ", " : "", path))
        u->n--;
}

/* A mask by its folder and its name without ending. */
static int remember(struct sd_seen *seen, const char *path, struct sd_err *err)
{
    return sd_seen_add(seen, path, sd_path_stem_len(path), err);
}

static void complain(void *ctx, const struct sd_err *err)
{
    struct sd_cmd *c = ctx;
    cmd_die(c, err);
}

static void match_images(struct sd_cmd *c, const char *folder, const char *mask_folder, struct sd_seen *used,
                         struct unmatched *without)
{
    struct sd_image_list images = SD_IMAGE_LIST_INIT;
    struct sd_masks masks;
    struct sd_err err = {0};
    if (!is_folder(mask_folder))
        missing(c, "conditioning_data_dir", mask_folder);
    if (sd_image_list_folder(&images, folder, 0, complain, c, &err) ||
        sd_masks_open(&masks, mask_folder, &err))
        cmd_die(c, &err);
    for (size_t i = 0; i < images.paths.n; i++) {
        const char *mask = sd_masks_find(&masks, images.paths.v[i]);
        if (!mask)
            note(without, images.paths.v[i]);
        else if (remember(used, mask, &err) < 0)
            cmd_die(c, &err);
    }
    sd_masks_close(&masks);
    sd_image_list_free(&images);
}

static void find_surplus(struct sd_cmd *c, const char *mask_folder, struct sd_seen *used,
                         struct unmatched *surplus)
{
    struct sd_masks masks;
    struct sd_err err = {0};
    if (sd_masks_open(&masks, mask_folder, &err))
        cmd_die(c, &err);
    for (size_t i = 0; i < masks.list.paths.n; i++) {
        int seen = remember(used, masks.list.paths.v[i], &err);
        if (seen < 0)
            cmd_die(c, &err);
        if (!seen)
            note(surplus, masks.list.paths.v[i]);
    }
    sd_masks_close(&masks);
}

static void tell_unmatched(struct sd_cmd *c, const struct unmatched *u, const char *what)
{
    if (!u->n)
        return;
    if (u->n > NAMES_SHOWN)
        cmd_warn(c, "%s: %s and %llu more", what, u->names.data, (unsigned long long)(u->n - NAMES_SHOWN));
    else
        cmd_warn(c, "%s: %s", what, u->names.data);
}

/* Every picture of the data set has a mask, and every mask belongs to one. */
static void look_for_masks(struct sd_cmd *c, const struct sd_config *config,
                           const struct sd_config_dataset *d)
{
    struct sd_seen used = {0};
    struct unmatched without = {0}, surplus = {0};
    for (const struct sd_config_subset *s = d->subsets; s; s = s->next)
        if (!s->dropped)
            match_images(c, sd_config_string(config, d, s, SD_CONFIG_IMAGE_DIR),
                         sd_config_string(config, d, s, SD_CONFIG_CONDITIONING_DATA_DIR), &used, &without);
    for (const struct sd_config_subset *s = d->subsets; s; s = s->next)
        if (!s->dropped)
            find_surplus(c, sd_config_string(config, d, s, SD_CONFIG_CONDITIONING_DATA_DIR), &used, &surplus);
    tell_unmatched(c, &without, "pictures without a mask in their conditioning_data_dir");
    tell_unmatched(c, &surplus, "masks that belong to no picture");
    uint64_t bad = without.n + surplus.n;
    sd_seen_free(&used);
    sd_buf_free(&without.names);
    sd_buf_free(&surplus.names);
    if (bad)
        cmd_die(c, &(struct sd_err){SD_ERR_DATA, "pictures and masks must match; nothing was written"});
}

void config_look(struct sd_cmd *c, struct sd_config *config)
{
    for (const struct sd_config_dataset *d = config->datasets; d; d = d->next) {
        for (struct sd_config_subset *s = d->subsets; s; s = s->next) {
            const char *file = sd_config_string(config, d, s, SD_CONFIG_METADATA_FILE);
            if (file && !s->dropped && access(file, R_OK))
                missing(c, "metadata_file", file);
            if (!file && !s->dropped)
                look_for_folder(c, s, sd_config_string(config, d, s, SD_CONFIG_IMAGE_DIR));
        }
        if (d->kind == SD_CONFIG_CONTROLNET)
            look_for_masks(c, config, d);
    }
}
