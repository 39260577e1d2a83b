/* The cards of this machine: how many, what each is, and whether it can compute here. */
#include "kernel.h"

extern "C" {
#include "base/err.h"
#include "tensor/plugin.h"
}

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sd_cuda_count(struct sd_err *err)
{
    int n = 0;
    cudaError_t status = cudaGetDeviceCount(&n);
    if (status == cudaErrorNoDevice)
        return 0;
    if (status != cudaErrorInsufficientDriver)
        return sd_cuda_check(status, "cuda", err) ? -1 : n;
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver); /* 0 where there is none */
    cudaRuntimeGetVersion(&runtime);
    return driver
               ? sd_err_set(err, SD_ERR_MACHINE,
                            "cuda: the driver knows CUDA %d.%d, these programs need %d.%d: update the driver",
                            driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10)
               : sd_err_set(err, SD_ERR_MACHINE, "cuda: there is no NVIDIA driver on this machine");
}

static int check_index(int index, struct sd_err *err)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    int n = sd_cuda_count(err);
    if (n < 0 || (index >= 0 && index < n))
        return n < 0 ? -1 : 0;
    return sd_err_set(err, SD_ERR_MACHINE, "cuda:%d is not there: %s %d device%s%s%s", index,
                      visible ? "programs see" : "this machine has", n, n == 1 ? "" : "s",
                      visible ? ", for CUDA_VISIBLE_DEVICES is " : "", visible ? visible : "");
}

int sd_cuda_describe(int index, struct sd_device_info *info, struct sd_err *err)
{
    cudaDeviceProp prop;
    size_t free_bytes = 0, total = 0;
    if (check_index(index, err) || sd_cuda_check(cudaGetDeviceProperties(&prop, index), "cuda", err) ||
        sd_cuda_check(cudaSetDevice(index), "cuda", err) ||
        sd_cuda_check(cudaMemGetInfo(&free_bytes, &total), "cuda", err))
        return -1;
    memset(info, 0, sizeof *info);
    info->index = index;
    snprintf(info->name, sizeof info->name, "%.127s", prop.name);
    const unsigned char *u = reinterpret_cast<const unsigned char *>(prop.uuid.bytes);
    int at = 0;
    for (int i = 0; i < 16; i++)
        at += snprintf(info->uuid + at, sizeof info->uuid - static_cast<size_t>(at), "%s%02x",
                       i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
    info->major = prop.major;
    info->minor = prop.minor;
    info->processors = prop.multiProcessorCount;
    info->bytes = total;
    info->free = free_bytes;
    cudaDriverGetVersion(&info->driver);
    cudaRuntimeGetVersion(&info->runtime);
    sd_cuda_libraries_text(info->driver, info->libraries, sizeof info->libraries);
    return 0;
}

/* Kernels are built for 8.0 and newer, for bfloat16. */
int sd_cuda_check_device(int index, struct sd_err *err)
{
    cudaDeviceProp prop;
    if (check_index(index, err) || sd_cuda_check(cudaGetDeviceProperties(&prop, index), "cuda", err))
        return -1;
    if (prop.major >= 8)
        return 0;
    return sd_err_set(err, SD_ERR_MACHINE,
                      "cuda:%d (%s) has compute capability %d.%d; 8.0 (Ampere) and newer are supported",
                      index, prop.name, prop.major, prop.minor);
}
