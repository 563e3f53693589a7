#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/core.h"
#include "cache/forest.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

static struct room_config listing_with(bool meta)
{
    return (struct room_config){.bucket = {.list_meta = meta}};
}

/* "p/d000/f0" ... */
static void plant(struct room *room, int directories, int files)
{
    char key[64];

    for (int i = 0; i < directories; i++)
        for (int j = 0; j < files; j++) {
            snprintf(key, sizeof key, "p/d%03d/f%d", i, j);
            tree_put(room, key, "x", NULL);
        }
}

static size_t lists(struct room *room)
{
    return memory_store_logged(room->bucket, STORE_LIST, NULL);
}

static size_t heads(struct room *room)
{
    return memory_store_logged(room->bucket, STORE_HEAD, NULL);
}

static void assert_directory(struct room *room, int number, const char *expected)
{
    char path[16];
    snprintf(path, sizeof path, "d%03d", number);
    assert_list(room, path, true, expected);
}

/* As find: all names of a directory, then those below it. */
static void walk_from(struct room *room, int first, int directories, const char *expected)
{
    BUF_SCOPED list = BUF_INIT;

    cr_assert_eq(tree_list(room, "", true, &list), 0);
    for (int i = first; i < directories; i++)
        assert_directory(room, i, expected);
}

/* ---- What it costs. ---- */

Test(forest, a_walk_over_300_small_directories_costs_a_few_LISTs)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 300, 5);
    walk_from(&room, 0, 300, "f0 f1 f2 f3 f4 ");
    cr_assert_leq(lists(&room), 7, "%zu", lists(&room));
    cr_assert_leq(heads(&room), FOREST_MANY, "%zu", heads(&room));
    size_t before = lists(&room);
    struct entry entry;
    cr_assert_eq(tree_lookup(&room, "d123/f5", &entry), -ENOENT);
    cr_assert_eq(lists(&room), before, "a whole listing tells that there is no such name");
    clock_fake_advance(1001);
    walk_from(&room, 0, 300, "f0 f1 f2 f3 f4 ");
    cr_assert_leq(lists(&room), before + 6, "the same again: %zu", lists(&room) - before);
    clock_fake_end();
}

Test(forest, where_listings_tell_no_attributes_they_are_asked_for_as_ever)
{
    struct room_config config = listing_with(false);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 100, 3);
    walk_from(&room, 0, 100, "f0 f1 f2 ");
    cr_assert_leq(lists(&room), 5, "%zu", lists(&room));
    cr_assert_geq(heads(&room), 300);
    cr_assert_leq(heads(&room), 300 + FOREST_MANY, "directories without a marker need none: %zu",
                  heads(&room));
    clock_fake_end();
}

Test(forest, who_looks_names_up_after_a_plain_listing_is_answered_too)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    BUF_SCOPED list = BUF_INIT;
    char path[32];
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 100, 3);
    tree_put(&room, "p/d050/", "", "mode=16832", NULL);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "d%03d", i);
        cr_assert_eq(tree_stat(&room, path, &attributes), 0);
        cr_assert_eq(attributes.mode, i == 50 ? 16832 : S_IFDIR | 0755);
    }
    cr_assert_leq(lists(&room), 4, "%zu", lists(&room));
    cr_assert_eq(heads(&room), 0);
    clock_fake_end();
}

Test(forest, nothing_is_asked_for_who_looks_at_one_directory)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 3, 2);
    for (int i = 0; i < 10; i++) {
        assert_directory(&room, 1, "f0 f1 ");
        clock_fake_advance(1001);
    }
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, "p/"), 0);
    clock_fake_end();
}

Test(forest, of_large_directories_one_LIST_in_16_is_wasted_at_most)
{
    struct room_config config = listing_with(true);
    config.bucket.page_max = 20;
    config.memory_bytes = (size_t)256 << 20;
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    char path[16];
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 160, 25);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    size_t before = lists(&room);
    for (int i = 0; i < 160; i++) {
        snprintf(path, sizeof path, "d%03d", i);
        cr_assert_eq(tree_list(&room, path, false, &list), 0);
    }
    size_t wasted = lists(&room) - before - 320; /* of two pages each */
    cr_assert_leq(wasted, 160 / 16, "%zu", wasted);
    clock_fake_end();
}

Test(forest, a_walk_that_is_slow_asks_for_no_more_than_it_would_alone)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 64, 3);
    for (int i = 0; i < 64; i++) {
        assert_directory(&room, i, "f0 f1 f2 ");
        clock_fake_advance(700);
    }
    cr_assert_leq(lists(&room), 64 * 2 + 64 / 16, "%zu", lists(&room));
    clock_fake_end();
}

/* Looked up one by one. */
static void look_at_all(struct room *room, int directories)
{
    struct attributes attributes;
    char path[16];

    for (int i = 0; i < directories; i++) {
        snprintf(path, sizeof path, "d%03d", i);
        cr_assert_eq(tree_stat(room, path, &attributes), 0);
        cr_assert_eq(attributes.mode, 16832);
    }
}

static void plant_markers(struct room *room, int directories)
{
    char key[64];

    for (int i = 0; i < directories; i++) {
        snprintf(key, sizeof key, "p/d%03d/", i);
        tree_put(room, key, "", "mode=16832", NULL);
    }
}

Test(forest, where_listings_tell_no_attributes_LISTs_for_those_of_markers_are_failures)
{
    struct room_config config = listing_with(false);
    config.bucket.page_max = 60;
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 200, 5);
    plant_markers(&room, 200);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    size_t before = memory_store_logged(room.bucket, STORE_LIST, "p/");
    look_at_all(&room, 200);
    size_t wasted = memory_store_logged(room.bucket, STORE_LIST, "p/") - before;
    cr_assert_leq(wasted, 200 / 16, "%zu", wasted);
    clock_fake_end();
}

Test(forest, names_below_markers_without_attributes_are_answers_all_the_same)
{
    struct room_config config = listing_with(false);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 200, 3);
    plant_markers(&room, 200);
    walk_from(&room, 0, 200, "f0 f1 f2 ");
    cr_assert_leq(lists(&room), 4, "%zu", lists(&room));
    clock_fake_end();
}

Test(forest, markers_without_attributes_keep_nobody_from_learning_that_others_have_none)
{
    struct room_config config = listing_with(false);
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    char key[64];
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 200, 3);
    for (int i = 0; i < 200; i += 2) {
        snprintf(key, sizeof key, "p/d%03d/", i);
        tree_put(&room, key, "", "mode=16832", NULL);
    }
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    cr_assert_eq(lists(&room), 3, "its own, and two for what is below: %zu", lists(&room));
    cr_assert_eq(heads(&room), 100, "%zu", heads(&room));
    clock_fake_end();
}

/* ---- What it tells. ---- */

Test(forest, names_are_what_LISTs_of_their_own_would_make_of_them)
{
    for (int meta = 0; meta < 2; meta++) {
        struct room_config config = listing_with(meta);
        ROOM_SCOPED(room, &config);
        struct attributes attributes;
        clock_fake_begin(INT64_C(1700000000000000000));
        plant(&room, 8, 2);
        tree_put(&room, "p/d002/", "", "mode=16832", NULL);
        tree_put(&room, "p/d003/a", "file", NULL);
        tree_put(&room, "p/d003/a/b", "x", NULL);
        tree_put(&room, "p/d004//x", "x", NULL);
        tree_put(&room, "p/d004/../x", "x", NULL);
        tree_put(&room, "p/d005/e/", "", "mode=16832", NULL);
        tree_put(&room, "p/d005/s", "there", "mode=41471", NULL);
        tree_put(&room, "p/d006/x/y/z", "x", NULL);
        assert_list(&room, "", true, "d000/ d001/ d002/ d003/ d004/ d005/ d006/ d007/ ");
        assert_list(&room, "d000", true, "f0 f1 ");
        size_t before = lists(&room);
        assert_list(&room, "d001", true, "f0 f1 ");
        assert_list(&room, "d002", true, "f0 f1 ");
        assert_list(&room, "d003", true, "a/ f0 f1 ");
        assert_list(&room, "d003/a", true, "b ");
        assert_list(&room, "d004", true, "f0 f1 ");
        assert_list(&room, "d005", true, "e/ f0 f1 s@ ");
        assert_list(&room, "d005/e", true, "");
        assert_list(&room, "d006", true, "f0 f1 x/ ");
        assert_list(&room, "d006/x", true, "y/ ");
        assert_list(&room, "d006/x/y", true, "z ");
        cr_assert_eq(lists(&room), before);
        cr_assert_eq(room.cache->names.hidden, 3);
        cr_assert_eq(tree_stat(&room, "d002", &attributes), 0);
        cr_assert_eq(attributes.mode, 16832);
        cr_assert_eq(tree_stat(&room, "d005/e", &attributes), 0);
        cr_assert_eq(attributes.mode, 16832);
        clock_fake_end();
    }
}

Test(forest, what_another_client_changes_is_seen_within_attr_ttl)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 20, 2);
    walk_from(&room, 0, 10, "f0 f1 ");
    tree_put(&room, "p/d005/new", "x", NULL);
    tree_put(&room, "p/d015/new", "x", NULL);
    memory_store_remove(room.bucket, "p/d016/f0");
    clock_fake_advance(1001);
    assert_directory(&room, 5, "f0 f1 new ");
    assert_directory(&room, 15, "f0 f1 new ");
    assert_directory(&room, 16, "f1 ");
    tree_put(&room, "p/d017/new", "x", NULL);
    clock_fake_advance(400);
    assert_directory(&room, 17, "f0 f1 "); /* as it was when d016 was asked for */
    clock_fake_advance(601);
    assert_directory(&room, 17, "f0 f1 new ");
    clock_fake_end();
}

Test(forest, it_denies_no_name_for_longer_than_negative_ttl_and_keeps_nobody_from_learning_which_are_missing)
{
    struct room_config config = listing_with(true);
    config.attr_ttl_ms = 10000;
    config.negative_ttl_ms = 1000;
    ROOM_SCOPED(room, &config);
    struct entry entry;
    char path[32];
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 20, 2);
    walk_from(&room, 0, 10, "f0 f1 ");
    clock_fake_advance(1200);
    tree_put(&room, "p/d015/new", "x", NULL);
    cr_assert_eq(tree_lookup(&room, "d015/new", &entry), 0);
    inode_unref(entry.inode);
    size_t before = heads(&room);
    for (int i = 0; i < 20; i++) {
        snprintf(path, sizeof path, "d015/none%d", i);
        cr_assert_eq(tree_lookup(&room, path, &entry), -ENOENT);
    }
    cr_assert_eq(heads(&room), before, "a listing tells of them: %zu", heads(&room) - before);
    clock_fake_end();
}

Test(forest, refresh_forgets_it)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 20, 2);
    walk_from(&room, 0, 10, "f0 f1 ");
    tree_put(&room, "p/d015/new", "x", NULL);
    assert_directory(&room, 14, "f0 f1 ");
    cache_refresh(room.cache, "d015");
    assert_directory(&room, 15, "f0 f1 new ");
    clock_fake_end();
}

Test(forest, it_is_known_after_a_remount)
{
    struct room_config config = listing_with(true);
    config.boot = "boot";
    config.catalog = true;
    ROOM_SCOPED(room, &config);
    plant(&room, 50, 2);
    walk_from(&room, 0, 50, "f0 f1 ");
    room_close_cache(&room);
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG});
    walk_from(&room, 0, 50, "f0 f1 ");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
}

Test(forest, a_failed_LIST_leaves_the_directory_to_its_own)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 40, 2);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_FAIL, .op = STORE_LIST, .key = "p/", .times = 1, .rc = -EACCES});
    for (int i = 0; i < 40; i++)
        assert_directory(&room, i, "f0 f1 ");
    cr_assert_leq(memory_store_logged(room.bucket, STORE_LIST, "p/"), 4);
    clock_fake_end();
}

Test(forest, of_a_directory_without_a_key_in_it_its_own_LIST_tells)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 20, 1);
    walk_from(&room, 0, 1, "f0 "); /* all of them are known */
    cr_assert_eq(tree_open(&room, "d007/f0", O_RDONLY, &handle), 0);
    memory_store_remove(room.bucket, "p/d007/f0");
    memory_store_remove(room.bucket, "p/d008/f0");
    memory_store_remove(room.bucket, "p/d009/f0");
    clock_fake_advance(600);
    assert_directory(&room, 1, "f0 ");
    size_t before = lists(&room);
    tree_put(&room, "p/d009/new", "x", NULL); /* as if it had stood elsewhere in the order of that server */
    assert_directory(&room, 9, "new ");
    assert_directory(&room, 8, "");
    assert_directory(&room, 7, "");
    for (int i = 10; i < 20; i++)
        assert_directory(&room, i, "f0 ");
    cr_assert_eq(lists(&room) - before, 3, "no more than these: %zu", lists(&room) - before);
    cr_assert_eq(room_close(&room, handle), 0);
    clock_fake_end();
}

static void assert_looks(struct room *room, const char *path, int rc, uint32_t mode)
{
    struct attributes attributes = {0};
    cr_assert_eq(tree_stat(room, path, &attributes), rc, "%s", path);
    cr_assert_eq(attributes.mode, mode, "%s: %o", path, attributes.mode);
}

Test(forest, what_somebody_saw_since_it_was_asked_for_is_not_undone_by_it)
{
    struct room_config config = listing_with(true);
    config.attr_ttl_ms = 10000;
    config.negative_ttl_ms = 1000; /* no more is listed again than has to be */
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 20, 2);
    plant_markers(&room, 20);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    assert_looks(&room, "d005", 0, 16832);
    clock_fake_advance(6000);
    assert_directory(&room, 0, "f0 f1 ");
    assert_directory(&room, 1, "f0 f1 "); /* with all others */
    clock_fake_advance(1);
    tree_put(&room, "p/d005/", "", "mode=16877", NULL);
    memory_store_remove(room.bucket, "p/d006/f0");
    tree_put(&room, "p/d007/f0", "target", "mode=41471", NULL);
    memory_store_remove(room.bucket, "p/d008/f0");
    tree_put(&room, "p/d008/f0/x", "x", NULL);
    clock_fake_advance(4499);
    assert_looks(&room, "d005", 0, 16877); /* it had been known for a ttl */
    assert_looks(&room, "d006/f0", -ENOENT, 0);
    assert_looks(&room, "d007/f0", 0, 41471);
    assert_looks(&room, "d008/f0", 0, S_IFDIR | 0755);
    size_t before = lists(&room);
    assert_directory(&room, 5, "f0 f1 ");
    assert_directory(&room, 6, "f1 ");
    assert_directory(&room, 7, "f0@ f1 ");
    assert_directory(&room, 8, "f0/ f1 ");
    cr_assert_eq(lists(&room), before);
    assert_looks(&room, "d005", 0, 16877);
    clock_fake_end();
}

/* ---- Against changes of our own. ---- */

Test(forest, what_changed_here_since_it_was_asked_for_wins)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 2);
    walk_from(&room, 0, 10, "f0 f1 ");
    cr_assert_eq(tree_unlink(&room, "d011/f0"), 0);
    cr_assert_eq(tree_write(&room, "d012/new", "x"), 0);
    cr_assert_eq(tree_mkdir(&room, "d013/e"), 0);
    cr_assert_eq(tree_unlink(&room, "d014/f0"), 0);
    cr_assert_eq(tree_unlink(&room, "d014/f1"), 0);
    cr_assert_eq(tree_rmdir(&room, "d014"), 0);
    cr_assert_eq(tree_mkdir(&room, "d014"), 0);
    cr_assert_eq(tree_rename(&room, "d015/f0", "d016/g", 0), 0);
    assert_directory(&room, 11, "f1 ");
    assert_directory(&room, 12, "f0 f1 new ");
    assert_directory(&room, 13, "e/ f0 f1 ");
    assert_directory(&room, 14, "");
    assert_directory(&room, 15, "f1 ");
    assert_directory(&room, 16, "f0 f1 g ");
    assert_drained(&room);
    assert_directory(&room, 11, "f1 ");
    assert_directory(&room, 14, "");
    cr_assert_eq(tree_rename(&room, "d020", "elsewhere", 0), 0);
    cr_assert_eq(tree_rename(&room, "d021", "d020", 0), 0);
    cr_assert_eq(tree_unlink(&room, "d020/f1"), 0);
    assert_list(&room, "d020", true, "f0 ");
    assert_list(&room, "elsewhere", true, "f0 f1 ");
    clock_fake_end();
}

Test(forest, what_is_below_a_directory_that_moved_comes_from_where_it_was)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 2);
    tree_put(&room, "p/d020/e/x", "x", NULL);
    tree_put(&room, "p/d021/e/y", "x", NULL);
    walk_from(&room, 0, 10, "f0 f1 ");
    assert_list(&room, "d020", true, "e/ f0 f1 ");
    assert_list(&room, "d021", true, "e/ f0 f1 ");
    cr_assert_eq(tree_rename(&room, "d020", "elsewhere", 0), 0);
    cr_assert_eq(tree_rename(&room, "d021", "d020", 0), 0);
    assert_list(&room, "d020/e", true, "y ");
    assert_list(&room, "elsewhere/e", true, "x ");
    clock_fake_end();
}

Test(forest, what_is_below_a_directory_that_came_again_is_not_what_was)
{
    struct room_config config = listing_with(true);
    config.negative_ttl_ms = 1;
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 2);
    tree_put(&room, "p/e/e/g/x", "x", NULL);
    walk_from(&room, 0, 10, "f0 f1 ");
    assert_list(&room, "e", true, "e/ ");
    memory_store_remove(room.bucket, "p/e/e/g/x");
    cr_assert_eq(tree_rmdir(&room, "e/e"), 0);
    cr_assert_eq(tree_rmdir(&room, "e"), 0);
    assert_drained(&room);
    tree_put(&room, "p/e/e/g/y", "x", NULL);
    clock_fake_advance(2);
    assert_list(&room, "e/e/g", true, "y ");
    clock_fake_end();
}

struct walker {
    struct room room; /* with a waiter of its own */
    int first, end;
    pthread_t thread;
    bool right;
    atomic_bool done;
};

static void *walk_thread(void *context)
{
    struct walker *walker = context;
    char path[16];

    waiter_init(&walker->room.waiter);
    walker->right = true;
    for (int i = walker->first; i < walker->end; i++) {
        BUF_SCOPED list = BUF_INIT;
        snprintf(path, sizeof path, "d%03d", i);
        walker->right = tree_list(&walker->room, path, true, &list) == 0 &&
                        strcmp(list.bytes, "f0 f1 f2 ") == 0 && walker->right;
    }
    waiter_release(&walker->room.waiter);
    atomic_store(&walker->done, true);
    return NULL;
}

static void start_walker(struct walker *walker, struct room *room, int first, int end)
{
    *walker = (struct walker){.room = *room, .first = first, .end = end};
    atomic_init(&walker->done, false);
    pthread_create(&walker->thread, NULL, walk_thread, walker);
}

Test(forest, several_who_walk_at_once_all_see_what_is_there)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct walker walkers[8];
    BUF_SCOPED list = BUF_INIT;
    plant(&room, 400, 3);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    for (int i = 0; i < 8; i++)
        start_walker(&walkers[i], &room, i * 50, i * 50 + 50);
    for (int i = 0; i < 8; i++) {
        pthread_join(walkers[i].thread, NULL);
        cr_assert(walkers[i].right);
    }
    cr_assert_leq(lists(&room), 200, "%zu", lists(&room));
}

Test(forest, what_changes_here_while_it_is_on_its_way_wins)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct walker walker;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 3);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    clock_fake_advance(600); /* the markers are known, and the rest of what told them is of no use */
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST, .key = "p/"});
    start_walker(&walker, &room, 1, 2);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 1));
    cr_assert(memory_store_settle(room.bucket)); /* it happened; its answer is on its way */
    cr_assert_eq(tree_unlink(&room, "d020/f0"), 0);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(walker.thread, NULL);
    cr_assert(walker.right);
    size_t before = lists(&room);
    assert_directory(&room, 3, "f0 f1 f2 ");
    cr_assert_eq(lists(&room), before, "the rest of it is of use");
    assert_directory(&room, 20, "f1 f2 ");
    clock_fake_end();
}

/* ---- Memory. ---- */

static size_t in_demand(struct room *room)
{
    struct memory_report report;
    memory_report(room->memory, &report);
    return report.shares[SHARE_DEMAND];
}

Test(forest, what_is_out_of_date_is_given_back_when_the_next_one_is_asked_for)
{
    struct room_config config = listing_with(true);
    config.bucket.page_max = 50;
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 100, 5);
    walk_from(&room, 0, 100, "f0 f1 f2 f3 f4 ");
    size_t before = in_demand(&room);
    clock_fake_advance(60000);
    walk_from(&room, 0, 2, "f0 f1 f2 f3 f4 ");
    cr_assert_gt(in_demand(&room), 0);
    cr_assert_leq(in_demand(&room), before * 3 / FOREST_SWATHS, "%zu of %zu", in_demand(&room), before);
    clock_fake_end();
}

Test(forest, memory_that_others_wait_for_is_given_back)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct memory_report report;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 50, 5);
    walk_from(&room, 0, 5, "f0 f1 f2 f3 f4 ");
    memory_report(room.memory, &report);
    cr_assert_gt(report.shares[SHARE_DEMAND], 0);
    size_t bytes = report.limit - report.used + report.shares[SHARE_DEMAND];
    cr_assert_eq(memory_take(room.memory, bytes, SHARE_UPLOAD, &room.waiter, clock_ms()), 0);
    memory_give(room.memory, bytes, SHARE_UPLOAD);
    walk_from(&room, 5, 50, "f0 f1 f2 f3 f4 ");
    clock_fake_end();
}

Test(forest, it_has_room_where_clean_blocks_take_all_the_memory)
{
    struct room_config config = listing_with(true);
    config.memory_bytes = 8 << 20;
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct reader reader;
    struct memory_report report;
    BUF_SCOPED large = BUF_INIT;
    BUF_SCOPED list = BUF_INIT;
    static char note[8192]; /* more than a few names that are forgotten leave */
    char key[64];
    clock_fake_begin(INT64_C(1700000000000000000));
    memset(note, 'n', sizeof note - 1);
    memcpy(note, "note=", 5);
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "p/d%03d/f", i);
        tree_put(&room, key, "x", note, NULL);
    }
    for (int i = 0; i < 16 << 20; i++)
        buf_add_char(&large, 'x');
    memory_store_put(room.bucket, "p/large", large.bytes, large.length, NULL, NULL);
    cr_assert_eq(tree_open(&room, "large", O_RDONLY, &handle), 0);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    for (int i = 0; i < 128; i++) { /* here and there: nothing is passed */
        reader_begin(&reader, &room, handle, (uint64_t)(i * 37 % 128) * PAGE_BYTES, 1);
        cr_assert_eq(reader_wait(&reader), 0);
        reader_release(&reader);
    }
    memory_report(room.memory, &report);
    size_t rest = report.limit - report.used;
    cr_assert_lt(rest, PAGE_BYTES);
    cr_assert(memory_try(room.memory, rest, SHARE_UPLOAD));
    for (int i = 0; i < 100; i++)
        assert_directory(&room, i, "f ");
    /* Names have no room for themselves, are forgotten, and looked for anew: some LISTs are of those. */
    cr_assert_leq(lists(&room), 100 + 8, "%zu", lists(&room));
    memory_give(room.memory, rest, SHARE_UPLOAD);
    cr_assert_eq(room_close(&room, handle), 0);
    clock_fake_end();
}

/* ---- Whom it keeps waiting. ---- */

Test(forest, one_that_the_server_is_silent_to_costs_its_own_patience_and_no_error)
{
    struct room_config config = listing_with(true);
    config.attr_ttl_ms = 60000;
    ROOM_SCOPED(room, &config);
    struct walker walker;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 3);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    clock_fake_advance(40000); /* what was asked for is of no use any more, and nobody has to be looked up */
    assert_directory(&room, 0, "f0 f1 f2 ");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST, .key = "p/"});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST, .key = "p/d001/"});
    start_walker(&walker, &room, 1, 2);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 1));
    clock_fake_advance(FOREST_PATIENCE_MS);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/d001/", 1), "it asks for the directory itself");
    room_start_server(&room);
    pthread_join(walker.thread, NULL);
    cr_assert(walker.right);
    size_t before = memory_store_logged(room.bucket, STORE_LIST, "p/");
    for (int i = 2; i < 2 + FOREST_PAUSE; i++)
        assert_directory(&room, i, "f0 f1 f2 ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, "p/"), before, "it counts as a failure");
    clock_fake_end();
}

static bool is_done(void *context)
{
    struct walker *walker = context;
    return atomic_load(&walker->done);
}

/* For what another one has asked for. */
static bool somebody_waits(void *context)
{
    struct names *names = &((struct room *)context)->cache->names;
    LOCK_SCOPED(&names->lock);
    return !list_empty(&names->turn.waiters);
}

Test(forest, nobody_waits_for_those_that_asked_later)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct walker first, waiting, later;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 3);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    assert_directory(&room, 0, "f0 f1 f2 ");
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST, .key = "p/", .times = 1});
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_DELAY, .op = STORE_LIST, .key = "p/", .delay_ms = 500});
    start_walker(&first, &room, 10, 11);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 1));
    start_walker(&waiting, &room, 20, 21);
    cr_assert(room_await(somebody_waits, &room));
    start_walker(&later, &room, 5, 6); /* from there on: of the 20th, too */
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 2));
    memory_store_unhang(room.bucket, STORE_LIST, "p/");
    cr_assert(room_await(is_done, &first));
    cr_assert(room_await(is_done, &waiting));
    cr_assert_not(atomic_load(&later.done));
    clock_fake_advance(500);
    pthread_join(first.thread, NULL);
    pthread_join(waiting.thread, NULL);
    pthread_join(later.thread, NULL);
    cr_assert(first.right && waiting.right && later.right);
    clock_fake_end();
}

/* A listing that took long is believed for long. */
static void check_slow_guess(bool told)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct walker walker;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 20, 3);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    clock_fake_advance(600);
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_DELAY, .op = STORE_LIST, .key = "p/", .times = 1, .delay_ms = 900});
    if (!told)
        memory_store_fault(room.bucket,
                           &(struct fault){
                               .kind = FAULT_FAIL, .op = STORE_LIST, .key = "p/", .times = 1, .rc = -EACCES});
    start_walker(&walker, &room, 1, 2);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 1));
    clock_fake_advance(900);
    pthread_join(walker.thread, NULL);
    cr_assert(walker.right);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, "p/d001/"), told ? 0 : 1);
    tree_put(&room, "p/d001/new", "x", NULL);
    clock_fake_advance(told ? 101 : 1001);
    assert_directory(&room, 1, "f0 f1 f2 new ");
    clock_fake_end();
}

Test(forest, time_that_it_took_is_none_of_the_directory_that_it_tells_of)
{
    check_slow_guess(true);
    check_slow_guess(false);
}

/* ---- A tree that changes at random, walked all the time. ---- */

#define PATHS_MAX 400

struct shadow {
    struct room *room;
    char *paths[PATHS_MAX]; /* "a/b", directories "a/b/" */
    size_t count;
    unsigned seed;
};

static unsigned pick(struct shadow *shadow, unsigned limit)
{
    shadow->seed = shadow->seed * 1103515245 + 12345;
    return (shadow->seed >> 16) % limit;
}

static bool shadow_has(const struct shadow *shadow, const char *path, bool folder)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < shadow->count; i++)
        if (strncmp(shadow->paths[i], path, length) == 0 &&
            strcmp(shadow->paths[i] + length, folder ? "/" : "") == 0)
            return true;
    return false;
}

static void shadow_drop(struct shadow *shadow, size_t at)
{
    free(shadow->paths[at]);
    shadow->paths[at] = shadow->paths[--shadow->count];
}

/* "" or "a/" of one that is there. */
static const char *pick_directory(struct shadow *shadow)
{
    for (int tries = 0; shadow->count && tries < 50; tries++) {
        const char *path = shadow->paths[pick(shadow, (unsigned)shadow->count)];
        if (path[strlen(path) - 1] == '/')
            return path;
    }
    return "";
}

static bool is_empty(const struct shadow *shadow, const char *directory)
{
    for (size_t i = 0; i < shadow->count; i++)
        if (strncmp(shadow->paths[i], directory, strlen(directory)) == 0 &&
            strcmp(shadow->paths[i], directory) != 0)
            return false;
    return true;
}

static char *without_slash(const char *path)
{
    return xstrndup(path, strlen(path) - (path[strlen(path) - 1] == '/'));
}

static void make_one(struct shadow *shadow)
{
    bool folder = pick(shadow, 3) == 0;
    STRING_SCOPED *path =
        xprintf("%s%c%u", pick_directory(shadow), folder ? 'd' : 'f', pick(shadow, folder ? 12 : 6));

    if (shadow->count == PATHS_MAX || shadow_has(shadow, path, folder) || strlen(path) > 12)
        return;
    cr_assert_eq(folder ? tree_mkdir(shadow->room, path) : tree_write(shadow->room, path, "x"), 0, "%s",
                 path);
    shadow->paths[shadow->count++] = xprintf("%s%s", path, folder ? "/" : "");
}

static void remove_one(struct shadow *shadow)
{
    size_t at = shadow->count ? pick(shadow, (unsigned)shadow->count) : 0;

    if (!shadow->count || !is_empty(shadow, shadow->paths[at]))
        return;
    STRING_SCOPED *path = without_slash(shadow->paths[at]);
    bool folder = strcmp(path, shadow->paths[at]) != 0;
    int rc = folder ? tree_rmdir(shadow->room, path) : tree_unlink(shadow->room, path);
    cr_assert_eq(rc, 0, "%s: %d", shadow->paths[at], rc);
    shadow_drop(shadow, at);
}

static void rename_one(struct shadow *shadow)
{
    size_t at = shadow->count ? pick(shadow, (unsigned)shadow->count) : 0;

    if (!shadow->count)
        return;
    STRING_SCOPED *from = xstrdup(shadow->paths[at]), *bare = without_slash(from);
    bool folder = strcmp(from, bare) != 0;
    STRING_SCOPED *to =
        xprintf("%s%c%u", pick_directory(shadow), folder ? 'd' : 'f', pick(shadow, folder ? 12 : 6));
    if (shadow_has(shadow, to, folder) || strncmp(to, from, strlen(from)) == 0 || strlen(to) > 9)
        return;
    cr_assert_eq(tree_rename(shadow->room, bare, to, 0), 0, "%s %s", bare, to);
    for (size_t i = 0; i < shadow->count; i++)
        if (strcmp(shadow->paths[i], from) == 0 ||
            (folder && strncmp(shadow->paths[i], from, strlen(from)) == 0)) {
            char *moved = xprintf("%s%s", to, shadow->paths[i] + strlen(bare));
            free(shadow->paths[i]);
            shadow->paths[i] = moved;
        }
}

/* No directory is listed behind: by this clock that may take long, and is believed three times as long. */
static bool is_quiet_locked(struct inode *directory)
{
    bool quiet = !directory->refreshing;
    list_for_each (at, &directory->children)
        quiet = quiet && is_quiet_locked(container_of(at, struct inode, sibling));
    return quiet;
}

static bool is_quiet(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    return is_quiet_locked(room->root);
}

/* Another client, which has been heard of after attr_ttl. */
static void put_one(struct shadow *shadow)
{
    STRING_SCOPED *path = xprintf("%sx%u", pick_directory(shadow), pick(shadow, 4));
    STRING_SCOPED *key = xprintf("p/%s", path);

    if (shadow->count == PATHS_MAX || shadow_has(shadow, path, false))
        return;
    cr_assert(room_await(is_quiet, shadow->room));
    assert_drained(shadow->room); /* else a directory may be on its way to another name */
    memory_store_put_text(shadow->room->bucket, key, "x");
    shadow->paths[shadow->count++] = xstrdup(path);
    clock_fake_advance(1001);
}

static void walk_below(struct shadow *shadow, const char *directory)
{
    STRING_SCOPED *bare = *directory ? without_slash(directory) : xstrdup("");
    BUF_SCOPED list = BUF_INIT;
    size_t expected = 0, found = 0;

    cr_assert_eq(tree_list(shadow->room, bare, pick(shadow, 2), &list), 0, "%s", directory);
    for (size_t i = 0; i < shadow->count; i++) {
        if (strncmp(shadow->paths[i], directory, strlen(directory)) != 0)
            continue;
        const char *rest = shadow->paths[i] + strlen(directory), *slash = strchr(rest, '/');
        expected += *rest && (!slash || !slash[1]);
    }
    for (char *name = list.bytes, *next; *name; name = next) {
        next = name + strcspn(name, " ") + 1;
        next[-1] = '\0';
        name[strcspn(name, "?")] = '\0';
        STRING_SCOPED *path = xprintf("%s%s", directory, name);
        STRING_SCOPED *plain = without_slash(path);
        bool folder = strcmp(path, plain) != 0;
        cr_assert(shadow_has(shadow, plain, folder), "%s is not there", path);
        found++;
        if (folder)
            walk_below(shadow, path);
    }
    cr_assert_eq(found, expected, "in %s: %zu of %zu", directory, found, expected);
}

static void change_and_walk(struct room *room, unsigned seed)
{
    struct shadow shadow = {.room = room, .seed = seed};
    void (*const changes[])(struct shadow *) = {make_one,   make_one,   make_one,
                                                remove_one, rename_one, put_one};

    clock_fake_begin(INT64_C(1700000000000000000));
    for (int i = 0; i < 60; i++)
        make_one(&shadow);
    for (int round = 0; round < 60; round++) {
        walk_below(&shadow, "");
        for (unsigned some = pick(&shadow, 4); some-- > 0;)
            changes[pick(&shadow, 6)](&shadow);
        if (pick(&shadow, 4) == 0)
            assert_drained(room);
        cr_assert(room_await(is_quiet, room));
        clock_fake_advance(pick(&shadow, 3) ? pick(&shadow, 300) : 900);
    }
    clock_fake_end();
    while (shadow.count)
        shadow_drop(&shadow, 0);
}

Test(forest, whatever_changes_here_each_walk_shows_the_tree_as_it_is)
{
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct room_config config = listing_with(seed & 1);
        config.durability = seed & 2 ? DURABILITY_WRITEBACK : DURABILITY_SYNC;
        config.catalog = seed & 4;
        config.boot = "boot";
        ROOM_SCOPED(room, &config);
        change_and_walk(&room, seed);
    }
}

/* ---- What is renamed while the server is asked. ---- */

struct renamer {
    struct room room;
    const char *from, *to;
    pthread_t thread;
    int rc;
};
static void *rename_thread(void *context)
{
    struct renamer *r = context;
    waiter_init(&r->room.waiter);
    r->rc = tree_rename(&r->room, r->from, r->to, 0);
    waiter_release(&r->room.waiter);
    return NULL;
}
static void check_rename(bool folder)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct renamer r = {.from = folder ? "d010/e" : "d010/f0", .to = folder ? "d010/g" : "d010/h"};
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 2);
    tree_put(&room, "p/d010/e/x", "x", NULL);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    assert_list(&room, "d010", true, "e/ f0 f1 ");
    clock_fake_advance(900); /* about to expire, known */
    r.room = room;
    enum store_op op = folder ? STORE_DELETE_MANY : STORE_DELETE;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = op});
    pthread_create(&r.thread, NULL, rename_thread, &r);
    cr_assert(memory_store_await(room.bucket, op, NULL, 1));
    clock_fake_advance(200);
    assert_directory(&room, 1, "f0 f1 ");
    assert_directory(&room, 2, "f0 f1 ");
    assert_directory(&room, 3, "f0 f1 ");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(r.thread, NULL);
    cr_assert_eq(r.rc, 0);
    struct attributes attributes;
    assert_list(&room, "d010", true, folder ? "f0 f1 g/ " : "e/ f1 h ");
    cr_assert_eq(tree_stat(&room, r.from, &attributes), -ENOENT);
    clock_fake_end();
}
Test(forest, a_directory_renamed_in_sync_is_not_shown_under_its_old_name)
{
    check_rename(true);
}
Test(forest, a_file_renamed_in_sync_is_not_shown_under_its_old_name)
{
    check_rename(false);
}


Test(forest, copies_of_a_directory_whose_rename_failed_are_not_shown)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct renamer r = {.from = "d020", .to = "d021/new"};
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 2);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    assert_directory(&room, 0, "f0 f1 ");
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_DELAY, .op = STORE_COPY, .key = "p/d021/new/f1", .delay_ms = 700});
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .key = "p/d021/new/f1", .rc = -EACCES});
    r.room = room;
    pthread_create(&r.thread, NULL, rename_thread, &r);
    cr_assert(memory_store_await(room.bucket, STORE_COPY, "p/d021/new/f1", 1));
    cr_assert(memory_store_settle(room.bucket));
    clock_fake_advance(600);
    assert_directory(&room, 1, "f0 f1 "); /* this tells of the first copy */
    cr_assert(memory_store_has(room.bucket, "p/d021/new/f0"));
    clock_fake_advance(100);
    pthread_join(r.thread, NULL);
    cr_assert_eq(r.rc, -EACCES);
    cr_assert_not(memory_store_has(room.bucket, "p/d021/new/f0"));
    assert_directory(&room, 21, "f0 f1 ");
    assert_directory(&room, 20, "f0 f1 ");
    clock_fake_end();
}

/* Where mkdir fails behind the point at which the object has gone: the marker's key is longer than keys may be. */
Test(forest, an_object_that_made_way_for_a_directory_is_not_shown)
{
    struct room_config config = listing_with(true);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    char name[201], last[214];
    memset(name, 'n', 200);
    memset(last, 'l', 213);
    name[200] = last[213] = '\0';
    STRING_SCOPED *directory = xprintf("d005/%s/%s/%s/%s", name, name, name, name);
    STRING_SCOPED *path = xprintf("%s/%s", directory, last), *key = xprintf("p/%s", path);
    cr_assert_eq(strlen(key), STORE_KEY_MAX);
    clock_fake_begin(INT64_C(1700000000000000000));
    plant(&room, 30, 2);
    tree_put(&room, key, "x", NULL);
    walk_from(&room, 0, 1, "f0 f1 ");
    cr_assert_eq(tree_open(&room, path, O_RDONLY, &handle), 0);
    cr_assert_eq(tree_unlink(&room, path), 0);
    clock_fake_advance(600);
    assert_directory(&room, 1, "f0 f1 ");
    cr_assert(memory_store_has(room.bucket, key), "it stands, hidden");
    cr_assert_eq(tree_mkdir(&room, path), -ENAMETOOLONG);
    cr_assert_not(memory_store_has(room.bucket, key));
    assert_list(&room, directory, true, "");
    cr_assert_eq(room_close(&room, handle), 0);
    clock_fake_end();
}

struct stater {
    struct room room;
    const char *path;
    pthread_t thread;
    int rc;
};
static void *stat_thread(void *context)
{
    struct stater *s = context;
    struct attributes attributes;
    waiter_init(&s->room.waiter);
    s->rc = tree_stat(&s->room, s->path, &attributes);
    waiter_release(&s->room.waiter);
    return NULL;
}
Test(forest, a_directory_that_is_renamed_while_its_neighbours_are_asked_for_is_looked_for_anew)
{
    struct room_config config = listing_with(true);
    config.durability = DURABILITY_WRITEBACK;
    config.attr_ttl_ms = 60000;
    ROOM_SCOPED(room, &config);
    struct stater s = {.path = "r/d020"};
    struct attributes attributes;
    BUF_SCOPED list = BUF_INIT;
    char key[64];
    for (int i = 0; i < 30; i++) {
        snprintf(key, sizeof key, "p/r/d%03d/f0", i);
        tree_put(&room, key, "x", NULL);
    }
    tree_put(&room, "p/a/f", "x", NULL);
    tree_put(&room, "p/b/f", "x", NULL);
    tree_put(&room, "p/c/f", "x", NULL);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    cr_assert_eq(tree_list(&room, "r", false, &list), 0);
    cr_assert_eq(tree_stat(&room, "r/d001", &attributes), 0);
    {
        lock_take(&room.cache->names.lock);
        forest_clear_locked(room.cache);
        lock_drop(&room.cache->names.lock);
    }
    memory_store_fault(
        room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST, .key = "p/r/", .times = 1});
    s.room = room;
    pthread_create(&s.thread, NULL, stat_thread, &s);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/r/", 1));
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY});
    cr_assert_eq(tree_rename(&room, "r", "s", 0), 0);
    cr_assert_eq(tree_list(&room, "a", true, &list), 0);
    cr_assert_eq(tree_list(&room, "b", true, &list), 0);
    cr_assert_eq(tree_list(&room, "c", true, &list), 0);
    memory_store_unhang(room.bucket, STORE_LIST, NULL);
    pthread_join(s.thread, NULL);
    room_start_server(&room);
}
