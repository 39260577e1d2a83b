#include "adapter/svd.h"

#include <cblas.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/quantile.h"

/* LAPACK, column by column; its own header is not part of what OpenBLAS installs. */
void dsyevr_(const char *jobz, const char *range, const char *uplo, const int *n, double *a, const int *lda,
             const double *vl, const double *vu, const int *il, const int *iu, const double *abstol, int *m,
             double *w, double *z, const int *ldz, int *isuppz, double *work, const int *lwork, int *iwork,
             const int *liwork, int *info);
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work,
             const int *lwork, int *info);
void dorgqr_(const int *m, const int *n, const int *k, double *a, const int *lda, const double *tau,
             double *work, const int *lwork, int *info);
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork,
             int *info);

enum { PANEL = 512, MOST = 1 << 20 };

static int failed(struct sd_err *err, const char *routine, int info)
{
    return sd_err_set(err, SD_ERR_DATA, "the singular values cannot be found (%s: %d)", routine, info);
}

static int start(struct sd_svd *svd, int64_t m, int64_t n, int64_t rank, struct sd_err *err)
{
    *svd = (struct sd_svd){.m = m, .n = n, .rank = rank};
    if (m < 1 || n < 1 || rank < 1 || m > MOST || n > MOST)
        return sd_err_set(err, SD_ERR_DATA, "a matrix of %lld x %lld has no singular values here",
                          (long long)m, (long long)n);
    svd->us = calloc((size_t)(m * rank), sizeof *svd->us);
    svd->vt = calloc((size_t)(rank * n), sizeof *svd->vt);
    svd->s = calloc((size_t)rank, sizeof *svd->s);
    if (!svd->us || !svd->vt || !svd->s)
        return sd_err_memory(err, (size_t)((m + n) * rank) * sizeof *svd->us);
    openblas_set_num_threads(1);
    return 0;
}

static int check_finite(const float *a, int64_t count, struct sd_err *err)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(a[i]))
            return sd_err_set(err, SD_ERR_DATA, "a value is not a finite number");
    return 0;
}

/* Lower triangle of the smaller Gram matrix of a [m,n], [k,k]. */
static int gram(double *g, const float *a, int64_t m, int64_t n, struct sd_err *err)
{
    int64_t k = m <= n ? m : n, whole = m <= n ? n : m;
    double *panel = malloc((size_t)(k * PANEL) * sizeof *panel);
    if (!panel)
        return sd_err_memory(err, (size_t)(k * PANEL) * sizeof *panel);
    for (int64_t at = 0; at < whole; at += PANEL) {
        int64_t w = whole - at < PANEL ? whole - at : PANEL;
        if (m <= n)
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < w; j++)
                    panel[i * w + j] = a[i * n + at + j];
        else
            for (int64_t i = 0; i < w * n; i++)
                panel[i] = a[at * n + i];
        cblas_dsyrk(CblasRowMajor, CblasLower, m <= n ? CblasNoTrans : CblasTrans, (int)k, (int)w, 1, panel,
                    (int)(m <= n ? w : n), 1, g, (int)k);
    }
    free(panel);
    return 0;
}

/* The eigenvectors of the largest `rank` eigenvalues, as f32 rows of e [rank,k], largest first. Ruins g. */
static int largest_eigenvectors(double *g, int64_t k, int64_t rank, float *e, struct sd_err *err)
{
    int n = (int)k, first = (int)(k - rank + 1), found = 0, info = 0, lwork = -1, liwork = -1, iwork_size = 0;
    double none = 0, work_size = 0;
    double *w = malloc((size_t)k * sizeof *w), *z = malloc((size_t)(k * rank) * sizeof *z), *work = NULL;
    int *support = malloc(2 * (size_t)k * sizeof *support), *iwork = NULL, rc = -1;
    if (!w || !z || !support) {
        sd_err_memory(err, (size_t)(k * rank) * sizeof *z);
        goto out;
    }
    /* what is the lower triangle row by row is the upper one column by column */
    dsyevr_("V", "I", "U", &n, g, &n, &none, &none, &first, &n, &none, &found, w, z, &n, support, &work_size,
            &lwork, &iwork_size, &liwork, &info);
    lwork = (int)work_size;
    liwork = iwork_size;
    work = malloc((size_t)lwork * sizeof *work);
    iwork = malloc((size_t)liwork * sizeof *iwork);
    if (!work || !iwork) {
        sd_err_memory(err, (size_t)lwork * sizeof *work);
        goto out;
    }
    dsyevr_("V", "I", "U", &n, g, &n, &none, &none, &first, &n, &none, &found, w, z, &n, support, work,
            &lwork, iwork, &liwork, &info);
    if (info || found != rank) {
        failed(err, "dsyevr", info);
        goto out;
    }
    for (int64_t r = 0; r < rank; r++)
        for (int64_t i = 0; i < k; i++)
            e[r * k + i] = (float)z[(rank - 1 - r) * k + i];
    rc = 0;
out:
    free(w);
    free(z);
    free(work);
    free(support);
    free(iwork);
    return rc;
}

/* Makes rows of vt unit vectors with a positive largest entry, and lets us carry the rest. */
static void normalise(struct sd_svd *svd)
{
    for (int64_t r = 0; r < svd->rank; r++) {
        float *v = svd->vt + r * svd->n, largest = 0;
        double square = 0;
        for (int64_t j = 0; j < svd->n; j++) {
            square += (double)v[j] * v[j];
            largest = fabsf(v[j]) > fabsf(largest) ? v[j] : largest;
        }
        double length = copysign(sqrt(square), largest);
        if (length == 0) /* then us holds a direction, but nothing lies along it */
            for (int64_t i = 0; i < svd->m; i++)
                svd->us[i * svd->rank + r] = 0;
        if (length == 0)
            continue;
        for (int64_t j = 0; j < svd->n; j++)
            v[j] = (float)(v[j] / length);
        for (int64_t i = 0; i < svd->m; i++)
            svd->us[i * svd->rank + r] = (float)(svd->us[i * svd->rank + r] * length);
    }
}

static void measure(struct sd_svd *svd)
{
    for (int64_t r = 0; r < svd->rank; r++) {
        double square = 0;
        for (int64_t i = 0; i < svd->m; i++)
            square += (double)svd->us[i * svd->rank + r] * svd->us[i * svd->rank + r];
        svd->s[r] = sqrt(square);
    }
}

int sd_svd(struct sd_svd *svd, const float *a, int64_t m, int64_t n, int64_t rank, struct sd_err *err)
{
    int64_t k = m <= n ? m : n;
    double *g = NULL;
    float *e = NULL;
    int rc = -1;
    *svd = (struct sd_svd){0};
    if (rank > k)
        return sd_err_set(err, SD_ERR_DATA, "rank %lld of a matrix of %lld x %lld", (long long)rank,
                          (long long)m, (long long)n);
    if (start(svd, m, n, rank, err) || check_finite(a, m * n, err))
        goto out;
    g = calloc((size_t)(k * k), sizeof *g);
    e = malloc((size_t)(rank * k) * sizeof *e);
    if (!g || !e) {
        sd_err_memory(err, (size_t)(k * k) * sizeof *g);
        goto out;
    }
    if (gram(g, a, m, n, err) || largest_eigenvectors(g, k, rank, e, err))
        goto out;
    if (m <= n) { /* e is U': A ~ U (U' A) */
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rank, (int)n, (int)m, 1, e, (int)m, a,
                    (int)n, 0, svd->vt, (int)n);
        for (int64_t r = 0; r < rank; r++)
            for (int64_t i = 0; i < m; i++)
                svd->us[i * rank + r] = e[r * m + i];
    } else { /* e is V': A ~ (A V) V' */
        memcpy(svd->vt, e, (size_t)(rank * n) * sizeof *e);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)m, (int)rank, (int)n, 1, a, (int)n, e,
                    (int)n, 0, svd->us, (int)rank);
    }
    normalise(svd);
    measure(svd);
    rc = 0;
out:
    free(g);
    free(e);
    if (rc)
        sd_svd_free(svd);
    return rc;
}

/* ---- products ---- */

/* QR of x [rows,cols], column by column; x becomes Q [rows,k], r gets R [k,cols], k = min(rows, cols). */
static int qr(double *x, int64_t rows, int64_t cols, double *r, struct sd_err *err)
{
    int m = (int)rows, n = (int)cols, k = m < n ? m : n, info = 0, lwork = (m > n ? m : n) * 64;
    double *tau = malloc((size_t)k * sizeof *tau), *work = malloc((size_t)lwork * sizeof *work);
    int rc = -1;
    if (!tau || !work) {
        sd_err_memory(err, (size_t)lwork * sizeof *work);
        goto out;
    }
    dgeqrf_(&m, &n, x, &m, tau, work, &lwork, &info);
    if (info) {
        failed(err, "dgeqrf", info);
        goto out;
    }
    for (int64_t j = 0; j < cols; j++)
        for (int64_t i = 0; i < k; i++)
            r[j * k + i] = i <= j ? x[j * rows + i] : 0;
    dorgqr_(&m, &k, &k, x, &m, tau, work, &lwork, &info);
    rc = info ? failed(err, "dorgqr", info) : 0;
out:
    free(tau);
    free(work);
    return rc;
}

/* What sd_svd_product works in; [rows,cols] in columns. */
struct product {
    double *qu, *ru; /* up [m,r] = qu [m,ku] ru [ku,r] */
    double *qd, *rd; /* down' [n,r] = qd [n,kd] rd [kd,r] */
    double *core;    /* ru rd' [ku,kd] */
    double *u, *vt;  /* core = u [ku,k] diag(s) vt [k,kd] */
    double *work;
    int *iwork;
};

static int solve_core(struct product *p, double *s, int ku, int kd, struct sd_err *err)
{
    int k = ku < kd ? ku : kd, lwork = -1, info = 0;
    double size = 0;
    dgesdd_("S", &ku, &kd, p->core, &ku, s, p->u, &ku, p->vt, &k, &size, &lwork, p->iwork, &info);
    lwork = (int)size;
    p->work = malloc((size_t)lwork * sizeof *p->work);
    if (!p->work)
        return sd_err_memory(err, (size_t)lwork * sizeof *p->work);
    dgesdd_("S", &ku, &kd, p->core, &ku, s, p->u, &ku, p->vt, &k, p->work, &lwork, p->iwork, &info);
    return info ? failed(err, "dgesdd", info) : 0;
}

/* us = qu u diag(s), vt = vt qd' */
static int expand(struct sd_svd *svd, const struct product *p, int64_t ku, int64_t kd, struct sd_err *err)
{
    int64_t k = svd->rank, m = svd->m, n = svd->n, longest = m > n ? m : n;
    double *x = malloc((size_t)(longest * k) * sizeof *x);
    if (!x)
        return sd_err_memory(err, (size_t)(longest * k) * sizeof *x);
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasNoTrans, (int)m, (int)k, (int)ku, 1, p->qu, (int)m, p->u,
                (int)ku, 0, x, (int)m);
    for (int64_t r = 0; r < k; r++)
        for (int64_t i = 0; i < m; i++)
            svd->us[i * k + r] = (float)(x[r * m + i] * svd->s[r]);
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)n, (int)k, (int)kd, 1, p->qd, (int)n, p->vt,
                (int)k, 0, x, (int)n);
    for (int64_t i = 0; i < k * n; i++)
        svd->vt[i] = (float)x[i];
    free(x);
    return 0;
}

static double *doubles(int64_t count)
{
    return malloc((size_t)count * sizeof(double));
}

int sd_svd_product(struct sd_svd *svd, const float *up, const float *down, int64_t m, int64_t r, int64_t n,
                   struct sd_err *err)
{
    int64_t ku = m < r ? m : r, kd = n < r ? n : r, k = ku < kd ? ku : kd;
    struct product p = {0};
    int rc = -1;
    *svd = (struct sd_svd){0};
    if (r > MOST)
        return sd_err_set(err, SD_ERR_DATA, "factors of rank %lld", (long long)r);
    if (start(svd, m, n, k, err) || check_finite(up, m * r, err) || check_finite(down, r * n, err))
        goto out;
    p = (struct product){.qu = doubles(m * r),
                         .ru = doubles(ku * r),
                         .qd = doubles(n * r),
                         .rd = doubles(kd * r),
                         .core = doubles(ku * kd),
                         .u = doubles(ku * k),
                         .vt = doubles(k * kd),
                         .iwork = malloc(8 * (size_t)k * sizeof *p.iwork)};
    if (!p.qu || !p.ru || !p.qd || !p.rd || !p.core || !p.u || !p.vt || !p.iwork) {
        sd_err_memory(err, (size_t)((m + n) * r) * sizeof(double));
        goto out;
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < r; j++)
            p.qu[j * m + i] = up[i * r + j];
    for (int64_t i = 0; i < r * n; i++)
        p.qd[i] = down[i];
    if (qr(p.qu, m, r, p.ru, err) || qr(p.qd, n, r, p.rd, err))
        goto out;
    cblas_dgemm(CblasColMajor, CblasNoTrans, CblasTrans, (int)ku, (int)kd, (int)r, 1, p.ru, (int)ku, p.rd,
                (int)kd, 0, p.core, (int)ku);
    if (solve_core(&p, svd->s, (int)ku, (int)kd, err) || expand(svd, &p, ku, kd, err))
        goto out;
    normalise(svd);
    rc = 0;
out:
    free(p.qu);
    free(p.ru);
    free(p.qd);
    free(p.rd);
    free(p.core);
    free(p.u);
    free(p.vt);
    free(p.work);
    free(p.iwork);
    if (rc)
        sd_svd_free(svd);
    return rc;
}

/* ---- what becomes of the triplets ---- */

int sd_svd_truncate(struct sd_svd *svd, int64_t rank, struct sd_err *err)
{
    struct sd_svd cut;
    int64_t kept = rank < svd->rank ? rank : svd->rank;
    if (start(&cut, svd->m, svd->n, rank, err)) {
        sd_svd_free(&cut);
        return -1;
    }
    for (int64_t i = 0; i < svd->m; i++)
        memcpy(cut.us + i * rank, svd->us + i * svd->rank, (size_t)kept * sizeof *cut.us);
    memcpy(cut.vt, svd->vt, (size_t)(kept * svd->n) * sizeof *cut.vt);
    memcpy(cut.s, svd->s, (size_t)kept * sizeof *cut.s);
    sd_svd_free(svd);
    *svd = cut;
    return 0;
}

static void clamp(float *v, int64_t count, float low, float high)
{
    for (int64_t i = 0; i < count; i++) /* torch.clamp: the upper bound wins where the two cross */
        v[i] = fminf(fmaxf(v[i], low), high);
}

int sd_svd_clamp(struct sd_svd *svd, double q, struct sd_err *err)
{
    size_t nu = (size_t)(svd->m * svd->rank), nv = (size_t)(svd->rank * svd->n);
    float *all = malloc((nu + nv) * sizeof *all);
    if (!all)
        return sd_err_memory(err, (nu + nv) * sizeof *all);
    memcpy(all, svd->us, nu * sizeof *all);
    memcpy(all + nu, svd->vt, nv * sizeof *all);
    float h = sd_quantile(all, nu + nv, q);
    free(all);
    clamp(svd->us, (int64_t)nu, -h, h);
    clamp(svd->vt, (int64_t)nv, -h, h);
    return 0;
}

void sd_svd_free(struct sd_svd *svd)
{
    free(svd->us);
    free(svd->vt);
    free(svd->s);
    *svd = (struct sd_svd){0};
}
