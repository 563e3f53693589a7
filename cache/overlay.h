/* overlay: how many names only memory and the journal have: files, directories and links that are unsent.
 *
 *      unsent names   0 ---------------- 3/4 limit ---------------- limit: half of memory=
 *      who makes one  goes on            sleeps before the first     waits until there are fewer
 *                                        write, the longer the nearer
 *
 * While a name is being made the kernel holds its directory, and who looks there waits, too: so files are slowed down when they are written,
 * where nobody else is in the way, and makers are kept back only where there is no room at all.
 *
 * Each costs OVERLAY_NAME_BYTES until it has gone up, and cannot be forgotten as what the bucket has can. They are charged to the
 * budget (SHARE_OVERLAY) some at a time, before they are made; what comes without asking (a mount that finds a backlog, conflicts) is
 * counted all the same, and only who makes more waits for it. While names go up nobody hears an error; when nothing moves for io_timeout, it
 * is -ENOSPC; or -ENOMEM, where there are fewer, and others have held all the memory for as long.
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
/* Before `inode` becomes unsent, or a new one is made (NULL): 0; at once when it is unsent already. -EAGAIN (no waiter), -EINTR, -ENOSPC,
 * -ENOMEM. */
int overlay_wait(struct overlay *overlay, struct inode *inode, struct waiter *waiter);
/* Before the first bytes of a file: 0 when it has its turn. -EAGAIN (no waiter), -EINTR. */
int overlay_slow_down(struct overlay *overlay, struct waiter *waiter);
/* So many names. */
size_t overlay_limit(const struct overlay *overlay);
/* So many more have room. */
size_t overlay_room(struct overlay *overlay);

#endif
