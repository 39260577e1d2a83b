/* Tallies: many keys, keys of any bytes, counts that would overflow. */
#include <stdio.h>
#include <string.h>

#include "base/tally.h"
#include "tap.h"

int main(void)
{
    struct sd_tally t = {0};
    size_t index = 7;
    int good = 1;
    char key[32];
    for (int round = 1; round <= 3; round++)
        for (size_t i = 0; i < 100000 && good; i++) {
            int len = snprintf(key, sizeof key, "%zu", i);
            good = !sd_tally_add(&t, key, (size_t)len, i, &index) && index == i &&
                   t.entries[i].count == i * (size_t)round && !strcmp(t.entries[i].key, key);
        }
    ok(good && t.n == 100000, "a hundred thousand keys, in the order they came");
    sd_tally_free(&t);
    ok(!t.n && !t.entries, "freed and empty");

    ok(!sd_tally_add(&t, "", 0, 1, &index) && !sd_tally_add(&t, "\0", 1, 2, NULL) &&
           !sd_tally_add(&t, "\0\0", 2, 3, NULL) && !sd_tally_add(&t, "", 0, 4, NULL),
       "an empty key and keys of NUL bytes");
    ok(t.n == 3 && index == 0 && t.entries[0].count == 5 && t.entries[1].count == 2 &&
           t.entries[2].count == 3,
       "are three keys");
    ok(!sd_tally_add(&t, "x", 1, UINT64_MAX, &index) && !sd_tally_add(&t, "x", 1, 2, NULL) &&
           t.entries[index].count == UINT64_MAX,
       "a count stays at the most there is");
    ok(!sd_tally_add(&t, "y", 1, 0, &index) && t.entries[index].count == 0, "a key entered with no count");
    sd_tally_free(&t);
    return tap_end();
}
