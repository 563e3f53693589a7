#include <errno.h>
#include <fcntl.h>

#include "cache/content.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "cache/pressure.h"
#include "cache/recording.h"

/* O_SYNC: each write is an fsync. */
static int sync_write(struct cache *cache, struct inode *inode, struct waiter *waiter)
{
    if (cache->config.durability == DURABILITY_LOCAL)
        return journal_flush(cache->journal, waiter);
    return uploader_sync_wait(inode, waiter);
}

/* What is here of it the bucket has as well, and would give it to us again: nothing of it is on its way, in doubt, in conflict or without
 * its name. An upload reads what is here without the lock. */
static bool may_give_back_locked(const struct inode *inode)
{
    bool settled = !inode->upload_busy && !inode->maybe_key && inode->parked_rc != -ESTALE;
    return settled && inode->remote.exists && !inode->displaced && !inode->orphan && !inode->lost &&
           extents_bytes(&inode->present) > inode->dirty_bytes;
}

/* Of a file that grows larger than the disk: what went up, and is here as well. The journal says what is dirty, and the disk hears
 * that, before a byte goes: else the next mount takes holes for what was written. */
static bool give_back(struct cache *cache, struct inode *inode, struct waiter *waiter)
{
    lock_take(&inode->lock);
    bool some = may_give_back_locked(inode) &&
                (!cache->journal || (recording_remote_locked(inode) == 0 && !inode->record_debt));
    uint64_t heard = inode->remote.content_version;
    lock_drop(&inode->lock);
    if (!some || (cache->journal && journal_flush(cache->journal, waiter) < 0))
        return false;
    lock_take(&inode->lock);
    some = may_give_back_locked(inode) && heard == inode->remote.content_version &&
           content_give_back_locked(inode);
    lock_drop(&inode->lock);
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
