#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int sd_err_set(struct sd_err *err, enum sd_err_code code, const char *fmt, ...)
{
    if (!err)
        return -1;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    err->code = code;
    return -1;
}

int sd_err_prefix(struct sd_err *err, const char *fmt, ...)
{
    if (!err)
        return -1;
    char inner[sizeof err->msg];
    memcpy(inner, err->msg, sizeof inner);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n + 2 < sizeof err->msg) {
        size_t room = sizeof err->msg - (size_t)n - 3, len = strlen(inner);
        memcpy(err->msg + n, ": ", 2);
        memcpy(err->msg + n + 2, inner, len < room ? len : room);
        err->msg[(size_t)n + 2 + (len < room ? len : room)] = 0;
    }
    return -1;
}

int sd_err_memory(struct sd_err *err, size_t bytes)
{
    return sd_err_set(err, SD_ERR_MACHINE, "out of memory (%zu bytes asked for)", bytes);
}

int sd_err_errno(struct sd_err *err, const char *what)
{
    int e = errno;
    int machine =
        e == ENOSPC || e == EDQUOT || e == EIO || e == ENOMEM || e == EMFILE || e == ENFILE || e == EFBIG;
    return sd_err_set(err, machine ? SD_ERR_MACHINE : SD_ERR_DATA, "%s: %s", what, strerror(e));
}
