#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/core.h"
#include "cache/forest.h"
#include "tests/support/reader.h"
#include "tests/support/walks.h"

/* ---- What it costs. ---- */

Test(forest, a_walk_over_300_small_directories_costs_a_few_LISTs)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 300, 5);
    assert_walk(&room, 0, 300, "f0 f1 f2 f3 f4 ");
    cr_assert_leq(walks_lists(&room), 7, "%zu", walks_lists(&room));
    cr_assert_leq(walks_heads(&room), FOREST_MANY, "%zu", walks_heads(&room));
    size_t before = walks_lists(&room);
    struct entry entry;
    cr_assert_eq(tree_lookup(&room, "d123/f5", &entry), -ENOENT);
    cr_assert_eq(walks_lists(&room), before, "a whole listing tells that there is no such name");
    clock_fake_advance(1001);
    assert_walk(&room, 0, 300, "f0 f1 f2 f3 f4 ");
    cr_assert_leq(walks_lists(&room), before + 6, "the same again: %zu", walks_lists(&room) - before);
    clock_fake_end();
}

Test(forest, where_listings_tell_no_attributes_they_are_asked_for_as_ever)
{
    struct room_config config = walks_config(false);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 100, 3);
    assert_walk(&room, 0, 100, "f0 f1 f2 ");
    cr_assert_leq(walks_lists(&room), 5, "%zu", walks_lists(&room));
    cr_assert_geq(walks_heads(&room), 300);
    cr_assert_leq(walks_heads(&room), 300 + FOREST_MANY, "directories without a marker need none: %zu",
                  walks_heads(&room));
    clock_fake_end();
}

Test(forest, who_looks_names_up_after_a_plain_listing_is_answered_too)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    BUF_SCOPED list = BUF_INIT;
    char path[32];
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 100, 3);
    tree_put(&room, "p/d050/", "", "mode=16832", NULL);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    for (int i = 0; i < 100; i++) {
        snprintf(path, sizeof path, "d%03d", i);
        cr_assert_eq(tree_stat(&room, path, &attributes), 0);
        cr_assert_eq(attributes.mode, i == 50 ? 16832 : S_IFDIR | 0755);
    }
    cr_assert_leq(walks_lists(&room), 4, "%zu", walks_lists(&room));
    cr_assert_eq(walks_heads(&room), 0);
    clock_fake_end();
}

Test(forest, nothing_is_asked_for_who_looks_at_one_directory)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 3, 2);
    for (int i = 0; i < 10; i++) {
        assert_directory(&room, 1, "f0 f1 ");
        clock_fake_advance(1001);
    }
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, "p/"), 0);
    clock_fake_end();
}

Test(forest, of_large_directories_one_LIST_in_16_is_wasted_at_most)
{
    struct room_config config = walks_config(true);
    config.bucket.page_max = 20;
    config.memory_bytes = (size_t)256 << 20;
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    char path[16];
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 160, 25);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    size_t before = walks_lists(&room);
    for (int i = 0; i < 160; i++) {
        snprintf(path, sizeof path, "d%03d", i);
        cr_assert_eq(tree_list(&room, path, false, &list), 0);
    }
    size_t wasted = walks_lists(&room) - before - 320; /* of two pages each */
    cr_assert_leq(wasted, 160 / 16, "%zu", wasted);
    clock_fake_end();
}

Test(forest, a_walk_that_is_slow_asks_for_no_more_than_it_would_alone)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 64, 3);
    for (int i = 0; i < 64; i++) {
        assert_directory(&room, i, "f0 f1 f2 ");
        clock_fake_advance(700);
    }
    cr_assert_leq(walks_lists(&room), 64 * 2 + 64 / 16, "%zu", walks_lists(&room));
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
    struct room_config config = walks_config(false);
    config.bucket.page_max = 60;
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 200, 5);
    plant_markers(&room, 200);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    size_t before = memory_store_logged(room.bucket, STORE_LIST, "p/");
    look_at_all(&room, 200);
    size_t wasted = memory_store_logged(room.bucket, STORE_LIST, "p/") - before;
    cr_assert_leq(wasted, 200 / 16, "%zu", wasted);
    clock_fake_end();
}

/* By its version; and it is looked at anew, since a LIST of the parent tells nothing of it. */
Test(forest, a_marker_that_is_the_known_one_needs_no_HEAD_where_listings_tell_no_attributes)
{
    struct room_config config = walks_config(false);
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    struct attributes attributes;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 100, 3);
    plant_markers(&room, 100);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    for (int round = 0; round < 2; round++) {
        clock_fake_advance(1001);
        memory_store_log_clear(room.bucket);
        cr_assert_eq(tree_list(&room, "", round, &list), 0);
        look_at_all(&room, 100);
        cr_assert_eq(walks_heads(&room), 0, "%zu", walks_heads(&room));
        cr_assert_leq(walks_lists(&room), round ? 5 : FOREST_PAUSE + 5, "%zu", walks_lists(&room));
    }
    tree_put(&room, "p/d042/", "", "mode=16877", NULL);
    clock_fake_advance(1001);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    cr_assert_eq(tree_stat(&room, "d042", &attributes), 0);
    cr_assert_eq(attributes.mode, 16877);
    clock_fake_end();
}

Test(forest, names_below_markers_without_attributes_are_answers_all_the_same)
{
    struct room_config config = walks_config(false);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 200, 3);
    plant_markers(&room, 200);
    assert_walk(&room, 0, 200, "f0 f1 f2 ");
    cr_assert_leq(walks_lists(&room), 4, "%zu", walks_lists(&room));
    clock_fake_end();
}

Test(forest, markers_without_attributes_keep_nobody_from_learning_that_others_have_none)
{
    struct room_config config = walks_config(false);
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    char key[64];
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 200, 3);
    for (int i = 0; i < 200; i += 2) {
        snprintf(key, sizeof key, "p/d%03d/", i);
        tree_put(&room, key, "", "mode=16832", NULL);
    }
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    cr_assert_eq(walks_lists(&room), 3, "its own, and two for what is below: %zu", walks_lists(&room));
    cr_assert_eq(walks_heads(&room), 100, "%zu", walks_heads(&room));
    clock_fake_end();
}

/* ---- What it tells. ---- */

Test(forest, names_are_what_LISTs_of_their_own_would_make_of_them)
{
    for (int meta = 0; meta < 2; meta++) {
        struct room_config config = walks_config(meta);
        ROOM_SCOPED(room, &config);
        struct attributes attributes;
        clock_fake_begin(INT64_C(1700000000000000000));
        walks_plant(&room, 8, 2);
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
        size_t before = walks_lists(&room);
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
        cr_assert_eq(walks_lists(&room), before);
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
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 20, 2);
    assert_walk(&room, 0, 10, "f0 f1 ");
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
    struct room_config config = walks_config(true);
    config.attr_ttl_ms = 10000;
    config.negative_ttl_ms = 1000;
    ROOM_SCOPED(room, &config);
    struct entry entry;
    char path[32];
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 20, 2);
    assert_walk(&room, 0, 10, "f0 f1 ");
    clock_fake_advance(1200);
    tree_put(&room, "p/d015/new", "x", NULL);
    cr_assert_eq(tree_lookup(&room, "d015/new", &entry), 0);
    inode_unref(entry.inode);
    size_t before = walks_heads(&room);
    for (int i = 0; i < 20; i++) {
        snprintf(path, sizeof path, "d015/none%d", i);
        cr_assert_eq(tree_lookup(&room, path, &entry), -ENOENT);
    }
    cr_assert_eq(walks_heads(&room), before, "a listing tells of them: %zu", walks_heads(&room) - before);
    clock_fake_end();
}

Test(forest, refresh_forgets_it)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 20, 2);
    assert_walk(&room, 0, 10, "f0 f1 ");
    tree_put(&room, "p/d015/new", "x", NULL);
    assert_directory(&room, 14, "f0 f1 ");
    cache_refresh(room.cache, "d015");
    assert_directory(&room, 15, "f0 f1 new ");
    clock_fake_end();
}

Test(forest, it_is_known_after_a_remount)
{
    struct room_config config = walks_config(true);
    config.boot = "boot";
    config.catalog = true;
    ROOM_SCOPED(room, &config);
    walks_plant(&room, 50, 2);
    assert_walk(&room, 0, 50, "f0 f1 ");
    room_close_cache(&room);
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG});
    assert_walk(&room, 0, 50, "f0 f1 ");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
}

Test(forest, a_failed_LIST_leaves_the_directory_to_its_own)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 40, 2);
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
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 20, 1);
    assert_walk(&room, 0, 1, "f0 "); /* all of them are known */
    cr_assert_eq(tree_open(&room, "d007/f0", O_RDONLY, &handle), 0);
    memory_store_remove(room.bucket, "p/d007/f0");
    memory_store_remove(room.bucket, "p/d008/f0");
    memory_store_remove(room.bucket, "p/d009/f0");
    clock_fake_advance(600);
    assert_directory(&room, 1, "f0 ");
    size_t before = walks_lists(&room);
    tree_put(&room, "p/d009/new", "x", NULL); /* as if it had stood elsewhere in the order of that server */
    assert_directory(&room, 9, "new ");
    assert_directory(&room, 8, "");
    assert_directory(&room, 7, "");
    for (int i = 10; i < 20; i++)
        assert_directory(&room, i, "f0 ");
    cr_assert_eq(walks_lists(&room) - before, 3, "no more than these: %zu", walks_lists(&room) - before);
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
    struct room_config config = walks_config(true);
    config.attr_ttl_ms = 10000;
    config.negative_ttl_ms = 1000; /* no more is listed again than has to be */
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 20, 2);
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
    size_t before = walks_lists(&room);
    assert_directory(&room, 5, "f0 f1 ");
    assert_directory(&room, 6, "f1 ");
    assert_directory(&room, 7, "f0@ f1 ");
    assert_directory(&room, 8, "f0/ f1 ");
    cr_assert_eq(walks_lists(&room), before);
    assert_looks(&room, "d005", 0, 16877);
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
    struct room_config config = walks_config(true);
    config.bucket.page_max = 50;
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 100, 5);
    assert_walk(&room, 0, 100, "f0 f1 f2 f3 f4 ");
    size_t before = in_demand(&room);
    clock_fake_advance(60000);
    assert_walk(&room, 0, 2, "f0 f1 f2 f3 f4 ");
    cr_assert_gt(in_demand(&room), 0);
    cr_assert_leq(in_demand(&room), before * 3 / FOREST_SWATHS, "%zu of %zu", in_demand(&room), before);
    clock_fake_end();
}

Test(forest, memory_that_others_wait_for_is_given_back)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct memory_report report;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 50, 5);
    assert_walk(&room, 0, 5, "f0 f1 f2 f3 f4 ");
    memory_report(room.memory, &report);
    cr_assert_gt(report.shares[SHARE_DEMAND], 0);
    size_t bytes = report.limit - report.used + report.shares[SHARE_DEMAND];
    cr_assert_eq(memory_take(room.memory, bytes, SHARE_UPLOAD, &room.waiter, clock_ms()), 0);
    memory_give(room.memory, bytes, SHARE_UPLOAD);
    assert_walk(&room, 5, 50, "f0 f1 f2 f3 f4 ");
    clock_fake_end();
}

Test(forest, it_has_room_where_clean_blocks_take_all_the_memory)
{
    struct room_config config = walks_config(true);
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
    cr_assert_leq(walks_lists(&room), 8, "%zu", walks_lists(&room));
    memory_give(room.memory, rest, SHARE_UPLOAD);
    cr_assert_eq(room_close(&room, handle), 0);
    clock_fake_end();
}

/* ---- Whom it keeps waiting. ---- */

Test(forest, several_who_walk_at_once_all_see_what_is_there)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct walker walkers[8];
    BUF_SCOPED list = BUF_INIT;
    walks_plant(&room, 400, 3);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    for (int i = 0; i < 8; i++)
        walker_start(&walkers[i], &room, i * 50, i * 50 + 50);
    for (int i = 0; i < 8; i++) {
        pthread_join(walkers[i].thread, NULL);
        cr_assert(walkers[i].right);
    }
    cr_assert_leq(walks_lists(&room), 200, "%zu", walks_lists(&room));
}

Test(forest, one_that_the_server_is_silent_to_costs_its_own_patience_and_no_error)
{
    struct room_config config = walks_config(true);
    config.attr_ttl_ms = 60000;
    ROOM_SCOPED(room, &config);
    struct walker walker;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 3);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    clock_fake_advance(40000); /* what was asked for is of no use any more, and nobody has to be looked up */
    assert_directory(&room, 0, "f0 f1 f2 ");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST, .key = "p/"});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST, .key = "p/d001/"});
    walker_start(&walker, &room, 1, 2);
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

/* For what another one has asked for. */
static bool somebody_waits(void *context)
{
    struct names *names = &((struct room *)context)->cache->names;
    LOCK_SCOPED(&names->lock);
    return !list_empty(&names->turn.waiters);
}

Test(forest, nobody_waits_for_those_that_asked_later)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct walker first, waiting, later;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 3);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    assert_directory(&room, 0, "f0 f1 f2 ");
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST, .key = "p/", .times = 1});
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_DELAY, .op = STORE_LIST, .key = "p/", .delay_ms = 500});
    walker_start(&first, &room, 10, 11);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 1));
    walker_start(&waiting, &room, 20, 21);
    cr_assert(room_await(somebody_waits, &room));
    walker_start(&later, &room, 5, 6); /* from there on: of the 20th, too */
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 2));
    memory_store_unhang(room.bucket, STORE_LIST, "p/");
    cr_assert(room_await(walker_is_done, &first));
    cr_assert(room_await(walker_is_done, &waiting));
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
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct walker walker;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 20, 3);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    clock_fake_advance(600);
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_DELAY, .op = STORE_LIST, .key = "p/", .times = 1, .delay_ms = 900});
    if (!told)
        memory_store_fault(
            room.bucket,
            &(struct fault){.kind = FAULT_FAIL, .op = STORE_LIST, .key = "p/", .times = 1, .rc = -EACCES});
    walker_start(&walker, &room, 1, 2);
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
