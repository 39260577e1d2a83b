/* The record: lossless editing, strict reading, names as bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "record/record.h"
#include "tap.h"

static struct sd_err err;
static struct sd_record r;

static int parse(const char *s)
{
    return sd_record_parse(&r, s, strlen(s), &err);
}

static void wrote(const char *want, const char *name)
{
    struct sd_buf b = SD_BUF_INIT;
    int good = !sd_record_write(&r, &b) && !strcmp(b.data, want);
    if (!good)
        printf("# got  %s\n# want %s\n", b.data, want);
    ok(good, "%s", name);
    sd_buf_free(&b);
}

static void test_editing(void)
{
    const char *line =
        " {\"id\" : 12345678901234567890, \"x\":1.50e+2 ,\"\\u0070ath\":\"a\\/b\", \"e\":[ {} ,null]  } \r";
    ok(!parse(line), "a record with spaces");
    wrote(line, "untouched, it is the same");
    ok(!sd_record_set_int(&r, "width", INT64_MIN) && !sd_record_set_bool(&r, "reg", true), "new members");
    wrote(" {\"id\" : 12345678901234567890, \"x\":1.50e+2 ,\"\\u0070ath\":\"a\\/b\", \"e\":[ {} ,null]  ,"
          "\"width\":-9223372036854775808,\"reg\":true} \r",
          "they go to the end, the rest is the same");
    ok(!sd_record_set_string(&r, "path", "c\"\\\n\x01\x7f\xc3\xa9") && !sd_record_remove(&r, "e"),
       "set by its plain name");
    wrote(
        " {\"id\" : 12345678901234567890, \"x\":1.50e+2 ,\"\\u0070ath\":\"c\\\"\\\\\\n\\u0001\x7f\xc3\xa9\","
        "\"width\":-9223372036854775808,\"reg\":true} \r",
        "in its place; removed with its comma");
    ok(!parse("{}") && !sd_record_set_strings(&r, "tags", (const char *[]){"a", "b\tc"}, 2) &&
           !sd_record_set_ints(&r, "bucket", (int64_t[]){64, -1}, 2) && !sd_record_set_double(&r, "s", 0.1) &&
           !sd_record_set_double(&r, "n", 0.0 / 0.0) && !sd_record_set_raw(&r, "o", "{\"k\":1}", 7),
       "all kinds");
    wrote("{\"tags\":[\"a\",\"b\\tc\"],\"bucket\":[64,-1],\"s\":0.1,\"n\":null,\"o\":{\"k\":1}}",
          "all kinds written");
    ok(!sd_record_remove(&r, "tags") && !sd_record_remove(&r, "o") && !sd_record_remove(&r, "none"),
       "first and last");
    wrote("{\"bucket\":[64,-1],\"s\":0.1,\"n\":null}", "removed");
    ok(!parse("{\"a\":1,\"b\":2,\"a\":3}") && !sd_record_set_int(&r, "a", 4), "a name twice");
    wrote("{\"a\":1,\"b\":2,\"a\":4}", "the last counts");
    sd_record_remove(&r, "a");
    wrote("{\"b\":2}", "both are removed");
    struct sd_record zero = SD_RECORD_INIT;
    ok(!sd_record_set_error(&zero, "sd-x", "no"), "an all-zero record");
    ok(sd_record_failed(&zero), "failed");
    sd_record_free(&zero);
}

static void test_getting(void)
{
    const char *s;
    int64_t v[3];
    double d;
    bool b;
    struct sd_strings list = {0};
    ok(!parse("{\"s\":\"x\\u00e9\\ud83d\\ude00\\u0041\",\"i\":-7,\"f\":512.0,\"big\":9223372036854775808,"
              "\"n\":null,"
              "\"b\":false,\"a\":[1, 2],\"l\":[\"p\",\"q\"],\"z\":\"a\\u0000b\"}"),
       "types");
    ok(sd_record_string(&r, "s", &s, NULL, &err) == 1 && !strcmp(s, "x\xc3\xa9\xf0\x9f\x98\x80"
                                                                    "A"),
       "a string with escapes");
    ok(sd_record_string(&r, "none", &s, NULL, &err) == 0 && sd_record_string(&r, "n", &s, NULL, &err) == 0,
       "absent and null");
    ok(sd_record_string(&r, "i", &s, NULL, &err) == -1 &&
           !strcmp(err.msg, "member \"i\": a number where a string is expected"),
       "a number is no string");
    ok(sd_record_string(&r, "z", &s, NULL, &err) == -1, "a NUL is refused where it cannot be told");
    ok(sd_record_int(&r, "i", v, &err) == 1 && v[0] == -7, "an integer");
    ok(sd_record_int(&r, "f", v, &err) == 1 && v[0] == 512, "512.0 is one too");
    ok(sd_record_int(&r, "big", v, &err) == -1, "2^63 is none of 64 bits");
    ok(sd_record_double(&r, "i", &d, &err) == 1 && d == -7, "a double");
    ok(sd_record_bool(&r, "b", &b, &err) == 1 && !b, "false");
    ok(sd_record_ints(&r, "a", v, 2, &err) == 1 && v[0] == 1 && v[1] == 2, "two integers");
    ok(sd_record_ints(&r, "a", v, 3, &err) == -1 && sd_record_ints(&r, "a", v, 1, &err) == -1,
       "not three, not one");
    ok(sd_record_ints(&r, "l", v, 2, &err) == -1, "strings are no integers");
    ok(sd_record_strings(&r, "l", &list, &err) == 1 && list.n == 2 && !strcmp(list.v[1], "q"), "strings");
    ok(sd_record_strings(&r, "s", &list, &err) == 1 && list.n == 3, "one string is a list of one");
    ok(sd_record_need_string(&r, "path", &s, &err) == -1 && !strcmp(err.msg, "the record has no \"path\""),
       "needed");
    sd_strings_free(&list);
}

static void test_bytes(void)
{
    char name[256];
    const char *s;
    size_t len;
    struct sd_buf b = SD_BUF_INIT;
    for (int i = 1; i < 256; i++)
        name[i - 1] = (char)i;
    name[255] = 0;
    sd_record_reset(&r);
    ok(!sd_record_set_string(&r, "path", name) && !sd_record_write(&r, &b), "a name of all bytes");
    ok(strstr(b.data, "\\udc80") && strstr(b.data, "\\udcff"),
       "bytes that are not UTF-8 become lone surrogates");
    ok(!sd_record_parse(&r, b.data, b.len, &err) && sd_record_string(&r, "path", &s, &len, &err) == 1 &&
           len == 255 && !memcmp(s, name, 255),
       "and come back the same");
    ok(!parse("{\"a\":\"\\ud800x\\udc00\"}") && sd_record_string(&r, "a", &s, NULL, &err) == 1 &&
           !strcmp(s, "\xef\xbf\xbdx\xef\xbf\xbd"),
       "other lone surrogates are replaced");
    sd_buf_free(&b);
}

static void test_strictness(void)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "[]",
                                      "1",
                                      "{",
                                      "{\"a\"",
                                      "{\"a\":",
                                      "{\"a\":1",
                                      "{\"a\":1,",
                                      "{\"a\":1,}",
                                      "{a:1}",
                                      "{\"a\" 1}",
                                      "{\"a\":01}",
                                      "{\"a\":+1}",
                                      "{\"a\":1.}",
                                      "{\"a\":.5}",
                                      "{\"a\":1e}",
                                      "{\"a\":-}",
                                      "{\"a\":tru}",
                                      "{\"a\":nul}",
                                      "{\"a\":\"}",
                                      "{\"a\":\"\\x\"}",
                                      "{\"a\":\"\\u12g4\"}",
                                      "{\"a\":\"\\u12\"}",
                                      "{\"a\":\"\t\"}",
                                      "{\"a\":\"\xff\"}",
                                      "{\"a\":\"\xc0\x80\"}",
                                      "{\"a\":\"\xed\xa0\x80\"}",
                                      "{\"a\":[1,]}",
                                      "{\"a\":[1 2]}",
                                      "{\"a\":[}",
                                      "{\"a\":{\"b\"}}",
                                      "{\"a\":1}}",
                                      "{\"a\":1} x",
                                      "{\"a\":NaN}",
                                      "{\"a\":'b'}",
                                      "{,}",
                                      "{\"a\":1,,\"b\":2}",
                                      "{\"\xff\":1}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char title[64];
        snprintf(title, sizeof title, "refused: %.40s", *bad[i] ? bad[i] : "nothing");
        for (char *p = title; *p; p++)
            if ((unsigned char)*p < ' ' || (unsigned char)*p > '~' || *p == '#')
                *p = '?';
        ok(parse(bad[i]) == -1 && r.count == 0 && err.msg[0], "%s", title);
    }
    char deep[2 * 600 + 16] = "{\"a\":";
    size_t n = strlen(deep);
    memset(deep + n, '[', 600);
    memset(deep + n + 600, ']', 600);
    deep[n + 1200] = '}';
    ok(parse(deep) == -1 && strstr(err.msg, "deep"), "nested too deep");
    memset(deep + n, ' ', 100);
    memset(deep + n + 1100, ' ', 100);
    ok(!parse(deep), "nested 500 deep is fine");
}

int main(void)
{
    test_editing();
    test_getting();
    test_bytes();
    test_strictness();
    sd_record_free(&r);
    return tap_end();
}
