/* A queue of bounded length between threads. */
#ifndef SD_BASE_QUEUE_H
#define SD_BASE_QUEUE_H

#include "base/err.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct sd_queue { /* private */
    pthread_mutex_t lock;
    pthread_cond_t room, filled;
    void **slots;
    size_t cap, first, count;
    bool ended;
};

int sd_queue_init(struct sd_queue *q, size_t cap, struct sd_err *err);
void sd_queue_free(struct sd_queue *q); /* once no thread uses it any more */

void sd_queue_put(struct sd_queue *q, void *item); /* waits while the queue is full */
void *sd_queue_take(struct sd_queue *q); /* first in, first out; waits; NULL once it has ended and is empty */
void sd_queue_end(struct sd_queue *q);   /* nothing is put any more */
bool sd_queue_empty(struct sd_queue *q); /* sd_queue_take would have to wait, or has nothing left */

#endif
