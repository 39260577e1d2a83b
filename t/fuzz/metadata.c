/* Any bytes as metadata JSON, read in pieces: the reader takes what the record's parser takes and gives the
 * same members; entries become records, and those entries that become the same records. fuzz-seeds:
 * t/data/meta t/data/record */
#include "data/metadata.h"
#include "record/members.h"

#include <stdlib.h>
#include <string.h>

struct input {
    const uint8_t *data;
    size_t size, at, piece;
};

static void must(int good)
{
    if (!good)
        abort();
}

static ssize_t read_piece(void *ctx, void *bytes, size_t n)
{
    struct input *in = ctx;
    size_t left = in->size - in->at, take = in->piece < left ? in->piece : left;
    take = take < n ? take : n;
    if (take)
        memcpy(bytes, in->data + in->at, take);
    in->at += take;
    return (ssize_t)take;
}

static int is_named(const struct sd_member *m, const char *name)
{
    return m->name_len == strlen(name) && !memcmp(m->name, name, m->name_len);
}

/* An entry with nothing in it that is written back in another way or place. */
static int is_plain(const char *text, size_t len)
{
    struct sd_record e = SD_RECORD_INIT;
    int plain = !sd_record_parse(&e, text, len, NULL);
    for (size_t i = 0; i < e.count && plain; i++) {
        const struct sd_member *m = &e.members[i];
        for (size_t k = 0; k < i; k++)
            plain &= m->name_len != e.members[k].name_len || memcmp(m->name, e.members[k].name, m->name_len);
        plain &= !is_named(m, "width") && !is_named(m, "height") && !is_named(m, "metadata_caption") &&
                 !is_named(m, "metadata_tags") && !is_named(m, "path") && *m->value != 'n';
        plain &= *m->value != '[' || (!is_named(m, "caption") && !is_named(m, "tags"));
    }
    sd_record_free(&e);
    return plain;
}

static void convert(const struct sd_members_item *item)
{
    struct sd_metadata m = {0};
    struct sd_record r = SD_RECORD_INIT;
    struct sd_buf first = SD_BUF_INIT, entry = SD_BUF_INIT, second = SD_BUF_INIT;
    struct sd_err err = {0};
    bool inexact = false;
    int bad = sd_metadata_to_record(&m, item->value, item->value_len, item->name, item->name_len, &r, &err);
    must(!bad == !err.code && !sd_record_write(&r, &first) && !memchr(first.data, '\n', first.len));
    must(sd_record_find(&r, "path") != NULL);
    if (!bad && !sd_metadata_from_record(&m, &r, &entry, &inexact, &err)) {
        must(!sd_metadata_to_record(&m, entry.data, entry.len, item->name, item->name_len, &r, &err));
        must(!sd_record_write(&r, &second));
        if (is_plain(item->value, item->value_len))
            must(!inexact && first.len == second.len && !memcmp(first.data, second.data, first.len));
    }
    if (!memchr(item->name, 0, item->name_len) &&
        !sd_metadata_name(item->name, "photos", false, &entry, &err))
        must(!sd_metadata_join(entry.data, "photos", &second, &err));
    sd_buf_free(&first);
    sd_buf_free(&second);
    sd_buf_free(&entry);
    sd_record_free(&r);
    sd_metadata_free(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size, 0, size ? 1 + data[size / 2] % 97 : 1};
    struct sd_record whole = SD_RECORD_INIT;
    struct sd_members members;
    struct sd_members_item item;
    struct sd_err err = {0}, ignored;
    bool mark = size >= 3 && !memcmp(data, "\xef\xbb\xbf", 3);
    int good = !sd_record_parse(&whole, (const char *)data + 3 * mark, size - 3 * mark, &ignored), got;
    size_t n = 0;
    sd_members_init(&members, read_piece, &in, size / 2 + 64);
    while ((got = sd_members_next(&members, &item, &err)) == 1) {
        if (good) {
            const struct sd_member *m = &whole.members[n];
            must(n < whole.count && m->name_len == item.name_len && !memcmp(m->name, item.name, m->name_len));
            must(m->value_len == item.value_len && !memcmp(m->value, item.value, m->value_len));
        }
        if (++n <= 64)
            convert(&item);
    }
    must(got == 0 ? good && n == whole.count : err.msg[0] && (!good || strstr(err.msg, "the most that")));
    sd_members_free(&members);
    sd_record_free(&whole);
    return 0;
}
