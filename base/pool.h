/* pool: a bounded crew of small-stack threads for straight blocking code (cold lookups, listings, copies).
 *
 * Jobs start in the order they came; at most `threads` run at once; threads start when needed and end when idle for
 * 30 s. Jobs belong to their poster, who learns of their end by what the job itself does.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"

struct pool;

struct job {
    void (*run)(struct job *job);
    struct list link; /* the pool's own */
};

struct pool *pool_new(const char *name, size_t threads, size_t queue_max);
/* 0, or -EAGAIN when queue_max jobs wait already (the caller answers its request with an error or waits). */
int pool_post(struct pool *pool, struct job *job);
/* Takes a job back that has not started: true, and it will not run. */
bool pool_withdraw(struct pool *pool, struct job *job);
/* Runs what is queued, waits for what runs, ends the threads. */
void pool_free(struct pool *pool);

#endif
