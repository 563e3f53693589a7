/* flushing: what is unsent at or below a path is waited for: `skyvol flush` within the daemon.
 *
 * What counts are the versions that stood at the call, as with fsync: a file that is written all the time does not hold it up.
 * (What is to be deleted has no version, and with durability=local the cache's fsync waits for the disk alone: these are waited
 * for until they are seen with nothing unsent.)
 * A server that is away or busy is waited for. What it refuses is not, once it has been tried since it was asked for (cache_publish, by
 * the caller): it is told when all the others have gone up.
 */
#ifndef MOUNT_FLUSHING_H
#define MOUNT_FLUSHING_H

#include "base/waiter.h"
#include "cache/cache.h"
#include "mount/unsent.h"

/* 0: it is sent, but for what is refused, which is added to `failed`. -EINTR: the uploads go on. local: durability=local. */
int flushing_wait(struct cache *cache, bool local, struct waiter *waiter, const char *path,
                  struct unsent *failed);

#endif
