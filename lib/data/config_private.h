/* What the config_*.c share. */
#ifndef SD_DATA_CONFIG_PRIVATE_H
#define SD_DATA_CONFIG_PRIVATE_H

#include "data/config.h"

/* Reads JSON text into a tree whose values know their places, as TOML becomes one. A name that is twice in an
 * object is an error. */
int sd_config_json_tree(struct sd_arena *arena, const char *text, size_t len, struct sd_value *root,
                        struct sd_err *err);

/* New ones at the end of their lists; NULL with err when memory is out. */
struct sd_config_value *sd_config_add_value(struct sd_config *c, struct sd_config_value **list,
                                            enum sd_config_id id, struct sd_err *err);
struct sd_config_dataset *sd_config_add_dataset(struct sd_config *c, struct sd_err *err);
struct sd_config_subset *sd_config_add_subset(struct sd_config *c, struct sd_config_dataset *d,
                                              struct sd_config_subset *last, struct sd_err *err);

const struct sd_config_value *sd_config_find(const struct sd_config_value *list, enum sd_config_id id);

/* The number may be the key's value. */
int sd_config_check_number(const struct sd_config_key *k, double v, struct sd_err *err);
bool sd_config_is_choice(const struct sd_config_key *k, const char *s);

void sd_config_warn(const struct sd_config *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
