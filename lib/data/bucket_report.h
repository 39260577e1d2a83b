/* What sd-bucket tells of the buckets of data sets. */
#ifndef SD_DATA_BUCKET_REPORT_H
#define SD_DATA_BUCKET_REPORT_H

#include "base/buf.h"
#include "data/balance.h"
#include "data/bucket_count.h"

/* Appends what a data set is called before its lines, "[Dataset 0]\n"; nothing for the command line's. */
int sd_bucket_add_title(struct sd_buf *out, const struct sd_bucket_dataset *set);

/* Appends a table with a line for each bucket: size, pictures, pictures with repeats, and a bar as long as
 * these. */
int sd_bucket_add_histogram(struct sd_buf *out, const struct sd_bucket_table *t);

/* Appends all there is to know of all data sets that have pictures, and what other settings would do: as text
 * for people, or as one JSON object and a newline. balance: of regularisation pictures. 0 or -1 with err. */
int sd_bucket_report(struct sd_buf *out, const struct sd_bucket_datasets *sets,
                     const struct sd_bucket_counts *counts, const struct sd_balance *balance, bool json,
                     struct sd_err *err);

#endif
