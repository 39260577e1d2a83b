/* Errors: how every library function of the toolkit says what went wrong.
 *
 * A function that can fail returns 0 or -1 (or a pointer or NULL) and fills the caller's struct sd_err with
 * one complete sentence: the file or record, the place in it, what was found and what was expected.
 * Nothing in lib/ prints or exits; cmd/ decides. The code is the exit status the failure calls for. */
#ifndef SD_BASE_ERR_H
#define SD_BASE_ERR_H

#include <stddef.h>

enum sd_err_code {
    SD_ERR_DATA = 1,    /* the input is at fault: a broken picture, a bad record */
    SD_ERR_USAGE = 2,   /* options or configuration are at fault */
    SD_ERR_MACHINE = 3, /* this machine is: no memory, disk full, no device */
};

struct sd_err {
    int code; /* enum sd_err_code; 0 while nothing failed */
    char msg[512];
};

/* Fills err (which may be NULL) and returns -1, so that a failing line reads `return sd_err_set(...)`. */
int sd_err_set(struct sd_err *err, enum sd_err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message already in err; returns -1. For adding the file to an inner message. */
int sd_err_prefix(struct sd_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "out of memory" with the number of bytes asked for; returns -1. */
int sd_err_memory(struct sd_err *err, size_t bytes);

/* "what: strerror(errno)". The code is SD_ERR_MACHINE for a full disk and the like, else SD_ERR_DATA. */
int sd_err_errno(struct sd_err *err, const char *what);

#endif
