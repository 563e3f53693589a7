/* overlay: how many names only memory and the journal have: files, directories and links that are unsent.
 *
 *      unsent names   0 ---------------- 3/4 limit ---------------- limit: half of memory=
 *      who makes one  goes on            sleeps, the longer the      waits until there are fewer
 *                                        nearer
 *
 * Each costs OVERLAY_NAME_BYTES until it has gone up, and cannot be forgotten as what the bucket has can. They are charged to the
 * budget (SHARE_OVERLAY) some at a time, before they are made; what comes without asking (a mount that finds a backlog, conflicts) is
 * counted all the same, and only who makes more waits for it. While names go up nobody hears an error; when nothing moves for io_timeout, it
 * is -ENOSPC.
 *
 * Not here: bytes (pressure.h); what was removed (deleter_throttle).
 * Threads: overlay_join(), overlay_leave() with any lock but a leaf's; the others without any.
 */
#ifndef CACHE_OVERLAY_H
#define CACHE_OVERLAY_H

#include "base/waiter.h"
#include "cache/cache.h"

/* An inode, its upload, its account in the ledger, their texts and sets, and what malloc adds. */
#define OVERLAY_NAME_BYTES ((size_t)4096)

struct overlay;

struct overlay *overlay_new(struct cache *cache);
/* Nobody waits. */
void overlay_free(struct overlay *overlay);
void overlay_join(struct overlay *overlay);
void overlay_leave(struct overlay *overlay);
/* After overlay_leave(), when no lock is held: memory that was meant for more of them goes back. */
void overlay_settle(struct overlay *overlay);
/* Before `inode` becomes unsent, or a new one is made (NULL): 0; at once when it is unsent already. -EAGAIN (no waiter), -EINTR, -ENOSPC. */
int overlay_wait(struct overlay *overlay, struct inode *inode, struct waiter *waiter);
/* So many more have room. */
size_t overlay_room(struct overlay *overlay);

#endif
