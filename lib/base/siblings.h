/* The files that lie beside a file under its name with other endings: a.txt and a.caption beside a.jpg. Each
 * folder is read once, at its first use; safe from several threads. */
#ifndef SD_BASE_SIBLINGS_H
#define SD_BASE_SIBLINGS_H

#include "base/err.h"
#include "base/options.h" /* struct sd_strings */

struct sd_siblings;

struct sd_siblings *sd_siblings_new(struct sd_err *err); /* NULL when memory is out */
void sd_siblings_free(struct sd_siblings *s);

/* Adds to *names, sorted, what path's folder holds that begins with the name of path without its ending, and
 * a dot: file names without the folder, path's own among them. The strings live as long as s. 0 or -1. */
int sd_siblings_find(struct sd_siblings *s, const char *path, struct sd_strings *names, struct sd_err *err);

#endif
