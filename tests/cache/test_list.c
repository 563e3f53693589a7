#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/tree.h"

static void put_some(struct room *room)
{
    tree_put(room, "p/b-1", "1", NULL);
    tree_put(room, "p/b/x", "x", NULL);
    tree_put(room, "p/c", "there", "mode=41471", NULL);
    tree_put(room, "p/d", "d", NULL);
    tree_put(room, "p/e/", "", "mode=16832", NULL);
    tree_put(room, "p/z", "z", NULL);
}

Test(list, types_are_known_where_listings_carry_metadata)
{
    ROOM_SCOPED(room, &(struct room_config){.bucket = {.list_meta = true}});
    put_some(&room);
    assert_list(&room, "", false, "b-1 b/ c@ d e/ z ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), 0);
}

Test(list, elsewhere_they_are_unknown_until_somebody_wants_attributes)
{
    ROOM_SCOPED(room, NULL);
    put_some(&room);
    assert_list(&room, "", false, "b-1? b/ c? d? e/ z? ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), 0);
    assert_list(&room, "", true, "b-1 b/ c@ d e/ z ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), 6);
}

Test(list, attributes_of_listing_alone_cost_no_HEAD)
{
    ROOM_SCOPED(room, NULL);
    room.cache->config.list_attributes_only = true;
    put_some(&room);
    assert_list(&room, "", true, "b-1 b/ c d e/ z ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), 0);
}

Test(list, many_pages_give_each_name_once_in_the_order_of_keys)
{
    for (int page = 1; page < 8; page++) {
        struct room_config config = {.bucket = {.list_meta = true, .page_max = page}};
        ROOM_SCOPED(room, &config);
        put_some(&room);
        assert_list(&room, "", false, "b-1 b/ c@ d e/ z ");
    }
}

Test(list, a_file_beside_a_directory_of_its_name_is_one_directory_on_any_page)
{
    for (int page = 1; page < 6; page++) {
        struct room_config config = {.bucket = {.list_meta = true, .page_max = page}};
        ROOM_SCOPED(room, &config);
        memory_store_put_text(room.bucket, "p/a", "file");
        memory_store_put_text(room.bucket, "p/a-1", "x");
        memory_store_put_text(room.bucket, "p/a/x", "x");
        memory_store_put_text(room.bucket, "p/b", "x");
        BUF_SCOPED list = BUF_INIT;
        cr_assert_eq(tree_list(&room, "", false, &list), 0);
        /* On an early page it was given as a file before anybody could know. */
        cr_assert(strcmp(list.bytes, "a-1 a/ b ") == 0 || strcmp(list.bytes, "a a-1 b ") == 0, "%s",
                  list.bytes);
        struct attributes attributes;
        cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
        cr_assert(S_ISDIR(attributes.mode));
    }
}

Test(list, keys_that_are_no_names_are_hidden_and_counted)
{
    ROOM_SCOPED(room, &(struct room_config){.bucket = {.list_meta = true}});
    char longest[260];
    memset(longest, 'n', sizeof longest);
    memcpy(longest, "p/", 2);
    longest[258] = 0;
    memory_store_put_text(room.bucket, "p/.", "x");
    memory_store_put_text(room.bucket, "p/../x", "x");
    memory_store_put_text(room.bucket, "p//x", "x");
    memory_store_put_text(room.bucket, "p/good", "x");
    memory_store_put_text(room.bucket, longest, "x");
    assert_list(&room, "", false, "good ");
    cr_assert_eq(room.cache->names.hidden, 4);
}

Test(list, names_unsent_here_are_listed_and_names_deleted_elsewhere_are_not)
{
    struct room_config config = {.bucket = {.list_meta = true, .page_max = 2}};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct entry entry;
    clock_fake_begin(INT64_C(1700000000000000000));
    put_some(&room);
    assert_list(&room, "", false, "b-1 b/ c@ d e/ z ");
    cr_assert_eq(room_create(&room, "cc", &handle), 0);
    memory_store_remove(room.bucket, "p/d");
    clock_fake_advance(1001);
    assert_list(&room, "", false, "b-1 b/ c@ cc e/ z ");
    cr_assert_eq(tree_lookup(&room, "d", &entry), -ENOENT);
    clock_fake_end();
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(list, a_name_whose_HEAD_failed_is_given_without_attributes)
{
    ROOM_SCOPED(room, NULL);
    put_some(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .key = "p/c"});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .key = "p/d"});
    assert_list(&room, "", true, "b-1 b/ c? d? e/ z ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), 6, "asked once each");
    memory_store_faults_end(room.bucket);
    assert_list(&room, "", true, "b-1 b/ c@ d e/ z ");
}

/* ---- Against changes of our own. ---- */

static void *list_root(void *context)
{
    struct room other = *(struct room *)context; /* with a waiter of its own */
    struct buf *out = malloc(sizeof *out);
    *out = (struct buf)BUF_INIT;
    waiter_init(&other.waiter);
    tree_list(&other, "", false, out);
    waiter_release(&other.waiter);
    return out;
}

/* The answer of a listing that was asked before our changes comes after them. */
Test(list, a_listing_that_began_before_our_changes_does_not_undo_them)
{
    ROOM_SCOPED(room, &(struct room_config){.bucket = {.list_meta = true}});
    pthread_t lister;
    void *list;
    struct entry entry;
    tree_put(&room, "p/gone", "x", NULL);
    tree_put(&room, "p/moved", "x", NULL);
    cr_assert_eq(tree_lookup(&room, "gone", &entry), 0);
    inode_unref(entry.inode);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST, .key = "p/", .times = 1});
    pthread_create(&lister, NULL, list_root, &room);
    while (memory_store_logged(room.bucket, STORE_LIST, "p/") == 0)
        sched_yield();
    cr_assert(memory_store_settle(room.bucket)); /* it happened; its answer is on its way */
    cr_assert_eq(tree_unlink(&room, "gone"), 0);
    cr_assert_eq(tree_rename(&room, "moved", "here", 0), 0);
    cr_assert_eq(tree_write(&room, "new", "1"), 0);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(lister, &list);
    cr_assert_str_eq(((struct buf *)list)->bytes, "here new ");
    cr_assert_eq(tree_lookup(&room, "gone", &entry), -ENOENT);
    cr_assert_eq(tree_lookup(&room, "moved", &entry), -ENOENT);
    cr_assert_eq(tree_lookup(&room, "new", &entry), 0);
    inode_unref(entry.inode);
    cr_assert_eq(tree_lookup(&room, "here", &entry), 0);
    inode_unref(entry.inode);
    buf_release(list);
    free(list);
}

Test(list, a_listing_that_began_before_a_change_in_doubt_tells_no_absence)
{
    ROOM_SCOPED(room, NULL);
    pthread_t lister;
    void *list;
    struct attributes attributes;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST, .key = "p/"});
    pthread_create(&lister, NULL, list_root, &room);
    while (memory_store_logged(room.bucket, STORE_LIST, "p/") == 0)
        sched_yield();
    cr_assert(memory_store_settle(room.bucket));
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .key = "p/d/"});
    cr_assert_eq(tree_mkdir(&room, "d"), -EIO);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(lister, &list);
    cr_assert_eq(tree_stat(&room, "d", &attributes), 0);
    buf_release(list);
    free(list);
}

/* ---- Offsets. ---- */

struct few {
    int left;
    struct buf *out;
    uint64_t next;
};

static bool take_few(void *context, struct listed *listed)
{
    struct few *few = context;
    if (few->left-- == 0)
        return false;
    buf_printf(few->out, "%s ", listed->name);
    few->next = listed->next_offset;
    return true;
}

Test(list, offsets_go_on_where_they_stood_while_the_directory_changes)
{
    struct room_config config = {.bucket = {.list_meta = true, .page_max = 2}};
    ROOM_SCOPED(room, &config);
    struct listing *listing;
    BUF_SCOPED out = BUF_INIT;
    put_some(&room);
    cr_assert_eq(cache_list_open(room.cache, room.root, &listing), 0);
    struct few few = {.out = &out};
    for (int round = 0; round < 20; round++) {
        few.left = 1;
        cr_assert_eq(cache_list(room.cache, &room.waiter, listing, few.next, false, take_few, &few), 0);
        if (round == 3) {
            cr_assert_eq(tree_unlink(&room, "b-1"), 0); /* given already */
            cr_assert_eq(tree_write(&room, "a-new", "x"), 0);
        }
    }
    cr_assert_str_eq(out.bytes, ". .. b-1 b c d e z ");
    few = (struct few){.left = 3, .out = &out, .next = 3};
    buf_reset(&out);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 3, false, take_few, &few), 0);
    cr_assert_str_eq(out.bytes, "b c d ", "an old offset is the same place");
    few = (struct few){.left = 9, .out = &out};
    buf_reset(&out);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, false, take_few, &few), 0);
    cr_assert_str_eq(out.bytes, ". .. a-new b c d e z ", "from the start it looks anew");
    cache_list_release(listing);
}

Test(list, a_directory_renamed_between_two_pages_is_listed_to_its_end)
{
    struct room_config config = {.bucket = {.list_meta = true, .page_max = 2}};
    ROOM_SCOPED(room, &config);
    struct listing *listing;
    struct entry entry;
    BUF_SCOPED out = BUF_INIT;
    for (const char *name = "12345"; *name; name++) {
        char key[32];
        snprintf(key, sizeof key, *name == '2' ? "p/d/%c/x" : "p/d/%c", *name);
        tree_put(&room, key, "x", NULL);
    }
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(cache_list_open(room.cache, entry.inode, &listing), 0);
    struct few few = {.out = &out, .left = 4};
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, false, take_few, &few), 0);
    cr_assert_eq(tree_rename(&room, "d", "elsewhere", 0), 0);
    few.left = 100;
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, few.next, false, take_few, &few), 0);
    cr_assert_str_eq(out.bytes, ". .. 1 2 3 4 5 ");
    cache_list_release(listing);
    inode_unref(entry.inode);
}

Test(list, a_directory_deleted_while_open_ends_and_an_error_is_told_once_it_meets_nobody)
{
    ROOM_SCOPED(room, NULL);
    struct listing *listing;
    struct entry entry;
    BUF_SCOPED out = BUF_INIT;
    struct few few = {.out = &out, .left = 100};
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(cache_list_open(room.cache, entry.inode, &listing), 0);
    cr_assert_eq(tree_rmdir(&room, "d"), 0);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, false, take_few, &few), 0);
    cr_assert_str_eq(out.bytes, ". .. ");
    cache_list_release(listing);
    inode_unref(entry.inode);
    cr_assert_eq(cache_list_open(room.cache, room.root, &listing), 0);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_LIST, .times = 1, .rc = -EACCES});
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 2, false, take_few, &few), -EACCES);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 2, false, take_few, &few), 0);
    cache_list_release(listing);
}

Test(list, a_complete_listing_is_believed_for_attr_ttl_without_a_waiter)
{
    ROOM_SCOPED(room, &(struct room_config){.bucket = {.list_meta = true}});
    struct listing *listing;
    struct entry entry;
    BUF_SCOPED out = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    put_some(&room);
    cr_assert_eq(cache_list_open(room.cache, room.root, &listing), 0);
    struct few few = {.out = &out, .left = 100};
    cr_assert_eq(cache_list(room.cache, NULL, listing, 0, false, take_few, &few), -EAGAIN);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, false, take_few, &few), 0);
    cache_list_release(listing);
    cr_assert_eq(cache_lookup(room.cache, NULL, room.root, "none", &entry), -ENOENT);
    cr_assert_eq(cache_list_open(room.cache, room.root, &listing), 0);
    cr_assert_eq(cache_list(room.cache, NULL, listing, 0, false, take_few, &few), 0);
    cache_list_release(listing);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, NULL), 1);
    clock_fake_advance(1001);
    cr_assert_eq(cache_lookup(room.cache, NULL, room.root, "none", &entry), -EAGAIN);
    clock_fake_end();
}
