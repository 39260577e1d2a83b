/* Reading t/data/text: lines of tab-separated fields, texts escaped as t/ref/text.py writes them. */
#ifndef T_UNIT_FIELDS_H
#define T_UNIT_FIELDS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* Puts the text of an escaped field in out; out->data is then never NULL. */
static inline void unescape(const char *s, struct sd_buf *out)
{
    sd_buf_clear(out);
    sd_buf_add(out, "", 0);
    for (; *s; s++) {
        char c = *s;
        if (c == '\\') {
            c = *++s;
            if (c == 'x') {
                char hex[3] = {s[1], s[2], 0};
                c = (char)strtol(hex, NULL, 16);
                s += 2;
            } else {
                c = c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c;
            }
        }
        sd_buf_addc(out, c);
    }
}

/* Cuts line at its tabs; the pointers are into it. Returns how many fields there are, at most `most`. */
static inline int split_fields(char *line, char **field, int most)
{
    int n = 0;
    for (char *s = line; s && n < most; n++) {
        field[n] = s;
        if ((s = strchr(s, '\t')))
            *s++ = 0;
    }
    return n;
}

/* Calls check with the fields of each line of a file; says which lines fail. Returns the number of lines that
 * pass if all do, else 0. */
static inline int check_lines(const char *path, int (*check)(char **field, int n))
{
    FILE *in = fopen(path, "r");
    char *line = NULL, *field[32];
    size_t cap = 0;
    ssize_t len;
    int lines = 0, bad = 0;
    while (in && (len = getline(&line, &cap, in)) > 0) {
        if (line[len - 1] == '\n')
            line[len - 1] = 0;
        char *whole = strdup(line);
        lines++;
        if (!whole || !check(field, split_fields(line, field, 32))) {
            bad++;
            printf("# %s:%d: %.400s\n", path, lines, whole ? whole : "");
        }
        free(whole);
    }
    printf("# %s: %d lines, %d differ\n", path, lines, bad);
    free(line);
    if (in)
        fclose(in);
    return bad ? 0 : lines;
}

#endif
