#include "base/ordered.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

struct run {
    const struct sd_ordered *o;
    pthread_mutex_t lock;
    pthread_cond_t room;
    size_t next, finished; /* to be started; to be finished */
    bool *done;            /* [window] */
    bool finishing;
};

struct thread {
    struct run *run;
    int index;
    pthread_t id;
};

/* Finishes what can be, unless another thread is at it. The lock is held, and released on the way. */
static void finish_ready(struct run *r)
{
    if (r->finishing)
        return;
    r->finishing = true;
    while (r->done[r->finished % r->o->window]) {
        size_t item = r->finished;
        pthread_mutex_unlock(&r->lock);
        r->o->finish(r->o->ctx, item);
        pthread_mutex_lock(&r->lock);
        r->done[item % r->o->window] = false;
        r->finished++;
        pthread_cond_broadcast(&r->room);
    }
    r->finishing = false;
}

static void *run_thread(void *arg)
{
    struct thread *t = arg;
    struct run *r = t->run;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (r->next < r->o->n && r->next - r->finished >= r->o->window)
            pthread_cond_wait(&r->room, &r->lock);
        if (r->next >= r->o->n)
            break;
        size_t item = r->next++;
        pthread_mutex_unlock(&r->lock);
        r->o->work(r->o->ctx, t->index, item);
        pthread_mutex_lock(&r->lock);
        r->done[item % r->o->window] = true;
        finish_ready(r);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

static int run_threads(struct run *r, int jobs, struct sd_err *err)
{
    struct thread *threads = calloc((size_t)jobs, sizeof *threads);
    if (!threads)
        return sd_err_memory(err, (size_t)jobs * sizeof *threads);
    int started = 1;
    for (; started < jobs; started++) {
        threads[started] = (struct thread){.run = r, .index = started};
        if (pthread_create(&threads[started].id, NULL, run_thread, &threads[started]))
            break; /* fewer threads do it too */
    }
    threads[0] = (struct thread){.run = r};
    run_thread(&threads[0]);
    for (int i = 1; i < started; i++)
        pthread_join(threads[i].id, NULL);
    free(threads);
    return 0;
}

int sd_ordered_run(const struct sd_ordered *o, struct sd_err *err)
{
    if (o->jobs <= 1 || o->n <= 1) {
        for (size_t i = 0; i < o->n; i++) {
            o->work(o->ctx, 0, i);
            o->finish(o->ctx, i);
        }
        return 0;
    }
    struct run r = {.o = o, .done = calloc(o->window, sizeof *r.done)};
    if (!r.done)
        return sd_err_memory(err, o->window);
    pthread_mutex_init(&r.lock, NULL);
    pthread_cond_init(&r.room, NULL);
    int bad = run_threads(&r, (size_t)o->jobs < o->n ? o->jobs : (int)o->n, err);
    pthread_cond_destroy(&r.room);
    pthread_mutex_destroy(&r.lock);
    free(r.done);
    return bad;
}
