#include "cache/hole.h"

#include <assert.h>
#include <errno.h>

/* All before it is data. */
static uint64_t whole_until_locked(const struct inode *inode)
{
    uint64_t size = inode->wanted.attributes.size;
    return inode->mapping_opens || inode->base_size > size ? size : inode->base_size;
}

int64_t hole_next_data_locked(const struct inode *inode, uint64_t from)
{
    uint64_t size = inode->wanted.attributes.size;
    struct extent run;
    assert(lock_held(&inode->lock));
    if (from >= size)
        return -ENXIO;
    if (from < whole_until_locked(inode))
        return (int64_t)from;
    return extents_next(&inode->present, from, size, &run) ? (int64_t)run.start : -ENXIO;
}

int64_t hole_next_locked(const struct inode *inode, uint64_t from)
{
    uint64_t size = inode->wanted.attributes.size, whole = whole_until_locked(inode);
    struct extent gap;
    assert(lock_held(&inode->lock));
    if (from >= size)
        return -ENXIO;
    if (from < whole)
        from = whole;
    return extents_next_gap(&inode->present, from, size, &gap) ? (int64_t)gap.start : (int64_t)size;
}

uint64_t hole_data_bytes_locked(const struct inode *inode)
{
    uint64_t size = inode->wanted.attributes.size, bytes = whole_until_locked(inode);
    struct extent run;
    for (uint64_t at = bytes; extents_next(&inode->present, at, size, &run); at = run.end)
        bytes += run.end - run.start;
    return bytes;
}
