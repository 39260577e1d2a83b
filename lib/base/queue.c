#include "base/queue.h"

#include <stdlib.h>

int sd_queue_init(struct sd_queue *q, size_t cap, struct sd_err *err)
{
    *q = (struct sd_queue){.slots = calloc(cap, sizeof *q->slots), .cap = cap};
    if (!q->slots)
        return sd_err_memory(err, cap * sizeof *q->slots);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->room, NULL);
    pthread_cond_init(&q->filled, NULL);
    return 0;
}

void sd_queue_free(struct sd_queue *q)
{
    if (!q->slots)
        return;
    pthread_cond_destroy(&q->filled);
    pthread_cond_destroy(&q->room);
    pthread_mutex_destroy(&q->lock);
    free(q->slots);
    *q = (struct sd_queue){0};
}

void sd_queue_put(struct sd_queue *q, void *item)
{
    pthread_mutex_lock(&q->lock);
    while (q->count == q->cap)
        pthread_cond_wait(&q->room, &q->lock);
    q->slots[(q->first + q->count++) % q->cap] = item;
    pthread_cond_signal(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

void *sd_queue_take(struct sd_queue *q)
{
    void *item = NULL;
    pthread_mutex_lock(&q->lock);
    while (!q->count && !q->ended)
        pthread_cond_wait(&q->filled, &q->lock);
    if (q->count) {
        item = q->slots[q->first];
        q->first = (q->first + 1) % q->cap;
        q->count--;
        pthread_cond_signal(&q->room);
    }
    pthread_mutex_unlock(&q->lock);
    return item;
}

void sd_queue_end(struct sd_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->ended = true;
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

bool sd_queue_empty(struct sd_queue *q)
{
    pthread_mutex_lock(&q->lock);
    bool empty = !q->count;
    pthread_mutex_unlock(&q->lock);
    return empty;
}
