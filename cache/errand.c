#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/content.h"
#include "cache/server.h"
#include "cache/uploader.h"

#define ABORT_PATIENCE_MS 10000

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

static void hear_done(struct store_call *call)
{
    post(call->owner, true);
}

static void hear_granted(struct memory_request *request)
{
    post(container_of(request, struct errand, request), false);
}

static void run_job(struct job *job)
{
    struct errand *errand = container_of(job, struct errand, job);
    struct cache *cache = errand->uploader->cache;
    atomic_store(&errand->begun, true);
    if (errand->kind == ERRAND_FILL)
        errand->rc = content_fill(errand->upload->inode, &errand->waiter);
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
    upload->uploader->slots_used += slot;
    return errand;
}

void errand_start(struct errand *errand)
{
    struct cache *cache = errand->uploader->cache;
    errand->started_ms = clock_ms();
    lock_take(&errand->uploader->lock);
    errand->running = true;
    lock_drop(&errand->uploader->lock);
    if (errand->kind == ERRAND_CALL) {
        if (!errand->call.patience_ms)
            errand->call.patience_ms = server_patience(cache, errand->call.op);
        store_start(cache->config.store, &errand->call);
        return;
    }
    int rc = pool_post(errand->uploader->jobs, &errand->job);
    if (rc < 0) {
        errand->rc = rc;
        post(errand, true);
    }
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
    lock_take(&errand->uploader->lock);
    bool running = errand->running;
    lock_drop(&errand->uploader->lock);
    if (running)
        store_cancel(errand->uploader->cache->config.store, &errand->call);
}

void errand_cancel(struct errand *errand, bool all)
{
    bool waits = errand->asked_memory && !errand->granted;
    if (errand->canceled ||
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
    store_call_release(&errand->call);
    waiter_release(&errand->waiter);
    free(errand->pages);
    free(errand->pieces);
    free(errand->complete);
    free(errand->key);
    free(errand->upload_id);
    free(errand);
}

void errand_abort_multipart(struct uploader *uploader, char **key, char **upload_id)
{
    struct errand *errand = errand_new(NULL, ERRAND_CALL);
    errand->uploader = uploader;
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
