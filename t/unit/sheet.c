/* Contact sheets, pixel by pixel: crisp enlarging, centred places, grey between, empty cells. */
#include "image/sheet.h"
#include "tap.h"

#include <stdio.h>
#include <string.h>

/* One letter a pixel: r, g, b, w, and . for the grey ground. */
static char letter(const uint8_t *p)
{
    static const struct {
        uint8_t rgb[3];
        char c;
    } known[] = {{{255, 0, 0}, 'r'},
                 {{0, 255, 0}, 'g'},
                 {{0, 0, 255}, 'b'},
                 {{255, 255, 255}, 'w'},
                 {{128, 128, 128}, '.'}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!memcmp(p, known[i].rgb, 3))
            return known[i].c;
    return '?';
}

/* Rows from the top, a blank between. */
static int looks(const struct sd_image *im, const char *want)
{
    char got[512];
    size_t n = 0;
    for (uint32_t y = 0; y < im->height; y++) {
        for (uint32_t x = 0; x < im->width; x++)
            got[n++] = letter(im->data + ((size_t)y * im->width + x) * 3);
        got[n++] = ' ';
    }
    got[n - 1] = 0;
    if (strcmp(got, want))
        printf("# got  %s\n# want %s\n", got, want);
    return !strcmp(got, want);
}

int main(void)
{
    struct sd_err err = {0};
    struct sd_image two = SD_IMAGE_INIT, tall = SD_IMAGE_INIT, out;
    struct sd_sheet s = {.cell = 5, .gap = 1};
    int rc = sd_image_alloc(&two, 2, 1, 4, &err) | sd_image_alloc(&tall, 10, 20, 3, &err);
    ok(!rc && sd_sheet_draw(&s, &out, &err) && err.code == SD_ERR_DATA, "nothing makes no sheet");
    if (rc)
        return 1;
    memcpy(two.data, (uint8_t[]){255, 0, 0, 7, 0, 255, 0, 9}, 8);
    memset(tall.data, 255, 10 * 20 * 3);

    ok(!sd_sheet_add(&s, &two, &err) && !sd_sheet_draw(&s, &out, &err), "one picture");
    ok(looks(&out, "....... ....... .rrgg.. .rrgg.. ....... ....... ......."),
       "twice as large, in the middle");
    sd_image_free(&out);
    ok(!sd_sheet_add(&s, NULL, &err) && !sd_sheet_add(&s, &tall, &err) && !sd_sheet_draw(&s, &out, &err),
       "an empty cell and a large picture");
    ok(looks(&out, "............. ............. .rrgg........ .rrgg........ ............. ............. "
                   "............. "
                   "..www........ ..www........ ..www........ ..www........ ..www........ ............."),
       "two by two, the large one shrunk to 3x5 (half of 5 rounds up)");
    sd_image_free(&out);
    s.columns = 7;
    ok(!sd_sheet_draw(&s, &out, &err) && out.width == 3 * 6 + 1 && out.height == 7,
       "no columns without pictures");
    sd_image_free(&out);
    s.columns = 1;
    ok(!sd_sheet_draw(&s, &out, &err) && out.width == 7 && out.height == 3 * 6 + 1, "one column");
    sd_image_free(&out);
    s.cell = 100000;
    ok(sd_sheet_draw(&s, &out, &err) == -1 && !out.data, "a sheet too large is refused");
    sd_sheet_free(&s);
    sd_image_free(&two);
    sd_image_free(&tall);
    return tap_end();
}
