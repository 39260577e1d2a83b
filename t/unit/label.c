/* Texts on pictures: letters, lines, what is cut off, what lies outside. */
#include "image/label.h"
#include "tap.h"

#include <stdlib.h>
#include <string.h>

/* Draws onto a black picture of w x h, grey from there on: exactly so many pixels have the letter's grey. */
static struct sd_image drawn(uint32_t w, uint32_t h, size_t x, size_t y, size_t width, size_t lines,
                             const char *text)
{
    struct sd_image im;
    struct sd_err err;
    if (sd_image_alloc(&im, w, h, 3, &err))
        exit(3);
    sd_label_draw(&im, x, y, width, lines, 200, text, strlen(text));
    return im;
}

/* Rows from the top, '#' where something was drawn. */
static void looks(const char *name, struct sd_image im, const char *want)
{
    char got[4096];
    size_t n = 0;
    for (uint32_t y = 0; y < im.height; y++) {
        for (uint32_t x = 0; x < im.width; x++) {
            const uint8_t *p = im.data + ((size_t)y * im.width + x) * 3;
            got[n++] = p[0] == 200 && p[1] == 200 && p[2] == 200 ? '#' : p[0] || p[1] || p[2] ? '?' : '.';
        }
        got[n++] = '\n';
    }
    got[n] = 0;
    if (!ok(!strcmp(got, want), "%s", name))
        printf("# got\n%s# want\n%s", got, want);
    sd_image_free(&im);
}

static void same(const char *name, struct sd_image a, struct sd_image b)
{
    ok(a.width == b.width && a.height == b.height && !memcmp(a.data, b.data, (size_t)a.width * a.height * 3),
       "%s", name);
    sd_image_free(&a);
    sd_image_free(&b);
}

int main(void)
{
    looks("two letters", drawn(13, 9, 1, 0, 12, 1, "Hy"),
          ".#...#.......\n"
          ".#...#.......\n"
          ".#...#.#...#.\n"
          ".#####.#...#.\n"
          ".#...#.#...#.\n"
          ".#...#..####.\n"
          ".#...#.....#.\n"
          "........###..\n"
          ".............\n");
    looks("a box for what is not ASCII", drawn(12, 7, 0, 0, 12, 1, "\xc3\xa9\xe6\x97\xa5"),
          "#####.#####.\n"
          "#...#.#...#.\n"
          "#...#.#...#.\n"
          "#...#.#...#.\n"
          "#...#.#...#.\n"
          "#...#.#...#.\n"
          "#####.#####.\n");
    looks("outside of the picture nothing is drawn", drawn(3, 3, 1, 1, 600, 5, "HHHHHHHHHH"),
          "...\n"
          ".#.\n"
          ".#.\n");
    same("a line ends at a blank", drawn(36, 20, 0, 0, 36, 2, "a bcd efg"),
         drawn(36, 20, 0, 0, 36, 2, "a bcd       efg"));
    same("or in a long word", drawn(36, 20, 0, 0, 36, 2, "abcdefgh"),
         drawn(36, 20, 0, 0, 36, 2, "abcdef gh"));
    same("the last is cut off", drawn(36, 20, 0, 0, 36, 1, "abcdefgh"), drawn(36, 20, 0, 0, 36, 1, "abc..."));
    same("control characters are blanks", drawn(36, 10, 0, 0, 36, 1, "a\x1b\nb"),
         drawn(36, 10, 0, 0, 36, 1, "a  b"));
    same("no room, no text", drawn(36, 10, 0, 0, 5, 1, "abc"), drawn(36, 10, 0, 0, 36, 1, ""));
    same("bytes that are not UTF-8", drawn(36, 10, 0, 0, 36, 1, "\xff\x80z\xe6"),
         drawn(36, 10, 0, 0, 36, 1, "\xc3\xa9z\xc3\xa9"));
    return tap_end();
}
