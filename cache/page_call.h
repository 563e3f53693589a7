/* page_call: one LIST of a directory's page, which may be under way while the page before it is laid over the tree.
 *
 *      new --start--> under way --> answered        wait: until then; free: ends it, whatever it is
 *
 * Own changes since it was made are noted in its watch.
 * Threads: new with the lock of names; start, wait and free without any.
 */
#ifndef CACHE_PAGE_CALL_H
#define CACHE_PAGE_CALL_H

#include "cache/aftermath.h"

struct page_call {
    struct cache *cache;
    struct names_watch watch;
    char *prefix, *token, *start_after; /* token, start_after: NULL */
    int64_t made_ms;
    struct store_call call;
    /* Under `lock`. */
    struct lock lock;
    struct gate ended;
    bool under_way, done;
};

struct page_call *page_call_new_locked(struct inode *directory, const char *prefix, const char *token,
                                       const char *start_after);
void page_call_start(struct page_call *page_call);
/* 0, or as server_wait(): an interrupt ends it. */
int page_call_wait(struct page_call *page_call, struct waiter *waiter);
/* Ends it first, which may take a moment. NULL: nothing. */
void page_call_free(struct page_call *page_call);

#endif
