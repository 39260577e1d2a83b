#include "base/siblings.h"

#include "base/arena.h"
#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct folder {
    const char *path; /* as it stands before the names: "" or with its slash */
    size_t len;
    struct sd_strings names; /* sorted */
    struct folder *next;
};

struct sd_siblings {
    pthread_mutex_t lock;
    struct folder *folders; /* the last used first: pictures come folder by folder */
    struct sd_arena arena;
};

struct sd_siblings *sd_siblings_new(struct sd_err *err)
{
    struct sd_siblings *s = calloc(1, sizeof *s);
    if (!s) {
        sd_err_memory(err, sizeof *s);
        return NULL;
    }
    pthread_mutex_init(&s->lock, NULL);
    s->arena = SD_ARENA_INIT;
    return s;
}

void sd_siblings_free(struct sd_siblings *s)
{
    if (!s)
        return;
    for (struct folder *f = s->folders; f; f = f->next)
        sd_strings_free(&f->names);
    sd_arena_free(&s->arena);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int read_names(struct sd_siblings *s, struct folder *f, DIR *dir, struct sd_err *err)
{
    errno = 0;
    for (struct dirent *e; (e = readdir(dir)); errno = 0) {
        const char *name = sd_arena_printf(&s->arena, "%s", e->d_name);
        if (!name || sd_strings_add(&f->names, name))
            return sd_err_memory(err, strlen(e->d_name));
    }
    if (errno)
        return sd_err_errno(err, "cannot read the folder");
    if (f->names.n)
        qsort(f->names.v, f->names.n, sizeof *f->names.v, by_bytes);
    return 0;
}

static struct folder *read_folder(struct sd_siblings *s, const char *path, size_t len, struct sd_err *err)
{
    struct folder *f = sd_arena_alloc(&s->arena, sizeof *f);
    const char *copy = f ? sd_arena_printf(&s->arena, "%.*s", (int)len, path) : NULL;
    if (!copy) {
        sd_err_memory(err, len);
        return NULL;
    }
    *f = (struct folder){.path = copy, .len = len};
    DIR *dir = opendir(len ? copy : ".");
    int bad = dir ? read_names(s, f, dir, err) : sd_err_errno(err, "cannot open the folder");
    if (dir)
        closedir(dir);
    if (bad) {
        sd_strings_free(&f->names);
        sd_err_prefix(err, "%s", len ? copy : ".");
        return NULL;
    }
    f->next = s->folders;
    return s->folders = f;
}

static struct folder *folder_of(struct sd_siblings *s, const char *path, size_t len, struct sd_err *err)
{
    for (struct folder **at = &s->folders; *at; at = &(*at)->next) {
        struct folder *f = *at;
        if (f->len != len || memcmp(f->path, path, len))
            continue;
        *at = f->next;
        f->next = s->folders;
        return s->folders = f;
    }
    return read_folder(s, path, len, err);
}

static int find(struct sd_siblings *s, const char *path, struct sd_strings *names, struct sd_err *err)
{
    const char *base = sd_path_base(path);
    size_t stem = sd_path_stem_len(base);
    const struct folder *f = folder_of(s, path, (size_t)(base - path), err);
    if (!f)
        return -1;
    size_t low = 0;
    for (size_t high = f->names.n; low < high;) { /* the first that is not before the stem */
        size_t middle = low + (high - low) / 2;
        if (strncmp(f->names.v[middle], base, stem) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < f->names.n && !strncmp(f->names.v[low], base, stem); low++)
        if (f->names.v[low][stem] == '.' && sd_strings_add(names, f->names.v[low]))
            return sd_err_memory(err, sizeof(char *));
    return 0;
}

int sd_siblings_find(struct sd_siblings *s, const char *path, struct sd_strings *names, struct sd_err *err)
{
    pthread_mutex_lock(&s->lock);
    int bad = find(s, path, names, err);
    pthread_mutex_unlock(&s->lock);
    return bad;
}
