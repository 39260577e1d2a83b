/* Cleaning of a record's members: strings, arrays of captions, arrays of tags. */
#ifndef SD_DATA_CLEAN_RECORD_H
#define SD_DATA_CLEAN_RECORD_H

#include "record/record.h"
#include "text/clean.h"

/* What a thread needs; {0} with the first three filled in. */
struct sd_clean_worker {
    bool captions, tags;   /* the members to clean */
    struct sd_cleaning by; /* with notes, which then point to those below, changes are told in `cleaned` */
    struct sd_clean_notes notes;
    struct sd_buf text, cleaned, json;
    struct sd_strings parts;
    uint64_t changed_captions, changed_tags; /* counted */
};

/* Cleans caption and tags; with notes a record that changed gets the member cleaned (sd-record(5)). 0 or -1.
 */
int sd_clean_record(struct sd_clean_worker *w, struct sd_record *r, struct sd_err *err);

void sd_clean_worker_free(struct sd_clean_worker *w);

#endif
