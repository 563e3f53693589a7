#include "cache/block.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/core.h"
#include "cache/keepsake.h"

#define STEAL_LOOKS 64 /* how far from the cold end a page is searched */
#define WINDOW_MAX  ((uint64_t)64 << 20)
#define RATE_BYTES  ((uint64_t)1 << 20) /* shorter GETs tell nothing about the rate */
#define FAST_KB_S   128000              /* more than one connection to S3 ever gives */

struct blocks {
    /* Set at birth. */
    struct cache *cache;
    struct memory *memory;
    size_t ahead_max;
    uint64_t window_max;

    struct lock lock;
    /* Under lock. */
    struct list lru;    /* present and unpinned, coldest first */
    struct list passed; /* of these, those that a sequence has gone by, oldest first */
    size_t passed_count;
    size_t ahead; /* blocks that were read ahead, and read by nobody yet */
    struct list fetches;
    struct gate idle;   /* opened when the last fetch ended */
    uint64_t rate_kb_s; /* of one large GET, lately */
    bool stopping;
    struct blocks_report counts;
};

struct fetch {
    struct store_call call;
    struct blocks *blocks;
    struct inode *inode; /* a reference */
    struct block_source source;
    struct block *run[BLOCKS_RUN_MAX];
    struct iovec into[BLOCKS_RUN_MAX];
    size_t count;
    int64_t started_ms;
    size_t landed;    /* blocks of the run that are present; under the lock */
    struct list link; /* in blocks->fetches */
    struct list todo; /* in the list of those to be started */
};

struct lock *blocks_lock(struct blocks *blocks)
{
    return &blocks->lock;
}

/* ---- Pages. ---- */

static void free_page(struct free_pages *free_pages, struct block *block)
{
    enum memory_share share = block->share;
    assert(free_pages->counts[share] < BLOCKS_RUN_MAX);
    free_pages->pages[share][free_pages->counts[share]++] = block->page;
}

void free_pages_give(struct blocks *blocks, struct free_pages *free_pages)
{
    for (int share = 0; share < SHARE_COUNT; share++)
        if (free_pages->counts[share])
            page_put_many(blocks->memory, free_pages->pages[share], free_pages->counts[share],
                          (enum memory_share)share);
    memset(free_pages->counts, 0, sizeof(free_pages->counts));
}

static bool is_full(const struct free_pages *free_pages)
{
    for (int share = 0; share < SHARE_COUNT; share++)
        if (free_pages->counts[share] == BLOCKS_RUN_MAX)
            return true;
    return false;
}

static void leave_table(struct block *block)
{
    if (block->dropped)
        return;
    block->dropped = true;
    HASH_DELETE(by_index, block->inode->block_table, block);
}

static void note_read(struct block *block)
{
    block->blocks->ahead -= block->ahead;
    block->ahead = false;
}

static void rest_block(struct block *block, bool passed)
{
    struct blocks *blocks = block->blocks;
    assert(block->pins == 0 && block->state == BLOCK_PRESENT && list_empty(&block->rest));
    list_append(passed ? &blocks->passed : &blocks->lru, &block->rest);
    block->passed = passed;
    blocks->passed_count += passed;
}

static void unrest_block(struct block *block)
{
    list_remove(&block->rest);
    block->blocks->passed_count -= block->passed;
    block->passed = false;
}

/* The block ends; its page is the caller's. */
static void end_block(struct block *block)
{
    assert(block->pins == 0 && list_empty(&block->waiters));
    leave_table(block);
    unrest_block(block);
    if (block->state == BLOCK_PRESENT) {
        block->blocks->counts.present--;
        block->blocks->counts.wasted += block->ahead;
    }
    note_read(block);
    free(block);
}

static struct block *first_of(struct list *list)
{
    return list_empty(list) ? NULL : container_of(list->next, struct block, rest);
}

static struct block *find_coldest(struct blocks *blocks)
{
    struct block *block = first_of(&blocks->passed);
    return block ? block : first_of(&blocks->lru);
}

/* Read-ahead takes only from blocks that were read. */
static struct block *find_victim(struct blocks *blocks, enum memory_share share)
{
    int looks = 0;
    if (share != SHARE_AHEAD || !list_empty(&blocks->passed))
        return find_coldest(blocks);
    list_for_each (at, &blocks->lru) {
        struct block *block = container_of(at, struct block, rest);
        if (!block->ahead)
            return block;
        if (++looks == STEAL_LOOKS)
            break;
    }
    return NULL;
}

static char *steal_page(struct block *block, enum memory_share *ret_share)
{
    char *page = block->page;
    *ret_share = block->share;
    block->blocks->counts.evicted++;
    end_block(block);
    return page;
}

static char *find_page(struct blocks *blocks, enum memory_share *share, struct pages_held *held)
{
    if (held && held->count) {
        *share = SHARE_DEMAND;
        return held->pages[--held->count];
    }
    if (*share == SHARE_AHEAD && blocks->ahead >= blocks->ahead_max)
        return NULL;
    if (blocks->passed_count > BLOCKS_PASSED_KEEP)
        return steal_page(first_of(&blocks->passed), share);
    char *page = page_try(blocks->memory, *share);
    if (page)
        return page;
    struct block *victim = find_victim(blocks, *share);
    return victim ? steal_page(victim, share) : NULL;
}

static void reclaim(void *context, size_t bytes)
{
    struct blocks *blocks = context;
    while (bytes > 0) {
        struct free_pages free_pages = {0};
        struct block *block;
        size_t freed = 0;
        lock_take(&blocks->lock);
        while (freed < bytes && !is_full(&free_pages) && (block = find_coldest(blocks))) {
            free_page(&free_pages, block);
            blocks->counts.evicted++;
            end_block(block);
            freed += PAGE_BYTES;
        }
        lock_drop(&blocks->lock);
        free_pages_give(blocks, &free_pages);
        if (freed == 0)
            return;
        bytes = bytes > freed ? bytes - freed : 0;
    }
}

/* ---- Blocks. ---- */

struct block *blocks_find_locked(struct inode *inode, uint64_t index)
{
    struct block *block;
    HASH_FIND(by_index, inode->block_table, &index, sizeof(index), block);
    return block;
}

void block_pin_locked(struct block *block)
{
    block->pins++;
    note_read(block);
    unrest_block(block);
}

void block_unpin_locked(struct block *block, bool passed, struct free_pages *free_pages)
{
    assert(block->pins > 0);
    if (--block->pins > 0 || block->state == BLOCK_FETCHING)
        return;
    if (block->dropped) {
        free_page(free_pages, block);
        end_block(block);
    } else {
        rest_block(block, passed);
    }
}

/* Their pages are the first that somebody else gets: freeing them here could call back into who holds a lock. */
static void drop_all_locked(struct inode *inode)
{
    struct block *block, *after;
    HASH_ITER (by_index, inode->block_table, block, after) {
        leave_table(block);
        if (block->pins > 0 || block->state == BLOCK_FETCHING)
            continue;
        unrest_block(block);
        rest_block(block, true);
    }
}

void blocks_drop(struct inode *inode)
{
    struct blocks *blocks = inode->cache->blocks;
    if (!blocks)
        return;
    LOCK_SCOPED(&blocks->lock);
    drop_all_locked(inode);
}

void blocks_expect_locked(struct inode *inode, const struct identity *identity)
{
    if (identity_equal(&inode->block_identity, identity))
        return;
    drop_all_locked(inode);
    inode->block_identity = *identity;
    inode->blocks_stale = false;
}

static struct block *make_block(struct inode *inode, uint64_t index, char *page, enum memory_share share,
                                uint64_t size)
{
    assert(index * PAGE_BYTES < size);
    struct block *block = xcalloc(1, sizeof(*block));
    uint64_t start = index * PAGE_BYTES;
    block->index = index;
    block->inode = inode;
    block->blocks = inode->cache->blocks;
    block->page = page;
    block->share = share;
    block->length = size - start < PAGE_BYTES ? (size_t)(size - start) : PAGE_BYTES;
    list_init(&block->rest);
    list_init(&block->waiters);
    HASH_ADD(by_index, inode->block_table, index, sizeof(block->index), block);
    return block;
}

/* ---- Fetching. ---- */

/* A block has come, or not: readers for whom it was the last go to `ready`. */
static size_t answer_waiters_locked(struct block *block, int rc, struct list *ready)
{
    size_t waited = 0;
    for (struct list *at; (at = list_pop(&block->waiters));) {
        struct block_reader *reader = container_of(at, struct block_wait, link)->reader;
        if (rc < 0 && reader->rc == 0)
            reader->rc = rc;
        assert(reader->waiting && reader->pending > 0);
        waited++;
        if (--reader->pending > 0)
            continue;
        reader->waiting = false;
        list_append(ready, &reader->ready);
    }
    return waited;
}

static void tell_ready(struct list *ready)
{
    lock_assert_none();
    for (struct list *at; (at = list_pop(ready));) {
        struct block_reader *reader = container_of(at, struct block_reader, ready);
        reader->answered(reader);
    }
}

/* Blocks of the run up to `bytes` (all of it when the end came) are here. */
static void mark_landed_locked(struct fetch *fetch, uint64_t bytes, struct list *ready,
                               struct free_pages *free_pages)
{
    while (fetch->landed < fetch->count) {
        struct block *block = fetch->run[fetch->landed];
        uint64_t end = fetch->landed * PAGE_BYTES + block->length;
        if (bytes < end)
            return;
        fetch->landed++;
        block->state = BLOCK_PRESENT;
        fetch->blocks->counts.fetching--;
        fetch->blocks->counts.present++;
        answer_waiters_locked(block, 0, ready);
        if (block->pins > 0)
            continue;
        if (block->dropped) {
            free_page(free_pages, block);
            end_block(block);
        } else {
            rest_block(block, false);
        }
    }
}

static void hear_landed(struct store_call *call, uint64_t landed)
{
    struct fetch *fetch = call->owner;
    struct list ready = LIST_INIT(ready);
    struct free_pages free_pages = {0};
    lock_take(&fetch->blocks->lock);
    mark_landed_locked(fetch, landed, &ready, &free_pages);
    lock_drop(&fetch->blocks->lock);
    free_pages_give(fetch->blocks, &free_pages);
    tell_ready(&ready);
    memory_press(fetch->blocks->memory);
}

/* What did not come: its waiters are told, it is absent again. Returns how many waited. */
static size_t fail_rest_locked(struct fetch *fetch, int rc, struct list *ready, struct free_pages *free_pages)
{
    size_t waited = 0;
    for (; fetch->landed < fetch->count; fetch->landed++) {
        struct block *block = fetch->run[fetch->landed];
        waited += answer_waiters_locked(block, rc, ready);
        leave_table(block);
        note_read(block); /* not wasted: it never came */
        fetch->blocks->counts.fetching--;
        block->state = BLOCK_PRESENT; /* as far as its page goes: nobody writes into it any more */
        fetch->blocks->counts.present++;
        if (block->pins == 0) {
            free_page(free_pages, block);
            end_block(block);
        }
    }
    return waited;
}

/* One line: for a foreign version the first GET that meets it writes that, not each that was on its way. */
static void log_failure(const struct fetch *fetch, int rc, size_t waited, bool first)
{
    BUF_SCOPED words = BUF_INIT;
    if (rc == -ECANCELED || (rc == -ESTALE && !first))
        return;
    if (rc == -ESTALE) {
        log_warn("read of %s: ESTALE: version %s, which is open here, was replaced or removed by somebody "
                 "else: its "
                 "readers get ESTALE, a new open gets what stands there now",
                 fetch->source.key, fetch->source.identity.etag);
        return;
    }
    store_error_print(&fetch->call.error, rc, &words);
    if (waited)
        log_error("read of %s at %llu: %s: %zu reads get an error", fetch->source.key,
                  (unsigned long long)fetch->call.offset, words.bytes, waited);
    else
        log_warn("read-ahead of %s at %llu: %s: nobody waited", fetch->source.key,
                 (unsigned long long)fetch->call.offset, words.bytes);
}

/* Our own upload or copy changes the identity or the key, too: that is no foreign version. `ret_patched`: what is unsent here may
 * need the bytes of that version, which nobody else may have any more (salvage.h). */
static bool is_current_version(const struct fetch *fetch, bool *ret_patched)
{
    struct inode *inode = fetch->inode;
    LOCK_SCOPED(&inode->lock);
    *ret_patched = inode_overlays_locked(inode) && !inode->orphan;
    keepsake_follow_locked(inode); /* our own rename has overwritten it, and does not know that yet */
    return !inode->replacing && !inode->late_id[0] && inode->remote.key &&
           strcmp(inode->remote.key, fetch->source.key) == 0 &&
           strcmp(inode->remote.identity.etag, fetch->source.identity.etag) == 0;
}

/* True for the first to find out that it is a foreign one. */
static bool note_stale_locked(struct fetch *fetch, bool foreign, bool patched)
{
    struct inode *inode = fetch->inode;
    if (!identity_equal(&inode->block_identity, &fetch->source.identity))
        return false;
    bool first = foreign && !inode->blocks_stale;
    inode->blocks_stale = patched && (foreign || inode->blocks_stale);
    if (!patched) {
        drop_all_locked(inode);
        inode->block_identity = (struct identity){0};
    }
    return first;
}

static void end_fetch(struct fetch *fetch)
{
    struct blocks *blocks = fetch->blocks;
    inode_unref(fetch->inode);
    LOCK_SCOPED(&blocks->lock);
    list_remove(&fetch->link);
    store_call_release(&fetch->call);
    free(fetch);
    if (list_empty(&blocks->fetches))
        gate_open(&blocks->idle);
}

static int judge_end(const struct store_call *call)
{
    if (call->rc == -ENOENT)
        return -ESTALE; /* removed: as much another version as a replaced one */
    if (call->rc == 0 && call->received < call->length)
        return -EIO; /* the identity said more: a server that contradicts itself */
    return call->rc;
}

static void note_rate_locked(struct fetch *fetch)
{
    struct blocks *blocks = fetch->blocks;
    int64_t took_ms = clock_ms() - fetch->started_ms;
    if (fetch->call.length < RATE_BYTES)
        return;
    uint64_t rate = fetch->call.length / (uint64_t)(took_ms > 0 ? took_ms : 1);
    blocks->rate_kb_s = blocks->rate_kb_s ? (blocks->rate_kb_s * 7 + rate) / 8 : rate;
}

static void hear_done(struct store_call *call)
{
    struct fetch *fetch = call->owner;
    struct blocks *blocks = fetch->blocks;
    struct list ready = LIST_INIT(ready);
    struct free_pages free_pages = {0};
    int rc = judge_end(call);
    bool patched = false, first = false;
    bool foreign = rc == -ESTALE && is_current_version(fetch, &patched);
    size_t waited = 0;
    lock_take(&blocks->lock);
    if (rc == 0) {
        mark_landed_locked(fetch, call->length, &ready, &free_pages);
        note_rate_locked(fetch);
    } else {
        waited = fail_rest_locked(fetch, rc, &ready, &free_pages);
        first = rc == -ESTALE && note_stale_locked(fetch, foreign, patched);
    }
    lock_drop(&blocks->lock);
    if (rc < 0)
        log_failure(fetch, rc, waited, first);
    free_pages_give(blocks, &free_pages);
    tell_ready(&ready);
    memory_press(blocks->memory);
    end_fetch(fetch);
}

static struct fetch *make_fetch(struct inode *inode, const struct block_source *source)
{
    struct fetch *fetch = xcalloc(1, sizeof(*fetch));
    fetch->blocks = inode->cache->blocks;
    fetch->inode = inode_ref(inode);
    fetch->source = *source;
    list_init(&fetch->todo);
    list_append(&fetch->blocks->fetches, &fetch->link);
    return fetch;
}

/* The last GET of the list, when a block at `index` may join it; else a new one at its end. */
static struct fetch *find_fetch(struct inode *inode, const struct block_source *source,
                                const struct blocks_wanted *wanted, uint64_t index, struct list *fetches)
{
    bool border = wanted->share == SHARE_AHEAD && index % wanted->run == 0;
    if (!list_empty(fetches) && !border) {
        struct fetch *last = container_of(fetches->prev, struct fetch, todo);
        if (last->count < BLOCKS_RUN_MAX && last->run[last->count - 1]->index + 1 == index)
            return last;
    }
    struct fetch *fetch = make_fetch(inode, source);
    list_append(fetches, &fetch->todo);
    return fetch;
}

uint64_t blocks_fetch_locked(struct inode *inode, const struct block_source *source,
                             struct blocks_wanted wanted, struct pages_held *held, struct list *fetches)
{
    struct blocks *blocks = inode->cache->blocks;
    for (uint64_t index = wanted.first; index < wanted.end; index++) {
        if (blocks_find_locked(inode, index))
            continue;
        enum memory_share share = wanted.share;
        char *page = blocks->stopping ? NULL : find_page(blocks, &share, held);
        if (!page)
            return index;
        struct fetch *fetch = find_fetch(inode, source, &wanted, index, fetches);
        struct block *block = make_block(inode, index, page, share, source->identity.size);
        block->ahead = wanted.share == SHARE_AHEAD;
        blocks->ahead += block->ahead;
        fetch->into[fetch->count] = (struct iovec){page, block->length};
        fetch->run[fetch->count++] = block;
        blocks->counts.fetching++;
    }
    return wanted.end;
}

void fetches_start(struct blocks *blocks, struct list *fetches)
{
    for (struct list *at; (at = list_pop(fetches));) {
        struct fetch *fetch = container_of(at, struct fetch, todo);
        struct block *last = fetch->run[fetch->count - 1];
        fetch->call = (struct store_call){
            .op = STORE_GET,
            .key = fetch->source.key,
            .if_match = fetch->source.identity.etag,
            .offset = fetch->run[0]->index * PAGE_BYTES,
            .length = (fetch->count - 1) * PAGE_BYTES + last->length,
            .into = fetch->into,
            .into_count = fetch->count,
            .patience_ms = blocks->cache->config.io_timeout_ms,
            .landed = hear_landed,
            .done = hear_done,
            .owner = fetch,
        };
        fetch->started_ms = clock_ms();
        store_start(blocks->cache->config.store, &fetch->call);
    }
}

uint64_t blocks_room_locked(const struct blocks *blocks)
{
    return blocks->ahead < blocks->ahead_max ? (blocks->ahead_max - blocks->ahead) / 2 * PAGE_BYTES : 0;
}

bool blocks_fast_locked(const struct blocks *blocks)
{
    return blocks->rate_kb_s >= FAST_KB_S;
}

uint64_t blocks_window_max(const struct blocks *blocks)
{
    return blocks->window_max;
}

bool blocks_stopping_locked(const struct blocks *blocks)
{
    return blocks->stopping;
}

/* ---- All of them. ---- */

static void set_limits(struct blocks *blocks, const struct cache_config *config)
{
    struct memory_report memory;
    memory_report(blocks->memory, &memory);
    uint64_t told = config->read_ahead_max, half = memory.limit / 2;
    blocks->ahead_max = half / PAGE_BYTES;
    blocks->window_max = memory.limit / 4 < WINDOW_MAX ? memory.limit / 4 : WINDOW_MAX;
    if (told)
        blocks->window_max = told < half ? told : half;
}

struct blocks *blocks_new(struct cache *cache)
{
    struct blocks *blocks = xcalloc(1, sizeof(*blocks));
    blocks->cache = cache;
    blocks->memory = cache->config.memory;
    lock_init(&blocks->lock, LOCK_BLOCKS, "blocks");
    set_limits(blocks, &cache->config);
    list_init(&blocks->lru);
    list_init(&blocks->passed);
    list_init(&blocks->fetches);
    gate_init(&blocks->idle);
    memory_add_reclaimer(blocks->memory, reclaim, blocks);
    return blocks;
}

void blocks_stop(struct blocks *blocks)
{
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&blocks->lock);
    blocks->stopping = true;
    list_for_each (at, &blocks->fetches)
        store_cancel(blocks->cache->config.store, &container_of(at, struct fetch, link)->call);
    while (!list_empty(&blocks->fetches))
        gate_wait_locked(&blocks->idle, &blocks->lock, &waiter, CLOCK_NEVER);
}

void blocks_free(struct blocks *blocks)
{
    if (!blocks)
        return;
    memory_remove_reclaimer(blocks->memory, blocks);
    reclaim(blocks, SIZE_MAX); /* of inodes that are gone */
    assert(list_empty(&blocks->fetches) && blocks->counts.present == 0 && blocks->ahead == 0);
    gate_release(&blocks->idle);
    lock_release(&blocks->lock);
    free(blocks);
}

void blocks_count_locked(struct blocks *blocks, bool hit)
{
    if (hit)
        blocks->counts.hits++;
    else
        blocks->counts.misses++;
}

void blocks_report(struct blocks *blocks, struct blocks_report *ret_report)
{
    LOCK_SCOPED(&blocks->lock);
    *ret_report = blocks->counts;
}
