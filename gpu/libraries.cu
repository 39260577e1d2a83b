/* What a library loads by itself later (cuDNN its parts, these nvrtc and cublasLt) is loaded before it by its
 * whole path, for the loader then finds it by name. */
#include "kernel.h"

#include "libraries.h"
#include "places.h"
#include "products.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sd_cuda_libraries {
    struct sd_cublaslt lt;
    struct sd_cudnn dnn;
    bool lt_tried, dnn_tried;
    struct sd_err lt_err, dnn_err;
};

namespace
{

/* What kept files that are there from loading: likelier the thing to complain of than those that are not. */
struct reason {
    char text[256]; /* the first */
};

/* The library of a file name in a folder, "" for the loader's places. */
void *open_in(const char *dir, const char *name, reason *why)
{
    char path[SD_CUDA_PATH_MAX];
    if (!*dir)
        return dlopen(name, RTLD_NOW | RTLD_GLOBAL);
    if (static_cast<size_t>(snprintf(path, sizeof path, "%s/%s", dir, name)) >= sizeof path ||
        access(path, R_OK))
        return NULL;
    void *found = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    const char *message = found ? NULL : dlerror();
    if (message && !*why->text)
        snprintf(why->text, sizeof why->text, "%s", message);
    return found;
}

void *open_any(const sd_cuda_places *p, const char *name, reason *why)
{
    void *found = NULL;
    for (size_t i = 0; i < p->n && !found; i++)
        found = open_in(p->dir[i], name, why);
    return found;
}

void *open_major(const sd_cuda_places *p, const char *base, int major, reason *why)
{
    char name[64];
    snprintf(name, sizeof name, "%s.so.%d", base, major);
    return open_any(p, name, why);
}

/* base.so.MAJOR of the first of the majors (0 ends them) that is there. */
void *open_majors(const sd_cuda_places *p, const char *base, const int *major, reason *why)
{
    void *found = NULL;
    for (; *major && !found; major++)
        found = open_major(p, base, *major, why);
    return found;
}

/* nvrtc looks for its other half in the loader's places, not beside itself, and without it compiles nothing.
 */
void open_builtins(void *nvrtc)
{
    struct link_map *map = NULL;
    char pattern[SD_CUDA_PATH_MAX];
    glob_t found = {};
    if (!nvrtc || dlinfo(nvrtc, RTLD_DI_LINKMAP, &map) || !strrchr(map->l_name, '/'))
        return;
    int dir = static_cast<int>(strrchr(map->l_name, '/') - map->l_name);
    if (static_cast<size_t>(snprintf(pattern, sizeof pattern, "%.*s/libnvrtc-builtins.so.*", dir,
                                     map->l_name)) < sizeof pattern &&
        !glob(pattern, GLOB_NOSORT, NULL, &found))
        for (size_t i = 0; i < found.gl_pathc; i++)
            dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
    globfree(&found);
}

/* Of all majors, for which one a library was built with is not known before it asks. */
void open_nvrtc(const sd_cuda_places *p, const int *major, reason *why)
{
    for (; *major; major++)
        open_builtins(open_major(p, "libnvrtc", *major, why));
}

/* "LIBRARY was not found: looked in ..." or what kept the file that was found from loading. */
int missing(const sd_cuda_places *p, const char *what, const char *name, const reason *why,
            struct sd_err *err)
{
    if (*why->text)
        return sd_err_set(err, SD_ERR_MACHINE, "%s cannot be loaded: %s", what, why->text);
    char where[256] = "";
    size_t n = 0;
    for (size_t i = 0; i < p->n && n < sizeof where; i++)
        if (*p->dir[i])
            n += static_cast<size_t>(snprintf(where + n, sizeof where - n, ", %s", p->dir[i]));
    if (n >= sizeof where)
        memcpy(where + sizeof where - 5, " ...", 5);
    return sd_err_set(err, SD_ERR_MACHINE,
                      "%s was not found: looked in the loader's places%s; SD_CUDA_LIBRARIES=folder:folder "
                      "names others, SD_CUDA_WITHOUT=%s computes slowly without it",
                      what, where, name);
}

int lacks(const char *library, const char *function, struct sd_err *err)
{
    return sd_err_set(err, SD_ERR_MACHINE, "%s lacks the function %s", library, function);
}

/* CUDA's libraries of version 13 need a driver of 13; those of 12 run on both. */
const int *majors(int driver)
{
    static const int newer[] = {13, 12, 0}, older[] = {12, 13, 0};
    return driver >= 13000 ? newer : older;
}

} // namespace

int sd_cublaslt_open(struct sd_cublaslt *l, int driver, struct sd_err *err)
{
    sd_cuda_places p = sd_cuda_places_find();
    reason why = {}, ignored = {};
    *l = {};
    open_nvrtc(&p, majors(driver), &ignored);
    l->library = open_majors(&p, "libcublasLt", majors(driver), &why);
    int rc = l->library ? 0 : missing(&p, "libcublasLt.so.12 or .13", "cublaslt", &why, err);
#define X(name)                                                                            \
    if (!rc && !(l->name = reinterpret_cast<decltype(l->name)>(dlsym(l->library, #name)))) \
        rc = lacks("libcublasLt", #name, err);
    SD_CUBLASLT_FUNCTIONS(X)
#undef X
    sd_cuda_places_free(&p);
    return rc;
}

void sd_cublaslt_close(struct sd_cublaslt *l)
{
    if (l->handle)
        l->cublasLtDestroy(l->handle);
    *l = {}; /* the library stays loaded: CUDA's do not like to be unloaded */
}

/* From one folder, with its parts, for parts of two versions do not work together. Each needs those before.
 */
static void *open_cudnn(const sd_cuda_places *p, reason *why)
{
    static const char *const parts[] = {"libcudnn_graph.so.9",
                                        "libcudnn_ops.so.9",
                                        "libcudnn_cnn.so.9",
                                        "libcudnn_heuristic.so.9",
                                        "libcudnn_engines_precompiled.so.9",
                                        "libcudnn_engines_runtime_compiled.so.9"};
    void *found = NULL;
    for (size_t i = 0; i < p->n && !found; i++) {
        char path[SD_CUDA_PATH_MAX];
        snprintf(path, sizeof path, "%s/libcudnn.so.9", p->dir[i]);
        if (*p->dir[i] && access(path, R_OK))
            continue;
        for (const char *part : parts)
            if (*p->dir[i])
                open_in(p->dir[i], part, why);
        found = open_in(p->dir[i], "libcudnn.so.9", why);
    }
    return found;
}

int sd_cudnn_open(struct sd_cudnn *l, int driver, struct sd_err *err)
{
    sd_cuda_places p = sd_cuda_places_find();
    reason why = {}, ignored = {};
    *l = {};
    /* What cuDNN loads when it compiles or multiplies. */
    open_nvrtc(&p, majors(driver), &ignored);
    open_majors(&p, "libcublasLt", majors(driver), &ignored);
    l->library = open_cudnn(&p, &why);
    int rc = l->library ? 0 : missing(&p, "libcudnn.so.9", "cudnn", &why, err);
#define X(name)                                                                            \
    if (!rc && !(l->name = reinterpret_cast<decltype(l->name)>(dlsym(l->library, #name)))) \
        rc = lacks("libcudnn", #name, err);
    SD_CUDNN_FUNCTIONS(X)
#undef X
    if (!rc)
        l->version = l->cudnnGetVersion();
    sd_cuda_places_free(&p);
    return rc;
}

void sd_cudnn_close(struct sd_cudnn *l)
{
    if (l->device)
        l->cudnnBackendDestroyDescriptor(l->device);
    if (l->handle)
        l->cudnnDestroy(l->handle);
    *l = {};
}

/* --- a backend's --- */

static struct sd_cuda_libraries *libraries_of(struct sd_cuda *cuda)
{
    if (!cuda->libraries)
        cuda->libraries = static_cast<sd_cuda_libraries *>(calloc(1, sizeof *cuda->libraries));
    return cuda->libraries;
}

static int driver_version(void)
{
    int version = 0;
    return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

static int make_lt(struct sd_cublaslt *l, struct sd_err *err)
{
    if (sd_cublaslt_open(l, driver_version(), err))
        return -1;
    cublasStatus_t status = l->cublasLtCreate(&l->handle);
    return status == CUBLAS_STATUS_SUCCESS ? 0
                                           : sd_err_set(err, SD_ERR_MACHINE, "cublasLt does not start: %s",
                                                        l->cublasLtGetStatusString(status));
}

static int make_dnn(struct sd_cudnn *l, const struct sd_cuda *cuda, struct sd_err *err)
{
    cudaDeviceProp prop;
    if (sd_cudnn_open(l, driver_version(), err) ||
        sd_cuda_check(cudaGetDeviceProperties(&prop, cuda->device), "cuda", err))
        return -1;
    l->major = prop.major;
    snprintf(l->card, sizeof l->card, "%.90s %d.%d %d", prop.name, prop.major, prop.minor,
             prop.multiProcessorCount);
    cudnnStatus_t status = l->cudnnCreate(&l->handle);
    if (status == CUDNN_STATUS_SUCCESS)
        status = l->cudnnSetStream(l->handle, cuda->stream);
    return status == CUDNN_STATUS_SUCCESS
               ? 0
               : sd_err_set(err, SD_ERR_MACHINE, "cuDNN does not start: %s", l->cudnnGetErrorString(status));
}

const struct sd_cublaslt *sd_cublaslt_of(struct sd_cuda *cuda)
{
    struct sd_cuda_libraries *l = libraries_of(cuda);
    if (l && !l->lt_tried) {
        l->lt_tried = true;
        if (make_lt(&l->lt, &l->lt_err))
            sd_cublaslt_close(&l->lt);
    }
    return l && l->lt.handle ? &l->lt : NULL;
}

const struct sd_cudnn *sd_cudnn_of(struct sd_cuda *cuda)
{
    struct sd_cuda_libraries *l = libraries_of(cuda);
    if (l && !l->dnn_tried) {
        l->dnn_tried = true;
        if (make_dnn(&l->dnn, cuda, &l->dnn_err))
            sd_cudnn_close(&l->dnn);
    }
    return l && l->dnn.handle ? &l->dnn : NULL;
}

int sd_cuda_require(struct sd_cuda *cuda, enum sd_cuda_feature feature, struct sd_err *err)
{
    if (!sd_cuda_allows(cuda, feature))
        return 0;
    bool there = feature == SD_CUDA_CUBLASLT ? sd_cublaslt_of(cuda) != NULL : sd_cudnn_of(cuda) != NULL;
    if (there)
        return 0;
    if (!cuda->libraries)
        return sd_err_memory(err, sizeof *cuda->libraries);
    const sd_err *why = feature == SD_CUDA_CUBLASLT ? &cuda->libraries->lt_err : &cuda->libraries->dnn_err;
    return sd_err_set(err, SD_ERR_MACHINE, "%s", why->msg);
}

void sd_cuda_libraries_close(struct sd_cuda_libraries *l)
{
    if (!l)
        return;
    sd_cublaslt_close(&l->lt);
    sd_cudnn_close(&l->dnn);
    free(l);
}

/* "name 9.19.0" from 91900. */
static int version_text(char *text, size_t size, const char *name, size_t version)
{
    return snprintf(text, size, "%s %zu.%zu.%zu", name, version / 10000, version / 100 % 100, version % 100);
}

void sd_cuda_libraries_text(int driver, char *text, size_t size)
{
    struct sd_err err = {};
    struct sd_cublaslt lt = {};
    struct sd_cudnn dnn = {};
    int n;
    if (sd_cublaslt_open(&lt, driver, &err))
        n = snprintf(text, size, "%s", err.msg);
    else
        n = version_text(text, size, "cuBLASLt", lt.cublasLtGetVersion());
    sd_cublaslt_close(&lt);
    if (n < 0 || static_cast<size_t>(n) + 2 >= size)
        return;
    text += n;
    size -= static_cast<size_t>(n);
    memcpy(text, ", ", 3);
    if (sd_cudnn_open(&dnn, driver, &err))
        snprintf(text + 2, size - 2, "%s", err.msg);
    else
        version_text(text + 2, size - 2, "cuDNN", dnn.cudnnGetVersion());
    sd_cudnn_close(&dnn);
}
