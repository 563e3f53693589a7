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

void room_init(struct room *room, const struct room_config *config)
{
    static const struct room_config defaults;
    *room = (struct room){0};
    if (!config)
        config = &defaults;
    snprintf(room->path, sizeof room->path, "/tmp/skyvol-room-XXXXXX");
    if (!mkdtemp(room->path) || disk_open_directory(room->path, &room->directory) < 0)
        abort();
    fault_disk_init(&room->disk, room->directory);
    room->bucket = memory_store_new(&config->bucket);
    room->store = memory_store_door(room->bucket);
    room->memory = memory_new(config->memory_bytes ? config->memory_bytes : (size_t)64 << 20);
    waiter_init(&room->waiter);
    struct cache_config cache = {
        .store = room->store,
        .memory = room->memory,
        .disk = &room->disk.disk,
        .prefix = "p/",
        .read_only = config->read_only,
        .attr_ttl_ms = config->attr_ttl_ms ? config->attr_ttl_ms : 1000,
        .io_timeout_ms = config->io_timeout_ms,
        .part_bytes = config->part_bytes,
        .copy_bytes_max = config->copy_bytes_max,
        .uploads_max = config->uploads_max,
    };
    if (cache_new(&cache, &room->cache) < 0)
        abort();
    room->root = cache_root(room->cache);
}

void room_close_cache(struct room *room)
{
    inode_unref(room->root);
    room->root = NULL;
    cache_free(room->cache);
    room->cache = NULL;
}

static int remove_name(void *context, const char *name)
{
    struct disk *disk = context;
    return disk->ops->remove(disk, name);
}

void room_release(struct room *room)
{
    if (room->cache)
        room_close_cache(room);
    store_free(room->store);
    memory_free(room->memory);
    waiter_release(&room->waiter);
    room->directory->ops->list(room->directory, remove_name, room->directory);
    disk_free(room->directory);
    rmdir(room->path);
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
    until.tv_sec += 10;
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
