#include "base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <unistd.h>

enum { BLOCK_BYTES = 256 * 1024 };

static int finish(EVP_MD_CTX *ctx, char hex[65], struct sd_err *err)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char sum[32];
    if (!EVP_DigestFinal_ex(ctx, sum, NULL))
        return sd_err_set(err, SD_ERR_MACHINE, "the crypto library has no SHA-256");
    for (int i = 0; i < 32; i++) {
        hex[2 * i] = digits[sum[i] >> 4];
        hex[2 * i + 1] = digits[sum[i] & 15];
    }
    hex[64] = 0;
    return 0;
}

int sd_sha256(const void *bytes, size_t len, char hex[65], struct sd_err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) || !EVP_DigestUpdate(ctx, bytes, len)) {
        EVP_MD_CTX_free(ctx);
        return sd_err_set(err, SD_ERR_MACHINE, "the crypto library has no SHA-256");
    }
    int bad = finish(ctx, hex, err);
    EVP_MD_CTX_free(ctx);
    return bad;
}

int sd_sha256_fd(int fd, char hex[65], struct sd_err *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    unsigned char *block = malloc(BLOCK_BYTES);
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
            bad = sd_err_set(err, SD_ERR_MACHINE, "the crypto library has no SHA-256");
    }
    if (!bad)
        bad = finish(ctx, hex, err);
    EVP_MD_CTX_free(ctx);
    free(block);
    return bad;
}
