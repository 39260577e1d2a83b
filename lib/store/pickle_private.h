/* Between the machine that runs opcodes (pickle.c) and the names it knows (pickle_globals.c). */
#ifndef SD_STORE_PICKLE_PRIVATE_H
#define SD_STORE_PICKLE_PRIVATE_H

#include "store/pickle.h"

struct sd_unpickler {
    struct sd_pickle *out;
    const unsigned char *bytes;
    size_t size, at;
    struct sd_pickle_value **stack;
    size_t depth, stack_room;
    size_t *marks; /* depths of the stack */
    size_t mark_count, mark_room;
    struct sd_pickle_value **memo;
    size_t memo_room, memo_next;
    struct sd_pickle_value *none, *no, *yes, *empty; /* shared by all their uses, as are: */
    struct sd_pickle_value *small;                   /* the integers from 0 to 255 */
    struct sd_err *err;
};

/* The next n bytes of the pickle, or NULL after an error; and what they may be. */
const unsigned char *sd_unpickle_take(struct sd_unpickler *u, uint64_t n);
int sd_unpickle_uint(struct sd_unpickler *u, int bytes, uint64_t *v);
int sd_unpickle_line(struct sd_unpickler *u, const char **line, size_t *len); /* without its end */
int sd_unpickle_number(struct sd_unpickler *u, char text[64]); /* a short line, with a NUL behind it */

/* Onto the stack; NULL stands for what could not be made, after an error. */
int sd_unpickle_push(struct sd_unpickler *u, struct sd_pickle_value *v);
int sd_unpickle_text(struct sd_unpickler *u, enum sd_pickle_kind kind, const void *text, size_t len);

/* Runs an opcode that pushes one value; any other is an error. */
int sd_unpickle_scalar(struct sd_unpickler *u, unsigned char op);

/* From the arena, counted. NULL after an error. */
void *sd_unpickle_alloc(struct sd_unpickler *u, size_t count, size_t size);
struct sd_pickle_value *sd_unpickle_value(struct sd_unpickler *u, enum sd_pickle_kind kind);
int sd_unpickle_append(struct sd_unpickler *u, struct sd_pickle_value *list,
                       struct sd_pickle_value *const *items, size_t n);

/* All three below return NULL after an error. The name, which must be one that is known. */
struct sd_pickle_value *sd_unpickle_global(struct sd_unpickler *u, const char *module, size_t module_len,
                                           const char *name, size_t name_len);
/* What the pickle means when it calls `callee` with the tuple `args`. */
struct sd_pickle_value *sd_unpickle_call(struct sd_unpickler *u, struct sd_pickle_value *callee,
                                         struct sd_pickle_value *args);
/* What a persistent id stands for: a storage. */
struct sd_pickle_value *sd_unpickle_persistent(struct sd_unpickler *u, const struct sd_pickle_value *id);

/* Gives an object its attributes. */
int sd_unpickle_build(struct sd_unpickler *u, struct sd_pickle_value *v, struct sd_pickle_value *state);

/* Where the items that SETITEMS or APPENDS add to v go; `dict` tells which. NULL after an error. */
struct sd_pickle_value *sd_unpickle_items(struct sd_unpickler *u, struct sd_pickle_value *v, bool dict);

#endif
