#define _GNU_SOURCE
#include "base/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct sd_folder {
    char *path; /* as the caller wrote it, for messages */
    char *real; /* links followed, no slash at the end */
    char *temp;
    bool made, exists;
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
    (void)st, (void)kind, (void)walk;
    (void)!remove(path);
    return 0;
}

/* What cannot be removed stays. */
static void remove_all(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static char *without_slashes(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return strndup(path, n);
}

static int prepare(struct sd_folder *f)
{
    struct stat st;
    char *plain = without_slashes(f->path);
    if (!plain)
        return -1;
    f->exists = !stat(plain, &st);
    if (f->exists && !S_ISDIR(st.st_mode)) {
        free(plain);
        errno = ENOTDIR;
        return -1;
    }
    f->real = f->exists ? realpath(plain, NULL) : strdup(plain);
    free(plain);
    if (!f->real)
        return -1;
    const char *slash = strrchr(f->real, '/');
    if (asprintf(&f->temp, "%.*s.sd-XXXXXX.tmp", slash ? (int)(slash - f->real) + 1 : 0, f->real) < 0) {
        f->temp = NULL;
        return -1;
    }
    for (int tries = 0; tries < 16 && !f->made; tries++) { /* mkdtemp would make it private */
        char *x = f->temp + strlen(f->temp) - strlen("XXXXXX.tmp");
        snprintf(x, strlen("XXXXXX.tmp") + 1, "%06x.tmp",
                 (unsigned)(getpid() * 2654435761u + (unsigned)tries * 40503u) & 0xffffff);
        f->made = !mkdir(f->temp, f->exists ? st.st_mode & 07777 : 0777);
        if (!f->made && errno != EEXIST)
            return -1;
    }
    return f->made ? 0 : -1;
}

int sd_folder_open(struct sd_folder **out, const char *path, struct sd_err *err)
{
    *out = NULL;
    struct sd_folder *f = calloc(1, sizeof *f);
    if (!f)
        return sd_err_memory(err, sizeof *f);
    if (!(f->path = strdup(path)) || prepare(f)) {
        sd_err_errno(err, path);
        sd_folder_discard(&f);
        return -1;
    }
    *out = f;
    return 0;
}

const char *sd_folder_path(const struct sd_folder *f)
{
    return f->temp;
}

int sd_folder_make(struct sd_folder *f, const char *name, struct sd_err *err)
{
    char *path;
    if (asprintf(&path, "%s/%s", f->temp, name) < 0)
        return sd_err_memory(err, strlen(name));
    int rc = mkdir(path, 0777) && errno != EEXIST ? sd_err_errno(err, path) : 0;
    free(path);
    return rc;
}

static void sync_folder(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

static int give_name(struct sd_folder *f)
{
    sync_folder(f->temp);
    if (f->exists ? !renameat2(AT_FDCWD, f->temp, AT_FDCWD, f->real, RENAME_EXCHANGE)
                  : !renameat2(AT_FDCWD, f->temp, AT_FDCWD, f->real, RENAME_NOREPLACE))
        return 0;
    /* some file systems know neither; an empty folder is replaced by rename itself */
    return errno == EINVAL || errno == ENOSYS ? rename(f->temp, f->real) : -1;
}

int sd_folder_commit(struct sd_folder **out, struct sd_err *err)
{
    struct sd_folder *f = *out;
    int rc = give_name(f) ? sd_err_errno(err, f->path) : 0;
    if (!rc) {
        char *slash = strrchr(f->real, '/');
        if (slash)
            slash[1] = 0;
        sync_folder(slash ? f->real : ".");
    }
    sd_folder_discard(out); /* after an exchange the hidden name is the old folder's */
    return rc;
}

void sd_folder_discard(struct sd_folder **out)
{
    struct sd_folder *f = *out;
    if (!f)
        return;
    if (f->made)
        remove_all(f->temp);
    free(f->temp);
    free(f->real);
    free(f->path);
    free(f);
    *out = NULL;
}
