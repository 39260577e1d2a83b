/* What the readers of all formats fill. */
#ifndef SD_STORE_TENSOR_FILE_PRIVATE_H
#define SD_STORE_TENSOR_FILE_PRIVATE_H

#include "base/arena.h"
#include "base/filemap.h"
#include "store/npz.h"
#include "store/tensor_file.h"

struct sd_tensor_slot {
    struct sd_store_entry e; /* first: an entry that was handed out is its slot */
    size_t shard;
    /* where e.data is NULL, one of: */
    const int64_t *stride; /* in elements from the first one, which lies at `from` */
    const unsigned char *from;
    const struct sd_store_entry *packed; /* of npz */
};

struct sd_tensor_file {
    struct sd_filemap map;
    bool borrowed; /* the map is the caller's */
    bool is_shard; /* and so no index itself */
    struct sd_arena arena;
    const char *path, *format;
    struct sd_tensor_slot *slots; /* in data order; owned */
    size_t count, room;
    const struct sd_store_entry **by_name;
    struct sd_store_meta *meta;
    size_t meta_count;
    struct sd_npz *npz;
    struct sd_tensor_file **shards;
    size_t shard_count;
};

/* A new slot, all zero; NULL after an error. Those before it may move. */
struct sd_tensor_slot *sd_tensor_file_add(struct sd_tensor_file *tf, struct sd_err *err);

/* Sorts the slots and makes them findable; no name may come twice. After the last was added. */
int sd_tensor_file_index(struct sd_tensor_file *tf, struct sd_err *err);

/* sd_tensor_file_open, also of a shard. */
int sd_tensor_file_open_part(struct sd_tensor_file **tf, const char *path, bool shard, struct sd_err *err);

/* The readers: all slots, sorted and indexed, and the metadata, from tf->map. */
int sd_safetensors_read(struct sd_tensor_file *tf, struct sd_err *err);
int sd_torch_read_legacy(struct sd_tensor_file *tf, struct sd_err *err);
int sd_shards_read(struct sd_tensor_file *tf, struct sd_err *err);

struct sd_zip;
bool sd_torch_is(const struct sd_zip *zip); /* has a data.pkl */
int sd_torch_read_zip(struct sd_tensor_file *tf, const struct sd_zip *zip, struct sd_err *err);

#endif
