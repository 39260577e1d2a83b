#include "image/codec.h"

#include <webp/decode.h>
#include <webp/demux.h>

#include <string.h>

static int webp_error(VP8StatusCode code, size_t len, struct sd_err *err)
{
    switch (code) {
    case VP8_STATUS_NOT_ENOUGH_DATA:
    case VP8_STATUS_SUSPENDED:
        return sd_err_set(err, SD_ERR_DATA, "truncated WebP (the data ends at byte %zu)", len);
    case VP8_STATUS_OUT_OF_MEMORY:
        return sd_err_memory(err, len);
    case VP8_STATUS_UNSUPPORTED_FEATURE:
        return sd_err_set(err, SD_ERR_DATA, "WebP with an unsupported feature");
    default:
        return sd_err_set(err, SD_ERR_DATA, "broken WebP (the decoder stops before byte %zu)", len);
    }
}

/* The first frame of an animation on its canvas. */
static int decode_animation(const uint8_t *bytes, size_t len, struct sd_image *im, struct sd_err *err)
{
    WebPAnimDecoderOptions options;
    WebPAnimDecoderOptionsInit(&options);
    options.color_mode = MODE_RGBA;
    WebPAnimDecoder *decoder = WebPAnimDecoderNew(&(WebPData){bytes, len}, &options);
    uint8_t *canvas;
    int time;
    bool good = decoder && WebPAnimDecoderGetNext(decoder, &canvas, &time);
    if (good) {
        size_t c = (size_t)im->channels, n = (size_t)im->width * im->height;
        for (size_t i = 0; i < n; i++)
            memcpy(im->data + i * c, canvas + i * 4, c);
    } else {
        sd_err_set(err, SD_ERR_DATA, "broken WebP (no first frame in the animation of %zu bytes)", len);
    }
    WebPAnimDecoderDelete(decoder);
    return good ? 0 : -1;
}

int sd_image_decode_webp(const uint8_t *bytes, size_t len, const struct sd_image_want *want,
                         struct sd_image *im, struct sd_err *err)
{
    const int channels = want->channels;
    WebPDecoderConfig config;
    if (!WebPInitDecoderConfig(&config))
        return sd_err_set(err, SD_ERR_MACHINE, "the WebP library is of another version than its headers");
    VP8StatusCode code = WebPGetFeatures(bytes, len, &config.input);
    if (code != VP8_STATUS_OK)
        return webp_error(code, len, err);
    if (sd_image_alloc(im, (uint64_t)config.input.width, (uint64_t)config.input.height, channels, err))
        return -1;
    if (config.input.has_animation)
        return decode_animation(bytes, len, im, err);
    config.output.colorspace = channels == 4 ? MODE_RGBA : MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA.rgba = im->data;
    config.output.u.RGBA.stride = (int)im->width * channels;
    config.output.u.RGBA.size = (size_t)im->width * im->height * (size_t)channels;
    code = WebPDecode(bytes, len, &config);
    WebPFreeDecBuffer(&config.output);
    return code == VP8_STATUS_OK ? 0 : webp_error(code, len, err);
}
