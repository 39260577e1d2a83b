/* Looking members up by name in an object of many thousands. */
#ifndef SD_RECORD_NAMES_H
#define SD_RECORD_NAMES_H

#include "record/record.h"

struct sd_names {
    const struct sd_record *record; /* borrowed, must not change */
    uint32_t *slots;                /* member index + 1, or 0; owned */
    size_t mask;
};

#define SD_NAMES_NONE SIZE_MAX

int sd_names_build(struct sd_names *n, const struct sd_record *record, struct sd_err *err);
size_t sd_names_find(const struct sd_names *n, const char *name,
                     size_t len); /* index of the member, or SD_NAMES_NONE */
void sd_names_free(struct sd_names *n);

#endif
