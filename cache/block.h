/* block: a range of a remote object in memory: PAGE_BYTES at index * PAGE_BYTES of one inode's remote content.
 *
 *      absent --ask--> waiting for memory --granted--> fetching --landed--> present
 *        ^                                                |                   |
 *        |                                                +--error--> failed -+-- evicted (LRU, unpinned)
 *        '--------------------------------------------------------------------'
 *
 * One GET covers a run of neighbouring blocks; each becomes present as its bytes land, and answers its waiters.
 * A pinned block (a reply being written) is not evicted. A failed block answers its waiters with the error and is dropped.
 * Blocks belong to one generation of their inode; when the remote content changes they are dropped or, if fetching,
 * finish for their waiters only if If-Match held.
 *
 * Owns: each block its page, charged to SHARE_DEMAND or SHARE_AHEAD; all blocks are in one LRU list per cache.
 * Threads: one lock (LOCK_BLOCKS) per cache; completions run on network threads and only mark and answer.
 */
#ifndef CACHE_BLOCK_H
#define CACHE_BLOCK_H

#include "cache/inode.h"

struct blocks; /* all blocks of a cache */

struct blocks *blocks_new(struct cache *cache);
void blocks_free(struct blocks *blocks);
/* Drops all blocks of this inode (a new remote version, eviction of the inode). Pinned pages live until unpinned. */
void blocks_drop(struct inode *inode);

struct blocks_report {
    uint64_t present, fetching, pinned, hits, misses, evicted, wasted; /* wasted: read ahead and never read */
};
void blocks_report(struct blocks *blocks, struct blocks_report *ret_report);

#endif
