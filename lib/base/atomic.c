#define _GNU_SOURCE
#include "base/atomic.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)256 * 1024)

struct sd_atomic {
    char *path; /* as the caller wrote it, for messages */
    char *real; /* links followed */
    char *temp; /* name of the stand-in file, NULL while it has none */
    int fd, direct;
    bool unsynced;
    uint64_t size;
    size_t used;
    unsigned char buffer[BUFFER_BYTES];
};

/* Folder of path with its trailing slash; "" for the current one. */
static size_t folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* A short random name beside path, so that a long file name stays within NAME_MAX. */
static char *temp_name(const char *path)
{
    uint64_t r = 0;
    if (getrandom(&r, sizeof r, 0) != sizeof r)
        r = (uint64_t)getpid() << 32 ^ (uintptr_t)path;
    char *name = NULL;
    int n = asprintf(&name, "%.*s.sd-%016llx.tmp", (int)folder_length(path), path, (unsigned long long)r);
    return n < 0 ? NULL : name;
}

static int open_nameless(const char *real)
{
    if (access("/proc/self/fd", X_OK)) /* needed to name the file later */
        return -1;
    size_t n = folder_length(real);
    char *folder = n ? strndup(real, n) : strdup(".");
    int fd = folder ? open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666) : -1;
    free(folder);
    return fd;
}

static int open_named(struct sd_atomic *a)
{
    for (int tries = 0; tries < 16; tries++) {
        a->temp = temp_name(a->real);
        if (!a->temp)
            return -1;
        int fd = open(a->temp, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
        if (fd >= 0)
            return fd;
        int e = errno;
        free(a->temp);
        a->temp = NULL;
        errno = e;
        if (e != EEXIST)
            return -1;
    }
    return -1;
}

static int open_target(struct sd_atomic *a)
{
    struct stat st;
    int exists = !stat(a->path, &st);
    if (exists && S_ISDIR(st.st_mode)) {
        errno = EISDIR;
        return -1;
    }
    if (exists && !S_ISREG(st.st_mode)) {
        a->direct = 1;
        return a->fd = open(a->path, O_WRONLY | O_CLOEXEC);
    }
    a->real = exists ? realpath(a->path, NULL) : strdup(a->path);
    if (!a->real)
        return -1;
    a->fd = open_nameless(a->real);
    if (a->fd < 0)
        a->fd = open_named(a);
    if (a->fd >= 0 && exists)
        (void)!fchmod(a->fd, st.st_mode & 07777);
    return a->fd;
}

int sd_atomic_open(struct sd_atomic **out, const char *path, struct sd_err *err)
{
    *out = NULL;
    struct sd_atomic *a = malloc(sizeof *a);
    if (!a)
        return sd_err_memory(err, sizeof *a);
    memset(a, 0, offsetof(struct sd_atomic, buffer));
    a->fd = -1;
    a->path = strdup(path);
    if (!a->path || open_target(a) < 0) {
        sd_err_errno(err, path);
        sd_atomic_discard(&a);
        return -1;
    }
    *out = a;
    return 0;
}

static int write_all(struct sd_atomic *a, const unsigned char *p, size_t n, struct sd_err *err)
{
    while (n) {
        ssize_t w = write(a->fd, p, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return sd_err_errno(err, a->path);
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

static int flush(struct sd_atomic *a, struct sd_err *err)
{
    size_t n = a->used;
    a->used = 0;
    return write_all(a, a->buffer, n, err);
}

int sd_atomic_write(struct sd_atomic *a, const void *bytes, size_t len, struct sd_err *err)
{
    a->size += len;
    if (a->used + len > BUFFER_BYTES && flush(a, err))
        return -1;
    if (len >= BUFFER_BYTES)
        return write_all(a, bytes, len, err);
    if (len)
        memcpy(a->buffer + a->used, bytes, len);
    a->used += len;
    return 0;
}

void sd_atomic_unsynced(struct sd_atomic *a)
{
    a->unsynced = true;
}

uint64_t sd_atomic_size(const struct sd_atomic *a)
{
    return a->size;
}

/* Gives a nameless file the name to: linkat cannot replace a file that exists, so that goes over a third
 * name. */
static int link_as(struct sd_atomic *a, const char *to)
{
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", a->fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, to, AT_SYMLINK_FOLLOW);
}

static int give_name(struct sd_atomic *a)
{
    if (!a->temp && !link_as(a, a->real))
        return 0;
    for (int tries = 0; !a->temp && tries < 16; tries++) {
        char *name = temp_name(a->real);
        if (!name)
            return -1;
        if (!link_as(a, name)) {
            a->temp = name;
            break;
        }
        free(name);
        if (errno != EEXIST)
            return -1;
    }
    if (!a->temp || rename(a->temp, a->real))
        return -1;
    free(a->temp);
    a->temp = NULL;
    return 0;
}

static void sync_folder(const char *real)
{
    size_t n = folder_length(real);
    char *folder = n ? strndup(real, n) : strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(folder);
}

static int finish(struct sd_atomic *a, struct sd_err *err)
{
    if (flush(a, err))
        return -1;
    if (!a->direct) {
        if ((!a->unsynced && fsync(a->fd)) || give_name(a))
            return sd_err_errno(err, a->path);
        if (!a->unsynced)
            sync_folder(a->real);
    }
    int fd = a->fd;
    a->fd = -1;
    return close(fd) ? sd_err_errno(err, a->path) : 0;
}

int sd_atomic_commit(struct sd_atomic **a, struct sd_err *err)
{
    int rc = finish(*a, err);
    sd_atomic_discard(a);
    return rc;
}

void sd_atomic_discard(struct sd_atomic **out)
{
    struct sd_atomic *a = *out;
    if (!a)
        return;
    if (a->fd >= 0)
        close(a->fd);
    if (a->temp)
        unlink(a->temp);
    free(a->temp);
    free(a->real);
    free(a->path);
    free(a);
    *out = NULL;
}

int sd_atomic_put(const char *path, const void *bytes, size_t len, struct sd_err *err)
{
    struct sd_atomic *a;
    if (sd_atomic_open(&a, path, err))
        return -1;
    if (sd_atomic_write(a, bytes, len, err)) {
        sd_atomic_discard(&a);
        return -1;
    }
    return sd_atomic_commit(&a, err);
}
