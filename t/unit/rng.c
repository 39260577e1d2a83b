/* sd_rng against torch's CPU generator and sd_pyrandom against Python's random, case by case from
 * t/data/rng/rng.txt (made by t/ref/rng.py); then that a copied state continues alike; and Philox against the
 * authors' test vectors (Random123's kat_vectors), against curand (t/data/rng/philox.txt, made by
 * t/ref/philox.cu), and against values of torch.randn on a card that PyTorch's users have shown. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/philox.h"
#include "base/pyrandom.h"
#include "base/rng.h"
#include "tap.h"

/* Draws n values of operation op into buf (8 bytes a value are enough); returns the width of a value. */
static size_t draw(struct sd_rng *rng, struct sd_pyrandom *py, const char *op, char **arg, void *buf,
                   size_t n)
{
    float *f = buf;
    double *d = buf;
    int64_t *q = buf;
    if (!strcmp(op, "randn"))
        return sd_rng_randn(rng, f, n), 4;
    if (!strcmp(op, "rand"))
        return sd_rng_rand(rng, f, n), 4;
    if (!strcmp(op, "normal"))
        return sd_rng_normal(rng, atof(arg[0]), atof(arg[1]), f, n), 4;
    if (!strcmp(op, "uniform"))
        return sd_rng_uniform(rng, (float)atof(arg[0]), (float)atof(arg[1]), f, n), 4;
    if (!strcmp(op, "randint"))
        return sd_rng_randint(rng, atoll(arg[0]), atoll(arg[1]), q, n), 8;
    if (!strcmp(op, "randperm"))
        return sd_rng_randperm(rng, q, n), 8;
    if (!strcmp(op, "py.shuffle")) {
        for (size_t i = 0; i < n; i++)
            q[i] = (int64_t)i;
        return sd_pyrandom_shuffle(py, q, n, sizeof *q), 8;
    }
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(op, "int63"))
            q[i] = sd_rng_int63(rng);
        else if (!strcmp(op, "py.random"))
            d[i] = sd_pyrandom_random(py);
        else if (!strcmp(op, "py.uniform"))
            d[i] = sd_pyrandom_uniform(py, atof(arg[0]), atof(arg[1]));
        else if (!strcmp(op, "py.randint"))
            q[i] = sd_pyrandom_randint(py, atoll(arg[0]), atoll(arg[1]));
        else if (!strcmp(op, "py.bits"))
            q[i] = (int64_t)sd_pyrandom_getrandbits(py, atoi(arg[0]));
        else if (!strcmp(op, "py.choice"))
            q[i] = (int64_t)sd_pyrandom_below(py, strtoull(arg[0], NULL, 10));
        else
            return 0;
    }
    return 8;
}

static int run_case(char *line, struct sd_rng *rng, struct sd_pyrandom *py)
{
    char *word[12];
    int words = 0;
    for (char *w = strtok(line, " \n"); w && words < 12; w = strtok(NULL, " \n"))
        word[words++] = w;
    if (words < 6)
        return 0;
    const char *seed = word[0], *op = word[1];
    if (!strncmp(op, "py.", 3)) {
        if (strcmp(seed, "-"))
            sd_pyrandom_seed(py, strtoll(seed, NULL, 10));
    } else if (strcmp(seed, "-")) {
        sd_rng_seed(rng, strtoull(seed, NULL, 10));
    }
    size_t n = strtoull(word[words - 4], NULL, 10);
    unsigned char *buf = calloc(n + 1, 8);
    if (!buf)
        return 0;
    size_t width = draw(rng, py, op, word + 2, buf, n);
    uint64_t first = 0, last = 0;
    if (n > 0) {
        memcpy(&first, buf, width);
        memcpy(&last, buf + (n - 1) * width, width);
    }
    int good = width > 0 && first == strtoull(word[words - 2], NULL, 16) &&
               last == strtoull(word[words - 1], NULL, 16) &&
               crc32_z(0, buf, n * width) == strtoul(word[words - 3], NULL, 16);
    if (!good)
        printf("# first %llx last %llx crc %08lx\n", (unsigned long long)first, (unsigned long long)last,
               crc32_z(0, buf, n * width));
    free(buf);
    return good;
}

static void test_fixture(void)
{
    FILE *in = fopen("t/data/rng/rng.txt", "r");
    if (!in) {
        printf("# t/data/rng/rng.txt: %s\n", strerror(errno));
        ok(0, "fixture is there");
        return;
    }
    struct sd_rng rng;
    struct sd_pyrandom py;
    sd_rng_seed(&rng, 0);
    sd_pyrandom_seed(&py, 0);
    char line[512], copy[512];
    while (fgets(line, sizeof line, in)) {
        strcpy(copy, line);
        copy[strcspn(copy, "\n")] = 0;
        ok(run_case(line, &rng, &py), "%s", copy);
    }
    fclose(in);
}

static void test_saved_state(void)
{
    struct sd_rng a, b;
    float x[40], y[40];
    sd_rng_seed(&a, 99);
    sd_rng_randn(&a, x, 3); /* leaves a second value waiting */
    b = a;
    sd_rng_randn(&a, x, 40);
    sd_rng_randn(&b, y, 40);
    ok(!memcmp(x, y, sizeof x), "a copied generator continues alike (block path)");
    sd_rng_randn(&a, x, 1);
    sd_rng_randn(&b, y, 1);
    ok(!memcmp(x, y, sizeof *x), "a copied generator continues alike (waiting value)");

    struct sd_pyrandom p, q;
    sd_pyrandom_seed(&p, 99);
    sd_pyrandom_random(&p);
    q = p;
    ok(sd_pyrandom_random(&p) == sd_pyrandom_random(&q), "a copied pyrandom continues alike");

    uint32_t key[3] = {1, 0, 0};
    sd_pyrandom_seed(&p, 1);
    sd_pyrandom_seed_words(&q, key, 1);
    ok(sd_pyrandom_random(&p) == sd_pyrandom_random(&q), "seed words give the seed of the integer");
}

static void test_philox_words(void)
{
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        uint32_t out[4];
        sd_philox4x32(known[i].counter, known[i].key, out);
        ok(!memcmp(out, known[i].out, sizeof out), "Philox 4x32-10, known answer %zu", i + 1);
    }
}

/* One line of philox.txt. */
static void check_philox(char *line)
{
    char *at = line;
    struct sd_philox p = {.seed = strtoull(at, &at, 10)};
    p.offset = strtoull(at, &at, 10);
    uint64_t after = strtoull(at, &at, 10), threads = strtoull(at, &at, 10);
    size_t n = strtoull(at, &at, 10), shown = n < 40 ? n : 40;
    float *y = malloc(n * sizeof *y);
    double worst = 0;
    sd_philox_randn(&p, threads, y, n);
    for (size_t i = 0; i < shown; i++)
        worst = fmax(worst, fabs((double)y[shown < 2 ? 0 : i * (n - 1) / (shown - 1)] - strtod(at, &at)));
    ok(worst < 2e-6 && p.offset == after, "curand's normal numbers, %zu by %llu threads (%.1e)", n,
       (unsigned long long)threads, worst);
    free(y);
}

static void test_philox(void)
{
    static const float card[] = {0.1940f, 2.1614f, -0.1721f, 0.8491f};
    struct sd_philox p = {.seed = 42};
    char line[2048];
    float y[4];
    bool same = true;
    FILE *in = fopen("t/data/rng/philox.txt", "r");
    int cases = 0;
    for (; in && fgets(line, sizeof line, in); cases++)
        check_philox(line);
    if (in)
        fclose(in);
    ok(cases == 10, "%d draws", cases);
    sd_philox_randn(&p, 0, y, 4);
    for (int i = 0; i < 4; i++)
        same &= fabsf(y[i] - card[i]) < 5.1e-5f;
    ok(same, "torch.manual_seed(42); torch.randn(4, device=\"cuda\")");
    p = (struct sd_philox){0};
    ok(fabsf(sd_philox_rand(&p) - 0.3990f) < 5.1e-5f && p.offset == 4,
       "torch.manual_seed(0); torch.rand(1, device=\"cuda\")");
}

int main(void)
{
    test_fixture();
    test_philox_words();
    test_philox();
    test_saved_state();
    return tap_end();
}
