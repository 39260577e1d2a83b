/* Any bytes as a file to be indexed, as lines and as members: what is found again is what was put in, all
 * that is in the index can be read, and of equal keys the last counts or all do.
 * fuzz-seeds: t/data/meta t/data/record t/data/merge */
#include "record/index.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void must(int good)
{
    if (!good)
        abort();
}

static void count(void *ctx, const char *message)
{
    ++*(size_t *)ctx;
    must(*message);
}

static const struct sd_members_item *read_entry(const struct sd_index *x, struct sd_index_reader *r, size_t i)
{
    struct sd_err err = {0};
    must(!sd_index_read(x, r, i, &err) && r->item.name);
    return &r->item;
}

static void look_up_all(const char *file, const char *key)
{
    struct sd_index x;
    struct sd_index_reader r = {0}, again = {0};
    struct sd_err err = {0};
    size_t bad = 0;
    const struct sd_index_setup setup = {.key = key, .no_key = "no path", .report = count, .ctx = &bad};
    if (sd_index_open(&x, file, &setup, &err)) {
        must(!key && err.msg[0]);
        return;
    }
    for (size_t i = 0; i < x.n; i++) {
        size_t found = SIZE_MAX;
        const struct sd_members_item *e = read_entry(&x, &r, i);
        must(!sd_index_used(&x, i) && !sd_index_repeated(&x, i));
        must(sd_index_find(&x, &again, e->name, e->name_len, &found, &err) == 1 && found == i);
        sd_index_use(&x, i);
        must(sd_index_used(&x, i) && !sd_index_read(&x, &r, i, &err));
        must(again.item.value_len == e->value_len && !memcmp(again.item.value, e->value, e->value_len));
    }
    sd_index_reader_free(&r);
    sd_index_reader_free(&again);
    sd_index_close(&x);
}

struct added {
    size_t n;
    uint64_t bytes;
};

static int added(void *ctx, const char *name, size_t len, struct sd_err *err)
{
    struct added *a = ctx;
    (void)err;
    must(name != NULL);
    a->n++;
    a->bytes += len;
    return 0;
}

/* Entries of equal keys too; nothing may be wrong in the file. */
static void read_all(const char *file, const char *key)
{
    struct sd_index x;
    struct sd_index_reader r = {0};
    struct sd_err err = {0};
    struct added a = {0};
    const struct sd_index_setup setup = {
        .key = key, .no_key = "no path", .regular = true, .all = true, .added = added, .ctx = &a};
    if (sd_index_open(&x, file, &setup, &err)) {
        must(err.msg[0]);
        return;
    }
    uint64_t bytes = 0, repeated = 0;
    for (size_t i = 0; i < x.n; i++) {
        bytes += read_entry(&x, &r, i)->name_len;
        repeated += sd_index_repeated(&x, i);
    }
    must(a.n == x.n && a.bytes == bytes && repeated == x.repeated && (!x.n || repeated < x.n));
    for (size_t i = x.n; i-- > 0;) /* in another order */
        bytes -= read_entry(&x, &r, i)->name_len;
    must(!bytes);
    sd_index_reader_free(&r);
    sd_index_close(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[] = "/tmp/fuzz-index.XXXXXX";
    int fd = mkstemp(name);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    look_up_all(name, "path");
    look_up_all(name, NULL);
    read_all(name, "path");
    read_all(name, NULL);
    unlink(name);
    return 0;
}
