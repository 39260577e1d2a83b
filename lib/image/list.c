#include "image/list.h"

#include "base/path.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct folder { /* one being read, and those it lies in */
    const struct folder *parent;
    dev_t dev;
    ino_t ino;
};

struct walk {
    struct sd_image_list *list;
    unsigned flags;
    void (*complain)(void *ctx, const struct sd_err *err);
    void *ctx;
};

bool sd_image_has_extension(const char *name)
{
    static const char *const endings[] = {".png", ".jpg", ".jpeg", ".webp", ".bmp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i]))
            return true;
    return false;
}

static void complain(struct walk *w, const char *path, const char *what)
{
    struct sd_err err = {0};
    sd_err_errno(&err, what);
    sd_err_prefix(&err, "%s", path);
    if (w->complain)
        w->complain(w->ctx, &err);
}

static char *join(struct sd_arena *a, const char *folder, size_t folder_len, const char *name)
{
    size_t name_len = strlen(name);
    char *path = sd_arena_alloc(a, folder_len + name_len + 2);
    if (!path)
        return NULL;
    memcpy(path, folder, folder_len);
    if (folder_len && folder[folder_len - 1] != '/')
        path[folder_len++] = '/';
    memcpy(path + folder_len, name, name_len + 1);
    return path;
}

static bool is_folder(int dirfd, const struct dirent *e)
{
    struct stat st;
    if (e->d_type != DT_UNKNOWN && e->d_type != DT_LNK)
        return e->d_type == DT_DIR;
    return !fstatat(dirfd, e->d_name, &st, 0) && S_ISDIR(st.st_mode);
}

static int walk_folder(struct walk *w, const char *path, const struct folder *parent);

/* One entry: a picture is noted, a folder entered. 0, or -1 when memory is out. */
static int take_entry(struct walk *w, DIR *dir, const char *path, size_t len, const struct dirent *e,
                      const struct folder *here)
{
    const char *name = e->d_name;
    if (!strcmp(name, ".") || !strcmp(name, "..") || (name[0] == '.' && !(w->flags & SD_LIST_HIDDEN)))
        return 0;
    bool picture = sd_image_has_extension(name) ||
                   ((w->flags & SD_LIST_ARCHIVES) && sd_path_is_archive(name, strlen(name)));
    if (!picture && (!(w->flags & SD_LIST_RECURSIVE) || e->d_type == DT_REG))
        return 0;
    bool folder = e->d_type != DT_REG && is_folder(dirfd(dir), e);
    if (folder ? !(w->flags & SD_LIST_RECURSIVE) : !picture)
        return 0;
    char *full = join(&w->list->arena, path, len, name);
    if (!full)
        return -1;
    return folder ? walk_folder(w, full, here) : sd_strings_add(&w->list->paths, full);
}

static bool inside_itself(const struct folder *here)
{
    for (const struct folder *f = here->parent; f; f = f->parent)
        if (f->dev == here->dev && f->ino == here->ino)
            return true;
    return false;
}

static int walk_folder(struct walk *w, const char *path, const struct folder *parent)
{
    struct folder here = {.parent = parent};
    struct stat st;
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/' && path[len - 2] == '/')
        len--;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir || fstat(fd, &st)) {
        complain(w, path, "cannot open the folder");
        if (dir)
            closedir(dir);
        else if (fd >= 0)
            close(fd);
        return 0;
    }
    here.dev = st.st_dev;
    here.ino = st.st_ino;
    int bad = 0;
    while (!bad && !inside_itself(&here)) {
        errno = 0;
        struct dirent *e = readdir(dir);
        if (!e) {
            if (errno)
                complain(w, path, "cannot read the folder");
            break;
        }
        bad = take_entry(w, dir, path, len, e, &here);
    }
    closedir(dir);
    return bad;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int sd_image_list_folder(struct sd_image_list *list, const char *folder, unsigned flags,
                         void (*complain)(void *ctx, const struct sd_err *err), void *ctx, struct sd_err *err)
{
    struct walk w = {.list = list, .flags = flags, .complain = complain, .ctx = ctx};
    size_t before = list->paths.n;
    if (walk_folder(&w, folder, NULL))
        return sd_err_memory(err, 0);
    if (list->paths.n > before)
        qsort(list->paths.v + before, list->paths.n - before, sizeof *list->paths.v, by_bytes);
    return 0;
}

void sd_image_list_free(struct sd_image_list *list)
{
    sd_strings_free(&list->paths);
    sd_arena_free(&list->arena);
}
