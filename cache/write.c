#include <errno.h>
#include <fcntl.h>

#include "cache/content.h"
#include "cache/core.h"

int cache_write(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                size_t size, uint64_t offset)
{
    bool synchronous = (handle->flags & (O_SYNC | O_DSYNC)) != 0;
    if (cache->config.read_only)
        return -EROFS;
    if ((handle->flags & O_ACCMODE) == O_RDONLY)
        return -EBADF;
    if (size == 0)
        return 0;
    if (synchronous && !waiter)
        return -EAGAIN; /* it waits for S3 at its end, where nothing could be taken back */
    int rc = content_write(handle->inode, waiter, bytes, size, offset, (handle->flags & O_APPEND) != 0);
    return rc == 0 && synchronous ? uploader_sync_wait(handle->inode, waiter) : rc;
}
