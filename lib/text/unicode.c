/* Code points and their properties: libutf8proc's tables, held at Unicode 14. */
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Assigned after Unicode 14 (up to 17), gaps that were unassigned closed. */
static const uint32_t newer[][2] = {
    {0x558, 0x558},     {0x58b, 0x58c},     {0x5c8, 0x5c9},     {0x88f, 0x88f},     {0x897, 0x897},
    {0xb53, 0xb54},     {0xc5c, 0xc5c},     {0xcdc, 0xcdc},     {0xcf3, 0xcf3},     {0xece, 0xece},
    {0x1acf, 0x1af0},   {0x1b4e, 0x1b4f},   {0x1b7f, 0x1b7f},   {0x1c89, 0x1c8a},   {0x208f, 0x208f},
    {0x209d, 0x209f},   {0x20c1, 0x20c4},   {0x2427, 0x2429},   {0x2b96, 0x2b96},   {0x2e60, 0x2e63},
    {0x2ffc, 0x2fff},   {0x31e4, 0x31ef},   {0xa7cb, 0xa7cf},   {0xa7d2, 0xa7d2},   {0xa7d4, 0xa7d4},
    {0xa7da, 0xa7f1},   {0xab6c, 0xab6d},   {0xfbc3, 0xfbd2},   {0xfd90, 0xfd91},   {0xfdc8, 0xfdce},
    {0x105c0, 0x105f3}, {0x107bb, 0x107bf}, {0x10940, 0x10959}, {0x10d40, 0x10d8f}, {0x10ec2, 0x10eff},
    {0x1123f, 0x11241}, {0x11380, 0x113e2}, {0x116d0, 0x116e3}, {0x11b00, 0x11bf9}, {0x11db0, 0x11df1},
    {0x11f00, 0x11f5a}, {0x1246f, 0x1246f}, {0x12475, 0x1247f}, {0x12550, 0x12686}, {0x1342f, 0x1342f},
    {0x13439, 0x143fa}, {0x16100, 0x16139}, {0x16d40, 0x16d79}, {0x16ea0, 0x16ed3}, {0x16ff2, 0x16ff6},
    {0x187f8, 0x187ff}, {0x18cd6, 0x18cff}, {0x18d09, 0x191d2}, {0x1b123, 0x1b132}, {0x1b155, 0x1b155},
    {0x1b168, 0x1b168}, {0x1cc00, 0x1cefd}, {0x1d127, 0x1d128}, {0x1d1eb, 0x1d1ff}, {0x1d250, 0x1d2d3},
    {0x1d6a6, 0x1d6a6}, {0x1db00, 0x1db1c}, {0x1df1f, 0x1dfff}, {0x1e030, 0x1e08f}, {0x1e4d0, 0x1e6ff},
    {0x1f1ae, 0x1f1ae}, {0x1f6d8, 0x1f6dc}, {0x1f774, 0x1f77f}, {0x1f7d9, 0x1f7db}, {0x1f7f1, 0x1f7ff},
    {0x1f8b2, 0x1f8d8}, {0x1fa54, 0x1fa57}, {0x1fa75, 0x1fa77}, {0x1fa87, 0x1fa8f}, {0x1faad, 0x1faaf},
    {0x1fabb, 0x1fabf}, {0x1fac6, 0x1facf}, {0x1fada, 0x1fadf}, {0x1fae8, 0x1faef}, {0x1faf7, 0x1fafa},
    {0x1fbcb, 0x1fbef}, {0x1fbfa, 0x1fbfa}, {0x2b739, 0x2b73f}, {0x2b81e, 0x2b81e}, {0x2cea2, 0x2cead},
    {0x2ebf0, 0x2ee5d}, {0x31350, 0x3fc3f},
};

static int is_newer(uint32_t cp)
{
    size_t low = 0, high = sizeof newer / sizeof *newer;
    while (low < high) {
        size_t mid = (low + high) / 2;
        if (cp > newer[mid][1])
            low = mid + 1;
        else
            high = mid;
    }
    return low < sizeof newer / sizeof *newer && cp >= newer[low][0];
}

static utf8proc_category_t category(uint32_t cp)
{
    return is_newer(cp) ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t)cp);
}

void sd_unicode_release(struct sd_unicode *u)
{
    free(u->cp);
    *u = (struct sd_unicode){0};
}

static int reserve(struct sd_unicode *u, size_t extra, struct sd_err *err)
{
    if (extra <= u->cap - u->len)
        return 0;
    size_t cap = u->cap + u->cap / 2 + extra;
    if (cap < extra || cap > SIZE_MAX / sizeof *u->cp)
        return sd_err_memory(err, SIZE_MAX);
    uint32_t *cp = realloc(u->cp, cap * sizeof *cp);
    if (!cp)
        return sd_err_memory(err, cap * sizeof *cp);
    u->cp = cp;
    u->cap = cap;
    return 0;
}

int sd_unicode_push(struct sd_unicode *u, uint32_t cp, struct sd_err *err)
{
    if (u->len == u->cap && reserve(u, 16, err))
        return -1;
    u->cp[u->len++] = cp;
    return 0;
}

size_t sd_unicode_next(const char *text, size_t len, uint32_t *cp)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned first = s[0], low = 0x80, high = 0xbf;
    size_t need;
    *cp = first;
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first <= 0xdf) {
        need = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        need = 3;
        low = first == 0xe0 ? 0xa0 : 0x80;
        high = first == 0xed ? 0x9f : 0xbf;
    } else if (first >= 0xf0 && first <= 0xf4) {
        need = 4;
        low = first == 0xf0 ? 0x90 : 0x80;
        high = first == 0xf4 ? 0x8f : 0xbf;
    } else {
        *cp = 0xfffd;
        return 1;
    }
    uint32_t value = first & (0x7f >> need);
    for (size_t i = 1; i < need; i++, low = 0x80, high = 0xbf) {
        if (i >= len || s[i] < low || s[i] > high) {
            *cp = 0xfffd;
            return i;
        }
        value = value << 6 | (s[i] & 0x3f);
    }
    *cp = value;
    return need;
}

size_t sd_unicode_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xff) | cp);
    return n;
}

int sd_unicode_decode(const char *text, size_t len, struct sd_unicode *out, struct sd_err *err)
{
    if (reserve(out, len, err))
        return -1;
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        i += sd_unicode_next(text + i, len - i, &cp);
        out->cp[out->len++] = cp;
    }
    return 0;
}

enum sd_unicode_class sd_unicode_class(uint32_t cp)
{
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return SD_UNICODE_LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return SD_UNICODE_NUMBER;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
        return SD_UNICODE_CONTROL;
    default:
        return SD_UNICODE_OTHER;
    }
}

int sd_unicode_is_separator(uint32_t cp)
{
    return category(cp) == UTF8PROC_CATEGORY_ZS;
}

int sd_unicode_is_space(uint32_t cp)
{
    if (cp < 0x80)
        return cp == ' ' || (cp >= '\t' && cp <= '\r') || (cp >= 0x1c && cp <= 0x1f);
    return cp == 0x85 || cp == 0x2028 || cp == 0x2029 || sd_unicode_is_separator(cp);
}

int sd_unicode_is_word(uint32_t cp)
{
    if (cp < 0x80) /* most text; no table needed */
        return (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') || (cp >= '0' && cp <= '9') || cp == '_';
    enum sd_unicode_class class = sd_unicode_class(cp);
    return class == SD_UNICODE_LETTER || class == SD_UNICODE_NUMBER || cp == '_';
}

int sd_unicode_digit(uint32_t cp)
{
    if (cp < 0x80)
        return cp >= '0' && cp <= '9' ? (int)cp - '0' : -1;
    if (category(cp) != UTF8PROC_CATEGORY_ND)
        return -1;
    /* Decimal digits come in runs of ten from zero to nine; the mathematical ones are five runs on end. */
    if (cp >= 0x1d7ce && cp <= 0x1d7ff)
        return (int)((cp - 0x1d7ce) % 10);
    uint32_t zero = cp;
    while (cp - zero < 9 && category(zero - 1) == UTF8PROC_CATEGORY_ND)
        zero--;
    return (int)(cp - zero);
}

/* Cased, and not case-ignorable: what may stand before a final sigma. */
static int is_cased(uint32_t cp)
{
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT ||
           cp == 0xaa || cp == 0xba || (cp >= 0x2160 && cp <= 0x217f) || (cp >= 0x24b6 && cp <= 0x24e9) ||
           (cp >= 0x1f130 && cp <= 0x1f149) || (cp >= 0x1f150 && cp <= 0x1f169) ||
           (cp >= 0x1f170 && cp <= 0x1f189);
}

static int is_case_ignorable(uint32_t cp)
{
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_CF:
        return 1;
    default:
        break;
    }
    static const uint32_t other[] = {0x27,   0x2e,   0x3a,   0xb7,   0x387,  0x55f,  0x5f4,  0x2018, 0x2019,
                                     0x2024, 0x2027, 0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
        if (cp == other[i])
            return 1;
    return 0;
}

/* Whether the capital sigma at cp[i] ends a word. */
static int is_final_sigma(const uint32_t *cp, size_t n, size_t i)
{
    size_t before = i, after = i + 1;
    while (before > 0 && is_case_ignorable(cp[before - 1]))
        before--;
    if (before == 0 || !is_cased(cp[before - 1]))
        return 0;
    while (after < n && is_case_ignorable(cp[after]))
        after++;
    return after == n || !is_cased(cp[after]);
}

int sd_unicode_lower(const uint32_t *cp, size_t n, struct sd_unicode *out, struct sd_err *err)
{
    if (reserve(out, n, err))
        return -1;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = cp[i];
        if (c < 0x80)
            c = c >= 'A' && c <= 'Z' ? c + 32 : c;
        else if (c == 0x3a3)
            c = is_final_sigma(cp, n, i) ? 0x3c2 : 0x3c3;
        else if (c == 0x130)
            c = 'i'; /* and a combining dot, below */
        else if (!is_newer(c))
            c = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
        if (sd_unicode_push(out, c, err) || (cp[i] == 0x130 && sd_unicode_push(out, 0x307, err)))
            return -1;
    }
    return 0;
}

static int nfc_span(const uint32_t *cp, size_t n, struct sd_unicode *out, struct sd_err *err)
{
    const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    int boundary = 0;
    size_t need = 0;
    for (size_t i = 0; i < n; i++) {
        utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)cp[i], NULL, 0, options, &boundary);
        need += k > 0 ? (size_t)k : 1;
    }
    /* utf8proc_normalize_utf32 orders and composes; ordering is its decompose's work, so go through UTF-8 */
    char *utf8 = malloc(n * 4 + 1);
    if (!utf8)
        return sd_err_memory(err, n * 4 + 1);
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += sd_unicode_encode(cp[i], utf8 + len);
    if (reserve(out, need + 1, err)) {
        free(utf8);
        return -1;
    }
    utf8proc_ssize_t count = utf8proc_decompose((const utf8proc_uint8_t *)utf8, (utf8proc_ssize_t)len,
                                                (utf8proc_int32_t *)(out->cp + out->len),
                                                (utf8proc_ssize_t)(out->cap - out->len), options);
    free(utf8);
    if (count >= 0)
        count = utf8proc_normalize_utf32((utf8proc_int32_t *)(out->cp + out->len), count, options);
    if (count < 0)
        return sd_err_set(err, SD_ERR_MACHINE, "cannot normalise text: %s", utf8proc_errmsg(count));
    out->len += (size_t)count;
    return 0;
}

/* Starters below U+0300 never change and never join what stands before them, so text is normalised span by
 * span between them, and most text not at all. */
int sd_unicode_nfc(struct sd_unicode *u, struct sd_err *err)
{
    size_t i = 0;
    while (i < u->len && u->cp[i] < 0x300)
        i++;
    if (i == u->len)
        return 0;
    struct sd_unicode out = {0};
    int rc = reserve(&out, u->len, err);
    for (i = 0; rc == 0 && i < u->len;) {
        size_t end = i + 1;
        while (end < u->len && u->cp[end] >= 0x300)
            end++;
        if (end == i + 1 && u->cp[i] < 0x300)
            rc = sd_unicode_push(&out, u->cp[i], err);
        else
            rc = nfc_span(u->cp + i, end - i, &out, err);
        i = end;
    }
    if (rc) {
        sd_unicode_release(&out);
        return -1;
    }
    sd_unicode_release(u);
    *u = out;
    return 0;
}
