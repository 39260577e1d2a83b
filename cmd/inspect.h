/* What the parts of sd-inspect share. */
#ifndef CMD_INSPECT_H
#define CMD_INSPECT_H

#include "cmd.h"
#include "model/model_file.h"

struct inspect {
    struct sd_cmd c;
    bool metadata_only, tensors_only, parameters, stats, hash, parse_metadata, lora, identify;
    struct sd_model_file *model; /* of the argument at hand, under --parameters; else NULL */
    struct sd_buf scratch;
};

/* Tells of err on standard error and sets the status. */
void inspect_warn(struct inspect *in, const struct sd_err *err);

/* The same, and a line about path with the error in it. */
void inspect_fail(struct inspect *in, const char *path, const struct sd_err *err);

/* ---- --lora ---- */

struct lora_report;

/* Opens path as a network and computes its norms. On failure *r is NULL. */
int lora_report_new(struct lora_report **r, struct inspect *in, const char *path, struct sd_err *err);
void lora_report_free(struct lora_report *r); /* takes NULL */

int lora_set_network(const struct lora_report *r, struct sd_record *record); /* sets "network" */
void lora_put_modules(const struct lora_report *r);                          /* a line for each module */

/* ---- --identify ---- */

/* The line about a file, or about a model folder as a whole. */
void inspect_identify(struct inspect *in, const char *path);

#endif
