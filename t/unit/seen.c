/* What was seen before: more than fit the table, so that sums go to files and files become one; and spills.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/seen.h"
#include "tap.h"

enum { MANY = 1300000 };

static int add(struct sd_seen *s, unsigned i)
{
    char name[32];
    int len = snprintf(name, sizeof name, "name %u", i);
    return sd_seen_add(s, name, (size_t)len, NULL);
}

/* Of the names first, first + step, ... below end: how many of them were there before; -1. */
static long again(struct sd_seen *s, unsigned first, unsigned end, unsigned step)
{
    long n = 0;
    for (unsigned i = first; i < end; i += step) {
        int seen = add(s, i);
        if (seen < 0)
            return -1;
        n += seen;
    }
    return n;
}

static void test_seen(void)
{
    struct sd_seen s = {0};
    ok(sd_seen_add(&s, "", 0, NULL) == 0 && sd_seen_add(&s, "", 0, NULL) == 1, "an empty string");
    ok(sd_seen_add(&s, "\0", 1, NULL) == 0 && sd_seen_add(&s, "\0", 1, NULL) == 1 && s.count == 2,
       "a NUL byte");
    int good = 1;
    for (unsigned i = 0; i < 3000; i++) /* while the table grows */
        good &= add(&s, i) == 0 && add(&s, i) == 1 && add(&s, i / 2) == 1;
    ok(good && s.count == 3002, "each is known as soon as it was added");
    ok(again(&s, 0, MANY, 1) == 3000 && s.count == MANY + 2, "more than memory holds: new ones are new");
    ok(s.n_runs == 2 && s.runs[0].n >= 2 * s.runs[1].n, "files have become one");
    ok(again(&s, 0, MANY, 1) == MANY && s.count == MANY + 2, "each is known again");
    ok(again(&s, MANY - 1000, MANY + 1000, 1) == 1000, "old and new ones mixed");
    sd_seen_free(&s);
    ok(!s.count && add(&s, 5) == 0 && add(&s, 5) == 1, "freed: all is new");
    sd_seen_free(&s);
}

static void test_no_room(void)
{
    struct sd_seen s = {0};
    struct sd_err err = {0};
    int got = 0;
    setenv("TMPDIR", "/no/such/folder", 1);
    for (unsigned i = 0; i < MANY && got == 0; i++) {
        char name[32];
        got = sd_seen_add(&s, name, (size_t)snprintf(name, sizeof name, "%u", i), &err);
    }
    unsetenv("TMPDIR");
    ok(got == -1 && err.code == SD_ERR_MACHINE && strstr(err.msg, "/no/such/folder"),
       "no place for a file: %s", err.msg);
    sd_seen_free(&s);
}

static void test_spill(void)
{
    enum { BYTES = 300001, STEP = 7919 };
    struct sd_spill s = {0};
    char *bytes = malloc(BYTES), *back = malloc(BYTES);
    size_t got = 9, n;
    int good = 1;
    ok(!sd_spill_read(&s, 0, back, 8, &got, NULL) && !got, "nothing in an empty one");
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (char)(i * i >> 7);
    for (size_t at = 0; at < BYTES; at += n) {
        n = at % 100 + 1 < BYTES - at ? at % 100 + 1 : BYTES - at;
        good &= !sd_spill_add(&s, bytes + at, n, NULL);
    }
    ok(good && s.open && s.tail.len, "some bytes in the file, some in memory");
    for (size_t at = 0; at <= BYTES; at += STEP)
        good &= !sd_spill_read(&s, at, back, BYTES, &got, NULL) && got == BYTES - at &&
                !memcmp(back, bytes + at, got) && !sd_spill_read(&s, at, back, 5, &got, NULL) &&
                got == (BYTES - at < 5 ? BYTES - at : 5) && !memcmp(back, bytes + at, got);
    ok(good, "read from anywhere, to the end or not");
    ok(!sd_spill_read(&s, BYTES + 5, back, 8, &got, NULL) && !got, "nothing behind the end");
    sd_spill_free(&s);
    ok(!s.open && !sd_spill_add(&s, "x", 1, NULL) && !sd_spill_read(&s, 0, back, 8, &got, NULL) && got == 1,
       "freed and used again");
    sd_spill_free(&s);
    free(bytes);
    free(back);
}

int main(void)
{
    test_seen();
    test_no_room();
    test_spill();
    return tap_end();
}
