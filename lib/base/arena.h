/* Arena: memory that lives exactly as long as a graph, a record, a batch, and is freed in one call. */
#ifndef SD_BASE_ARENA_H
#define SD_BASE_ARENA_H

#include <stddef.h>

struct sd_arena_block;

struct sd_arena {
    struct sd_arena_block *head; /* private */
};

#define SD_ARENA_INIT ((struct sd_arena){0})

/* Zeroed memory aligned to 16 bytes, or NULL. A request of 0 bytes gives a valid pointer. */
void *sd_arena_alloc(struct sd_arena *a, size_t bytes);
void *sd_arena_array(struct sd_arena *a, size_t count, size_t size); /* checks the product */
char *sd_arena_strndup(struct sd_arena *a, const char *s, size_t len);
char *sd_arena_strdup(struct sd_arena *a, const char *s);
char *sd_arena_printf(struct sd_arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forgets everything but keeps one block for reuse. */
void sd_arena_reset(struct sd_arena *a);
void sd_arena_free(struct sd_arena *a);

#endif
