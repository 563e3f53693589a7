#include "cache/content.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/core.h"
#include "cache/part.h"

#define FILL_BYTES   ((uint64_t)4 << 20) /* of one GET of content_fill */
#define FILL_SKIP    ((uint64_t)256 << 10)
#define NEVER_CACHED UINT64_MAX /* in cached_version: the kernel's pages must go at the next open */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* ---- The local file. ---- */

static int open_local_locked(struct inode *inode)
{
    struct cache *cache = inode->cache;
    assert(lock_held(&inode->lock));
    if (inode->local)
        return 0;
    for (;;) {
        char name[sizeof inode->local_name];
        snprintf(name, sizeof name, "%016" PRIx64, (uint64_t)atomic_fetch_add(&cache->next_local, 1) + 1);
        int rc = disk_open(cache->config.disk, name, DISK_CREATE | DISK_EXCLUSIVE, &inode->local);
        if (rc == -EEXIST)
            continue; /* unsent bytes of an earlier mount */
        if (rc == 0)
            memcpy(inode->local_name, name, sizeof name);
        return rc;
    }
}

static void drop_local_locked(struct inode *inode)
{
    if (!inode->local)
        return;
    struct disk *disk = inode->cache->config.disk;
    disk_close(inode->local);
    int rc = disk->ops->remove(disk, inode->local_name);
    if (rc < 0)
        log_warn("remove of local file %s: %s, its space stays taken", inode->local_name, err_name(rc));
    inode->local = NULL;
    extents_clear(&inode->present);
    extents_clear(&inode->dirty);
}

void content_tidy_locked(struct inode *inode)
{
    assert(lock_held(&inode->lock));
    bool unsent = inode_dirty_locked(inode) && !inode->orphan;
    if (inode->opens == 0 && !unsent && !inode->upload_busy)
        drop_local_locked(inode);
}

void content_release(struct inode *inode)
{
    lock_take(&inode->lock);
    if (inode->local && inode_dirty_locked(inode) && !inode->orphan) {
        disk_close(inode->local);
        inode->local = NULL;
        extents_clear(&inode->present);
        extents_clear(&inode->dirty);
    } else {
        drop_local_locked(inode);
    }
    extents_release(&inode->unread);
    lock_drop(&inode->lock);
    blocks_drop(inode);
}

/* ---- Changes. ---- */

/* A set that cannot take one range more is told that everything local changed: it costs bytes, never truth. */
static void mark_range(struct inode *inode, struct extents *set, uint64_t start, uint64_t end)
{
    if (extents_add(set, start, end) == 0)
        return;
    extents_clear(set);
    if (set == &inode->unread) {
        extents_add(set, 0, UINT64_MAX);
        return;
    }
    for (size_t i = 0; i < inode->present.count; i++)
        extents_add(set, inode->present.all[i].start, inode->present.all[i].end);
}

/* The bytes of [start, end) are other ones from now on. */
static void note_change_locked(struct inode *inode, uint64_t start, uint64_t end)
{
    inode->wanted.content_version++;
    inode->wanted.attributes.mtime_ns = inode->wanted.attributes.ctime_ns = clock_wall_ns();
    inode->wanted.mtime_explicit = false;
    if (inode->upload)
        mark_range(inode, &inode->unread, start, end);
    if (!inode->orphan)
        uploader_note_dirty_locked(inode);
}

static int wait_for_writers_locked(struct inode *inode, struct waiter *waiter)
{
    while (inode->writers_held) {
        if (!waiter)
            return -EAGAIN;
        int rc = gate_wait_locked(&inode->changed, &inode->lock, waiter, CLOCK_NEVER);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static void cut_locked(struct inode *inode, uint64_t size)
{
    extents_remove(&inode->present, size, UINT64_MAX);
    extents_remove(&inode->dirty, size, UINT64_MAX);
    inode->base_size = smaller(inode->base_size, size);
    inode->upload_floor = smaller(inode->upload_floor, size);
    /* Frees space. Should it fail, nothing is wrong: bytes that are not in `present` are never read. */
    uint64_t local_size = 0;
    if (inode->local && inode->local->disk->ops->size(inode->local, &local_size) == 0 && local_size > size)
        disk_truncate(inode->local, size);
}

int content_truncate(struct inode *inode, struct waiter *waiter, uint64_t size)
{
    if (size > OBJECT_BYTES_MAX)
        return -EFBIG;
    LOCK_SCOPED(&inode->lock);
    int rc = wait_for_writers_locked(inode, waiter);
    if (rc == 0 && inode->lost)
        rc = -ESTALE;
    if (rc < 0)
        return rc;
    uint64_t old = inode->wanted.attributes.size;
    if (size < old)
        cut_locked(inode, size);
    if (size == 0) {
        inode->base_size = 0;
        inode->upload_floor = 0;
        inode->whole_replacement = true;
    }
    if (size == old)
        return 0;
    inode->wanted.attributes.size = size;
    note_change_locked(inode, smaller(size, old), size > old ? size : old);
    inode_check_locked(inode);
    return 0;
}

/* Makes [0, size) one present range where the base has been filled in already: what is left are zeros. */
static int fill_zeros_locked(struct inode *inode)
{
    uint64_t size = inode->wanted.attributes.size;
    struct extent gap;
    int rc = disk_truncate(inode->local, size);
    for (uint64_t at = 0; rc == 0 && extents_next_gap(&inode->present, at, size, &gap); at = gap.end)
        rc = disk_punch(inode->local, gap.start, gap.end - gap.start);
    if (rc < 0)
        return rc;
    extents_clear(&inode->present);
    return extents_add(&inode->present, 0, size);
}

/* Room for one more range in `present`, which must stay exact. May drop the lock in between. */
static int make_room_locked(struct inode *inode, struct waiter *waiter)
{
    while (inode->present.count >= EXTENTS_MAX) {
        if (!content_gaps_locked(inode))
            return fill_zeros_locked(inode);
        lock_drop(&inode->lock);
        int rc = content_fill(inode, waiter);
        lock_take(&inode->lock);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int write_locked(struct inode *inode, const void *bytes, size_t size, uint64_t offset)
{
    uint64_t end = offset + size;
    int rc = disk_write(inode->local, bytes, size, offset);
    if (rc < 0) {
        /* Part of it may stand in ranges that count: their bytes are other ones now. Elsewhere nobody looks. */
        if (extents_touch(&inode->present, offset, end))
            note_change_locked(inode, offset, end);
        return rc;
    }
    uint64_t old = inode->wanted.attributes.size;
    rc = extents_add(&inode->present, offset, end);
    assert(rc == 0);
    mark_range(inode, &inode->dirty, offset, end);
    if (end > old)
        inode->wanted.attributes.size = end;
    /* Behind the old end also the hole up to here is new. */
    note_change_locked(inode, smaller(offset, old), end);
    return 0;
}

int content_write(struct inode *inode, struct waiter *waiter, const void *bytes, size_t size, uint64_t offset,
                  bool append)
{
    LOCK_SCOPED(&inode->lock);
    int rc;
    do {
        rc = make_room_locked(inode, waiter);
        if (rc == 0)
            rc = wait_for_writers_locked(inode, waiter);
    } while (rc == 0 && inode->present.count >= EXTENTS_MAX);
    if (rc < 0)
        return rc;
    if (append)
        offset = inode->wanted.attributes.size;
    if (offset > OBJECT_BYTES_MAX || size > OBJECT_BYTES_MAX - offset)
        return -EFBIG;
    rc = open_local_locked(inode);
    return rc < 0 ? rc : write_locked(inode, bytes, size, offset);
}

/* ---- The base. ---- */

bool content_gaps_locked(const struct inode *inode)
{
    return !extents_cover(&inode->present, 0, smaller(inode->base_size, inode->wanted.attributes.size));
}

struct fill { /* one GET of content_fill */
    struct extent range;
    char *key;
    char etag[STORE_ETAG_MAX];
    void *pages[FILL_BYTES / PAGE_BYTES];
    struct iovec pieces[FILL_BYTES / PAGE_BYTES];
    size_t page_count;
};

/* The first gap, and those behind it that are nearer than a request is dear, up to FILL_BYTES. */
static bool find_gaps(const struct extents *present, uint64_t limit, struct extent *ret_range)
{
    struct extent next;
    if (!extents_next_gap(present, 0, limit, ret_range))
        return false;
    limit = smaller(limit, ret_range->start + FILL_BYTES);
    ret_range->end = smaller(ret_range->end, limit);
    while (extents_next_gap(present, ret_range->end, limit, &next) && next.start - ret_range->end < FILL_SKIP)
        ret_range->end = next.end;
    return true;
}

/* False: no gap is left. */
static bool next_gap_locked(struct inode *inode, struct fill *fill)
{
    uint64_t limit = smaller(inode->base_size, inode->wanted.attributes.size);
    if (!find_gaps(&inode->present, limit, &fill->range))
        return false;
    fill->key = xstrdup(inode->remote.key);
    memcpy(fill->etag, inode->remote.identity.etag, sizeof fill->etag);
    return true;
}

/* The bytes that came go where still nothing is present: a write in between is newer. */
static int land_fill_locked(struct inode *inode, const struct fill *fill)
{
    if (strcmp(inode->remote.identity.etag, fill->etag) != 0)
        return 0; /* the base is another one by now (our own rename): ask again */
    int rc = open_local_locked(inode);
    uint64_t limit = smaller(smaller(inode->base_size, inode->wanted.attributes.size), fill->range.end), end;
    struct extent gap;
    for (uint64_t at = fill->range.start; rc == 0; at = end) {
        if (!extents_next_gap(&inode->present, at, limit, &gap))
            break;
        uint64_t from = gap.start - fill->range.start, page = from / PAGE_BYTES, within = from % PAGE_BYTES;
        end = smaller(gap.end, gap.start + PAGE_BYTES - within);
        rc = disk_write(inode->local, (char *)fill->pages[page] + within, end - gap.start, gap.start);
        if (rc == 0)
            rc = extents_add(&inode->present, gap.start, end);
    }
    return rc;
}

static int get_base(struct inode *inode, struct waiter *waiter, const struct fill *fill)
{
    struct cache *cache = inode->cache;
    struct store_call call = {.op = STORE_GET,
                              .key = fill->key,
                              .if_match = fill->etag,
                              .patience_ms = cache->config.io_timeout_ms,
                              .offset = fill->range.start,
                              .length = fill->range.end - fill->range.start,
                              .into = fill->pieces,
                              .into_count = fill->page_count};
    int rc = store_wait(cache->config.store, &call, waiter);
    if (rc == -ENOENT)
        rc = -ESTALE;
    if (rc == 0 && call.received < call.length)
        rc = -EIO; /* shorter than its own ETag said */
    if (rc < 0 && rc != -EINTR && rc != -EAGAIN) {
        BUF_SCOPED words = BUF_INIT;
        store_error_print(&call.error, rc, &words);
        log_warn("fill of %s, bytes %" PRIu64 " to %" PRIu64 ": %s: %s", fill->key, fill->range.start,
                 fill->range.end, err_name(rc), words.bytes);
    }
    store_call_release(&call);
    return rc;
}

static int fill_once(struct inode *inode, struct waiter *waiter, struct fill *fill)
{
    struct memory *memory = inode->cache->config.memory;
    size_t bytes = fill->range.end - fill->range.start, pages = (bytes + PAGE_BYTES - 1) / PAGE_BYTES;
    int64_t deadline_ms = clock_ms() + inode->cache->config.io_timeout_ms;
    int rc = memory_take(memory, pages * PAGE_BYTES, SHARE_UPLOAD, waiter, deadline_ms);
    if (rc < 0)
        return rc;
    for (fill->page_count = 0; fill->page_count < pages; fill->page_count++) {
        size_t i = fill->page_count;
        fill->pages[i] = page_claim(memory, SHARE_UPLOAD);
        fill->pieces[i] = (struct iovec){fill->pages[i], smaller(PAGE_BYTES, bytes - i * PAGE_BYTES)};
    }
    rc = get_base(inode, waiter, fill);
    if (rc == 0) {
        LOCK_SCOPED(&inode->lock);
        rc = land_fill_locked(inode, fill);
    }
    page_put_many(memory, fill->pages, pages, SHARE_UPLOAD);
    return rc;
}

int content_fill(struct inode *inode, struct waiter *waiter)
{
    struct fill fill;
    for (;;) {
        lock_take(&inode->lock);
        bool more = next_gap_locked(inode, &fill);
        lock_drop(&inode->lock);
        if (!more)
            return 0;
        int rc = fill_once(inode, waiter, &fill);
        free(fill.key);
        if (rc < 0)
            return rc;
    }
}

void content_give_back(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    uint64_t limit = smaller(inode->base_size, inode->wanted.attributes.size), end;
    struct extent run, dirty;
    for (uint64_t at = 0; extents_next(&inode->present, at, limit, &run); at = end) {
        end = extents_next(&inode->dirty, run.start, run.end, &dirty) ? dirty.start : run.end;
        if (end > run.start && disk_punch(inode->local, run.start, end - run.start) == 0)
            extents_remove(&inode->present, run.start, end);
        if (end < run.end)
            end = dirty.end;
    }
}

/* ---- What goes up. ---- */

static int read_piece(struct disk_file *local, const struct extents *view, uint64_t start, struct iovec piece)
{
    uint64_t end = start + piece.iov_len, at = start;
    struct extent run;
    char *bytes = piece.iov_base;
    int rc = 0;
    while (extents_next(view, at, end, &run)) {
        memset(bytes + (at - start), 0, run.start - at);
        size_t length = run.end - run.start;
        ssize_t got = disk_read(local, bytes + (run.start - start), length, run.start);
        if (got < 0)
            return (int)got;
        if ((size_t)got < length) { /* cut in the meantime, or damage: the caller's look at `unread` tells */
            memset(bytes + (run.start - start) + got, 0, length - (size_t)got);
            rc = -ENODATA;
        }
        at = run.end;
    }
    memset(bytes + (at - start), 0, end - at);
    return rc;
}

/* What is to be read, and that it is being read. */
static uint64_t take_view_locked(struct inode *inode, uint64_t start, uint64_t end, uint64_t room,
                                 struct extents *ret_view)
{
    uint64_t size = inode->wanted.attributes.size;
    uint64_t length = smaller(end, size) > start ? smaller(end, size) - start : 0;
    struct extent run;
    /* What has no room stays marked; a tail that was cut off has been looked at as well. */
    extents_remove(&inode->unread, start, length > room ? start + room : end);
    length = smaller(length, room);
    for (uint64_t at = start; extents_next(&inode->present, at, start + length, &run); at = run.end)
        extents_add(ret_view, run.start, run.end);
    return length;
}

int content_read_local(struct inode *inode, uint64_t start, uint64_t end, const struct iovec *pieces,
                       size_t count, uint64_t *ret_length)
{
    struct extents view = {0};
    uint64_t room = 0, length, done = 0;
    int rc = 0, short_rc = 0;
    for (size_t i = 0; i < count; i++)
        room += pieces[i].iov_len;
    lock_take(&inode->lock);
    assert(inode->upload);
    length = take_view_locked(inode, start, end, room, &view);
    struct disk_file *local = inode->local;
    lock_drop(&inode->lock);

    for (size_t i = 0; i < count && done < length && rc == 0; i++) {
        struct iovec piece = {pieces[i].iov_base, smaller(pieces[i].iov_len, length - done)};
        rc = read_piece(local, &view, start + done, piece);
        done += piece.iov_len;
        if (rc == -ENODATA) {
            short_rc = -EIO;
            rc = 0;
        }
    }
    extents_release(&view);
    if (rc == 0 && short_rc < 0) {
        LOCK_SCOPED(&inode->lock);
        rc = extents_touch(&inode->unread, start, end) ? 0 : short_rc;
    }
    if (rc == 0)
        *ret_length = length;
    return rc;
}

void content_confirmed_locked(struct inode *inode, uint64_t content_version, uint64_t size)
{
    assert(lock_held(&inode->lock));
    assert(content_version <= inode->wanted.content_version);
    if (inode->type != S_IFREG || !inode->upload_busy)
        return;
    extents_clear(&inode->dirty);
    struct extent run, changed;
    uint64_t limit = inode->wanted.attributes.size;
    for (uint64_t at = 0; extents_next(&inode->unread, at, limit, &changed); at = changed.end)
        for (uint64_t from = changed.start; extents_next(&inode->present, from, changed.end, &run);
             from = run.end)
            mark_range(inode, &inode->dirty, run.start, run.end);
    inode->base_size = smaller(size, smaller(inode->upload_floor, limit));
    inode->whole_replacement = inode->upload_floor == 0;
    inode->cached_identity =
        (struct identity){0}; /* our own upload is the same content: no pages went stale */
}

void content_forget_locked(struct inode *inode)
{
    assert(lock_held(&inode->lock));
    assert(!inode_dirty_locked(inode) && inode->opens == 0);
    drop_local_locked(inode);
    inode->base_size = inode->remote.exists ? inode->remote.identity.size : 0;
    inode->cached_version = NEVER_CACHED;
}

/* ---- Handles. ---- */

/* The kernel's pages of this node stay good over our own writes, which went through it, and our own uploads. */
static bool pages_current_locked(const struct inode *inode)
{
    if (inode->cached_version == NEVER_CACHED)
        return false;
    return !inode->cached_identity.etag[0] ||
           identity_equal(&inode->cached_identity, &inode->remote.identity);
}

static bool wants_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

int content_open(struct inode *inode, int flags, pid_t process, struct handle **ret_handle,
                 struct opened *ret_opened)
{
    int rc = (flags & O_TRUNC) && wants_write(flags) ? content_truncate(inode, NULL, 0) : 0;
    if (rc < 0)
        return rc;
    lock_take(&inode->lock);
    if (inode->lost) {
        lock_drop(&inode->lock);
        return -ESTALE; /* the kernel looks the name up again */
    }
    inode->opens++;
    inode->write_opens += wants_write(flags);
    *ret_opened = (struct opened){.keep_cache = pages_current_locked(inode)};
    inode->cached_version = inode->wanted.content_version;
    inode->cached_identity = inode->remote.identity;
    lock_drop(&inode->lock);
    struct handle *handle = xcalloc(1, sizeof *handle);
    handle->inode = inode_ref(inode);
    handle->flags = flags & ~(O_TRUNC | O_CREAT | O_EXCL);
    handle->process = process;
    lock_init(&handle->lock, LOCK_LEAF, "handle");
    prefetch_init(&handle->prefetch);
    *ret_handle = handle;
    return 0;
}
