#include "base/hash.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/filemap.h"

enum { BLOCK_BYTES = 256 * 1024 };

static void write_hex(struct sha256_ctx *ctx, char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[SD_SHA256_BYTES];
    sha256_digest(ctx, sizeof sum, sum);
    for (int i = 0; i < SD_SHA256_BYTES; i++) {
        hex[2 * i] = digits[sum[i] >> 4];
        hex[2 * i + 1] = digits[sum[i] & 15];
    }
    hex[64] = 0;
}

void sd_sha256_sum(const void *bytes, size_t len, unsigned char sum[SD_SHA256_BYTES])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, len, bytes);
    sha256_digest(&ctx, SD_SHA256_BYTES, sum);
}

void sd_sha256(const void *bytes, size_t len, char hex[65])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, len, bytes);
    write_hex(&ctx, hex);
}

void sd_sha256_mapped(const void *bytes, size_t len, char hex[65])
{
    const size_t piece = (size_t)1 << 20;
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    for (size_t at = 0; at < len; at += piece) {
        const unsigned char *p = (const unsigned char *)bytes + at;
        size_t n = len - at < piece ? len - at : piece;
        sha256_update(&ctx, n, p);
        sd_filemap_release(p, n);
    }
    write_hex(&ctx, hex);
}

int sd_sha256_fd(int fd, char hex[65], struct sd_err *err)
{
    struct sha256_ctx ctx;
    unsigned char *block = malloc(BLOCK_BYTES);
    ssize_t n = 1;
    int bad = block ? 0 : sd_err_memory(err, BLOCK_BYTES);
    sha256_init(&ctx);
    while (!bad && n) {
        n = read(fd, block, BLOCK_BYTES);
        if (n > 0)
            sha256_update(&ctx, (size_t)n, block);
        else if (n < 0 && errno != EINTR)
            bad = sd_err_errno(err, "cannot read");
    }
    if (!bad)
        write_hex(&ctx, hex);
    free(block);
    return bad;
}
