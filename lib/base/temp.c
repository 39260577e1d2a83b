#define _GNU_SOURCE
#include "base/temp.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

int sd_temp_failed(struct sd_err *err, const char *what)
{
    sd_err_errno(err, what);
    if (err)
        err->code = SD_ERR_MACHINE;
    return -1;
}

int sd_temp_open(struct sd_err *err)
{
    const char *folder = getenv("TMPDIR");
    struct sd_buf name = SD_BUF_INIT;
    if (!folder || !*folder)
        folder = "/tmp";
    if (sd_buf_addf(&name, "%s/sd-temp.XXXXXX", folder))
        return sd_err_memory(err, 0);
    int fd = mkostemp(name.data, O_CLOEXEC);
    if (fd >= 0 && unlink(name.data)) {
        close(fd);
        fd = -1;
    }
    sd_buf_free(&name);
    if (fd < 0) {
        sd_temp_failed(err, "cannot make a temporary file");
        return sd_err_prefix(err, "%s", folder);
    }
    return fd;
}

FILE *sd_temp_stream(struct sd_err *err)
{
    int fd = sd_temp_open(err);
    FILE *file = fd < 0 ? NULL : fdopen(fd, "w+");
    if (fd >= 0 && !file) {
        sd_temp_failed(err, "a temporary file");
        close(fd);
    }
    return file;
}

int sd_temp_write(int fd, const void *bytes, size_t len, struct sd_err *err)
{
    const char *p = bytes;
    while (len) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sd_temp_failed(err, "cannot write the temporary file");
        p += n;
        len -= (size_t)n;
    }
    return 0;
}
