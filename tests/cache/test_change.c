#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/tree.h"

Test(change, mkdir_writes_a_marker_with_its_attributes)
{
    ROOM_SCOPED(room, NULL);
    struct store_object object;
    cr_assert_eq(tree_mkdir(&room, "a"), 0);
    assert_keys(&room, "p/a/ ");
    cr_assert(memory_store_peek(room.bucket, "p/a/", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "16877");
    cr_assert_not_null(store_fields_get(&object.meta, "mtime"));
    store_object_release(&object);
    cr_assert_eq(tree_mkdir(&room, "a"), -EEXIST);
    cr_assert_eq(tree_mkdir(&room, "a/b"), 0);
    assert_list(&room, "", false, "a/ ");
    assert_list(&room, "a", false, "b/ ");
}

/* Made, and as the bucket has them. */
Test(change, what_is_made_in_a_setgid_directory_is_its_groups)
{
    for (int durability = DURABILITY_SYNC; durability <= DURABILITY_WRITEBACK; durability++) {
        ROOM_SCOPED(room, &((struct room_config){.durability = (enum durability)durability}));
        struct attributes wanted = {.mode = 02775, .gid = 7}, now;
        struct maker maker = {.uid = 5, .gid = 6, .mode = 02755, .process = ROOM_PROCESS};
        struct entry shared, entry;
        struct handle *handle;
        cr_assert_eq(tree_mkdir(&room, "d"), 0);
        cr_assert_eq(tree_lookup(&room, "d", &shared), 0);
        cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, shared.inode, NULL, SET_MODE | SET_GID,
                                          &wanted, &now),
                     0);
        cr_assert_eq(cache_create(room.cache, &room.waiter, shared.inode, "f", O_EXCL | O_WRONLY, &maker,
                                  &entry, &handle),
                     0);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert_eq(entry.attributes.gid, 7);
        cr_assert_eq(entry.attributes.mode, S_IFREG | 0755, "he is not of that group");
        inode_unref(entry.inode);
        maker.mode = 0750;
        cr_assert_eq(cache_mkdir(room.cache, &room.waiter, shared.inode, "e", &maker, &entry), 0);
        cr_assert_eq(entry.attributes.gid, 7);
        cr_assert_eq(entry.attributes.mode, S_IFDIR | 02750);
        inode_unref(entry.inode);
        cr_assert_eq(cache_symlink(room.cache, &room.waiter, shared.inode, "l", "f", &maker, &entry), 0);
        cr_assert_eq(entry.attributes.gid, 7);
        inode_unref(entry.inode);
        inode_unref(shared.inode);
        size_t unsent;
        cr_assert_eq(cache_drain(room.cache, &room.waiter, CLOCK_NEVER, &unsent), 0);
        static const char *const keys[] = {"p/d/f", "p/d/e/", "p/d/l"};
        for (size_t i = 0; i < 3; i++) {
            struct store_object object;
            cr_assert(memory_store_peek(room.bucket, keys[i], &object, NULL));
            cr_expect_str_eq(store_fields_get(&object.meta, "gid"), "7", "%s", keys[i]);
            cr_expect_str_eq(store_fields_get(&object.meta, "uid"), "5", "%s", keys[i]);
            store_object_release(&object);
        }
    }
}

Test(change, mkdir_over_an_implied_directory_or_a_file_is_EEXIST)
{
    ROOM_SCOPED(room, NULL);
    memory_store_put_text(room.bucket, "p/a/x", "x");
    memory_store_put_text(room.bucket, "p/f", "x");
    cr_assert_eq(tree_mkdir(&room, "a"), -EEXIST);
    cr_assert_eq(tree_mkdir(&room, "f"), -EEXIST);
}

Test(change, unlink_has_deleted_the_object_when_it_returns)
{
    ROOM_SCOPED(room, NULL);
    struct entry entry;
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    assert_keys(&room, "p/a ");
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    assert_keys(&room, "");
    cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
    cr_assert_eq(tree_unlink(&room, "a"), -ENOENT);
}

Test(change, a_failed_delete_is_reported_and_the_name_stays)
{
    ROOM_SCOPED(room, NULL);
    struct attributes attributes;
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE, .times = 1, .rc = -EACCES});
    cr_assert_eq(tree_unlink(&room, "a"), -EACCES);
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert(tree_holds(&room, "p/a", "one"));
    cr_assert_eq(tree_unlink(&room, "a"), 0);
}

Test(change, an_unlinked_open_file_loses_its_name_at_once_and_its_object_at_the_last_close)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct entry entry;
    struct attributes attributes;
    int64_t valid_ms;
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_write(&room, "d/a", "one"), 0);
    cr_assert_eq(tree_open(&room, "d/a", O_RDONLY, &handle), 0);
    cr_assert_eq(tree_unlink(&room, "d/a"), 0);
    cr_assert(memory_store_has(room.bucket, "p/d/a"));
    cr_assert_eq(tree_lookup(&room, "d/a", &entry), -ENOENT);
    assert_list(&room, "d", false, "");
    cr_assert_eq(cache_attributes(room.cache, &room.waiter, room_inode(handle), &attributes, &valid_ms), 0);
    cr_assert_eq(attributes.nlink, 0);
    cr_assert_eq(tree_rmdir(&room, "d"), 0, "objects of unlinked files are no content");
    cr_assert_eq(tree_lookup(&room, "d", &entry), -ENOENT);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    assert_keys(&room, "");
}

Test(change, a_new_file_under_the_name_of_an_unlinked_open_one_survives_the_last_close)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes attributes;
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    cr_assert_eq(tree_open(&room, "a", O_RDONLY, &handle), 0);
    uint64_t old = room_inode(handle)->number;
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(tree_write(&room, "a", "two"), 0);
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_neq(attributes.number, old, "two live files have two numbers");
    cache_release(room.cache, handle);
    room_close_cache(&room);
    cr_assert(tree_holds(&room, "p/a", "two"));
}

static bool nothing_is_doomed(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    return list_empty(&room->cache->names.doomed);
}

/* Also of the same bytes, which no ETag tells apart. */
Test(change, a_new_file_under_the_name_of_an_unlinked_open_one_is_seen_and_stays)
{
    static const char *const rows[] = {"two", "one"};
    for (int i = 0; i < 2; i++) {
        clock_fake_begin(INT64_C(1700000000000000000));
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct attributes attributes;
        cr_assert_eq(tree_write(&room, "a", "one"), 0);
        cr_assert_eq(tree_open(&room, "a", O_RDONLY, &handle), 0);
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        cr_assert_eq(tree_write(&room, "a", rows[i]), 0);
        clock_fake_advance(1001);
        cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
        assert_list(&room, "", false, "a ");
        cache_release(room.cache, handle);
        room_close_cache(&room);
        cr_assert(tree_holds(&room, "p/a", rows[i]));
        clock_fake_end();
    }
}

Test(change, an_object_that_could_not_be_deleted_at_the_last_close_hides_no_later_one)
{
    static int (*const make[])(struct room *, const char *, const char *) = {tree_write, tree_symlink};
    for (int i = 0; i < 3; i++) {
        clock_fake_begin(INT64_C(1700000000000000000));
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct attributes attributes;
        cr_assert_eq(tree_write(&room, "a", "text"), 0);
        cr_assert_eq(tree_write(&room, "b", "text"), 0);
        cr_assert_eq(tree_open(&room, "a", O_RDONLY, &handle), 0);
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE});
        cache_release(room.cache, handle);
        while (!memory_store_fault_struck(room.bucket, fault))
            sched_yield();
        memory_store_fault_end(room.bucket, fault);
        memory_store_settle(room.bucket);
        cr_assert_eq(i < 2 ? make[i](&room, "a", "text") : tree_rename(&room, "b", "a", 0), 0);
        clock_fake_advance(1001);
        cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
        clock_fake_end();
    }
}

Test(change, the_last_close_deletes_the_unlinked_version_only)
{
    for (int honoured = 0; honoured < 2; honoured++) {
        struct room_config config = {.bucket = {.ignore_delete_conditions = !honoured}};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        struct attributes attributes;
        cr_assert_eq(tree_write(&room, "a", "ours"), 0);
        cr_assert_eq(tree_open(&room, "a", O_RDONLY, &handle), 0);
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        memory_store_put_text(room.bucket, "p/a", "of another host");
        cache_release(room.cache, handle);
        cr_assert(room_await(nothing_is_doomed, &room));
        cr_assert(tree_holds(&room, "p/a", "of another host"));
        clock_fake_begin(clock_wall_ns());
        clock_fake_advance(1001);
        cr_assert_eq(tree_stat(&room, "a", &attributes), 0, "it is shown again");
        clock_fake_end();
    }
}

Test(change, a_new_file_that_goes_before_it_was_sent_takes_the_unlinked_one_along)
{
    ROOM_SCOPED(room, NULL);
    struct handle *old, *fresh;
    cr_assert_eq(tree_write(&room, "a", "one"), 0);
    cr_assert_eq(tree_open(&room, "a", O_RDONLY, &old), 0);
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(room_create(&room, "a", &fresh), 0);
    cache_release(room.cache, old);
    cr_assert(room_await(nothing_is_doomed, &room));
    cr_assert(memory_store_has(room.bucket, "p/a"), "the name is in use");
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cache_release(room.cache, fresh);
    room_close_cache(&room);
    assert_keys(&room, "");
}

/* Its PUT happened, but neither the reply nor the HEAD behind it said so. */
static void write_in_doubt(struct room *room, const char *name, struct handle **ret_handle)
{
    cr_assert_eq(room_create(room, name, ret_handle), 0);
    cr_assert_eq(cache_write(room->cache, &room->waiter, *ret_handle, "text", 4, 0), 0);
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .times = 1});
    int fault = memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD});
    cr_assert_eq(room_flush(room, *ret_handle), -EIO);
    memory_store_fault_end(room->bucket, fault);
}

Test(change, unlink_takes_an_object_along_whose_put_nobody_confirmed)
{
    for (int open = 0; open < 2; open++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        write_in_doubt(&room, "a", &handle);
        assert_keys(&room, "p/a ");
        if (!open)
            cache_release(room.cache, handle);
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        if (open)
            cache_release(room.cache, handle);
        room_close_cache(&room);
        assert_keys(&room, "");
    }
}

Test(change, unlink_fails_while_nobody_can_tell_what_stands_there)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes attributes;
    write_in_doubt(&room, "a", &handle);
    int fault =
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .rc = -EACCES});
    cr_assert_eq(tree_unlink(&room, "a"), -EACCES);
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    memory_store_fault_end(room.bucket, fault);
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    assert_keys(&room, "");
}

Test(change, a_file_with_a_conflict_can_be_removed_and_the_foreign_object_stays)
{
    for (int open = 0; open < 2; open++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct attributes attributes;
        size_t unsent;
        memory_store_put_text(room.bucket, "p/a", "0123456789");
        cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
        cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "ab", 2, 3), 0);
        memory_store_put_text(room.bucket, "p/a", "foreign");
        cr_assert_eq(room_flush(&room, handle), -ESTALE);
        if (!open)
            cache_release(room.cache, handle);
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
        cr_assert_eq(attributes.size, 7);
        cr_assert(tree_holds(&room, "p/a", "foreign"));
        if (open)
            cache_release(room.cache, handle);
        cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 5000, &unsent), 0);
        cr_assert_eq(unsent, 0);
    }
}

Test(change, a_file_whose_conflict_nobody_met_yet_can_be_removed)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "0123456789", 10, 0), 0);
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT});
    cr_assert_eq(room_close(&room, handle), -EIO);
    memory_store_fault_end(room.bucket, fault);
    memory_store_put_text(room.bucket, "p/a", "foreign");
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert(tree_holds(&room, "p/a", "foreign"));
}

Test(change, the_last_child_leaves_a_marker_behind)
{
    ROOM_SCOPED(room, NULL);
    memory_store_put_text(room.bucket, "p/a/x", "x");
    memory_store_put_text(room.bucket, "p/a/y", "y");
    assert_list(&room, "a", false, "x? y? ");
    cr_assert_eq(tree_unlink(&room, "a/x"), 0);
    cr_assert_eq(tree_unlink(&room, "a/y"), 0);
    assert_keys(&room, "p/a/ ");
    cr_assert_eq(tree_rmdir(&room, "a"), 0);
    assert_keys(&room, "");
}

Test(change, rmdir_of_a_directory_with_children_or_hidden_keys_is_ENOTEMPTY_and_deletes_nothing)
{
    ROOM_SCOPED(room, NULL);
    cr_assert_eq(tree_mkdir(&room, "a"), 0);
    memory_store_put_text(room.bucket, "p/a/x", "x");
    memory_store_put_text(room.bucket, "p/b/", "");
    memory_store_put_text(room.bucket, "p/b//hidden", "x");
    cr_assert_eq(tree_rmdir(&room, "a"), -ENOTEMPTY);
    assert_list(&room, "b", false, "");
    cr_assert_eq(tree_rmdir(&room, "b"), -ENOTEMPTY);
    assert_keys(&room, "p/a/ p/a/x p/b/ p/b//hidden ");
    cr_assert_gt(room.cache->names.hidden, 0);
}

Test(change, who_reads_below_a_removed_directory_has_nothing_unsent)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes wanted = {.mode = 0600}, got;
    size_t unsent = 1;
    memory_store_put_text(room.bucket, "p/d/x", "x");
    cr_assert_eq(tree_open(&room, "d/x", O_RDONLY, &handle), 0);
    memory_store_remove(room.bucket, "p/d/x"); /* by another client */
    memory_store_put_text(room.bucket, "p/d/", "");
    cr_assert_eq(tree_rmdir(&room, "d"), 0);
    cr_assert_eq(
        cache_set_attributes(room.cache, &room.waiter, room_inode(handle), handle, SET_MODE, &wanted, &got),
        0);
    cr_assert_eq(got.nlink, 0);
    cache_release(room.cache, handle);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 5000, &unsent), 0);
    cr_assert_eq(unsent, 0);
}

Test(change, rmdir_sees_a_file_that_nobody_has_sent_yet)
{
    ROOM_SCOPED(room, NULL);
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct handle *handle;
    struct entry directory, entry;
    cr_assert_eq(tree_mkdir(&room, "a"), 0);
    cr_assert_eq(tree_lookup(&room, "a", &directory), 0);
    cr_assert_eq(
        cache_create(room.cache, &room.waiter, directory.inode, "new", O_WRONLY, &maker, &entry, &handle), 0);
    cr_assert_eq(tree_rmdir(&room, "a"), -ENOTEMPTY);
    cr_assert_eq(room_close(&room, handle), 0);
    inode_unref(entry.inode);
    inode_unref(directory.inode);
    cr_assert(memory_store_has(room.bucket, "p/a/new"));
}

Test(change, exclusive_create_asks_the_server_of_this_moment)
{
    ROOM_SCOPED(room, NULL);
    struct maker maker = {.mode = 0600, .process = ROOM_PROCESS};
    struct handle *handle;
    struct entry entry;
    cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
    memory_store_put_text(room.bucket, "p/a", "foreign");
    cr_assert_eq(
        cache_create(room.cache, &room.waiter, room.root, "a", O_RDWR | O_EXCL, &maker, &entry, &handle),
        -EEXIST);
    cr_assert_null(entry.inode);
    cr_assert_eq(
        cache_create(room.cache, &room.waiter, room.root, "b", O_RDWR | O_EXCL, &maker, &entry, &handle), 0);
    cr_assert_eq(entry.attributes.mode, S_IFREG | 0600);
    inode_unref(entry.inode);
    cr_assert_eq(room_close(&room, handle), 0);
}

static int create_exclusive(struct room *room, const char *name, struct handle **ret_handle)
{
    struct maker maker = {.mode = 0600, .uid = 7, .process = ROOM_PROCESS};
    struct entry entry;
    int rc = cache_create(room->cache, &room->waiter, room->root, name, O_RDWR | O_EXCL, &maker, &entry,
                          ret_handle);
    inode_unref(entry.inode);
    return rc;
}

static void put_foreign(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)context;
    memory_store_put_text(memory, call->key, "foreign");
}

Test(change, an_exclusive_create_is_in_the_bucket_and_its_bytes_go_up_over_it_alone)
{
    for (int honoured = 0; honoured < 2; honoured++) {
        struct room_config config = {.bucket = {.ignore_conditions = !honoured, .unprobed = true}};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        struct store_object object;
        cr_assert_eq(create_exclusive(&room, "a", &handle), 0);
        cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
        cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "33152");
        cr_assert_str_eq(store_fields_get(&object.meta, "uid"), "7");
        store_object_release(&object);
        cr_assert_eq(memory_store_log(room.bucket, memory_store_log_count(room.bucket) - 1)->if_absent,
                     honoured);
        cr_assert_eq(room_flush(&room, handle), 0, "nothing is unsent");
        cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 1);
        cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "ours", 4, 0), 0);
        cr_assert_eq(room_flush(&room, handle), 0);
        cr_assert(tree_holds(&room, "p/a", "ours"));
        cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "more", 4, 0), 0);
        memory_store_put_text(room.bucket, "p/a", "foreign");
        cr_assert_eq(room_close(&room, handle), -ESTALE);
        cr_assert(tree_holds(&room, "p/a", "foreign"));
    }
}

Test(change, of_two_exclusive_creates_the_second_one_fails_and_overwrites_nothing)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes attributes;
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_MEANWHILE, .op = STORE_PUT, .times = 1, .meanwhile = put_foreign});
    cr_assert_eq(create_exclusive(&room, "a", &handle), -EEXIST);
    cr_assert(tree_holds(&room, "p/a", "foreign"));
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 7);
}

/* The reply was lost, or told the second attempt that the first one's object exists. */
Test(change, an_exclusive_create_in_doubt_is_settled_by_its_id)
{
    static const int rows[] = {-EIO, -EEXIST};
    for (int i = 0; i < 2; i++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        memory_store_fault(
            room.bucket,
            &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .times = 1, .rc = rows[i]});
        cr_assert_eq(create_exclusive(&room, "a", &handle), 0);
        cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "ours", 4, 0), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert(tree_holds(&room, "p/a", "ours"));
    }
}

Test(change, a_symlink_overwrites_nothing_that_came_meanwhile)
{
    for (int honoured = 0; honoured < 2; honoured++) {
        struct room_config config = {.bucket = {.ignore_conditions = !honoured}};
        ROOM_SCOPED(room, &config);
        struct attributes attributes;
        cr_assert_eq(tree_stat(&room, "l", &attributes), -ENOENT);
        memory_store_put_text(room.bucket, "p/l", "precious");
        cr_assert_eq(tree_symlink(&room, "l", "target"), -EEXIST);
        cr_assert(tree_holds(&room, "p/l", "precious"));
    }
}

Test(change, an_exclusive_create_takes_the_name_of_an_unlinked_open_file)
{
    for (int foreign = 0; foreign < 2; foreign++) {
        ROOM_SCOPED(room, NULL);
        struct handle *old, *handle;
        cr_assert_eq(tree_write(&room, "a", "old"), 0);
        cr_assert_eq(tree_open(&room, "a", O_RDONLY, &old), 0);
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        if (foreign)
            memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                            .op = STORE_PUT,
                                                            .times = 1,
                                                            .meanwhile = put_foreign});
        cr_assert_eq(create_exclusive(&room, "a", &handle), foreign ? -EEXIST : 0);
        if (!foreign)
            cache_release(room.cache, handle);
        cache_release(room.cache, old);
        room_close_cache(&room);
        cr_assert(tree_holds(&room, "p/a", foreign ? "foreign" : ""));
    }
}

Test(change, symlinks_are_objects_that_name_their_target)
{
    ROOM_SCOPED(room, NULL);
    struct attributes attributes;
    struct entry entry;
    char *target;
    cr_assert_eq(tree_symlink(&room, "l", "../some/where"), 0);
    cr_assert(tree_holds(&room, "p/l", "../some/where"));
    cr_assert_eq(tree_stat(&room, "l", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFLNK | 0777);
    cr_assert_eq(attributes.size, 13);
    cr_assert_eq(tree_lookup(&room, "l", &entry), 0);
    cr_assert_eq(cache_readlink(room.cache, &room.waiter, entry.inode, &target), 0);
    cr_assert_str_eq(target, "../some/where");
    free(target);
    inode_unref(entry.inode);
    cr_assert_eq(tree_symlink(&room, "l", "x"), -EEXIST);
}

Test(change, names_that_the_endpoint_cannot_hold_are_refused)
{
    ROOM_SCOPED(room, NULL);
    char name[300];
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct entry entry;
    memset(name, 'n', sizeof name - 1);
    name[256] = 0;
    cr_assert_eq(tree_mkdir(&room, "bad\xff"), -EILSEQ);
    cr_assert_eq(cache_mkdir(room.cache, &room.waiter, room.root, name, &maker, &entry), -ENAMETOOLONG);
    cr_assert_eq(cache_mkdir(room.cache, &room.waiter, room.root, "..", &maker, &entry), -EINVAL);
    name[250] = 0;
    struct inode *parent = inode_ref(room.root);
    int rc = 0;
    for (int depth = 0; rc == 0 && depth < 6; depth++) {
        rc = cache_mkdir(room.cache, &room.waiter, parent, name, &maker, &entry);
        inode_unref(parent);
        parent = rc == 0 ? entry.inode : NULL;
    }
    inode_unref(parent);
    cr_assert_eq(rc, -ENAMETOOLONG);
}

Test(change, a_read_only_mount_changes_nothing)
{
    ROOM_SCOPED(room, &(struct room_config){.read_only = true});
    memory_store_put_text(room.bucket, "p/a", "x");
    memory_store_put_text(room.bucket, "p/d/x", "x");
    cr_assert_eq(tree_mkdir(&room, "b"), -EROFS);
    cr_assert_eq(tree_unlink(&room, "a"), -EROFS);
    cr_assert_eq(tree_rmdir(&room, "d"), -EROFS);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), -EROFS);
    cr_assert_eq(tree_symlink(&room, "l", "x"), -EROFS);
    assert_keys(&room, "p/a p/d/x ");
}

Test(change, without_a_waiter_nothing_is_sent)
{
    ROOM_SCOPED(room, NULL);
    struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
    struct handle *handle;
    struct entry entry;
    cr_assert_eq(cache_lookup(room.cache, NULL, room.root, "a", &entry), -EAGAIN);
    cr_assert_eq(cache_mkdir(room.cache, NULL, room.root, "a", &maker, &entry), -EAGAIN);
    cr_assert_eq(cache_create(room.cache, NULL, room.root, "a", O_RDWR, &maker, &entry, &handle), -EAGAIN);
    cr_assert_eq(cache_unlink(room.cache, NULL, room.root, "a"), -EAGAIN);
    cr_assert_eq(cache_rmdir(room.cache, NULL, room.root, "a"), -EAGAIN);
    cr_assert_eq(cache_rename(room.cache, NULL, room.root, "a", room.root, "b", 0), -EAGAIN);
    cr_assert_eq(memory_store_log_count(room.bucket), 0);
}
