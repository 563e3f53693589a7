/* What an earlier process left in the journal goes on: kill -9 (a copy of the disk as it stood) and an orderly end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "tests/support/reader.h"
#include "tests/support/room.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

static void check_all_forgotten(struct room *room)
{
    cr_assert(room_await_no_local_file(room));
    struct cache_backlog backlog;
    cache_backlog(room->cache, &backlog);
    cr_assert_eq(backlog.files, 0);
    room_reopen(room);
    cache_backlog(room->cache, &backlog);
    cr_assert_eq(backlog.files, 0, "the journal remembers what was sent");
}

Test(restore, a_file_that_was_open_when_the_process_died_goes_up_with_all_its_bytes)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_write(&room, handle, 5000, 1000, 2), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert(room_object_holds(&room, "p/a", 1000, 5000, 0));
    cr_assert(room_object_holds(&room, "p/a", 5000, 6000, 2));
    cr_assert_eq(room_object_size(&room, "p/a"), 6000);
    check_all_forgotten(&room);
}

Test(restore, before_it_went_up_the_file_is_read_as_it_was_written)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct entry entry;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100, 1), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, room.root, "a", &entry), 0);
    cr_assert_eq(entry.attributes.size, 100);
    inode_unref(entry.inode);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    assert_drained(&room);
}

Test(restore, a_patch_keeps_the_rest_of_the_object)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 4), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    BUF_SCOPED bytes = BUF_INIT;
    cr_assert(memory_store_peek(room.bucket, "p/a", NULL, &bytes));
    cr_assert_str_eq(bytes.bytes, "0123XY6789");
    check_all_forgotten(&room);
}

Test(restore, a_truncated_file_is_what_it_was_cut_to)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3000, 1), 0);
    cr_assert_eq(room_truncate(&room, handle, 1000), 0);
    cr_assert_eq(room_truncate(&room, handle, 2000), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 2000);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert(room_object_holds(&room, "p/a", 1000, 2000, 0), "what was cut off came back");
}

Test(restore, o_trunc_over_unsent_bytes_leaves_only_the_new_ones)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3000, 1), 0);
    cr_assert_eq(room_truncate(&room, handle, 0), 0);
    cr_assert_eq(room_write(&room, handle, 100, 100, 2), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 200);
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 0));
    cr_assert(room_object_holds(&room, "p/a", 100, 200, 2));
    check_all_forgotten(&room);
}

Test(restore, a_name_that_was_removed_or_moved_stays_so)
{
    ROOM_SCOPED(room, NULL);
    struct handle *a, *b;
    cr_assert_eq(room_create(&room, "a", &a), 0);
    cr_assert_eq(room_create(&room, "b", &b), 0);
    cr_assert_eq(room_write(&room, a, 0, 100, 1), 0);
    cr_assert_eq(room_write(&room, b, 0, 100, 2), 0);
    cr_assert_eq(cache_unlink(room.cache, &room.waiter, room.root, "a"), 0);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "b", room.root, "c", 0), 0);
    room_crash(&room);
    cache_release(room.cache, a);
    cache_release(room.cache, b);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    cr_assert_not(memory_store_has(room.bucket, "p/b"));
    cr_assert(room_object_holds(&room, "p/c", 0, 100, 2));
    check_all_forgotten(&room);
}

Test(restore, a_rename_over_an_unsent_file_takes_its_place_at_once)
{
    ROOM_SCOPED(room, NULL);
    struct handle *a, *b;
    cr_assert_eq(room_create(&room, "a", &a), 0);
    cr_assert_eq(room_create(&room, "b", &b), 0);
    cr_assert_eq(room_write(&room, a, 0, 100, 1), 0);
    cr_assert_eq(room_write(&room, b, 0, 50, 2), 0);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "b", room.root, "a", 0), 0);
    room_crash(&room);
    cache_release(room.cache, a);
    cache_release(room.cache, b);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 50);
    cr_assert(room_object_holds(&room, "p/a", 0, 50, 2));
    cr_assert_not(memory_store_has(room.bucket, "p/b"));
    check_all_forgotten(&room);
}

Test(restore, the_object_of_a_file_that_was_unlinked_while_open_goes)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "old");
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    cr_assert_eq(cache_unlink(room.cache, &room.waiter, room.root, "a"), 0);
    cr_assert(memory_store_has(room.bucket, "p/a"));
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    cr_assert(memory_store_settle(room.bucket));
    for (int i = 0; i < 1000 && memory_store_has(room.bucket, "p/a"); i++)
        usleep(5000);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    check_all_forgotten(&room);
}

Test(restore, a_file_in_directories_finds_its_place)
{
    ROOM_SCOPED(room, NULL);
    struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
    struct entry outer, inner, file;
    struct handle *handle;
    cr_assert_eq(cache_mkdir(room.cache, &room.waiter, room.root, "d", &maker, &outer), 0);
    cr_assert_eq(cache_mkdir(room.cache, &room.waiter, outer.inode, "e", &maker, &inner), 0);
    cr_assert_eq(cache_create(room.cache, &room.waiter, inner.inode, "f", O_RDWR, &maker, &file, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100, 1), 0);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "d", room.root, "g", 0), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    inode_unref(file.inode);
    inode_unref(inner.inode);
    inode_unref(outer.inode);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/g/e/f", 0, 100, 1));
    cr_assert_not(memory_store_has(room.bucket, "p/d/e/f"));
    check_all_forgotten(&room);
}

/* ---- Multipart. ---- */

static void write_until_three_parts_landed(struct room *room, struct handle **ret_handle)
{
    struct room_sync sync;
    cr_assert_eq(room_create(room, "a", ret_handle), 0);
    cr_assert_eq(room_write(room, *ret_handle, 0, 40 * MIB, 1), 0);
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .skip = 3});
    room_fsync_begin(room, *ret_handle, &sync);
    for (int i = 0; i < 2000 && memory_store_logged(room->bucket, STORE_PART, "p/a") < 4; i++)
        usleep(5000);
    usleep(300000); /* the journal has heard of them */
    room_crash(room);
    cr_assert(cache_sync_interrupt(room->cache, &sync.sync));
}

Test(restore, parts_that_landed_are_not_sent_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    write_until_three_parts_landed(&room, &handle);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    memory_store_log_clear(room.bucket);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 40 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST_PARTS, "p/a"), 1);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 2);
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
    check_all_forgotten(&room);
}

Test(restore, an_upload_that_the_server_has_forgotten_starts_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    write_until_three_parts_landed(&room, &handle);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    memory_store_forget_uploads(room.bucket);
    memory_store_log_clear(room.bucket);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 40 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 5);
}

Test(restore, a_part_whose_bytes_changed_is_sent_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    write_until_three_parts_landed(&room, &handle);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_LIST_PARTS, .times = 1});
    room_reopen(&room);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 9 * MIB, 10, 7), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 9 * MIB, 9 * MIB + 10, 7));
    cr_assert(room_object_holds(&room, "p/a", 9 * MIB + 10, 40 * MIB, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

static void put_foreign(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    free(bytes);
}

Test(restore, parts_of_a_patch_that_are_still_to_be_sent_hold_the_base)
{
    struct room_config config = {.bucket = {.no_part_copy = true}}; /* else see test_copied.c */
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct room_sync sync;
    put_foreign(&room, "p/a", 40 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 30 * MIB, 10, 7), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .skip = 2});
    room_fsync_begin(&room, handle, &sync);
    for (int i = 0; i < 2000 && memory_store_logged(room.bucket, STORE_PART, "p/a") < 3; i++)
        usleep(5000);
    usleep(300000); /* the journal has heard of them */
    room_crash(&room);
    cr_assert(cache_sync_interrupt(room.cache, &sync.sync));
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 30 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 30 * MIB, 30 * MIB + 10, 7));
    cr_assert(room_object_holds(&room, "p/a", 30 * MIB + 10, 40 * MIB, 1));
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

/* ---- An outcome that the dead process never heard. ---- */

static void die_before_the_reply(struct room *room, enum store_op op, uint64_t size)
{
    struct handle *handle;
    struct room_sync sync;
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = op});
    cr_assert_eq(room_create(room, "a", &handle), 0);
    cr_assert_eq(room_write(room, handle, 0, size, 1), 0);
    room_fsync_begin(room, handle, &sync);
    for (int i = 0; i < 2000 && !memory_store_has(room->bucket, "p/a"); i++)
        usleep(5000);
    room_crash(room);
    cr_assert(cache_sync_interrupt(room->cache, &sync.sync));
    cache_release(room->cache, handle);
    room_close_cache(room);
    memory_store_log_clear(room->bucket);
    room_reopen(room);
    assert_drained(room);
    cr_assert(room_object_holds(room, "p/a", 0, size, 1));
}

Test(restore, a_put_that_arrived_is_found_by_its_id_and_not_sent_again)
{
    ROOM_SCOPED(room, NULL);
    die_before_the_reply(&room, STORE_PUT, 1000);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, "p/a"), 1);
    check_all_forgotten(&room);
}

Test(restore, a_complete_that_arrived_is_found_by_its_id_and_not_sent_again)
{
    ROOM_SCOPED(room, NULL);
    die_before_the_reply(&room, STORE_COMPLETE, 20 * MIB);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 0);
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
    check_all_forgotten(&room);
}

/* ---- Ends in order. ---- */

Test(restore, an_orderly_end_keeps_what_could_not_go_up)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EACCES});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_close(&room, handle), -EACCES);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    check_all_forgotten(&room);
}

Test(restore, an_orderly_end_leaves_parts_for_the_next_mount)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 40 * MIB, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .skip = 3});
    room_fsync_begin(&room, handle, &sync);
    for (int i = 0; i < 2000 && memory_store_logged(room.bucket, STORE_PART, "p/a") < 4; i++)
        usleep(5000);
    cr_assert(cache_sync_interrupt(room.cache, &sync.sync));
    cache_release(room.cache, handle);
    room_close_cache(&room);
    cr_assert_eq(memory_store_upload_count(room.bucket), 1);
    memory_store_log_clear(room.bucket);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 40 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 2);
}

/* ---- Write-back. ---- */

Test(restore, write_back_answers_close_at_once_and_survives)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    check_all_forgotten(&room);
}

/* ---- Found by the crash test. ---- */

Test(restore, what_was_sent_before_the_reply_was_heard_is_read_from_the_object)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    die_before_the_reply(&room, STORE_PUT, 1000);
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    cr_assert_eq(room_read(&room, handle, 0, 1000, 1), 0);
    cache_release(room.cache, handle);
}

Test(restore, what_was_written_after_a_put_that_arrived_is_not_taken_for_sent)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_PUT, .times = 1});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    room_fsync_begin(&room, handle, &sync);
    for (int i = 0; i < 2000 && !memory_store_has(room.bucket, "p/a"); i++)
        usleep(5000);
    cr_assert_eq(room_write(&room, handle, 500, 100, 2), 0);
    room_crash(&room);
    cr_assert(cache_sync_interrupt(room.cache, &sync.sync));
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 500, 1));
    cr_assert(room_object_holds(&room, "p/a", 500, 600, 2));
    cr_assert(room_object_holds(&room, "p/a", 600, 1000, 1));
}

/* Its parts, which the next process takes over, say nothing of what happened to the file since. */
Test(restore, what_was_cut_off_after_a_complete_that_arrived_does_not_come_back)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_COMPLETE, .times = 1});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
    room_fsync_begin(&room, handle, &sync);
    for (int i = 0; i < 2000 && !memory_store_has(room.bucket, "p/a"); i++)
        usleep(5000);
    cr_assert_eq(room_truncate(&room, handle, 1000), 0);
    cr_assert_eq(room_truncate(&room, handle, 15 * MIB), 0);
    room_crash(&room);
    cr_assert(cache_sync_interrupt(room.cache, &sync.sync));
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert(room_object_holds(&room, "p/a", 1000, 15 * MIB, 0));
}

/* The move to a larger local file speaks of what is dirty, and of no outcome. */
Test(restore, a_put_that_arrived_is_known_though_its_file_grew_out_of_its_slot_meanwhile)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 10, 1), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_PUT, .key = "p/a"});
    cr_assert_eq(room_write(&room, handle, 10, 990, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    for (int i = 0; i < 2000 && room_object_size(&room, "p/a") == 10; i++)
        usleep(5000);
    cr_assert_eq(room_object_size(&room, "p/a"), 1000);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 1000, 40000, 1), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 41000, "our own object was taken for another client's");
    cr_assert(room_object_holds(&room, "p/a", 0, 41000, 1));
}

Test(restore, the_local_file_of_what_was_sent_and_still_open_goes)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(room_local_files(&room), 1);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    cr_assert(room_await_no_local_file(&room));
}

/* As a kill between the two records leaves it. */
Test(restore, a_place_that_was_said_for_a_file_that_never_came_is_free_again)
{
    ROOM_SCOPED(room, NULL);
    struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
    struct entry outer, inner, file;
    struct handle *handle;
    struct journal *journal = room.cache->journal;
    struct record records[] = {{.type = RECORD_NODE, .name = "d", .kind = S_IFDIR, .forgotten = true},
                               {.type = RECORD_NODE, .name = "e", .kind = S_IFDIR, .forgotten = true}};
    records[0].id = records[1].parent = journal_new_id(journal);
    records[1].id = journal_new_id(journal);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(journal_append(journal, &records[i], NULL), 0);
    memory_store_put_text(room.bucket, "p/d/e/", "");
    room_reopen(&room);
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, room.root, "d", &outer), 0);
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, outer.inode, "e", &inner), 0);
    cr_assert_eq(cache_create(room.cache, &room.waiter, inner.inode, "f", O_RDWR, &maker, &file, &handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    inode_unref(file.inode);
    inode_unref(inner.inode);
    inode_unref(outer.inode);
    assert_drained(&room);
    check_all_forgotten(&room);
}

/* As a kill, or the power, leaves it that ends an open, a rename or a chmod before it said what the bucket has. */
Test(restore, an_account_that_was_only_opened_sends_nothing_over_what_the_bucket_has)
{
    ROOM_SCOPED(room, NULL);
    struct journal *journal = room.cache->journal;
    struct record records[] = {
        {.type = RECORD_NODE, .name = "d", .kind = S_IFDIR, .forgotten = true},
        {.type = RECORD_NODE, .name = "a", .kind = S_IFREG},
        {.type = RECORD_ATTRIBUTES, .attributes = {.mode = S_IFREG | 0600}, .attribute_version = 1},
        {.type = RECORD_NODE, .name = "b", .kind = S_IFREG},
        {.type = RECORD_NODE, .name = "", .kind = S_IFREG}};
    for (int i = 0; i < 5; i++)
        records[i].id = i == 2 ? records[1].id : journal_new_id(journal);
    records[1].parent = records[0].id;
    for (int i = 0; i < 5; i++)
        cr_assert_eq(journal_append(journal, &records[i], NULL), 0);
    memory_store_put_text(room.bucket, "p/d/a", "whole");
    memory_store_put_text(room.bucket, "p/b", "whole too");
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(tree_holds(&room, "p/d/a", "whole"));
    cr_assert(tree_holds(&room, "p/b", "whole too"));
    check_all_forgotten(&room);
}

/* From slot to slot to a file of its own, dying at each. */
Test(restore, a_file_that_grows_out_of_its_slot_is_whole_wherever_it_stands)
{
    static const uint64_t sizes[] = {100, 4096, 4097, 30000, 40000};
    for (size_t count = 1; count <= sizeof sizes / sizeof sizes[0]; count++) {
        ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
        struct handle *handle, *other;
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(room_create(&room, "b", &other), 0);
        for (size_t i = 0; i < count; i++) {
            uint64_t from = i ? sizes[i - 1] : 0;
            cr_assert_eq(room_write(&room, handle, from, sizes[i] - from, 1), 0);
            cr_assert_eq(room_write(&room, other, 0, 4000, (unsigned)i + 2), 0);
        }
        room_crash(&room);
        cache_release(room.cache, handle);
        cache_release(room.cache, other);
        room_reopen(&room);
        assert_drained(&room);
        cr_assert_eq(room_object_size(&room, "p/a"), sizes[count - 1]);
        cr_assert(room_object_holds(&room, "p/a", 0, sizes[count - 1], 1), "%zu", count);
        cr_assert(room_object_holds(&room, "p/b", 0, 4000, (unsigned)count + 1), "%zu", count);
        check_all_forgotten(&room);
    }
}

/* Each in its slot, some of them sent before the end. */
Test(restore, many_small_files_of_an_earlier_process_go_up_each_with_its_own_bytes)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct handle *handles[50];
    char name[16];
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "f%u", i);
        cr_assert_eq(room_create(&room, name, &handles[i]), 0);
        cr_assert_eq(room_write(&room, handles[i], 0, 100 + i * 200, i + 1), 0);
        if (i % 3 == 0) {
            cr_assert_eq(room_fsync(&room, handles[i]), 0);
            cr_assert_eq(room_write(&room, handles[i], 50, 20, i + 60), 0);
        }
    }
    room_crash(&room);
    for (unsigned i = 0; i < 50; i++)
        cache_release(room.cache, handles[i]);
    room_reopen(&room);
    assert_drained(&room);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "p/f%u", i);
        cr_assert_eq(room_object_size(&room, name), 100 + i * 200);
        cr_assert(room_object_holds(&room, name, 0, 50, i + 1), "%s", name);
        cr_assert(room_object_holds(&room, name, 50, 70, i % 3 ? i + 1 : i + 60), "%s", name);
        cr_assert(room_object_holds(&room, name, 70, 100 + i * 200, i + 1), "%s", name);
    }
    check_all_forgotten(&room);
}

static int remove_local(void *context, const char *name)
{
    struct disk *disk = context;
    return strlen(name) == 16 ? disk->ops->remove(disk, name) : 0;
}

Test(restore, a_local_file_that_is_gone_is_named_and_nothing_of_its_file_goes_up)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    size_t unsent;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100000, 1), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room.snapshot->ops->list(room.snapshot, remove_local, room.snapshot);
    room_reopen(&room);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 20000, &unsent), -ENODATA);
    cr_assert_eq(unsent, 1);
    cr_assert_not(memory_store_has(room.bucket, "p/a"), "zeros went up in the place of what was lost");
    cr_assert_eq(cache_discard(room.cache, &room.waiter, "a", &why), 0, "%s", why.bytes);
    assert_drained(&room);
    check_all_forgotten(&room);
}
