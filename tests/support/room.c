#include "tests/support/room.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cache/content.h"
#include "cache/slab.h"

static void open_cache(struct room *room)
{
    const struct room_config *config = &room->config;
    struct cache_config cache = {
        .store = room->store,
        .memory = room->memory,
        .disk = &room->disk.disk,
        .boot = config->boot,
        .prefix = "p/",
        .read_only = config->read_only,
        .immutable = config->immutable,
        .durability = config->durability,
        .commit_ms = config->commit_ms,
        .conflict = config->conflict,
        .attr_ttl_ms = config->attr_ttl_ms ? config->attr_ttl_ms : 1000,
        .negative_ttl_ms = config->negative_ttl_ms ? config->negative_ttl_ms : -1,
        .file_mode = 0644,
        .dir_mode = 0755,
        .io_timeout_ms = config->io_timeout_ms,
        .part_bytes = config->part_bytes,
        .dirty_max = config->dirty_max,
        .publish_after_ms = config->publish_after_ms,
        .early_bytes = config->early_bytes,
        .copy_bytes_max = config->copy_bytes_max,
        .copy_step_min = config->copy_step_min,
        .uploads_max = config->uploads_max,
    };
    if (config->catalog)
        cache.catalog = room->catalog_path;
    BUF_SCOPED why = BUF_INIT;
    if (cache_new(&cache, &room->cache, &why) < 0) {
        fprintf(stderr, "room: %s\n", why.bytes);
        abort();
    }
    room->root = cache_root(room->cache);
}

/* Disks of virtual machines have been seen to say for a moment that they are full: that is no finding. */
#define DIRECTORY_TRIES 50

static void make_directory(char path[64], struct disk **ret_directory)
{
    for (int left = DIRECTORY_TRIES;; left--) {
        snprintf(path, 64, "/tmp/skyvol-room-XXXXXX");
        if (mkdtemp(path))
            break;
        perror("room: a directory below /tmp");
        if (!left)
            abort();
        usleep(100000);
    }
    if (disk_open_directory(path, ret_directory) < 0) {
        fprintf(stderr, "room: %s cannot be opened\n", path);
        abort();
    }
}

void room_init(struct room *room, const struct room_config *config)
{
    *room = (struct room){0};
    if (config)
        room->config = *config;
    room->directory = room->config.disk;
    if (!room->directory)
        make_directory(room->path, &room->directory);
    if (room->config.catalog) {
        struct disk *made;
        make_directory(room->catalog_path, &made);
        disk_free(made);
    }
    fault_disk_init(&room->disk, room->directory);
    room->disk.spared = "journal-";
    room->bucket = memory_store_new(&room->config.bucket);
    room->store = memory_store_door(room->bucket);
    room->memory = memory_new(room->config.memory_bytes ? room->config.memory_bytes : (size_t)64 << 20);
    waiter_init(&room->waiter);
    open_cache(room);
}

/* ---- The death of the process. ---- */

/* One that goes meanwhile is no part of it. */
static void copy_file(struct room *room, const char *name)
{
    struct disk_file *from = NULL, *to = NULL;
    static char bytes[1 << 16];
    ssize_t got;
    int rc = disk_open(room->directory, name, DISK_READ_ONLY, &from);
    if (rc == -ENOENT)
        return;
    if (rc < 0 || disk_open(room->snapshot, name, DISK_CREATE, &to) < 0)
        abort();
    for (uint64_t at = 0; (got = disk_read(from, bytes, sizeof bytes, at)) > 0; at += (uint64_t)got)
        if (disk_write(to, bytes, (size_t)got, at) < 0)
            abort();
    disk_close(from);
    disk_close(to);
}

static int copy_local(void *context, const char *name)
{
    if (strncmp(name, "journal-", 8) != 0)
        copy_file(context, name);
    return 0;
}

static int copy_journal(void *context, const char *name)
{
    if (strncmp(name, "journal-", 8) == 0)
        copy_file(context, name);
    return 0;
}

void room_stop_server(struct room *room)
{
    static const enum store_op ops[] = {STORE_PUT,      STORE_COPY,   STORE_CREATE,      STORE_PART,
                                        STORE_COMPLETE, STORE_DELETE, STORE_DELETE_MANY, STORE_PART_COPY};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = ops[i]});
}

void room_start_server(struct room *room)
{
    memory_store_faults_end(room->bucket);
    memory_store_unhang(room->bucket, 0, NULL);
}

void room_crash(struct room *room)
{
    /* First: what happened in the bucket after the snapshot, no process that died by then could have done. */
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_FAIL, .rc = -EIO});
    make_directory(room->snapshot_path, &room->snapshot);
    /* A local file goes after the journal has said so: the journal last. */
    if (room->directory->ops->list(room->directory, copy_local, room) < 0 ||
        room->directory->ops->list(room->directory, copy_journal, room) < 0)
        abort();
}

static int remove_name(void *context, const char *name)
{
    struct disk *disk = context;
    return disk->ops->remove(disk, name);
}

static void remove_directory(struct disk *directory, const char *path)
{
    if (!*path)
        return;
    directory->ops->list(directory, remove_name, directory);
    disk_free(directory);
    rmdir(path);
}

void room_reopen(struct room *room)
{
    if (room->cache)
        room_close_cache(room);
    memory_store_faults_end(room->bucket);
    if (room->next_fault.kind)
        memory_store_fault(room->bucket, &room->next_fault);
    if (room->snapshot) {
        remove_directory(room->directory, room->path);
        memcpy(room->path, room->snapshot_path, sizeof room->path);
        room->directory = room->disk.under = room->snapshot;
        room->snapshot = NULL;
    }
    open_cache(room);
}

void room_reopen_on(struct room *room, struct disk *disk, const char *boot)
{
    if (room->cache)
        room_close_cache(room);
    memory_store_faults_end(room->bucket);
    remove_directory(room->directory, room->path);
    room->path[0] = '\0';
    room->directory = room->disk.under = disk;
    room->config.boot = boot;
    open_cache(room);
}

void room_close_cache(struct room *room)
{
    inode_unref(room->root);
    room->root = NULL;
    cache_free(room->cache);
    room->cache = NULL;
}

static int count_local(void *context, const char *name)
{
    char slab[SLAB_NAME_MAX];
    *(size_t *)context += slab_parse(name, slab) || strspn(name, "0123456789abcdef") == strlen(name);
    return 0;
}

size_t room_local_files(struct room *room)
{
    size_t count = 0;
    room->directory->ops->list(room->directory, count_local, &count);
    return count;
}

static bool no_local_file(void *context)
{
    return room_local_files(context) == 0;
}

bool room_await_no_local_file(struct room *room)
{
    return room_await(no_local_file, room);
}

void room_release(struct room *room)
{
    if (room->cache)
        room_close_cache(room);
    store_free(room->store);
    memory_free(room->memory);
    waiter_release(&room->waiter);
    remove_directory(room->directory, room->path);
    struct disk *catalog;
    if (*room->catalog_path && disk_open_directory(room->catalog_path, &catalog) == 0)
        remove_directory(catalog, room->catalog_path);
}

int room_create(struct room *room, const char *name, struct handle **ret_handle)
{
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct entry entry;
    int rc = cache_create(room->cache, &room->waiter, room->root, name, O_RDWR, &maker, &entry, ret_handle);
    if (rc == 0)
        inode_unref(entry.inode);
    return rc;
}

int room_open(struct room *room, const char *name, int flags, struct handle **ret_handle)
{
    struct entry entry;
    struct opened opened;
    int rc = cache_lookup(room->cache, &room->waiter, room->root, name, &entry);
    if (rc < 0)
        return rc;
    rc = cache_open(room->cache, &room->waiter, entry.inode, flags, ROOM_PROCESS, ret_handle, &opened);
    inode_unref(entry.inode);
    return rc;
}

struct inode *room_inode(struct handle *handle)
{
    return handle->inode;
}

char room_byte(unsigned seed, uint64_t at)
{
    if (seed == 0)
        return 0;
    uint64_t mixed = (at / 8 + seed * UINT64_C(1000003)) * UINT64_C(0x9E3779B97F4A7C15);
    return (char)(((mixed >> 32) + at) | 1);
}

int room_write(struct room *room, struct handle *handle, uint64_t offset, size_t size, unsigned seed)
{
    char *bytes = xmalloc((size_t)1 << 20);
    int rc = 0;
    while (size > 0 && rc == 0) {
        size_t some = size < (size_t)1 << 20 ? size : (size_t)1 << 20;
        for (size_t i = 0; i < some; i++)
            bytes[i] = room_byte(seed, offset + i);
        rc = cache_write(room->cache, &room->waiter, handle, bytes, some, offset);
        offset += some;
        size -= some;
    }
    free(bytes);
    return rc;
}

static void hear(struct cache_sync *sync, int rc)
{
    struct room_sync *mine = sync->owner;
    pthread_mutex_lock(&mine->mutex);
    mine->done = true;
    mine->rc = rc;
    pthread_cond_broadcast(&mine->cond);
    pthread_mutex_unlock(&mine->mutex);
}

void room_sync_prepare(struct room_sync *sync)
{
    *sync = (struct room_sync){.sync = {.done = hear, .owner = sync}};
    pthread_mutex_init(&sync->mutex, NULL);
    pthread_cond_init(&sync->cond, NULL);
}

void room_fsync_begin(struct room *room, struct handle *handle, struct room_sync *sync)
{
    room_sync_prepare(sync);
    cache_fsync(room->cache, handle->inode, &sync->sync);
}

bool room_sync_done(struct room_sync *sync)
{
    pthread_mutex_lock(&sync->mutex);
    bool done = sync->done;
    pthread_mutex_unlock(&sync->mutex);
    return done;
}

int room_sync_end(struct room_sync *sync)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 30;
    pthread_mutex_lock(&sync->mutex);
    while (!sync->done)
        if (pthread_cond_timedwait(&sync->cond, &sync->mutex, &until) == ETIMEDOUT)
            break;
    int rc = sync->done ? sync->rc : -ETIME;
    pthread_mutex_unlock(&sync->mutex);
    return rc;
}

int room_flush(struct room *room, struct handle *handle)
{
    struct room_sync sync;
    room_sync_prepare(&sync);
    cache_flush(room->cache, handle, ROOM_PROCESS, &sync.sync);
    return room_sync_end(&sync);
}

int room_fsync(struct room *room, struct handle *handle)
{
    struct room_sync sync;
    room_fsync_begin(room, handle, &sync);
    return room_sync_end(&sync);
}

int room_truncate(struct room *room, struct handle *handle, uint64_t size)
{
    return content_truncate(handle->inode, &room->waiter, size);
}

int room_close(struct room *room, struct handle *handle)
{
    int rc = room_flush(room, handle);
    cache_release(room->cache, handle);
    return rc;
}

bool room_await(bool (*is_true)(void *context), void *context)
{
    for (int i = 0; i < 10000; i++) {
        if (is_true(context))
            return true;
        usleep(1000);
    }
    return false;
}

bool room_object_holds(struct room *room, const char *key, uint64_t start, uint64_t end, unsigned seed)
{
    BUF_SCOPED bytes = BUF_INIT;
    if (!memory_store_peek(room->bucket, key, NULL, &bytes) || bytes.length < end) {
        fprintf(stderr, "%s: %zu bytes, wanted are %zu\n", key, bytes.length, (size_t)end);
        return false;
    }
    for (uint64_t at = start; at < end; at++)
        if (bytes.bytes[at] != room_byte(seed, at)) {
            fprintf(stderr, "%s: byte %zu is not of pattern %u\n", key, (size_t)at, seed);
            return false;
        }
    return true;
}

uint64_t room_object_size(struct room *room, const char *key)
{
    BUF_SCOPED bytes = BUF_INIT;
    return memory_store_peek(room->bucket, key, NULL, &bytes) ? bytes.length : UINT64_MAX;
}

bool room_clean(struct handle *handle)
{
    LOCK_SCOPED(&handle->inode->lock);
    inode_check_locked(handle->inode);
    return !inode_dirty_locked(handle->inode);
}
