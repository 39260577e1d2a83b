/* The data set configuration of sd-scripts: what a file, the folder convention and the command line say of
 * data sets, their subsets, and the parameters of both (library/config_util.py, docs/config_README-en.md).
 *
 *     [general]                 parameters of all data sets and subsets
 *     [[datasets]]              of one data set, and of all its subsets
 *       [[datasets.subsets]]    of one subset: a folder of pictures, or a metadata file
 *
 * A parameter of a subset is looked for in the subset, its data set, [general], the command line; one of a
 * data set in the data set, [general], the command line; then it has its default. A data set is of one kind,
 * which its subsets tell. */
#ifndef SD_DATA_CONFIG_H
#define SD_DATA_CONFIG_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "data/bucket.h"
#include "text/value.h"

/* ---- keys ---- */

enum sd_config_id {
    /* of data sets */
    SD_CONFIG_RESOLUTION,
    SD_CONFIG_BATCH_SIZE,
    SD_CONFIG_ENABLE_BUCKET,
    SD_CONFIG_MIN_BUCKET_RESO,
    SD_CONFIG_MAX_BUCKET_RESO,
    SD_CONFIG_BUCKET_RESO_STEPS,
    SD_CONFIG_BUCKET_NO_UPSCALE,
    SD_CONFIG_NETWORK_MULTIPLIER,
    SD_CONFIG_VALIDATION_SPLIT,
    SD_CONFIG_VALIDATION_SEED,
    /* of subsets: which pictures */
    SD_CONFIG_IMAGE_DIR,
    SD_CONFIG_METADATA_FILE,
    SD_CONFIG_CONDITIONING_DATA_DIR,
    SD_CONFIG_IS_REG,
    SD_CONFIG_CLASS_TOKENS,
    SD_CONFIG_CAPTION_EXTENSION,
    SD_CONFIG_CACHE_INFO,
    SD_CONFIG_NUM_REPEATS,
    /* of subsets: what training does with them, SD_CONFIG_FIRST_USE to the last */
    SD_CONFIG_SHUFFLE_CAPTION,
    SD_CONFIG_FIRST_USE = SD_CONFIG_SHUFFLE_CAPTION,
    SD_CONFIG_CAPTION_SEPARATOR,
    SD_CONFIG_KEEP_TOKENS,
    SD_CONFIG_KEEP_TOKENS_SEPARATOR,
    SD_CONFIG_SECONDARY_SEPARATOR,
    SD_CONFIG_ENABLE_WILDCARD,
    SD_CONFIG_CAPTION_PREFIX,
    SD_CONFIG_CAPTION_SUFFIX,
    SD_CONFIG_COLOR_AUG,
    SD_CONFIG_FLIP_AUG,
    SD_CONFIG_RANDOM_CROP,
    SD_CONFIG_FACE_CROP_AUG_RANGE,
    SD_CONFIG_TOKEN_WARMUP_MIN,
    SD_CONFIG_TOKEN_WARMUP_STEP,
    SD_CONFIG_CAPTION_DROPOUT_RATE,
    SD_CONFIG_CAPTION_TAG_DROPOUT_RATE,
    SD_CONFIG_CAPTION_DROPOUT_EVERY_N_EPOCHS,
    SD_CONFIG_ALPHA_MASK,
    SD_CONFIG_RESIZE_INTERPOLATION,
    SD_CONFIG_CUSTOM_ATTRIBUTES,
    SD_CONFIG_KEYS
};

enum sd_config_type {
    SD_CONFIG_BOOL,
    SD_CONFIG_INT,
    SD_CONFIG_FLOAT,  /* in a file: with a point, as sd-scripts wants it */
    SD_CONFIG_NUMBER, /* with or without one */
    SD_CONFIG_STRING,
    SD_CONFIG_SIZE,  /* one whole number or [width, height] */
    SD_CONFIG_RANGE, /* [low, high], with points */
    SD_CONFIG_TABLE,
};

enum sd_config_kind { SD_CONFIG_DREAMBOOTH, SD_CONFIG_FINE_TUNING, SD_CONFIG_CONTROLNET };
enum sd_config_place { SD_CONFIG_GENERAL = 1, SD_CONFIG_DATASET = 2, SD_CONFIG_SUBSET = 4 };

struct sd_config_key {
    const char *name;
    enum sd_config_type type;
    unsigned places, kinds;   /* bits: enum sd_config_place; 1 << enum sd_config_kind */
    const char *option;       /* its name on the command line, or NULL */
    const char *metavar;      /* of the option; for a choice the words: a|b|c */
    const char *help, *alias; /* of the option */
    double min, max;          /* of numbers, when they differ */
    int64_t otherwise;        /* default of whole numbers */
};

const struct sd_config_key *sd_config_key(enum sd_config_id id);

/* ---- values ---- */

struct sd_config_value {
    enum sd_config_id id;
    unsigned line; /* 0: not from a file */
    union {
        bool b;
        int64_t i;
        double d; /* float, number */
        const char *s;
        struct sd_size size;
        double range[2];
        const struct sd_value *table;
    };
    struct sd_config_value *next;
};

struct sd_config_subset {
    struct sd_config_value *values; /* those set here */
    unsigned line;
    bool dropped; /* by sd_config_check: it contributes nothing */
    struct sd_config_subset *next;
};

struct sd_config_dataset {
    struct sd_config_value *values;
    unsigned line;
    int64_t index; /* from 0 */
    enum sd_config_kind kind;
    struct sd_config_subset *subsets;
    struct sd_config_dataset *next;
};

struct sd_config {
    const char *file; /* borrowed; NULL: no file */
    struct sd_config_value *general, *options;
    struct sd_config_dataset *datasets, *last;
    /* Gets what people should know and nothing fails of; may be NULL. */
    void (*warn)(void *ctx, const char *message);
    void *ctx;
    struct sd_arena arena; /* holds it all */
};

#define SD_CONFIG_INIT ((struct sd_config){0})

void sd_config_free(struct sd_config *c);

/* ---- making one ---- */

/* Reads a file ending in .toml or .json. Unknown keys, keys out of place, wrong types, values out of range,
 * kinds that are mixed: errors, "FILE: line L, column C: what". */
int sd_config_read(struct sd_config *c, const char *path, struct sd_err *err);

/* The same for text in memory; messages do not name a file. */
int sd_config_parse(struct sd_config *c, const char *text, size_t len, bool json, struct sd_err *err);

/* One data set of the folders in train and, regularisation pictures, in reg (NULL: none), whose names are
 * <repeats>_<class tokens>, in the order of their names. Other folders are told to warn. */
int sd_config_add_folders(struct sd_config *c, const char *train, const char *reg, struct sd_err *err);

/* One data set of one subset: a metadata file, and the folder its pictures are in (may be NULL). */
int sd_config_add_metadata(struct sd_config *c, const char *file, const char *image_dir, struct sd_err *err);

/* Sets a value of the command line. Strings and tables are borrowed. */
int sd_config_set_option(struct sd_config *c, const struct sd_config_value *v, struct sd_err *err);

/* "lo,hi" of --face-crop-aug-range. */
int sd_config_parse_range(const char *text, double range[2], struct sd_err *err);

/* What can only be said of the whole: a resolution, buckets that can be, subsets that count twice or not at
 * all (dropped, with a warning). To be called once, at the end. */
int sd_config_check(struct sd_config *c, struct sd_err *err);

/* ---- reading it ---- */

/* The parameter's value, or NULL when it is set nowhere, or the data set's kind does not know it. s may be
 * NULL for parameters of data sets. */
const struct sd_config_value *sd_config_get(const struct sd_config *c, const struct sd_config_dataset *d,
                                            const struct sd_config_subset *s, enum sd_config_id id);
bool sd_config_bool(const struct sd_config *c, const struct sd_config_dataset *d,
                    const struct sd_config_subset *s, enum sd_config_id id);
int64_t sd_config_int(const struct sd_config *c, const struct sd_config_dataset *d,
                      const struct sd_config_subset *s, enum sd_config_id id); /* or its default */
const char *sd_config_string(const struct sd_config *c, const struct sd_config_dataset *d,
                             const struct sd_config_subset *s, enum sd_config_id id); /* or NULL */

/* Appends the members `dataset` and `subset` of the records (sd-record(5)), with a comma before each and
 * without `subset` where nothing is set. */
int sd_config_members(const struct sd_config *c, const struct sd_config_dataset *d,
                      const struct sd_config_subset *s, struct sd_buf *out, struct sd_err *err);

/* Appends a TOML text that says the same, command line included. */
int sd_config_toml(const struct sd_config *c, struct sd_buf *out, struct sd_err *err);

#endif
