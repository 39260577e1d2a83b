/* lib/image against Pillow and OpenCV (t/data/image, made by t/ref/image.py), and against damaged input. */
#define _GNU_SOURCE /* memmem */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "image/jpeg.h"
#include "data/picture.h"
#include "image/png.h"
#include "image/probe.h"
#include "image/resize.h"
#include "tap.h"

#define DIR "t/data/image/"

static struct sd_err err;
static struct sd_archives archives;

/* What there is to say of a failed check. */
static void explain(int good)
{
    if (!good && err.msg[0])
        printf("# %s\n", err.msg);
}

static struct sd_buf slurp(const char *name)
{
    struct sd_buf b = SD_BUF_INIT;
    char path[256];
    snprintf(path, sizeof path, "%s%s", DIR, name);
    if (sd_file_read(path, 1 << 24, &b, &err)) {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
    return b;
}

/* The largest difference of a byte. */
static int difference(const struct sd_image *im, const uint8_t *want)
{
    int worst = 0;
    for (size_t i = 0; i < (size_t)im->width * im->height * (size_t)im->channels; i++)
        worst = abs(im->data[i] - want[i]) > worst ? abs(im->data[i] - want[i]) : worst;
    return worst;
}

static void test_decoding(void)
{
    struct sd_buf list = slurp("expected.txt"), pixels = slurp("expected.bin");
    for (char *line = strtok(list.data, "\n"); line; line = strtok(NULL, "\n")) {
        char name[64], mode[8], path[128];
        unsigned w, h;
        size_t at;
        sscanf(line, "%63s %7s %u %u %zu", name, mode, &w, &h, &at);
        snprintf(path, sizeof path, "%s%s", DIR, name);
        struct sd_image im;
        struct sd_image_info info;
        bool white = !strcmp(mode, "WHITE");
        int bad = sd_image_load(path, mode[3] ? 4 : 3, SD_IMAGE_STRICT, &im, &err) || im.width != w ||
                  im.height != h;
        if (!bad && white)
            sd_image_on_white(&im);
        int worst = bad ? 255 : difference(&im, (uint8_t *)pixels.data + at);
        if (worst > 1)
            printf("# differs by %d\n", worst);
        explain(ok(worst <= 1, "%s as Pillow reads it", line));
        explain(ok(!sd_image_probe(path, &info, &err) && info.width == w && info.height == h,
                   "%s: its header", name));
        sd_image_free(&im);
    }
    sd_buf_free(&list);
    sd_buf_free(&pixels);
}

static void test_resizing(void)
{
    struct sd_buf list = slurp("resized.txt"), pixels = slurp("resized.bin");
    struct sd_image opaque, clear, to;
    if (sd_image_load(DIR "source.png", 3, 0, &opaque, &err) ||
        sd_image_load(DIR "source-alpha.png", 4, 0, &clear, &err))
        exit(1);
    for (char *line = strtok(list.data, "\n"); line; line = strtok(NULL, "\n")) {
        char source[32], name[16];
        unsigned w, h;
        size_t at;
        enum sd_resize_filter filter;
        sscanf(line, "%31s %15s %u %u %zu", source, name, &w, &h, &at);
        int bad = sd_resize_filter_parse(name, &filter, &err) ||
                  sd_image_resize(strcmp(source, "source.png") ? &clear : &opaque, w, h, filter, &to, &err);
        int worst = bad ? 255 : difference(&to, (uint8_t *)pixels.data + at);
        if (worst > 0)
            printf("# differs by %d\n", worst);
        /* Intel's IPP, which OpenCV has cubic from, adds in an order of its own */
        explain(ok(worst <= (filter == SD_RESIZE_CUBIC), "resize: %s", line));
        sd_image_free(&to);
    }
    sd_image_free(&opaque);
    sd_image_free(&clear);
    sd_buf_free(&list);
    sd_buf_free(&pixels);
}

static void test_editing(void)
{
    struct sd_image im, crop, again;
    struct sd_buf png = SD_BUF_INIT, text = SD_BUF_INIT;
    const struct sd_png_text texts[] = {{"parameters", "caf\xc3\xa9\nSteps: 20"}, {"other", "\xe7\x8c\xab"}};
    explain(ok(!sd_image_load(DIR "rgba.png", 4, 0, &im, &err), "load"));
    explain(ok(!sd_image_crop(&im, 3, 2, 5, 4, &crop, &err) &&
                   !memcmp(crop.data, im.data + (2 * im.width + 3) * 4, 20),
               "crop"));
    sd_image_free(&crop);
    explain(ok(sd_image_crop(&im, im.width - 4, 0, 5, 4, &crop, &err) && !crop.data,
               "a crop outside is refused"));
    explain(ok(!sd_png_encode(&im, texts, 2, &png, &err) &&
                   !sd_image_decode(png.data, png.len, 4, 0, &again, &err) &&
                   difference(&again, im.data) == 0,
               "a PNG written and read is the same"));
    explain(ok(sd_png_read_text(png.data, png.len, "parameters", &text, &err) == 1 &&
                   !strcmp(text.data, texts[0].text),
               "text in Latin-1"));
    explain(ok(memmem(png.data, png.len, "tEXt", 4) && memmem(png.data, png.len, "iTXt", 4),
               "two kinds of text chunks"));
    sd_buf_clear(&text);
    explain(ok(sd_png_read_text(png.data, png.len, "other", &text, &err) == 1 &&
                   !strcmp(text.data, texts[1].text),
               "text beyond Latin-1"));
    explain(ok(sd_png_read_text(png.data, png.len, "none", &text, &err) == 0, "no such text"));
    sd_image_flip(&again);
    explain(ok(!memcmp(again.data, im.data + (im.width - 1) * 4, 4), "flip"));
    sd_image_flip(&again);
    explain(ok(difference(&again, im.data) == 0, "flipped twice"));
    sd_image_free(&im);
    sd_image_free(&again);
    sd_buf_free(&png);
    sd_buf_free(&text);
}

static void test_jpeg(void)
{
    struct sd_buf file = slurp("q30.jpg"), jpeg = SD_BUF_INIT;
    struct sd_image im, small;
    uint32_t full[2];
    static const struct {
        uint32_t width, height, want_w, want_h; /* of 21x15 */
    } cases[] = {{1, 1, 3, 2},   {3, 2, 3, 2},    {4, 2, 6, 4},     {0, 4, 6, 4},     {6, 5, 11, 8},
                 {11, 8, 11, 8}, {12, 8, 21, 15}, {21, 15, 21, 15}, {99, 99, 21, 15}, {0, 0, 21, 15}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int good =
            !sd_image_decode_small(file.data, file.len, 3, cases[i].width, cases[i].height, NULL, &im, &err);
        explain(ok(good && im.width == cases[i].want_w && im.height == cases[i].want_h,
                   "%ux%u is wanted: %ux%u", cases[i].width, cases[i].height, cases[i].want_w,
                   cases[i].want_h));
        sd_image_free(&im);
    }
    explain(ok(!sd_picture_load_small(&archives, DIR "cmyk.jpg", 4, 2, 2, full, &im, &err) && im.width == 3 &&
                   full[0] == 21 && full[1] == 15 && im.channels == 4,
               "CMYK at an eighth"));
    sd_image_free(&im);
    explain(ok(!sd_picture_load_small(&archives, DIR "rgb.png", 3, 2, 2, NULL, &im, &err) && im.width == 21,
               "a PNG comes as it is"));

    uint8_t *before = malloc((size_t)im.width * im.height * 3);
    memcpy(before, im.data, (size_t)im.width * im.height * 3);
    explain(ok(!sd_jpeg_encode(&im, 100, &jpeg, &err) &&
                   !sd_image_decode(jpeg.data, jpeg.len, 3, SD_IMAGE_STRICT, &small, &err) &&
                   small.width == im.width,
               "a JPEG written can be read"));
    long long off = 0;
    for (size_t i = 0; i < (size_t)im.width * im.height * 3; i++)
        off += abs(small.data[i] - before[i]);
    explain(ok(off < 12LL * im.width * im.height * 3, "and looks alike (%.1f a byte)",
               (double)off / (im.width * im.height * 3)));
    free(before);
    sd_image_free(&small);
    sd_buf_clear(&jpeg);
    im.width = 65501; /* never looked at: JPEG ends at 65500 */
    explain(ok(sd_jpeg_encode(&im, 90, &jpeg, &err) && strstr(err.msg, "cannot write a JPEG"),
               "too wide for a JPEG"));
    sd_image_free(&im);
    sd_buf_free(&jpeg);
    sd_buf_free(&file);
}

/* Each cut of a file is refused with a message, or (where only padding is missing) read. */
static void test_cuts(const char *name, const char *message)
{
    struct sd_buf file = slurp(name);
    struct sd_image im;
    int good = 1;
    for (size_t n = 0; n < file.len && good; n++) {
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, file.data, n);
        memset(&err, 0, sizeof err);
        int bad = sd_image_decode(exact, n, 3, SD_IMAGE_STRICT, &im, &err);
        good = bad ? err.msg[0] && !im.data : n + 16 > file.len;
        sd_image_free(&im);
        free(exact);
    }
    explain(ok(good, "%s cut anywhere is refused", name));
    memset(&err, 0, sizeof err);
    explain(ok(sd_image_decode(file.data, file.len * 2 / 3, 3, 0, &im, &err) && strstr(err.msg, message),
               "message: %s", message));
    sd_buf_free(&file);
}

static void test_hostile(void)
{
    struct sd_image_info info;
    struct sd_image im;
    uint8_t png[64] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02";
    explain(ok(!sd_image_probe_memory(png, sizeof png, &info, &err) && info.width == 0x7fffffff,
               "a huge PNG is told"));
    explain(ok(sd_image_decode(png, sizeof png, 3, 0, &im, &err) && !im.data, "and not decoded"));
    uint8_t none[64] = "\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0\0\0\0\0\1\x08\x02";
    explain(ok(sd_image_probe_memory(none, sizeof none, &info, &err), "no width"));
    uint8_t jpeg[] = {0xff, 0xd8, 0xff, 0xe1, 0, 1, 0xff, 0xc0, 0, 17};
    explain(ok(sd_image_probe_memory(jpeg, sizeof jpeg, &info, &err), "a JPEG segment of 1 byte"));
    explain(ok(sd_image_probe_memory("", 0, &info, &err) && !strcmp(err.msg, "empty file"), "an empty file"));
}

int main(void)
{
    test_decoding();
    test_resizing();
    test_editing();
    test_jpeg();
    test_cuts("rgb.png", "truncated PNG (IDAT ends at byte");
    test_cuts("q30.jpg", "truncated JPEG");
    test_cuts("lossy.webp", "WebP");
    test_cuts("lossless.webp", "WebP");
    test_cuts("rgb.bmp", "truncated BMP");
    test_cuts("palette8.bmp", "truncated BMP");
    test_cuts("565-v4.bmp", "truncated BMP");
    test_cuts("os2.bmp", "truncated BMP");
    test_cuts("runs8.bmp", "truncated BMP");
    test_cuts("kind-arithmetic-progressive.jpg", "truncated JPEG");
    test_cuts("interlaced-rgba16.png", "truncated PNG");
    test_hostile();
    return tap_end();
}
