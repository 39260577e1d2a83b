/* How fast pictures are decoded from memory to RGB in one thread, JPEG also to a half, a quarter and an
 * eighth, one JSON line a kind: {"name","value","unit","runs","files"}. MB/s counts the bytes of the full
 * pictures' RGB pixels, whatever is asked for, in the sum of the best times of each file.
 *
 *     decode RUNS FILE...      files of other formats are counted apart; t/ref/bench_decode.py is the peers'
 * side */
#include "base/file.h"
#include "image/image.h"
#include "image/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { FILE_BYTES = 1 << 30 };

struct sum {
    double seconds, bytes;
    int files;
};

static void die(const struct sd_err *err)
{
    fprintf(stderr, "decode: %s\n", err->msg);
    exit(3);
}

static double processor_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double best_time(const struct sd_buf *file, uint32_t width, uint32_t height, int runs)
{
    double best = 0;
    for (int i = 0; i < runs; i++) {
        struct sd_image im;
        struct sd_err err;
        double start = processor_time();
        if (sd_image_decode_small(file->data, file->len, 3, width, height, NULL, &im, &err))
            die(&err);
        double took = processor_time() - start;
        sd_image_free(&im);
        best = !i || took < best ? took : best;
    }
    return best;
}

int main(int argc, char **argv)
{
    static const char *const formats[] = {"", "png", "jpeg", "webp", "bmp"};
    struct sum sums[5][4] = {0}; /* by format and halvings */
    int runs = argc > 2 ? atoi(argv[1]) : 0;
    if (runs < 1)
        return fprintf(stderr, "usage: decode RUNS FILE...\n"), 2;
    for (int i = 2; i < argc; i++) {
        struct sd_buf file = SD_BUF_INIT;
        struct sd_image_info info;
        struct sd_err err = {0};
        if (sd_file_read(argv[i], FILE_BYTES, &file, &err) ||
            sd_image_probe_memory(file.data, file.len, &info, &err))
            die(&err);
        for (int k = 0; k < (info.format == SD_IMAGE_JPEG ? 4 : 1); k++) {
            struct sum *s = &sums[info.format][k];
            s->seconds += best_time(&file, k ? info.width >> k : 0, k ? info.height >> k : 0, runs);
            s->bytes += 3. * info.width * info.height;
            s->files++;
        }
        sd_buf_free(&file);
    }
    for (int f = 1; f < 5; f++)
        for (int k = 0; k < 4; k++)
            if (sums[f][k].files) {
                printf("{\"name\":\"decode-%s", formats[f]);
                if (k)
                    printf("-%d", 1 << k);
                printf("\",\"value\":%.1f,\"unit\":\"MB/s\",\"runs\":%d,\"files\":%d}\n",
                       sums[f][k].bytes / sums[f][k].seconds * 1e-6, runs, sums[f][k].files);
            }
    return 0;
}
