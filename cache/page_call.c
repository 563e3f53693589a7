#include "cache/page_call.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "cache/server.h"

struct page_call *page_call_new_locked(struct inode *directory, const char *prefix, const char *token,
                                       const char *start_after)
{
    struct page_call *page_call = xcalloc(1, sizeof *page_call);
    struct store_call *call = &page_call->call;

    page_call->cache = directory->cache;
    page_call->prefix = xstrdup(prefix);
    page_call->token = token ? xstrdup(token) : NULL;
    page_call->start_after = start_after ? xstrdup(start_after) : NULL;
    page_call->made_ms = clock_ms();
    *call = server_call(directory->cache, STORE_LIST, NULL);
    call->prefix = page_call->prefix;
    call->delimiter = "/";
    call->token = page_call->token;
    call->start_after = page_call->start_after;
    lock_init(&page_call->lock, LOCK_LEAF, "page_call");
    gate_init(&page_call->ended);
    names_watch_locked(&directory->cache->names, &page_call->watch, directory, NULL);
    return page_call;
}

static void end_call(struct store_call *call)
{
    struct page_call *page_call = call->owner;
    LOCK_SCOPED(&page_call->lock);
    page_call->done = true;
    gate_open(&page_call->ended);
}

void page_call_start(struct page_call *page_call)
{
    page_call->call.done = end_call;
    page_call->call.owner = page_call;
    page_call->under_way = true;
    store_start(page_call->cache->config.store, &page_call->call);
}

void page_call_answer(struct page_call *page_call, const struct swath *swath)
{
    swath_answer(swath, &page_call->call);
    page_call->made_ms = swath->asked_ms;
    page_call->recalled = page_call->done = true;
}

static int await_end(struct page_call *page_call, struct waiter *waiter)
{
    int rc = 0;
    LOCK_SCOPED(&page_call->lock);
    while (rc == 0 && !page_call->done)
        rc = gate_wait_locked(&page_call->ended, &page_call->lock, waiter, CLOCK_NEVER);
    return page_call->done ? 0 : rc;
}

static void cancel(struct page_call *page_call)
{
    WAITER_SCOPED(own);
    store_cancel(page_call->cache->config.store, &page_call->call);
    await_end(page_call, &own);
}

int page_call_wait(struct page_call *page_call, struct waiter *waiter)
{
    int rc = await_end(page_call, waiter);

    if (rc < 0) {
        cancel(page_call);
        return rc;
    }
    return page_call->recalled ? 0 : server_settle(page_call->cache, "list", &page_call->call, 0);
}

void page_call_free(struct page_call *page_call)
{
    if (!page_call)
        return;
    lock_assert_none();
    if (page_call->under_way)
        cancel(page_call); /* one that was answered is left alone */
    lock_take(&page_call->cache->names.lock);
    names_unwatch_locked(&page_call->watch);
    lock_drop(&page_call->cache->names.lock);
    store_call_release(&page_call->call);
    gate_release(&page_call->ended);
    lock_release(&page_call->lock);
    free(page_call->prefix);
    free(page_call->token);
    free(page_call->start_after);
    free(page_call);
}
