/* One read of an open file: from the question to the pinned pieces of its answer.
 *
 *      start --all there--> finish --> done
 *        |  \--missing--> (pages in hand? else asking memory) --> waiting for blocks --> finish
 *        ^                                                              |
 *        '------ the base is another one by now: from the start --------'
 *
 * A read takes one snapshot of the inode: size, identity, base_size. It is checked again before the answer is put
 * together, so that an answer never mixes two remote versions. Base blocks are answered from where they lie; where local
 * bytes or holes are in the range, the answer is put together in pages of its own.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/block.h"
#include "cache/content.h"
#include "cache/core.h"

/* The kernel asks for at most 1 MiB, at any offset. */
#define READ_BYTES_MAX  ((size_t)1 << 20)
#define READ_BLOCKS_MAX (READ_BYTES_MAX / PAGE_BYTES + 1)
#define RESTARTS_MAX    8 /* an inode whose base changes under every try is not read for ever */

#define WINDOW_MAX ((uint64_t)64 << 20)

struct snapshot {
    struct block_source source;
    uint64_t size, base_size;
    bool local;       /* local bytes touch the range */
    uint32_t covered; /* bit i: local bytes stand for all that is wanted of block i */
};

struct wait {
    struct block_wait wait;
    struct block *block; /* pinned; NULL: not needed */
};

struct read_state {
    struct cache *cache;
    struct cache_read *read;
    struct inode *inode;
    uint64_t start, end; /* of the file; end after the cut at its size */
    uint64_t first;      /* index of waits[0] */
    size_t count;        /* blocks of the range */
    struct snapshot snapshot;
    bool passed; /* sequential: nobody comes back for these blocks */
    int restarts;

    /* Under the lock of blocks. */
    struct block_reader reader;
    bool asking;      /* for memory */
    bool interrupted; /* the user asked once: no wait begins any more */
    struct wait waits[READ_BLOCKS_MAX];

    /* Of the thread that works on it. */
    struct memory_request memory;
    struct pages_held held;
    void *own[READ_BLOCKS_MAX]; /* pages of an answer that is put together */
    size_t own_count;
    struct iovec pieces[READ_BLOCKS_MAX];
};

static void begin(struct read_state *state);

/* ---- The end. ---- */

static void give_pages(struct read_state *state)
{
    struct memory *memory = state->cache->config.memory;
    if (state->held.count)
        page_put_many(memory, state->held.pages, state->held.count, SHARE_DEMAND);
    state->held.count = 0;
    if (state->own_count)
        page_put_many(memory, state->own, state->own_count, SHARE_DEMAND);
    state->own_count = 0;
}

static void unpin_all(struct read_state *state)
{
    struct blocks *blocks = state->cache->blocks;
    struct free_pages free_pages = {0};
    lock_take(blocks_lock(blocks));
    for (size_t i = 0; i < state->count; i++) {
        struct wait *wait = &state->waits[i];
        if (!wait->block)
            continue;
        list_remove(&wait->wait.link);
        block_unpin_locked(wait->block, state->passed, &free_pages);
        wait->block = NULL;
    }
    lock_drop(blocks_lock(blocks));
    free_pages_give(blocks, &free_pages);
    memory_press(state->cache->config.memory);
}

static void answer(struct read_state *state, int rc)
{
    struct cache_read *read = state->read;
    lock_assert_none();
    read->rc = rc;
    if (rc < 0) {
        read->pieces = NULL;
        read->piece_count = 0;
        read->length = 0;
    }
    read->done(read);
}

void cache_read_release(struct cache *cache, struct cache_read *read)
{
    struct read_state *state = read->state;
    (void)cache;
    if (!state)
        return;
    read->state = NULL;
    unpin_all(state);
    give_pages(state);
    inode_unref(state->inode);
    free(state);
}

/* ---- Putting the answer together. ---- */

static void point_at_blocks(struct read_state *state)
{
    struct cache_read *read = state->read;
    uint64_t at = state->start;
    size_t count = 0;
    for (; at < state->end; count++) {
        struct block *block = state->waits[at / PAGE_BYTES - state->first].block;
        size_t within = (size_t)(at % PAGE_BYTES);
        size_t length = PAGE_BYTES - within;
        if (length > state->end - at)
            length = (size_t)(state->end - at);
        assert(block && within + length <= block->length);
        state->pieces[count] = (struct iovec){block->page + within, length};
        at += length;
    }
    read->pieces = state->pieces;
    read->piece_count = count;
    read->length = (size_t)(state->end - state->start);
}

/* The part of the base that lies in one piece of an own page; zeros beyond it. */
static void fill_from_base(struct read_state *state, char *to, uint64_t at, size_t length)
{
    struct block *block = state->waits[at / PAGE_BYTES - state->first].block;
    size_t within = (size_t)(at % PAGE_BYTES);
    size_t good = 0;
    if (block && at < state->snapshot.base_size) {
        uint64_t rest = state->snapshot.base_size - at;
        good = rest < length ? (size_t)rest : length;
        assert(within + good <= block->length);
        memcpy(to, block->page + within, good);
    }
    memset(to + good, 0, length - good);
}

static int fill_from_local_locked(struct inode *inode, char *to, uint64_t at, size_t length)
{
    struct extent extent;
    for (uint64_t from = at; extents_next(&inode->present, from, at + length, &extent); from = extent.end) {
        size_t size = (size_t)(extent.end - extent.start);
        ssize_t got = disk_read(inode->local, to + (extent.start - at), size, extent.start);
        if (got < 0)
            return (int)got;
        if ((size_t)got < size)
            return -EIO;
    }
    return 0;
}

static int put_together_locked(struct read_state *state)
{
    struct cache_read *read = state->read;
    size_t count = 0;
    for (uint64_t at = state->start; at < state->end; count++) {
        uint64_t stop = (at / PAGE_BYTES + 1) * PAGE_BYTES;
        size_t length = (size_t)((stop < state->end ? stop : state->end) - at);
        char *to = state->own[count];
        fill_from_base(state, to, at, length);
        int rc = fill_from_local_locked(state->inode, to, at, length);
        if (rc < 0)
            return rc;
        state->pieces[count] = (struct iovec){to, length};
        at += length;
    }
    read->pieces = state->pieces;
    read->piece_count = count;
    read->length = (size_t)(state->end - state->start);
    return 0;
}

/* True: a part of the base that was left out, as local bytes stood for it, is needed by now. */
static bool lacks_base_locked(const struct read_state *state)
{
    for (size_t i = 0; i < state->count; i++) {
        uint64_t start = (state->first + i) * PAGE_BYTES, end = start + PAGE_BYTES;
        start = start > state->start ? start : state->start;
        end = end < state->end ? end : state->end;
        end = end < state->snapshot.base_size ? end : state->snapshot.base_size;
        if (!state->waits[i].block && start < end && !extents_cover(&state->inode->present, start, end))
            return true;
    }
    return false;
}

static bool is_stale_locked(const struct read_state *state)
{
    const struct inode *inode = state->inode;
    const struct snapshot *snapshot = &state->snapshot;
    bool needs_base = state->start < snapshot->base_size;
    return inode->base_size != snapshot->base_size ||
           (needs_base && strcmp(inode->remote.identity.etag, snapshot->source.identity.etag) != 0) ||
           lacks_base_locked(state);
}

static void restart(struct read_state *state)
{
    unpin_all(state);
    give_pages(state);
    if (++state->restarts > RESTARTS_MAX)
        answer(state, -ESTALE);
    else
        begin(state);
}

static void finish(struct read_state *state)
{
    struct inode *inode = state->inode;
    lock_take(&inode->lock);
    bool stale = is_stale_locked(state);
    int rc = 0;
    if (!stale && state->own_count)
        rc = put_together_locked(state);
    lock_drop(&inode->lock);
    if (stale) {
        restart(state);
        return;
    }
    if (!state->own_count)
        point_at_blocks(state);
    answer(state, rc);
}

/* ---- Waiting for blocks. ---- */

static void hear_blocks(struct block_reader *reader)
{
    struct read_state *state = container_of(reader, struct read_state, reader);
    int rc = reader->rc;
    if (rc == 0) {
        finish(state);
        return;
    }
    /* A base that our own upload replaced meanwhile is no foreign version: the same bytes lie under its new identity. */
    lock_take(&state->inode->lock);
    bool moved = rc == -ESTALE && is_stale_locked(state);
    if (rc == -ESTALE && !moved)
        state->inode->remote.confirmed_ms = 0; /* the next open asks, however fresh this seemed */
    lock_drop(&state->inode->lock);
    if (moved)
        restart(state);
    else
        answer(state, rc == -ETIMEDOUT || rc == -ECANCELED ? -EIO : rc);
}

static bool needs_block(const struct read_state *state, uint64_t index)
{
    return index * PAGE_BYTES < state->snapshot.base_size &&
           !(state->snapshot.covered >> (index - state->first) & 1);
}

static size_t count_missing_locked(const struct read_state *state)
{
    size_t missing = 0;
    for (size_t i = 0; i < state->count; i++)
        missing +=
            needs_block(state, state->first + i) && !blocks_find_locked(state->inode, state->first + i);
    return missing;
}

/* Pins every block of the range and waits for those on their way. False: some are absent, nothing is pinned. */
static bool pin_all_locked(struct read_state *state)
{
    if (count_missing_locked(state) > 0)
        return false;
    state->reader = (struct block_reader){.answered = hear_blocks};
    list_init(&state->reader.ready);
    for (size_t i = 0; i < state->count; i++) {
        struct wait *wait = &state->waits[i];
        list_init(&wait->wait.link);
        wait->wait.reader = &state->reader;
        wait->block =
            needs_block(state, state->first + i) ? blocks_find_locked(state->inode, state->first + i) : NULL;
        if (!wait->block)
            continue;
        block_pin_locked(wait->block);
        wait->block->was_read = true;
        blocks_count_locked(state->cache->blocks, wait->block->state == BLOCK_PRESENT);
        if (wait->block->state == BLOCK_FETCHING) {
            list_append(&wait->block->waiters, &wait->wait.link);
            state->reader.pending++;
        }
    }
    state->reader.waiting = state->reader.pending > 0;
    return true;
}

/* ---- Memory. ---- */

static void claim(struct read_state *state)
{
    struct memory *memory = state->cache->config.memory;
    size_t count = state->memory.bytes / PAGE_BYTES;
    for (size_t i = 0; i < count; i++)
        state->held.pages[state->held.count++] = page_claim(memory, SHARE_DEMAND);
}

static void work(struct read_state *state);

static void hear_grant(struct memory_request *request)
{
    struct read_state *state = container_of(request, struct read_state, memory);
    struct lock *lock = blocks_lock(state->cache->blocks);
    claim(state);
    lock_take(lock);
    state->asking = false;
    bool interrupted = state->interrupted;
    lock_drop(lock);
    if (interrupted)
        answer(state, -EINTR);
    else
        work(state);
}

/* Asks for what may be missing, all at once and with nothing pinned. */
static void ask_for_pages(struct read_state *state, size_t count)
{
    state->memory = (struct memory_request){
        .bytes = count * PAGE_BYTES, .share = SHARE_DEMAND, .granted = hear_grant, .pages = true};
    lock_take(blocks_lock(state->cache->blocks));
    state->asking = true;
    lock_drop(blocks_lock(state->cache->blocks));
    int rc = memory_ask(state->cache->config.memory, &state->memory);
    if (rc < 0)
        answer(state, -ENOMEM);
}

static size_t count_own(const struct read_state *state)
{
    return state->snapshot.local || state->snapshot.base_size < state->end ? state->count : 0;
}

static bool take_own_pages(struct read_state *state)
{
    size_t wanted = count_own(state);
    while (state->own_count < wanted && state->held.count)
        state->own[state->own_count++] = state->held.pages[--state->held.count];
    while (state->own_count < wanted) {
        void *page = page_try(state->cache->config.memory, SHARE_DEMAND);
        if (!page)
            return false;
        state->own[state->own_count++] = page;
    }
    return true;
}

/* ---- The beginning. ---- */

static uint64_t read_window(const struct cache *cache)
{
    struct memory_report memory;
    memory_report(cache->config.memory, &memory);
    uint64_t window = memory.limit / 4 < WINDOW_MAX ? memory.limit / 4 : WINDOW_MAX;
    uint64_t told = cache->config.read_ahead_max;
    return told && told < memory.limit / 2 ? told : window;
}

/* Before the demand's blocks are looked at, so that one GET can cover both. */
static struct prefetch_plan plan_ahead(struct read_state *state)
{
    struct handle *handle = state->read->handle;
    struct prefetch_plan plan;
    uint64_t window = read_window(state->cache);
    LOCK_SCOPED(&handle->lock);
    prefetch_read(&handle->prefetch, state->start, state->end - state->start, state->snapshot.base_size,
                  window, true, &plan);
    state->passed = plan.sequential;
    return plan;
}

static void fetch_ahead_locked(struct read_state *state, const struct prefetch_plan *plan,
                               struct list *fetches)
{
    uint64_t last = plan->ahead_end < state->snapshot.base_size ? plan->ahead_end : state->snapshot.base_size;
    if (plan->ahead_start < last)
        blocks_fetch_locked(state->inode, &state->snapshot.source, plan->ahead_start / PAGE_BYTES,
                            (last + PAGE_BYTES - 1) / PAGE_BYTES, SHARE_AHEAD, NULL, fetches);
}

/* Its blocks still land, for whoever comes next; from here on nobody else answers this read. */
static bool withdraw_locked(struct read_state *state)
{
    for (size_t i = 0; i < state->count; i++)
        if (state->waits[i].block)
            list_remove(&state->waits[i].wait.link);
    state->reader.waiting = false;
    return true;
}

static void work_with(struct read_state *state, const struct prefetch_plan *plan)
{
    struct blocks *blocks = state->cache->blocks;
    struct list fetches = LIST_INIT(fetches);
    uint64_t end = state->first + state->count;
    bool own = take_own_pages(state), pinned = false;
    size_t missing = 0;
    lock_take(blocks_lock(blocks));
    blocks_expect_locked(state->inode, &state->snapshot.source.identity);
    while (end > state->first && !needs_block(state, end - 1))
        end--;
    if (own) {
        blocks_fetch_locked(state->inode, &state->snapshot.source, state->first, end, SHARE_DEMAND,
                            &state->held, &fetches);
        if (plan)
            fetch_ahead_locked(state, plan, &fetches);
        pinned = pin_all_locked(state);
    }
    bool waits = pinned && state->reader.waiting;
    bool interrupted = waits && state->interrupted && withdraw_locked(state);
    if (!pinned)
        missing = count_missing_locked(state);
    lock_drop(blocks_lock(blocks));
    /* Once it waits, a network thread may end it: it is not touched after the GETs are sent. */
    struct pages_held surplus = state->held;
    if (pinned)
        state->held.count = 0;
    struct cache *cache = state->cache;
    if (pinned && surplus.count)
        page_put_many(cache->config.memory, surplus.pages, surplus.count, SHARE_DEMAND);
    fetches_start(blocks, &fetches);
    if (!pinned)
        ask_for_pages(state, missing + count_own(state) - state->own_count);
    else if (interrupted)
        answer(state, -EINTR);
    else if (!waits)
        finish(state);
}

static void work(struct read_state *state)
{
    work_with(state, NULL);
}

static void note_covered_locked(struct read_state *state)
{
    struct snapshot *snapshot = &state->snapshot;
    snapshot->covered = 0;
    for (size_t i = 0; snapshot->local && i < state->count; i++) {
        uint64_t start = (state->first + i) * PAGE_BYTES, end = start + PAGE_BYTES;
        start = start > state->start ? start : state->start;
        end = end < state->end ? end : state->end;
        end = end < snapshot->base_size ? end : snapshot->base_size;
        if (start < end && extents_cover(&state->inode->present, start, end))
            snapshot->covered |= 1u << i;
    }
}

static void take_snapshot(struct read_state *state)
{
    struct inode *inode = state->inode;
    struct snapshot *snapshot = &state->snapshot;
    struct cache_read *read = state->read;
    LOCK_SCOPED(&inode->lock);
    snapshot->size = inode->wanted.attributes.size;
    snapshot->base_size = inode->remote.exists ? inode->base_size : 0;
    snapshot->source.identity = inode->remote.identity;
    snapshot->source.key[0] = '\0';
    if (inode->remote.exists)
        strncat(snapshot->source.key, inode->remote.key, STORE_KEY_MAX);
    state->start = read->offset < snapshot->size ? read->offset : snapshot->size;
    state->end = read->size < snapshot->size - state->start ? state->start + read->size : snapshot->size;
    snapshot->local = state->end > state->start && extents_touch(&inode->present, state->start, state->end);
    state->first = state->start / PAGE_BYTES;
    state->count = state->end > state->start ? (size_t)((state->end - 1) / PAGE_BYTES - state->first + 1) : 0;
    note_covered_locked(state);
}

static void begin(struct read_state *state)
{
    take_snapshot(state);
    if (state->count == 0) {
        state->read->length = 0;
        answer(state, 0);
        return;
    }
    struct prefetch_plan plan = plan_ahead(state);
    bool all_local = state->snapshot.covered == (1u << state->count) - 1;
    work_with(state, all_local ? NULL : &plan);
}

void cache_read(struct cache *cache, struct cache_read *read)
{
    struct read_state *state = xcalloc(1, sizeof(*state));
    state->cache = cache;
    state->read = read;
    state->inode = inode_ref(read->handle->inode);
    list_init(&read->link);
    read->state = state;
    read->pieces = NULL;
    read->piece_count = 0;
    read->length = 0;
    if (read->size > READ_BYTES_MAX)
        read->size = READ_BYTES_MAX;
    begin(state);
}

void cache_read_interrupt(struct cache *cache, struct cache_read *read)
{
    struct read_state *state = read->state;
    struct lock *lock = blocks_lock(cache->blocks);
    bool mine = false;
    lock_take(lock);
    if (state->reader.waiting) {
        mine = withdraw_locked(state);
    }
    bool asking = !mine && state->asking;
    state->interrupted = true; /* for a grant on its way, or a wait that is about to begin */
    lock_drop(lock);
    if (asking && memory_withdraw(cache->config.memory, &state->memory))
        mine = true;
    if (mine)
        answer(state, -EINTR);
}
