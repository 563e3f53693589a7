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
#include "cache/journal.h"
#include "cache/part.h"
#include "cache/pressure.h"
#include "cache/recording.h"
#include "cache/resuming.h"
#include "cache/slab.h"

#define FILL_BYTES    ((uint64_t)4 << 20) /* of one GET of content_fill */
#define FILL_SKIP     ((uint64_t)256 << 10)
#define RESERVE_MIN   ((uint64_t)4 << 20)
#define RESERVE_TIMES 8
#define RESERVE_MAX   ((uint64_t)1 << 30)
#define NEVER_CACHED  UINT64_MAX /* in cached_version: the kernel's pages must go at the next open */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* After a change of `dirty`. */
void content_count_dirty_locked(struct inode *inode)
{
    uint64_t bytes = extents_bytes(&inode->dirty);
    if (bytes == inode->dirty_bytes)
        return;
    pressure_note(inode->cache->pressure, (int64_t)(bytes - inode->dirty_bytes));
    inode->dirty_bytes = bytes;
}

/* ---- The local file. ---- */

#define LOCAL_NAME_MAX sizeof((struct inode *)NULL)->local_name

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What is small shares a local file with others. */
static int make_local(struct cache *cache, uint64_t bytes, struct disk_file **ret_file, char *ret_name)
{
    int rc = slabs_claim(cache->slabs, bytes, ret_file, ret_name);
    if (rc != -EFBIG)
        return rc;
    do {
        uint64_t number = (uint64_t)atomic_fetch_add(&cache->next_local, 1) + 1;
        snprintf(ret_name, LOCAL_NAME_MAX, "%016" PRIx64, number);
        rc = disk_open(cache->config.disk, ret_name, DISK_CREATE | DISK_EXCLUSIVE, ret_file);
    } while (rc == -EEXIST); /* unsent bytes of an earlier mount */
    return rc;
}

/* Nobody needs its bytes any more: it goes, as soon as the disk has heard that. */
static void retire(struct cache *cache, struct disk_file **file, const char *name)
{
    struct disk *disk = cache->config.disk;
    if (cache->journal) {
        journal_retire(cache->journal, file, name);
        return;
    }
    disk_close(*file);
    *file = NULL;
    int rc = disk->ops->remove(disk, name);
    if (rc < 0)
        log_warn("remove of local file %s: %s, its space stays taken", name, err_name(rc));
}

/* At the end of the read that is under way in it, if one is. */
static void give_up_local_locked(struct inode *inode)
{
    if (inode->local_read && !inode->local_aside) {
        inode->local_aside = inode->local;
        memcpy(inode->local_aside_name, inode->local_name, sizeof inode->local_name);
        inode->local = NULL;
    } else {
        retire(inode->cache, &inode->local, inode->local_name);
    }
    inode->reserved_end = 0;
}

static void drop_local_locked(struct inode *inode)
{
    if (!inode->local)
        return;
    give_up_local_locked(inode);
    extents_clear(&inode->present);
    extents_clear(&inode->dirty);
    content_count_dirty_locked(inode);
}

static void close_local_locked(struct inode *inode)
{
    struct journal *journal = inode->cache->journal;
    if (inode->local && journal)
        journal_retire(journal, &inode->local, NULL);
    disk_close(inode->local);
    inode->local = NULL;
    extents_clear(&inode->present);
    extents_clear(&inode->dirty);
    content_count_dirty_locked(inode);
}

static int copy_present(const struct inode *inode, struct disk_file *to)
{
    STRING_SCOPED *bytes = xmalloc(SLAB_SLOT_MAX);
    struct extent run;
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && extents_next(&inode->present, at, SLAB_SLOT_MAX, &run); at = run.end) {
        size_t length = run.end - run.start;
        ssize_t got = disk_read(inode->local, bytes, length, run.start);
        rc = got < 0 ? (int)got : (size_t)got < length ? -EIO : disk_write(to, bytes, length, run.start);
    }
    return rc;
}

/* It has grown out of its slot. The journal hears that the bytes stand elsewhere when they do. */
static int move_local_locked(struct inode *inode, uint64_t bytes)
{
    struct disk_file *file;
    char name[LOCAL_NAME_MAX];
    int rc = make_local(inode->cache, bytes, &file, name);
    if (rc < 0)
        return rc;
    rc = copy_present(inode, file);
    if (rc == 0)
        rc = recording_local_locked(inode, file, name);
    if (rc < 0) {
        retire(inode->cache, &file, name);
        return rc;
    }
    give_up_local_locked(inode);
    inode->local = file;
    memcpy(inode->local_name, name, sizeof name);
    return 0;
}

/* Up to `end` something is about to be written into it; what is known to come decides where it stands. */
static int open_local_locked(struct inode *inode, uint64_t end)
{
    uint64_t bytes = larger(end, larger(inode->wanted.attributes.size, inode->base_size));
    assert(lock_held(&inode->lock));
    if (!inode->local)
        return make_local(inode->cache, bytes, &inode->local, inode->local_name);
    return slab_room(inode->cache->slabs, inode->local) < end ? move_local_locked(inode, bytes) : 0;
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
    bool kept = inode_dirty_locked(inode) ||
                inode->dirty.count; /* also of one that was displaced, before its name went */
    if (inode->local && kept && !inode->orphan)
        close_local_locked(inode);
    else
        drop_local_locked(inode);
    extents_release(&inode->unread);
    lock_drop(&inode->lock);
    blocks_drop(inode);
}

/* ---- Changes. ---- */

static void mark_all(const struct inode *inode, struct extents *set)
{
    for (size_t i = 0; i < inode->present.count; i++)
        extents_add(set, inode->present.all[i].start, inode->present.all[i].end);
}

/* A set that cannot take one range more is told that everything local changed: it costs bytes, never truth. */
static void mark_range(struct inode *inode, struct extents *set, uint64_t start, uint64_t end)
{
    if (extents_add(set, start, end) == 0)
        return;
    extents_clear(set);
    if (set == &inode->unread)
        extents_add(set, 0, UINT64_MAX);
    else
        mark_all(inode, set);
}

/* The bytes of [start, end) are other ones from now on. */
static void note_change_locked(struct inode *inode, uint64_t start, uint64_t end, int64_t now_ns)
{
    inode->wanted.content_version++;
    inode->changed_ms = clock_ms();
    inode->wanted.attributes.mtime_ns = inode->wanted.attributes.ctime_ns = now_ns;
    inode->wanted.mtime_explicit = false;
    if (inode->upload)
        mark_range(inode, &inode->unread, start, end);
    resuming_spoil_locked(inode, start, end);
    if (!inode->orphan)
        uploader_note_dirty_locked(inode);
}

/* The lock is held when it returns 0: the inode is recorded, and no upload holds its writers. */
static int take_for_change(struct inode *inode, struct waiter *waiter)
{
    for (;;) {
        int rc = recording_take(inode);
        if (rc < 0)
            return rc;
        if (!inode->writers_held)
            return 0;
        rc = waiter ? gate_wait_locked(&inode->changed, &inode->lock, waiter, CLOCK_NEVER) : -EAGAIN;
        lock_drop(&inode->lock);
        if (rc < 0)
            return rc;
    }
}

/* What was cut off stays in the local file, where nobody looks: a journal that has not heard of the cut may need it. */
static void cut_locked(struct inode *inode, uint64_t size)
{
    extents_remove(&inode->present, size, UINT64_MAX);
    extents_remove(&inode->dirty, size, UINT64_MAX);
    content_count_dirty_locked(inode);
    inode->base_size = smaller(inode->base_size, size);
    inode->upload_floor = smaller(inode->upload_floor, size);
    inode->left_behind = smaller(inode->left_behind, size);
    if (size > 0)
        return;
    drop_local_locked(inode);
    inode->whole_replacement = true;
}

static int truncate_locked(struct inode *inode, uint64_t size)
{
    uint64_t old = inode->wanted.attributes.size;
    struct content_change change = {.size = size,
                                    .base_size = smaller(inode->base_size, size),
                                    .whole_replacement = inode->whole_replacement || size == 0,
                                    .now_ns = clock_wall_ns()};
    bool clean = inode->wanted.content_version == inode->remote.content_version;
    if (size == old && size > 0 && clean)
        return 0;
    int rc = recording_content_locked(inode, &change);
    if (rc < 0)
        return rc;
    if (size < old || size == 0)
        cut_locked(inode, size);
    inode->wanted.attributes.size = size;
    note_change_locked(inode, smaller(size, old), size > old ? size : old, change.now_ns);
    inode_check_locked(inode);
    return 0;
}

int content_grow_locked(struct inode *inode, uint64_t size)
{
    uint64_t old = inode->wanted.attributes.size;
    struct content_change change = {.size = size, .base_size = size, .now_ns = clock_wall_ns()};
    assert(inode->remote.exists && inode->remote.identity.size >= size && size > old && !inode->upload_busy);
    int rc = recording_content_locked(inode, &change);
    if (rc < 0)
        return rc;
    inode->wanted.attributes.size = inode->base_size = size;
    inode->whole_replacement = false;
    note_change_locked(inode, old, size, change.now_ns);
    inode_check_locked(inode);
    return 0;
}

int content_truncate(struct inode *inode, struct waiter *waiter, uint64_t size)
{
    if (size > OBJECT_BYTES_MAX)
        return -EFBIG;
    int rc = take_for_change(inode, waiter);
    if (rc < 0)
        return rc;
    rc = inode->lost ? -ESTALE : truncate_locked(inode, size);
    lock_drop(&inode->lock);
    return rc;
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

/* Room for one more range in `present`, which must stay exact. -EAGAIN: after content_fill(), without the lock. */
static int make_room_locked(struct inode *inode)
{
    if (inode->present.count < EXTENTS_MAX)
        return 0;
    return content_gaps_locked(inode) ? -EAGAIN : fill_zeros_locked(inode);
}

/* The journal takes one range more when it hears of fewer before. */
static int record_write_locked(struct inode *inode, const struct content_change *change)
{
    int rc = recording_content_locked(inode, change);
    if (rc != -E2BIG)
        return rc;
    mark_all(inode, &inode->dirty);
    rc = recording_owned_locked(inode);
    return rc < 0 ? rc : recording_content_locked(inode, change);
}

/* As content_count_dirty_locked(), without a look at all ranges for each write. */
static void mark_dirty_locked(struct inode *inode, uint64_t start, uint64_t end)
{
    uint64_t added = end - start;
    struct extent run;
    for (uint64_t at = start; extents_next(&inode->dirty, at, end, &run); at = run.end)
        added -= run.end - run.start;
    bool full = inode->dirty.count == EXTENTS_MAX;
    mark_range(inode, &inode->dirty, start, end);
    if (full) {
        content_count_dirty_locked(inode);
    } else if (added) {
        pressure_note(inode->cache->pressure, (int64_t)added);
        inode->dirty_bytes += added;
    }
}

/* Nothing of a base is part of the file, and its writer appends: what whole parts it has written may go up already. */
static void leave_behind_locked(struct inode *inode, uint64_t end)
{
    uint64_t part_bytes = inode->cache->config.part_bytes, whole = end - end % part_bytes;
    if (inode->orphan || inode->base_size || !inode->whole_replacement || whole <= inode->left_behind)
        return;
    inode->left_behind = whole;
    uploader_poke(inode);
}

/* Who appends much will append more: the local file gets its blocks ahead of him, seldom and many, for that may wait for the
 * disk's own journal. */
static void reserve_locked(struct inode *inode, uint64_t offset, uint64_t end)
{
    uint64_t old = inode->wanted.attributes.size;
    if (offset != old || old < RESERVE_MIN || end <= inode->reserved_end)
        return;
    uint64_t ahead = smaller(old * RESERVE_TIMES, RESERVE_MAX);
    disk_reserve(inode->local, offset, end - offset + ahead);
    inode->reserved_end = end + ahead;
}

void content_trim_locked(struct inode *inode)
{
    assert(lock_held(&inode->lock));
    if (inode->local && inode->reserved_end)
        disk_trim(inode->local);
    inode->reserved_end = 0;
}

/* So that what is here up to `end` is no short read. */
static int lengthen_local_locked(struct inode *inode, uint64_t end)
{
    uint64_t size;
    int rc = disk_size(inode->local, &size);
    return rc == 0 && size < end ? disk_truncate(inode->local, end) : rc;
}

/* A hole of the local file reads as they do; but a slot has no end of its own, and what it is in may end within it. */
static int put_zeros_locked(struct inode *inode, uint64_t start, uint64_t end)
{
    static const char zeros[SLAB_SLOT_MAX];
    if (slab_room(inode->cache->slabs, inode->local) <= SLAB_SLOT_MAX)
        return disk_write(inode->local, zeros, end - start, start);
    int rc = lengthen_local_locked(inode, end);
    return rc < 0 ? rc : disk_punch(inode->local, start, end - start);
}

/* Without bytes: zeros, within the size. */
static int write_locked(struct inode *inode, const void *bytes, uint64_t size, uint64_t offset)
{
    uint64_t end = offset + size, old = inode->wanted.attributes.size;
    struct content_change change = {.start = offset,
                                    .end = end,
                                    .bytes = bytes,
                                    .size = end > old ? end : old,
                                    .base_size = inode->base_size,
                                    .whole_replacement = inode->whole_replacement,
                                    .now_ns = clock_wall_ns()};
    reserve_locked(inode, offset, end);
    int rc = bytes ? disk_write(inode->local, bytes, size, offset) : put_zeros_locked(inode, offset, end);
    if (rc == 0)
        rc = record_write_locked(inode, &change);
    if (rc < 0) {
        /* Part of it may stand in ranges that count: their bytes are other ones now. Elsewhere nobody looks. */
        if (extents_touch(&inode->present, offset, end))
            note_change_locked(inode, offset, end, change.now_ns);
        return rc;
    }
    rc = extents_add(&inode->present, offset, end);
    assert(rc == 0);
    mark_dirty_locked(inode, offset, end);
    inode->wanted.attributes.size = change.size;
    /* Behind the old end also the hole up to here is new. */
    note_change_locked(inode, smaller(offset, old), end, change.now_ns);
    if (offset == old)
        leave_behind_locked(inode, end);
    return 0;
}

static int write_taken(struct inode *inode, const void *bytes, size_t size, uint64_t offset, bool append)
{
    int rc = make_room_locked(inode);
    if (rc < 0)
        return rc;
    if (append)
        offset = inode->wanted.attributes.size;
    if (offset > OBJECT_BYTES_MAX || size > OBJECT_BYTES_MAX - offset)
        return -EFBIG;
    rc = open_local_locked(inode, offset + size);
    return rc < 0 ? rc : write_locked(inode, bytes, size, offset);
}

int content_write(struct inode *inode, struct waiter *waiter, const void *bytes, size_t size, uint64_t offset,
                  bool append)
{
    for (;;) {
        int rc = take_for_change(inode, waiter);
        if (rc < 0)
            return rc;
        rc = write_taken(inode, bytes, size, offset, append);
        lock_drop(&inode->lock);
        if (rc != -EAGAIN || !waiter)
            return rc;
        rc = content_fill(inode, NULL, waiter);
        if (rc < 0)
            return rc;
    }
}

/* ---- Zeros, and room for what is to come. ---- */

/* What an upload has read of the file may become its base, whatever was punched meanwhile: there zeros have to stand here. */
static bool may_become_base_locked(const struct inode *inode)
{
    return inode->upload || inode->upload_busy || inode->resumed || inode->told_upload || inode->maybe_key ||
           inode->late_id[0];
}

/* Behind the base, where nothing is present, zeros are what is read anyway. The size is recorded since the times are others; what is
 * dirty no more, when it is so. */
static int zero_own_locked(struct inode *inode, uint64_t start, uint64_t end)
{
    struct content_change same = {.size = inode->wanted.attributes.size,
                                  .base_size = inode->base_size,
                                  .whole_replacement = inode->whole_replacement,
                                  .now_ns = clock_wall_ns()};
    struct extent run;
    int rc = recording_content_locked(inode, &same);
    if (rc < 0)
        return rc;
    note_change_locked(inode, start, start, same.now_ns);
    if (may_become_base_locked(inode) || inode->dirty.count == EXTENTS_MAX) {
        for (uint64_t at = start; rc == 0 && extents_next(&inode->present, at, end, &run); at = run.end)
            rc = write_locked(inode, NULL, run.end - run.start, run.start);
        return rc;
    }
    if (!extents_touch(&inode->present, start, end))
        return 0;
    rc = disk_punch(inode->local, start, smaller(end, slab_room(inode->cache->slabs, inode->local)) - start);
    if (rc < 0)
        return rc;
    extents_remove(&inode->present, start, end);
    extents_remove(&inode->dirty, start, end);
    content_count_dirty_locked(inode);
    /* Unsaid, a replay would write what rode in the log over the hole. */
    return recording_remote_locked(inode);
}

static int zero_taken(struct inode *inode, uint64_t start, uint64_t end)
{
    uint64_t base = smaller(end, inode->base_size);
    int rc = make_room_locked(inode);
    if (rc == 0 && start < base) {
        rc = open_local_locked(inode, base);
        if (rc == 0)
            rc = write_locked(inode, NULL, base - start, start);
    }
    start = larger(start, base);
    return rc == 0 && start < end ? zero_own_locked(inode, start, end) : rc;
}

static int zero_once(struct inode *inode, struct waiter *waiter, uint64_t start, uint64_t end, bool grow)
{
    int rc = take_for_change(inode, waiter);
    if (rc < 0)
        return rc;
    uint64_t size = inode->wanted.attributes.size;
    rc = inode->lost ? -ESTALE : 0;
    if (rc == 0 && start < smaller(end, size))
        rc = zero_taken(inode, start, smaller(end, size));
    if (rc == 0 && grow && end > size)
        rc = truncate_locked(inode, end);
    inode_check_locked(inode);
    lock_drop(&inode->lock);
    return rc;
}

int content_zero(struct inode *inode, struct waiter *waiter, uint64_t start, uint64_t end, bool grow)
{
    for (;;) {
        int rc = zero_once(inode, waiter, start, end, grow);
        if (rc != -EAGAIN || !waiter)
            return rc;
        rc = content_fill(inode, NULL, waiter);
        if (rc < 0)
            return rc;
    }
}

static int reserve_step(struct inode *inode, struct waiter *waiter, uint64_t start, uint64_t end)
{
    int rc = take_for_change(inode, waiter);
    if (rc < 0)
        return rc;
    rc = inode->lost ? -ESTALE : open_local_locked(inode, end);
    if (rc == 0)
        rc = disk_allocate(inode->local, start, end - start);
    if (rc == -EOPNOTSUPP)
        rc = 0;
    if (rc == 0)
        rc = lengthen_local_locked(inode, end); /* content_trim_locked() leaves it */
    lock_drop(&inode->lock);
    return rc;
}

int content_reserve(struct inode *inode, struct waiter *waiter, uint64_t start, uint64_t end)
{
    int rc = 0;
    for (uint64_t at = start, step; rc == 0 && at < end; at = step) {
        step = smaller(end, at + RESERVE_MAX);
        rc = waiter && waiter_interrupted(waiter) ? -EINTR : reserve_step(inode, waiter, at, step);
    }
    return rc;
}

/* ---- The base. ---- */

bool content_gaps_locked(const struct inode *inode)
{
    if (inode->type != S_IFREG)
        return inode->type == S_IFLNK && !inode->target;
    return !extents_cover(&inode->present, 0, smaller(inode->base_size, inode->wanted.attributes.size));
}

void content_join_locked(const struct inode *inode, const struct extents *copied, struct extents *ret_good)
{
    extents_copy(ret_good, &inode->present);
    for (size_t i = 0; copied && i < copied->count; i++)
        if (extents_add(ret_good, copied->all[i].start, copied->all[i].end) < 0)
            return; /* fetched in vain, no worse */
}

bool content_lacks_locked(const struct inode *inode, const struct extents *copied)
{
    struct extents good = {0};
    content_join_locked(inode, copied, &good);
    bool lacks = !extents_cover(&good, 0, smaller(inode->base_size, inode->wanted.attributes.size));
    extents_release(&good);
    return lacks;
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
static bool find_gaps(const struct extents *good, uint64_t limit, struct extent *ret_range)
{
    struct extent next;
    if (!extents_next_gap(good, 0, limit, ret_range))
        return false;
    limit = smaller(limit, ret_range->start + FILL_BYTES);
    ret_range->end = smaller(ret_range->end, limit);
    while (extents_next_gap(good, ret_range->end, limit, &next) && next.start - ret_range->end < FILL_SKIP)
        ret_range->end = next.end;
    return true;
}

/* False: no gap is left. */
static bool next_gap_locked(struct inode *inode, const struct extents *copied, struct fill *fill)
{
    struct extents good = {0};
    content_join_locked(inode, copied, &good);
    bool found = find_gaps(&good, smaller(inode->base_size, inode->wanted.attributes.size), &fill->range);
    extents_release(&good);
    if (!found)
        return false;
    fill->key = xstrdup(inode->remote.key);
    memcpy(fill->etag, inode->remote.identity.etag, sizeof fill->etag);
    return true;
}

int content_land_locked(struct inode *inode, uint64_t start, const void *bytes, size_t length)
{
    uint64_t limit = smaller(smaller(inode->base_size, inode->wanted.attributes.size), start + length);
    struct extent gap;
    int rc = 0;
    for (uint64_t at = start; rc == 0 && extents_next_gap(&inode->present, at, limit, &gap); at = gap.end) {
        rc = open_local_locked(inode, gap.end);
        if (rc == 0)
            rc = disk_write(inode->local, (const char *)bytes + (gap.start - start), gap.end - gap.start,
                            gap.start);
        if (rc == 0)
            rc = extents_add(&inode->present, gap.start, gap.end);
    }
    return rc;
}

static int land_fill_locked(struct inode *inode, const struct fill *fill)
{
    uint64_t start = fill->range.start, end;
    int rc = 0;
    if (strcmp(inode->remote.identity.etag, fill->etag) != 0)
        return 0; /* the base is another one by now (our own rename): ask again */
    for (size_t i = 0; rc == 0 && start < fill->range.end; i++, start = end) {
        end = smaller(start + PAGE_BYTES, fill->range.end);
        rc = content_land_locked(inode, start, fill->pages[i], end - start);
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

int content_fill(struct inode *inode, const struct extents *copied, struct waiter *waiter)
{
    struct fill fill;
    for (;;) {
        lock_take(&inode->lock);
        bool more = next_gap_locked(inode, copied, &fill);
        lock_drop(&inode->lock);
        if (!more)
            return 0;
        int rc = fill_once(inode, waiter, &fill);
        free(fill.key);
        if (rc < 0)
            return rc;
    }
}

static void own_present_locked(struct inode *inode)
{
    extents_clear(&inode->dirty);
    mark_all(inode, &inode->dirty);
    content_count_dirty_locked(inode);
}

int content_own_base_locked(struct inode *inode)
{
    own_present_locked(inode);
    return recording_owned_locked(inode);
}

void content_forget_base_locked(struct inode *inode)
{
    own_present_locked(inode);
    free(inode->remote.key);
    inode->remote.key = NULL;
    inode->remote.exists = false;
    inode->remote.identity = inode->cached_identity = (struct identity){0};
    inode->base_size = 0;
    inode->whole_replacement = true;
    inode->parked_rc = 0;
    inode->parked_why[0] = '\0';
    inode_check_locked(inode);
    recording_owned_locked(inode);
}

void content_part_locked(struct inode *inode)
{
    inode->wanted.content_version++; /* all of it is to go up, also where it was clean */
    content_forget_base_locked(inode);
}

static bool punch_clean_locked(struct inode *inode)
{
    bool some = false;
    uint64_t limit = smaller(inode->base_size, inode->wanted.attributes.size), end;
    struct extent run, dirty;
    for (uint64_t at = 0; extents_next(&inode->present, at, limit, &run); at = end) {
        end = extents_next(&inode->dirty, run.start, run.end, &dirty) ? dirty.start : run.end;
        if (end > run.start && disk_punch(inode->local, run.start, end - run.start) == 0) {
            extents_remove(&inode->present, run.start, end);
            some = true;
        }
        if (end < run.end)
            end = dirty.end;
    }
    return some;
}

/* What is here of it the bucket has as well, and would give it to us again: nothing of it is in doubt, in conflict, without its name or
 * elsewhere than under it; and no upload but the caller's reads it without the lock. */
static bool may_give_back_locked(const struct inode *inode, bool uploads)
{
    bool settled = (uploads || !inode->upload_busy) && !inode->maybe_key && inode->parked_rc != -ESTALE;
    return settled && inode->remote.exists && !inode->displaced && !inode->orphan && !inode->lost &&
           extents_bytes(&inode->present) > inode->dirty_bytes;
}

bool content_give_back(struct inode *inode, bool uploads, struct waiter *waiter)
{
    struct journal *journal = inode->cache->journal;
    lock_take(&inode->lock);
    bool some = may_give_back_locked(inode, uploads) &&
                (!journal || (recording_remote_locked(inode) == 0 && !inode->record_debt));
    uint64_t heard = inode->remote.content_version;
    lock_drop(&inode->lock);
    if (!some || (journal && journal_flush(journal, waiter) < 0))
        return false;
    LOCK_SCOPED(&inode->lock);
    return may_give_back_locked(inode, uploads) && heard == inode->remote.content_version &&
           punch_clean_locked(inode);
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
    assert(extents_cover(&inode->present, start, smaller(start + length, inode->base_size)));
    for (uint64_t at = start; extents_next(&inode->present, at, start + length, &run); at = run.end)
        extents_add(ret_view, run.start, run.end);
    return length;
}

int content_read_local(struct inode *inode, uint64_t start, uint64_t end, const struct iovec *pieces,
                       size_t count, uint64_t *ret_length, uint64_t *ret_version)
{
    struct extents view = {0};
    uint64_t room = 0, length, done = 0;
    int rc = 0, short_rc = 0;
    for (size_t i = 0; i < count; i++)
        room += pieces[i].iov_len;
    lock_take(&inode->lock);
    assert(inode->upload && !inode->local_read);
    length = take_view_locked(inode, start, end, room, &view);
    *ret_version = inode->wanted.content_version;
    struct disk_file *local = inode->local;
    inode->local_read = true;
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
    lock_take(&inode->lock);
    inode->local_read = false;
    if (inode->local_aside)
        retire(inode->cache, &inode->local_aside, inode->local_aside_name);
    if (rc == 0 && short_rc < 0)
        rc = extents_touch(&inode->unread, start, end) ? 0 : short_rc;
    lock_drop(&inode->lock);
    if (rc == 0)
        *ret_length = length;
    return rc;
}

/* But for what was changed since it was read. */
static void forget_dirty_locked(struct inode *inode, uint64_t limit)
{
    struct extent run, changed;

    extents_clear(&inode->dirty);
    for (uint64_t at = 0; extents_next(&inode->unread, at, limit, &changed); at = changed.end)
        for (uint64_t from = changed.start; extents_next(&inode->present, from, changed.end, &run);
             from = run.end)
            mark_range(inode, &inode->dirty, run.start, run.end);
    content_count_dirty_locked(inode);
}

void content_confirmed_locked(struct inode *inode, uint64_t content_version, uint64_t size, bool elsewhere)
{
    assert(lock_held(&inode->lock));
    assert(content_version <= inode->wanted.content_version);
    if (inode->type != S_IFREG || !inode->upload_busy)
        return;
    uint64_t limit = inode->wanted.attributes.size;
    if (!elsewhere)
        forget_dirty_locked(inode, limit);
    inode->base_size = smaller(size, smaller(inode->upload_floor, limit));
    inode->whole_replacement = inode->upload_floor == 0;
    inode->cached_identity =
        (struct identity){0}; /* our own upload is the same content: no pages went stale */
}

void content_arrived_locked(struct inode *inode)
{
    bool there = inode->remote.content_version == inode->wanted.content_version && !inode->displaced;

    assert(lock_held(&inode->lock));
    if (!there || !inode->dirty.count)
        return;
    extents_clear(&inode->dirty);
    content_count_dirty_locked(inode);
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

void content_set_closing(struct handle *handle, bool closing)
{
    struct inode *inode = handle->inode;
    LOCK_SCOPED(&inode->lock);
    if (handle->closing == closing)
        return;
    handle->closing = closing;
    inode->closing_opens += closing ? 1 : (uint32_t)-1;
}

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
    inode->mapping_opens += (flags & O_ACCMODE) == O_RDWR;
    *ret_opened = (struct opened){.keep_cache = pages_current_locked(inode)};
    inode->cached_version = inode->wanted.content_version;
    inode->cached_identity = inode->remote.identity;
    lock_drop(&inode->lock);
    size_t streams = inode->cache->config.immutable ? PREFETCH_STREAMS_SHARED : PREFETCH_STREAMS;
    struct handle *handle = xcalloc(1, sizeof *handle + streams * sizeof handle->streams[0]);
    handle->inode = inode_ref(inode);
    atomic_init(&handle->flags, flags & ~(O_TRUNC | O_CREAT | O_EXCL));
    handle->process = process;
    lock_init(&handle->lock, LOCK_LEAF, "handle");
    prefetch_init(&handle->prefetch, handle->streams, streams);
    *ret_handle = handle;
    return 0;
}
