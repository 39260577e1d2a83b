/* Changes of colour, in place, that equal what OpenCV and NumPy make of 8-bit pixels. A fourth channel,
 * alpha, stays as it is. */
#ifndef SD_IMAGE_COLOUR_H
#define SD_IMAGE_COLOUR_H

#include "image/image.h"

/* Turns the hue, through OpenCV's 8-bit HSV with hues of 0..179 (cv2.cvtColor, COLOR_BGR2HSV and back, so
 * that rounding changes even what is turned by 0). As in sd-scripts red and blue are taken for each other,
 * which turns the other way round. The new hue is (hue + shift) mod 180, cut to a whole number; shift 0..180.
 * Every byte equals OpenCV's 4.10 on AVX2 where the width is a multiple of 32; else a few in the last columns
 * may differ by 1. */
void sd_image_shift_hue(struct sd_image *im, double shift);

/* Each channel v of 0..255 becomes v to the power of gamma, cut to a whole number and at 255; gamma > 0. */
void sd_image_gamma(struct sd_image *im, double gamma);

#endif
