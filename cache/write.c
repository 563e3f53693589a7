#include <errno.h>
#include <fcntl.h>

#include "cache/content.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "cache/pressure.h"

/* O_SYNC: each write is an fsync. */
static int sync_write(struct cache *cache, struct inode *inode, struct waiter *waiter)
{
    if (cache->config.durability == DURABILITY_LOCAL)
        return journal_flush(cache->journal, waiter);
    return uploader_sync_wait(inode, waiter);
}

/* Of a file that grows larger than the disk: what went up, and is here as well. */
static bool give_back(struct cache *cache, struct inode *inode, struct waiter *waiter)
{
    bool some = content_give_back(inode, false, waiter);
    if (some)
        pressure_look_again(cache->pressure);
    return some;
}

int cache_write(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                size_t size, uint64_t offset)
{
    bool synchronous = (handle->flags & (O_SYNC | O_DSYNC)) != 0, gave = false;
    if (cache->config.read_only)
        return -EROFS;
    if ((handle->flags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    if (size == 0)
        return 0;
    if (synchronous && !waiter)
        return -EAGAIN; /* it waits at its end, where nothing could be taken back */
    int rc = journal_throttle(cache->journal, waiter);
    if (rc == 0 && waiter && pressure_is_near(cache->pressure, size))
        give_back(cache, handle->inode, waiter);
    if (rc == 0)
        rc = pressure_wait(cache->pressure, size, waiter);
    if (rc == 0 && handle->closing)
        content_set_closing(handle, false);
    while (rc == 0) {
        rc = content_write(handle->inode, waiter, bytes, size, offset, (handle->flags & O_APPEND) != 0);
        if (rc != -ENOSPC && rc != -EDQUOT)
            break;
        bool gives = waiter && !gave && give_back(cache, handle->inode, waiter);
        gave = gave || gives; /* once: what a fill brings in would be given back for ever */
        rc = gives ? 0 : pressure_await_room(cache->pressure, waiter);
    }
    return rc == 0 && synchronous ? sync_write(cache, handle->inode, waiter) : rc;
}
