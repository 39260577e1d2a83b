#include "base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/filemap.h"

enum { BLOCK_BYTES = 256 * 1024 };

static int no_sha256(struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_MACHINE, "the crypto library has no SHA-256");
}

static void write_hex(const unsigned char sum[SD_SHA256_BYTES], char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < SD_SHA256_BYTES; i++) {
        hex[2 * i] = digits[sum[i] >> 4];
        hex[2 * i + 1] = digits[sum[i] & 15];
    }
    hex[64] = 0;
}

int sd_sha256_sum(struct sd_sha256_state *s, const void *bytes, size_t len,
                  unsigned char sum[SD_SHA256_BYTES], struct sd_err *err)
{
    const EVP_MD *type = s->ctx ? NULL : EVP_sha256(); /* NULL: as before */
    if (!s->ctx && !(s->ctx = EVP_MD_CTX_new()))
        return sd_err_memory(err, 0);
    if (!EVP_DigestInit_ex(s->ctx, type, NULL) || !EVP_DigestUpdate(s->ctx, bytes, len) ||
        !EVP_DigestFinal_ex(s->ctx, sum, NULL))
        return no_sha256(err);
    return 0;
}

void sd_sha256_free(struct sd_sha256_state *s)
{
    EVP_MD_CTX_free(s->ctx);
    s->ctx = NULL;
}

int sd_sha256(const void *bytes, size_t len, char hex[65], struct sd_err *err)
{
    struct sd_sha256_state s = {0};
    unsigned char sum[SD_SHA256_BYTES];
    int bad = sd_sha256_sum(&s, bytes, len, sum, err);
    if (!bad)
        write_hex(sum, hex);
    sd_sha256_free(&s);
    return bad;
}

int sd_sha256_mapped(const void *bytes, size_t len, char hex[65], struct sd_err *err)
{
    const size_t piece = (size_t)1 << 20;
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char sum[SD_SHA256_BYTES];
    int bad = ctx ? 0 : sd_err_memory(err, 0);
    if (!bad && !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL))
        bad = no_sha256(err);
    for (size_t at = 0; at < len && !bad; at += piece) {
        const unsigned char *p = (const unsigned char *)bytes + at;
        size_t n = len - at < piece ? len - at : piece;
        if (!EVP_DigestUpdate(ctx, p, n))
            bad = no_sha256(err);
        sd_filemap_release(p, n);
    }
    if (!bad && !EVP_DigestFinal_ex(ctx, sum, NULL))
        bad = no_sha256(err);
    if (!bad)
        write_hex(sum, hex);
    EVP_MD_CTX_free(ctx);
    return bad;
}

int sd_sha256_fd(int fd, char hex[65], struct sd_err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char *block = malloc(BLOCK_BYTES), sum[SD_SHA256_BYTES];
    int bad = 0;
    if (!ctx || !block || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL))
        bad = sd_err_memory(err, BLOCK_BYTES);
    while (!bad) {
        ssize_t n = read(fd, block, BLOCK_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            bad = sd_err_errno(err, "cannot read");
        if (n <= 0)
            break;
        if (!EVP_DigestUpdate(ctx, block, (size_t)n))
            bad = no_sha256(err);
    }
    if (!bad && !EVP_DigestFinal_ex(ctx, sum, NULL))
        bad = no_sha256(err);
    if (!bad)
        write_hex(sum, hex);
    EVP_MD_CTX_free(ctx);
    free(block);
    return bad;
}
