#include "store/archive_write.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <zlib.h>

#include "store/tar.h"
#include "store/zip_write.h"

enum { TAR_END = 10240 + 2 * SD_TAR_BLOCK, ZIP_END = 22 + 56 + 20 };

struct sd_archive_writer {
    bool is_zip;
    struct sd_zip_writer zip; /* its file is a tar's too */
    struct sd_buf head;
};

static bool ends_in(const char *path, const char *ending)
{
    size_t len = strlen(path), n = strlen(ending);
    return len > n && !strcasecmp(path + len - n, ending);
}

bool sd_archive_writer_takes(const char *path)
{
    return ends_in(path, ".zip") || ends_in(path, ".tar");
}

int sd_archive_writer_open(struct sd_archive_writer **out, const char *path, struct sd_err *err)
{
    bool zip = ends_in(path, ".zip");
    *out = NULL;
    if (!sd_archive_writer_takes(path))
        return sd_err_set(err, SD_ERR_USAGE, "%s: an archive's name must end in .tar or .zip", path);
    struct sd_archive_writer *w = calloc(1, sizeof *w);
    if (!w)
        return sd_err_memory(err, sizeof *w);
    w->is_zip = zip;
    w->zip.mode = S_IFREG | 0644;
    if (sd_atomic_open(&w->zip.file, path, err)) {
        free(w);
        return -1;
    }
    *out = w;
    return 0;
}

static int add_tar(struct sd_archive_writer *w, const char *name, const void *bytes, size_t len,
                   struct sd_err *err)
{
    static const char zeros[SD_TAR_BLOCK];
    size_t pad = (SD_TAR_BLOCK - len % SD_TAR_BLOCK) % SD_TAR_BLOCK;
    sd_buf_clear(&w->head);
    if (sd_tar_header(&w->head, name, len))
        return sd_err_memory(err, strlen(name));
    if (sd_atomic_write(w->zip.file, w->head.data, w->head.len, err) ||
        sd_atomic_write(w->zip.file, bytes, len, err))
        return -1;
    return sd_atomic_write(w->zip.file, zeros, pad, err);
}

int sd_archive_writer_add(struct sd_archive_writer *w, const char *name, const void *bytes, size_t len,
                          struct sd_err *err)
{
    if (!w->is_zip)
        return add_tar(w, name, bytes, len, err);
    uLong crc = crc32_z(crc32_z(0, NULL, 0), bytes, len);
    return sd_zip_write_member(&w->zip, name, (uint32_t)crc, len, err) ||
                   sd_atomic_write(w->zip.file, bytes, len, err)
               ? -1
               : 0;
}

uint64_t sd_archive_writer_size(const struct sd_archive_writer *w)
{
    uint64_t size = sd_atomic_size(w->zip.file);
    return w->is_zip ? size + w->zip.directory.len + ZIP_END : size + TAR_END;
}

uint64_t sd_archive_writer_more(const char *name, uint64_t len)
{
    /* a tar's header and an extended one with the name, and padding: more than a zip takes */
    return len + 2 * strlen(name) + 4 * SD_TAR_BLOCK;
}

int sd_archive_writer_commit(struct sd_archive_writer **out, struct sd_err *err)
{
    struct sd_archive_writer *w = *out;
    int bad = 0;
    if (w->is_zip) {
        bad = sd_zip_write_end(&w->zip, err);
    } else {
        sd_buf_clear(&w->head);
        bad = sd_tar_end(&w->head, sd_atomic_size(w->zip.file)) ? sd_err_memory(err, TAR_END) : 0;
        bad = bad || sd_atomic_write(w->zip.file, w->head.data, w->head.len, err) ? -1 : 0;
    }
    if (!bad)
        bad = sd_atomic_commit(&w->zip.file, err);
    sd_archive_writer_discard(out);
    return bad;
}

void sd_archive_writer_discard(struct sd_archive_writer **out)
{
    struct sd_archive_writer *w = *out;
    if (!w)
        return;
    sd_atomic_discard(&w->zip.file);
    sd_zip_write_free(&w->zip);
    sd_buf_free(&w->head);
    free(w);
    *out = NULL;
}
