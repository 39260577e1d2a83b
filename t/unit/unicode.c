/* Character properties of every code point against Python's (t/data/text/unicode.tsv, made by t/ref/text.py).
 */
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "tap.h"
#include "text/unicode.h"

static int property(const char *name, uint32_t cp)
{
    if (!strcmp(name, "class"))
        return (int)sd_unicode_class(cp);
    if (!strcmp(name, "space"))
        return sd_unicode_is_space(cp);
    if (!strcmp(name, "separator"))
        return sd_unicode_is_separator(cp);
    if (!strcmp(name, "word"))
        return sd_unicode_is_word(cp);
    return sd_unicode_digit(cp) + 1;
}

int main(void)
{
    static unsigned char values[0x110000];
    FILE *in = fopen("t/data/text/unicode.tsv", "r");
    char name[32];
    unsigned long want;
    while (in && fscanf(in, "%31s %lx", name, &want) == 2) {
        for (uint32_t cp = 0; cp < 0x110000; cp++)
            values[cp] = (unsigned char)property(name, cp);
        ok(crc32_z(0, values, sizeof values) == want, "%s of every code point", name);
    }
    if (in)
        fclose(in);
    return tap_end() || tap_count != 5;
}
