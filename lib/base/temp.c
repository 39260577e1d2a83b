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
