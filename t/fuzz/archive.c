/* Any bytes as a zip or tar archive: what its members say of themselves holds, each is found by its name, and
 * what is read has the size that was told. fuzz-seeds: t/data/archive t/data/store/deflated.npz */
#include "store/archive.h"

#include <stdlib.h>
#include <string.h>

static void must(int good)
{
    if (!good)
        abort();
}

static int leads_out(const char *name)
{
    return *name == '/' || !strcmp(name, "..") || !strncmp(name, "../", 3) || strstr(name, "/../");
}

static void read_member(const struct sd_archive *a, const struct sd_archive_member *m, size_t size)
{
    struct sd_buf all = SD_BUF_INIT, some = SD_BUF_INIT;
    struct sd_err err = {0};
    const void *bytes, *first;
    must(m->size <= 1032 * size && m->offset <= size);
    int bad = sd_archive_view(a, m, 1 << 20, &all, &bytes, &err);
    must(!bad == !err.code);
    int64_t n = sd_archive_peek(a, m, 1000, &some, &first, &err);
    must(n <= 1000 && n <= (int64_t)m->size);
    if (!bad) {
        must(n == (m->size < 1000 ? (int64_t)m->size : 1000) && !memcmp(bytes, first, (size_t)n));
        unsigned sum = 0;
        for (size_t i = 0; i < m->size; i++)
            sum += ((const unsigned char *)bytes)[i];
        must(sum <= 255 * m->size);
    }
    sd_buf_free(&all);
    sd_buf_free(&some);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sd_archive *a;
    struct sd_archive_member m = {0}, found = {0};
    struct sd_err err = {0};
    if (sd_archive_parse(&a, data, size, "fuzz", &err)) {
        must(err.msg[0] && !a);
        return 0;
    }
    must(sd_archive_count(a) <= size);
    for (size_t i = 0; i < sd_archive_count(a); i++) {
        int bad = sd_archive_member(a, i, &m, &err);
        must(strlen(m.name.data) == m.name.len);
        if (bad || m.folder)
            continue;
        must(m.name.len && !leads_out(m.name.data));
        must(sd_archive_find(a, m.name.data, &found, &err) == 1 && found.offset == m.offset &&
             found.size == m.size);
        read_member(a, &m, size);
    }
    sd_buf_free(&m.name);
    sd_buf_free(&found.name);
    sd_archive_close(a);
    return 0;
}
