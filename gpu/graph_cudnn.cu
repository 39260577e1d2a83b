#include "graph_cudnn.h"

#include <string.h>

/* Of cuDNN 9.8 on: without a device, and in headers from then on. */
#if CUDNN_VERSION < 90800
constexpr auto CUDNN_ATTR_ENGINEHEUR_DEVICEPROP = static_cast<cudnnBackendAttributeName_t>(204);
#endif

namespace
{

constexpr int MAX_CONFIGS = 64; /* cuDNN 9.19 names 40 for a convolution, those without tensor cores last */

bool check(sd_cudnn_graph *g, cudnnStatus_t status)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        g->status = status;
    return g->status == CUDNN_STATUS_SUCCESS;
}

/* A descriptor that the graph destroys at its end. */
sd_cudnn_desc create(sd_cudnn_graph *g, cudnnBackendDescriptorType_t type)
{
    sd_cudnn_desc d = NULL;
    if (g->status != CUDNN_STATUS_SUCCESS)
        return NULL;
    if (g->n_made == static_cast<int>(sizeof g->made / sizeof *g->made)) {
        check(g, CUDNN_STATUS_NOT_SUPPORTED);
        return NULL;
    }
    if (check(g, g->dnn->cudnnBackendCreateDescriptor(type, &d)))
        g->made[g->n_made++] = d;
    return d;
}

void set(sd_cudnn_graph *g, sd_cudnn_desc d, cudnnBackendAttributeName_t name,
         cudnnBackendAttributeType_t type, int64_t n, const void *values)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        check(g, g->dnn->cudnnBackendSetAttribute(d, name, type, n, values));
}

void set_desc(sd_cudnn_graph *g, sd_cudnn_desc d, cudnnBackendAttributeName_t name, sd_cudnn_desc value)
{
    set(g, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

void set_type(sd_cudnn_graph *g, sd_cudnn_desc d, cudnnBackendAttributeName_t name, cudnnDataType_t value)
{
    set(g, d, name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}

void finalize(sd_cudnn_graph *g, sd_cudnn_desc d)
{
    if (g->status == CUDNN_STATUS_SUCCESS)
        check(g, g->dnn->cudnnBackendFinalize(d));
}

void add_op(sd_cudnn_graph *g, sd_cudnn_desc op)
{
    finalize(g, op);
    if (g->n_ops == static_cast<int>(sizeof g->op / sizeof *g->op))
        check(g, CUDNN_STATUS_NOT_SUPPORTED);
    else
        g->op[g->n_ops++] = op;
}

sd_cudnn_desc pointwise_desc(sd_cudnn_graph *g, cudnnPointwiseMode_t mode, cudnnDataType_t precision)
{
    sd_cudnn_desc d = create(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(g, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_type(g, d, CUDNN_ATTR_POINTWISE_MATH_PREC, precision);
    return d;
}

void add_pointwise(sd_cudnn_graph *g, sd_cudnn_desc how, sd_cudnn_desc x, sd_cudnn_desc b, sd_cudnn_desc t,
                   sd_cudnn_desc y)
{
    finalize(g, how);
    sd_cudnn_desc op = create(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b)
        set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    if (t)
        set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_TDESC, t);
    set_desc(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    add_op(g, op);
}

} // namespace

void sd_cudnn_graph_begin(struct sd_cudnn_graph *g, const struct sd_cudnn *dnn)
{
    memset(g, 0, sizeof *g);
    g->dnn = dnn;
    g->next = SD_CUDNN_VIRTUAL;
}

void sd_cudnn_graph_end(struct sd_cudnn_graph *g)
{
    while (g->n_made)
        g->dnn->cudnnBackendDestroyDescriptor(g->made[--g->n_made]);
}

cudnnDataType_t sd_cudnn_type(enum sd_dtype type)
{
    return type == SD_F32 ? CUDNN_DATA_FLOAT : type == SD_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
}

sd_cudnn_desc sd_cudnn_tensor_desc(struct sd_cudnn_graph *g, enum sd_cudnn_tensor which, cudnnDataType_t type,
                                   const int64_t *dim, const int64_t *stride)
{
    bool is_virtual = which == SD_CUDNN_VIRTUAL, by_value = which >= SD_CUDNN_SCALE && !is_virtual;
    int64_t uid = is_virtual ? g->next++ : static_cast<int64_t>(which), align = 16;
    sd_cudnn_desc d = create(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_type(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    set(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dim);
    set(g, d, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, stride);
    set(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 1, &uid);
    set(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, 1, &align);
    if (is_virtual)
        set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    if (by_value)
        set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    finalize(g, d);
    return d;
}

sd_cudnn_desc sd_cudnn_number(struct sd_cudnn_graph *g, enum sd_cudnn_tensor which)
{
    const int64_t one[4] = {1, 1, 1, 1};
    return sd_cudnn_tensor_desc(g, which, CUDNN_DATA_FLOAT, one, one);
}

void sd_cudnn_pointwise(struct sd_cudnn_graph *g, cudnnPointwiseMode_t mode, sd_cudnn_desc x, sd_cudnn_desc b,
                        sd_cudnn_desc t, sd_cudnn_desc y)
{
    add_pointwise(g, pointwise_desc(g, mode, CUDNN_DATA_FLOAT), x, b, t, y);
}

void sd_cudnn_index(struct sd_cudnn_graph *g, int64_t axis, sd_cudnn_desc x, sd_cudnn_desc y)
{
    sd_cudnn_desc how = pointwise_desc(g, CUDNN_POINTWISE_GEN_INDEX, CUDNN_DATA_FLOAT);
    set(g, how, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, 1, &axis);
    add_pointwise(g, how, x, NULL, NULL, y);
}

void sd_cudnn_not_below(struct sd_cudnn_graph *g, sd_cudnn_desc x, sd_cudnn_desc b, sd_cudnn_desc y)
{
    add_pointwise(g, pointwise_desc(g, CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN), x, b, NULL, y);
}

void sd_cudnn_matmul(struct sd_cudnn_graph *g, sd_cudnn_desc a, sd_cudnn_desc b, sd_cudnn_desc y)
{
    sd_cudnn_desc how = create(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set_type(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    finalize(g, how);
    sd_cudnn_desc op = create(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, y);
    set_desc(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    add_op(g, op);
}

void sd_cudnn_reduce(struct sd_cudnn_graph *g, cudnnReduceTensorOp_t how, sd_cudnn_desc x, sd_cudnn_desc y)
{
    sd_cudnn_desc d = create(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    set(g, d, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &how);
    set_type(g, d, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    finalize(g, d);
    sd_cudnn_desc op = create(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, d);
    set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    set_desc(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    add_op(g, op);
}

void sd_cudnn_reshape(struct sd_cudnn_graph *g, sd_cudnn_desc x, sd_cudnn_desc y)
{
    sd_cudnn_desc op = create(g, CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
    set_desc(g, op, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x);
    set_desc(g, op, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y);
    add_op(g, op);
}

void sd_cudnn_convolution(struct sd_cudnn_graph *g, enum sd_op op, const struct sd_conv_shape *s,
                          sd_cudnn_desc x, sd_cudnn_desc w, sd_cudnn_desc y)
{
    /* Operation, its filter, x, y and descriptor, alpha and beta. */
    static const cudnnBackendAttributeName_t names[3][6] = {
        {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
        {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
    };
    static const cudnnBackendDescriptorType_t types[3] = {
        CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
    };
    int which = op == SD_OP_conv2d ? 0 : op == SD_OP_conv2d_dx ? 1 : 2;
    const cudnnBackendAttributeName_t *name = names[which];
    const int64_t two = 2, dilation[2] = {1, 1}, stride[2] = {s->stride, s->stride},
                  before[2] = {s->top, s->left}, after[2] = {s->bottom, s->right};
    const float one = 1, zero = 0;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    sd_cudnn_desc how = create(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_type(g, how, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    set(g, how, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(g, how, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 1, &two);
    set(g, how, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(g, how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(g, how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, before);
    set(g, how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, after);
    finalize(g, how);
    sd_cudnn_desc node = create(g, types[which]);
    set_desc(g, node, name[0], w);
    set_desc(g, node, name[1], x);
    set_desc(g, node, name[2], y);
    set_desc(g, node, name[3], how);
    set(g, node, name[4], CUDNN_TYPE_FLOAT, 1, &one);
    set(g, node, name[5], CUDNN_TYPE_FLOAT, 1, &zero);
    add_op(g, node);
}

/* --- plans --- */

namespace
{

/* Notes of an engine, as many as there is room for; -1: refused. */
template <typename T>
int64_t notes(const sd_cudnn *dnn, sd_cudnn_desc engine, cudnnBackendAttributeName_t name,
              cudnnBackendAttributeType_t type, T (&note)[32])
{
    int64_t n = 0;
    cudnnStatus_t s = dnn->cudnnBackendGetAttribute(engine, name, type, 32, &n, note);
    return s != CUDNN_STATUS_SUCCESS ? -1 : n < 32 ? n : 32;
}

/* An engine computes as we want: the same bits each time, f32 sums of what it was given.
 */
bool suits(const sd_cudnn *dnn, sd_cudnn_desc engine, const sd_cudnn_terms *terms)
{
    cudnnBackendNumericalNote_t number[32];
    cudnnBackendBehaviorNote_t behaviour[32];
    int64_t n = notes(dnn, engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, behaviour);
    bool fits = n >= 0;
    for (int64_t i = 0; i < n; i++)
        fits &= behaviour[i] != CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION || terms->compile;
    n = notes(dnn, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, number);
    fits &= n >= 0;
    /* All others are of rounded inputs or sums, FFT, Winograd, or an order that changes from run to run. */
    for (int64_t i = 0; i < n; i++)
        fits &= number[i] == CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP ||
                (number[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE && !terms->exact);
    return fits;
}

/* Whether a configuration's engine suits. */
bool acceptable(const sd_cudnn *dnn, sd_cudnn_desc config, const sd_cudnn_terms *terms)
{
    sd_cudnn_desc engine = NULL;
    int64_t n = 0;
    if (dnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS)
        return false;
    bool fits =
        dnn->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                      &n, &engine) == CUDNN_STATUS_SUCCESS &&
        suits(dnn, engine, terms);
    dnn->cudnnBackendDestroyDescriptor(engine);
    return fits;
}

sd_cudnn_desc make_plan(const sd_cudnn *dnn, sd_cudnn_desc config, const sd_cudnn_terms *terms,
                        size_t *workspace)
{
    sd_cudnn_desc plan = sd_cudnn_plan_begin(dnn);
    if (!plan)
        return NULL;
    cudnnStatus_t s = dnn->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config);
    return sd_cudnn_plan_end(dnn, plan, s, terms->workspace, workspace);
}

/* The first of a mode's configurations that can be used. */
sd_cudnn_desc try_mode(sd_cudnn_graph *g, sd_cudnn_desc graph, cudnnBackendHeurMode_t mode,
                       const sd_cudnn_terms *terms, size_t *workspace)
{
    sd_cudnn_desc heuristics = create(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR), config[MAX_CONFIGS],
                  plan = NULL;
    int64_t n = 0;
    set_desc(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (!g->dnn->handle)
        set_desc(g, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, g->dnn->device);
    finalize(g, heuristics);
    for (sd_cudnn_desc &c : config)
        c = create(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (g->status == CUDNN_STATUS_SUCCESS)
        check(g, g->dnn->cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                                  CUDNN_TYPE_BACKEND_DESCRIPTOR, MAX_CONFIGS, &n, config));
    for (int64_t i = 0; i < n && i < MAX_CONFIGS && !plan && g->status == CUDNN_STATUS_SUCCESS; i++)
        if (acceptable(g->dnn, config[i], terms))
            plan = make_plan(g->dnn, config[i], terms, workspace);
    return plan;
}

} // namespace

sd_cudnn_desc sd_cudnn_graph_plan(struct sd_cudnn_graph *g, const struct sd_cudnn_terms *terms,
                                  size_t *workspace)
{
    sd_cudnn_desc graph = create(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR), plan = NULL;
    set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->n_ops, g->op);
    if (g->dnn->handle)
        set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &g->dnn->handle);
    finalize(g, graph);
    /* The heuristics may refuse in one mode and not in the other. */
    for (cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
        sd_cudnn_graph attempt = *g;
        if (!plan && g->status == CUDNN_STATUS_SUCCESS)
            plan = try_mode(&attempt, graph, mode, terms, workspace);
        while (attempt.n_made > g->n_made)
            g->dnn->cudnnBackendDestroyDescriptor(attempt.made[--attempt.n_made]);
    }
    return plan;
}
