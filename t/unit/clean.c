/* Cleaned tags and captions against sd-scripts' own functions (t/data/text/clean.tsv, made by t/ref/text.py).
 */
#include <zlib.h>

#include "fields.h"
#include "tap.h"
#include "text/clean.h"

static int check(char **field, int n)
{
    struct sd_buf text = SD_BUF_INIT, out = SD_BUF_INIT;
    struct sd_err err;
    if (n != 3)
        return 0;
    unescape(field[1], &text);
    sd_buf_add(&out, "", 0);
    int good = !(field[0][0] == 't' ? sd_clean_tags(text.data, text.len, &out, &err)
                                    : sd_clean_caption(text.data, text.len, &out, &err)) &&
               crc32_z(0, (unsigned char *)out.data, out.len) == strtoul(field[2], NULL, 16);
    if (!good)
        printf("# got \"%s\"\n", out.data);
    sd_buf_free(&text);
    sd_buf_free(&out);
    return good;
}

static int becomes(const char *tags, const char *want)
{
    struct sd_buf out = SD_BUF_INIT;
    struct sd_err err;
    int good = !sd_clean_tags(tags, strlen(tags), &out, &err) && !strcmp(out.data, want);
    sd_buf_free(&out);
    return good;
}

int main(void)
{
    ok(check_lines("t/data/text/clean.tsv", check) == 2000, "texts are cleaned as sd-scripts cleans them");
    ok(becomes("2girls, long hair, black hair, blonde hair, blue eyes, red eyes, smile",
               "2girls, long hair, smile"),
       "several people: shared hair length stays");
    ok(becomes("1girl, shirt, shirt, hair ornament, flower hair ornament",
               "1girl, shirt, shirt, flower hair ornament"),
       "a word a longer tag repeats goes");
    return tap_end();
}
