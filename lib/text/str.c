/* Python's string methods on views of UTF-8 bytes. */
#include "text/str.h"

#include <stdint.h>
#include <string.h>

#include "text/unicode.h"

struct sd_str sd_str_of(const char *s)
{
    return (struct sd_str){.data = s ? s : "", .len = s ? strlen(s) : 0};
}

size_t sd_str_find(struct sd_str s, struct sd_str needle, size_t from)
{
    if (needle.len == 0)
        return from <= s.len ? from : SIZE_MAX;
    while (from < s.len && s.len - from >= needle.len) {
        const char *hit = memchr(s.data + from, needle.data[0], s.len - from - needle.len + 1);
        if (!hit)
            break;
        if (!memcmp(hit, needle.data, needle.len))
            return (size_t)(hit - s.data);
        from = (size_t)(hit - s.data) + 1;
    }
    return SIZE_MAX;
}

int sd_str_starts(struct sd_str s, struct sd_str start)
{
    return s.len >= start.len && (start.len == 0 || !memcmp(s.data, start.data, start.len));
}

int sd_str_ends(struct sd_str s, struct sd_str end)
{
    return s.len >= end.len && (end.len == 0 || !memcmp(s.data + s.len - end.len, end.data, end.len));
}

struct sd_str sd_str_strip(struct sd_str s)
{
    size_t start = 0, end = 0;
    for (size_t i = 0; i < s.len;) {
        uint32_t cp;
        size_t bytes = sd_unicode_next(s.data + i, s.len - i, &cp);
        if (!sd_unicode_is_space(cp))
            end = i + bytes;
        else if (end == 0)
            start = i + bytes;
        i += bytes;
    }
    return (struct sd_str){.data = s.data + start, .len = end > start ? end - start : 0};
}

int sd_str_cut(struct sd_str *rest, struct sd_str separator, struct sd_str *piece)
{
    if (!rest->data)
        return 0;
    *piece = *rest;
    size_t at = sd_str_find(*rest, separator, 0);
    if (at == SIZE_MAX) {
        *rest = (struct sd_str){0};
        return 1;
    }
    piece->len = at;
    rest->data += at + separator.len;
    rest->len -= at + separator.len;
    return 1;
}

int sd_str_replace(struct sd_buf *text, struct sd_str from, struct sd_str to)
{
    struct sd_str s = {.data = text->data, .len = text->len};
    size_t at = s.len ? sd_str_find(s, from, 0) : SIZE_MAX, done = 0;
    if (at == SIZE_MAX)
        return 0;
    struct sd_buf out = SD_BUF_INIT;
    for (; at != SIZE_MAX; at = sd_str_find(s, from, done)) {
        if (sd_buf_add(&out, s.data + done, at - done) || sd_buf_add(&out, to.data, to.len)) {
            sd_buf_free(&out);
            return -1;
        }
        done = at + from.len;
    }
    if (sd_buf_add(&out, s.data + done, s.len - done)) {
        sd_buf_free(&out);
        return -1;
    }
    sd_buf_free(text);
    *text = out;
    return 0;
}
