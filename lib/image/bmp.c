/* BMP as Pillow reads it: the headers of Windows and OS/2, 1 to 32 bits a pixel, runs (RLE8, RLE4), and the
 * layouts of colour masks that occur. Microsoft, "Bitmap Header Types", "Bitmap Compression". */
#include "image/codec.h"

#include <string.h>

enum { RAW, RLE8, RLE4, MASKS };

struct field {            /* of a pixel of 16 or 32 bits */
    unsigned shift, most; /* most 0: there is none */
};

struct bmp {
    const uint8_t *bytes;
    size_t len;
    uint32_t header, start; /* bytes of the header, where the pixels begin */
    uint64_t width, height;
    bool top_down;
    unsigned bits, compression;
    struct field field[4]; /* red, green, blue, alpha */
    uint8_t palette[256][3];
};

static uint32_t le16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}

static int truncated(const struct bmp *b, uint64_t need, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_DATA, "truncated BMP (%zu bytes, %llu are needed)", b->len,
                      (unsigned long long)need);
}

/* ---- header ---- */

static int read_masks(struct bmp *b, struct sd_err *err)
{
    /* a short header has three masks behind it, a long one has them, and one of alpha, inside */
    const uint8_t *at = b->bytes + 54;
    bool alpha = b->header >= 56;
    if (b->len < 70)
        return truncated(b, 70, err);
    for (int k = 0; k < 3 + alpha; k++) {
        uint32_t mask = le32(at + 4 * k);
        if (!mask && k == 3)
            break;
        unsigned shift = mask ? (unsigned)__builtin_ctz(mask) : 0;
        uint32_t most = mask >> shift;
        if (!mask || (most & (most + 1)) || most > 255)
            return sd_err_set(err, SD_ERR_DATA,
                              "BMP with the colour mask %08x: 1 to 8 bits in a row are supported", mask);
        b->field[k] = (struct field){shift, most};
    }
    return 0;
}

static int read_palette(struct bmp *b, struct sd_err *err)
{
    unsigned entry = b->header == 12 ? 3 : 4;
    uint64_t n = b->header == 12 ? 0 : le32(b->bytes + 46), at = 14 + (uint64_t)b->header;
    if (!n || n > 1u << b->bits)
        n = 1u << b->bits;
    if (b->start > at && n > (b->start - at) / entry) /* fewer are there than the header lets expect */
        n = (b->start - at) / entry;
    if (at + n * entry > b->len)
        return truncated(b, at + n * entry, err);
    for (uint64_t i = 0; i < n; i++)
        for (int k = 0; k < 3; k++)
            b->palette[i][k] = b->bytes[at + i * entry + 2 - (unsigned)k];
    return 0;
}

static int read_header(struct bmp *b, struct sd_err *err)
{
    const uint8_t *p = b->bytes;
    if (b->len < 26)
        return truncated(b, 26, err);
    b->start = le32(p + 10);
    b->header = le32(p + 14);
    if (b->header == 12) {
        b->width = le16(p + 18);
        b->height = le16(p + 20);
        b->bits = le16(p + 24);
    } else if (b->header < 40 || b->header > 124) {
        return sd_err_set(err, SD_ERR_DATA, "BMP with a header of %u bytes: 12 or 40 to 124 are supported",
                          b->header);
    } else if (b->len < 14 + (size_t)b->header) {
        return truncated(b, 14 + (uint64_t)b->header, err);
    } else {
        int32_t height = (int32_t)le32(p + 22);
        b->width = le32(p + 18);
        b->height = (uint64_t)(height < 0 ? -(int64_t)height : height);
        b->top_down = height < 0;
        b->bits = le16(p + 28);
        b->compression = le32(p + 30);
    }
    static const struct field five[4] = {{10, 31}, {5, 31}, {0, 31}},
                              eight[4] = {{16, 255}, {8, 255}, {0, 255}};
    memcpy(b->field, b->bits == 16 ? five : eight, sizeof five);
    bool wide = b->bits == 16 || b->bits == 24 || b->bits == 32,
         narrow = b->bits == 1 || b->bits == 4 || b->bits == 8;
    if (b->compression == RAW    ? !wide && !narrow
        : b->compression == RLE8 ? b->bits != 8
        : b->compression == RLE4 ? b->bits != 4
                                 : b->compression != MASKS || !wide)
        return sd_err_set(err, SD_ERR_DATA, "BMP of %u bits a pixel with compression %u is not supported",
                          b->bits, b->compression);
    if (b->compression == MASKS && read_masks(b, err))
        return -1;
    return narrow ? read_palette(b, err) : 0;
}

/* ---- pixels ---- */

static void put_index(const struct bmp *b, unsigned index, uint8_t *out)
{
    memcpy(out, b->palette[index], 3);
}

static unsigned field_of(struct field f, uint32_t pixel)
{
    return f.most ? (pixel >> f.shift & f.most) * 255 / f.most : 255;
}

static void expand_row(const struct bmp *b, const uint8_t *row, uint8_t *out, size_t channels)
{
    for (uint64_t x = 0; x < b->width; x++, out += channels) {
        if (b->bits <= 8) {
            unsigned bit = (unsigned)(x * b->bits % 8);
            put_index(b, row[x * b->bits / 8] >> (8 - b->bits - bit) & ((1u << b->bits) - 1), out);
            continue;
        }
        const uint8_t *p = row + x * (b->bits / 8);
        uint32_t pixel = b->bits == 16 ? le16(p) : b->bits == 24 ? le16(p) | (uint32_t)p[2] << 16 : le32(p);
        for (size_t k = 0; k < channels; k++)
            out[k] = (uint8_t)field_of(b->field[k], pixel);
    }
}

static uint8_t *row_of(const struct bmp *b, struct sd_image *im, uint64_t y)
{
    return im->data + (b->top_down ? y : b->height - 1 - y) * b->width * (size_t)im->channels;
}

static int read_rows(const struct bmp *b, struct sd_image *im, struct sd_err *err)
{
    uint64_t stride = (b->width * b->bits + 31) / 32 * 4, need = b->start + stride * b->height;
    if (need > b->len)
        return truncated(b, need, err);
    for (uint64_t y = 0; y < b->height; y++)
        expand_row(b, b->bytes + b->start + y * stride, row_of(b, im, y), (size_t)im->channels);
    return 0;
}

/* ---- runs ---- */

struct runs {
    const struct bmp *b;
    struct sd_image *im;
    uint64_t x, y;
};

/* What goes over the edge of a row is dropped, as Pillow does. */
static void put_run_pixel(struct runs *r, unsigned index)
{
    if (r->x < r->b->width && r->y < r->b->height)
        put_index(r->b, index, row_of(r->b, r->im, r->y) + r->x * (size_t)r->im->channels);
    r->x++;
}

/* Pixel i of codes: a byte each, or half of one. */
static unsigned code(const struct bmp *b, const uint8_t *codes, unsigned i)
{
    return b->bits == 8 ? codes[i] : i % 2 ? codes[i / 2] & 15 : codes[i / 2] >> 4;
}

static int read_runs(const struct bmp *b, struct sd_image *im, struct sd_err *err)
{
    struct runs r = {.b = b, .im = im};
    size_t at = b->start;
    while (at + 2 <= b->len) {
        unsigned n = b->bytes[at], what = b->bytes[at + 1];
        at += 2;
        if (n) {
            for (unsigned i = 0; i < n; i++)
                put_run_pixel(&r,
                              code(b, (uint8_t[]){(uint8_t)what, (uint8_t)what}, b->bits == 8 ? 0 : i % 2));
        } else if (what == 0) { /* the end of a line */
            r.x = 0;
            r.y++;
        } else if (what == 1) { /* of the picture */
            return 0;
        } else if (what == 2) { /* a jump */
            if (at + 2 > b->len)
                break;
            r.x += b->bytes[at];
            r.y += b->bytes[at + 1];
            at += 2;
        } else { /* pixels as they are, padded to whole 16 bits */
            size_t bytes = b->bits == 8 ? what : (what + 1) / 2;
            if (at + bytes > b->len)
                break;
            for (unsigned i = 0; i < what; i++)
                put_run_pixel(&r, code(b, b->bytes + at, i));
            at += bytes + bytes % 2;
        }
    }
    if (r.y >= b->height || (r.y == b->height - 1 && r.x >= b->width)) /* all there but for the end's mark */
        return 0;
    return truncated(b, (uint64_t)b->len + 1, err);
}

int sd_image_decode_bmp(const uint8_t *bytes, size_t len, const struct sd_image_want *want,
                        struct sd_image *im, struct sd_err *err)
{
    struct bmp b = {.bytes = bytes, .len = len};
    if (read_header(&b, err) || sd_image_alloc(im, b.width, b.height, want->channels, err))
        return -1;
    bool runs = b.compression == RLE8 || b.compression == RLE4;
    if (want->channels == 4) /* where nothing says otherwise */
        memset(im->data, 255, (size_t)im->width * im->height * 4);
    if (runs)
        for (uint64_t i = 0, n = b.width * b.height; i < n; i++)
            put_index(&b, 0, im->data + i * (size_t)want->channels);
    return runs ? read_runs(&b, im, err) : read_rows(&b, im, err);
}
