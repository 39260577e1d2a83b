/* Times the attention kernels at the shapes of the SD1 U-Net (512x512 picture, batch 1), the VAE and CLIP,
 * forward and backward, f32 and bf16. One JSON object a line; the "set" lines are one whole U-Net's
 * attention. gflops counts the products of the definition: 4 * q * k * d a head forward, 10 backward (scores
 * made again). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/half.h"
#include "tensor/cpu/attention.h"

struct shape {
    const char *name;
    int count; /* in one U-Net forward */
    int64_t heads, q, k, dim;
    int causal, backward;
};

static const struct shape shapes[] = {
    {"4096x40", 5, 8, 4096, 4096, 40, 0, 1},       {"1024x80", 5, 8, 1024, 1024, 80, 0, 1},
    {"256x160", 5, 8, 256, 256, 160, 0, 1},        {"64x160", 1, 8, 64, 64, 160, 0, 1},
    {"4096x40-cross", 5, 8, 4096, 77, 40, 0, 1},   {"1024x80-cross", 5, 8, 1024, 77, 80, 0, 1},
    {"256x160-cross", 5, 8, 256, 77, 160, 0, 1},   {"64x160-cross", 1, 8, 64, 77, 160, 0, 1},
    {"vae-4096x512", 0, 1, 4096, 4096, 512, 0, 1}, {"clip-77x64", 0, 12, 77, 77, 64, 1, 1},
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *tensor(int64_t n, int bf16, uint32_t seed)
{
    size_t bytes = ((size_t)n * 4 + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    if (!p) {
        perror("attention");
        exit(1);
    }
    memset(p, 0, bytes);
    for (int64_t i = 0; seed && i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        float x = (float)(seed >> 8) / (1 << 24) * 3.4F - 1.7F; /* variance 1 */
        if (bf16)
            ((sd_bf16 *)p)[i] = sd_f32_to_bf16(x);
        else
            ((float *)p)[i] = x;
    }
    return p;
}

static void print(const char *direction, int bf16, const char *name, double seconds, double flops, int runs)
{
    printf("{\"name\":\"attention-%s-%s-%s\",\"value\":%.6f,\"unit\":\"s\",\"gflops\":%.1f,\"runs\":%d}\n",
           direction, bf16 ? "bf16" : "f32", name, seconds, flops / seconds * 1e-9, runs);
    fflush(stdout);
}

static double bench(const struct shape *s, int bf16, int backward, double *flops)
{
    int64_t width = s->heads * s->dim;
    struct sd_attn a = {1,     s->heads, s->q,  s->k, s->dim, s->causal, 1 / sqrtf((float)s->dim),
                        width, width,    width, width};
    void *q = tensor(s->q * width, bf16, 1), *k = tensor(s->k * width, bf16, 2),
         *v = tensor(s->k * width, bf16, 3);
    void *o = tensor(s->q * width, bf16, 0), *dout = tensor(s->q * width, bf16, 4);
    void *dq = tensor(s->q * width, bf16, 0), *dk = tensor(s->k * width, bf16, 0),
         *dv = tensor(s->k * width, bf16, 0);
    size_t fwd = sd_cpu_attn_fwd_scratch(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16),
           bwd = sd_cpu_attn_bwd_scratch(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16);
    void *scratch = tensor((int64_t)((fwd > bwd ? fwd : bwd) / 4), 0, 0);
    float *lse = tensor(s->heads * s->q, 0, 0);
    *flops = (backward ? 10.0 : 4.0) * (double)(s->heads * s->q) * (double)(s->k * s->dim);
    double best = 1e30, start = now();
    int runs = 0;
    sd_cpu_attn_fwd(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16, q, k, v, o, lse, scratch);
    while (runs < 5 || (now() - start < 1 && runs < 200)) {
        double t = now();
        if (backward)
            sd_cpu_attn_bwd(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16, q, k, v, o, lse, dout, dq, dk, dv,
                            scratch);
        else
            sd_cpu_attn_fwd(sd_attn_kernels(sd_isa_best(bf16)), &a, bf16, q, k, v, o, lse, scratch);
        t = now() - t;
        best = t < best ? t : best;
        runs++;
    }
    print(backward ? "bwd" : "fwd", bf16, s->name, best, *flops, runs);
    void *all[] = {q, k, v, o, dout, dq, dk, dv, scratch, lse};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
    return best;
}

/* With an argument, only the measurements whose name ("fwd-bf16-4096x40") contains it. */
int main(int argc, char **argv)
{
    for (int bf16 = 0; bf16 < 2; bf16++)
        for (int backward = 0; backward < 2; backward++) {
            double seconds = 0, flops = 0, f;
            int whole = 1;
            for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
                char name[64];
                snprintf(name, sizeof name, "%s-%s-%s", backward ? "bwd" : "fwd", bf16 ? "bf16" : "f32",
                         shapes[i].name);
                if (argc > 1 && !strstr(name, argv[1])) {
                    whole &= !shapes[i].count;
                    continue;
                }
                seconds += shapes[i].count * bench(&shapes[i], bf16, backward, &f);
                flops += shapes[i].count * f;
            }
            if (whole && seconds > 0)
                print(backward ? "bwd" : "fwd", bf16, "unet-set", seconds, flops, 1);
        }
    return 0;
}
