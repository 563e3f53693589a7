#include "cache/salvage.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "cache/content.h"
#include "cache/core.h"

struct found { /* indices of blocks */
    uint64_t *all;
    size_t count;
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static bool is_missing(const struct block *block, const struct extents *good, uint64_t limit)
{
    uint64_t start = block->index * PAGE_BYTES, end = smaller(start + block->length, limit);

    return block->state == BLOCK_PRESENT && start < end && !extents_cover(good, start, end);
}

static bool are_of_base(const struct inode *inode)
{
    return inode->remote.exists && identity_equal(&inode->block_identity, &inode->remote.identity);
}

static void find_missing(struct inode *inode, const struct extents *copied, struct found *ret_found)
{
    struct extents good = {0};
    struct block *block, *after;
    LOCK_SCOPED(&inode->lock);
    LOCK_SCOPED(blocks_lock(inode->cache->blocks));

    if (!are_of_base(inode) || !inode->block_table)
        return;
    content_join_locked(inode, copied, &good);
    ret_found->all = xmalloc(HASH_CNT(by_index, inode->block_table) * sizeof ret_found->all[0]);
    HASH_ITER (by_index, inode->block_table, block, after) {
        if (is_missing(block, &good, inode->base_size))
            ret_found->all[ret_found->count++] = block->index;
    }
    extents_release(&good);
}

static int compare_indices(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* NULL: it is there no more, or of another version. */
static struct block *pin_one_locked(struct inode *inode, uint64_t index)
{
    LOCK_SCOPED(blocks_lock(inode->cache->blocks));
    struct block *block = are_of_base(inode) ? blocks_find_locked(inode, index) : NULL;

    if (!block || block->state != BLOCK_PRESENT)
        return NULL;
    block_pin_locked(block);
    return block;
}

/* Its page is the first that somebody else gets: its bytes stand in the local file. */
static void unpin_one(struct cache *cache, struct block *block)
{
    struct blocks *blocks = cache->blocks;
    struct free_pages free_pages = {0};

    lock_take(blocks_lock(blocks));
    block_unpin_locked(block, true, &free_pages);
    lock_drop(blocks_lock(blocks));
    free_pages_give(blocks, &free_pages);
    memory_press(cache->config.memory);
}

static int save_one(struct inode *inode, uint64_t index)
{
    lock_take(&inode->lock);
    struct block *block = pin_one_locked(inode, index);
    int rc = block ? content_land_locked(inode, index * PAGE_BYTES, block->page, block->length) : 0;
    bool full = inode->present.count == EXTENTS_MAX;
    lock_drop(&inode->lock);
    if (block)
        unpin_one(inode->cache, block);
    return rc == -ENOSPC && full ? 0 : rc;
}

int salvage_blocks(struct inode *inode, const struct extents *copied)
{
    struct found found = {0};
    int rc = 0;

    find_missing(inode, copied, &found);
    if (found.count)
        qsort(found.all, found.count, sizeof found.all[0], compare_indices); /* neighbours make one range */
    for (size_t i = 0; i < found.count && rc == 0; i++)
        rc = save_one(inode, found.all[i]);
    free(found.all);
    return rc;
}
