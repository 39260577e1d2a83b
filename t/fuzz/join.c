/* Two lines as records of one picture: whatever the rules, what comes out is a record again, has all members
 * of both, and joining the same once more changes nothing. The second line is also read as a bucket data set,
 * and its texts as files. fuzz-seeds: t/data/record t/data/merge */
#include "data/bucket_count.h"
#include "data/join.h"
#include "data/metadata.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void must(int good)
{
    if (!good)
        abort();
}

static void join(const char *a, size_t a_len, const char *b, size_t b_len, enum sd_join_way way)
{
    struct sd_record to = SD_RECORD_INIT, from = SD_RECORD_INIT, check = SD_RECORD_INIT;
    struct sd_buf scratch = SD_BUF_INIT, once = SD_BUF_INIT, twice = SD_BUF_INIT;
    struct sd_err err = {0};
    const struct sd_join_rules rules = {.way = way};
    int good = !sd_record_parse(&to, a, a_len, &err) && !sd_record_parse(&from, b, b_len, &err) &&
               !sd_join(&to, &from, &rules, &scratch, &err);
    if (good && way == SD_JOIN_BOTH) /* doubles in a list that was taken over go when it is joined */
        good = !sd_join(&to, &from, &rules, &scratch, &err);
    if (good) {
        must(!sd_record_write(&to, &once) && !sd_record_parse(&check, once.data, once.len, &err));
        for (size_t i = 0; i < from.count; i++) {
            char *name = strndup(from.members[i].name, from.members[i].name_len);
            must(name != NULL);
            if (strcmp(name, "path") && strncmp(name, "metadata_", 9) && sd_record_find(&from, name))
                must(sd_record_find(&check, name) != NULL);
            free(name);
        }
        must(!sd_join(&to, &from, &rules, &scratch, &err) && !sd_record_write(&to, &twice));
        must(once.len == twice.len && !memcmp(once.data, twice.data, once.len));
    }
    sd_buf_free(&scratch);
    sd_buf_free(&once);
    sd_buf_free(&twice);
    sd_record_free(&to);
    sd_record_free(&from);
    sd_record_free(&check);
}

static void write_and_read(const char *line, size_t len, enum sd_text_kind kind)
{
    struct sd_metadata m = {0};
    struct sd_record r = SD_RECORD_INIT, again = SD_RECORD_INIT;
    struct sd_buf text = SD_BUF_INIT, second = SD_BUF_INIT;
    struct sd_err err = {0};
    if (!sd_record_parse(&r, line, len, &err) && sd_metadata_file_text(&m, &r, kind, &text, &err) == 1) {
        sd_record_reset(&again);
        must(!sd_metadata_set_text(&m, &again, kind, text.data, text.len, &err));
        must(sd_metadata_file_text(&m, &again, kind, &second, &err) == 1);
        must(text.len == second.len && !memcmp(text.data, second.data, text.len));
    }
    sd_record_free(&r);
    sd_record_free(&again);
    sd_buf_free(&text);
    sd_buf_free(&second);
    sd_metadata_free(&m);
}

static void choose(const char *dataset, size_t len)
{
    static const struct sd_bucket_settings base = {
        .index = -1, .batch_size = 1, .config = {{512, 512}, 256, 1024, 64, false, false}};
    struct sd_bucket_datasets *sets = sd_bucket_datasets_new(&base, len % 16 == 0, NULL);
    struct sd_bucket_last last = {0};
    struct sd_bucket_counts counts = {0};
    struct sd_bucket_choice choice;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    struct sd_size image = {(int64_t)len * 7 + 1, 300};
    sd_record_reset(&r);
    must(sets && !sd_record_set_raw(&r, "dataset", dataset, len));
    const struct sd_bucket_dataset *set = sd_bucket_dataset_of(sets, &last, &r, &err);
    must(set || err.code == SD_ERR_DATA);
    if (set && !sd_bucket_choose(&set->variants[0].buckets, image, &choice, &err)) {
        must(choice.resize.w >= choice.bucket.w && choice.resize.h >= choice.bucket.h);
        must(set == sd_bucket_dataset_of(sets, &last, &r, &err));
        must(!sd_bucket_counts_add(&counts, set, image, 1, &choice));
    }
    sd_bucket_counts_free(&counts);
    sd_buf_free(&last.text);
    sd_record_free(&r);
    sd_bucket_datasets_free(sets);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *a = (const char *)data, *cut = size ? memchr(a, '\n', size) : NULL;
    size_t a_len = cut ? (size_t)(cut - a) : size;
    const char *b = cut ? cut + 1 : a;
    size_t b_len = cut ? size - a_len - 1 : size;
    for (int way = SD_JOIN_LAST; way <= SD_JOIN_BOTH; way++)
        join(a, a_len, b, b_len, way);
    write_and_read(b, b_len, SD_TEXT_CAPTION);
    write_and_read(b, b_len, SD_TEXT_TAGS);
    struct sd_record r = SD_RECORD_INIT;
    if (!sd_record_parse(&r, b, b_len, NULL))
        choose(b, b_len);
    sd_record_free(&r);
    return 0;
}
