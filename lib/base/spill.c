#include "base/spill.h"

#include "base/temp.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { IN_MEMORY = 64 * 1024 };

static int write_tail(struct sd_spill *s, struct sd_err *err)
{
    if (!s->open) {
        if ((s->fd = sd_temp_open(err)) < 0)
            return -1;
        s->open = true;
    }
    if (sd_temp_write(s->fd, s->tail.data, s->tail.len, err))
        return -1;
    s->written += s->tail.len;
    sd_buf_clear(&s->tail);
    return 0;
}

int sd_spill_add(struct sd_spill *s, const void *bytes, size_t len, struct sd_err *err)
{
    if (s->tail.len >= IN_MEMORY && write_tail(s, err))
        return -1;
    return sd_buf_add(&s->tail, bytes, len) ? sd_err_memory(err, len) : 0;
}

int sd_spill_read(const struct sd_spill *s, uint64_t at, void *bytes, size_t n, size_t *got,
                  struct sd_err *err)
{
    char *to = bytes;
    *got = 0;
    while (*got < n && at < s->written) {
        size_t most = s->written - at < n - *got ? (size_t)(s->written - at) : n - *got;
        ssize_t k = pread(s->fd, to + *got, most, (off_t)at);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return sd_temp_failed(err, "cannot read the temporary file");
        if (!k)
            return sd_err_set(err, SD_ERR_MACHINE, "the temporary file has become shorter");
        *got += (size_t)k;
        at += (uint64_t)k;
    }
    if (*got < n && at - s->written < s->tail.len) {
        size_t from = (size_t)(at - s->written), left = s->tail.len - from;
        size_t k = left < n - *got ? left : n - *got;
        memcpy(to + *got, s->tail.data + from, k);
        *got += k;
    }
    return 0;
}

void sd_spill_free(struct sd_spill *s)
{
    if (s->open)
        close(s->fd);
    sd_buf_free(&s->tail);
    *s = (struct sd_spill){0};
}
