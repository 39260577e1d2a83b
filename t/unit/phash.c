/* The perceptual hash against numpy's (t/ref/phash.py), and what it promises: sizes, flat pictures, symmetry.
 */
#include "image/phash.h"
#include "base/rng.h"
#include "tap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned long long hash_of(const struct sd_image *im)
{
    uint64_t hash;
    sd_phash(im, &hash);
    return hash;
}

static void test_reference(void)
{
    FILE *f = fopen("t/data/phash/phash.txt", "r");
    char name[200];
    unsigned long long want, sure;
    if (!ok(f != NULL, "t/data/phash/phash.txt"))
        return;
    while (fscanf(f, "%199s %llx %llx", name, &want, &sure) == 3) {
        struct sd_image im;
        struct sd_err err = {0};
        uint64_t got = 0;
        bool good = !sd_image_load(name, 3, 0, &im, &err) && sd_phash(&im, &got);
        if (!ok(good && !((got ^ want) & sure), "%s", name))
            printf("# got  %016llx\n# want %016llx where %016llx %s\n", (unsigned long long)got, want, sure,
                   err.msg);
        if (good)
            ok(__builtin_popcountll(got) == 31 && !(got & 1), "half of the bits, and not the first");
        sd_image_free(&im);
    }
    fclose(f);
}

/* A picture of one's own; the caller frees it. */
static struct sd_image make(uint32_t width, uint32_t height, int channels)
{
    struct sd_image im;
    if (sd_image_alloc(&im, width, height, channels, NULL))
        exit(1);
    return im;
}

static void fill(struct sd_image *im, int r, int g, int b)
{
    const uint8_t pixel[4] = {(uint8_t)r, (uint8_t)g, (uint8_t)b, 77};
    for (size_t i = 0; i < (size_t)im->width * im->height; i++)
        memcpy(im->data + i * (size_t)im->channels, pixel, (size_t)im->channels);
}

/* Blocks of noise, each of side x side pixels: the same picture at every side. */
static struct sd_image blocks(uint32_t side, int channels)
{
    struct sd_image im = make(16 * side, 8 * side, channels);
    struct sd_rng rng;
    uint8_t colours[8][16];
    sd_rng_seed(&rng, 1);
    for (int i = 0; i < 8 * 16; i++)
        colours[i / 16][i % 16] = (uint8_t)(sd_rng_u32(&rng) >> 24);
    for (uint32_t y = 0; y < im.height; y++)
        for (uint32_t x = 0; x < im.width; x++)
            memset(im.data + ((size_t)y * im.width + x) * (size_t)channels, colours[y / side][x / side], 3);
    return im;
}

static void test_sizes(void)
{
    struct sd_image one = blocks(1, 3);
    for (uint32_t side = 2; side <= 37; side += 7) {
        struct sd_image im = blocks(side, side % 2 ? 3 : 4);
        ok(hash_of(&im) == hash_of(&one), "%ux%u pixels: the hash of 16x8", im.width, im.height);
        sd_image_free(&im);
    }
    struct sd_image turned = make(8, 16, 3);
    for (uint32_t y = 0; y < 16; y++)
        for (uint32_t x = 0; x < 8; x++)
            memcpy(turned.data + (y * 8 + x) * 3, one.data + (x * 16 + y) * 3, 3);
    uint64_t a = hash_of(&one), b = hash_of(&turned), swapped = 0;
    for (int v = 0; v < 8; v++)
        for (int u = 0; u < 8; u++)
            swapped |= (b >> (8 * u + v) & 1) << (8 * v + u);
    ok(a == swapped, "rows and columns change places when the picture's do");
    sd_image_free(&turned);
    sd_image_free(&one);
}

static void test_flat(void)
{
    const struct {
        uint32_t width, height;
    } sizes[] = {{1, 1}, {1, 500}, {500, 1}, {33, 31}, {640, 480}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct sd_image im = make(sizes[i].width, sizes[i].height, 3);
        uint64_t hash = 1;
        fill(&im, 200, 100, 50);
        ok(!sd_phash(&im, &hash) && !hash, "%ux%u of one colour has no hash", im.width, im.height);
        uint8_t mean[3];
        sd_mean_colour(&im, mean);
        ok(mean[0] == 200 && mean[1] == 100 && mean[2] == 50, "its mean colour");
        sd_image_free(&im);
    }
    struct sd_image im = make(64, 64, 4);
    uint64_t hash;
    fill(&im, 100, 100, 100);
    memset(im.data, 103, (size_t)64 * 32 * 4);
    ok(!sd_phash(&im, &hash), "a step of 3 levels is too little");
    memset(im.data, 104, (size_t)64 * 32 * 4);
    ok(sd_phash(&im, &hash), "one of 4 is enough");
    ok(hash == (1u << 8 | 1ull << 40), "and exact zeros are not above the median: bits of v = 1 and 5 only");
    uint8_t mean[3];
    sd_mean_colour(&im, mean);
    ok(mean[0] == 102 && mean[2] == 102, "the mean of both halves, rounded");
    sd_image_free(&im);
    im = SD_IMAGE_INIT;
    ok(!sd_phash(&im, &hash) && !hash, "nothing has no hash");
}

int main(void)
{
    test_reference();
    test_sizes();
    test_flat();
    return tap_end();
}
