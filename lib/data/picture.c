#include "data/picture.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/path.h"
#include "record/scan.h"
#include "text/sidecar.h"

enum { HEADER_BYTES = 16 << 20 }; /* where a header that has not ended is given up */

/* The archive and the member of a path; *use is to be given back when it is not NULL. 1, 0 where the archive
 * has no such member, -1. */
static int find_member(struct sd_archives *all, const char *path, struct sd_archive_use **use,
                       struct sd_archive_member *m, struct sd_err *err)
{
    const char *member = NULL;
    size_t len = sd_archive_split(path, &member);
    if (sd_archives_get(all, path, len, use, err))
        return -1;
    int got = sd_archive_find((*use)->archive, member, m, err);
    return got < 0 ? sd_err_prefix(err, "%s", path) : got;
}

static int need_member(struct sd_archives *all, const char *path, struct sd_archive_use **use,
                       struct sd_archive_member *m, struct sd_err *err)
{
    int got = find_member(all, path, use, m, err);
    if (got > 0)
        return 0;
    if (got < 0)
        return -1;
    const struct sd_err *damage = sd_archive_damage((*use)->archive);
    return damage->code
               ? sd_err_set(err, SD_ERR_DATA, "%s: no such member before the damage (%s)", path, damage->msg)
               : sd_err_set(err, SD_ERR_DATA, "%s: no such member in the archive", path);
}

/* ---- bytes ---- */

int sd_picture_read(struct sd_archives *all, const char *path, struct sd_picture_bytes *b, struct sd_err *err)
{
    *b = (struct sd_picture_bytes){.all = all};
    int bad;
    if (sd_archive_split(path, NULL)) {
        struct sd_archive_member m = {0};
        bad = need_member(all, path, &b->use, &m, err);
        if (!bad && sd_archive_view(b->use->archive, &m, SD_PICTURE_BYTES, &b->buf, &b->bytes, err))
            bad = sd_err_prefix(err, "%s", path);
        b->len = (size_t)m.size;
        sd_buf_free(&m.name);
    } else {
        bad = sd_file_read(path, SD_PICTURE_BYTES, &b->buf, err);
        b->bytes = b->buf.data;
        b->len = b->buf.len;
    }
    if (bad)
        sd_picture_done(b);
    return bad;
}

void sd_picture_done(struct sd_picture_bytes *b)
{
    sd_archives_done(b->all, b->use);
    sd_buf_free(&b->buf);
    *b = (struct sd_picture_bytes){0};
}

/* ---- pixels, header, file ---- */

int sd_picture_load(struct sd_archives *all, const char *path, int channels, unsigned flags,
                    struct sd_image *im, struct sd_err *err)
{
    struct sd_picture_bytes b;
    *im = SD_IMAGE_INIT;
    if (sd_picture_read(all, path, &b, err))
        return -1;
    int bad = sd_image_decode(b.bytes, b.len, channels, flags, im, err);
    sd_picture_done(&b);
    return bad ? sd_err_prefix(err, "%s", path) : 0;
}

int sd_picture_load_small(struct sd_archives *all, const char *path, int channels, uint32_t width,
                          uint32_t height, uint32_t full[2], struct sd_image *im, struct sd_err *err)
{
    struct sd_picture_bytes b;
    *im = SD_IMAGE_INIT;
    if (sd_picture_read(all, path, &b, err))
        return -1;
    int bad = sd_image_decode_small(b.bytes, b.len, channels, width, height, full, im, err);
    sd_picture_done(&b);
    return bad ? sd_err_prefix(err, "%s", path) : 0;
}

int sd_picture_probe_member(const struct sd_archive *a, const struct sd_archive_member *m,
                            struct sd_buf *scratch, struct sd_image_info *info, struct sd_err *err)
{
    if (m->folder)
        return sd_err_set(err, SD_ERR_DATA, "a folder");
    int bad = -1;
    size_t tried = 0;
    for (size_t n = m->deflated ? SD_IMAGE_PROBE_BYTES : (size_t)m->size; bad; n *= 16) {
        const void *bytes;
        int64_t got = sd_archive_peek(a, m, n, scratch, &bytes, err);
        if (got < 0 || (tried && (size_t)got <= tried))
            return -1;
        err->code = 0;
        bad = sd_image_probe_memory(bytes, (size_t)got, info, err);
        tried = (size_t)got;
        if (bad && (info->format == SD_IMAGE_UNKNOWN || tried == m->size || tried >= HEADER_BYTES))
            return -1;
    }
    info->bytes = m->size;
    err->code = 0;
    return 0;
}

int sd_picture_probe(struct sd_archives *all, const char *path, struct sd_image_info *info,
                     struct sd_err *err)
{
    if (!sd_archive_split(path, NULL))
        return sd_image_probe(path, info, err);
    struct sd_archive_use *use = NULL;
    struct sd_archive_member m = {0};
    struct sd_buf scratch = SD_BUF_INIT;
    int bad = need_member(all, path, &use, &m, err);
    if (!bad && sd_picture_probe_member(use->archive, &m, &scratch, info, err))
        bad = sd_err_prefix(err, "%s", path);
    sd_archives_done(all, use);
    sd_buf_free(&m.name);
    sd_buf_free(&scratch);
    return bad;
}

int sd_picture_stat(struct sd_archives *all, const char *path, struct sd_picture_stat *st, struct sd_err *err)
{
    struct stat file;
    if (!sd_archive_split(path, NULL)) {
        if (stat(path, &file))
            return sd_err_errno(err, "cannot open");
        if (!S_ISREG(file.st_mode))
            return sd_err_set(err, SD_ERR_DATA, "not a regular file");
        *st = (struct sd_picture_stat){(uint64_t)file.st_size, file.st_mtim};
        return 0;
    }
    struct sd_archive_use *use = NULL;
    struct sd_archive_member m = {0};
    int bad = need_member(all, path, &use, &m, err);
    if (!bad)
        *st = (struct sd_picture_stat){m.size, use->st.st_mtim};
    sd_archives_done(all, use);
    sd_buf_free(&m.name);
    return bad;
}

int sd_picture_sha256(struct sd_archives *all, const char *path, char hex[65], struct sd_err *err)
{
    if (sd_archive_split(path, NULL)) {
        struct sd_picture_bytes b;
        if (sd_picture_read(all, path, &b, err))
            return -1;
        sd_sha256(b.bytes, b.len, hex);
        sd_picture_done(&b);
        return 0;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return sd_err_errno(err, "cannot open");
    int bad = sd_sha256_fd(fd, hex, err);
    close(fd);
    return bad;
}

/* ---- text beside it ---- */

static int read_text(struct sd_archives *all, const char *path, struct sd_buf *text, struct sd_err *err)
{
    struct sd_archive_use *use = NULL;
    struct sd_archive_member m = {0};
    struct sd_buf scratch = SD_BUF_INIT;
    const void *bytes;
    int got = find_member(all, path, &use, &m, err);
    if (got == 1) {
        if (m.folder || sd_archive_view(use->archive, &m, SD_SIDECAR_BYTES, &scratch, &bytes, err))
            got = m.folder ? 0 : sd_err_prefix(err, "%s", path);
        else if (sd_buf_add(text, bytes, (size_t)m.size))
            got = sd_err_memory(err, (size_t)m.size);
    }
    sd_archives_done(all, use);
    sd_buf_free(&m.name);
    sd_buf_free(&scratch);
    return got;
}

int sd_picture_sidecar(struct sd_archives *all, const char *path, const char *ending, struct sd_buf *name,
                       struct sd_buf *text, struct sd_err *err)
{
    if (!sd_archive_split(path, NULL))
        return sd_sidecar_read(path, ending, name, text, err);
    sd_buf_clear(name);
    sd_buf_clear(text);
    if (sd_path_sidecar(name, path, ending))
        return sd_err_memory(err, strlen(path));
    int got = read_text(all, name->data, text, err);
    return got == 1 && sd_sidecar_check(text, err) ? sd_err_prefix(err, "%s", name->data) : got;
}

int sd_picture_open(const char *path, struct sd_image_info *info, struct sd_err *err)
{
    uint8_t buf[SD_IMAGE_PROBE_BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return sd_err_errno(err, "cannot open");
    if (!sd_image_probe_fd(fd, buf, info, err))
        return fd;
    close(fd);
    return -1;
}

int sd_picture_members(const struct sd_image_info *info, struct sd_buf *out)
{
    char text[160];
    int n = snprintf(text, sizeof text, ",\"width\":%u,\"height\":%u,\"format\":\"%s\",\"bytes\":%llu",
                     info->width, info->height, sd_image_format_name(info->format),
                     (unsigned long long)info->bytes);
    return sd_buf_add(out, text, (size_t)n);
}

int sd_picture_error(const char *tool, const char *message, struct sd_buf *out)
{
    return sd_buf_adds(out, ",\"error\":{\"tool\":") || sd_scan_quote(out, tool, strlen(tool)) ||
                   sd_buf_adds(out, ",\"message\":") || sd_scan_quote(out, message, strlen(message)) ||
                   sd_buf_addc(out, '}')
               ? -1
               : 0;
}
