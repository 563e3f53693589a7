#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "cache/content.h"
#include "cache/core.h"

#define SPACE_BYTES ((uint64_t)1 << 50) /* a bucket has no end; programs want to see one */

static bool wants_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
}

int cache_open(struct cache *cache, struct waiter *waiter, struct inode *inode, int flags, pid_t process,
               struct handle **ret_handle, struct opened *ret_opened)
{
    if (inode->type == S_IFDIR)
        return -EISDIR;
    if (inode->type == S_IFLNK)
        return -ELOOP;
    if (inode->type != S_IFREG)
        return -ENXIO;
    if (cache->config.read_only && wants_write(flags))
        return -EROFS;
    int rc = names_revalidate(inode, waiter);
    if (rc == 0 && (flags & O_TRUNC))
        rc = content_truncate(inode, waiter, 0);
    return rc < 0 ? rc : content_open(inode, flags & ~O_TRUNC, process, ret_handle, ret_opened);
}

void cache_flush(struct cache *cache, struct handle *handle, pid_t process, struct cache_sync *sync)
{
    (void)cache;
    list_init(&sync->link);
    sync->inode = handle->inode;
    sync->answered = true;
    /* A forked child's exit publishes nothing (0: unknown, may be the opener), and who only read has nothing to wait for. */
    bool stranger = process && handle->process && process != handle->process;
    if (stranger || (handle->flags & O_ACCMODE) == O_RDONLY)
        sync->done(sync, 0);
    else
        uploader_sync(handle->inode, sync);
}

void cache_fsync(struct cache *cache, struct inode *inode, struct cache_sync *sync)
{
    (void)cache;
    uploader_sync(inode, sync);
}

bool cache_sync_interrupt(struct cache *cache, struct cache_sync *sync)
{
    (void)cache;
    return uploader_sync_interrupt(sync);
}

void cache_release(struct cache *cache, struct handle *handle)
{
    (void)cache;
    struct inode *inode = handle->inode;
    lock_take(&inode->lock);
    inode->opens--;
    inode->write_opens -= (handle->flags & O_ACCMODE) != O_RDONLY;
    bool last = inode->opens == 0;
    bool publish = inode->write_opens == 0 && inode_dirty_locked(inode) && !inode->orphan;
    bool remove = last && inode->delete_at_release;
    if (last)
        content_tidy_locked(inode);
    lock_drop(&inode->lock);
    if (publish)
        uploader_publish(inode);
    else if (last)
        uploader_poke(inode); /* an orphan's upload ends, a clean one is forgotten */
    if (remove)
        names_delete_behind(inode);
    lock_release(&handle->lock);
    free(handle);
    inode_unref(inode);
}

void cache_statfs(struct cache *cache, struct cache_space *ret_space)
{
    (void)cache;
    *ret_space = (struct cache_space){SPACE_BYTES, SPACE_BYTES};
}

int cache_drain(struct cache *cache, struct waiter *waiter, int64_t deadline_ms, size_t *ret_unsent)
{
    return uploader_drain(cache->uploader, waiter, deadline_ms, ret_unsent);
}

void cache_unsent(struct cache *cache,
                  void (*each)(void *context, const char *key, const char *path, uint64_t bytes,
                               const char *why),
                  void *context)
{
    uploader_each_unsent(cache->uploader, each, context);
}
