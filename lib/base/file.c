#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_fd(int fd, size_t max, struct sd_buf *out, struct sd_err *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return sd_err_errno(err, "cannot read");
    if (!S_ISREG(st.st_mode))
        return sd_err_set(err, SD_ERR_DATA, "not a regular file");
    if ((uint64_t)st.st_size > max)
        return sd_err_set(err, SD_ERR_DATA, "%lld bytes, more than the %zu allowed", (long long)st.st_size,
                          max);
    size_t start = out->len,
           room = (size_t)st.st_size + 1; /* one more, to see the end without a second turn */
    for (;;) {
        if (sd_buf_reserve(out, room))
            return sd_err_memory(err, room);
        ssize_t n = read(fd, out->data + out->len, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sd_err_errno(err, "cannot read");
        out->len += (size_t)n;
        out->data[out->len] = 0;
        if (out->len - start > max)
            return sd_err_set(err, SD_ERR_DATA, "more than the %zu bytes allowed", max);
        if (n == 0 || (size_t)n < room)
            return 0;
        room = 65536; /* it grows while we read */
    }
}

int sd_file_read_at(int dirfd, const char *path, size_t max, struct sd_buf *out, struct sd_err *err)
{
    int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return sd_err_errno(err, "cannot open");
    int bad = read_fd(fd, max, out, err);
    close(fd);
    return bad;
}

int sd_file_read(const char *path, size_t max, struct sd_buf *out, struct sd_err *err)
{
    return sd_file_read_at(AT_FDCWD, path, max, out, err) ? sd_err_prefix(err, "%s", path) : 0;
}
