#include "cache/syncing.h"

#include <errno.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cache/change.h"
#include "cache/deleter.h"
#include "cache/journal.h"
#include "cache/uploader.h"
#include "cache/veil.h"

struct flush {
    struct journal_wait wait;
    struct cache_sync *sync;
};

static void hear_flush(struct journal_wait *wait, int rc)
{
    struct flush *flush = container_of(wait, struct flush, wait);
    struct cache_sync *sync = flush->sync;
    free(flush);
    sync->done(sync, rc);
}

void syncing_begin(struct cache_sync *sync)
{
    struct journal *journal = sync->inode->cache->journal;
    sync->recorded = journal ? journal_hurry(journal) : 0;
}

void syncing_answer(struct cache_sync *sync, int rc)
{
    struct journal *journal = sync->inode->cache->journal;
    if (rc < 0 || !journal) {
        sync->done(sync, rc);
        return;
    }
    struct flush *flush = xcalloc(1, sizeof *flush);
    *flush = (struct flush){.wait = {.appended = sync->recorded, .flushed = hear_flush}, .sync = sync};
    journal_await(journal, &flush->wait);
}

/* ---- A directory. ---- */

static bool is_closed_unsent(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode_dirty_locked(inode) && !inode->orphan && inode->write_opens <= inode->closing_opens;
}

/* References to itself and to what stands in it, as far as that is to go up. */
static size_t collect(struct inode *directory, struct inode ***ret_files)
{
    LOCK_SCOPED(&directory->cache->names.lock);
    struct inode **files = xcalloc(directory->child_count + 2, sizeof files[0]);
    size_t count = 0;

    if (is_closed_unsent(directory))
        files[count++] = inode_ref(directory);

    list_for_each (at, &directory->children) {
        struct inode *child = container_of(at, struct inode, sibling);
        if (is_closed_unsent(child))
            files[count++] = inode_ref(child);
    }
    *ret_files = files;
    return count;
}

/* All at once, then one after the other is waited for. */
static int sync_files(struct inode *directory, struct waiter *waiter)
{
    struct inode **files;
    size_t count = collect(directory, &files);
    int rc = 0;

    for (size_t i = 0; i < count; i++)
        uploader_publish(files[i]);
    for (size_t i = 0; i < count; i++) {
        if (rc == 0)
            rc = uploader_sync_wait(files[i], waiter);
        inode_unref(files[i]);
    }
    free(files);
    return rc;
}

static size_t count_leaving(struct cache *cache)
{
    struct deleter_report report;
    deleter_report(cache->deleter, &report);
    return report.count;
}

/* As long as some go. */
static int sync_removals(struct inode *directory, struct waiter *waiter)
{
    struct cache *cache = directory->cache;
    BUF_SCOPED key = BUF_INIT;
    size_t before, after = count_leaving(cache);
    int rc = names_key(directory, &key);

    if (rc < 0)
        return rc == -ENOENT ? 0 : rc; /* it was removed itself */
    do {
        before = after;
        rc = deleter_await_entries(cache->deleter, key.bytes, waiter,
                                   clock_ms() + cache->config.io_timeout_ms);
        after = count_leaving(cache);
    } while (rc == -ETIMEDOUT && after < before);
    if (rc == 0 && change_goes_behind(cache)) /* what was renamed away from it */
        rc = veil_await_displaced(cache, key.bytes, VEIL_ENTRIES, waiter);
    return rc == -ETIMEDOUT ? -EIO : rc;
}

int cache_fsync_directory(struct cache *cache, struct waiter *waiter, struct inode *directory)
{
    if (directory->type != S_IFDIR)
        return -ENOTDIR;
    if (cache->config.read_only)
        return 0;
    if (!waiter)
        return -EAGAIN;
    if (cache->config.durability == DURABILITY_LOCAL && cache->journal)
        return journal_flush(cache->journal, waiter);
    int rc = sync_files(directory, waiter);
    return rc < 0 ? rc : sync_removals(directory, waiter);
}
