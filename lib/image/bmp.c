#include "image/codec.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_FAILURE_STRINGS
#define STBI_ASSERT(x) ((void)0)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#pragma GCC diagnostic ignored "-Wunused-function" /* judged at the end of the file: stb_image is a header \
                                                    */
#include <stb/stb_image.h>

static uint32_t le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The pixels must all be there: stb_image fills what is missing with zeros. Rows are padded to 4 bytes. */
static int check_length(const uint8_t *p, size_t len, struct sd_err *err)
{
    if (len < 54 || le32(p + 14) < 40) /* the old short header is left to the decoder */
        return 0;
    uint64_t start = le32(p + 10), width = le32(p + 18), height = le32(p + 22),
             bits = p[28] | (unsigned)p[29] << 8;
    if (height > INT_MAX)
        height = (uint32_t)(0 - (uint32_t)height);
    uint64_t need = start + (width * bits + 31) / 32 * 4 * height;
    if (need > len)
        return sd_err_set(err, SD_ERR_DATA, "truncated BMP (%zu bytes, %llu are needed)", len,
                          (unsigned long long)need);
    return 0;
}

int sd_image_decode_bmp(const uint8_t *bytes, size_t len, int channels, unsigned flags, struct sd_image *im,
                        struct sd_err *err)
{
    int width, height, found;
    (void)flags;
    if (len > INT_MAX)
        return sd_err_set(err, SD_ERR_DATA, "BMP larger than 2 GiB");
    if (!stbi_info_from_memory(bytes, (int)len, &width, &height, &found))
        return sd_err_set(err, SD_ERR_DATA,
                          "broken BMP, or of an unsupported kind (compressed, 16 colours in masks)");
    if (sd_image_alloc(im, (uint64_t)width, (uint64_t)height, channels, err) || check_length(bytes, len, err))
        return -1;
    uint8_t *pixels = stbi_load_from_memory(bytes, (int)len, &width, &height, &found, channels);
    if (!pixels)
        return sd_err_set(err, SD_ERR_DATA, "broken BMP (%zu bytes)", len);
    memcpy(im->data, pixels, (size_t)im->width * im->height * (size_t)channels);
    stbi_image_free(pixels);
    if (channels == 4 && len >= 54 &&
        le32(bytes + 14) == 40) /* the fourth byte of this header's pixels means nothing */
        for (size_t i = 0, n = (size_t)im->width * im->height; i < n; i++)
            im->data[4 * i + 3] = 255;
    return 0;
}
