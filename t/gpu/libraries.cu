/* What can be known of cuBLASLt and cuDNN without a card: that they are found, that cuBLASLt's descriptors
 * say what row-major products mean, and that cuDNN has plans for the graphs it is given, on cards it is told
 * about. What needs a library that is not installed is skipped. Building this takes nvcc, running it no
 * device. */
#include "../../gpu/gemm_cublas.cu"
#include "../unit/tap.h"
#include "graph_cudnn.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

namespace
{

/* --- cuBLASLt: its descriptors, read back and computed by as its manual defines them --- */

constexpr int ROOM = 4096; /* elements of each matrix's memory */

struct layout {
    uint64_t rows, cols;
    int64_t ld, step;
    int32_t batch;
};

decltype(cublasLtMatrixLayoutGetAttribute) *get_layout;
decltype(cublasLtMatmulDescGetAttribute) *get_desc;

template <typename T> T of_layout(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t name)
{
    T value = {};
    size_t written = 0;
    get_layout(l, name, &value, sizeof value, &written);
    return value;
}

layout read_layout(cublasLtMatrixLayout_t l)
{
    return {of_layout<uint64_t>(l, CUBLASLT_MATRIX_LAYOUT_ROWS),
            of_layout<uint64_t>(l, CUBLASLT_MATRIX_LAYOUT_COLS),
            of_layout<int64_t>(l, CUBLASLT_MATRIX_LAYOUT_LD),
            of_layout<int64_t>(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET),
            of_layout<int32_t>(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)};
}

template <typename T> T of_desc(cublasLtMatmulDesc_t d, cublasLtMatmulDescAttributes_t name)
{
    T value = {};
    size_t written = 0;
    get_desc(d, name, &value, sizeof value, &written);
    return value;
}

double at(const layout *l, bool transposed, const float *m, uint64_t row, uint64_t col)
{
    uint64_t r = transposed ? col : row, c = transposed ? row : col;
    return static_cast<double>(m[r + c * static_cast<uint64_t>(l->ld)]);
}

/* D = alpha op(A) op(B) + beta C + bias, column-major, bias by rows. */
bool by_columns(const sd_cuda_gemm_algo *algo, const float *a, const float *b, const float *bias,
                const float *c, float *d)
{
    layout la = read_layout(algo->first), lb = read_layout(algo->second), ld = read_layout(algo->y);
    bool ta = of_desc<int32_t>(algo->desc, CUBLASLT_MATMUL_DESC_TRANSA) == CUBLAS_OP_T,
         tb = of_desc<int32_t>(algo->desc, CUBLASLT_MATMUL_DESC_TRANSB) == CUBLAS_OP_T;
    bool add = of_desc<uint32_t>(algo->desc, CUBLASLT_MATMUL_DESC_EPILOGUE) == CUBLASLT_EPILOGUE_BIAS;
    uint64_t k = ta ? la.rows : la.cols;
    if ((ta ? la.cols : la.rows) != ld.rows || (tb ? lb.rows : lb.cols) != ld.cols ||
        (tb ? lb.cols : lb.rows) != k || la.batch != ld.batch || lb.batch != ld.batch)
        return false;
    for (int64_t i = 0; i < ld.batch; i++)
        for (uint64_t row = 0; row < ld.rows; row++)
            for (uint64_t col = 0; col < ld.cols; col++) {
                double sum = 0;
                for (uint64_t l = 0; l < k; l++)
                    sum += at(&la, ta, a + i * la.step, row, l) * at(&lb, tb, b + i * lb.step, l, col);
                uint64_t to = row + col * static_cast<uint64_t>(ld.ld) + static_cast<uint64_t>(i * ld.step);
                sum = static_cast<double>(algo->g.scale) * sum + (c ? static_cast<double>(c[to]) : 0);
                d[to] = static_cast<float>(sum + (add ? static_cast<double>(bias[row]) : 0));
            }
    return true;
}

/* The same by the definition of gemm.h. */
void by_rows(const sd_cuda_gemm *g, const float *a, const float *b, const float *bias, const float *acc,
             float *y)
{
    for (int64_t i = 0; i < g->batch; i++)
        for (int64_t m = 0; m < g->m; m++)
            for (int64_t n = 0; n < g->n; n++) {
                double sum = 0;
                for (int64_t k = 0; k < g->k; k++)
                    sum += static_cast<double>(
                               a[i * g->step_a + (g->trans_a ? k * g->lda + m : m * g->lda + k)]) *
                           static_cast<double>(
                               b[i * g->step_b + (g->trans_b ? n * g->ldb + k : k * g->ldb + n)]);
                int64_t to = i * g->step_y + m * g->ldy + n;
                sum = static_cast<double>(g->scale) * sum + (acc ? static_cast<double>(acc[to]) : 0);
                y[to] = static_cast<float>(sum + (bias ? static_cast<double>(bias[n]) : 0));
            }
}

/* Of case number: all transposes, bias, sum, batches, and rows longer than the matrix is wide. */
void check_product(const sd_cublaslt *lt, int number)
{
    static float a[ROOM], b[ROOM], bias[ROOM], acc[ROOM], want[ROOM], got[ROOM];
    sd_cuda_gemm g = sd_cuda_gemm_dense(5, 7, 3, number & 1, number & 2, SD_F32, SD_F32);
    sd_cuda_gemm_algo algo = {};
    maker m = {lt, CUBLAS_STATUS_SUCCESS};
    g.bias = number & 4;
    g.acc = number & 8;
    g.batch = number & 16 ? 3 : 1;
    int64_t more = number & 32 ? 2 : 0;
    g.lda += more;
    g.ldb += 2 * more;
    g.ldy += 3 * more;
    g.step_a = 64;
    g.step_b = 96;
    g.step_y = 128;
    g.scale = 0.5f;
    for (int i = 0; i < ROOM; i++) {
        a[i] = static_cast<float>(i % 17 - 8);
        b[i] = static_cast<float>(i % 13 - 6);
        bias[i] = static_cast<float>(i % 5);
        acc[i] = static_cast<float>(i % 11 - 5);
        want[i] = got[i] = -1;
    }
    algo.g = g;
    make_desc(&m, &algo, false);
    by_rows(&g, a, b, g.bias ? bias : NULL, g.acc ? acc : NULL, want);
    bool fits = m.status == CUBLAS_STATUS_SUCCESS && by_columns(&algo, b, a, bias, g.acc ? acc : NULL, got);
    ok(fits && !memcmp(want, got, sizeof want), "cublasLt: product %d means the same by columns", number);
    lt->cublasLtMatmulDescDestroy(algo.desc);
    lt->cublasLtMatrixLayoutDestroy(algo.first);
    lt->cublasLtMatrixLayoutDestroy(algo.second);
    lt->cublasLtMatrixLayoutDestroy(algo.y);
}

void check_alignment(void)
{
    sd_cuda_gemm g = sd_cuda_gemm_dense(4, 4, 4, false, false, SD_BF16, SD_BF16);
    ok(alignment(&g, 12, SD_BF16) == 16, "alignment: one matrix lies as well as its address");
    g.batch = 2;
    ok(alignment(&g, 12, SD_BF16) == 8, "alignment: matrices 24 bytes apart lie on 8");
    ok(alignment(&g, 40, SD_BF16) == 16, "alignment: matrices 80 bytes apart lie on 16");
    g.align = 2;
    ok(alignment(&g, 40, SD_BF16) == 2, "alignment: not better than the address");
}

void check_cublaslt(void)
{
    sd_cublaslt lt;
    sd_err err = {};
    check_alignment();
    if (sd_cublaslt_open(&lt, 13000, &err)) {
        skip("cublasLt", err.msg);
        return;
    }
    get_layout =
        reinterpret_cast<decltype(get_layout)>(dlsym(lt.library, "cublasLtMatrixLayoutGetAttribute"));
    get_desc = reinterpret_cast<decltype(get_desc)>(dlsym(lt.library, "cublasLtMatmulDescGetAttribute"));
    for (int i = 0; i < 64 && get_layout && get_desc; i++)
        check_product(&lt, i);
    sd_cublaslt_close(&lt);
}

/* --- cuDNN: plans for cards it is told about --- */

void *stand_in;

/* Takes the stand-in that lies beside this program where there is no driver; who asks for libcuda.so.1 later
 * gets it. */
void find_driver(const char *program)
{
    char path[1024];
    const char *slash = strrchr(program, '/');
    int dir = slash ? static_cast<int>(slash + 1 - program) : 0;
    snprintf(path, sizeof path, "%.*s%sgpu-driver.so", dir, program, dir ? "" : "./");
    stand_in = dlopen("libcuda.so.1", RTLD_NOW) ? NULL : dlopen(path, RTLD_NOW);
}

/* As CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION of cuDNN 9.19 has it. */
constexpr char DEVICE[] =
    "{\"maxGridSize\": [2147483647, 65535, 65535], \"maxBlockSize\": [1024, 1024, 64], \"deviceVer\": %d, "
    "\"multiProcessorCount\": %d, \"regsPerBlock\": 65536, \"smClockRateKHz\": 1980000, \"memClockRateKHz\": "
    "2619000, "
    "\"l2CacheSize\": 52428800, \"warpSize\": 32, \"maxSharedMemoryPerBlock\": 49152, "
    "\"maxSharedMemoryPerBlockOptin\": %d, \"reservedSharedMemoryPerBlock\": 1024, \"maxRegistersPerSM\": "
    "65536, "
    "\"pciDeviceId\": 0, \"maxCtasPerSM\": %d, \"maxThreadsPerBlock\": 1024, \"maxThreadsPerSM\": %d, "
    "\"isTccDriver\": 0, \"supportCoopLaunch\": 1, \"totalGlobalMem\": 25000000000, \"driverVer\": 13000, "
    "\"cudaDeviceId\": 0, \"deviceName\": \"NVIDIA\"}";

struct card {
    const char *name;
    int version, processors, shared, blocks, threads;
};
constexpr card cards[] = {{"H100", 900, 132, 232448, 32, 2048},
                          {"RTX 4090", 890, 128, 101376, 24, 1536},
                          {"RTX 3090", 860, 82, 101376, 16, 1536},
                          {"A100", 800, 108, 166912, 32, 2048}};

/* SD 1.5's: U-Net at 64x64, its ends, its strides, and the VAE's lopsided padding. */
struct convolution {
    const char *name;
    sd_conv_shape s;
};
constexpr convolution convolutions[] = {
    {"320 to 320", {2, 64, 64, 320, 320, 3, 3, 64, 64, 1, 1, 1, 1, 1}},
    {"1280 to 640", {1, 32, 32, 1280, 640, 3, 3, 32, 32, 1, 1, 1, 1, 1}},
    {"stride 2", {2, 64, 64, 320, 320, 3, 3, 32, 32, 2, 1, 1, 1, 1}},
    {"1x1 of stride 2", {1, 8, 8, 64, 64, 1, 1, 4, 4, 2, 0, 0, 0, 0}},
    {"padded below", {1, 128, 128, 128, 128, 3, 3, 64, 64, 2, 0, 0, 1, 1}},
    {"4 to 320", {1, 64, 64, 4, 320, 3, 3, 64, 64, 1, 1, 1, 1, 1}},
    {"320 to 4", {1, 64, 64, 320, 4, 3, 3, 64, 64, 1, 1, 1, 1, 1}}};

bool has_conv(const sd_cudnn *dnn, sd_op op, const sd_conv_shape *s, sd_dtype type, bool bias, bool acc)
{
    size_t workspace = 0;
    sd_cudnn_conv_case c = {};
    c.op = op;
    c.s = *s;
    c.type = c.bias_type = c.w_type = type;
    c.bias = bias;
    c.acc = acc;
    sd_cudnn_desc plan = sd_cudnn_conv_make(dnn, &c, false, &workspace);
    if (plan)
        dnn->cudnnBackendDestroyDescriptor(plan);
    return plan && workspace <= 256 << 20;
}

void check_convolutions(const sd_cudnn *dnn, const char *card)
{
    for (const convolution &c : convolutions)
        for (sd_dtype type : {SD_BF16, SD_F16, SD_F32}) {
            const char *t = sd_dtype_name(type);
            ok(has_conv(dnn, SD_OP_conv2d, &c.s, type, false, false), "%s: %s %s", card, c.name, t);
            ok(has_conv(dnn, SD_OP_conv2d_dx, &c.s, type, false, false), "%s: %s %s, dx", card, c.name, t);
            ok(has_conv(dnn, SD_OP_conv2d_dw, &c.s, type, false, false), "%s: %s %s, dw", card, c.name, t);
            /* Where a shape has no kernel with these, they are added after: nothing to fail. */
            printf("# with bias %s, with bias and sum %s\n",
                   has_conv(dnn, SD_OP_conv2d, &c.s, type, true, false) ? "too" : "no",
                   has_conv(dnn, SD_OP_conv2d, &c.s, type, true, true) ? "too" : "no");
        }
    ok(has_conv(dnn, SD_OP_conv2d, &convolutions[0].s, SD_BF16, true, true), "%s: bias and sum are fused",
       card);
}

/* A plan kept in a file comes back, for its own case only, and not when a byte of the file is another. */
void check_cache(const sd_cudnn *dnn, sd_cudnn_desc plan, size_t workspace)
{
    char folder[] = "/tmp/sd-cache-XXXXXX", command[96];
    int64_t key[SD_CUDNN_KEY] = {1, 2, 3}, other[SD_CUDNN_KEY] = {1, 2, 4};
    size_t bytes = 0;
    if (!ok(mkdtemp(folder) && !setenv("SD_CUDA_CACHE", folder, 1), "cache: a folder"))
        return;
    ok(!sd_cudnn_cached(dnn, key, &bytes), "cache: empty at first");
    sd_cudnn_cache(dnn, key, plan);
    sd_cudnn_desc back = sd_cudnn_cached(dnn, key, &bytes);
    ok(back && bytes == workspace, "cache: a plan comes back");
    if (back)
        dnn->cudnnBackendDestroyDescriptor(back);
    ok(!sd_cudnn_cached(dnn, other, &bytes), "cache: not for another case");
    snprintf(command, sizeof command, "for f in %s/*.plan; do printf x >> $f; done", folder);
    ok(!system(command) && !sd_cudnn_cached(dnn, key, &bytes), "cache: not when the file was changed");
    snprintf(command, sizeof command, "rm -r %s", folder);
    ok(!system(command), "cache: the folder goes again");
}

/* SD's: self attention, cross attention to 77 tokens, the text encoder's, and a picture classifier's. */
struct attention {
    const char *name;
    int64_t n, heads, t, s, d;
    sd_dtype type;
    bool causal;
};
constexpr attention attentions[] = {{"4096 pixels", 1, 8, 4096, 4096, 40, SD_BF16, false},
                                    {"1024 pixels to 77", 2, 8, 1024, 77, 80, SD_F16, false},
                                    {"77 tokens", 2, 12, 77, 77, 64, SD_BF16, true},
                                    {"197 patches", 1, 12, 197, 197, 64, SD_F16, false}};

bool has_attention(const sd_cudnn *dnn, sd_op op, const attention *a, bool cached, size_t *workspace)
{
    const sd_cudnn_attention_case c = {op,      a->n, a->heads, a->t, a->s, a->d, a->heads * a->d,
                                       a->type, 1,    a->causal};
    sd_cudnn_desc plan = sd_cudnn_attention_make(dnn, &c, workspace);
    if (plan && cached)
        check_cache(dnn, plan, *workspace);
    if (plan)
        dnn->cudnnBackendDestroyDescriptor(plan);
    return plan != NULL;
}

/* cuDNN compiles attention's kernels and has a driver link them: with the stand-in (driver.c), or not at all,
 * for a real one takes those of its own card only. */
void check_attention(const sd_cudnn *dnn, const char *card)
{
    if (!stand_in) {
        skip(card, "attention's kernels are linked by a driver");
        return;
    }
    for (const attention &a : attentions) {
        size_t workspace = 0;
        ok(has_attention(dnn, SD_OP_attention, &a, &a == attentions, &workspace), "%s: attention, %s", card,
           a.name);
        bool found = has_attention(dnn, SD_OP_attention_bwd, &a, false, &workspace);
        ok(found, "%s: attention, %s, backward", card, a.name);
        /* What attention.cu cuts its calls by. */
        size_t scores = 2 * static_cast<size_t>(a.n * a.heads) *
                        static_cast<size_t>((a.t + 127) / 128 * 128 * ((a.s + 127) / 128 * 128));
        ok(!found || (workspace >= scores && workspace <= scores + 4096),
           "%s: attention, %s, a number a query and key", card, a.name);
    }
}

/* What is known to be wrong in some versions is not asked for. */
void check_refusals(const sd_cudnn *real)
{
    size_t workspace = 0;
    sd_cudnn dnn = *real;
    sd_cudnn_attention_case c = {SD_OP_attention_bwd, 1, 8, 256, 77, 40, 320, SD_F16, 1, false};
    dnn.version = 91500;
    ok(!sd_cudnn_attention_make(&dnn, &c, &workspace), "no backward over 77 keys by cuDNN 9.15.0");
    dnn.version = 91000;
    c.op = SD_OP_attention;
    ok(!sd_cudnn_attention_make(&dnn, &c, &workspace), "no attention by cuDNN 9.10.0");
    dnn.version = real->version;
    c.type = SD_F32;
    ok(!sd_cudnn_attention_make(&dnn, &c, &workspace), "no attention in f32");
    c.type = SD_F16;
    c.d = 44;
    ok(!sd_cudnn_attention_make(&dnn, &c, &workspace), "no heads of 44");
}

bool tell_card(sd_cudnn *dnn, const card *c)
{
    char json[1024];
    int n = snprintf(json, sizeof json, DEVICE, c->version, c->processors, c->shared, c->blocks, c->threads);
    dnn->major = c->version / 100;
    snprintf(dnn->card, sizeof dnn->card, "%s", c->name);
    return dnn->cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &dnn->device) ==
               CUDNN_STATUS_SUCCESS &&
           dnn->cudnnBackendSetAttribute(dnn->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                         CUDNN_TYPE_CHAR, n, json) == CUDNN_STATUS_SUCCESS &&
           dnn->cudnnBackendFinalize(dnn->device) == CUDNN_STATUS_SUCCESS;
}

void check_cudnn(void)
{
    sd_cudnn dnn;
    sd_err err = {};
    if (sd_cudnn_open(&dnn, 13000, &err)) {
        skip("cuDNN", err.msg);
        return;
    }
    check_refusals(&dnn);
    for (const card &c : cards) {
        if (dnn.version < 91100 || !tell_card(&dnn, &c)) {
            skip(c.name, "this cuDNN does not plan for cards that are not there");
        } else {
            check_convolutions(&dnn, c.name);
            check_attention(&dnn, c.name);
        }
        if (dnn.device)
            dnn.cudnnBackendDestroyDescriptor(dnn.device);
        dnn.device = NULL;
    }
    sd_cudnn_close(&dnn);
}

} // namespace

int main(int, char **argv)
{
    find_driver(argv[0]);
    check_cublaslt();
    check_cudnn();
    return tap_end();
}
