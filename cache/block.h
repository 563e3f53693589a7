/* block: a range of a remote object in memory: PAGE_BYTES at index * PAGE_BYTES of one inode's remote content.
 *
 *      absent --blocks_fetch--> fetching --landed--> present --+--> absent (evicted, or dropped and unpinned)
 *        ^                         |
 *        '---------error-----------'
 *
 * One GET covers a run of neighbouring blocks; each becomes present as its bytes land, and answers its waiters at once.
 * A pinned block (a reply being written) is neither evicted nor freed. Blocks that a failed GET did not bring answer their
 * waiters with the error and are absent again.
 * A dropped block is in the table no more: who has it pinned or waits for it still gets it, nobody else does.
 *
 * Memory: a page per block. A sequence takes the pages that it has passed again (the kernel has their bytes), but for the
 * last BLOCKS_PASSED_KEEP: it needs no more memory than its window. Read-ahead else takes what is free, or the page of a
 * block that was read, up to half of the limit in blocks that nobody has read yet, and does without otherwise. A demand
 * read may take the page of any unpinned block; where there is none it asks the budget for all that it may need and holds
 * nothing meanwhile, so that two that wait never hold what the other one needs, and that one grant is enough.
 *
 * A foreign version: ESTALE for the readers of that GET, all blocks of the old version dropped, one line in the log. Those of a file
 * that is unsent or open for writing stay: what is written here may need them to be whole (salvage.h).
 *
 * Owns: each block its page, charged to the share in which it was first taken. A present, unpinned block rests in one of two
 * lists of the cache: `passed`, oldest first, these go first; `lru`, coldest first.
 * Threads: one lock (LOCK_BLOCKS) per cache; completions run on network threads and only mark and answer.
 */
#ifndef CACHE_BLOCK_H
#define CACHE_BLOCK_H

#include "cache/inode.h"

#define BLOCKS_PASSED_KEEP 64 /* for small steps back */
#define BLOCKS_RUN_MAX     128 /* blocks of one GET: 16 MiB; MinIO spends 1 ms on a request and 0.5 on each MiB */
#define PAGES_HELD_MAX     32 /* of one read */

enum block_state { BLOCK_FETCHING, BLOCK_PRESENT };

struct blocks; /* all blocks of a cache */
struct fetch;  /* one GET */

struct block {
    UT_hash_handle by_index; /* in inode->block_table */
    uint64_t index;
    struct inode *inode;
    struct blocks *blocks;
    char *page;
    enum memory_share share;
    enum block_state state;
    size_t length;       /* bytes of the object in it */
    uint32_t pins;       /* reads that hold or wait for it */
    bool dropped;        /* not in the table any more */
    bool ahead;          /* read ahead, and nobody has pinned it so far */
    struct list rest;    /* in blocks->lru or passed, while present and unpinned */
    bool passed;         /* it is in blocks->passed */
    struct list waiters; /* struct block_wait */
};

/* A read that waits for blocks; under the lock of blocks. */
struct block_reader {
    size_t pending; /* blocks that have not been answered */
    int rc;         /* the first error */
    bool waiting;   /* until the last block has been answered, or the reader has withdrawn */
    struct list ready;
    void (*answered)(struct block_reader *reader); /* called once, without locks, on a network thread */
};

/* Its place at one of them. */
struct block_wait {
    struct list link; /* in block->waiters; alone when it does not wait */
    struct block_reader *reader;
};

/* Pages taken before the lock, for blocks that are missing. */
struct pages_held {
    void *pages[PAGES_HELD_MAX];
    size_t count;
};

struct blocks *blocks_new(struct cache *cache);
/* After blocks_stop(), when all reads and inodes have ended. */
void blocks_free(struct blocks *blocks);
/* Before everything else ends: GETs that run are canceled, and their ends waited for. */
void blocks_stop(struct blocks *blocks);
/* Drops all blocks of this inode (a new remote version, the end of the inode). Pinned pages live until unpinned. The
 * inode's lock may be held. */
void blocks_drop(struct inode *inode);
/* From now on the blocks of this inode are those of this version: those of another one are dropped. */
void blocks_expect_locked(struct inode *inode, const struct identity *identity);
struct lock *blocks_lock(struct blocks *blocks);

/* Whose bytes are fetched; a copy of what the inode said. */
struct block_source {
    char key[STORE_KEY_MAX + 1];
    struct identity identity;
};

/* Under blocks_lock(). The block of the current content, or NULL. */
struct block *blocks_find_locked(struct inode *inode, uint64_t index);
void block_pin_locked(struct block *block);
/* passed: a stream has gone by, nobody is expected to come back. Frees a dropped block: its page comes back in
 * `ret_free` (give it by block_give_pages without the lock). */
struct free_pages;
void block_unpin_locked(struct block *block, bool passed, struct free_pages *free_pages);

/* Pages on their way back to the budget, collected under the lock and given without it. */
struct free_pages {
    void *pages[SHARE_COUNT][BLOCKS_RUN_MAX];
    size_t counts[SHARE_COUNT];
};
void free_pages_give(struct blocks *blocks, struct free_pages *free_pages);

struct blocks_wanted {
    uint64_t first, end;     /* indices */
    enum memory_share share; /* DEMAND or AHEAD */
    uint64_t run;            /* of AHEAD: blocks of one GET, which ends at multiples of it */
};
/* Makes the blocks of `inode` that are missing, and a GET for each run of them; what goes on where the last GET in
 * `fetches` ends joins it. `held` pages (may be NULL) are used first. Returns the index of the first block that could have
 * no page: it and those behind it stay absent. The GETs are sent by fetches_start() without the lock. */
uint64_t blocks_fetch_locked(struct inode *inode, const struct block_source *source,
                             struct blocks_wanted wanted, struct pages_held *held, struct list *fetches);
void fetches_start(struct blocks *blocks, struct list *fetches);

/* Bytes that one more stream may read ahead now: half of what is left, so that every one gets some. */
uint64_t blocks_room_locked(const struct blocks *blocks);
/* The last large GETs were so fast, each of them, that few in flight are enough. */
bool blocks_fast_locked(const struct blocks *blocks);
/* The largest window of one stream. */
uint64_t blocks_window_max(const struct blocks *blocks);
bool blocks_stopping_locked(const struct blocks *blocks);

struct blocks_report {
    uint64_t present, fetching, hits, misses, evicted, wasted; /* wasted: read ahead and never read */
};
void blocks_report(struct blocks *blocks, struct blocks_report *ret_report);
void blocks_count_locked(struct blocks *blocks, bool hit);

#endif
