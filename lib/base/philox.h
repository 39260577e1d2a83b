/* Normal numbers as PyTorch draws them on CUDA devices: torch.randn(n, device="cuda", generator=g).
 *
 * PyTorch gives element i to a thread of a grid, and each thread has a Philox stream of its own (curand), so
 * the numbers depend on how many threads the grid has: 256 a block, a block for each 256 elements, but not
 * more than the card runs at once (processors * (threads a processor / 256) blocks). A tensor of no more
 * elements than that is the same on every card: 30 720 (20 processors of 1536 threads, the smallest of
 * compute capability 8.0 and up) are enough for the latents of one picture of 512x512 or 640x768 pixels;
 * an H100 SXM gives 270 336 elements a thread each. Programs that imitate a card's numbers on the host (web
 * UIs do) take this case for all sizes: threads 0 here.
 *
 * The integers are exact (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011; checked against
 * the authors' test vectors). The normal numbers are Box and Muller's of curand_normal4; on a card curand
 * uses the hardware's approximate sine and cosine, so host and card differ in the last bits (about 1e-6), and
 * that a card has the same bits as PyTorch on it, only a card can confirm. Facts from PyTorch's
 * ATen/native/cuda/DistributionTemplates.h and CUDA's curand_kernel.h. */
#ifndef SD_BASE_PHILOX_H
#define SD_BASE_PHILOX_H

#include <stddef.h>
#include <stdint.h>

/* A generator's state: torch.Generator("cuda").manual_seed(seed), then what has been drawn from it. */
struct sd_philox {
    uint64_t seed, offset; /* the offset is a multiple of 4 */
};

/* out = Philox 4x32-10 of counter under key; word 0 is the least significant. */
void sd_philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Threads of the grid that draws n elements on a card that runs `threads` at once (a multiple of 256; 0: as
 * many as it takes). At least 256. */
uint64_t sd_philox_grid(uint64_t n, uint64_t threads);

/* Element i of a draw by a grid of that many threads. */
float sd_philox_normal(const struct sd_philox *p, uint64_t grid, uint64_t i);

/* The state after a draw of n elements. */
void sd_philox_advance(struct sd_philox *p, uint64_t threads, uint64_t n);

/* out[n] = torch.randn(n); the state moves on as PyTorch's does. */
void sd_philox_randn(struct sd_philox *p, uint64_t threads, float *out, size_t n);
/* torch.rand(1): uniform in [0, 1); the state moves on. */
float sd_philox_rand(struct sd_philox *p);

#endif
