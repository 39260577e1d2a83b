/* A perceptual hash: 64 bits that stay about the same when a picture is scaled, compressed again or made a
 * little lighter, so that the Hamming distance of two hashes tells how alike two pictures look.
 *
 * It is the DCT hash of pHash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash
 * Functions", 2010; phash.org), in the form ImageHash's phash() made common:
 *   1. grey: (19595 R + 38470 G + 7471 B + 32768) >> 16, the luma of ITU-R BT.601 as Pillow rounds it;
 *   2. 32x32 cells, each the mean over the area it covers, whatever the picture's size and shape;
 *   3. a two-dimensional DCT-II without normalisation;
 *   4. its 8x8 lowest frequencies, v down and u across, without the one at (0, 0): bit 8v+u is 1 where the
 *      coefficient is above the median of these 63. Bit 0 is always 0.
 * (ImageHash takes the constant term into the median and gives it a bit; pHash takes frequencies 1..8.)
 *
 * All of it is whole-number arithmetic: the same bytes give the same hash on every machine. Colour has no
 * part in it, nor have mirrored, turned and cut pictures the hash of the original. */
#ifndef SD_IMAGE_PHASH_H
#define SD_IMAGE_PHASH_H

#include "image/image.h"

/* A picture whose cells differ by less than this many of 255 levels of grey has no shape to hash. */
enum { SD_PHASH_MIN_CONTRAST = 4 };

/* True with the hash of a picture of 3 or 4 channels (alpha is not looked at); false, and 0, when it has too
 * little contrast to have one. */
bool sd_phash(const struct sd_image *im, uint64_t *hash);

/* The mean of each channel, rounded: what the hash does not see. Zeros for an empty picture. */
void sd_mean_colour(const struct sd_image *im, uint8_t rgb[3]);

#endif
