/* A stand-in for libcuda.so.1 where there is no driver, so that cuDNN can be asked for attention: it compiles
 * the kernels before it hands out a plan, and asks the driver for these functions first. There is no device
 * by it, and nothing computes. */

#define PUBLIC __attribute__((visibility("default")))

enum { SUCCESS = 0, NO_DEVICE = 100 };

/* Whatever the arguments. */
#define FUNCTION(name, result) \
    PUBLIC int name(void);     \
    PUBLIC int name(void)      \
    {                          \
        return result;         \
    }

FUNCTION(cuCtxGetCurrent, SUCCESS)
FUNCTION(cuCtxGetLimit, SUCCESS)
FUNCTION(cuCtxPopCurrent, SUCCESS)
FUNCTION(cuCtxPushCurrent, SUCCESS)
FUNCTION(cuDeviceGet, SUCCESS)
FUNCTION(cuDeviceGetCount, NO_DEVICE)
FUNCTION(cuGetErrorName, SUCCESS)
FUNCTION(cuGetErrorString, SUCCESS)
FUNCTION(cuGetProcAddress, NO_DEVICE)
FUNCTION(cuGetProcAddress_v2, NO_DEVICE)
FUNCTION(cuInit, NO_DEVICE)
FUNCTION(cuKernelGetAttribute, SUCCESS)
FUNCTION(cuKernelSetAttribute, SUCCESS)
FUNCTION(cuLaunchCooperativeKernel, SUCCESS)
FUNCTION(cuLaunchKernel, SUCCESS)
FUNCTION(cuLaunchKernelEx, SUCCESS)
FUNCTION(cuLibraryLoadFromFile, SUCCESS)
FUNCTION(cuLibraryUnload, SUCCESS)
FUNCTION(cuLinkAddData, SUCCESS)
FUNCTION(cuLinkComplete, SUCCESS)
FUNCTION(cuLinkCreate, SUCCESS)
FUNCTION(cuLinkDestroy, SUCCESS)
FUNCTION(cuOccupancyMaxPotentialClusterSize, SUCCESS)
FUNCTION(cuStreamGetCtx, SUCCESS)

PUBLIC int cuDriverGetVersion(int *version);
PUBLIC int cuDriverGetVersion(int *version)
{
    *version = 13000;
    return SUCCESS;
}

static int handle; /* of whatever there is a handle of */

PUBLIC int cuLibraryLoadData(void **library);
PUBLIC int cuLibraryLoadData(void **library)
{
    *library = &handle;
    return SUCCESS;
}

PUBLIC int cuLibraryGetKernel(void **kernel);
PUBLIC int cuLibraryGetKernel(void **kernel)
{
    *kernel = &handle;
    return SUCCESS;
}
