#include "fs/request.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "fs/session.h"

/* The request of which libfuse told this thread that it was interrupted: a reference. One message interrupts at most one. */
static _Thread_local struct request *heard;

int requests_init(struct requests *requests, struct fs *fs)
{
    *requests = (struct requests){.fs = fs};
    lock_init(&requests->lock, LOCK_LEAF, "requests");
    list_init(&requests->waiting);
    gate_init(&requests->turn);
    requests->pool = pool_new("fs", REQUESTS_THREADS, REQUESTS_QUEUE_MAX);
    requests->growing = pool_new("fs", REQUESTS_GROWING, REQUESTS_QUEUE_MAX);
    return requests->pool && requests->growing ? 0 : -ENOMEM;
}

void requests_close(struct requests *requests)
{
    LOCK_SCOPED(&requests->lock);
    requests->closed = true;
}

void requests_release(struct requests *requests)
{
    if (!requests->fs)
        return;
    assert(requests->count == 0);
    pool_free(requests->pool);
    pool_free(requests->growing);
    gate_release(&requests->turn);
    lock_release(&requests->lock);
    requests->fs = NULL;
}

static struct pool *pool_of(const struct request *request)
{
    return request->operation->grows ? request->requests->growing : request->requests->pool;
}

/* ---- Birth and end. ---- */

void request_init(struct request *request, struct fs *fs, fuse_req_t fuse, const struct operation *operation)
{
    *request = (struct request){
        .requests = &fs->requests,
        .fs = fs,
        .operation = operation,
        .fuse = fuse,
        .state = REQUEST_NEW,
    };
}

static void drop_uses(struct request *request)
{
    implied_drop(&request->fs->implied, request->implied, request->listed_all);
    request->implied = NULL;
    if (request->inode)
        inode_unref(request->inode);
    if (request->to_inode)
        inode_unref(request->to_inode);
    request->inode = request->to_inode = NULL;
}

/* False: closed; the request was not taken. */
static bool register_request(struct request *request, enum request_wait wait)
{
    struct requests *requests = request->requests;
    atomic_init(&request->refs, 2);
    request->wait = wait;
    LOCK_SCOPED(&requests->lock);
    if (requests->closed)
        return false;
    request->state = wait == WAIT_POOL ? REQUEST_QUEUED : REQUEST_ASYNC;
    list_append(&requests->waiting, &request->link);
    requests->count++;
    return true;
}

struct request *request_async_new(struct fs *fs, fuse_req_t fuse, const struct operation *operation,
                                  enum request_wait wait)
{
    struct request *request = xmalloc(sizeof *request);
    request_init(request, fs, fuse, operation);
    if (!register_request(request, wait)) {
        request_error(request, -ENOTCONN);
        free(request);
        return NULL;
    }
    atomic_fetch_add_explicit(&fs->requests.async, 1, memory_order_relaxed);
    return request;
}

static void free_copies(struct request *request)
{
    free((char *)(uintptr_t)request->name);
    free((char *)(uintptr_t)request->to_name);
    free((void *)(uintptr_t)request->bytes);
}

void request_async_unref(struct request *request)
{
    if (!request || atomic_fetch_sub(&request->refs, 1) > 1)
        return;
    struct requests *requests = request->requests;
    assert(request->state == REQUEST_REPLIED);
    if (request->wait == WAIT_READ)
        cache_read_release(request->fs->cache, &request->read);
    drop_uses(request);
    lock_take(&requests->lock);
    list_remove(&request->link);
    if (request->bytes)
        requests->bytes -= request->size;
    /* The last touch of `requests`: once the lock is dropped, requests_drain() may have returned. */
    if (--requests->count == 0)
        gate_open(&requests->turn);
    lock_drop(&requests->lock);
    if (request->wait == WAIT_POOL) {
        free_copies(request);
        waiter_release(&request->waiter);
    }
    free(request);
}

/* ---- Interrupts. ---- */

/* libfuse holds its locks: only remember. The request lives, because its reply unhooks first and that waits for us. */
static void hear_interrupt(fuse_req_t fuse, void *data)
{
    (void)fuse;
    struct request *request = data;
    if (atomic_exchange(&request->interrupted, true))
        return;
    assert(!heard);
    atomic_fetch_add(&request->refs, 1);
    heard = request;
}

static void interrupt_request(struct request *request)
{
    atomic_fetch_add_explicit(&request->requests->interrupted, 1, memory_order_relaxed);
    switch (request->wait) {
    case WAIT_POOL:
        if (!pool_withdraw(pool_of(request), &request->job)) {
            waiter_interrupt(&request->waiter);
            return;
        }
        request_error(request, -EINTR);
        request_async_unref(request); /* the job's */
        return;
    case WAIT_READ:
        cache_read_interrupt(request->fs->cache, &request->read);
        return;
    case WAIT_SYNC:
        if (!cache_sync_interrupt(request->fs->cache, &request->sync))
            return;
        request_error(request, -EINTR);
        request_async_unref(request); /* done()'s */
        return;
    case WAIT_NONE:
        break;
    }
    assert(!"an interrupt of a request that does not wait");
}

void requests_interrupted(void)
{
    struct request *request = heard;
    if (!request)
        return;
    heard = NULL;
    interrupt_request(request);
    request_async_unref(request);
}

/* Tells libfuse whom to call. That may be at once, if INTERRUPT came before: acted on when the lock is dropped. */
static void hook_request(struct request *request)
{
    struct requests *requests = request->requests;
    lock_take(&requests->lock);
    request->started = true;
    if (requests->closed)
        gate_open(&requests->turn);
    if (request->state != REQUEST_REPLIED) {
        request->hooked = true;
        fuse_req_interrupt_func(request->fuse, hear_interrupt, request);
    }
    lock_drop(&requests->lock);
    requests_interrupted();
}

void request_started(struct request *request)
{
    hook_request(request);
    request_async_unref(request);
}

/* One that was started and not interrupted yet, with a reference, or NULL. */
static struct request *pick_victim_locked(struct requests *requests)
{
    list_for_each (link, &requests->waiting) {
        struct request *request = container_of(link, struct request, link);
        if (!request->started || atomic_load(&request->interrupted))
            continue;
        /* At 0 references it is on its way out and only waits for this lock. */
        unsigned refs = atomic_load(&request->refs);
        while (refs > 0 && !atomic_compare_exchange_weak(&request->refs, &refs, refs + 1))
            ;
        if (refs > 0)
            return request;
    }
    return NULL;
}

void requests_drain(struct requests *requests)
{
    WAITER_SCOPED(waiter);
    lock_take(&requests->lock);
    assert(requests->closed);
    while (requests->count > 0) {
        struct request *request = pick_victim_locked(requests);
        if (!request) {
            gate_wait_locked(&requests->turn, &requests->lock, &waiter, CLOCK_NEVER);
            continue;
        }
        lock_drop(&requests->lock);
        if (!atomic_exchange(&request->interrupted, true))
            interrupt_request(request);
        request_async_unref(request);
        lock_take(&requests->lock);
    }
    lock_drop(&requests->lock);
}

/* ---- Running. ---- */

static void run_job(struct job *job)
{
    struct request *request = container_of(job, struct request, job);
    lock_take(&request->requests->lock);
    assert(request->state == REQUEST_QUEUED);
    request->state = REQUEST_RUNNING;
    lock_drop(&request->requests->lock);
    int rc = request->operation->run(request, &request->waiter);
    if (rc < 0)
        request_error(request, rc);
    request_async_unref(request);
}

static const void *copy_bytes(struct requests *requests, const void *bytes, size_t size)
{
    void *copy = xmalloc(size ? size : 1);
    memcpy(copy, bytes, size);
    lock_take(&requests->lock);
    size_t before = requests->bytes;
    requests->bytes += size;
    lock_drop(&requests->lock);
    if (before <= REQUESTS_BYTES_SOFT && before + size > REQUESTS_BYTES_SOFT)
        log_warn("WRITE: more than %zu MiB of data wait to be taken, beyond the memory budget",
                 REQUESTS_BYTES_SOFT >> 20);
    return copy;
}

/* A copy on the heap that owns what it points at. References and uses move. */
static struct request *move_request(struct request *from)
{
    struct request *request = xmalloc(sizeof *request);
    *request = *from;
    if (!register_request(request, WAIT_POOL)) {
        free(request);
        return NULL;
    }
    waiter_init(&request->waiter);
    request->job.run = run_job;
    list_init(&request->job.link);
    request->name = from->name ? xstrdup(from->name) : NULL;
    request->to_name = from->to_name ? xstrdup(from->to_name) : NULL;
    request->bytes = from->bytes ? copy_bytes(from->requests, from->bytes, from->size) : NULL;
    from->inode = from->to_inode = NULL;
    from->implied = NULL;
    from->fuse = NULL;
    from->state = REQUEST_REPLIED; /* here; the copy answers */
    return request;
}

static void queue_request(struct request *from)
{
    struct requests *requests = from->requests;
    struct request *request = move_request(from);
    if (!request) {
        request_error(from, -ENOTCONN);
        return;
    }
    if (pool_post(pool_of(request), &request->job) < 0) {
        atomic_fetch_add_explicit(&requests->refused, 1, memory_order_relaxed);
        log_error("%s: %d requests wait already, returned ENOMEM", request->operation->name,
                  REQUESTS_QUEUE_MAX);
        request_error(request, -ENOMEM);
        request_async_unref(request); /* the job's */
        request_async_unref(request);
        return;
    }
    atomic_fetch_add_explicit(&requests->queued, 1, memory_order_relaxed);
    request_started(request);
}

void request_start(struct request *request)
{
    int rc = request->operation->run(request, NULL);
    if (rc == -EAGAIN)
        queue_request(request);
    else if (rc < 0)
        request_error(request, rc);
    assert(request->state == REQUEST_REPLIED);
    drop_uses(request);
}

void request_refuse(struct request *request, int rc)
{
    request_error(request, rc);
    drop_uses(request);
}

void request_async_refuse(struct request *request, int rc)
{
    request_error(request, rc);
    request_async_unref(request); /* the work's */
    request_async_unref(request);
}

/* ---- Replies. ---- */

/* The right to reply, which there is once. After it no interrupt is heard. */
static fuse_req_t take_reply(struct request *request)
{
    bool shared = request->wait != WAIT_NONE && request->state != REQUEST_NEW;
    if (shared)
        lock_take(&request->requests->lock);
    assert(request->state != REQUEST_REPLIED);
    request->state = REQUEST_REPLIED;
    fuse_req_t fuse = request->fuse;
    request->fuse = NULL;
    bool hooked = request->hooked;
    if (shared)
        lock_drop(&request->requests->lock);
    if (hooked)
        fuse_req_interrupt_func(fuse, NULL, NULL); /* waits for a hear_interrupt() that is on its way */
    return fuse;
}

int request_error(struct request *request, int rc)
{
    assert(rc <= 0 && rc > -1000);
    if (rc < 0)
        log_debug("%s: %s", request->operation->name, err_name(rc));
    return fuse_reply_err(take_reply(request), -rc);
}

int request_reply_entry(struct request *request, const struct fuse_entry_param *entry)
{
    return fuse_reply_entry(take_reply(request), entry);
}

int request_reply_create(struct request *request, const struct fuse_entry_param *entry)
{
    return fuse_reply_create(take_reply(request), entry, &request->file);
}

int request_reply_open(struct request *request)
{
    return fuse_reply_open(take_reply(request), &request->file);
}

int request_reply_attributes(struct request *request, const struct stat *stat, double valid_s)
{
    return fuse_reply_attr(take_reply(request), stat, valid_s);
}

int request_reply_link(struct request *request, const char *target)
{
    return fuse_reply_readlink(take_reply(request), target);
}

int request_reply_written(struct request *request, size_t size)
{
    return fuse_reply_write(take_reply(request), size);
}

int request_reply_offset(struct request *request, uint64_t offset)
{
    return fuse_reply_lseek(take_reply(request), (off_t)offset);
}

int request_reply_bytes(struct request *request, const void *bytes, size_t size)
{
    return fuse_reply_buf(take_reply(request), bytes, size);
}

int request_reply_pieces(struct request *request, const struct iovec *pieces, size_t count)
{
    if (count == 0)
        return request_reply_bytes(request, NULL, 0);
    return fuse_reply_iov(take_reply(request), pieces, (int)count);
}

int request_reply_needed(struct request *request, size_t size)
{
    return fuse_reply_xattr(take_reply(request), size);
}

int request_reply_space(struct request *request, const struct statvfs *space)
{
    return fuse_reply_statfs(take_reply(request), space);
}

void request_reply_none(struct request *request)
{
    fuse_reply_none(take_reply(request));
}
