/* One record takes members from another of the same picture. */
#ifndef SD_DATA_JOIN_H
#define SD_DATA_JOIN_H

#include "record/record.h"

enum sd_join_way {
    SD_JOIN_LAST,  /* the other's counts */
    SD_JOIN_FIRST, /* the record's own counts where it has one */
    SD_JOIN_BOTH,  /* both, as a list of strings without doubles */
};

struct sd_join_rules {
    enum sd_join_way way;                /* of members that no list names */
    struct sd_strings first, last, both; /* names of members */
};

enum sd_join_way sd_join_way(const struct sd_join_rules *rules, const char *name);

/* Gives r the members of from, except path; null counts as absent. metadata_caption and metadata_tags belong
 * to caption and tags: they come and go with these. Lists stay lists; two strings that are the same stay one
 * string. 0, or -1 with err: members that are no strings cannot be joined. scratch is for the function's own
 * use. */
int sd_join(struct sd_record *r, struct sd_record *from, const struct sd_join_rules *rules,
            struct sd_buf *scratch, struct sd_err *err);

#endif
