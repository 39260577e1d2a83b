/* TAP for the unit tests: ok() for each check, and main returns tap_end(). */
#ifndef SD_T_TAP_H
#define SD_T_TAP_H

#include <stdarg.h>
#include <stdio.h>

static int tap_count, tap_failures;

/* Prints the line of a check; returns good. */
__attribute__((format(printf, 2, 3))) static inline int ok(int good, const char *name, ...)
{
    va_list args;
    va_start(args, name);
    printf("%sok %d - ", good ? "" : "not ", ++tap_count);
    vprintf(name, args);
    putchar('\n');
    va_end(args);
    tap_failures += !good;
    return good;
}

/* The line of a check that this machine cannot do. */
static inline void skip(const char *name, const char *why)
{
    printf("ok %d - %s # SKIP %s\n", ++tap_count, name, why);
}

/* Prints the plan; the exit status of the test. */
static inline int tap_end(void)
{
    printf("1..%d\n", tap_count);
    return tap_failures != 0;
}

#endif
