#define _GNU_SOURCE
#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/filemap.h"

#define FILE_LIMIT ((size_t)64 << 20)
#define FREE_VALUES 65536
#define VALUE_BYTES 4

bool sd_utf8_valid(const char *s, size_t len)
{
    const unsigned char *p = (const unsigned char *)s, *end = p + len;
    while (p < end) {
        if (*p < 0x80) {
            p++;
            continue;
        }
        int n = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
        if (*p < 0xc2 || *p > 0xf4 || end - p <= n)
            return false;
        unsigned char lo = *p == 0xe0   ? 0xa0
                           : *p == 0xf0 ? 0x90
                                        : 0x80,
                      hi = *p == 0xed   ? 0x9f
                           : *p == 0xf4 ? 0x8f
                                        : 0xbf;
        if (p[1] < lo || p[1] > hi)
            return false;
        for (int i = 2; i <= n; i++)
            if (p[i] < 0x80 || p[i] > 0xbf)
                return false;
        p += n + 1;
    }
    return true;
}

/* \u0000 would end a C string early and let two names that differ look the same. */
static bool has_escaped_nul(const char *text, size_t len)
{
    for (const char *p = text, *end = text + len; (p = memmem(p, (size_t)(end - p), "\\u0000", 6)); p++) {
        const char *q = p;
        while (q > text && q[-1] == '\\')
            q--;
        if ((p - q) % 2 == 0)
            return true;
    }
    return false;
}

/* cJSON makes about 100 bytes of a value. */
static bool is_bomb(const char *text, size_t len)
{
    size_t values = 1;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        if (quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
        else if (!quoted)
            values += text[i] == ',' || text[i] == '[' || text[i] == '{';
    }
    return values > FREE_VALUES && values > len / VALUE_BYTES;
}

cJSON *sd_json_parse(const char *text, size_t len, struct sd_err *err)
{
    if (!sd_utf8_valid(text, len)) {
        sd_err_set(err, SD_ERR_DATA, "not valid UTF-8");
        return NULL;
    }
    if (memchr(text, 0, len) || has_escaped_nul(text, len)) {
        sd_err_set(err, SD_ERR_DATA, "a NUL character in the JSON text");
        return NULL;
    }
    if (is_bomb(text, len)) {
        sd_err_set(err, SD_ERR_DATA, "JSON of more values than one in %d bytes", VALUE_BYTES);
        return NULL;
    }
    const char *end = NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts(text, len, &end, 0);
    if (!tree) {
        size_t at = end ? (size_t)(end - text) : 0;
        sd_err_set(err, SD_ERR_DATA, "not valid JSON (at byte %zu)", at);
        return NULL;
    }
    while (end < text + len && strchr(" \t\r\n", *end))
        end++;
    if (end < text + len) {
        sd_err_set(err, SD_ERR_DATA, "more text after the end of the JSON value (at byte %zu)",
                   (size_t)(end - text));
        cJSON_Delete(tree);
        return NULL;
    }
    return tree;
}

cJSON *sd_json_read(const char *path, struct sd_err *err)
{
    struct sd_filemap m;
    if (sd_filemap_open(&m, path, err))
        return NULL;
    cJSON *tree = NULL;
    if (m.size > FILE_LIMIT) {
        sd_err_set(err, SD_ERR_DATA, "%s: %zu bytes, too large for a JSON file", path, m.size);
    } else {
        tree = sd_json_parse((const char *)m.data, m.size, err);
        if (!tree)
            sd_err_prefix(err, "%s", path);
    }
    sd_filemap_close(&m);
    return tree;
}

const cJSON *sd_json_get(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNull(item) ? NULL : item;
}

bool sd_json_uint(const cJSON *item, uint64_t *out)
{
    double d = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(d >= 0 && d <= 9007199254740992.0) || d != floor(d))
        return false;
    *out = (uint64_t)d;
    return true;
}

int sd_json_get_int(const cJSON *object, const char *name, int64_t min, int64_t max, int64_t *out,
                    struct sd_err *err)
{
    const cJSON *item = sd_json_get(object, name);
    if (!item)
        return 0;
    double d = cJSON_IsNumber(item) ? item->valuedouble : NAN;
    if (!(d >= (double)min && d <= (double)max) || d != floor(d))
        return sd_err_set(err, SD_ERR_DATA, "%s: expected a whole number from %lld to %lld", name,
                          (long long)min, (long long)max);
    *out = (int64_t)d;
    return 0;
}

int sd_json_get_double(const cJSON *object, const char *name, double *out, struct sd_err *err)
{
    const cJSON *item = sd_json_get(object, name);
    if (!item)
        return 0;
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
        return sd_err_set(err, SD_ERR_DATA, "%s: expected a number", name);
    *out = item->valuedouble;
    return 0;
}

int sd_json_get_bool(const cJSON *object, const char *name, bool *out, struct sd_err *err)
{
    const cJSON *item = sd_json_get(object, name);
    if (!item)
        return 0;
    if (!cJSON_IsBool(item))
        return sd_err_set(err, SD_ERR_DATA, "%s: expected true or false", name);
    *out = cJSON_IsTrue(item);
    return 0;
}

int sd_json_add_string(struct sd_buf *b, const char *s, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    if (sd_buf_addc(b, '"'))
        return -1;
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        char esc[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        static const char from_set[] = "\"\\\b\f\n\r\t", to_set[] = "\"\\bfnrt";
        const char *known = c ? strchr(from_set, c) : NULL;
        if (known)
            esc[1] = to_set[known - from_set];
        if (sd_buf_add(b, s + from, i - from) || sd_buf_add(b, esc, known ? 2 : 6))
            return -1;
        from = i + 1;
    }
    return sd_buf_add(b, s + from, len - from) || sd_buf_addc(b, '"') ? -1 : 0;
}

const char *sd_json_double(char text[SD_JSON_DOUBLE_BYTES], double v)
{
    if (!isfinite(v))
        return memcpy(text, "null", 5);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, SD_JSON_DOUBLE_BYTES, "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    return text;
}
