/* Plans whose kernels cuDNN compiled, kept from one run of a program to the next: compiling takes about a
 * second a shape, reading back a millisecond. They lie in the folder that SD_CUDA_CACHE names (empty:
 * nowhere), else in sd/cudnn of $XDG_CACHE_HOME or ~/.cache, a file a case, card and version of cuDNN. A file
 * that is not whole, or not of this case, is passed over and written anew; one that cannot be written is not
 * missed. */
#include "graph_cudnn.h"

extern "C" {
#include "base/atomic.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/hash.h"
}

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

namespace
{

constexpr size_t MAX_FILE = 64 << 20;

/* What a file begins with; cuDNN's text follows. */
struct head {
    char magic[8];
    uint64_t version; /* of cuDNN */
    int64_t key[SD_CUDNN_KEY];
    char card[128];
    uint64_t bytes, sum; /* of the text */
};

head head_of(const sd_cudnn *dnn, const int64_t *key)
{
    head h;
    memset(&h, 0, sizeof h);
    memcpy(h.magic, "sdcudnn1", sizeof h.magic);
    h.version = dnn->version;
    memcpy(h.key, key, sizeof h.key);
    snprintf(h.card, sizeof h.card, "%s", dnn->card);
    return h;
}

/* Path of the file; make its folders too? 0, or -1 where nothing is kept. */
int path_of(const head *h, char *path, size_t size, bool make)
{
    const char *own = getenv("SD_CUDA_CACHE"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = own                      ? snprintf(path, size, "%s", own)
            : cache && *cache == '/' ? snprintf(path, size, "%s/sd/cudnn", cache)
            : home && *home          ? snprintf(path, size, "%s/.cache/sd/cudnn", home)
                                     : 0;
    if (n <= 0 || static_cast<size_t>(n) + 32 > size || !*h->card)
        return -1;
    for (char *slash = strchr(path + 1, '/'); make && slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
    if (make && mkdir(path, 0777) && errno != EEXIST)
        return -1;
    snprintf(path + n, size - static_cast<size_t>(n), "/%016llx.plan",
             static_cast<unsigned long long>(sd_fnv1a(h, sizeof *h)));
    return 0;
}

/* The plan of cuDNN's text, or NULL. */
sd_cudnn_desc revive(const sd_cudnn *dnn, const char *text, size_t bytes, size_t *workspace)
{
    sd_cudnn_desc plan = sd_cudnn_plan_begin(dnn);
    if (!plan)
        return NULL;
    cudnnStatus_t s = dnn->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION,
                                                    CUDNN_TYPE_CHAR, static_cast<int64_t>(bytes), text);
    return sd_cudnn_plan_end(dnn, plan, s, SIZE_MAX, workspace);
}

} // namespace

sd_cudnn_desc sd_cudnn_cached(const struct sd_cudnn *dnn, const int64_t key[SD_CUDNN_KEY], size_t *workspace)
{
    head want = head_of(dnn, key), have;
    char path[1024];
    sd_buf file = {};
    sd_cudnn_desc plan = NULL;
    if (!path_of(&want, path, sizeof path, false) && !sd_file_read(path, MAX_FILE, &file, NULL) &&
        file.len > sizeof have) {
        memcpy(&have, file.data, sizeof have);
        const char *text = file.data + sizeof have;
        want.bytes = file.len - sizeof have;
        want.sum = sd_fnv1a(text, want.bytes);
        if (!memcmp(&want, &have, sizeof have))
            plan = revive(dnn, text, want.bytes, workspace);
    }
    sd_buf_free(&file);
    return plan;
}

void sd_cudnn_cache(const struct sd_cudnn *dnn, const int64_t key[SD_CUDNN_KEY], sd_cudnn_desc plan)
{
    head h = head_of(dnn, key);
    char path[1024];
    int64_t n = 0;
    if (path_of(&h, path, sizeof path, true) ||
        dnn->cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0,
                                      &n, NULL) != CUDNN_STATUS_SUCCESS ||
        n <= 0 || static_cast<size_t>(n) > MAX_FILE - sizeof h)
        return;
    size_t bytes = static_cast<size_t>(n);
    char *whole = static_cast<char *>(malloc(sizeof h + bytes));
    if (!whole)
        return;
    if (dnn->cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, n,
                                      &n, whole + sizeof h) == CUDNN_STATUS_SUCCESS &&
        n > 0 && static_cast<size_t>(n) <= bytes) {
        h.bytes = static_cast<uint64_t>(n);
        h.sum = sd_fnv1a(whole + sizeof h, h.bytes);
        memcpy(whole, &h, sizeof h);
        sd_atomic_put(path, whole, sizeof h + h.bytes, NULL);
    }
    free(whole);
}
