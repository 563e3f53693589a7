/* page_call: one LIST of a directory's page, which may be under way while the page before it is laid over the tree.
 *
 *      new --start--> under way --> answered        wait: until then; free: ends it, whatever it is
 *       '--answer: as it would have been a moment ago---^
 *
 * Own changes since it was made are noted in its watch.
 * Threads: new with the lock of names; start, wait and free without any.
 */
#ifndef CACHE_PAGE_CALL_H
#define CACHE_PAGE_CALL_H

#include "cache/aftermath.h"
#include "cache/swath.h"

struct page_call {
    struct cache *cache;
    struct names_watch watch;
    char *prefix, *token, *start_after; /* token, start_after: NULL */
    int64_t made_ms;                    /* when it was asked */
    bool recalled;                      /* ... by a swath that it was answered from */
    struct store_call call;
    /* Under `lock`. */
    struct lock lock;
    struct gate ended;
    bool under_way, done;
};

struct page_call *page_call_new_locked(struct inode *directory, const char *prefix, const char *token,
                                       const char *start_after);
void page_call_start(struct page_call *page_call);
/* Instead: from what tells all of the directory; nothing of that changed here since it was asked. */
void page_call_answer(struct page_call *page_call, const struct swath *swath);
/* 0, or as server_wait(): an interrupt ends it. */
int page_call_wait(struct page_call *page_call, struct waiter *waiter);
/* Ends it first, which may take a moment. NULL: nothing. */
void page_call_free(struct page_call *page_call);

#endif
