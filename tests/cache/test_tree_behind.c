/* Directories that are made, moved, changed and removed from here (rename.h, change.h): what is seen at once, and what the bucket
 * holds when all has followed. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "cache/rename.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

static const struct room_config behind = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 60000};

static bool reads(struct room *room, const char *path, const char *text)
{
    struct handle *handle;
    if (tree_open(room, path, O_RDONLY, &handle) < 0)
        return false;
    int rc = room_read_text(room, handle, text);
    cache_release(room->cache, handle);
    return rc == 0;
}

static void put_tree(struct room *room)
{
    tree_put(room, "p/d/", "", "mode=16832", NULL);
    tree_put(room, "p/d/a", "a", NULL);
    tree_put(room, "p/d/s/b", "b", "mode=33152", NULL);
    tree_put(room, "p/d/s/t/", "", NULL);
    tree_put(room, "p/x", "x", NULL);
}

/* ---- rename. ---- */

static void move_and_look(struct room *room)
{
    struct entry entry;
    struct attributes attributes;
    put_tree(room);
    room_stop_server(room);
    cr_assert_eq(tree_rename(room, "d", "e", 0), 0);
    cr_assert_eq(tree_lookup(room, "d", &entry), -ENOENT);
    assert_list(room, "", true, "e/ x ");
    assert_list(room, "e", true, "a s/ ");
    assert_list(room, "e/s", true, "b t/ ");
    assert_list(room, "e/s/t", true, "");
    cr_assert_eq(tree_stat(room, "e", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFDIR | 0700);
    cr_assert_eq(tree_stat(room, "e/s/b", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFREG | 0600);
    cr_assert(reads(room, "e/a", "a") && reads(room, "e/s/b", "b"));
    assert_keys(room, "p/d/ p/d/a p/d/s/b p/d/s/t/ p/x ");
    room_start_server(room);
    assert_drained(room);
    assert_keys(room, "p/e/ p/e/a p/e/s/b p/e/s/t/ p/x ");
    cr_assert(tree_holds(room, "p/e/a", "a") && tree_holds(room, "p/e/s/b", "b"));
    assert_list(room, "", true, "e/ x ");
    assert_list(room, "e/s", true, "b t/ ");
}

Test(tree_behind, a_directory_has_its_new_name_before_the_server_heard_of_it)
{
    ROOM_SCOPED(room, &behind);
    move_and_look(&room);
}

Test(tree_behind, also_where_listings_know_no_metadata_and_pages_are_short)
{
    struct room_config config = behind;
    config.bucket = (struct memory_store_config){.page_max = 2};
    ROOM_SCOPED(room, &config);
    move_and_look(&room);
}

Test(tree_behind, and_where_listings_carry_them)
{
    struct room_config config = behind;
    config.bucket = (struct memory_store_config){.list_meta = true};
    ROOM_SCOPED(room, &config);
    move_and_look(&room);
}

Test(tree_behind, a_kill_before_it_followed_leaves_it_under_its_new_name)
{
    ROOM_SCOPED(room, &behind);
    struct attributes attributes;
    put_tree(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    cr_assert_eq(tree_rename(&room, "e/s", "s", 0), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_list(&room, "", true, "e/ s/ x ");
    assert_list(&room, "s", true, "b t/ ");
    cr_assert_eq(tree_stat(&room, "e", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFDIR | 0700);
    assert_drained(&room);
    assert_keys(&room, "p/e/ p/e/a p/s/b p/s/t/ p/x ");
    struct cache_backlog backlog;
    room_reopen(&room);
    cache_backlog(room.cache, &backlog);
    cr_assert_eq(backlog.files, 0, "the journal remembers what was done");
}

Test(tree_behind, a_kill_in_the_middle_of_the_copies_goes_on)
{
    ROOM_SCOPED(room, &behind);
    char name[40];
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "p/d/%02d", i);
        tree_put(&room, name, "one", NULL);
    }
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY, .skip = 20});
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    for (int i = 0; i < 1000 && !memory_store_has(room.bucket, "p/e/05"); i++)
        usleep(2000);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    BUF_SCOPED keys = BUF_INIT, wanted = BUF_INIT;
    tree_keys(&room, &keys);
    for (int i = 0; i < 40; i++)
        buf_printf(&wanted, "p/e/%02d ", i);
    cr_assert_str_eq(keys.bytes, wanted.bytes);
}

Test(tree_behind, what_is_unsent_below_goes_up_under_the_new_name)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    put_tree(&room);
    cr_assert_eq(tree_open(&room, "d/a", O_WRONLY | O_APPEND, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "2", 1, 1), 0);
    room_stop_server(&room);
    cr_assert_eq(tree_write(&room, "d/new", "new"), 0);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    cr_assert_eq(tree_write(&room, "e/more", "more"), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "3", 1, 2), 0);
    room_start_server(&room);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    assert_keys(&room, "p/e/ p/e/a p/e/more p/e/new p/e/s/b p/e/s/t/ p/x ");
    cr_assert(tree_holds(&room, "p/e/a", "a23") && tree_holds(&room, "p/e/new", "new"));
}

Test(tree_behind, a_new_directory_under_the_old_name_is_another_one)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_write(&room, "d/a", "other"), 0);
    assert_list(&room, "d", true, "a ");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/d/ p/d/a p/e/ p/e/a p/e/s/b p/e/s/t/ p/x ");
    cr_assert(tree_holds(&room, "p/d/a", "other") && tree_holds(&room, "p/e/a", "a"));
}

Test(tree_behind, a_file_under_the_old_name_is_a_file_in_each_listing)
{
    struct room_config config = behind;
    config.attr_ttl_ms = 1;
    ROOM_SCOPED(room, &config);
    put_tree(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT, .key = "p/d"});
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    cr_assert_eq(tree_write(&room, "d", "file"), 0);
    assert_list(&room, "", true, "d e/ x ");
    cr_assert(reads(&room, "d", "file"));
    memory_store_unhang(room.bucket, STORE_PUT, "p/d");
    for (int i = 0; i < 1000 && !memory_store_has(room.bucket, "p/d"); i++)
        usleep(2000);
    usleep(20000);
    assert_list(&room, "", true, "d e/ x ");
    cr_assert(reads(&room, "d", "file"), "what is hidden below made a directory of it");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/d p/e/ p/e/a p/e/s/b p/e/s/t/ p/x ");
}

struct listing_thread {
    struct room *room;
    struct buf list;
};

static void *list_root(void *context)
{
    struct listing_thread *thread = context;
    cr_assert_eq(tree_list(thread->room, "", true, &thread->list), 0);
    return NULL;
}

/* A LIST of the root has seen what was there, and is heard when the delete of `key`, which hangs, has ended. */
static void list_while_deleted(struct room *room, const char *key, const char *expected)
{
    struct listing_thread context = {room, BUF_INIT};
    pthread_t thread;
    cr_assert(memory_store_await(room->bucket, STORE_DELETE, key, 1));
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST, .times = 1});
    cr_assert_eq(pthread_create(&thread, NULL, list_root, &context), 0);
    cr_assert(memory_store_await(room->bucket, STORE_LIST, NULL, 1));
    usleep(20000);
    memory_store_unhang(room->bucket, STORE_DELETE, NULL);
    for (int i = 0; i < 1000 && memory_store_has(room->bucket, key); i++)
        usleep(2000);
    usleep(20000);
    memory_store_unhang(room->bucket, STORE_LIST, NULL);
    pthread_join(thread, NULL);
    cr_assert_str_eq(context.list.bytes, expected);
    buf_release(&context.list);
}

Test(tree_behind, also_in_one_that_was_overtaken_by_the_end_of_the_directory)
{
    struct room_config config = behind;
    config.attr_ttl_ms = 1;
    ROOM_SCOPED(room, &config);
    tree_put(&room, "p/d/a", "a", NULL);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    cr_assert_eq(tree_write(&room, "d", "file"), 0);
    for (int i = 0; i < 1000 && !memory_store_has(room.bucket, "p/d"); i++)
        usleep(2000);
    usleep(20000);
    list_while_deleted(&room, "p/d/a", "d e/ ");
    cr_assert(reads(&room, "d", "file"));
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/d p/e/a ");
}

/* The tree of a new mount does not have the directory yet: what is below it tells whether it is there. */
static void list_first_while_deleted(struct room *room, const char *expected)
{
    cr_assert(memory_store_await(room->bucket, STORE_DELETE, "p/d/a", 1));
    room_crash(room);
    room->next_fault = (struct fault){.kind = FAULT_HANG, .op = STORE_DELETE};
    room_close_cache(room);
    memory_store_log_clear(room->bucket);
    room_reopen(room);
    list_while_deleted(room, "p/d/a", expected);
}

Test(tree_behind, a_directory_below_which_something_goes_during_the_first_listing_is_there)
{
    ROOM_SCOPED(room, &behind);
    tree_put(&room, "p/d/a", "a", NULL);
    tree_put(&room, "p/d/b", "b", NULL);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
    cr_assert_eq(tree_unlink(&room, "d/a"), 0);
    list_first_while_deleted(&room, "d/ ");
    cr_assert(reads(&room, "d/b", "b"), "d was listed as missing");
    assert_drained(&room);
}

Test(tree_behind, a_directory_whose_last_file_goes_during_the_first_listing_is_not)
{
    ROOM_SCOPED(room, &behind);
    struct entry entry;
    tree_put(&room, "p/d/a", "a", NULL);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    list_first_while_deleted(&room, "e/ ");
    cr_assert_eq(tree_lookup(&room, "d", &entry), -ENOENT);
    assert_drained(&room);
    assert_keys(&room, "p/e/a ");
}

Test(tree_behind, checkpoints_are_rotated_while_the_server_is_away)
{
    ROOM_SCOPED(room, &behind);
    tree_put(&room, "p/last/model", "1", NULL);
    cr_assert_eq(tree_mkdir(&room, "new"), 0);
    cr_assert_eq(tree_write(&room, "new/model", "2"), 0);
    assert_list(&room, "", true, "last/ new/ ");
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "last", "before", 0), 0);
    cr_assert_eq(tree_unlink(&room, "before/model"), 0);
    room_start_server(&room);
    cr_assert_eq(tree_rename(&room, "new", "last", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/before/ p/last/ p/last/model ");
    cr_assert(tree_holds(&room, "p/last/model", "2"));
}

Test(tree_behind, an_empty_directory_is_replaced_and_one_without_a_marker_gets_one)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    cr_assert_eq(tree_mkdir(&room, "empty"), 0);
    cr_assert_eq(tree_mkdir(&room, "full"), 0);
    cr_assert_eq(tree_write(&room, "full/f", "f"), 0);
    cr_assert_eq(tree_rename(&room, "d", "full", 0), -ENOTEMPTY);
    cr_assert_eq(tree_rename(&room, "d", "empty", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/empty/ p/empty/a p/empty/s/b p/empty/s/t/ p/full/ p/full/f p/x ");
    cr_assert_eq(tree_unlink(&room, "empty/s/b"), 0);
    cr_assert_eq(tree_rmdir(&room, "empty/s/t"), 0);
    cr_assert_eq(tree_rename(&room, "empty/s", "s", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/empty/ p/empty/a p/full/ p/full/f p/s/ p/x ");
}

Test(tree_behind, keys_that_are_no_names_move_with_it)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    tree_put(&room, "p/d//odd", "odd", NULL);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/e/ p/e//odd p/e/a p/e/s/b p/e/s/t/ p/x ");
}

Test(tree_behind, a_kept_file_below_keeps_its_object_when_the_rest_moves_by_copies)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    tree_put(&room, "p/d//odd", "odd", NULL);
    memory_store_fault(
        room.bucket, &(struct fault){.kind = FAULT_DELAY, .op = STORE_COPY, .key = "p/out", .delay_ms = 200});
    cr_assert_eq(tree_rename(&room, "d/a", "out", 0), 0);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/e/ p/e//odd p/e/s/b p/e/s/t/ p/out p/x ");
    cr_assert(tree_holds(&room, "p/out", "a"));
}

Test(tree_behind, removed_before_it_followed_nothing_stays)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    cr_assert_eq(tree_unlink(&room, "e/a"), 0);
    cr_assert_eq(tree_unlink(&room, "e/s/b"), 0);
    cr_assert_eq(tree_rmdir(&room, "e/s/t"), 0);
    cr_assert_eq(tree_rmdir(&room, "e/s"), 0);
    cr_assert_eq(tree_rmdir(&room, "e"), 0);
    assert_list(&room, "", true, "x ");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/x ");
}

Test(tree_behind, what_was_removed_below_before_does_not_come_along)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    assert_list(&room, "d/s", true, "b t/ ");
    room_stop_server(&room);
    cr_assert_eq(tree_rmdir(&room, "d/s/t"), 0);
    cr_assert_eq(tree_unlink(&room, "d/a"), 0);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    assert_list(&room, "e", true, "s/ ");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/e/ p/e/s/b p/x ");
}

Test(tree_behind, a_directory_that_one_file_leaves_is_seen_after_a_kill)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    cr_assert_eq(tree_rename(&room, "x", "y", 0), 0);
    assert_drained(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "d/a", "a", 0), 0);
    room_crash(&room);
    room.next_fault = (struct fault){.kind = FAULT_HANG, .op = STORE_COPY};
    room_reopen(&room);
    assert_list(&room, "", true, "a d/ y ");
    assert_list(&room, "d", true, "s/ ");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/a p/d/ p/d/s/b p/d/s/t/ p/y ");
}

Test(tree_behind, whatever_call_fails_all_stand_where_they_were_sent)
{
    for (uint64_t n = 1; n < 16; n++) {
        ROOM_SCOPED(room, &behind);
        put_tree(&room);
        cr_assert_eq(tree_write(&room, "d/new", "new"), 0);
        memory_store_fail_nth(room.bucket, n, -EIO);
        if (tree_rename(&room, "d", "e", 0) < 0)
            cr_assert_eq(tree_rename(&room, "d", "e", 0), 0, "call %lu", n);
        if (tree_mkdir(&room, "d") < 0)
            cr_assert_eq(tree_mkdir(&room, "d"), 0, "call %lu", n);
        assert_drained(&room);
        assert_keys(&room, "p/d/ p/e/ p/e/a p/e/new p/e/s/b p/e/s/t/ p/x ");
    }
}

/* ---- mkdir, rmdir, chmod. ---- */

Test(tree_behind, a_directory_is_made_filled_and_changed_while_the_server_is_away)
{
    ROOM_SCOPED(room, &behind);
    struct attributes wanted = {.mode = 0700}, now;
    struct entry entry;
    assert_list(&room, "", true, "");
    room_stop_server(&room);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_mkdir(&room, "d"), -EEXIST);
    cr_assert_eq(tree_mkdir(&room, "d/s"), 0);
    cr_assert_eq(tree_write(&room, "d/s/f", "f"), 0);
    cr_assert_eq(tree_lookup(&room, "d/s", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &now),
                 0);
    inode_unref(entry.inode);
    cr_assert_eq(tree_rmdir(&room, "d"), -ENOTEMPTY);
    room_crash(&room);
    room_reopen(&room);
    assert_list(&room, "", true, "d/ ");
    cr_assert_eq(tree_stat(&room, "d/s", &now), 0);
    cr_assert_eq(now.mode, S_IFDIR | 0700);
    assert_drained(&room);
    assert_keys(&room, "p/d/ p/d/s/ p/d/s/f ");
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/d/s/", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "16832");
    store_object_release(&object);
}

Test(tree_behind, made_and_removed_before_its_turn_it_never_goes_up)
{
    ROOM_SCOPED(room, &behind);
    assert_list(&room, "", true, "");
    room_stop_server(&room);
    cr_assert_eq(tree_mkdir(&room, "other"), 0);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_rmdir(&room, "d"), 0);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/other/ ");
}

Test(tree_behind, removed_by_somebody_who_dies_it_is_gone)
{
    ROOM_SCOPED(room, &behind);
    put_tree(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rmdir(&room, "d/s/t"), 0);
    cr_assert_eq(tree_unlink(&room, "d/s/b"), 0);
    cr_assert_eq(tree_rmdir(&room, "d/s"), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    assert_keys(&room, "p/d/ p/d/a p/x ");
}

Test(tree_behind, the_marker_of_a_directory_without_children_survives_a_kill)
{
    ROOM_SCOPED(room, &behind);
    tree_put(&room, "p/d/only", "o", NULL);
    assert_list(&room, "d", true, "only ");
    room_stop_server(&room);
    cr_assert_eq(tree_unlink(&room, "d/only"), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    assert_keys(&room, "p/d/ ");
}

Test(tree_behind, foreign_metadata_of_a_marker_stay)
{
    ROOM_SCOPED(room, &behind);
    struct attributes wanted = {.mode = 0711}, now;
    struct entry entry;
    tree_put(&room, "p/d/", "", "mode=16832", "colour=blue", NULL);
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &now),
                 0);
    inode_unref(entry.inode);
    assert_drained(&room);
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/d/", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "16841");
    store_object_release(&object);
}
