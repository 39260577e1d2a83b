/* Archives that are kept open, from archive.h. */
#include <stdlib.h>
#include <string.h>

#include "store/archive.h"

enum { KEPT_BYTES = 24 << 20, BASE_BYTES = 4096, MEMBER_BYTES = 20 };

static uint64_t bytes_of(const struct sd_archive_use *u)
{
    return BASE_BYTES + MEMBER_BYTES * (uint64_t)sd_archive_count(u->archive);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && a->st_dev == b->st_dev && a->st_ino == b->st_ino &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static void close_use(struct sd_archive_use *u)
{
    sd_archive_close(u->archive);
    free(u->path);
    free(u);
}

static void unlink_use(struct sd_archives *all, struct sd_archive_use **at)
{
    struct sd_archive_use *u = *at;
    *at = u->next;
    all->bytes -= bytes_of(u);
    u->stale = true;
    if (!u->users)
        close_use(u);
}

/* Closes the least recently used ones, which are last, while they take too much; the first one stays however
 * large it is, for the records of one archive mostly follow each other. */
static void shrink(struct sd_archives *all)
{
    while (all->bytes > KEPT_BYTES) {
        struct sd_archive_use **last = NULL;
        for (struct sd_archive_use **at = &all->first->next; *at; at = &(*at)->next)
            if (!(*at)->users)
                last = at;
        if (!last)
            return;
        unlink_use(all, last);
    }
}

static struct sd_archive_use *find(struct sd_archives *all, const char *path, size_t len,
                                   const struct stat *st)
{
    for (struct sd_archive_use **at = &all->first; *at; at = &(*at)->next) {
        struct sd_archive_use *u = *at;
        if (strncmp(u->path, path, len) || u->path[len])
            continue;
        if (!same_file(&u->st, st)) {
            unlink_use(all, at);
            return NULL;
        }
        *at = u->next;
        u->next = all->first;
        all->first = u;
        return u;
    }
    return NULL;
}

static int get(struct sd_archives *all, const char *path, size_t len, struct sd_archive_use **use,
               struct sd_err *err)
{
    struct sd_archive_use *u = calloc(1, sizeof *u);
    if (!u || !(u->path = strndup(path, len))) {
        free(u);
        return sd_err_memory(err, len);
    }
    if (stat(u->path, &u->st)) {
        sd_err_errno(err, u->path);
        close_use(u);
        return -1;
    }
    struct sd_archive_use *old = find(all, path, len, &u->st);
    if (old) {
        close_use(u);
        u = old;
    } else if (sd_archive_open(&u->archive, u->path, err)) {
        close_use(u);
        return -1;
    } else {
        u->next = all->first;
        all->first = u;
        all->bytes += bytes_of(u);
    }
    u->users++;
    shrink(all);
    *use = u;
    return 0;
}

int sd_archives_get(struct sd_archives *all, const char *path, size_t len, struct sd_archive_use **use,
                    struct sd_err *err)
{
    *use = NULL;
    pthread_mutex_lock(&all->lock);
    int bad = get(all, path, len, use, err);
    pthread_mutex_unlock(&all->lock);
    return bad;
}

void sd_archives_done(struct sd_archives *all, struct sd_archive_use *use)
{
    if (!use)
        return;
    pthread_mutex_lock(&all->lock);
    if (!--use->users && use->stale)
        close_use(use);
    shrink(all);
    pthread_mutex_unlock(&all->lock);
}

void sd_archives_free(struct sd_archives *all)
{
    while (all->first)
        unlink_use(all, &all->first);
}
