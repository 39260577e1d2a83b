/* What the two files behind identify.h share. */
#ifndef SD_ADAPTER_IDENTIFY_PRIVATE_H
#define SD_ADAPTER_IDENTIFY_PRIVATE_H

#include "adapter/identify.h"
#include "model/listing.h"

/* A tensor of a file, or of a file of a folder; then its name has the part's in front: "unet.conv_in.weight".
 */
struct sd_id_key {
    const char *name;
    const struct sd_store_entry *entry;
};

struct sd_id_keys {
    struct sd_id_key *v;
    size_t count;
    struct sd_tensor_file *files[64];
    size_t file_count;
    struct sd_arena arena;
};

int sd_id_keys_open(struct sd_id_keys *keys, const char *path, struct sd_err *err);
void sd_id_keys_close(struct sd_id_keys *keys);

/* A value of the metadata of any of the files, or NULL. */
const char *sd_id_meta(const struct sd_id_keys *keys, const char *name);

/* Fills what is known of models that this toolkit can open. */
int sd_id_check(struct sd_identity *id, const struct sd_id_keys *keys, const char *path, struct sd_err *err);

#endif
