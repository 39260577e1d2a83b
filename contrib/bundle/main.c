/* All programs of a bundle in one executable, which runs the one whose name it is called by: apart, each
 * would carry a copy of the compute core. programs.h has a line PROGRAM("sd-train", sd_train) for each; the
 * Makefile makes it, and renames their main(). */
#include <stdio.h>
#include <string.h>

#define PROGRAM(name, symbol) int sd_main_##symbol(int argc, char **argv);
#include "programs.h"
#undef PROGRAM

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} programs[] = {
#define PROGRAM(name, symbol) {name, sd_main_##symbol},
#include "programs.h"
#undef PROGRAM
};

int main(int argc, char **argv)
{
    const size_t n = sizeof programs / sizeof *programs;
    const char *slash = argc ? strrchr(argv[0], '/') : NULL, *name = slash ? slash + 1 : argc ? argv[0] : "";
    for (size_t i = 0; i < n; i++)
        if (!strcmp(programs[i].name, name))
            return programs[i].run(argc, argv);
    fputs("sd: this file is all programs in one; call it by a link that has the name of one of these:\n",
          stderr);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, "  %s\n", programs[i].name);
    return 2;
}
