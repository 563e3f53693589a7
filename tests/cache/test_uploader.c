#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/content.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

/* ---- What close and fsync promise. ---- */

Test(uploader, close_of_a_small_file_returns_when_it_is_whole_in_the_bucket)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct store_object object;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_flush(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 1000);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
    cr_assert_not_null(store_fields_get(&object.meta, "mode"));
    cr_assert_not_null(store_fields_get(&object.meta, "mtime"));
    cr_assert_not_null(store_fields_get(&object.meta, "skyvol-id"));
    store_object_release(&object);
    cr_assert(room_clean(handle));
    cache_release(room.cache, handle);
}

Test(uploader, an_empty_file_is_an_object_too)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 0);
}

Test(uploader, a_big_file_goes_up_in_parts_and_appears_at_once)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB + 7, 3), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 3);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 20 * MIB + 7);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB + 7, 3));
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

/* ---- Rewriting what is there. ---- */

static void put_foreign(struct room *room, const char *key, uint64_t size, unsigned seed, const char *type)
{
    char *bytes = xmalloc(size + 1);
    struct store_fields meta = {0}, headers = {0};
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    store_fields_add(&meta, "colour", "blue");
    if (type)
        store_fields_add(&headers, "content-type", type);
    memory_store_put(room->bucket, key, bytes, size, &meta, &headers);
    store_fields_release(&meta);
    store_fields_release(&headers);
    free(bytes);
}

Test(uploader, a_patch_keeps_the_rest_of_the_base_and_what_it_does_not_understand)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct store_object object;
    put_foreign(&room, "p/a", 20 * MIB, 1, "text/x-poem");
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 9 * MIB + 1, 100, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 9 * MIB + 1, 1));
    cr_assert(room_object_holds(&room, "p/a", 9 * MIB + 1, 9 * MIB + 101, 2));
    cr_assert(room_object_holds(&room, "p/a", 9 * MIB + 101, 20 * MIB, 1));
    cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.headers, "content-type"), "text/x-poem");
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    store_object_release(&object);
}

Test(uploader, an_append_goes_behind_the_end_whatever_the_offset_says)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_foreign(&room, "p/a", 1000, 1, NULL);
    cr_assert_eq(room_open(&room, "a", O_WRONLY | O_APPEND, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "xyz", 3, 17), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 1003);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
}

Test(uploader, what_was_cut_off_and_grown_again_reads_as_zeros)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_foreign(&room, "p/a", 3000, 1, NULL);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_truncate(&room, handle, 1000), 0);
    cr_assert_eq(room_truncate(&room, handle, 2500), 0);
    cr_assert_eq(room_write(&room, handle, 2000, 100, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 2500);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert(room_object_holds(&room, "p/a", 1000, 2000, 0));
    cr_assert(room_object_holds(&room, "p/a", 2000, 2100, 2));
    cr_assert(room_object_holds(&room, "p/a", 2100, 2500, 0));
}

Test(uploader, a_second_patch_of_our_own_upload_builds_on_it)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3000, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 500, 10, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 500, 1));
    cr_assert(room_object_holds(&room, "p/a", 500, 510, 2));
    cr_assert(room_object_holds(&room, "p/a", 510, 3000, 1));
}

/* ---- Conflicts: more in test_conflict.c. ---- */

static bool no_upload_is_left(void *context)
{
    struct room *room = context;
    return memory_store_upload_count(room->bucket) == 0;
}

Test(uploader, a_patch_whose_base_vanished_is_estale)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_foreign(&room, "p/a", 1000, 1, NULL);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 10, 10, 2), 0);
    memory_store_remove(room.bucket, "p/a");
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    cache_release(room.cache, handle);
}

Test(uploader, whole_replacement_is_last_writer_wins)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_foreign(&room, "p/a", 1000, 1, NULL);
    cr_assert_eq(room_open(&room, "a", O_WRONLY | O_TRUNC, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 700, 2), 0);
    put_foreign(&room, "p/a", 900, 3, NULL);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 700);
    cr_assert(room_object_holds(&room, "p/a", 0, 700, 2));
}

/* ---- Outcomes that are not known. ---- */

static void check_lost_reply(enum store_op op, uint64_t size)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, size, 1), 0);
    int fault =
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = op, .times = 1});
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(memory_store_fault_struck(room.bucket, fault), 1);
    cr_assert(room_object_holds(&room, "p/a", 0, size, 1));
    cr_assert_eq(memory_store_logged(room.bucket, op, "p/a"), 1, "what was done was done again");
}

Test(uploader, a_lost_reply_of_put_is_settled_by_head)
{
    check_lost_reply(STORE_PUT, 1000);
}

Test(uploader, a_lost_reply_of_complete_is_settled_by_head)
{
    check_lost_reply(STORE_COMPLETE, 20 * MIB);
}

Test(uploader, a_412_that_is_the_echo_of_our_own_put_is_success)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_foreign(&room, "p/a", 1000, 1, NULL);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 10, 10, 2), 0);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .rc = -ESTALE, .times = 1});
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 10, 20, 2));
}

Test(uploader, a_put_that_was_lost_on_its_way_goes_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .unknown = true, .times = 1});
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
}

Test(uploader, an_upload_that_the_server_lost_starts_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COMPLETE, .times = 1});
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    memory_store_forget_uploads(room.bucket);
    int rc = room_fsync(&room, handle);
    cr_assert(rc == 0 || rc == -EIO);
    if (rc < 0)
        cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB, 1));
}

/* ---- Errors. ---- */

static void count_unsent(void *context, const struct cache_unsent *unsent)
{
    size_t *count = context;
    cr_assert_str_eq(unsent->key, "p/a");
    cr_assert_str_eq(unsent->path, "a");
    cr_assert(unsent->local[0] && unsent->bytes > 0 && unsent->parked && strstr(unsent->why, "EACCES"));
    (*count)++;
}

Test(uploader, after_an_error_the_file_stays_is_named_and_a_later_fsync_succeeds_only_when_whole)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    size_t count = 0;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EACCES});
    cr_assert_eq(room_fsync(&room, handle), -EACCES);
    cr_assert_eq(room_fsync(&room, handle), -EACCES);
    cr_assert_not(room_clean(handle));
    cache_unsent(room.cache, count_unsent, &count);
    cr_assert_eq(count, 1);
    memory_store_faults_end(room.bucket);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

static bool object_is_there(void *context)
{
    struct room *room = context;
    return memory_store_has(room->bucket, "p/a");
}

Test(uploader, a_temporary_error_is_retried_behind)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .times = 1});
    cr_assert_eq(room_close(&room, handle), -EIO);
    cr_assert(room_await(object_is_there, &room));
}

Test(uploader, parts_that_landed_are_not_sent_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 40 * MIB, 1), 0);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_PART, .skip = 3, .times = 1});
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 6);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 1);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 40 * MIB, 1));
}

Test(uploader, a_full_local_disk_is_the_writers_error_and_nothing_else)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    atomic_store(&room.disk.write_rc, -ENOSPC);
    cr_assert_eq(room_write(&room, handle, 1000, 1000, 2), -ENOSPC);
    cr_assert_eq(room_flush(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 1000);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    atomic_store(&room.disk.write_rc, 0);
    cr_assert_eq(room_truncate(&room, handle, 3000), 0);
    cr_assert_eq(room_write(&room, handle, 2000, 1000, 3), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert(room_object_holds(&room, "p/a", 1000, 2000, 0), "half of a failed write came to light");
    cr_assert(room_object_holds(&room, "p/a", 2000, 3000, 3));
}

/* ---- Time. ---- */

Test(uploader, a_sync_that_sees_no_progress_gets_eio_and_the_upload_goes_on_behind)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    for (int big = 0; big < 2; big++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct room_sync sync;
        enum store_op op = big ? STORE_PART : STORE_PUT;
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, big ? 20 * MIB : 1000, 1), 0);
        int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = op});
        room_fsync_begin(&room, handle, &sync);
        cr_assert(memory_store_await(room.bucket, op, "p/a", 1));
        clock_fake_advance(59000);
        cr_assert_not(room_sync_done(&sync));
        clock_fake_advance(2000);
        cr_assert_eq(room_sync_end(&sync), -EIO);
        memory_store_fault_end(room.bucket, fault);
        for (int i = 0; i < 100 && !object_is_there(&room); i++) {
            clock_fake_advance(1000);
            usleep(10000);
        }
        cr_assert(object_is_there(&room), "nothing went on behind");
        cr_assert_eq(room_close(&room, handle), 0);
    }
    clock_fake_end();
}

Test(uploader, a_sync_behind_others_that_move_nothing_hears_eio_in_the_same_time)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    for (int memory = 0; memory < 2; memory++) { /* it waits for memory, or for one of the uploads_max */
        struct room_config config = {.uploads_max = memory ? 0 : 1, .memory_bytes = memory ? 8 * MIB : 0};
        ROOM_SCOPED(room, &config);
        struct handle *first, *second;
        struct room_sync syncs[2];
        cr_assert_eq(room_create(&room, "a", &first), 0);
        cr_assert_eq(room_create(&room, "b", &second), 0);
        cr_assert_eq(room_write(&room, first, 0, 3 * MIB, 1), 0);
        cr_assert_eq(room_write(&room, second, 0, 3 * MIB, 1), 0);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
        room_fsync_begin(&room, first, &syncs[0]);
        cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/a", 1));
        clock_fake_advance(1);
        room_fsync_begin(&room, second, &syncs[1]);
        usleep(20000);
        clock_fake_advance(60001);
        cr_assert_eq(room_sync_end(&syncs[1]), -EIO);
        cr_assert_eq(room_sync_end(&syncs[0]), -EIO);
        memory_store_faults_end(room.bucket);
        memory_store_unhang(room.bucket, 0, NULL);
        clock_fake_advance(5000);
        cr_assert_eq(room_close(&room, first), 0);
        cr_assert_eq(room_close(&room, second), 0);
    }
    clock_fake_end();
}

Test(uploader, an_interrupted_sync_is_unlinked_and_the_upload_goes_on)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    room_fsync_begin(&room, handle, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/a", 1));
    cr_assert(cache_sync_interrupt(room.cache, &sync.sync));
    cr_assert_not(cache_sync_interrupt(room.cache, &sync.sync));
    memory_store_fault_end(room.bucket, fault);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert(room_await(object_is_there, &room));
    cr_assert_not(room_sync_done(&sync));
    cr_assert_eq(room_close(&room, handle), 0);
}

/* ---- Who publishes. ---- */

Test(uploader, the_flush_of_a_forked_child_publishes_nothing_the_last_release_does)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    room_sync_prepare(&sync);
    cache_flush(room.cache, handle, ROOM_PROCESS + 1, &sync.sync);
    cr_assert(room_sync_done(&sync));
    cr_assert_eq(sync.rc, 0);
    cr_assert(memory_store_settle(room.bucket));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 0);
    cache_release(room.cache, handle);
    cr_assert(room_await(object_is_there, &room));
}

static bool nothing_hangs(void *context)
{
    struct room *room = context;
    return memory_store_waiting(room->bucket, 0, NULL) == 0;
}

Test(uploader, while_held_nothing_goes_up_and_parts_on_their_way_do_not_keep_the_holder)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
    int fault =
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .skip = 1});
    room_fsync_begin(&room, handle, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_PART, "p/a", 2));
    cr_assert_eq(upload_hold(room_inode(handle), &room.waiter), 0);
    cr_assert(room_await(nothing_hangs, &room));
    cr_assert_eq(room_write(&room, handle, 5, 5, 2), 0);
    cr_assert_not(room_sync_done(&sync));
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    memory_store_fault_end(room.bucket, fault);
    upload_unhold(room_inode(handle));
    cr_assert_eq(room_sync_end(&sync), 0);
    cr_assert(room_object_holds(&room, "p/a", 5, 10, 2));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 1);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(uploader, an_orphan_goes_nowhere_and_its_parts_are_aborted)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .skip = 1});
    room_fsync_begin(&room, handle, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_PART, "p/a", 2));
    cr_assert_eq(cache_unlink(room.cache, &room.waiter, room.root, "a"), 0);
    cr_assert_eq(room_sync_end(&sync), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cache_release(room.cache, handle);
    size_t unsent = 1;
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 5000, &unsent), 0);
    cr_assert_eq(unsent, 0);
    room_close_cache(&room);
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
}

/* ---- Writers during an upload. ---- */

struct scribbler { /* overwrites the whole file each time the uploader reads */
    struct room *room;
    struct handle *handle;
    size_t size;
    unsigned seed, limit;
};

static void scribble(void *context, uint64_t offset)
{
    struct scribbler *scribbler = context;
    if (scribbler->seed >= scribbler->limit || offset == 0)
        return;
    /* On the uploader's own thread: where writers are held it must not wait. */
    char *bytes = xmalloc(scribbler->size);
    unsigned seed = scribbler->seed + 1;
    for (size_t i = 0; i < scribbler->size; i++)
        bytes[i] = room_byte(seed, i);
    if (cache_write(scribbler->room->cache, NULL, scribbler->handle, bytes, scribbler->size, 0) == 0)
        scribbler->seed = seed;
    free(bytes);
}

static void check_scribbling(uint64_t part_bytes, size_t size)
{
    struct room_config config = {.part_bytes = part_bytes, .bucket = {.part_bytes_min = 1}};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, size, 1), 0);
    struct scribbler scribbler = {&room, handle, size, 1, 1000};
    room.disk.context = &scribbler;
    room.disk.before_read = scribble;
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_gt(scribbler.seed, 1, "nothing was written meanwhile");
    /* One of the versions, whole. */
    BUF_SCOPED bytes = BUF_INIT;
    cr_assert(memory_store_peek(room.bucket, "p/a", NULL, &bytes));
    cr_assert_eq(bytes.length, size);
    unsigned seed = 1;
    while (seed <= scribbler.seed && bytes.bytes[0] != room_byte(seed, 0))
        seed++;
    bool found = false;
    for (; seed <= scribbler.seed && !found; seed++)
        found = bytes.bytes[0] == room_byte(seed, 0) && room_object_holds(&room, "p/a", 0, size, seed);
    cr_assert(found, "a mixture of versions");
    room.disk.before_read = NULL;
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, size, scribbler.seed));
}

Test(uploader, writes_while_a_small_file_goes_up_never_make_a_mixture)
{
    check_scribbling(0, MIB);
}

Test(uploader, writes_while_parts_go_up_never_make_a_mixture)
{
    check_scribbling(MIB, 10 * MIB);
}

Test(uploader, parts_that_wait_for_their_turn_when_they_are_cut_off_are_forgotten)
{
    struct room_config config = {.part_bytes = MIB, .uploads_max = 1, .bucket = {.part_bytes_min = 1}};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 4 * MIB, 1), 0);
    int fault =
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .skip = 1});
    room_fsync_begin(&room, handle, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_PART, "p/a", 1));
    while (memory_store_logged(room.bucket, STORE_PART, "p/a") < 2)
        usleep(1000);
    cr_assert_eq(room_truncate(&room, handle, 2 * MIB), 0);
    memory_store_fault_end(room.bucket, fault);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert_eq(room_sync_end(&sync), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 2 * MIB);
    cr_assert(room_object_holds(&room, "p/a", 0, 2 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 0);
}

static bool parts_wait_for_memory(void *context)
{
    struct room *room = context;
    struct memory_report report;
    memory_report(room->memory, &report);
    return report.waiting > 0;
}

Test(uploader, a_write_while_parts_wait_for_memory_makes_no_mixture)
{
    struct room_config config = {
        .part_bytes = MIB, .memory_bytes = 16 * MIB, .bucket = {.part_bytes_min = 1}};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 4 * MIB, 1), 0);
    struct memory_report report;
    memory_report(room.memory, &report);
    size_t taken = report.limit - report.used - PAGE_BYTES;
    cr_assert(memory_try(room.memory, taken, SHARE_DEMAND));
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART});
    room_fsync_begin(&room, handle, &sync);
    cr_assert(room_await(parts_wait_for_memory, &room));
    memory_give(room.memory, MIB, SHARE_DEMAND);
    cr_assert(memory_store_await(room.bucket, STORE_PART, "p/a", 1));
    cr_assert_eq(room_write(&room, handle, 0, 4 * MIB, 2), 0);
    memory_store_fault_end(room.bucket, fault);
    memory_store_unhang(room.bucket, 0, NULL);
    memory_give(room.memory, taken - MIB, SHARE_DEMAND);
    cr_assert_eq(room_sync_end(&sync), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 4 * MIB, 2));
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(uploader, a_write_after_the_version_was_taken_goes_up_with_the_next_sync)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync first;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    int fault =
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT, .times = 1});
    room_fsync_begin(&room, handle, &first);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/a", 1));
    cr_assert_eq(room_truncate(&room, handle, 400), 0);
    cr_assert_eq(room_truncate(&room, handle, 900), 0);
    cr_assert_eq(room_write(&room, handle, 10, 10, 2), 0);
    memory_store_fault_end(room.bucket, fault);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert_eq(room_sync_end(&first), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1), "the first sync's version");
    cr_assert_not(room_clean(handle));
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 900);
    cr_assert(room_object_holds(&room, "p/a", 0, 10, 1));
    cr_assert(room_object_holds(&room, "p/a", 10, 20, 2));
    cr_assert(room_object_holds(&room, "p/a", 20, 400, 1));
    cr_assert(room_object_holds(&room, "p/a", 400, 900, 0));
}

Test(uploader, a_file_that_grows_or_shrinks_while_parts_go_up_ends_whole)
{
    for (int shrinks = 0; shrinks < 2; shrinks++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct room_sync sync;
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
        int fault = memory_store_fault(room.bucket,
                                       &(struct fault){.kind = FAULT_HANG, .op = STORE_CREATE, .times = 1});
        room_fsync_begin(&room, handle, &sync);
        cr_assert(memory_store_await(room.bucket, STORE_CREATE, "p/a", 1));
        uint64_t size = shrinks ? MIB : 30 * MIB;
        if (shrinks)
            cr_assert_eq(room_truncate(&room, handle, size), 0);
        else
            cr_assert_eq(room_write(&room, handle, 20 * MIB, 10 * MIB, 1), 0);
        memory_store_fault_end(room.bucket, fault);
        memory_store_unhang(room.bucket, 0, NULL);
        cr_assert_eq(room_sync_end(&sync), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert_eq(room_object_size(&room, "p/a"), size);
        cr_assert(room_object_holds(&room, "p/a", 0, size, 1));
        cr_assert(room_await(no_upload_is_left, &room));
    }
}

/* ---- Attributes alone. ---- */

Test(uploader, changed_attributes_alone_cost_one_copy_onto_itself)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct store_object object;
    struct attributes wanted = {.mode = 0600}, seen;
    put_foreign(&room, "p/a", 1000, 1, "text/x-poem");
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    memory_store_log_clear(room.bucket);
    int rc =
        cache_set_attributes(room.cache, &room.waiter, room_inode(handle), handle, SET_MODE, &wanted, &seen);
    cr_assert_eq(rc, 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, "p/a"), 1);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 0);
    cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "33152");
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    cr_assert_str_eq(store_fields_get(&object.headers, "content-type"), "text/x-poem");
    store_object_release(&object);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(uploader, a_copy_whose_reply_was_lost_is_settled_by_head)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes wanted = {.mode = 0600}, seen;
    put_foreign(&room, "p/a", 1000, 1, NULL);
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_COPY, .times = 1});
    int rc =
        cache_set_attributes(room.cache, &room.waiter, room_inode(handle), handle, SET_MODE, &wanted, &seen);
    cr_assert_eq(rc, 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, "p/a"), 1);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(uploader, a_copy_that_is_too_large_for_one_call_goes_by_parts)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes wanted = {.mode = 0600}, seen;
    struct store_object object;
    put_foreign(&room, "p/a", 1000, 1, NULL);
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .rc = -EFBIG});
    int rc =
        cache_set_attributes(room.cache, &room.waiter, room_inode(handle), handle, SET_MODE, &wanted, &seen);
    cr_assert_eq(rc, 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, "p/a"), 1);
    cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "33152");
    store_object_release(&object);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(uploader, times_that_were_set_reach_the_bucket_also_with_parts)
{
    for (int late = 0; late < 2; late++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct room_sync sync;
        struct attributes wanted = {.mtime_ns = INT64_C(1234567890) * 1000000000}, seen;
        struct store_object object;
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
        int fault = memory_store_fault(room.bucket,
                                       &(struct fault){.kind = FAULT_HANG, .op = STORE_CREATE, .times = 1});
        if (late) {
            room_fsync_begin(&room, handle, &sync);
            cr_assert(memory_store_await(room.bucket, STORE_CREATE, "p/a", 1));
        }
        int rc = cache_set_attributes(room.cache, &room.waiter, room_inode(handle), handle, SET_MTIME,
                                      &wanted, &seen);
        cr_assert_eq(rc, 0);
        memory_store_fault_end(room.bucket, fault);
        memory_store_unhang(room.bucket, 0, NULL);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert(!late || room_sync_end(&sync) == 0);
        cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
        const char *mtime = store_fields_get(&object.meta, "mtime");
        cr_assert(mtime && strncmp(mtime, "1234567890", 10) == 0);
        store_object_release(&object);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, "p/a"), (size_t)late);
    }
}

/* ---- Little memory. ---- */

Test(uploader, eight_mib_of_memory_are_enough_for_any_file)
{
    struct room_config config = {.memory_bytes = 8 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handles[3];
    const char *names[] = {"a", "b", "c"};
    struct room_sync syncs[3];
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(room_create(&room, names[i], &handles[i]), 0);
        cr_assert_eq(room_write(&room, handles[i], 0, 17 * MIB, (unsigned)i + 1), 0);
    }
    for (int i = 0; i < 3; i++)
        room_fsync_begin(&room, handles[i], &syncs[i]);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(room_sync_end(&syncs[i]), 0);
        cr_assert_eq(room_close(&room, handles[i]), 0);
    }
    cr_assert(room_object_holds(&room, "p/c", 0, 17 * MIB, 3));
    struct memory_report report;
    memory_report(room.memory, &report);
    cr_assert_eq(report.shares[SHARE_UPLOAD], 0, "memory was not given back");
}

/* ---- Drain. ---- */

Test(uploader, drain_publishes_what_is_open_too_and_tells_what_is_left)
{
    ROOM_SCOPED(room, NULL);
    struct handle *a, *b;
    size_t unsent = 0;
    cr_assert_eq(room_create(&room, "a", &a), 0);
    cr_assert_eq(room_write(&room, a, 0, 1000, 1), 0);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, CLOCK_NEVER, &unsent), 0);
    cr_assert_eq(unsent, 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EFBIG});
    cr_assert_eq(room_create(&room, "b", &b), 0);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), -EFBIG);
    cr_assert_eq(unsent, 1);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 100, &unsent), -ETIMEDOUT);
    cache_release(room.cache, a);
    cache_release(room.cache, b);
}

Test(uploader, unsent_bytes_stay_on_the_disk_when_the_cache_goes_and_sent_ones_do_not)
{
    ROOM_SCOPED(room, NULL);
    struct handle *a, *b;
    cr_assert_eq(room_create(&room, "a", &a), 0);
    cr_assert_eq(room_write(&room, a, 0, 1000, 1), 0);
    cr_assert_eq(room_close(&room, a), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EACCES});
    cr_assert_eq(room_create(&room, "b", &b), 0);
    cr_assert_eq(room_write(&room, b, 0, 1000, 1), 0);
    cr_assert_eq(room_close(&room, b), -EACCES);
    room_close_cache(&room);
    cr_assert_eq(room_local_files(&room), 1);
}

/* ---- The ladder: one call fails, whichever it is. ---- */

/* create 20 MiB, overwrite the middle, fsync, truncate, close. What was acknowledged is in the bucket. */
/* A flush that failed is believed by nobody any more: all that comes hears EIO until the next mount, which sends what was taken. */
static bool is_broken(struct room *room)
{
    struct journal_report report;
    journal_report(room->cache->journal, &report);
    return report.broken;
}

static void check_cut(struct room *room)
{
    cr_assert_eq(room_object_size(room, "p/a"), 8 * MIB + 5);
    cr_assert(room_object_holds(room, "p/a", 0, 7 * MIB, 1));
    cr_assert(room_object_holds(room, "p/a", 7 * MIB, 8 * MIB + 5, 2));
}

static void climb_rung(struct room *room, int rung)
{
    struct handle *handle;
    if (room_create(room, "a", &handle) < 0)
        return;
    bool written = room_write(room, handle, 0, 20 * MIB, 1) == 0;
    bool patched = written && room_write(room, handle, 7 * MIB, 2 * MIB, 2) == 0;
    if (patched && room_fsync(room, handle) == 0) {
        cr_assert(room_object_holds(room, "p/a", 0, 7 * MIB, 1));
        cr_assert(room_object_holds(room, "p/a", 7 * MIB, 9 * MIB, 2));
        cr_assert(room_object_holds(room, "p/a", 9 * MIB, 20 * MIB, 1));
    }
    room_clean(handle);
    bool cut = patched && room_truncate(room, handle, 8 * MIB + 5) == 0;
    bool closed = room_flush(room, handle) == 0, broken = is_broken(room);
    if (cut && !closed && !broken)
        cr_assert_eq(room_fsync(room, handle), 0, "one failed call, and the next try fails too: %d", rung);
    if (cut && (closed || !broken)) {
        check_cut(room);
        cr_assert(room_clean(handle));
    }
    cache_release(room->cache, handle);
    if (cut && broken) {
        size_t unsent;
        room_reopen(room);
        cr_assert_eq(cache_drain(room->cache, &room->waiter, clock_ms() + 10000, &unsent), 0, "rung %d",
                     rung);
        check_cut(room);
    }
}

Test(uploader, no_acknowledged_byte_is_lost_whichever_call_to_the_store_fails)
{
    for (uint64_t n = 1;; n++) {
        ROOM_SCOPED(room, NULL);
        int rung = memory_store_fail_nth(room.bucket, n, -EIO);
        climb_rung(&room, (int)n);
        bool struck = memory_store_fault_struck(room.bucket, rung);
        room_close_cache(&room);
        struct memory_report report;
        memory_report(room.memory, &report);
        cr_assert_eq(report.used, 0, "rung %lu", (unsigned long)n);
        if (!struck) {
            cr_assert_gt(n, 8);
            return;
        }
    }
}

Test(uploader, no_acknowledged_byte_is_lost_whichever_call_to_the_disk_fails)
{
    for (long n = 0;; n += n < 20 ? 1 : 37) {
        ROOM_SCOPED(room, NULL);
        atomic_store(&room.disk.fail_nth, n);
        climb_rung(&room, (int)n);
        bool struck = atomic_load(&room.disk.struck) > 0;
        room_close_cache(&room);
        if (!struck)
            return;
    }
}

/* Uploads that block have threads of their own: nobody else's work keeps an fsync waiting. */
Test(uploader, fsync_of_a_patch_does_not_wait_for_deletes_that_hang)
{
    enum { FILES = 20 };
    struct room_config config = {.attr_ttl_ms = 100000};
    ROOM_SCOPED(room, &config);
    struct handle *open[FILES], *handle;
    char name[32], key[32];
    memory_store_put_text(room.bucket, "p/patched", "0123456789");
    for (int i = 0; i < FILES; i++) {
        snprintf(key, sizeof key, "p/f%d", i);
        memory_store_put_text(room.bucket, key, "x");
    }
    cr_assert_eq(tree_open(&room, "patched", O_RDWR, &handle), 0);
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "f%d", i);
        cr_assert_eq(tree_open(&room, name, O_RDONLY, &open[i]), 0);
        cr_assert_eq(tree_unlink(&room, name), 0);
    }
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
    for (int i = 0; i < FILES; i++)
        cache_release(room.cache, open[i]);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "ab", 2, 3), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(uploader, parts_that_the_server_does_not_have_any_more_are_sent_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
    memory_store_fault(
        room.bucket,
        &(struct fault){
            .kind = FAULT_FAIL, .op = STORE_COMPLETE, .times = 1, .http_status = 400, .code = "InvalidPart"});
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 2);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 6);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

/* ---- As the server takes them. ---- */

static uint64_t in_flight_max(struct room *room)
{
    struct uploader_report report;
    uploader_report(room->cache->uploader, &report);
    return report.in_flight_max;
}

/* Files that are asked for at once, and how many requests go out before one is answered. */
static size_t send_many(struct room *room, unsigned round)
{
    struct handle *handles[24];
    struct room_sync syncs[24];
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    for (int i = 0; i < 24; i++) {
        STRING_SCOPED *name = xprintf("%u-%d", round, i);
        cr_assert_eq(room_create(room, name, &handles[i]), 0);
        cr_assert_eq(room_write(room, handles[i], 0, 100, 1), 0);
        room_fsync_begin(room, handles[i], &syncs[i]);
    }
    memory_store_await(room->bucket, STORE_PUT, NULL, in_flight_max(room));
    usleep(100000);
    size_t waiting = memory_store_waiting(room->bucket, STORE_PUT, NULL);
    memory_store_faults_end(room->bucket);
    memory_store_unhang(room->bucket, 0, NULL);
    for (int i = 0; i < 24; i++) {
        cr_assert_eq(room_sync_end(&syncs[i]), 0);
        cr_assert_eq(room_close(room, handles[i]), 0);
    }
    return waiting;
}

Test(uploader, a_server_that_asks_for_patience_gets_half_as_many_at_once_and_more_again_as_it_takes_them)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(send_many(&room, 0), 16);
    cr_assert_eq(in_flight_max(&room), 16);
    for (unsigned i = 0; i < 3; i++) {
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_SLOW, .op = STORE_PUT, .times = 1});
        STRING_SCOPED *name = xprintf("slow-%u", i);
        cr_assert_eq(room_create(&room, name, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 100, 1), 0);
        cr_assert_eq(room_fsync(&room, handle), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert_eq(in_flight_max(&room), 16u >> (i + 1));
    }
    cr_assert_eq(send_many(&room, 1), 2);
    for (unsigned i = 2; i < 8; i++)
        send_many(&room, i);
    cr_assert_eq(in_flight_max(&room), 16);
}
