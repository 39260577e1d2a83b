/* Any bytes as a file to be indexed, as lines and as members: what is found again is what was put in, and all
 * that is in the index can be read. fuzz-seeds: t/data/meta t/data/record t/data/merge */
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

static void look_up_all(const char *file, bool members)
{
    struct sd_index x;
    struct sd_index_reader r = {0}, again = {0};
    struct sd_err err = {0};
    size_t bad = 0;
    const struct sd_index_setup setup = {.members = members, .report = count, .ctx = &bad};
    if (sd_index_open(&x, file, &setup, &err)) {
        must(members && err.msg[0]);
        return;
    }
    for (size_t i = 0; i < x.n; i++) {
        size_t found = SIZE_MAX, len = 0;
        const char *key = NULL;
        must(!sd_index_read(&x, &r, i, &err) && !sd_index_used(&x, i));
        if (members) {
            key = r.item.name;
            len = r.item.name_len;
        } else {
            must(sd_record_string(&r.record, "path", &key, &len, &err) == 1);
        }
        must(sd_index_find(&x, &again, key, len, &found, &err) == 1 && found == i);
        sd_index_use(&x, i);
        must(sd_index_used(&x, i) && !sd_index_read(&x, &r, i, &err));
        must(!members || (again.item.value_len == r.item.value_len &&
                          !memcmp(again.item.value, r.item.value, r.item.value_len)));
    }
    sd_index_reader_free(&r);
    sd_index_reader_free(&again);
    sd_index_close(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[] = "/tmp/fuzz-index.XXXXXX";
    int fd = mkstemp(name);
    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    look_up_all(name, false);
    look_up_all(name, true);
    unlink(name);
    return 0;
}
