/* fake_cache: a cache whose slowness is scripted, defined in the one test program that includes this file; the linker then
 * takes it instead of the cache's library.
 *
 *      names:  "f..." a file, "d..." a directory, at once | "none..." no such name | "hang..." a file, but its lookup
 *              waits until fake_release() or its interrupt
 *      files:  16 MiB of a pattern; reads at or above FAKE_SLOW_OFFSET, flushes and fsyncs wait for fake_release() likewise
 */
#ifndef TESTS_FS_FAKE_CACHE_H
#define TESTS_FS_FAKE_CACHE_H

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/cache.h"

#define FAKE_FILE_BYTES  ((uint64_t)16 << 20)
#define FAKE_SLOW_OFFSET ((uint64_t)8 << 20)

struct inode {
    atomic_uint refs;
    uint64_t id;
    uint32_t mode;
    char name[64];
    struct inode *next;
};

struct handle {
    struct inode *inode;
};

struct listing {
    int nothing;
};

static struct fake {
    struct lock lock;
    struct gate gate;
    struct inode *inodes;
    struct list reads, syncs; /* that wait */
    size_t hanging;           /* lookups that wait */
    size_t asked, open;
    atomic_size_t setid_cleared;
    _Atomic unsigned setattr_mask; /* of the last one */
    _Atomic pid_t process;         /* of the last open or flush */
    atomic_size_t listing_bytes;   /* that each listing is said to have */
    bool released;
    uint64_t next_id;
    char page[128 * 1024];
} fake = {.next_id = 1};

static struct inode *fake_inode_locked(const char *name, uint32_t mode)
{
    for (struct inode *inode = fake.inodes; inode; inode = inode->next)
        if (strcmp(inode->name, name) == 0) {
            inode->refs++;
            return inode;
        }
    struct inode *inode = xcalloc(1, sizeof *inode);
    inode->refs = 2; /* the fake's, for ever, and the caller's */
    inode->id = fake.next_id++;
    inode->mode = mode;
    snprintf(inode->name, sizeof inode->name, "%s", name);
    inode->next = fake.inodes;
    fake.inodes = inode;
    return inode;
}

static inline void fake_begin(void)
{
    lock_init(&fake.lock, LOCK_NAMES, "fake");
    gate_init(&fake.gate);
    list_init(&fake.reads);
    list_init(&fake.syncs);
    memset(fake.page, 'x', sizeof fake.page);
}

static inline void fake_end(void)
{
    while (fake.inodes) {
        struct inode *inode = fake.inodes;
        fake.inodes = inode->next;
        free(inode);
    }
    gate_release(&fake.gate);
    lock_release(&fake.lock);
    fake = (struct fake){.next_id = 1};
}

/* References to inodes that fs holds. */
static inline size_t fake_references(void)
{
    size_t count = 0;
    for (struct inode *inode = fake.inodes; inode; inode = inode->next)
        count += inode->refs - 1;
    return count;
}

static inline size_t fake_waiting(void)
{
    LOCK_SCOPED(&fake.lock);
    size_t count = fake.hanging;
    list_for_each (link, &fake.reads)
        count++;
    list_for_each (link, &fake.syncs)
        count++;
    return count;
}

static inline size_t fake_asked(void)
{
    LOCK_SCOPED(&fake.lock);
    return fake.asked;
}

static const struct iovec fake_piece = {.iov_base = fake.page, .iov_len = 4096};

static void fake_end_read(struct cache_read *read, int rc)
{
    read->rc = rc;
    read->pieces = rc == 0 ? &fake_piece : NULL;
    read->piece_count = rc == 0;
    read->length = rc == 0 ? fake_piece.iov_len : 0;
    read->done(read);
}

/* All that waits now goes on; so does, when `for_ever`, all that comes. */
static inline void fake_release(bool for_ever)
{
    struct list reads, syncs, *link;
    list_init(&reads);
    list_init(&syncs);
    lock_take(&fake.lock);
    list_splice(&reads, &fake.reads);
    list_splice(&syncs, &fake.syncs);
    /* Whoever took them out of the lists ends them: state NULL. */
    list_for_each (at, &reads)
        container_of(at, struct cache_read, link)->state = NULL;
    list_for_each (at, &syncs)
        container_of(at, struct cache_sync, link)->version = 0;
    if (for_ever)
        fake.released = true;
    gate_open(&fake.gate);
    lock_drop(&fake.lock);
    while ((link = list_pop(&reads)))
        fake_end_read(container_of(link, struct cache_read, link), 0);
    while ((link = list_pop(&syncs))) {
        struct cache_sync *sync = container_of(link, struct cache_sync, link);
        sync->done(sync, 0);
    }
}

/* ---- The door. ---- */

struct inode *inode_ref(struct inode *inode)
{
    inode->refs++;
    return inode;
}

void inode_unref(struct inode *inode)
{
    if (inode) {
        unsigned before = atomic_fetch_sub(&inode->refs, 1);
        assert(before > 1);
    }
}

uint64_t inode_id(const struct inode *inode)
{
    return inode->id;
}

struct inode *cache_root(struct cache *cache)
{
    (void)cache;
    LOCK_SCOPED(&fake.lock);
    return fake_inode_locked("/", S_IFDIR | 0755);
}

static void fake_attributes(const struct inode *inode, struct attributes *ret_attributes)
{
    *ret_attributes = (struct attributes){.number = inode->id + 1000, .mode = inode->mode, .nlink = 1};
    if (S_ISREG(inode->mode))
        ret_attributes->size = FAKE_FILE_BYTES;
}

int cache_attributes(struct cache *cache, struct waiter *waiter, struct inode *inode,
                     struct attributes *ret_attributes, int64_t *ret_valid_ms)
{
    (void)cache;
    (void)waiter;
    fake_attributes(inode, ret_attributes);
    *ret_valid_ms = 1000;
    return 0;
}

int cache_lookup(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                 struct entry *ret_entry)
{
    (void)cache;
    (void)parent;
    LOCK_SCOPED(&fake.lock);
    if (strncmp(name, "none", 4) == 0) {
        ret_entry->valid_ms = 1000;
        return -ENOENT;
    }
    if (strncmp(name, "hang", 4) == 0 && !waiter)
        return -EAGAIN;
    fake.asked++;
    if (strncmp(name, "hang", 4) == 0 && !fake.released) {
        fake.hanging++;
        int rc = gate_wait_locked(&fake.gate, &fake.lock, waiter, CLOCK_NEVER);
        fake.hanging--;
        if (rc < 0)
            return rc;
    }
    struct inode *inode = fake_inode_locked(name, name[0] == 'd' ? S_IFDIR | 0755 : S_IFREG | 0644);
    *ret_entry = (struct entry){.inode = inode, .id = inode->id, .valid_ms = 0};
    fake_attributes(inode, &ret_entry->attributes);
    return 0;
}

int cache_set_attributes(struct cache *cache, struct waiter *waiter, struct inode *inode,
                         struct handle *handle, unsigned mask, const struct attributes *wanted,
                         struct attributes *ret_attributes)
{
    (void)cache;
    (void)waiter;
    (void)handle;
    (void)wanted;
    fake.setattr_mask = mask;
    fake_attributes(inode, ret_attributes);
    return 0;
}

int cache_create(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                 int flags, const struct maker *maker, struct entry *ret_entry, struct handle **ret_handle)
{
    (void)flags;
    (void)maker;
    int rc = cache_lookup(cache, waiter, parent, name, ret_entry);
    if (rc < 0)
        return rc == -ENOENT ? -EACCES : rc;
    LOCK_SCOPED(&fake.lock);
    *ret_handle = xcalloc(1, sizeof **ret_handle);
    (*ret_handle)->inode = ret_entry->inode;
    fake.open++;
    return 0;
}

int cache_mkdir(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                const struct maker *maker, struct entry *ret_entry)
{
    (void)maker;
    return cache_lookup(cache, waiter, parent, name, ret_entry);
}

int cache_symlink(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                  const char *target, const struct maker *maker, struct entry *ret_entry)
{
    (void)target;
    (void)maker;
    return cache_lookup(cache, waiter, parent, name, ret_entry);
}

int cache_mknod(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                uint32_t type, uint64_t device, const struct maker *maker, struct entry *ret_entry)
{
    (void)type;
    (void)device;
    (void)maker;
    return cache_lookup(cache, waiter, parent, name, ret_entry);
}

int cache_readlink(struct cache *cache, struct waiter *waiter, struct inode *inode, char **ret_target)
{
    (void)cache;
    (void)waiter;
    *ret_target = xstrdup(inode->name);
    return 0;
}

static int fake_change(struct waiter *waiter, struct inode *parent, const char *name)
{
    struct entry entry = {0};
    int rc = cache_lookup(NULL, waiter, parent, name, &entry);
    inode_unref(entry.inode);
    return rc;
}

int cache_unlink(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name)
{
    (void)cache;
    return fake_change(waiter, parent, name);
}

int cache_rmdir(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name)
{
    (void)cache;
    return fake_change(waiter, parent, name);
}

int cache_rename(struct cache *cache, struct waiter *waiter, struct inode *from_parent, const char *from_name,
                 struct inode *to_parent, const char *to_name, unsigned flags)
{
    (void)cache;
    (void)to_parent;
    (void)to_name;
    (void)flags;
    return fake_change(waiter, from_parent, from_name);
}

int cache_list_open(struct cache *cache, struct inode *directory, struct listing **ret_listing)
{
    (void)cache;
    if (!S_ISDIR(directory->mode))
        return -ENOTDIR;
    *ret_listing = xcalloc(1, sizeof **ret_listing);
    LOCK_SCOPED(&fake.lock);
    fake.open++;
    return 0;
}

#define FAKE_LIST_COUNT 1000

/* ".", "..", then "f0" ... "f999". */
int cache_list(struct cache *cache, struct waiter *waiter, struct listing *listing, uint64_t offset,
               bool with_entries, bool (*sink)(void *context, struct listed *listed), void *context)
{
    (void)cache;
    (void)listing;
    (void)waiter;
    for (uint64_t i = offset; i < FAKE_LIST_COUNT + 2; i++) {
        char name[32];
        snprintf(name, sizeof name, "f%d", (int)i - 2);
        if (i < 2) {
            struct listed dot = {.name = i ? ".." : ".", .next_offset = i + 1, .type = S_IFDIR, .number = 1};
            if (!sink(context, &dot))
                break;
            continue;
        }
        lock_take(&fake.lock);
        struct inode *inode = fake_inode_locked(name, S_IFREG | 0644);
        lock_drop(&fake.lock);
        struct listed listed = {
            .name = name, .next_offset = i + 1, .type = S_IFREG, .number = inode->id + 1000};
        if (with_entries) {
            listed.entry = (struct entry){.inode = inode, .id = inode->id};
            fake_attributes(inode, &listed.entry.attributes);
        }
        bool taken = sink(context, &listed);
        if (!with_entries || !taken)
            inode_unref(inode);
        if (!taken)
            break;
    }
    return 0;
}

size_t cache_list_bytes(const struct listing *listing)
{
    (void)listing;
    return fake.listing_bytes;
}

void cache_list_release(struct listing *listing)
{
    free(listing);
    LOCK_SCOPED(&fake.lock);
    fake.open--;
}

int cache_open(struct cache *cache, struct waiter *waiter, struct inode *inode, int flags, pid_t process,
               struct handle **ret_handle, struct opened *ret_opened)
{
    (void)cache;
    (void)waiter;
    (void)flags;
    fake.process = process;
    *ret_handle = xcalloc(1, sizeof **ret_handle);
    (*ret_handle)->inode = inode;
    *ret_opened = (struct opened){.keep_cache = true};
    LOCK_SCOPED(&fake.lock);
    fake.open++;
    return 0;
}

/* state: itself while in the list, else NULL. */
void cache_read(struct cache *cache, struct cache_read *read)
{
    (void)cache;
    lock_take(&fake.lock);
    fake.asked++;
    bool waits = read->offset >= FAKE_SLOW_OFFSET && !fake.released;
    read->state = waits ? read : NULL;
    if (waits)
        list_append(&fake.reads, &read->link);
    lock_drop(&fake.lock);
    if (!waits)
        fake_end_read(read, 0);
}

void cache_read_interrupt(struct cache *cache, struct cache_read *read)
{
    (void)cache;
    lock_take(&fake.lock);
    bool ours = read->state == read;
    if (ours) {
        read->state = NULL;
        list_remove(&read->link);
    }
    lock_drop(&fake.lock);
    if (ours)
        fake_end_read(read, -EINTR);
}

static atomic_size_t fake_reads_released;

void cache_read_release(struct cache *cache, struct cache_read *read)
{
    (void)cache;
    assert(read->state == NULL);
    read->pieces = NULL;
    atomic_fetch_add(&fake_reads_released, 1);
}

int cache_write(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                size_t size, uint64_t offset)
{
    (void)cache;
    (void)handle;
    (void)bytes;
    (void)size;
    return offset >= FAKE_SLOW_OFFSET && !waiter ? -EAGAIN : 0;
}

int cache_write_back(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                     size_t size, uint64_t offset)
{
    return cache_write(cache, waiter, handle, bytes, size, offset);
}

void cache_set_flags(struct handle *handle, int flags)
{
    (void)handle;
    (void)flags;
}

int cache_allocate(struct cache *cache, struct waiter *waiter, struct handle *handle, int mode,
                   uint64_t offset, uint64_t length)
{
    (void)cache;
    (void)waiter;
    (void)handle;
    (void)mode;
    (void)offset;
    (void)length;
    return -EOPNOTSUPP;
}

int cache_copy_range(struct cache *cache, struct waiter *waiter, struct handle *from, uint64_t from_offset,
                     struct handle *to, uint64_t to_offset, uint64_t length, uint64_t *ret_length)
{
    (void)cache;
    (void)waiter;
    (void)from;
    (void)from_offset;
    (void)to;
    (void)to_offset;
    (void)length;
    (void)ret_length;
    return -EOPNOTSUPP;
}

int cache_seek(struct cache *cache, struct handle *handle, int whence, uint64_t offset, uint64_t *ret_offset)
{
    (void)cache;
    (void)handle;
    (void)whence;
    *ret_offset = offset;
    return 0;
}

int cache_clear_setid(struct cache *cache, struct waiter *waiter, struct inode *inode, struct handle *handle)
{
    (void)cache;
    (void)waiter;
    (void)inode;
    (void)handle;
    atomic_fetch_add(&fake.setid_cleared, 1);
    return 0;
}

int cache_xattr_get(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name,
                    struct buf *ret_value)
{
    (void)cache;
    (void)waiter;
    (void)inode;
    buf_add_string(ret_value, name);
    return 0;
}

int cache_xattr_list(struct cache *cache, struct waiter *waiter, struct inode *inode, struct buf *ret_names)
{
    (void)cache;
    (void)waiter;
    (void)inode;
    buf_add(ret_names, "user.a", sizeof "user.a");
    return 0;
}

/* Waits: what it is given is a copy then. */
int cache_xattr_set(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name,
                    const void *value, size_t size, int flags)
{
    (void)cache;
    (void)inode;
    if (!waiter)
        return -EAGAIN;
    bool right = strcmp(name, "user.a") == 0 && size == 3 && memcmp(value, "1\0002", 3) == 0 && flags == 2;
    return right ? 0 : -EINVAL;
}

int cache_xattr_remove(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name)
{
    (void)cache;
    (void)inode;
    (void)name;
    return waiter ? -ENODATA : -EAGAIN;
}

/* version: 1 while in the list. */
static void fake_sync(struct cache_sync *sync)
{
    lock_take(&fake.lock);
    fake.asked++;
    bool waits = !fake.released;
    sync->version = waits;
    if (waits)
        list_append(&fake.syncs, &sync->link);
    lock_drop(&fake.lock);
    if (!waits)
        sync->done(sync, 0);
}

bool cache_close_waits(const struct cache *cache)
{
    (void)cache;
    return true;
}

void cache_flush(struct cache *cache, struct handle *handle, pid_t process, struct cache_sync *sync)
{
    (void)cache;
    (void)handle;
    fake.process = process;
    fake_sync(sync);
}

void cache_fsync(struct cache *cache, struct inode *inode, struct cache_sync *sync)
{
    (void)cache;
    (void)inode;
    fake_sync(sync);
}

int cache_fsync_directory(struct cache *cache, struct waiter *waiter, struct inode *directory)
{
    (void)cache;
    (void)directory;
    return waiter ? 0 : -EAGAIN;
}

bool cache_sync_interrupt(struct cache *cache, struct cache_sync *sync)
{
    (void)cache;
    LOCK_SCOPED(&fake.lock);
    if (sync->version == 0)
        return false;
    sync->version = 0;
    list_remove(&sync->link);
    return true;
}

void cache_release(struct cache *cache, struct handle *handle)
{
    (void)cache;
    free(handle);
    LOCK_SCOPED(&fake.lock);
    fake.open--;
}

void cache_statfs(struct cache *cache, struct cache_space *ret_space)
{
    (void)cache;
    *ret_space = (struct cache_space){.total_bytes = 1 << 30, .free_bytes = 1 << 29};
}

#endif
