#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "cache/clone.h"
#include "cache/content.h"
#include "cache/hole.h"
#include "cache/keepsake.h"
#include "cache/overlay.h"
#include "cache/recording.h"
#include "cache/syncing.h"

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
    int rc = flags & O_TRUNC ? overlay_wait(cache->overlay, inode, waiter) : 0;
    if (rc == 0 && !cache->config.immutable)
        rc = names_revalidate(inode, waiter);
    if (rc == 0 && (flags & O_TRUNC))
        rc = content_truncate(inode, waiter, 0);
    return rc < 0 ? rc : content_open(inode, flags & ~O_TRUNC, process, ret_handle, ret_opened);
}

/* ---- close, fsync. ---- */

bool cache_close_waits(const struct cache *cache)
{
    return cache->config.durability != DURABILITY_WRITEBACK || cache->config.commit_ms == 0;
}

static void answer_when_flushed(struct cache_sync *sync)
{
    syncing_begin(sync);
    syncing_answer(sync, 0);
}

static void begin_sync(struct cache_sync *sync, struct inode *inode)
{
    list_init(&sync->link);
    sync->inode = inode;
    sync->answered = true;
}

void cache_flush(struct cache *cache, struct handle *handle, pid_t process, struct cache_sync *sync)
{
    /* A forked child's exit publishes nothing (0: unknown, may be the opener), and who only read has nothing to wait for. */
    bool stranger = process && handle->process && process != handle->process;
    begin_sync(sync, handle->inode);
    bool writes = (handle->flags & O_ACCMODE) != O_RDONLY;
    if (writes && !stranger)
        content_set_closing(handle, true);
    if (stranger || !writes)
        sync->done(sync, 0);
    else if (cache->config.durability == DURABILITY_SYNC)
        uploader_sync(handle->inode, sync);
    else if (cache->config.durability == DURABILITY_LOCAL || cache->config.commit_ms == 0)
        answer_when_flushed(sync);
    else
        sync->done(sync, 0);
}

void cache_fsync(struct cache *cache, struct inode *inode, struct cache_sync *sync)
{
    begin_sync(sync, inode);
    if (cache->config.durability == DURABILITY_LOCAL && cache->journal)
        answer_when_flushed(sync);
    else
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
    content_set_closing(handle, false);
    lock_take(&inode->lock);
    inode->opens--;
    inode->write_opens -= (handle->flags & O_ACCMODE) != O_RDONLY;
    inode->mapping_opens -= (handle->flags & O_ACCMODE) == O_RDWR;
    bool last = inode->opens == 0;
    if (inode->write_opens == 0) {
        content_trim_locked(inode);
        clone_end_locked(inode);
    }
    bool publish = inode->write_opens == 0 && inode_dirty_locked(inode) && !inode->orphan;
    bool remove = last && inode->delete_at_release;
    if (last)
        content_tidy_locked(inode);
    lock_drop(&inode->lock);
    if (publish)
        uploader_publish(inode);
    else if (last)
        uploader_poke(inode); /* an orphan's upload ends, a clean one is forgotten */
    if (last)
        keepsake_closed(inode);
    if (remove)
        names_delete_behind(inode);
    else
        recording_tidy(inode);
    lock_release(&handle->lock);
    free(handle);
    inode_unref(inode);
}

int cache_seek(struct cache *cache, struct handle *handle, int whence, uint64_t offset, uint64_t *ret_offset)
{
    struct inode *inode = handle->inode;
    (void)cache;
    if (whence != SEEK_DATA && whence != SEEK_HOLE)
        return -EINVAL;
    LOCK_SCOPED(&inode->lock);
    int64_t found =
        whence == SEEK_DATA ? hole_next_data_locked(inode, offset) : hole_next_locked(inode, offset);
    if (found < 0)
        return (int)found;
    *ret_offset = (uint64_t)found;
    return 0;
}

void cache_statfs(struct cache *cache, struct cache_space *ret_space)
{
    (void)cache;
    *ret_space = (struct cache_space){SPACE_BYTES, SPACE_BYTES};
}
