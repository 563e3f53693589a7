/* Renames that are answered from here (rename.h): what is seen at once, what the bucket holds when all has followed, and what a kill
 * in between leaves. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

static const struct room_config behind = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 60000};

static bool reads(struct room *room, const char *path, const char *text)
{
    struct handle *handle;
    struct reader reader;
    char bytes[100] = "";
    if (tree_open(room, path, O_RDONLY, &handle) < 0)
        return false;
    reader_begin(&reader, room, handle, 0, sizeof bytes);
    int rc = reader_wait(&reader);
    bool same = rc == 0 && reader.read.length == strlen(text);
    size_t at = 0;
    for (size_t i = 0; same && i < reader.read.piece_count; i++) {
        const struct iovec *piece = &reader.read.pieces[i];
        same = memcmp(piece->iov_base, text + at, piece->iov_len) == 0;
        at += piece->iov_len;
    }
    reader_release(&reader);
    cache_release(room->cache, handle);
    return same;
}

static void put_two(struct room *room)
{
    tree_put(room, "p/a", "one", "mode=33152", "colour=blue", NULL);
    tree_put(room, "p/b", "two", NULL);
}

/* ---- Seen at once. ---- */

Test(rename_behind, a_file_has_its_new_name_before_the_server_heard_of_it)
{
    ROOM_SCOPED(room, &behind);
    struct attributes before, after;
    struct entry entry;
    tree_put(&room, "p/a", "one", "mode=33152", "colour=blue", NULL);
    cr_assert_eq(tree_stat(&room, "a", &before), 0);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
    cr_assert_eq(tree_stat(&room, "b", &after), 0);
    cr_assert_eq(before.number, after.number);
    assert_list(&room, "", true, "b ");
    cr_assert(reads(&room, "b", "one"));
    assert_keys(&room, "p/a ");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert(tree_holds(&room, "p/b", "one") && reads(&room, "b", "one"));
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/b", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "33152");
    store_object_release(&object);
    assert_list(&room, "", true, "b ");
}

Test(rename_behind, it_replaces_the_other_one)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert(reads(&room, "b", "one"));
    assert_list(&room, "", true, "b ");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert(tree_holds(&room, "p/b", "one"));
}

Test(rename_behind, a_symlink_follows_too)
{
    ROOM_SCOPED(room, &behind);
    char *target;
    struct entry entry;
    cr_assert_eq(tree_symlink(&room, "a", "where"), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert_eq(tree_lookup(&room, "b", &entry), 0);
    cr_assert_eq(cache_readlink(room.cache, &room.waiter, entry.inode, &target), 0);
    cr_assert_str_eq(target, "where");
    free(target);
    inode_unref(entry.inode);
}

Test(rename_behind, what_was_not_sent_goes_up_once_under_the_last_name)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_rename(&room, "b", "c", 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    assert_keys(&room, "p/c ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, NULL), 1);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, NULL), 0);
}

Test(rename_behind, a_put_that_is_under_way_is_not_lost_and_its_object_follows)
{
    ROOM_SCOPED(room, &behind);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT, .key = "p/a"});
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/a", 1));
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_write(&room, "a", "new"), 0);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/a p/b ");
    cr_assert(tree_holds(&room, "p/b", "one") && tree_holds(&room, "p/a", "new"));
}

Test(rename_behind, a_put_that_nobody_answered_is_settled_under_its_own_key)
{
    ROOM_SCOPED(room, &behind);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .key = "p/a", .times = 1});
    int head = memory_store_fault(
        room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .key = "p/a", .skip = 1});
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    for (int i = 0; i < 1000 && !memory_store_fault_struck(room.bucket, head); i++)
        usleep(5000);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert(tree_holds(&room, "p/b", "one"));
}

Test(rename_behind, an_open_file_follows_while_it_is_written)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    tree_put(&room, "p/log", "old lines ", NULL);
    cr_assert_eq(tree_open(&room, "log", O_WRONLY | O_APPEND, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "new", 3, 10), 0);
    cr_assert_eq(tree_rename(&room, "log", "log.1", 0), 0);
    for (int i = 0; i < 1000 && memory_store_has(room.bucket, "p/log"); i++)
        usleep(5000);
    assert_keys(&room, "p/log.1 ");
    cr_assert(tree_holds(&room, "p/log.1", "old lines "), "what is being written is not shown");
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(tree_holds(&room, "p/log.1", "old lines new"));
}

Test(rename_behind, what_it_took_over_from_one_that_was_removed_does_not_follow)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    put_two(&room);
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    for (int i = 0; i < 100 && !room_inode(handle)->remote.exists; i++)
        usleep(2000);
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    usleep(100000);
    cr_assert_not(memory_store_has(room.bucket, "p/c"), "the removed file is shown under a new name");
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    assert_keys(&room, "p/b p/c ");
    cr_assert(tree_holds(&room, "p/c", ""));
}

Test(rename_behind, fsync_waits_until_the_object_has_its_name)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    put_two(&room);
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert(tree_holds(&room, "p/c", "one"));
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(rename_behind, a_mode_set_meanwhile_rides_on_the_copy)
{
    ROOM_SCOPED(room, &behind);
    struct entry entry;
    struct attributes wanted = {.mode = 0640}, now;
    put_two(&room);
    cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "b", "a", 0), 0);
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    inode_unref(entry.inode);
    cr_assert_eq(tree_lookup(&room, "c", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &now),
                 0);
    inode_unref(entry.inode);
    memory_store_log_clear(room.bucket);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/c ");
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/c", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "33184");
    store_object_release(&object);
}

/* ---- Keys that others need. ---- */

Test(rename_behind, a_new_file_under_the_old_name_waits_until_the_old_one_has_gone_on)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY});
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    cr_assert_eq(tree_write(&room, "a", "new"), 0);
    usleep(100000);
    cr_assert(tree_holds(&room, "p/a", "one"), "the only place where the data stand was overwritten");
    cr_assert(reads(&room, "a", "new") && reads(&room, "c", "one"));
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/a p/b p/c ");
    cr_assert(tree_holds(&room, "p/a", "new") && tree_holds(&room, "p/c", "one"));
}

Test(rename_behind, logs_are_rotated_while_the_server_is_away)
{
    ROOM_SCOPED(room, &behind);
    tree_put(&room, "p/log", "1", NULL);
    tree_put(&room, "p/log.1", "2", NULL);
    tree_put(&room, "p/log.2", "3", NULL);
    assert_list(&room, "", true, "log log.1 log.2 ");
    room_stop_server(&room);
    for (int round = 0; round < 3; round++) {
        cr_assert_eq(tree_rename(&room, "log.1", "log.2", 0), 0);
        cr_assert_eq(tree_rename(&room, "log", "log.1", 0), 0);
        cr_assert_eq(tree_write(&room, "log", round == 2 ? "new" : "between"), 0);
    }
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/log p/log.1 p/log.2 ");
    cr_assert(tree_holds(&room, "p/log", "new") && tree_holds(&room, "p/log.1", "between") &&
              tree_holds(&room, "p/log.2", "between"));
}

Test(rename_behind, two_files_change_their_names)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    for (int round = 0; round < 3; round++) {
        cr_assert_eq(tree_rename(&room, "a", "t", 0), 0);
        cr_assert_eq(tree_rename(&room, "b", "a", 0), 0);
        cr_assert_eq(tree_rename(&room, "t", "b", 0), 0);
    }
    assert_drained(&room);
    assert_keys(&room, "p/a p/b ");
    cr_assert(tree_holds(&room, "p/a", "two") && tree_holds(&room, "p/b", "one"));
}

Test(rename_behind, what_is_still_being_sent_makes_no_circle)
{
    ROOM_SCOPED(room, &behind);
    tree_put(&room, "p/a", "one", NULL);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_DELAY, .op = STORE_PUT, .key = "p/c", .delay_ms = 300});
    cr_assert_eq(tree_write(&room, "c", "new"), 0);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/c", 1));
    cr_assert_eq(tree_rename(&room, "c", "t", 0), 0);
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    cr_assert_eq(tree_rename(&room, "t", "a", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/a p/c ");
    cr_assert(tree_holds(&room, "p/a", "new") && tree_holds(&room, "p/c", "one"));
}

Test(rename_behind, there_and_back_sends_nothing)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    room_stop_server(&room);
    struct entry entry;
    cr_assert_eq(tree_lookup(&room, "b", &entry), 0);
    inode_unref(entry.inode);
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    cr_assert_eq(tree_rename(&room, "c", "a", 0), 0);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/a p/b ");
    cr_assert(tree_holds(&room, "p/a", "one"));
}

/* ---- Removed before it followed. ---- */

Test(rename_behind, removed_under_its_new_name_nothing_of_it_stays)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_unlink(&room, "b"), 0);
    assert_list(&room, "", true, "");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "");
}

Test(rename_behind, removed_while_it_follows_it_goes_also_when_its_old_name_was_taken_over)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_COPY});
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    for (int i = 0; i < 1000 && !memory_store_has(room.bucket, "p/c"); i++)
        usleep(5000);
    cr_assert_eq(tree_unlink(&room, "c"), 0);
    cr_assert_eq(tree_write(&room, "a", "new"), 0);
    for (int i = 0; i < 1000 && !tree_holds(&room, "p/a", "new"); i++)
        usleep(5000);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/a p/b ");
    cr_assert(tree_holds(&room, "p/a", "new"));
}

Test(rename_behind, gone_on_from_there_the_one_that_it_replaced_is_gone_too)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_rename(&room, "b", "c", 0), 0);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/c ");
    cr_assert(tree_holds(&room, "p/c", "one"));
}

Test(rename_behind, who_has_the_replaced_one_open_reads_on)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    struct reader reader;
    tree_put(&room, "p/a", "one", NULL);
    tree_put(&room, "p/b", "two", NULL);
    cr_assert_eq(tree_open(&room, "b", O_RDONLY, &handle), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    for (int i = 0; i < 1000 && memory_store_has(room.bucket, "p/a"); i++)
        usleep(5000);
    reader_begin(&reader, &room, handle, 0, 3);
    cr_assert_eq(reader_wait(&reader), 0);
    cr_assert_eq(memcmp(reader.read.pieces[0].iov_base, "two", 3), 0);
    reader_release(&reader);
    cache_release(room.cache, handle);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert(tree_holds(&room, "p/b", "one"));
}

/* ---- Others. ---- */

Test(rename_behind, what_another_client_put_under_the_old_name_stays_and_ours_goes_up_from_here)
{
    ROOM_SCOPED(room, &behind);
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    struct handle *handle; /* so that its bytes are here */
    assert_drained(&room);
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "ONE", 3, 0), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    assert_keys(&room, "p/a p/b ");
    cr_assert(tree_holds(&room, "p/a", "theirs") && tree_holds(&room, "p/b", "ONE"));
}

Test(rename_behind, what_is_nowhere_any_more_is_said_and_holds_up_nobody)
{
    ROOM_SCOPED(room, &behind);
    struct cache_backlog backlog;
    size_t unsent;
    struct entry entry;
    put_two(&room);
    cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
    inode_unref(entry.inode);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 5000, &unsent), -ESTALE);
    cache_backlog(room.cache, &backlog);
    cr_assert_eq(backlog.conflicts, 1);
    assert_keys(&room, "p/a p/b ");
    cr_assert_eq(tree_unlink(&room, "c"), 0);
    assert_drained(&room);
    assert_keys(&room, "p/a p/b ");
    cr_assert(tree_holds(&room, "p/a", "theirs"));
}

/* ---- Killed. ---- */

Test(rename_behind, a_kill_before_it_followed_leaves_one_name)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_list(&room, "", true, "b ");
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert(tree_holds(&room, "p/b", "one"));
    room_reopen(&room);
    assert_list(&room, "", true, "b ");
    struct cache_backlog backlog;
    cache_backlog(room.cache, &backlog);
    cr_assert_eq(backlog.files, 0, "the journal remembers what was done");
}

Test(rename_behind, a_kill_between_the_copy_and_the_delete_leaves_one_name)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE_MANY});
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    cr_assert(memory_store_await(room.bucket, STORE_DELETE, "p/a", 1));
    room_crash(&room);
    assert_keys(&room, "p/a p/b p/c ");
    room_reopen(&room);
    assert_list(&room, "", true, "b c ");
    assert_drained(&room);
    assert_keys(&room, "p/b p/c ");
}

Test(rename_behind, a_copy_that_nobody_answered_to_one_who_was_killed_leaves_nothing_when_it_is_removed)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_COPY});
    cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
    for (int i = 0; i < 1000 && !memory_store_has(room.bucket, "p/c"); i++)
        usleep(5000);
    assert_keys(&room, "p/a p/b p/c ");
    room_crash(&room);
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .times = 1});
    cr_assert_eq(tree_unlink(&room, "c"), 0);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
}

Test(rename_behind, a_kill_after_a_chain_of_them_leaves_each_its_last_name)
{
    ROOM_SCOPED(room, &behind);
    put_two(&room);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "d/a", 0), 0);
    cr_assert_eq(tree_rename(&room, "b", "a", 0), 0);
    cr_assert_eq(tree_write(&room, "b", "new"), 0);
    cr_assert_eq(tree_rename(&room, "d/a", "e", 0), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    assert_keys(&room, "p/a p/b p/d/ p/e ");
    cr_assert(tree_holds(&room, "p/a", "two") && tree_holds(&room, "p/b", "new") &&
              tree_holds(&room, "p/e", "one"));
}

/* ---- Whatever fails. ---- */

static void run_scenario(struct room *room, uint64_t n)
{
    put_two(room);
    int rung = n ? memory_store_fail_nth(room->bucket, n, -EIO) : 0;
    (void)rung;
    if (tree_rename(room, "a", "c", 0) < 0) /* the look for what is there failed */
        cr_assert_eq(tree_rename(room, "a", "c", 0), 0);
    if (tree_write(room, "a", "new") < 0)
        cr_assert_eq(tree_write(room, "a", "new"), 0);
    if (tree_rename(room, "c", "b", 0) < 0)
        cr_assert_eq(tree_rename(room, "c", "b", 0), 0);
    assert_drained(room);
    assert_keys(room, "p/a p/b ");
    cr_assert(tree_holds(room, "p/a", "new") && tree_holds(room, "p/b", "one"), "call %lu failed", n);
}

Test(rename_behind, whatever_call_fails_all_stand_where_they_were_sent)
{
    for (uint64_t n = 1; n < 12; n++) {
        ROOM_SCOPED(room, &behind);
        run_scenario(&room, n);
    }
}

Test(rename_behind, a_large_object_follows_by_parts)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .copy_bytes_max = 20 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, MIB, 1), 0);
    cr_assert_eq(room_write(&room, handle, 21 * MIB, MIB, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    memory_store_log_clear(room.bucket);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, NULL), 5);
    cr_assert(room_object_holds(&room, "p/b", 0, MIB, 1) &&
              room_object_holds(&room, "p/b", 21 * MIB, 22 * MIB, 2));
}
