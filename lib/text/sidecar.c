#include "text/sidecar.h"

#include "base/json.h" /* sd_utf8_valid */
#include "base/path.h"
#include "text/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 4096 }; /* most sidecars fit, and are read with one call */

static int read_all(int fd, struct sd_buf *text, struct sd_err *err)
{
    for (size_t room = READ_BYTES;; room = 1 << 20) {
        if (sd_buf_reserve(text, room))
            return sd_err_memory(err, room);
        ssize_t n = read(fd, text->data + text->len, room);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return sd_err_errno(err, "cannot read");
        text->len += (size_t)n;
        text->data[text->len] = 0;
        if (text->len > SD_SIDECAR_BYTES)
            return sd_err_set(err, SD_ERR_DATA, "larger than %d MiB", SD_SIDECAR_BYTES >> 20);
        if ((size_t)n < room) /* the end, for a regular file */
            return 0;
    }
}

int sd_sidecar_check(struct sd_buf *text, struct sd_err *err)
{
    if (!text->len)
        return 0;
    const char *nul = memchr(text->data, 0, text->len);
    if (nul)
        return sd_err_set(err, SD_ERR_DATA, "a NUL at byte %zu: not UTF-8 text",
                          (size_t)(nul - text->data) + 1);
    if (!sd_utf8_valid(text->data, text->len))
        return sd_err_set(err, SD_ERR_DATA, "not UTF-8 text");
    if (text->len >= 3 && !memcmp(text->data, "\xef\xbb\xbf", 3)) {
        text->len -= 3;
        memmove(text->data, text->data + 3, text->len + 1);
    }
    return 0;
}

int sd_sidecar_read_file(const char *path, struct sd_buf *text, struct sd_err *err)
{
    sd_buf_clear(text);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG))
        return 0;
    if (fd < 0)
        return sd_err_errno(err, path);
    int bad = read_all(fd, text, err);
    close(fd);
    return bad || sd_sidecar_check(text, err) ? sd_err_prefix(err, "%s", path) : 1;
}

int sd_sidecar_read(const char *image_path, const char *ending, struct sd_buf *path, struct sd_buf *text,
                    struct sd_err *err)
{
    sd_buf_clear(path);
    if (sd_path_sidecar(path, image_path, ending))
        return sd_err_memory(err, strlen(image_path));
    return sd_sidecar_read_file(path->data, text, err);
}

int sd_text_split(char *text, size_t len, const char *separators, struct sd_strings *list)
{
    for (char *p = text, *end = text + len; p <= end;) {
        char *q = p;
        while (q < end && !(*q && strchr(separators, *q)))
            q++;
        struct sd_str part = sd_str_strip((struct sd_str){p, (size_t)(q - p)});
        if (part.len) {
            text[part.data - text + (ptrdiff_t)part.len] = 0;
            if (sd_strings_add(list, part.data))
                return -1;
        }
        p = q + 1;
    }
    return 0;
}
