/* sd_rng against torch's CPU generator and sd_pyrandom against Python's random, case by case from
 * t/data/rng/rng.txt (made by t/ref/rng.py); then that a copied state continues alike. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

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

int main(void)
{
    test_fixture();
    test_saved_state();
    return tap_end();
}
