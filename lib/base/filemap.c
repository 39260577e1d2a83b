#include "base/filemap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int map_fd(struct sd_filemap *m, int fd, const char *path, struct sd_err *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return sd_err_errno(err, path);
    if (S_ISDIR(st.st_mode))
        return sd_err_set(err, SD_ERR_DATA, "%s: is a folder, expected a file", path);
    if (!S_ISREG(st.st_mode))
        return sd_err_set(err, SD_ERR_DATA, "%s: is not a regular file", path);
    *m = (struct sd_filemap){(const unsigned char *)"", (size_t)st.st_size};
    if (!st.st_size)
        return 0;
    void *p = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
        *m = (struct sd_filemap){0};
        return sd_err_errno(err, path);
    }
    m->data = p;
    return 0;
}

int sd_filemap_open(struct sd_filemap *m, const char *path, struct sd_err *err)
{
    *m = (struct sd_filemap){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* O_NONBLOCK: a fifo must not hang us */
    if (fd < 0)
        return sd_err_errno(err, path);
    int rc = map_fd(m, fd, path, err);
    close(fd);
    return rc;
}

void sd_filemap_close(struct sd_filemap *m)
{
    if (m->size)
        munmap((void *)m->data, m->size);
    *m = (struct sd_filemap){0};
}

void sd_filemap_release(const void *p, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t from = ((uintptr_t)p + page - 1) / page * page, to = ((uintptr_t)p + bytes) / page * page;
    if (from < to)
        madvise((void *)from, to - from, MADV_DONTNEED);
}
