/* Moving averages against diffusers' EMAModel (t/data/optim/ema.safetensors, made by t/ref/optim.py), on the
 * reference and the tested backend. */
#include <math.h>
#include <string.h>

#include "backend.h"
#include "fixture.h"
#include "tap.h"

enum { STEPS = 12, PARAMS = 2, MOST = 6 };

static struct sd_var state(const char *name, float *memory, int64_t n)
{
    return (struct sd_var){
        .name = name, .dtype = SD_F32, .ndim = 1, .dim = {n}, .data = memory, .state = memory};
}

static void check(const char *backend, const struct sd_tensor_file *tf)
{
    static const char *const names[PARAMS] = {"w", "b"};
    struct sd_graph *g = sd_graph_new();
    struct sd_err err = {0};
    float memory[2 * PARAMS][MOST];
    struct sd_var var[2 * PARAMS];
    struct sd_tensor *shadow[PARAMS], *param[PARAMS],
        *rate = sd_graph_input(g, "rate", SD_F32, 1, &(int64_t){1});
    int64_t n[PARAMS];
    for (int i = 0; i < PARAMS; i++) {
        const struct sd_store_entry *e = fixture(tf, "%s%s", "in.", names[i]);
        n[i] = (int64_t)(e->bytes / sizeof(float)) / (STEPS + 1);
        for (int k = 0; k < 2; k++) {
            memcpy(memory[2 * i + k], e->data, (size_t)n[i] * sizeof(float));
            var[2 * i + k] = state(names[i], memory[2 * i + k], n[i]);
        }
        shadow[i] = sd_graph_var(g, &var[2 * i], SD_F32);
        param[i] = sd_graph_var(g, &var[2 * i + 1], SD_F32);
    }
    sd_graph_ema(g, PARAMS, shadow, param, rate);
    struct sd_backend *b = sd_backend_new(backend, &err);
    struct sd_plan *p = b ? sd_plan_new(g, b, &err) : NULL;
    must(!p, &err);
    double worst = 0;
    const float *decay = fixture(tf, "%s%s", "out.", "decay")->data;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < PARAMS; i++) {
            const float *now = fixture(tf, "%s%s", "in.", names[i])->data;
            memcpy(memory[2 * i + 1], now + (step + 1) * n[i], (size_t)n[i] * sizeof(float));
            var_push(b, &var[2 * i + 1]);
        }
        *(float *)sd_plan_data(p, rate) = 1 - decay[step];
        plan_run(p);
        for (int i = 0; i < PARAMS; i++) {
            const float *want = fixture(tf, "%s%s", "out.", names[i])->data;
            var_pull(b, &var[2 * i]);
            for (int64_t k = 0; k < n[i]; k++)
                worst = fmax(worst, fabs((double)memory[2 * i][k] - (double)want[step * n[i] + k]));
        }
    }
    ok(worst < 5e-7 && decay[0] < decay[STEPS - 1], "%s: averages of %d steps (%.1e)", backend, STEPS, worst);
    sd_plan_free(p);
    sd_backend_free(b);
    sd_graph_free(g);
}

int main(void)
{
    struct sd_tensor_file *tf;
    struct sd_err err = {0};
    must(sd_tensor_file_open(&tf, "t/data/optim/ema.safetensors", &err), &err);
    check("ref", tf);
    check(test_backend(), tf);
    sd_tensor_file_close(tf);
    return tap_end();
}
