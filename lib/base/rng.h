/* Random numbers as PyTorch's CPU generator draws them, bit for bit.
 *
 * The same seed and the same calls give the values of torch.manual_seed, torch.rand, torch.randn,
 * torch.randint and torch.randperm (float32 and int64) of PyTorch 2.x on x86-64, where normal numbers of
 * 16 and more come from its AVX2 kernel. The arithmetic here is the same on every machine.
 * The structs are plain data: copying one saves the state, copying it back restores it.
 *
 *     struct sd_rng rng;
 *     sd_rng_seed(&rng, 42);
 *     sd_rng_randn(&rng, noise, n);      // torch.manual_seed(42); torch.randn(n)
 *
 * How many values one call asks for matters, as it does in PyTorch: randn(8) twice is not randn(16).
 * Nothing here fails. A generator serves one thread at a time. */
#ifndef SD_BASE_RNG_H
#define SD_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* MT19937 (Matsumoto and Nishimura 1998), shared with pyrandom.h. */
struct sd_mt19937 {
    uint32_t word[624];
    uint32_t next; /* index of the next word, 624 when a new block is due */
};

void sd_mt19937_seed(struct sd_mt19937 *mt, uint32_t seed);
uint32_t sd_mt19937_next(struct sd_mt19937 *mt);

struct sd_rng {
    uint64_t seed; /* as given; torch.initial_seed() */
    struct sd_mt19937 mt;
    uint32_t has_normal; /* a second normal value of the scalar path waits in `normal` */
    double normal;
};

/* torch.manual_seed(seed); as there, only the low 32 bits choose the sequence. */
void sd_rng_seed(struct sd_rng *rng, uint64_t seed);

uint32_t sd_rng_u32(struct sd_rng *rng);
uint64_t sd_rng_u64(struct sd_rng *rng);

/* out[n] uniform in [0, 1) with 24 random bits: torch.rand(n). */
void sd_rng_rand(struct sd_rng *rng, float *out, size_t n);

/* out[n] uniform in [from, to): tensor.uniform_(from, to), the draw of kaiming_uniform_ and friends. */
void sd_rng_uniform(struct sd_rng *rng, float from, float to, float *out, size_t n);

/* out[n] standard normal: torch.randn(n). */
void sd_rng_randn(struct sd_rng *rng, float *out, size_t n);

/* out[n] normal: tensor.normal_(mean, std). */
void sd_rng_normal(struct sd_rng *rng, double mean, double std, float *out, size_t n);

/* out[n] in [low, high), high > low: torch.randint(low, high, (n,)). Ranges of 2^28 and more take 64 bits a
 * value, as PyTorch does since 2.7 (before, from 2^32 on). */
void sd_rng_randint(struct sd_rng *rng, int64_t low, int64_t high, int64_t *out, size_t n);

/* A 63-bit value: torch.empty((), dtype=torch.int64).random_(), how a DataLoader and a RandomSampler draw
 * their seeds. */
int64_t sd_rng_int63(struct sd_rng *rng);

/* out[n] = a permutation of 0..n-1: torch.randperm(n). */
void sd_rng_randperm(struct sd_rng *rng, int64_t *out, size_t n);

#endif
