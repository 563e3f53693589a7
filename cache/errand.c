#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/conflict.h"
#include "cache/content.h"
#include "cache/keepsake.h"
#include "cache/recording.h"
#include "cache/salvage.h"
#include "cache/server.h"

#define ABORT_PATIENCE_MS 10000
#define CREATE_GRACE_MS   1000

/* ---- What arrives from other threads. ---- */

static void post(struct errand *errand, bool ended)
{
    struct uploader *uploader = errand->uploader;
    LOCK_SCOPED(&uploader->lock);
    if (ended)
        errand->running = false;
    list_append(&uploader->arrived, &errand->arrived);
    gate_open(&uploader->wake);
}

static void hear_taken(struct store_call *call, uint64_t taken)
{
    struct errand *errand = call->owner;
    atomic_fetch_add(&errand->upload->inode->taken_bytes, taken - errand->taken);
    errand->taken = taken;
}

/* What ends well and carried data says that more may be in flight. */
static void hear_done(struct store_call *call)
{
    struct errand *errand = call->owner;
    if (errand->taken) /* before it counts as sent: never as both */
        hear_taken(call, 0);
    if (errand->slot && call->rc == 0) {
        LOCK_SCOPED(&errand->uploader->lock);
        if (!errand->slowed)
            window_taken(&errand->uploader->window);
    }
    post(errand, true);
}

/* Whatever is too much for the server says that there is too much at once. It goes on, and may say so again. */
static void hear_slowed(struct store_call *call)
{
    struct errand *errand = call->owner;
    struct window *window = &errand->uploader->window;
    lock_take(&errand->uploader->lock);
    bool first = window->size == window->most, cut = window_slowed(window, errand->ticket);
    uint32_t size = window->size;
    if (errand->slot && !errand->slowed)
        window_wait(window);
    errand->slowed = true;
    errand->ticket = window_begin(window);
    errand->uploader->room_grew = true;
    gate_open(&errand->uploader->wake);
    lock_drop(&errand->uploader->lock);
    if (cut && first)
        log_info("the server asks for patience: %u uploads at once from here on, more again as it takes them",
                 size);
}

static void hear_granted(struct memory_request *request)
{
    post(container_of(request, struct errand, request), false);
}

/* First what is in memory: the pages for the rest may be the ones that it stands in. What came must not keep others from writing when
 * the disk is full. */
static int fill(struct errand *errand)
{
    struct inode *inode = errand->upload->inode;
    const struct extents *copied = &errand->upload->copied;
    int rc = salvage_blocks(inode, copied);
    if (rc == 0)
        rc = content_fill(inode, copied, &errand->waiter);
    if (rc == -ENOSPC || rc == -EDQUOT)
        content_give_back(inode, true, &errand->waiter);
    return rc;
}

static void run_job(struct job *job)
{
    struct errand *errand = container_of(job, struct errand, job);
    struct cache *cache = errand->uploader->cache;
    atomic_store(&errand->begun, true);
    if (errand->kind == ERRAND_FILL)
        errand->rc = fill(errand);
    else if (errand->kind == ERRAND_KEEP)
        errand->rc = keepsake_take_unlinked(cache, errand->upload->key, &errand->waiter);
    else if (errand->kind == ERRAND_CONFLICT)
        errand->rc = conflict_settle(errand->upload->inode, &errand->waiter);
    else
        errand->rc = server_probe(cache, &errand->waiter);
    post(errand, true);
}

/* ---- Its life. ---- */

struct errand *errand_new(struct upload *upload, enum errand_kind kind)
{
    struct errand *errand = xcalloc(1, sizeof *errand);
    errand->kind = kind;
    errand->upload = upload;
    errand->uploader = upload ? upload->uploader : NULL;
    list_init(&errand->link);
    list_init(&errand->arrived);
    waiter_init(&errand->waiter);
    errand->job.run = run_job;
    errand->request.granted = hear_granted;
    errand->call.done = hear_done;
    errand->call.slowed = hear_slowed;
    errand->call.taken = upload ? hear_taken : NULL;
    errand->call.owner = errand;
    if (upload)
        list_append(&upload->errands, &errand->link);
    return errand;
}

struct errand *errand_new_call(struct upload *upload, enum store_op op, bool slot)
{
    struct errand *errand = errand_new(upload, ERRAND_CALL);
    errand->call.op = op;
    errand->call.key = upload->key;
    errand->slot = slot;
    errand->early = slot && upload->early;
    upload->uploader->slots_used += slot;
    upload->uploader->early_used += errand->early;
    return errand;
}

bool errand_thinks(const struct errand *errand)
{
    return errand->call.op == STORE_COMPLETE || errand->call.op == STORE_PART_COPY;
}

void errand_start(struct errand *errand)
{
    struct cache *cache = errand->uploader->cache;
    errand->started_ms = clock_ms();
    lock_take(&errand->uploader->lock);
    errand->running = true;
    errand->ticket = window_begin(&errand->uploader->window);
    lock_drop(&errand->uploader->lock);
    if (errand->kind == ERRAND_CALL) {
        if (!errand->call.patience_ms)
            errand->call.patience_ms =
                server_patience(cache, errand_thinks(errand) ? STORE_COMPLETE : errand->call.op);
        store_start(cache->config.store, &errand->call);
        return;
    }
    int rc = pool_post(errand->uploader->jobs, &errand->job);
    if (rc < 0) {
        errand->rc = rc;
        post(errand, true);
    }
}

static void hear_flush(struct journal_wait *wait, int rc)
{
    struct errand *errand = container_of(wait, struct errand, flush);
    errand->rc = rc;
    post(errand, false);
}

void errand_start_flushed(struct errand *errand, uint64_t appended)
{
    struct uploader *uploader = errand->uploader;
    errand->started_ms = clock_ms();
    errand->flushing = true;
    lock_take(&uploader->lock);
    errand->running = true;
    lock_drop(&uploader->lock);
    errand->flush = (struct journal_wait){.appended = appended, .flushed = hear_flush};
    journal_await(uploader->cache->journal, &errand->flush);
}

bool errand_heard_flush(struct errand *errand)
{
    int rc = errand->canceled ? -ECANCELED : errand->rc;
    errand->flushing = false;
    errand->rc = 0;
    if (rc == 0) {
        errand_start(errand);
        return true;
    }
    errand->call.rc = rc;
    lock_take(&errand->uploader->lock);
    errand->running = false;
    lock_drop(&errand->uploader->lock);
    return false;
}

int errand_ask(struct errand *errand, uint64_t bytes)
{
    errand->page_count = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    errand->request.bytes = errand->page_count * PAGE_BYTES;
    errand->request.share = SHARE_UPLOAD;
    errand->asked_memory = true;
    errand->upload->waiting_ms = clock_ms();
    errand->uploader->bytes_used += errand->request.bytes;
    int rc = memory_ask(errand->uploader->cache->config.memory, &errand->request);
    if (rc < 0) {
        errand->uploader->bytes_used -= errand->request.bytes;
        errand->asked_memory = false;
    }
    return rc;
}

void errand_claim(struct errand *errand)
{
    errand->granted = true;
    errand->pages = xcalloc(errand->page_count, sizeof errand->pages[0]);
    errand->pieces = xcalloc(errand->page_count, sizeof errand->pieces[0]);
    for (size_t i = 0; i < errand->page_count; i++) {
        errand->pages[i] = page_claim(errand->uploader->cache->config.memory, SHARE_UPLOAD);
        errand->pieces[i] = (struct iovec){errand->pages[i], PAGE_BYTES};
    }
}

void errand_set_body(struct errand *errand, uint64_t length)
{
    size_t count = (length + PAGE_BYTES - 1) / PAGE_BYTES;
    assert(count <= errand->page_count);
    if (count > 0)
        errand->pieces[count - 1].iov_len = length - (count - 1) * PAGE_BYTES;
    errand->call.from = errand->pieces;
    errand->call.from_count = count;
    errand->bytes = length;
}

static bool changes_object(enum store_op op)
{
    return op == STORE_PUT || op == STORE_COPY || op == STORE_COMPLETE;
}

static void cancel_call(struct errand *errand)
{
    if (errand->asked_memory && !errand->granted) {
        if (memory_withdraw(errand->uploader->cache->config.memory, &errand->request)) {
            errand->uploader->bytes_used -= errand->request.bytes;
            errand->asked_memory = false;
            errand->call.rc = -ECANCELED;
            post(errand, true);
        }
        return; /* else the grant is on its way, and finds it canceled */
    }
    if (errand->flushing)
        return; /* its end, which the disk brings, finds it canceled */
    lock_take(&errand->uploader->lock);
    bool running = errand->running;
    lock_drop(&errand->uploader->lock);
    if (running)
        store_cancel(errand->uploader->cache->config.store, &errand->call);
}

/* An upload whose id nobody heard stands in the bucket for ever: the end waits a moment for it. */
static bool is_being_created(const struct errand *errand)
{
    return errand->kind == ERRAND_CALL && errand->call.op == STORE_CREATE &&
           clock_ms() - errand->started_ms < CREATE_GRACE_MS;
}

void errand_cancel(struct errand *errand, bool all)
{
    bool waits = errand->asked_memory && !errand->granted;
    if (errand->canceled || is_being_created(errand) ||
        (errand->kind == ERRAND_CALL && !all && !waits && changes_object(errand->call.op)))
        return;
    errand->canceled = true;
    if (errand->kind == ERRAND_CALL)
        cancel_call(errand);
    else if (pool_withdraw(errand->uploader->jobs, &errand->job)) {
        errand->rc = -EINTR;
        post(errand, true);
    } else {
        waiter_interrupt(&errand->waiter);
    }
}

void errand_free(struct errand *errand)
{
    struct uploader *uploader = errand->uploader;
    struct memory *memory = uploader->cache->config.memory;
    list_remove(&errand->link);
    if (errand->granted)
        page_put_many(memory, errand->pages, errand->page_count, SHARE_UPLOAD);
    else if (errand->asked_memory) /* granted, and canceled before it was claimed */
        memory_give(memory, errand->request.bytes, SHARE_UPLOAD);
    if (errand->asked_memory)
        uploader->bytes_used -= errand->request.bytes;
    uploader->slots_used -= errand->slot;
    if (errand->slot && errand->slowed) {
        LOCK_SCOPED(&uploader->lock);
        window_wait_end(&uploader->window);
    }
    uploader->early_used -= errand->early;
    store_call_release(&errand->call);
    waiter_release(&errand->waiter);
    free(errand->pages);
    free(errand->pieces);
    free(errand->complete);
    free(errand->key);
    free(errand->upload_id);
    inode_unref(errand->aborted);
    free(errand);
}

void errand_abort_multipart(struct upload *upload, char **key, char **upload_id)
{
    struct uploader *uploader = upload->uploader;
    struct errand *errand = errand_new(NULL, ERRAND_CALL);
    errand->uploader = uploader;
    errand->aborted = inode_ref(upload->inode);
    errand->key = *key;
    errand->upload_id = *upload_id;
    *key = *upload_id = NULL;
    errand->call.op = STORE_ABORT;
    errand->call.key = errand->key;
    errand->call.upload_id = errand->upload_id;
    errand->call.patience_ms = ABORT_PATIENCE_MS;
    list_append(&uploader->aborts, &errand->link);
    errand_start(errand);
}
