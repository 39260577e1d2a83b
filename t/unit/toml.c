/* TOML: what Python's tomllib reads in the same documents (t/ref/toml_cases.py), places, messages, limits. */
#include "base/json.h"
#include "record/record.h"
#include "text/toml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

/* ---- the notation of t/ref/toml_cases.py ---- */

static void note(const struct sd_value *v, struct sd_buf *out)
{
    switch (v->type) {
    case SD_VALUE_BOOL:
        sd_buf_adds(out, v->b ? "true" : "false");
        return;
    case SD_VALUE_INT:
        sd_buf_addf(out, "i%lld", (long long)v->i);
        return;
    case SD_VALUE_FLOAT:
        if (isnan(v->f))
            sd_buf_adds(out, "fnan");
        else
            sd_buf_addf(out, "f%.17g", v->f);
        return;
    case SD_VALUE_STRING:
        sd_json_add_string(out, v->s.data, v->s.len);
        return;
    case SD_VALUE_ARRAY:
    case SD_VALUE_TABLE:
        break;
    default:
        sd_buf_adds(out, "T");
        return;
    }
    bool table = v->type == SD_VALUE_TABLE;
    sd_buf_addc(out, table ? '{' : '[');
    for (const struct sd_value_item *i = v->first; i; i = i->next) {
        if (i != v->first)
            sd_buf_addc(out, ',');
        if (table) {
            sd_json_add_string(out, i->name.data, i->name.len);
            sd_buf_addc(out, ':');
        }
        note(&i->value, out);
    }
    sd_buf_addc(out, table ? '}' : ']');
}

/* 0 when the case agrees with the fixture. */
static int try_case(struct sd_record *r, size_t number)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_buf got = SD_BUF_INIT;
    struct sd_err err = {0};
    struct sd_value root;
    const char *text, *want = NULL;
    size_t len;
    if (sd_record_string(r, "toml", &text, &len, &err) != 1 ||
        sd_record_string(r, "value", &want, &(size_t){0}, &err) < 0)
        return -1;
    bool valid = !sd_toml_parse(&arena, text, len, &root, &err);
    if (valid)
        note(&root, &got);
    int bad = valid ? !want || strcmp(got.data, want) != 0 : want || strncmp(err.msg, "line ", 5) != 0;
    if (bad)
        printf("# %zu: %s\n# got  %s\n# want %s\n", number, text, valid ? got.data : err.msg,
               want ? want : "an error");
    sd_buf_free(&got);
    sd_arena_free(&arena);
    return bad;
}

static void test_cases(const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0, cases = 0, bad = 0;
    struct sd_record r = SD_RECORD_INIT;
    struct sd_err err = {0};
    for (ssize_t n; f && (n = getline(&line, &cap, f)) > 0; cases++)
        bad += sd_record_parse(&r, line, (size_t)n, &err) || try_case(&r, cases + 1);
    ok(f && cases >= 1000, "%zu documents", cases);
    ok(!bad, "%zu of them differ from tomllib", bad);
    sd_record_free(&r);
    free(line);
    if (f)
        fclose(f);
}

/* ---- places and messages ---- */

static void refuse(const char *text, const char *want)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_value root;
    struct sd_err err = {0};
    int bad = sd_toml_parse(&arena, text, strlen(text), &root, &err);
    if (!ok(bad == -1 && !strcmp(err.msg, want), "refused: %s", want))
        printf("# got %s\n", bad ? err.msg : "a document");
    sd_arena_free(&arena);
}

static void test_messages(void)
{
    refuse("a = 1\n\nb\n", "line 3, column 2: '=' is expected behind a name");
    refuse("a = [1,\r\n 2 3]", "line 2, column 4: ',' or ']' is expected in the array");
    refuse("\xc3\xa9t = 1", "line 1, column 1: a name is expected");
    refuse("a = \"\xc3\xa9\" x", "line 1, column 9: the end of the line is expected");
    refuse("x = \"a\n", "line 1, column 5: the string does not end in its line");
    refuse("x = '''a\nb", "line 1, column 5: the string does not end");
    refuse("[a]\nb = 1\n[c]\n[a]", "line 4, column 2: 'a' is there already, from line 1");
    refuse("a = 1\n'a' = 2", "line 2, column 1: 'a' is there already, from line 1");
    refuse("a.b = {}\na.b.c = 1", "line 2, column 3: 'b' cannot be added to: it was set in line 1");
    refuse("a = 08", "line 1, column 6: the end of the line is expected");
    refuse("a = 9223372036854775808", "line 1, column 5: a whole number that does not fit 64 bits");
    refuse("a = \"\\q\"", "line 1, column 7: no such escape; known are \\b \\t \\n \\f \\r \\\" \\\\ \\uXXXX "
                          "\\UXXXXXXXX");
    refuse("a = 2001-02-29", "line 1, column 5: there is no such day");
    refuse("a = 1\nb = \"\xc3\xa9\xff\"", "line 2, column 7: a byte that is not UTF-8");
    refuse("[[a]\n", "line 1, column 4: ']]' is expected behind the table's name");
    refuse("a = yes", "line 1, column 5: a value is expected");
    refuse("p = {a = 1,}", "line 1, column 12: a name is expected");
}

static void test_places(void)
{
    static const char text[] = "\xef\xbb\xbf# x\r\n[t]\r\n  k = [1,\r\n    'two']\r\n\"\xc3\xa9\".x = 1\r\n";
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_value root;
    struct sd_err err = {0};
    int bad = sd_toml_parse(&arena, text, sizeof text - 1, &root, &err);
    const struct sd_value_item *t = bad ? NULL : sd_value_find(&root, "t"),
                               *k = t ? sd_value_find(&t->value, "k") : NULL;
    ok(t && t->place.line == 2 && t->place.column == 2, "place of a header");
    ok(k && k->place.line == 3 && k->place.column == 3 && k->value.place.column == 7,
       "of a name and its value");
    ok(k && k->value.last->value.place.line == 4 && k->value.last->value.place.column == 5,
       "inside an array");
    ok(t && t->value.last->place.line == 5 && !sd_value_find(&t->value, "x"), "of a dotted name");
    sd_arena_free(&arena);
}

/* ---- limits ---- */

static int parse_repeated(const char *start, const char *middle, size_t n, const char *end,
                          struct sd_err *err)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_buf text = SD_BUF_INIT;
    struct sd_value root;
    sd_buf_adds(&text, start);
    for (size_t i = 0; i < n; i++)
        sd_buf_adds(&text, middle);
    sd_buf_adds(&text, end);
    int bad = sd_toml_parse(&arena, text.data, text.len, &root, err);
    sd_buf_free(&text);
    sd_arena_free(&arena);
    return bad;
}

static void test_limits(void)
{
    struct sd_err err = {0};
    ok(!parse_repeated("a = ", "[", 0, "1", &err), "no array");
    ok(parse_repeated("a = ", "[", SD_TOML_DEPTH + 1, "", &err) && strstr(err.msg, "nested deeper than 128"),
       "arrays too deep");
    ok(parse_repeated("", "a.", SD_TOML_DEPTH + 1, "b = 1", &err) &&
           strstr(err.msg, "nested deeper than 128"),
       "names too deep");
    ok(parse_repeated("[", "a.", SD_TOML_DEPTH + 1, "b]", &err) && strstr(err.msg, "nested deeper than 128"),
       "headers too deep");
    ok(parse_repeated("[", "a.", 100, "b]\nc = [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", &err) &&
           strstr(err.msg, "nested deeper than 128"),
       "together too deep");
    ok(!parse_repeated("", "# 3456789 123456\n", SD_TOML_BYTES / 17, "", &err), "a long text");
    ok(parse_repeated("", "# 3456789 12345\n", SD_TOML_BYTES / 16, "\n", &err) &&
           strstr(err.msg, "16777217 bytes"),
       "a longer one");
}

/* Names are found at once, columns counted once. */
static void test_many(void)
{
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_buf text = SD_BUF_INIT;
    struct sd_value root;
    struct sd_err err = {0};
    for (int i = 0; i < 100000; i++)
        sd_buf_addf(&text, "k%d = %d\n", i, i);
    sd_buf_adds(&text, "[t]\np = {");
    for (int i = 0; i < 100000; i++)
        sd_buf_addf(&text, "%sk%d = %d", i ? ", " : "", i, i);
    sd_buf_adds(&text, "}\n");
    ok(!sd_toml_parse(&arena, text.data, text.len, &root, &err) && root.n == 100001, "many names");
    sd_buf_adds(&text, "p.x = 1");
    sd_arena_reset(&arena);
    ok(sd_toml_parse(&arena, text.data, text.len, &root, &err) == -1 &&
           !strcmp(err.msg, "line 100003, column 1: 'p' cannot be added to: it was set in line 100002"),
       "and one too many");
    sd_buf_free(&text);
    sd_arena_free(&arena);
}

static void test_strings(void)
{
    static const char text[] = "a\"\\\b\t\n\f\r\x01\x1f\x7f\xc3\xa9\x7f";
    struct sd_arena arena = SD_ARENA_INIT;
    struct sd_buf out = SD_BUF_INIT;
    struct sd_value root;
    struct sd_err err = {0};
    sd_buf_adds(&out, "s = ");
    int bad = sd_toml_add_string(&out, text, sizeof text) || /* with its NUL */
              sd_toml_parse(&arena, out.data, out.len, &root, &err);
    ok(!bad && root.first->value.s.len == sizeof text && !memcmp(root.first->value.s.data, text, sizeof text),
       "a string written and read: %s", out.data);
    sd_buf_clear(&out);
    static const char many[] = "a = [1.0, 0.1, 'x', true, 1979-05-27]\nb.\"c d\" = -5";
    bad = sd_toml_parse(&arena, many, sizeof many - 1, &root, &err) || sd_value_json(&root, &out, &err);
    ok(!bad && !strcmp(out.data, "{\"a\":[1,0.1,\"x\",true,\"1979-05-27\"],\"b\":{\"c d\":-5}}"),
       "as JSON: %s", out.data);
    ok(!sd_toml_parse(&arena, "a = [inf]", 9, &root, &err) && sd_value_json(&root, &out, &err) == -1 &&
           !strcmp(err.msg, "line 1, column 6: a number that JSON cannot hold"),
       "what JSON cannot hold");
    sd_buf_free(&out);
    sd_arena_free(&arena);
}

int main(int argc, char **argv)
{
    test_cases(argc > 1 ? argv[1] : "t/data/toml/cases.ndjson");
    test_messages();
    test_places();
    test_limits();
    test_many();
    test_strings();
    return tap_end();
}
