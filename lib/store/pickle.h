/* Reading Python pickles, protocols 0 to 5, as far as torch.save uses them (CPython's Lib/pickletools.py
 * tells the opcodes, torch/serialization.py what is made of them).
 *
 * A pickle is a program: opcodes that push values, and REDUCE, NEWOBJ, OBJ, INST, which call whatever it
 * names. This reader has nothing it could call. It builds plain values and descriptions of tensors, and it
 * knows the few names that model files use by a table (pickle_globals.c). Each of those stands for one of:
 *
 *   - something that is made here: OrderedDict, Size, set, _codecs.encode (text to bytes), torch._utils'
 * _rebuild_*, the storage and element types;
 *   - an inert class: a name without any behaviour, kept as an SD_PICKLE_OBJECT with what the pickle gave it,
 * because PyTorch Lightning's checkpoints (v1-5-pruned.ckpt) have such beside their weights.
 *
 * Every other name ends the reading with a message that tells it, be it called or not: what is refused does
 * not hang on how a file uses it.
 *
 * A pickle may ask for much in few bytes (a list in each, memo indices of 2^32, one large value used a
 * thousand times). All memory is counted, also what is made of the values (sd_pickle_spend), and must never
 * exceed SD_PICKLE_FACTOR times the bytes that were read so far and SD_PICKLE_ALLOWANCE; a pickle that asks
 * for more is refused, so is one of more than SD_PICKLE_LIMIT bytes. Checkpoints take 4 to 8 times their
 * pickles. Nesting costs no stack here, but values may contain themselves: who walks them must bound how deep
 * and how long. */
#ifndef SD_STORE_PICKLE_H
#define SD_STORE_PICKLE_H

#include "base/arena.h"
#include "store/dtype.h"

#define SD_PICKLE_LIMIT ((size_t)16 << 20)
#define SD_PICKLE_FACTOR 16
#define SD_PICKLE_ALLOWANCE ((size_t)1 << 16)

enum sd_pickle_kind {
    SD_PICKLE_NONE,
    SD_PICKLE_BOOL,
    SD_PICKLE_INT,
    SD_PICKLE_LONG, /* an integer beyond 64 bits */
    SD_PICKLE_FLOAT,
    SD_PICKLE_STR,
    SD_PICKLE_BYTES,
    SD_PICKLE_TUPLE,
    SD_PICKLE_LIST,
    SD_PICKLE_SET,
    SD_PICKLE_DICT,
    SD_PICKLE_STORAGE,
    SD_PICKLE_TENSOR,
    SD_PICKLE_GLOBAL, /* a name itself: a class, an element type */
    SD_PICKLE_OBJECT, /* of an inert class */
};

/* A piece of memory that tensors lie in, which the pickle only names. */
struct sd_pickle_storage {
    const char *key; /* not NUL-terminated */
    size_t key_len;
    enum sd_store_dtype dtype; /* U8 for an untyped one */
    uint64_t elements;
    uint64_t view; /* elements before the ones that are meant (files of 2017) */
    const struct sd_pickle_storage *next;
};

struct sd_pickle_tensor {
    const struct sd_pickle_storage *storage;
    enum sd_store_dtype dtype; /* the storage's but where that is untyped */
    uint64_t offset;           /* in elements, like the strides */
    int ndim;
    const int64_t *shape, *stride; /* none negative, nothing else is checked */
};

struct sd_pickle_object {
    const struct sd_pickle_global *class;
    const struct sd_pickle_value *args;  /* a tuple, what its class would be called with */
    const struct sd_pickle_value *state; /* its attributes, or NULL */
    struct sd_pickle_value *items;       /* what was put into it as a dict or list, or NULL */
};

/* 16 bytes: there are as many as a file likes. */
struct sd_pickle_value {
    enum sd_pickle_kind kind;
    union {
        uint32_t len;   /* STR, BYTES, LONG: bytes of the text */
        uint32_t count; /* TUPLE, LIST, SET, DICT: items */
    };
    union {
        int64_t integer; /* BOOL, INT */
        double number;
        const char *text; /* STR (UTF-8), BYTES, LONG (little-endian two's complement); no NUL behind */
        struct sd_pickle_value **items; /* of a DICT keys and values in turn, 2 for each pair */
        const struct sd_pickle_storage *storage;
        const struct sd_pickle_tensor *tensor;
        const struct sd_pickle_global *global;
        struct sd_pickle_object *object;
    };
};

struct sd_pickle {
    struct sd_arena arena; /* of all values; texts lie in the bytes that were parsed */
    const struct sd_pickle_value *value;
    const struct sd_pickle_storage *storages; /* every one that was named, the last first */
    size_t used;                              /* bytes of the pickle, up to its end */
    size_t spent;                             /* bytes of memory, against what `used` allows */
};

/* One pickle from the first of `size` bytes, which must outlive it; more may follow. On failure *p holds
 * nothing; the message tells the byte and what is wrong there. */
int sd_pickle_parse(struct sd_pickle *p, const void *bytes, size_t size, struct sd_err *err);
void sd_pickle_free(struct sd_pickle *p);

/* Counts memory that is about to be made of the pickle's values. -1 when it is more than they may cost. */
int sd_pickle_spend(struct sd_pickle *p, size_t bytes, struct sd_err *err);

/* The value of a key in a dict, the last where there are more; NULL without, and when dict is none. */
const struct sd_pickle_value *sd_pickle_get(const struct sd_pickle_value *dict, const char *key);

bool sd_pickle_is_text(const struct sd_pickle_value *v, const char *text); /* a STR with this content */

const char *sd_pickle_name(const struct sd_pickle_global *g);

#endif
