#include "data/dreambooth.h"

#include <math.h>
#include <string.h>

#include "base/path.h"
#include "base/pyrandom.h"
#include "text/sidecar.h"
#include "text/str.h"

/* ---- captions ---- */

enum { FACE_PARTS = 4 }; /* _x_y_width_height */

/* The length of stem without its last four '_' and what is behind them, or 0 when there are fewer. As in the
 * original folders count: the whole path is looked at. */
static size_t without_face(const char *stem, size_t len)
{
    int parts = FACE_PARTS;
    while (len && parts)
        parts -= stem[--len] == '_';
    return parts ? 0 : len;
}

static int first_line(struct sd_caption_file *c)
{
    struct sd_str line = sd_str_strip((struct sd_str){c->text.data, strcspn(c->text.data, "\r\n")});
    c->text.data[line.data - c->text.data + (ptrdiff_t)line.len] = 0;
    return sd_strings_add(&c->lines, line.data);
}

int sd_caption_file_read(struct sd_caption_file *c, const char *image, const char *extension, bool all,
                         struct sd_err *err)
{
    size_t stem = sd_path_stem_len(image), shorter = without_face(image, stem);
    c->lines.n = 0;
    int got = sd_sidecar_read(image, extension, &c->path, &c->text, err);
    if (!got && shorter) {
        sd_buf_clear(&c->path);
        if (sd_buf_add(&c->path, image, shorter) || sd_buf_adds(&c->path, extension))
            return sd_err_memory(err, shorter);
        got = sd_sidecar_read_file(c->path.data, &c->text, err);
    }
    if (got != 1)
        return got;
    if (!c->text.len)
        return sd_err_set(err, SD_ERR_DATA, "%s: the caption file is empty", c->path.data);
    bool bad = all ? sd_text_split(c->text.data, c->text.len, "\r\n", &c->lines) : first_line(c);
    return bad ? sd_err_memory(err, c->text.len) : 1;
}

void sd_caption_file_free(struct sd_caption_file *c)
{
    sd_buf_free(&c->path);
    sd_buf_free(&c->text);
    sd_strings_free(&c->lines);
}

/* ---- validation ---- */

void sd_validation_split(uint32_t *order, size_t n, double part, int64_t seed, size_t *train,
                         size_t *validation)
{
    struct sd_pyrandom random;
    sd_pyrandom_seed(&random, seed);
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    sd_pyrandom_shuffle(&random, order, n, sizeof *order);
    *train = (size_t)ceil((double)n * (1 - part));
    *validation = (size_t)nearbyint((double)n * part); /* halves to even, like Python's round */
}

/* ---- masks ---- */

static struct sd_str name_of(const char *path)
{
    const char *base = sd_path_base(path);
    return (struct sd_str){base, sd_path_stem_len(base)};
}

static void complain(void *ctx, const struct sd_err *err)
{
    *(struct sd_err *)ctx = *err;
}

int sd_masks_open(struct sd_masks *m, const char *folder, struct sd_err *err)
{
    struct sd_err inner = {0};
    *m = (struct sd_masks){0};
    int bad = sd_image_list_folder(&m->list, folder, 0, complain, &inner, err);
    if (!bad && inner.code) {
        *err = inner;
        bad = -1;
    }
    for (size_t i = m->list.paths.n; i-- && !bad;) /* the first of several of one name stays */
        if (sd_strmap_put(&m->names, name_of(m->list.paths.v[i]), i, NULL))
            bad = sd_err_memory(err, sizeof i);
    if (bad)
        sd_masks_close(m);
    return bad;
}

const char *sd_masks_find(const struct sd_masks *m, const char *image)
{
    size_t i = sd_strmap_get(&m->names, name_of(image));
    return i == SD_STRMAP_NONE ? NULL : m->list.paths.v[i];
}

void sd_masks_close(struct sd_masks *m)
{
    sd_strmap_free(&m->names);
    sd_image_list_free(&m->list);
}
