/* "Did you mean": the known name that somebody who mistyped it had in mind. */
#ifndef SD_BASE_NEAREST_H
#define SD_BASE_NEAREST_H

#include <stddef.h>

/* The name nearest to word[len] by edit distance, where neighbours swapped count once; the first of equals,
 * or NULL when none is near. names ends with NULL. Words longer than 63 bytes are near to none. */
const char *sd_nearest_name(const char *word, size_t len, const char *const *names);

#endif
