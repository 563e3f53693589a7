/* memory: the one budget for everything that grows, and the pages that data lives in.
 *
 *     limit (option memory=)
 *     |-- used: granted bytes (pages in use, names, buffers) --|-- idle: pages kept for reuse --|-- free --|
 *
 * used + idle <= limit always: a hard limit. Requests that do not fit wait in one queue, first come, first served,
 * so that a large one is not starved by small ones; a request that fits behind a waiting one of its own share waits.
 * Each share has a part of the limit that it cannot pass: read-ahead can never take what a demand read or an
 * upload needs to make progress (SHARE_AHEAD and SHARE_OVERLAY at most half; SHARE_NAMES at most an eighth; others all).
 *
 * A request that only its share's part keeps back does not hold up other shares; one that the limit keeps back holds up
 * all behind it.
 *
 * Reclaim: when a request waits, the reclaimers are asked, in order, to give back `bytes` (e.g. clean blocks by
 * LRU); they give back by memory_give() / page_put() like everybody. They are asked when a request begins to wait, when
 * something was given back that did not suffice, and by memory_press(): whoever makes something reclaimable (a block
 * has landed, was unpinned) calls that, or a request may wait for ever.
 *
 * Threads: any. memory_try(), memory_left(), page_try(), page_claim() and memory_report() may be called under any lock and neither
 * wait nor reclaim. All others may run grant callbacks and reclaimers: hold no lock. A grant is delivered
 * exactly once, from whatever thread gave memory back, or at once from within memory_ask().
 */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/waiter.h"

#define PAGE_BYTES ((size_t)128 * 1024) /* the unit of data in memory: the smallest range worth a request */

enum memory_share { SHARE_DEMAND, SHARE_AHEAD, SHARE_UPLOAD, SHARE_NAMES, SHARE_OVERLAY, SHARE_COUNT };

struct memory;

struct memory_request {
    size_t bytes;
    enum memory_share share;
    void (*granted)(struct memory_request *request); /* short, and does not wait; may free the request */
    /* The bytes are N * PAGE_BYTES and will be claimed as pages, all of them: idle pages are set aside for them, not handed
     * to the kernel and faulted in again. Who no longer wants such a grant claims the pages and puts them. */
    bool pages;
    struct list link; /* memory's own */
};

/* NULL: the process may not have so much address space (ulimit -v). */
struct memory *memory_new(size_t limit_bytes);
/* All must have been given back, and nothing may wait. */
void memory_free(struct memory *memory);

bool memory_try(struct memory *memory, size_t bytes, enum memory_share share);
/* So much more the share could have, whatever the limit says now. As memory_try(). */
size_t memory_left(struct memory *memory, enum memory_share share);
void memory_give(struct memory *memory, size_t bytes, enum memory_share share);
/* Granted later (or now) by request->granted. A request larger than the share's part: -EFBIG, never granted. */
int memory_ask(struct memory *memory, struct memory_request *request);
/* True when it was still waiting and will not be granted; false when the grant has been or is being delivered. */
bool memory_withdraw(struct memory *memory, struct memory_request *request);
/* Blocking form: 0, -EINTR, -ETIMEDOUT, -EFBIG; -EAGAIN when waiter is NULL and it does not fit at once. */
int memory_take(struct memory *memory, size_t bytes, enum memory_share share, struct waiter *waiter,
                int64_t deadline_ms);
/* Moves the charge for granted bytes or pages (a block read ahead is now in demand). SHARE_DEMAND and SHARE_UPLOAD always
 * take it; false, and nothing is moved, when the part of `to` is too small. */
bool memory_move(struct memory *memory, size_t bytes, enum memory_share from, enum memory_share to);
/* Called with no lock held; tries to give back at least `bytes`. At most 8 reclaimers, added before the first request. */
void memory_add_reclaimer(struct memory *memory, void (*reclaim)(void *context, size_t bytes), void *context);
/* That of this context is not asked any more, nor still being asked. Hold no lock. */
void memory_remove_reclaimer(struct memory *memory, const void *context);
/* Something can be reclaimed now that could not before. One load when nobody waits; hold no lock. */
void memory_press(struct memory *memory);

/* Pages: PAGE_BYTES each, aligned to PAGE_BYTES, from arenas of 2 MiB, never from malloc. No hugepages: one touched page
 * would make 2 MiB resident, and a piece given back would come back when the kernel joins pages again.
 * page_try() charges the budget itself. After a grant of N * PAGE_BYTES, page_claim() turns granted bytes into pages and
 * cannot fail. The content of a fresh page is not defined. page_put*() end the charge, too. */
void *page_try(struct memory *memory, enum memory_share share);
void *page_claim(struct memory *memory, enum memory_share share);
/* Takes `count` pages or none, as memory_take() does. */
int page_take_many(struct memory *memory, void **ret_pages, size_t count, enum memory_share share,
                   struct waiter *waiter, int64_t deadline_ms);
void page_put(struct memory *memory, void *page, enum memory_share share);
void page_put_many(struct memory *memory, void **pages, size_t count, enum memory_share share);

struct memory_report {
    size_t limit, used, idle;
    size_t shares[SHARE_COUNT];
    size_t waiting; /* requests in the queue */
};
void memory_report(struct memory *memory, struct memory_report *ret_report);

/* The default of memory=: 256 MiB, less where the cgroup or the machine is small (at most a quarter of either). */
size_t memory_default_limit(void);

#endif
