#include "image/png.h"

#include "base/atomic.h"
#include "image/codec.h"

#include <spng.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 64 << 20 }; /* largest text or profile taken in */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* Finds where a file is cut short by its chunks. */
static int check_chunks(const uint8_t *png, size_t len, struct sd_err *err)
{
    for (size_t at = 8; at + 8 <= len;) {
        uint64_t end = (uint64_t)at + 12 + be32(png + at);
        if (end > len)
            return sd_err_set(err, SD_ERR_DATA, "truncated PNG (%.4s ends at byte %zu)", png + at + 4, len);
        if (!memcmp(png + at + 4, "IEND", 4))
            return 0;
        at = (size_t)end;
    }
    return sd_err_set(err, SD_ERR_DATA, "truncated PNG (no IEND before byte %zu)", len);
}

static int decode_error(const uint8_t *png, size_t len, int code, struct sd_err *err)
{
    if (check_chunks(png, len, err))
        return -1;
    return sd_err_set(err, SD_ERR_DATA, "broken PNG (%s)", spng_strerror(code));
}

/* ---- decoding ---- */

struct palette {
    struct spng_plte plte;
    struct spng_trns trns;
    struct spng_ihdr ihdr;
};

/* Sample i of a row of depth bits each, as stored: 16-bit samples big endian. */
static unsigned sample(const uint8_t *row, size_t i, unsigned depth)
{
    if (depth == 8)
        return row[i];
    if (depth == 16)
        return (unsigned)row[2 * i] << 8 | row[2 * i + 1];
    size_t bit = i * depth;
    return row[bit / 8] >> (8 - depth - bit % 8) & ((1u << depth) - 1);
}

static uint8_t scale(unsigned v, unsigned depth)
{
    return (uint8_t)(depth == 16 ? v >> 8 : v * 255 / ((1u << depth) - 1));
}

/* 16-bit grey is cut, not scaled: what Pillow does when it turns mode I;16 into RGB. */
static uint8_t scale_grey(unsigned v, unsigned depth)
{
    return depth == 16 ? (uint8_t)(v > 255 ? 255 : v) : scale(v, depth);
}

/* A transparent colour is compared as Pillow does it: as it is in the file, but with grey of 2 and 4 bits
 * stretched to 8, and its low byte with the high byte of 16. */
static void expand_pixel(const struct palette *p, const uint8_t *row, size_t x, uint8_t rgba[4])
{
    unsigned depth = p->ihdr.bit_depth;
    rgba[3] = 255;
    switch (p->ihdr.color_type) {
    case SPNG_COLOR_TYPE_GRAYSCALE: {
        unsigned v = sample(row, x, depth);
        rgba[0] = rgba[1] = rgba[2] = scale_grey(v, depth);
        if (p->trns.n_type3_entries && /* here: whether there is a tRNS at all */
            (depth == 2 || depth == 4 ? rgba[0] : v) == p->trns.gray)
            rgba[3] = 0;
        break;
    }
    case SPNG_COLOR_TYPE_GRAYSCALE_ALPHA:
        rgba[0] = rgba[1] = rgba[2] = scale(sample(row, 2 * x, depth), depth);
        rgba[3] = scale(sample(row, 2 * x + 1, depth), depth);
        break;
    case SPNG_COLOR_TYPE_INDEXED: {
        unsigned i = sample(row, x, depth);
        static const struct spng_plte_entry black = {0};
        const struct spng_plte_entry *e = i < p->plte.n_entries ? &p->plte.entries[i] : &black;
        rgba[0] = e->red;
        rgba[1] = e->green;
        rgba[2] = e->blue;
        rgba[3] = i < p->trns.n_type3_entries ? p->trns.type3_alpha[i] : 255;
        break;
    }
    default: {
        size_t c = p->ihdr.color_type == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA ? 4 : 3;
        for (size_t k = 0; k < c; k++)
            rgba[k] = scale(sample(row, c * x + k, depth), depth);
        if (c == 3 && p->trns.n_type3_entries && rgba[0] == (uint8_t)p->trns.red &&
            rgba[1] == (uint8_t)p->trns.green && rgba[2] == (uint8_t)p->trns.blue)
            rgba[3] = 0;
    }
    }
}

/* The common kinds, 8 bits a sample, without a look at each pixel's kind. False: it is none of them. */
static bool expand_common(const struct palette *p, const uint8_t *row, uint32_t width, int channels,
                          uint8_t *out)
{
    if (p->ihdr.bit_depth != 8 || p->trns.n_type3_entries)
        return false;
    switch (p->ihdr.color_type) {
    case SPNG_COLOR_TYPE_TRUECOLOR:
        if (channels == 3)
            memcpy(out, row, (size_t)width * 3);
        else
            for (uint32_t x = 0; x < width; x++)
                memcpy(out + 4 * (size_t)x, (uint8_t[]){row[3 * x], row[3 * x + 1], row[3 * x + 2], 255}, 4);
        return true;
    case SPNG_COLOR_TYPE_TRUECOLOR_ALPHA:
        if (channels == 4)
            memcpy(out, row, (size_t)width * 4);
        else
            for (uint32_t x = 0; x < width; x++, out += 3, row += 4) {
                out[0] = row[0];
                out[1] = row[1];
                out[2] = row[2];
            }
        return true;
    case SPNG_COLOR_TYPE_INDEXED:
        for (uint32_t x = 0; x < width; x++, out += channels) {
            const struct spng_plte_entry *e = &p->plte.entries[row[x]]; /* black where the file has none */
            out[0] = e->red;
            out[1] = e->green;
            out[2] = e->blue;
            if (channels == 4)
                out[3] = 255;
        }
        return true;
    default: { /* grey, with alpha or without */
        uint32_t step = p->ihdr.color_type == SPNG_COLOR_TYPE_GRAYSCALE ? 1 : 2;
        for (uint32_t x = 0; x < width; x++, out += channels, row += step) {
            out[0] = out[1] = out[2] = row[0];
            if (channels == 4)
                out[3] = step == 2 ? row[1] : 255;
        }
        return true;
    }
    }
}

static void expand_row(const struct palette *p, const uint8_t *row, uint32_t width, int channels,
                       uint8_t *out)
{
    if (expand_common(p, row, width, channels, out))
        return;
    for (uint32_t x = 0; x < width; x++, out += channels) {
        uint8_t pixel[4];
        expand_pixel(p, row, x, pixel);
        memcpy(out, pixel, (size_t)channels);
    }
}

/* Fetches palette and transparency. For the types without a palette n_type3_entries says whether there is a
 * tRNS. */
static int read_palette(spng_ctx *ctx, struct palette *p)
{
    int code = spng_get_ihdr(ctx, &p->ihdr);
    if (!code && p->ihdr.color_type == SPNG_COLOR_TYPE_INDEXED)
        code = spng_get_plte(ctx, &p->plte);
    if (!code && !spng_get_trns(ctx, &p->trns) && p->ihdr.color_type != SPNG_COLOR_TYPE_INDEXED)
        p->trns.n_type3_entries = 1;
    return code;
}

static uint8_t *out_row(const struct sd_image *im, uint32_t y)
{
    return im->data + (size_t)y * im->width * (size_t)im->channels;
}

/* Row by row through one row's buffer; interlaced pictures are there only when all of them is. */
static int decode_rows(spng_ctx *ctx, const struct palette *p, struct sd_image *im, struct sd_err *err,
                       int *code)
{
    size_t all;
    bool whole = p->ihdr.interlace_method;
    if ((*code = spng_decoded_image_size(ctx, SPNG_FMT_RAW, &all)))
        return -1;
    size_t row = all / im->height;
    uint8_t *raw = calloc(1, whole ? all : row); /* pixels of few bits in interlaced pictures are or'ed in */
    if (!raw)
        return sd_err_memory(err, all);
    *code = whole ? spng_decode_image(ctx, raw, all, SPNG_FMT_RAW, 0)
                  : spng_decode_image(ctx, NULL, 0, SPNG_FMT_RAW, SPNG_DECODE_PROGRESSIVE);
    for (uint32_t y = 0; !*code && y < im->height; y++) {
        if (!whole)
            *code = spng_decode_row(ctx, raw, row);
        if (!whole && *code == SPNG_EOI) /* told with the last row */
            *code = y + 1 == im->height ? 0 : SPNG_EOF;
        if (!*code)
            expand_row(p, raw + (whole ? y * row : 0), im->width, im->channels, out_row(im, y));
    }
    free(raw);
    return *code ? -1 : 0;
}

int sd_image_decode_png(const uint8_t *bytes, size_t len, const struct sd_image_want *want,
                        struct sd_image *im, struct sd_err *err)
{
    struct palette *p = calloc(1, sizeof *p);
    /* the checksums of the chunks cover what zlib's covers */
    spng_ctx *ctx = spng_ctx_new(want->flags & SD_IMAGE_STRICT ? 0 : SPNG_CTX_IGNORE_ADLER32);
    int code = 0, bad = -1;
    err->code = 0;
    if (!p || !ctx) {
        sd_err_memory(err, sizeof *p);
        goto out;
    }
    spng_set_chunk_limits(ctx, CHUNK_BYTES, CHUNK_BYTES);
    if ((code = spng_set_png_buffer(ctx, bytes, len)) || (code = read_palette(ctx, p)))
        goto out;
    if (sd_image_alloc(im, p->ihdr.width, p->ihdr.height, want->channels, err))
        goto out;
    bad = decode_rows(ctx, p, im, err, &code);
    if (!bad && (want->flags & SD_IMAGE_STRICT)) /* the decoder does not look behind the last pixel */
        bad = check_chunks(bytes, len, err);
out:
    if (bad && !err->code)
        decode_error(bytes, len, code, err);
    spng_ctx_free(ctx);
    free(p);
    return bad;
}

/* ---- text ---- */

/* UTF-8 to Latin-1, when every character has a place there. Returns the length, or -1. */
static long to_latin1(const char *s, char *out)
{
    long n = 0;
    for (const unsigned char *p = (const unsigned char *)s; *p; p++, n++) {
        if (*p < 0x80) {
            out[n] = (char)*p;
        } else if ((*p == 0xc2 || *p == 0xc3) && (p[1] & 0xc0) == 0x80) {
            out[n] = (char)((*p & 3) << 6 | (p[1] & 0x3f));
            p++;
        } else {
            return -1;
        }
    }
    return n;
}

static int add_latin1(struct sd_buf *out, const char *s, size_t len)
{
    int bad = 0;
    for (size_t i = 0; i < len && !bad; i++) {
        unsigned char c = (unsigned char)s[i];
        bad = c < 0x80
                  ? sd_buf_addc(out, (char)c)
                  : (sd_buf_addc(out, (char)(0xc0 | c >> 6)) || sd_buf_addc(out, (char)(0x80 | (c & 0x3f))));
    }
    return bad ? -1 : 0;
}

/* Fills the library's form of texts; *store holds the Latin-1 copies. */
static int prepare_texts(const struct sd_png_text *texts, size_t n, struct spng_text *to, char **store,
                         struct sd_err *err)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += strlen(texts[i].text) + 1;
    char *room = *store = malloc(total + 1);
    if (!room)
        return sd_err_memory(err, total);
    for (size_t i = 0; i < n; i++) {
        size_t key = strlen(texts[i].keyword);
        if (!key || key > 79)
            return sd_err_set(err, SD_ERR_DATA, "PNG text keyword of %zu bytes: 1 to 79 are possible", key);
        memcpy(to[i].keyword, texts[i].keyword, key + 1);
        long latin = to_latin1(texts[i].text, room);
        to[i].type = latin < 0 ? SPNG_ITXT : SPNG_TEXT;
        to[i].text = latin < 0 ? (char *)texts[i].text : room;
        to[i].length = latin < 0 ? strlen(texts[i].text) : (size_t)latin;
        to[i].language_tag = to[i].translated_keyword = (char *)"";
        if (latin >= 0) {
            room[latin] = 0;
            room += latin + 1;
        }
    }
    return 0;
}

int sd_png_read_text(const void *png, size_t len, const char *keyword, struct sd_buf *out, struct sd_err *err)
{
    spng_ctx *ctx = spng_ctx_new(0);
    struct spng_text *texts = NULL;
    uint32_t n = 0;
    int found = 0;
    if (!ctx)
        return sd_err_memory(err, 0);
    spng_set_chunk_limits(ctx, CHUNK_BYTES, CHUNK_BYTES);
    int code = spng_set_png_buffer(ctx, png, len);
    if (!code)
        code = spng_get_text(ctx, NULL, &n);
    if (!code && n && !(texts = calloc(n, sizeof *texts))) {
        found = sd_err_memory(err, n * sizeof *texts);
    } else if (!code && n) {
        code = spng_get_text(ctx, texts, &n);
        for (uint32_t i = 0; !code && !found && i < n; i++)
            if (!strcmp(texts[i].keyword, keyword)) {
                int bad = texts[i].type == SPNG_ITXT ? sd_buf_add(out, texts[i].text, strlen(texts[i].text))
                                                     : add_latin1(out, texts[i].text, strlen(texts[i].text));
                found = bad ? sd_err_memory(err, texts[i].length) : 1;
            }
    }
    free(texts);
    spng_ctx_free(ctx);
    if (code && code != SPNG_ECHUNKAVAIL)
        return decode_error(png, len, code, err);
    return found;
}

/* ---- encoding ---- */

static int encode(spng_ctx *ctx, const struct sd_image *im, struct spng_text *texts, size_t n)
{
    struct spng_ihdr ihdr = {.width = im->width,
                             .height = im->height,
                             .bit_depth = 8,
                             .color_type = im->channels == 4 ? SPNG_COLOR_TYPE_TRUECOLOR_ALPHA
                                                             : SPNG_COLOR_TYPE_TRUECOLOR};
    int code = spng_set_option(ctx, SPNG_ENCODE_TO_BUFFER, 1);
    code = code ? code : spng_set_ihdr(ctx, &ihdr);
    code = code || !n ? code : spng_set_text(ctx, texts, (uint32_t)n);
    size_t len = (size_t)im->width * im->height * (size_t)im->channels;
    return code ? code : spng_encode_image(ctx, im->data, len, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
}

int sd_png_encode(const struct sd_image *im, const struct sd_png_text *texts, size_t n, struct sd_buf *out,
                  struct sd_err *err)
{
    struct spng_text *list = calloc(n + 1, sizeof *list);
    spng_ctx *ctx = spng_ctx_new(SPNG_CTX_ENCODER);
    char *store = NULL;
    int bad = -1, code = 0;
    if (!list || !ctx) {
        sd_err_memory(err, n * sizeof *list);
    } else if (!prepare_texts(texts, n, list, &store, err)) {
        size_t len = 0;
        void *png = NULL;
        code = encode(ctx, im, list, n);
        if (!code)
            png = spng_get_png_buffer(ctx, &len, &code);
        if (!png)
            sd_err_set(err, SD_ERR_DATA, "cannot write a PNG: %s", spng_strerror(code));
        else
            bad = sd_buf_add(out, png, len) ? sd_err_memory(err, len) : 0;
        free(png);
    }
    spng_ctx_free(ctx);
    free(list);
    free(store);
    return bad;
}

int sd_png_save(const char *path, const struct sd_image *im, const struct sd_png_text *texts, size_t n,
                struct sd_err *err)
{
    struct sd_buf png = SD_BUF_INIT;
    int bad = sd_png_encode(im, texts, n, &png, err);
    if (bad)
        sd_err_prefix(err, "%s", path);
    else
        bad = sd_atomic_put(path, png.data, png.len, err);
    sd_buf_free(&png);
    return bad;
}
