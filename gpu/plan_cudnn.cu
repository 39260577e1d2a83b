/* Execution plans of cuDNN: making one, a backend's list of them, and running. */
#include "graph_cudnn.h"

#include <stdlib.h>
#include <string.h>

/* Of cuDNN 9.8 on: without a device, and in headers from then on. */
#if CUDNN_VERSION < 90800
constexpr auto CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP = static_cast<cudnnBackendAttributeName_t>(407);
#endif

sd_cudnn_desc sd_cudnn_plan_begin(const struct sd_cudnn *dnn)
{
    sd_cudnn_desc plan = NULL;
    if (dnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan) !=
        CUDNN_STATUS_SUCCESS)
        return NULL;
    cudnnStatus_t s = dnn->handle
                          ? dnn->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE,
                                                          CUDNN_TYPE_HANDLE, 1, &dnn->handle)
                          : dnn->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &dnn->device);
    if (s == CUDNN_STATUS_SUCCESS)
        return plan;
    dnn->cudnnBackendDestroyDescriptor(plan);
    return NULL;
}

sd_cudnn_desc sd_cudnn_plan_end(const struct sd_cudnn *dnn, sd_cudnn_desc plan, cudnnStatus_t status,
                                size_t most, size_t *workspace)
{
    int64_t bytes = 0, n = 0;
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendFinalize(plan);
    if (status == CUDNN_STATUS_SUCCESS)
        status = dnn->cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                               CUDNN_TYPE_INT64, 1, &n, &bytes);
    if (status == CUDNN_STATUS_SUCCESS && n == 1 && bytes >= 0 && static_cast<size_t>(bytes) <= most) {
        *workspace = static_cast<size_t>(bytes);
        return plan;
    }
    dnn->cudnnBackendDestroyDescriptor(plan);
    return NULL;
}

/* --- the backend's plans --- */

struct sd_cudnn_plan {
    struct sd_cudnn_plan *next;
    int64_t key[SD_CUDNN_KEY];
    sd_cudnn_desc desc; /* NULL: cuDNN does not take the case */
    size_t workspace;
    struct sd_cudnn_numbers numbers;
};

struct sd_cudnn_plan *sd_cudnn_lookup(struct sd_cuda *cuda, const int64_t key[SD_CUDNN_KEY], bool *made)
{
    struct sd_cudnn_plan *p = cuda->products->plans;
    while (p && memcmp(p->key, key, sizeof p->key))
        p = p->next;
    *made = p != NULL;
    if (!p && (p = static_cast<sd_cudnn_plan *>(calloc(1, sizeof *p)))) {
        memcpy(p->key, key, sizeof p->key);
        p->next = cuda->products->plans;
        cuda->products->plans = p;
    }
    return p;
}

void sd_cudnn_fill(struct sd_cudnn_plan *plan, sd_cudnn_desc desc, size_t workspace,
                   const struct sd_cudnn_numbers *numbers)
{
    plan->desc = desc;
    plan->workspace = workspace;
    plan->numbers = *numbers;
}

const struct sd_cudnn_plan *sd_cudnn_usable(const struct sd_cudnn_plan *plan, size_t *workspace)
{
    *workspace = plan && plan->desc ? plan->workspace : 0;
    return plan && plan->desc ? plan : NULL;
}

void sd_cudnn_run(struct sd_cuda *cuda, const struct sd_cudnn_plan *plan,
                  const struct sd_cudnn_address *address, int n, void *workspace)
{
    const struct sd_cudnn *dnn = sd_cudnn_of(cuda);
    int64_t uid[16];
    const void *data[16];
    for (int i = 0; i < n; i++) {
        uid[i] = address[i].tensor;
        data[i] = address[i].data;
    }
    for (int i = 0; i < 3; i++) {
        if (!plan->numbers.used[i])
            continue;
        uid[n] = SD_CUDNN_SCALE + i;
        data[n++] = &plan->numbers.value[i];
    }
    sd_cudnn_desc pack = NULL;
    cudnnStatus_t s = dnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (s == CUDNN_STATUS_SUCCESS)
        s = dnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n,
                                          data);
    if (s == CUDNN_STATUS_SUCCESS)
        s = dnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, uid);
    if (s == CUDNN_STATUS_SUCCESS)
        s = dnn->cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
                                          &workspace);
    if (s == CUDNN_STATUS_SUCCESS)
        s = dnn->cudnnBackendFinalize(pack);
    if (s == CUDNN_STATUS_SUCCESS)
        s = dnn->cudnnBackendExecute(dnn->handle, plan->desc, pack);
    if (pack)
        dnn->cudnnBackendDestroyDescriptor(pack);
    if (s != CUDNN_STATUS_SUCCESS)
        sd_cuda_run_failed(cuda, "cuDNN", dnn->cudnnGetErrorString(s));
}

void sd_cudnn_plans_free(struct sd_cuda *cuda)
{
    const struct sd_cudnn *dnn = cuda->products->plans ? sd_cudnn_of(cuda) : NULL;
    while (cuda->products->plans) {
        struct sd_cudnn_plan *p = cuda->products->plans;
        cuda->products->plans = p->next;
        if (p->desc)
            dnn->cudnnBackendDestroyDescriptor(p->desc);
        free(p);
    }
}
