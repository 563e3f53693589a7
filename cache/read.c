/* One read of an open file: from the question to the pinned pieces of its answer.
 *
 *      begin --> work --all there-------------------------------------> finish --> done
 *        ^        |  \--missing, pages for them--> waiting for blocks --'  |
 *        |        |  ^                                                     |
 *        |        '--asking memory, holding nothing                        |
 *        |------------- the base is another one by now --------------------|
 *        '--- inode->rereads: our own upload may have replaced it, the outcome is not known yet
 *
 * A read takes one snapshot of the inode: size, identity, base_size. It is checked again before the answer is put
 * together, so that an answer never mixes two remote versions. Base blocks are answered from where they lie; where local
 * bytes or holes are in the range, the answer is put together in pages of its own.
 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "cache/block.h"
#include "cache/content.h"
#include "cache/core.h"
#include "cache/settling.h"

/* The kernel asks for at most 1 MiB, at any offset. */
#define READ_BYTES_MAX  ((size_t)1 << 20)
#define READ_BLOCKS_MAX (READ_BYTES_MAX / PAGE_BYTES + 1)
#define RESTARTS_MAX    8 /* an inode whose base changes under every try is not read for ever */

struct snapshot {
    struct block_source source;
    uint64_t size, base_size;
    bool local; /* local bytes touch the range */
    uint32_t
        covered; /* bit i: nothing that is wanted of block i is the base's: local bytes, or behind its end */
};

struct wait {
    struct block_wait wait;
    struct block *block; /* pinned; NULL: not needed */
};

/* BEGINS: memory_ask() runs; whoever called it looks for an interrupt afterwards. */
enum asking { ASKING_NOT, ASKING_BEGINS, ASKING_WAITS };

struct read_state {
    atomic_int
        references; /* the caller's until its release; of who touches it after it may have been answered */
    struct cache *cache;
    struct cache_read *read;
    struct inode *inode;
    uint64_t start, end; /* of the file; end after the cut at its size */
    uint64_t first;      /* index of waits[0] */
    size_t count;        /* blocks of the range */
    struct snapshot snapshot;
    bool passed; /* sequential: nobody comes back for these blocks */
    int restarts;

    /* Under the inode's lock. */
    struct list again; /* in inode->rereads */

    /* Under the lock of blocks. */
    struct block_reader reader;
    enum asking asking;
    bool interrupted; /* the user asked once: no wait begins any more */
    struct wait waits[READ_BLOCKS_MAX];

    /* Of the thread that works on it. */
    struct memory_request memory;
    bool granted; /* with all the pages that it can need */
    struct pages_held held;
    void *own[READ_BLOCKS_MAX]; /* pages of an answer that is put together */
    size_t own_count;
    struct iovec pieces[READ_BLOCKS_MAX];
};

static void begin(struct read_state *state);

static void unref(struct read_state *state)
{
    if (atomic_fetch_sub(&state->references, 1) == 1)
        free(state);
}

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
    unref(state);
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

/* Our own rename, or a copy of it that was kept (keepsake.h): the same bytes have another key. */
static bool has_moved_locked(const struct read_state *state)
{
    const char *key = state->inode->remote.key;
    return key && strcmp(key, state->snapshot.source.key) != 0;
}

static void restart(struct read_state *state)
{
    unpin_all(state);
    give_pages(state);
    state->granted = false;
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

/* Our own upload may be what stands there now. True: it waits for the outcome. */
static bool waits_for_outcome_locked(struct read_state *state)
{
    struct lock *lock = blocks_lock(state->cache->blocks);
    lock_take(lock);
    bool interrupted = state->interrupted;
    lock_drop(lock);
    bool waits = !interrupted && (state->inode->replacing || settling_ask_late_locked(state->inode));
    if (waits)
        list_append(&state->inode->rereads, &state->again);
    return waits;
}

void reads_go_on(struct inode *inode, int rc)
{
    for (;;) {
        lock_take(&inode->lock);
        struct list *first = list_pop(&inode->rereads);
        lock_drop(&inode->lock);
        if (!first)
            return;
        struct read_state *state = container_of(first, struct read_state, again);
        if (rc < 0)
            answer(state, rc);
        else
            restart(state);
    }
}

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
    bool moved = rc == -ESTALE && (has_moved_locked(state) || is_stale_locked(state));
    bool waits = rc == -ESTALE && !moved && waits_for_outcome_locked(state);
    if (rc == -ESTALE && !moved && !waits) {
        state->inode->remote.confirmed_ms = 0; /* the next open asks, however fresh this seemed */
        atomic_fetch_add(&state->cache->stale_reads, 1);
    }
    lock_drop(&state->inode->lock);
    if (waits)
        return;
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

static void work(struct read_state *state, bool plan);

static void claim(struct read_state *state)
{
    struct memory *memory = state->cache->config.memory;
    size_t count = state->memory.bytes / PAGE_BYTES;
    assert(state->held.count + count <= PAGES_HELD_MAX);
    for (size_t i = 0; i < count; i++)
        state->held.pages[state->held.count++] = page_claim(memory, SHARE_DEMAND);
    state->granted = true;
}

static void hear_grant(struct memory_request *request)
{
    struct read_state *state = container_of(request, struct read_state, memory);
    struct lock *lock = blocks_lock(state->cache->blocks);
    claim(state);
    lock_take(lock);
    state->asking = ASKING_NOT;
    bool interrupted = state->interrupted;
    lock_drop(lock);
    if (interrupted)
        answer(state, -EINTR);
    else
        work(state, false);
}

static void refuse(struct read_state *state, size_t count)
{
    log_error("read of %s: ENOMEM: %zu KiB are more than memory= allows", state->snapshot.source.key,
              count * PAGE_BYTES / 1024);
    answer(state, -ENOMEM);
}

/* Asks for all that may be missing by then, at once: what is there now may be evicted until the grant comes. */
static void ask_for_pages(struct read_state *state, size_t count)
{
    struct memory *memory = state->cache->config.memory;
    struct lock *lock = blocks_lock(state->cache->blocks);
    give_pages(state);
    state->memory = (struct memory_request){
        .bytes = count * PAGE_BYTES, .share = SHARE_DEMAND, .granted = hear_grant, .pages = true};
    atomic_fetch_add(&state->references, 1);
    lock_take(lock);
    state->asking = ASKING_BEGINS;
    lock_drop(lock);
    if (memory_ask(memory, &state->memory) < 0) {
        refuse(state, count);
        unref(state);
        return;
    }
    lock_take(lock);
    bool waits = state->asking == ASKING_BEGINS;
    if (waits)
        state->asking = ASKING_WAITS;
    bool interrupted = waits && state->interrupted;
    lock_drop(lock);
    if (interrupted && memory_withdraw(memory, &state->memory))
        answer(state, -EINTR);
    unref(state);
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

/* What the reads so far promise about the next ones: on its way with the same GETs where it touches. */
static void fetch_ahead_locked(struct read_state *state, struct list *fetches)
{
    struct handle *handle = state->read->handle;
    struct blocks *blocks = state->cache->blocks;
    struct prefetch_limits limits = {.file_size = state->snapshot.base_size,
                                     .window_max = blocks_window_max(blocks),
                                     .room = blocks_room_locked(blocks),
                                     .few = blocks_fast_locked(blocks)};
    struct prefetch_plan plan;
    lock_take(&handle->lock);
    prefetch_read(&handle->prefetch, state->start, state->end - state->start, &limits, &plan);
    lock_drop(&handle->lock);
    state->passed = plan.sequential;
    if (plan.ahead_start >= plan.ahead_end)
        return;
    struct blocks_wanted wanted = {.first = plan.ahead_start / PAGE_BYTES,
                                   .end = (plan.ahead_end + PAGE_BYTES - 1) / PAGE_BYTES,
                                   .share = SHARE_AHEAD,
                                   .run = plan.step / PAGE_BYTES};
    uint64_t reached = blocks_fetch_locked(state->inode, &state->snapshot.source, wanted, NULL, fetches);
    if (reached == wanted.end)
        return;
    lock_take(&handle->lock);
    prefetch_cut(&handle->prefetch, &plan, reached * PAGE_BYTES);
    lock_drop(&handle->lock);
}

/* Its blocks still land, for whoever comes next; from here on nobody else answers this read. */
static void withdraw_locked(struct read_state *state)
{
    for (size_t i = 0; i < state->count; i++)
        if (state->waits[i].block)
            list_remove(&state->waits[i].wait.link);
    state->reader.waiting = false;
}

static size_t count_needed(const struct read_state *state)
{
    size_t needed = 0;
    for (size_t i = 0; i < state->count; i++)
        needed += needs_block(state, state->first + i);
    return needed;
}

/* Neighbours join one GET, see blocks_fetch_locked(). */
static void fetch_needed_locked(struct read_state *state, struct list *fetches)
{
    for (uint64_t index = state->first; index < state->first + state->count; index++) {
        struct blocks_wanted wanted = {.first = index, .end = index + 1, .share = SHARE_DEMAND};
        if (needs_block(state, index))
            blocks_fetch_locked(state->inode, &state->snapshot.source, wanted, &state->held, fetches);
    }
}

enum outlook { OUTLOOK_READY, OUTLOOK_WAITS, OUTLOOK_INTERRUPTED, OUTLOOK_NO_PAGES, OUTLOOK_STOPPED };

/* All that is decided under one hold. After OUTLOOK_WAITS a network thread may end the read as soon as the lock is
 * dropped: nobody else touches it from then on. */
static enum outlook look_locked(struct read_state *state, bool plan, struct list *fetches,
                                struct pages_held *ret_surplus)
{
    struct blocks *blocks = state->cache->blocks;
    blocks_expect_locked(state->inode, &state->snapshot.source.identity);
    fetch_needed_locked(state, fetches);
    if (plan)
        fetch_ahead_locked(state, fetches);
    if (!pin_all_locked(state))
        return blocks_stopping_locked(blocks) || state->granted ? OUTLOOK_STOPPED : OUTLOOK_NO_PAGES;
    *ret_surplus = state->held;
    state->held.count = 0;
    if (!state->reader.waiting)
        return OUTLOOK_READY;
    if (!state->interrupted)
        return OUTLOOK_WAITS;
    withdraw_locked(state);
    return OUTLOOK_INTERRUPTED;
}

static void work(struct read_state *state, bool plan)
{
    struct cache *cache = state->cache;
    struct list fetches = LIST_INIT(fetches);
    struct pages_held surplus = {.count = 0};
    enum outlook outlook = OUTLOOK_NO_PAGES;
    if (take_own_pages(state)) {
        LOCK_SCOPED(blocks_lock(cache->blocks));
        outlook = look_locked(state, plan, &fetches, &surplus);
    }
    if (surplus.count)
        page_put_many(cache->config.memory, surplus.pages, surplus.count, SHARE_DEMAND);
    fetches_start(cache->blocks, &fetches);
    switch (outlook) {
    case OUTLOOK_WAITS:
        break;
    case OUTLOOK_READY:
        finish(state);
        break;
    case OUTLOOK_INTERRUPTED:
        answer(state, -EINTR);
        break;
    case OUTLOOK_NO_PAGES:
        ask_for_pages(state, count_needed(state) + count_own(state));
        break;
    case OUTLOOK_STOPPED:
        answer(state, -EIO);
        break;
    }
}

static void note_covered_locked(struct read_state *state)
{
    struct snapshot *snapshot = &state->snapshot;
    snapshot->covered = 0;
    for (size_t i = 0; i < state->count; i++) {
        uint64_t start = (state->first + i) * PAGE_BYTES, end = start + PAGE_BYTES;
        start = start > state->start ? start : state->start;
        end = end < state->end ? end : state->end;
        end = end < snapshot->base_size ? end : snapshot->base_size;
        if (start >= end || (snapshot->local && extents_cover(&state->inode->present, start, end)))
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
    bool all_local = state->snapshot.covered == (1u << state->count) - 1;
    work(state, !all_local);
}

void cache_read(struct cache *cache, struct cache_read *read)
{
    struct read_state *state = xcalloc(1, sizeof(*state));
    atomic_init(&state->references, 1);
    state->cache = cache;
    state->read = read;
    state->inode = inode_ref(read->handle->inode);
    list_init(&read->link);
    list_init(&state->again);
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
    lock_take(lock);
    bool mine = state->reader.waiting;
    if (mine)
        withdraw_locked(state);
    bool asks = state->asking == ASKING_WAITS;
    state->interrupted = true; /* for a grant on its way, or a wait that is about to begin */
    lock_drop(lock);
    lock_take(&state->inode->lock);
    mine = mine || !list_empty(&state->again);
    list_remove(&state->again);
    lock_drop(&state->inode->lock);
    if (asks && memory_withdraw(cache->config.memory, &state->memory))
        mine = true;
    if (mine)
        answer(state, -EINTR);
}
