/* A temporary file without a name, in $TMPDIR or /tmp: it goes with the program, however that ends. */
#ifndef SD_BASE_TEMP_H
#define SD_BASE_TEMP_H

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>

/* A descriptor open for reading and writing, or -1. */
int sd_temp_open(struct sd_err *err);

/* The same as a stream, or NULL. */
FILE *sd_temp_stream(struct sd_err *err);

/* Writes all the bytes where the descriptor stands. 0 or -1. */
int sd_temp_write(int fd, const void *bytes, size_t len, struct sd_err *err);

/* What befalls such a file is this machine's fault: `what` with errno, as SD_ERR_MACHINE. Returns -1. */
int sd_temp_failed(struct sd_err *err, const char *what);

#endif
