/* A folder of files that appears whole or not at all.
 *
 * The files go to a hidden folder beside the target, which gets its name when all of them are on disk. A
 * target that exists changes places with the new one in one step and is removed then, all that is in it:
 * whether it may be is for the caller to find out first. A program that is killed without notice leaves the
 * hidden folder, .sd-*.tmp, behind. */
#ifndef SD_BASE_FOLDER_H
#define SD_BASE_FOLDER_H

#include "base/err.h"

struct sd_folder; /* a folder being filled */

/* path must be free or a folder. The error names path. On failure *f is NULL. */
int sd_folder_open(struct sd_folder **f, const char *path, struct sd_err *err);

/* Where the files go until then. */
const char *sd_folder_path(const struct sd_folder *f);

/* A folder in it, which may be there already. */
int sd_folder_make(struct sd_folder *f, const char *name, struct sd_err *err);

/* Ends and frees *f in every case and sets it to NULL; on failure nothing has changed at path. */
int sd_folder_commit(struct sd_folder **f, struct sd_err *err);

/* Removes what is there. Takes a pointer to NULL. */
void sd_folder_discard(struct sd_folder **f);

#endif
