#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "tests/support/tree.h"

#define WRITEBACK (&(struct room_config){.durability = DURABILITY_WRITEBACK, .io_timeout_ms = 300})

static int sync_directory(struct room *room, const char *path)
{
    struct entry entry;
    int rc = tree_lookup(room, path, &entry);
    if (rc < 0)
        return rc;
    rc = cache_fsync_directory(room->cache, &room->waiter, entry.inode);
    inode_unref(entry.inode);
    return rc;
}

/* ---- A directory. ---- */

Test(syncing, fsync_of_a_directory_sends_its_closed_files_and_waits_for_what_was_removed)
{
    ROOM_SCOPED(room, WRITEBACK);
    size_t unsent;
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_write(&room, "d/gone", "old"), 0);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_DELAY, .delay_ms = 30, .op = STORE_PUT});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_DELAY, .delay_ms = 60, .op = STORE_DELETE});
    cr_assert_eq(tree_write(&room, "d/a", "one"), 0);
    cr_assert_eq(tree_write(&room, "d/b", "two"), 0);
    cr_assert_eq(tree_unlink(&room, "d/gone"), 0);
    cr_assert_eq(tree_mkdir(&room, "d/e"), 0);
    cr_assert_eq(tree_rename(&room, "d/b", "d/c", 0), 0);
    cr_assert_eq(sync_directory(&room, "d"), 0);
    assert_keys(&room, "p/d/ p/d/a p/d/c p/d/e/ ");
}

Test(syncing, it_asks_nothing_of_what_is_open_or_below)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_mkdir(&room, "d/sub"), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT, .key = "p/d/sub/x"});
    cr_assert_eq(tree_write(&room, "d/sub/x", "deep"), 0);
    cr_assert_eq(tree_write(&room, "d/open", ""), 0);
    cr_assert_eq(tree_open(&room, "d/open", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(sync_directory(&room, "d"), 0);
    cr_assert_neq(room_object_size(&room, "p/d/open"), 1000);
    cache_release(room.cache, handle);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
}

Test(syncing, it_ends_with_the_error_of_a_file_or_a_delete_within_io_timeout)
{
    for (int removed = 0; removed < 2; removed++) {
        ROOM_SCOPED(room, WRITEBACK);
        size_t unsent;
        cr_assert_eq(tree_mkdir(&room, "d"), 0);
        cr_assert_eq(tree_write(&room, "d/a", "one"), 0);
        cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), 0);
        memory_store_fault(room.bucket,
                           &(struct fault){.kind = FAULT_HANG, .op = removed ? STORE_DELETE : STORE_PUT});
        cr_assert_eq(removed ? tree_unlink(&room, "d/a") : tree_write(&room, "d/a", "two"), 0);
        int64_t started = clock_ms();
        cr_assert_eq(sync_directory(&room, "d"), -EIO);
        cr_assert_lt(clock_ms() - started, 5000);
        memory_store_faults_end(room.bucket);
        memory_store_unhang(room.bucket, 0, NULL);
        int rc = -EIO;
        for (int i = 0; i < 20 && rc < 0; i++) /* it may join the last try that met the fault */
            rc = sync_directory(&room, "d");
        cr_assert_eq(rc, 0);
        cr_assert(removed ? !memory_store_has(room.bucket, "p/d/a") : tree_holds(&room, "p/d/a", "two"));
    }
}

static void *interrupt_soon(void *argument)
{
    usleep(50000);
    waiter_interrupt(argument);
    return NULL;
}

Test(syncing, it_can_be_interrupted)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    pthread_t thread;
    struct entry entry;
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    cr_assert_eq(tree_write(&room, "d/a", "one"), 0);
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    {
        WAITER_SCOPED(waiter);
        pthread_create(&thread, NULL, interrupt_soon, &waiter);
        cr_assert_eq(cache_fsync_directory(room.cache, &waiter, entry.inode), -EINTR);
        pthread_join(thread, NULL);
    }
    inode_unref(entry.inode);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
}

/* ---- A file. ---- */

Test(syncing, fsync_of_a_file_is_answered_when_the_disk_knows_too)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK, .commit_ms = 3600000}));
    struct handle *handle;
    struct cache_backlog backlog;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100000, 1), 0);
    cache_backlog(room.cache, &backlog);
    cr_assert_geq(backlog.unflushed_bytes, 100000);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cache_backlog(room.cache, &backlog);
    cr_assert_lt(backlog.unflushed_bytes, 100000);
    cache_release(room.cache, handle);
}

static uint64_t count_unflushed(struct room *room)
{
    struct cache_backlog backlog;
    cache_backlog(room->cache, &backlog);
    return backlog.unflushed_bytes;
}

Test(syncing, in_local_fsync_and_close_are_answered_when_the_disk_knows)
{
    for (int closes = 0; closes < 2; closes++) {
        ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_LOCAL, .commit_ms = 3600000}));
        struct handle *handle;
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 100000, 1), 0);
        cr_assert_geq(count_unflushed(&room), 100000);
        cr_assert_eq(closes ? room_close(&room, handle) : room_fsync(&room, handle), 0);
        cr_assert_lt(count_unflushed(&room), 100000, "%s", closes ? "close" : "fsync");
        if (!closes)
            cr_assert_eq(room_close(&room, handle), 0);
        memory_store_faults_end(room.bucket);
        memory_store_unhang(room.bucket, 0, NULL);
    }
}
