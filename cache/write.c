#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

#include "cache/content.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "cache/overlay.h"
#include "cache/part.h"
#include "cache/pressure.h"

#define SYNCHRONOUS (O_SYNC | O_DSYNC)

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

/* The disk had none: 0, try again. What the file itself has is given back once: what a fill brings in would be so for ever. */
static int await_room(struct cache *cache, struct inode *inode, struct waiter *waiter, bool *gave)
{
    bool gives = waiter && !*gave && give_back(cache, inode, waiter);
    *gave = *gave || gives;
    return gives ? 0 : pressure_await_room(cache->pressure, waiter);
}

static bool has_unsent_bytes(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->dirty_bytes > 0;
}

/* The file is going to have so many unsent bytes more; 0: it makes room, and waits for none. */
static int begin_change(struct cache *cache, struct handle *handle, uint64_t bytes, struct waiter *waiter)
{
    int rc = journal_throttle(cache->journal, waiter);
    if (rc == 0)
        rc = overlay_wait(cache->overlay, handle->inode, waiter);
    if (rc == 0 && !has_unsent_bytes(handle->inode))
        rc = overlay_slow_down(cache->overlay, waiter);
    if (rc == 0 && bytes && waiter && pressure_is_near(cache->pressure, bytes))
        give_back(cache, handle->inode, waiter);
    if (rc == 0 && bytes)
        rc = pressure_wait(cache->pressure, bytes, waiter);
    if (rc == 0 && handle->closing)
        content_set_closing(handle, false);
    return rc;
}

static int check_change(const struct cache *cache, const struct handle *handle)
{
    if (cache->config.read_only)
        return -EROFS;
    return (handle->flags & O_ACCMODE) == O_RDONLY ? -EBADF : 0;
}

static int write_as(struct cache *cache, struct waiter *waiter, struct handle *handle, int flags,
                    const void *bytes, size_t size, uint64_t offset)
{
    bool gave = false;
    int rc = check_change(cache, handle);
    if (rc < 0 || size == 0)
        return rc;
    if (flags & SYNCHRONOUS && !waiter)
        return -EAGAIN; /* it waits at its end, where nothing could be taken back */
    rc = begin_change(cache, handle, size, waiter);
    while (rc == 0) {
        rc = content_write(handle->inode, waiter, bytes, size, offset, (flags & O_APPEND) != 0);
        if (rc != -ENOSPC && rc != -EDQUOT)
            break;
        rc = await_room(cache, handle->inode, waiter, &gave);
    }
    return rc == 0 && flags & SYNCHRONOUS ? sync_write(cache, handle->inode, waiter) : rc;
}

int cache_write(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                size_t size, uint64_t offset)
{
    return write_as(cache, waiter, handle, handle->flags, bytes, size, offset);
}

int cache_write_back(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                     size_t size, uint64_t offset)
{
    return write_as(cache, waiter, handle, 0, bytes, size, offset);
}

void cache_set_flags(struct handle *handle, int flags)
{
    const int may = O_APPEND | SYNCHRONOUS;
    int before = handle->flags;
    if ((before ^ flags) & may)
        atomic_store(&handle->flags, (before & ~may) | (flags & may));
}

/* ---- fallocate. ---- */

/* Zeros that have to go up: where the base would show through. */
static uint64_t count_covering(struct inode *inode, uint64_t start, uint64_t end)
{
    LOCK_SCOPED(&inode->lock);
    end = end < inode->base_size ? end : inode->base_size;
    return start < end ? end - start : 0;
}

static int zero(struct cache *cache, struct waiter *waiter, struct handle *handle, uint64_t start,
                uint64_t end, bool grow)
{
    bool gave = false;
    int rc = begin_change(cache, handle, count_covering(handle->inode, start, end), waiter);
    while (rc == 0) {
        rc = content_zero(handle->inode, waiter, start, end, grow);
        if (rc != -ENOSPC && rc != -EDQUOT)
            break;
        rc = await_room(cache, handle->inode, waiter, &gave);
    }
    return rc;
}

static uint64_t count_missing(struct inode *inode, uint64_t start, uint64_t end)
{
    uint64_t bytes = end - start;
    struct extent run;
    LOCK_SCOPED(&inode->lock);
    for (uint64_t at = start; extents_next(&inode->present, at, end, &run); at = run.end)
        bytes -= run.end - run.start;
    return bytes;
}

static int reserve(struct cache *cache, struct waiter *waiter, struct handle *handle, uint64_t start,
                   uint64_t end, bool grow)
{
    struct inode *inode = handle->inode;
    int rc = journal_throttle(cache->journal, waiter);
    if (rc == 0)
        rc = pressure_await_space(cache->pressure, count_missing(inode, start, end), waiter);
    if (rc == 0 && handle->closing)
        content_set_closing(handle, false);
    if (rc == 0)
        rc = content_reserve(inode, waiter, start, end);
    return rc == 0 && grow ? content_zero(inode, waiter, end, end, true) : rc;
}

int cache_allocate(struct cache *cache, struct waiter *waiter, struct handle *handle, int mode,
                   uint64_t offset, uint64_t length)
{
    bool keep = mode & FALLOC_FL_KEEP_SIZE, zeros = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE);
    uint64_t end;
    int way = mode & ~FALLOC_FL_KEEP_SIZE, rc = check_change(cache, handle);
    if (rc < 0)
        return rc;
    if (way != 0 && way != FALLOC_FL_ZERO_RANGE && (way != FALLOC_FL_PUNCH_HOLE || !keep))
        return -EOPNOTSUPP;
    if (__builtin_add_overflow(offset, length, &end))
        end = UINT64_MAX;
    if (end > OBJECT_BYTES_MAX && !(zeros && keep))
        return -EFBIG;
    if (!waiter)
        return -EAGAIN;
    rc = zeros ? zero(cache, waiter, handle, offset, end, !keep)
               : reserve(cache, waiter, handle, offset, end, !keep);
    return rc == 0 && handle->flags & SYNCHRONOUS ? sync_write(cache, handle->inode, waiter) : rc;
}
