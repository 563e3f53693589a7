#include "base/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/buf.h"
#include "base/lock.h"
#include "base/signals.h"

#define IDLE_SECONDS 30
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES ((size_t)2 << 20) /* the frames of sanitized code are several times as large */
#else
#define STACK_BYTES ((size_t)256 << 10)
#endif

struct worker {
    struct pool *pool;
    pthread_t thread;
    struct list link; /* in pool->ended, once it has */
};

struct pool {
    /* Set at birth: */
    char name[16];
    size_t threads_max;
    size_t queue_max;

    struct lock lock;
    pthread_cond_t posted; /* with lock.mutex: a job, or the end */
    pthread_cond_t ended_one;
    /* Under lock: */
    struct list jobs;
    size_t queued;
    size_t running;    /* threads */
    size_t busy;       /* of these, those with a job */
    struct list ended; /* threads that are to be joined */
    bool ending;
};

static void start_deadline(struct timespec *ret_until)
{
    clock_gettime(CLOCK_MONOTONIC, ret_until);
    ret_until->tv_sec += IDLE_SECONDS;
}

/* The next job; NULL when this thread is not needed any more. */
static struct job *wait_for_job_locked(struct pool *pool)
{
    struct timespec until;
    start_deadline(&until);
    int rc = 0;
    while (pool->queued == 0 && !pool->ending && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&pool->posted, &pool->lock.mutex, &until);
    if (pool->queued == 0)
        return NULL;
    pool->queued--;
    pool->busy++;
    return container_of(list_pop(&pool->jobs), struct job, link);
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    pthread_setname_np(pthread_self(), pool->name);
    lock_take(&pool->lock);
    struct job *job;
    while ((job = wait_for_job_locked(pool))) {
        lock_drop(&pool->lock);
        job->run(job); /* may free the job */
        lock_assert_none();
        lock_take(&pool->lock);
        pool->busy--;
    }
    pool->running--;
    list_append(&pool->ended, &worker->link);
    pthread_cond_signal(&pool->ended_one);
    lock_drop(&pool->lock);
    return NULL;
}

/* Signals are for the main thread: workers start with all of them blocked. */
static int create_thread(struct worker *worker)
{
    sigset_t all, old;
    signals_of_others(&all);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = pthread_create(&worker->thread, &attr, run_worker, worker);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return -rc;
}

static int add_worker_locked(struct pool *pool)
{
    struct worker *worker = xcalloc(1, sizeof(*worker));
    worker->pool = pool;
    int rc = create_thread(worker);
    if (rc < 0)
        free(worker);
    else
        pool->running++;
    return rc;
}

static void join_workers(struct list *ended)
{
    struct list *link;
    while ((link = list_pop(ended))) {
        struct worker *worker = container_of(link, struct worker, link);
        pthread_join(worker->thread, NULL);
        free(worker);
    }
}

struct pool *pool_new(const char *name, size_t threads, size_t queue_max)
{
    assert(threads > 0);
    struct pool *pool = xcalloc(1, sizeof(*pool));
    snprintf(pool->name, sizeof(pool->name), "%s", name);
    pool->threads_max = threads;
    pool->queue_max = queue_max;
    lock_init(&pool->lock, LOCK_POOL, "pool");
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&pool->posted, &attr);
    pthread_cond_init(&pool->ended_one, &attr);
    pthread_condattr_destroy(&attr);
    list_init(&pool->jobs);
    list_init(&pool->ended);
    return pool;
}

/* A job that an idle or a new thread takes up at once does not count as waiting. */
static int enqueue_locked(struct pool *pool, struct job *job)
{
    if (pool->queued >= pool->queue_max + (pool->threads_max - pool->busy))
        return -EAGAIN;
    if (pool->queued >= pool->running - pool->busy && pool->running < pool->threads_max) {
        int rc = add_worker_locked(pool);
        if (rc < 0 && pool->running == 0)
            return rc;
    }
    list_append(&pool->jobs, &job->link);
    pool->queued++;
    pthread_cond_signal(&pool->posted);
    return 0;
}

int pool_post(struct pool *pool, struct job *job)
{
    struct list ended;
    list_init(&ended);
    lock_take(&pool->lock);
    int rc = enqueue_locked(pool, job);
    list_splice(&ended, &pool->ended);
    lock_drop(&pool->lock);
    join_workers(&ended); /* they have left the pool's lock behind: no wait */
    return rc;
}

bool pool_withdraw(struct pool *pool, struct job *job)
{
    LOCK_SCOPED(&pool->lock);
    list_for_each (at, &pool->jobs) {
        if (at == &job->link) {
            list_remove(at);
            pool->queued--;
            return true;
        }
    }
    return false;
}

void pool_free(struct pool *pool)
{
    if (!pool)
        return;
    struct list ended;
    list_init(&ended);
    lock_take(&pool->lock);
    pool->ending = true;
    pthread_cond_broadcast(&pool->posted);
    while (pool->running)
        pthread_cond_wait(&pool->ended_one, &pool->lock.mutex);
    list_splice(&ended, &pool->ended);
    lock_drop(&pool->lock);
    join_workers(&ended);
    pthread_cond_destroy(&pool->posted);
    pthread_cond_destroy(&pool->ended_one);
    lock_release(&pool->lock);
    free(pool);
}
