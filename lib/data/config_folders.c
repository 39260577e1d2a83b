/* sd-scripts' convention of folders: <repeats>_<class tokens>. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/options.h" /* struct sd_strings */
#include "base/path.h"
#include "data/config_private.h"

enum { NOT_A_NUMBER = -1, MOST_REPEATS = 1000000 };

/* The number in front of the first '_', as Python's int() reads it, but for the digits of other scripts. */
static int64_t repeats_of(const char *name)
{
    const char *end = name + strcspn(name, "_"), *p = name;
    while (p < end && strchr(" \t\n\v\f\r", *p))
        p++;
    while (end > p && strchr(" \t\n\v\f\r", end[-1]))
        end--;
    bool minus = p < end && *p == '-';
    p += p < end && (*p == '-' || *p == '+');
    int64_t n = 0;
    const char *first = p;
    for (; p < end && *p >= '0' && *p <= '9'; p++)
        n = n > MOST_REPEATS ? n : n * 10 + *p - '0';
    if (p == first || p < end)
        return NOT_A_NUMBER;
    return minus ? 0 : n;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* The paths of the folders in this one, sorted. */
static int list_folders(struct sd_config *c, const char *folder, struct sd_strings *list, struct sd_err *err)
{
    DIR *dir = opendir(folder);
    if (!dir) {
        sd_err_errno(err, folder);
        err->code = err->code == SD_ERR_DATA ? SD_ERR_USAGE : err->code;
        return -1;
    }
    int bad = 0;
    for (struct dirent *e; !bad && (errno = 0, e = readdir(dir));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        char *path = sd_arena_printf(&c->arena, "%s%s%s", folder, sd_path_slash(folder), e->d_name);
        if (!path || (is_folder(path) && sd_strings_add(list, path)))
            bad = sd_err_memory(err, strlen(e->d_name));
    }
    if (!bad && errno)
        bad = sd_err_errno(err, folder);
    closedir(dir);
    if (list->n)
        qsort(list->v, list->n, sizeof *list->v, by_bytes);
    return bad;
}

static int add_folder(struct sd_config *c, struct sd_config_dataset *d, struct sd_config_subset **last,
                      const char *path, int64_t repeats, bool reg, struct sd_err *err)
{
    const char *name = sd_path_base(path), *tokens = strchr(name, '_');
    struct sd_config_subset *s = sd_config_add_subset(c, d, *last, err);
    if (!s)
        return -1;
    *last = s;
    const struct sd_config_value all[] = {
        {.id = SD_CONFIG_IMAGE_DIR, .s = path},
        {.id = SD_CONFIG_CLASS_TOKENS, .s = tokens ? tokens + 1 : ""},
        {.id = SD_CONFIG_NUM_REPEATS, .i = repeats},
        {.id = SD_CONFIG_IS_REG, .b = true},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all - !reg; i++) {
        struct sd_config_value *v = sd_config_add_value(c, &s->values, all[i].id, err);
        if (!v)
            return -1;
        struct sd_config_value *next = v->next;
        *v = all[i];
        v->next = next;
    }
    return 0;
}

static int add_folders(struct sd_config *c, struct sd_config_dataset *d, struct sd_config_subset **last,
                       const char *folder, bool reg, struct sd_err *err)
{
    struct sd_strings list = {0};
    size_t added = 0;
    int bad = list_folders(c, folder, &list, err);
    for (size_t i = 0; i < list.n && !bad; i++) {
        const char *name = sd_path_base(list.v[i]);
        int64_t repeats = repeats_of(name);
        if (repeats == NOT_A_NUMBER)
            sd_config_warn(c, "%s: left out: the name does not begin with a number of repeats, as in 10_cat",
                           list.v[i]);
        else if (repeats < 1)
            sd_config_warn(c, "%s: left out: less than 1 repeat", list.v[i]);
        else if (repeats > MOST_REPEATS)
            bad = sd_err_set(err, SD_ERR_USAGE, "%s: more than %d repeats", list.v[i], MOST_REPEATS);
        else if (!(bad = add_folder(c, d, last, list.v[i], repeats, reg, err)))
            added++;
    }
    if (!bad && !added)
        bad = sd_err_set(
            err, SD_ERR_USAGE,
            "%s: no folder in it is named <repeats>_<class tokens>, like 10_cat; pictures belong in "
            "such folders",
            folder);
    sd_strings_free(&list);
    return bad;
}

int sd_config_add_folders(struct sd_config *c, const char *train, const char *reg, struct sd_err *err)
{
    struct sd_config_subset *last = NULL;
    struct sd_config_dataset *d = sd_config_add_dataset(c, err);
    if (!d || add_folders(c, d, &last, train, false, err))
        return -1;
    return reg ? add_folders(c, d, &last, reg, true, err) : 0;
}

int sd_config_add_metadata(struct sd_config *c, const char *file, const char *image_dir, struct sd_err *err)
{
    struct sd_config_dataset *d = sd_config_add_dataset(c, err);
    struct sd_config_subset *s = d ? sd_config_add_subset(c, d, NULL, err) : NULL;
    struct sd_config_value *v = s ? sd_config_add_value(c, &s->values, SD_CONFIG_METADATA_FILE, err) : NULL;
    if (!v)
        return -1;
    d->kind = SD_CONFIG_FINE_TUNING;
    v->s = file;
    if (!image_dir)
        return 0;
    if (!(v = sd_config_add_value(c, &s->values, SD_CONFIG_IMAGE_DIR, err)))
        return -1;
    v->s = image_dir;
    return 0;
}
