/* Python's random module, value for value: the generator behind shuffles, caption choices and crops.
 *
 * Same seed and same calls give the values of CPython 3.2 to 3.13. The struct is plain data: copying it saves
 * and restores the state. Nothing here fails; a generator serves one thread at a time. */
#ifndef SD_BASE_PYRANDOM_H
#define SD_BASE_PYRANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

struct sd_pyrandom {
    struct sd_mt19937 mt;
};

/* random.seed(seed) for an int; Python takes the absolute value. */
void sd_pyrandom_seed(struct sd_pyrandom *random, int64_t seed);

/* random.seed(n) for the int whose 32-bit words are key[len], least significant first, len > 0. */
void sd_pyrandom_seed_words(struct sd_pyrandom *random, const uint32_t *key, size_t len);

/* random.random(): [0, 1) with 53 bits. */
double sd_pyrandom_random(struct sd_pyrandom *random);

/* random.getrandbits(bits), 0 <= bits <= 64. */
uint64_t sd_pyrandom_getrandbits(struct sd_pyrandom *random, int bits);

/* random.randrange(n), n > 0. random.choice(list) is list[sd_pyrandom_below(r, len(list))]. */
uint64_t sd_pyrandom_below(struct sd_pyrandom *random, uint64_t n);

/* random.randint(low, high), both included, low <= high, high - low < 2^63. */
int64_t sd_pyrandom_randint(struct sd_pyrandom *random, int64_t low, int64_t high);

/* random.uniform(low, high). */
double sd_pyrandom_uniform(struct sd_pyrandom *random, double low, double high);

/* random.shuffle of n items of `size` bytes each. */
void sd_pyrandom_shuffle(struct sd_pyrandom *random, void *items, size_t n, size_t size);

#endif
