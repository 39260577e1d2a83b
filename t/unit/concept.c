/* How much of a picture has the colour of the concept in contrib/tiny/sks, which no picture of the base model
 * has: the number by which t/0300-main-job.t tells that a LoRA learned it.
 *
 *     concept FILE...    a line for each: the share of its pixels that are magenta, and its name
 *     concept            a test of that: the concept's own pictures have much of it */
#include "image/image.h"
#include "tap.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* Near the body's colour in contrib/tiny/shapes.py (SKS). */
static int is_magenta(const uint8_t *p)
{
    int r = p[0] - 255, g = p[1] - 0, b = p[2] - 200;
    return r * r + g * g + b * b < 64 * 64;
}

/* Negative when the picture cannot be read. */
static double share(const char *path)
{
    struct sd_image im;
    struct sd_err err = {0};
    size_t found = 0;
    if (sd_image_load(path, 3, 0, &im, &err)) {
        fprintf(stderr, "concept: %s\n", err.msg);
        return -1;
    }
    size_t n = (size_t)im.width * im.height;
    for (size_t i = 0; i < n; i++)
        found += (size_t)is_magenta(im.data + 3 * i);
    sd_image_free(&im);
    return (double)found / (double)n;
}

static int test(const char *folder)
{
    double least = 1;
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) {
        const char *dot = strrchr(e->d_name, '.');
        char path[512];
        if (!dot ||
            (strcmp(dot, ".png") && strcmp(dot, ".jpg") && strcmp(dot, ".jpeg") && strcmp(dot, ".webp")))
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        double s = share(path);
        least = s < least ? s : least;
        n++;
    }
    if (d)
        closedir(d);
    ok(n == 20 && least > 0.08, "the concept's pictures are magenta (%d pictures, at least %.3f of each)", n,
       least);
    return tap_end();
}

int main(int argc, char **argv)
{
    int status = 0;
    if (argc == 1)
        return test("contrib/tiny/sks");
    for (int i = 1; i < argc; i++) {
        double s = share(argv[i]);
        printf("%.4f %s\n", s, argv[i]);
        status |= s < 0;
    }
    return status;
}
