/* Python's random module: MT19937 seeded from an array of words, and rejection sampling for integers. */
#include "base/pyrandom.h"

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif

enum { MT_N = 624 };

void sd_pyrandom_seed_words(struct sd_pyrandom *random, const uint32_t *key, size_t len)
{
    uint32_t *w = random->mt.word;
    sd_mt19937_seed(&random->mt, 19650218);
    size_t i = 1, j = 0;
    for (size_t k = len > MT_N ? len : MT_N; k > 0; k--) {
        w[i] = (w[i] ^ (w[i - 1] ^ w[i - 1] >> 30) * 1664525u) + key[j] + (uint32_t)j;
        if (++i >= MT_N) {
            w[0] = w[MT_N - 1];
            i = 1;
        }
        if (++j >= len)
            j = 0;
    }
    for (size_t k = MT_N - 1; k > 0; k--) {
        w[i] = (w[i] ^ (w[i - 1] ^ w[i - 1] >> 30) * 1566083941u) - (uint32_t)i;
        if (++i >= MT_N) {
            w[0] = w[MT_N - 1];
            i = 1;
        }
    }
    w[0] = 0x80000000u;
    random->mt.next = MT_N;
}

void sd_pyrandom_seed(struct sd_pyrandom *random, int64_t seed)
{
    uint64_t n = seed < 0 ? -(uint64_t)seed : (uint64_t)seed;
    uint32_t key[2] = {(uint32_t)n, (uint32_t)(n >> 32)};
    sd_pyrandom_seed_words(random, key, key[1] ? 2 : 1);
}

double sd_pyrandom_random(struct sd_pyrandom *random)
{
    uint32_t high = sd_mt19937_next(&random->mt) >> 5;
    uint32_t low = sd_mt19937_next(&random->mt) >> 6;
    return (high * 67108864.0 + low) * 0x1p-53;
}

uint64_t sd_pyrandom_getrandbits(struct sd_pyrandom *random, int bits)
{
    if (bits <= 0)
        return 0;
    if (bits <= 32)
        return sd_mt19937_next(&random->mt) >> (32 - bits);
    uint64_t low = sd_mt19937_next(&random->mt);
    uint64_t high = sd_mt19937_next(&random->mt) >> (64 - bits);
    return high << 32 | low;
}

uint64_t sd_pyrandom_below(struct sd_pyrandom *random, uint64_t n)
{
    int bits = n ? 64 - __builtin_clzll(n) : 0;
    uint64_t v;
    do
        v = sd_pyrandom_getrandbits(random, bits);
    while (v >= n && n);
    return v;
}

int64_t sd_pyrandom_randint(struct sd_pyrandom *random, int64_t low, int64_t high)
{
    uint64_t range = (uint64_t)high - (uint64_t)low + 1;
    return (int64_t)((uint64_t)low + sd_pyrandom_below(random, range));
}

double sd_pyrandom_uniform(struct sd_pyrandom *random, double low, double high)
{
    return low + (high - low) * sd_pyrandom_random(random);
}

void sd_pyrandom_shuffle(struct sd_pyrandom *random, void *items, size_t n, size_t size)
{
    unsigned char *item = items;
    for (size_t i = n; i-- > 1;) {
        unsigned char *a = item + i * size, *b = item + sd_pyrandom_below(random, i + 1) * size;
        for (size_t k = 0; k < size; k++) {
            unsigned char kept = a[k];
            a[k] = b[k];
            b[k] = kept;
        }
    }
}
