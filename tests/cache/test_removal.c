/* Names removed in write-back: at once here, their objects behind. (durability=sync: test_change.c.) */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "tests/support/tree.h"

#define WRITEBACK (&(struct room_config){.durability = DURABILITY_WRITEBACK})

static void check_all_forgotten(struct room *room)
{
    struct cache_backlog backlog;
    cache_backlog(room->cache, &backlog);
    cr_assert_eq(backlog.files, 0);
    memory_store_log_clear(room->bucket);
    room_reopen(room);
    cache_backlog(room->cache, &backlog);
    cr_assert_eq(backlog.files, 0, "the journal remembers what is done");
}

/* A file that is closed and sent. */
static void make(struct room *room, const char *path, const char *text)
{
    cr_assert_eq(tree_write(room, path, text), 0);
    assert_drained(room);
}

static void hear_unsent(void *context, const struct cache_unsent *unsent)
{
    snprintf(context, 200, "%s: %s", unsent->path, unsent->why);
}

Test(removal, the_name_goes_at_once_and_the_object_behind)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct entry entry;
    struct cache_backlog backlog;
    char told[200] = "";
    make(&room, "a", "one");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert(memory_store_has(room.bucket, "p/a"));
    cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
    assert_list(&room, "", false, "");
    cr_assert_eq(tree_unlink(&room, "a"), -ENOENT);
    cache_backlog(room.cache, &backlog);
    cr_assert_eq(backlog.files, 1);
    cache_unsent(room.cache, hear_unsent, told);
    cr_assert_str_eq(told, "a: to be deleted");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    assert_drained(&room);
    assert_keys(&room, "");
    check_all_forgotten(&room);
}

Test(removal, it_stays_hidden_from_fresh_looks_at_the_server)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    ROOM_SCOPED(room, WRITEBACK);
    struct entry entry;
    make(&room, "a", "one");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE});
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    while (memory_store_logged(room.bucket, STORE_DELETE, "p/a") == 0)
        usleep(1000);
    memory_store_settle(room.bucket);
    for (int i = 0; i < 2; i++) {
        clock_fake_advance(500);
        cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
        assert_list(&room, "", false, "");
        clock_fake_advance(600);
    }
    memory_store_faults_end(room.bucket);
    clock_fake_end();
}

Test(removal, a_file_that_was_never_sent_costs_no_request)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    assert_list(&room, "", false, "");
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    memory_store_log_clear(room.bucket);
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cache_release(room.cache, handle);
    assert_drained(&room);
    cr_assert_eq(memory_store_log_count(room.bucket), 0);
    check_all_forgotten(&room);
}

static bool is_being_put(void *context)
{
    struct room *room = context;
    return memory_store_logged(room->bucket, STORE_PUT, "p/a") > 0;
}

static void remove_it(void *context, uint64_t offset)
{
    struct room *room = context;
    (void)offset;
    room->disk.before_read = NULL;
    cr_assert_eq(tree_unlink(room, "a"), 0);
}

/* What it tries would stand in the journal behind its end, which may be on the disk without it: nobody would delete the object. */
Test(removal, a_file_that_goes_while_it_is_read_to_be_sent_is_not_sent)
{
    ROOM_SCOPED(room, WRITEBACK);
    room.disk.context = &room;
    room.disk.before_read = remove_it;
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    assert_drained(&room);
    cr_assert_null(room.disk.before_read, "it was never read");
    BUF_SCOPED sent = BUF_INIT;
    memory_store_log_print(room.bucket, &sent);
    cr_assert_null(strstr(sent.bytes, "PUT p/a"), "%s", sent.bytes);
    check_all_forgotten(&room);
}

Test(removal, an_upload_in_flight_is_not_waited_for_and_leaves_nothing)
{
    ROOM_SCOPED(room, WRITEBACK);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    cr_assert(room_await(is_being_put, &room));
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    assert_drained(&room);
    assert_keys(&room, "");
    check_all_forgotten(&room);
}

Test(removal, the_next_file_of_the_name_is_not_overtaken_by_the_last_ones_upload)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct entry entry;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT, .times = 1});
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    cr_assert(room_await(is_being_put, &room));
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(tree_write(&room, "a", "second"), 0);
    usleep(50000);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 1, "it waits for the key");
    memory_store_unhang(room.bucket, 0, NULL);
    assert_drained(&room);
    cr_assert(tree_holds(&room, "p/a", "second"));
    cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
    cr_assert_eq(entry.attributes.size, 6);
    inode_unref(entry.inode);
    check_all_forgotten(&room);
}

static void *rename_b_to_a(void *argument)
{
    struct room *room = argument;
    WAITER_SCOPED(waiter);
    return (void *)(intptr_t)cache_rename(room->cache, &waiter, room->root, "b", room->root, "a", 0);
}

Test(removal, nor_is_a_file_that_is_renamed_to_the_name)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct entry entry;
    pthread_t thread;
    void *rc;
    make(&room, "b", "second");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT, .key = "p/a"});
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    cr_assert(room_await(is_being_put, &room));
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    pthread_create(&thread, NULL, rename_b_to_a, &room);
    usleep(50000);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, "p/a"), 0, "it waits for the key");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(thread, &rc);
    cr_assert_eq((int)(intptr_t)rc, 0);
    assert_drained(&room);
    cr_assert(tree_holds(&room, "p/a", "second"));
    assert_keys(&room, "p/a ");
    room_reopen(&room);
    cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
    inode_unref(entry.inode);
}

static void *rename_d_to_a(void *argument)
{
    struct room *room = argument;
    WAITER_SCOPED(waiter);
    return (void *)(intptr_t)cache_rename(room->cache, &waiter, room->root, "d", room->root, "a", 0);
}

/* Servers that keep objects in directories have no "a" beside "a/x": the one hides the other. */
Test(removal, a_directory_comes_under_the_name_when_the_object_is_gone)
{
    ROOM_SCOPED(room, WRITEBACK);
    pthread_t thread;
    void *rc;
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    make(&room, "d/x", "below");
    make(&room, "a", "one");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE, .key = "p/a"});
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    while (memory_store_logged(room.bucket, STORE_DELETE, "p/a") == 0)
        usleep(1000);
    pthread_create(&thread, NULL, rename_d_to_a, &room);
    usleep(50000);
    cr_assert_not(memory_store_has(room.bucket, "p/a/x"));
    memory_store_faults_end(room.bucket);
    pthread_join(thread, &rc);
    cr_assert_eq((int)(intptr_t)rc, 0);
    assert_drained(&room);
    assert_keys(&room, "p/a/ p/a/x ");
}

Test(removal, a_delete_survives_the_process)
{
    ROOM_SCOPED(room, WRITEBACK);
    make(&room, "a", "one");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE});
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    assert_keys(&room, "");
    check_all_forgotten(&room);
}

Test(removal, an_object_whose_put_nobody_confirmed_goes_also_after_a_crash)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct entry entry;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_PUT});
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    for (int i = 0; i < 2000 && !memory_store_has(room.bucket, "p/a"); i++)
        usleep(5000);
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    assert_keys(&room, "");
    check_all_forgotten(&room);
}

Test(removal, another_clients_version_stays)
{
    for (int honoured = 0; honoured < 2; honoured++) {
        struct room_config config = {.durability = DURABILITY_WRITEBACK,
                                     .bucket = {.ignore_delete_conditions = !honoured}};
        ROOM_SCOPED(room, &config);
        struct attributes attributes;
        make(&room, "a", "ours");
        memory_store_put_text(room.bucket, "p/a", "of another host");
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        assert_drained(&room);
        cr_assert(tree_holds(&room, "p/a", "of another host"));
        cr_assert_eq(tree_stat(&room, "a", &attributes), 0, "it is shown again");
        check_all_forgotten(&room);
    }
}

Test(removal, many_go_by_batches_and_only_as_they_were)
{
    for (int honoured = 0; honoured < 2; honoured++) {
        struct room_config config = {.durability = DURABILITY_WRITEBACK,
                                     .bucket = {.ignore_delete_conditions = !honoured, .page_max = 30}};
        ROOM_SCOPED(room, &config);
        char path[40];
        for (int i = 0; i < 100; i++) {
            snprintf(path, sizeof path, "d%d/f%03d", i % 2, i);
            memory_store_put_text(room.bucket, (snprintf(path, sizeof path, "p/d%d/f%03d", i % 2, i), path),
                                  "x");
        }
        memory_store_put_text(room.bucket, "p/d0/stays", "x");
        memory_store_put_text(room.bucket, "p/d1/stays", "x");
        for (int i = 0; i < 2; i++) {
            BUF_SCOPED list = BUF_INIT;
            cr_assert_eq(tree_list(&room, i ? "d1" : "d0", false, &list), 0);
        }
        /* The first delete hangs until all the others wait. */
        make(&room, "first", "x");
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE, .times = 1});
        cr_assert_eq(tree_unlink(&room, "first"), 0);
        for (int i = 0; i < 100; i++) {
            snprintf(path, sizeof path, "d%d/f%03d", i % 2, i);
            cr_assert_eq(tree_unlink(&room, path), 0);
        }
        memory_store_put_text(room.bucket, "p/d0/f050", "of another host");
        memory_store_log_clear(room.bucket);
        memory_store_unhang(room.bucket, 0, NULL);
        assert_drained(&room);
        cr_assert(tree_holds(&room, "p/d0/f050", "of another host"));
        assert_keys(&room, "p/d0/f050 p/d0/stays p/d1/stays ");
        cr_assert_leq(memory_store_logged(room.bucket, STORE_DELETE, NULL), 20);
        cr_assert_geq(memory_store_logged(room.bucket, STORE_DELETE_MANY, NULL), 2);
        check_all_forgotten(&room);
    }
}

Test(removal, a_name_made_again_before_the_delete_keeps_its_new_file)
{
    ROOM_SCOPED(room, WRITEBACK);
    make(&room, "a", "one");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE, .times = 1});
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(tree_write(&room, "a", "second"), 0);
    assert_drained(&room);
    cr_assert(tree_holds(&room, "p/a", "second"));
    check_all_forgotten(&room);
    cr_assert(tree_holds(&room, "p/a", "second"));
}

Test(removal, a_name_made_again_while_the_delete_is_under_way_goes_up_after_it)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK,
                                             .bucket = {.ignore_delete_conditions = true}}));
    make(&room, "a", "one");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE, .times = 1});
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    for (int i = 0; i < 2000 && !memory_store_waiting(room.bucket, STORE_DELETE, NULL); i++)
        usleep(1000);
    memory_store_log_clear(room.bucket);
    cr_assert_eq(tree_write(&room, "a", "second"), 0, "nobody waits for the delete");
    usleep(50000);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 0);
    memory_store_unhang(room.bucket, 0, NULL);
    assert_drained(&room);
    cr_assert(tree_holds(&room, "p/a", "second"));
}

Test(removal, what_is_open_is_read_on_and_goes_after_the_last_close)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    struct cache_backlog backlog;
    make(&room, "a", "one");
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cache_backlog(room.cache, &backlog);
    cr_assert_eq(backlog.files, 0);
    usleep(20000);
    cr_assert(memory_store_has(room.bucket, "p/a"));
    cache_release(room.cache, handle);
    assert_drained(&room);
    assert_keys(&room, "");
}

Test(removal, the_last_child_leaves_a_marker_behind)
{
    ROOM_SCOPED(room, WRITEBACK);
    memory_store_put_text(room.bucket, "p/d/x", "x");
    memory_store_put_text(room.bucket, "p/d/y", "y");
    cr_assert_eq(tree_unlink(&room, "d/x"), 0);
    cr_assert_eq(tree_unlink(&room, "d/y"), 0);
    assert_drained(&room);
    assert_keys(&room, "p/d/ ");
}

static void *list_root(void *context)
{
    struct room *room = context;
    BUF_SCOPED list = BUF_INIT;
    int rc = tree_list(room, "", false, &list);
    return rc == 0 && strcmp(list.bytes, "") == 0 ? room : NULL;
}

Test(removal, an_old_listing_brings_nothing_back_that_an_upload_of_the_removed_file_replaced)
{
    struct room_config config = *WRITEBACK;
    config.attr_ttl_ms = 1;
    ROOM_SCOPED(room, &config);
    pthread_t thread;
    void *empty;
    make(&room, "a", "one");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
    cr_assert_eq(tree_write(&room, "a", "second"), 0);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/a", 1));
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST});
    usleep(5000);
    cr_assert_eq(pthread_create(&thread, NULL, list_root, &room), 0);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, NULL, 1));
    usleep(20000);
    memory_store_unhang(room.bucket, STORE_PUT, NULL);
    cr_assert(memory_store_await(room.bucket, STORE_DELETE, "p/a", 1));
    memory_store_unhang(room.bucket, STORE_LIST, NULL);
    pthread_join(thread, &empty);
    cr_assert(empty, "the old version is a file again");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    assert_drained(&room);
    assert_keys(&room, "");
}

Test(removal, rmdir_comes_after_what_was_removed_below)
{
    ROOM_SCOPED(room, WRITEBACK);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    make(&room, "d/a", "one");
    cr_assert_eq(tree_unlink(&room, "d/a"), 0);
    cr_assert_eq(tree_rmdir(&room, "d"), 0);
    assert_drained(&room);
    assert_keys(&room, "");
}

Test(removal, without_a_waiter_it_is_answered_where_nothing_has_to_be_waited_for)
{
    for (int commit_ms = 0; commit_ms <= 100; commit_ms += 100) {
        struct room_config config = {.durability = DURABILITY_WRITEBACK, .commit_ms = commit_ms};
        ROOM_SCOPED(room, &config);
        struct entry entry;
        make(&room, "a", "one");
        cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
        inode_unref(entry.inode);
        cr_assert_eq(cache_unlink(room.cache, NULL, room.root, "a"), commit_ms ? 0 : -EAGAIN);
        cr_assert_eq(tree_unlink(&room, "a"), commit_ms ? -ENOENT : 0);
        assert_drained(&room);
        assert_keys(&room, "");
    }
}

Test(removal, with_commit_0_names_wait_for_the_disk)
{
    struct maker maker = {.process = ROOM_PROCESS};
    for (int which = 0; which < 3; which++) {
        ROOM_SCOPED(room, WRITEBACK);
        struct entry entry;
        struct handle *handle, *none;
        make(&room, "sent", "one");
        cr_assert_eq(cache_create(room.cache, NULL, room.root, "a", O_RDWR, &maker, &entry, &none), -EAGAIN);
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(journal_flush(room.cache->journal, &room.waiter), 0);
        atomic_store(&room.disk.flush_rc, -EIO);
        int rc = which == 0   ? tree_unlink(&room, "sent")
                 : which == 1 ? tree_rename(&room, "a", "b", 0)
                              : room_create(&room, "b", &none);
        cr_expect_eq(rc, -EIO, "%d: %d", which, rc);
        cr_expect_eq(tree_lookup(&room, "b", &entry), which ? 0 : -ENOENT, "it has happened");
        inode_unref(entry.inode);
        cache_release(room.cache, handle);
    }
}

/* Whatever call fails, once: what was removed goes, and nothing else. */
Test(removal, whatever_call_fails)
{
    for (uint64_t n = 1;; n++) {
        ROOM_SCOPED(room, WRITEBACK);
        memory_store_put_text(room.bucket, "p/d/x", "x");
        memory_store_put_text(room.bucket, "p/d/y", "y");
        struct entry entry;
        cr_assert_eq(tree_lookup(&room, "d/x", &entry), 0);
        inode_unref(entry.inode);
        cr_assert_eq(tree_lookup(&room, "d/y", &entry), 0);
        inode_unref(entry.inode);
        int rung = memory_store_fail_nth(room.bucket, n, -EIO);
        cr_assert_eq(tree_unlink(&room, "d/x"), 0);
        cr_assert_eq(tree_unlink(&room, "d/y"), 0);
        assert_drained(&room);
        assert_keys(&room, "p/d/ ");
        if (!memory_store_fault_struck(room.bucket, rung))
            break;
    }
}

/* The first try of an upload, given up and repeated: it arrives all the same, later, and only its time tells it from the second. The
 * time of that is known from a look; no other look comes before the change. */
static void arrive_again(struct room *room, const char *name, const char *key)
{
    struct attributes attributes;
    struct store_object object = {0};
    BUF_SCOPED bytes = BUF_INIT;
    clock_fake_advance(100001);
    cr_assert_eq(tree_stat(room, name, &attributes), 0);
    cr_assert(memory_store_peek(room->bucket, key, &object, &bytes));
    clock_fake_advance(2000);
    memory_store_put(room->bucket, key, bytes.bytes, bytes.length, &object.meta, NULL);
    store_object_release(&object);
}

static const struct room_config lax = {
    .bucket = {.ignore_delete_conditions = true, .ignore_conditions = true},
    .attr_ttl_ms = 100000,
    .durability = DURABILITY_WRITEBACK};

Test(removal, our_own_object_that_arrived_once_more_is_no_other_clients)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    {
        ROOM_SCOPED(room, &lax);
        cr_assert_eq(tree_write(&room, "a", "text"), 0);
        assert_drained(&room);
        arrive_again(&room, "a", "p/a");
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        assert_drained(&room);
        cr_assert_not(memory_store_has(room.bucket, "p/a"), "an unlinked file came back");
    }
    clock_fake_end();
}

Test(removal, a_patch_of_our_own_object_that_arrived_once_more_is_no_conflict)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    {
        ROOM_SCOPED(room, &lax);
        struct handle *handle;
        cr_assert_eq(tree_write(&room, "a", "0123456789"), 0);
        assert_drained(&room);
        arrive_again(&room, "a", "p/a");
        cr_assert_eq(tree_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 4), 0);
        cr_assert_eq(room_fsync(&room, handle), 0);
        cr_assert(tree_holds(&room, "p/a", "0123XY6789"));
        cr_assert_eq(room_close(&room, handle), 0);
        assert_keys(&room, "p/a ");
    }
    clock_fake_end();
}
