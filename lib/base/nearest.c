#include "base/nearest.h"

#include <string.h>

enum { MOST = 64 };

static size_t distance(const char *a, size_t n, const char *b, size_t m)
{
    size_t row[3][MOST];
    if (n >= MOST || m >= MOST)
        return MOST;
    for (size_t j = 0; j <= m; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t *now = row[i % 3], *last = row[(i + 2) % 3], *before = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t d = last[j - 1] + (a[i - 1] != b[j - 1]);
            if (last[j] + 1 < d)
                d = last[j] + 1;
            if (now[j - 1] + 1 < d)
                d = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < d)
                d = before[j - 2] + 1;
            now[j] = d;
        }
    }
    return row[n % 3][m];
}

const char *sd_nearest_name(const char *word, size_t len, const char *const *names)
{
    const char *best = NULL;
    size_t least = len / 3 + 2;
    for (; *names && len < MOST; names++) {
        size_t d = distance(word, len, *names, strlen(*names));
        if (d < least) {
            least = d;
            best = *names;
        }
    }
    return best;
}
