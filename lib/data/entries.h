/* The entries of a metadata file, found once and then read in any order, by several threads at once: 16 bytes
 * are kept of each. The file is one JSON object (record/members.h) or, where its name ends in .jsonl, an
 * object a line with a member image_path (library/train_util.py FineTuningDataset). */
#ifndef SD_DATA_ENTRIES_H
#define SD_DATA_ENTRIES_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sd_entries_order {
    SD_ENTRIES_IN_ORDER,
    SD_ENTRIES_LONGEST_FIRST, /* by the length of the name in characters, as sd-scripts takes them */
};

struct sd_entries { /* private but for n */
    size_t n, cap;
    struct sd_entry *v;
    int fd;
    bool lines;
};

struct sd_entry_text { /* what sd_entries_get fills: scratch of one thread, all zero at first */
    struct sd_buf text, name;
    const char *value; /* the entry's JSON text, in text */
    size_t value_len;
    bool again; /* an entry before it in the file has the same name */
};

/* On failure, which names the file, there is nothing to close. Damaged JSON and a missing file are failures.
 */
int sd_entries_open(struct sd_entries *e, const char *path, enum sd_entries_order order, struct sd_err *err);
int sd_entries_get(const struct sd_entries *e, size_t i, struct sd_entry_text *t, struct sd_err *err);
void sd_entries_close(struct sd_entries *e);
void sd_entry_text_free(struct sd_entry_text *t);

#endif
