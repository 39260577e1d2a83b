/* Runs a fuzz target without libFuzzer: mutates seed files for some seconds, or replays inputs.
 *     target -t SECONDS [-s SEED] FILE|FOLDER...     mutate (0 seconds: each seed as it is)
 * The input that crashes is kept in fuzz-crash-NAME. Which inputs are tried depends on the seed alone, so a
 * run can be repeated. */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_BYTES = 1 << 16, MOST_SEEDS = 4096 };

static struct {
    uint8_t *data;
    size_t size;
} seeds[MOST_SEEDS];
static size_t n_seeds;
static uint8_t input[2 * MOST_BYTES];
static size_t input_size;
static char crash_file[256];
static uint64_t state;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t n)
{
    return n ? (size_t)(next() % n) : 0;
}

/* The sanitizers call this as they end the program. */
static void keep_input(void)
{
    int fd = open(crash_file, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd >= 0 && write(fd, input, input_size) == (ssize_t)input_size)
        fprintf(stderr, "# the input is in %s\n", crash_file);
}

void __sanitizer_set_death_callback(void (*)(void)) __attribute__((weak));

static void add_seeds(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return;
    if (S_ISDIR(st.st_mode)) {
        struct dirent **list;
        int n = scandir(path, &list, NULL, alphasort);
        for (int i = 0; i < n; i++) {
            char inner[4096];
            snprintf(inner, sizeof inner, "%s/%s", path, list[i]->d_name);
            if (list[i]->d_name[0] != '.')
                add_seeds(inner);
            free(list[i]);
        }
        if (n >= 0)
            free(list);
        return;
    }
    FILE *f = fopen(path, "rb");
    if (!f || st.st_size > MOST_BYTES || n_seeds == MOST_SEEDS) {
        if (f)
            fclose(f);
        return;
    }
    seeds[n_seeds].data = malloc((size_t)st.st_size + 1);
    seeds[n_seeds].size = fread(seeds[n_seeds].data, 1, (size_t)st.st_size, f);
    n_seeds++;
    fclose(f);
}

static void mutate(void)
{
    static const uint32_t odd[] = {0,      1,      0x7f,       0x80,       0xff,      0x7fff,
                                   0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff};
    size_t at = below(input_size), n = 1 + below(8);
    switch (below(8)) {
    case 0: /* a bit */
        if (input_size)
            input[at] ^= (uint8_t)(1 << below(8));
        break;
    case 1: /* a byte */
        if (input_size)
            input[at] = (uint8_t)next();
        break;
    case 2: /* a number at its limits, both orders */
        if (input_size >= 4 && at <= input_size - 4) {
            uint32_t v = odd[below(sizeof odd / sizeof *odd)];
            v = next() & 1 ? __builtin_bswap32(v) : v;
            memcpy(input + at, &v, next() & 1 ? 4 : 2);
        }
        break;
    case 3: /* cut off */
        input_size = at;
        break;
    case 4: /* take out */
        n = n < input_size - at ? n : input_size - at;
        memmove(input + at, input + at + n, input_size - at - n);
        input_size -= n;
        break;
    case 5: /* repeat a piece */
        n = below(64);
        if (n <= input_size - at && input_size + n <= sizeof input) {
            memmove(input + at + n, input + at, input_size - at);
            input_size += n;
        }
        break;
    case 6: /* a piece of another seed */
        if (n_seeds) {
            size_t other = below(n_seeds), from = below(seeds[other].size);
            n = below(seeds[other].size - from + 1);
            if (n > sizeof input - at)
                n = sizeof input - at;
            memcpy(input + at, seeds[other].data + from, n);
            if (at + n > input_size)
                input_size = at + n;
        }
        break;
    default: /* a small step */
        if (input_size)
            input[at] += next() & 1 ? 1 : 255;
    }
}

static void run(size_t seed, size_t mutations)
{
    memcpy(input, seeds[seed].data, seeds[seed].size);
    input_size = seeds[seed].size;
    for (size_t i = 0; i < mutations; i++)
        mutate();
    uint8_t *exact = malloc(input_size ? input_size : 1); /* so that reading one byte too far is seen */
    memcpy(exact, input, input_size);
    LLVMFuzzerTestOneInput(exact, input_size);
    free(exact);
}

int main(int argc, char **argv)
{
    double seconds = 1;
    uint64_t runs = 0, seed = 1;
    int c;
    while ((c = getopt(argc, argv, "t:s:")) != -1) {
        if (c == 't')
            seconds = atof(optarg);
        else if (c == 's')
            seed = strtoull(optarg, NULL, 10);
        else
            return 2;
    }
    const char *base = strrchr(argv[0], '/');
    snprintf(crash_file, sizeof crash_file, "fuzz-crash-%s", base ? base + 1 : argv[0]);
    state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
    for (int i = optind; i < argc; i++)
        add_seeds(argv[i]);
    if (!n_seeds)
        seeds[n_seeds++].data = calloc(1, 1);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(keep_input);
    for (size_t i = 0; i < n_seeds; i++, runs++)
        run(i, 0);
    for (time_t end = time(NULL) + (time_t)seconds; seconds > 0 && time(NULL) < end; runs++)
        run(below(n_seeds), 1 + below(6));
    for (size_t i = 0; i < n_seeds; i++)
        free(seeds[i].data);
    printf("%llu inputs\n", (unsigned long long)runs);
    return 0;
}
