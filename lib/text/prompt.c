/* Prompt lines. What matches, matches as Python's re does: letters in either case, digits of any script. */
#include "text/prompt.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/unicode.h"

int sd_prompt_is_line(struct sd_str *line)
{
    int comment = line->len > 0 && line->data[0] == '#';
    *line = sd_str_strip(*line);
    return line->len > 0 && !comment;
}

/* If part starts with the lower-case key and a blank, whatever its case, the rest in *value. */
static int has_key(struct sd_str part, const char *key, struct sd_str *value)
{
    size_t i = 0;
    for (; *key; key++) {
        uint32_t cp;
        if (i >= part.len)
            return 0;
        i += sd_unicode_next(part.data + i, part.len - i, &cp);
        if (cp >= 'A' && cp <= 'Z')
            cp += 32;
        if (cp == 0x17f) /* the long s folds to s */
            cp = 's';
        if (cp != (unsigned char)*key)
            return 0;
    }
    if (i >= part.len || part.data[i] != ' ')
        return 0;
    *value = (struct sd_str){.data = part.data + i + 1, .len = part.len - i - 1};
    return 1;
}

/* \d+ at the start of s; at most `most`. */
static int read_integer(struct sd_str s, uint64_t most, uint64_t *out)
{
    uint64_t value = 0;
    size_t i = 0, digits = 0;
    while (i < s.len) {
        uint32_t cp;
        size_t bytes = sd_unicode_next(s.data + i, s.len - i, &cp);
        int digit = sd_unicode_digit(cp);
        if (digit < 0)
            break;
        value = value > (most - (uint64_t)digit) / 10 ? most : value * 10 + (uint64_t)digit;
        i += bytes;
        digits++;
    }
    *out = value;
    return digits > 0;
}

/* Python's float(): blanks around it, underscores between digits, digits of any script, inf and nan. Returns
 * whether s is a number. */
static int read_float(struct sd_str s, double *out)
{
    s = sd_str_strip(s);
    char *copy = malloc(s.len + 1), *end;
    size_t n = 0;
    int good = copy && s.len > 0, was_digit = 0;
    for (size_t i = 0; i < s.len && good;) {
        uint32_t cp, after;
        i += sd_unicode_next(s.data + i, s.len - i, &cp);
        int digit = sd_unicode_digit(cp);
        if (cp == '_') {
            good = was_digit && i < s.len && sd_unicode_next(s.data + i, s.len - i, &after) &&
                   sd_unicode_digit(after) >= 0;
            was_digit = 0;
            continue;
        }
        good = cp < 0x80 ? cp != 'x' && cp != 'X' && cp != '(' && cp != ')' && cp != 0 : digit >= 0;
        was_digit = digit >= 0;
        if (good)
            copy[n++] = digit >= 0 ? (char)('0' + digit) : (char)cp;
    }
    if (good) {
        copy[n] = 0;
        *out = strtod(copy, &end);
        good = end == copy + n && n > 0;
    }
    free(copy);
    return good;
}

/* .+ at the start of s: up to the end of its line, at least one character. */
static int read_text(struct sd_str s, struct sd_str *out)
{
    const char *newline = s.len ? memchr(s.data, '\n', s.len) : NULL;
    *out = (struct sd_str){.data = s.data, .len = newline ? (size_t)(newline - s.data) : s.len};
    return out->len > 0;
}

/* [\d.]+ at the start of s. */
static int read_digits_and_dots(struct sd_str s, struct sd_str *out)
{
    size_t i = 0;
    while (i < s.len) {
        uint32_t cp;
        size_t bytes = sd_unicode_next(s.data + i, s.len - i, &cp);
        if (cp != '.' && sd_unicode_digit(cp) < 0)
            break;
        i += bytes;
    }
    *out = (struct sd_str){.data = s.data, .len = i};
    return i > 0;
}

static void set_float(struct sd_prompt *out, struct sd_str part, struct sd_str number, double *member,
                      unsigned bit)
{
    double value;
    if (read_float(number, &value)) {
        *member = value;
        out->set |= bit;
    } else if (!out->bad.data) {
        out->bad = part;
    }
}

static void read_part(struct sd_str part, struct sd_prompt *out)
{
    struct sd_str value, text;
    uint64_t n;
    if (has_key(part, "w", &value) && read_integer(value, INT64_MAX, &n)) {
        out->width = (int64_t)n;
        out->set |= SD_PROMPT_WIDTH;
    } else if (has_key(part, "h", &value) && read_integer(value, INT64_MAX, &n)) {
        out->height = (int64_t)n;
        out->set |= SD_PROMPT_HEIGHT;
    } else if (has_key(part, "d", &value) && read_integer(value, UINT64_MAX, &n)) {
        out->seed = n;
        out->set |= SD_PROMPT_SEED;
    } else if (has_key(part, "s", &value) && read_integer(value, 1000, &n)) {
        out->steps = n < 1 ? 1 : (int)n;
        out->set |= SD_PROMPT_STEPS;
    } else if (has_key(part, "l", &value) && read_digits_and_dots(value, &text)) {
        set_float(out, part, text, &out->scale, SD_PROMPT_SCALE);
    } else if (has_key(part, "g", &value) && read_digits_and_dots(value, &text)) {
        set_float(out, part, text, &out->guidance_scale, SD_PROMPT_GUIDANCE);
    } else if (has_key(part, "n", &value) && read_text(value, &text)) {
        out->negative_prompt = text;
        out->set |= SD_PROMPT_NEGATIVE;
    } else if (has_key(part, "ss", &value) && read_text(value, &text)) {
        out->sample_sampler = text;
        out->set |= SD_PROMPT_SAMPLER;
    } else if (has_key(part, "cn", &value) && read_text(value, &text)) {
        out->controlnet_image = text;
        out->set |= SD_PROMPT_CONTROLNET;
    } else if (has_key(part, "ctr", &value) && read_text(value, &text)) {
        set_float(out, part, text, &out->cfg_trunc_ratio, SD_PROMPT_CFG_TRUNC);
    } else if (has_key(part, "rcfg", &value) && read_text(value, &text)) {
        set_float(out, part, text, &out->renorm_cfg, SD_PROMPT_RENORM_CFG);
    } else if (has_key(part, "fs", &value) && read_text(value, &text)) {
        out->flow_shift = text;
        out->set |= SD_PROMPT_FLOW_SHIFT;
    }
}

void sd_prompt_parse(struct sd_str line, struct sd_prompt *out)
{
    struct sd_str rest = line, part;
    memset(out, 0, sizeof *out);
    if (!rest.data)
        rest.data = "";
    for (int first = 1; sd_str_cut(&rest, sd_str_of(" --"), &part); first = 0) {
        if (first)
            out->prompt = part;
        read_part(part, out);
    }
}
