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
#include "cache/lookup.h"
#include "tests/support/tree.h"

#define LOOKERS 200

static size_t count_asked(struct room *room)
{
    return memory_store_logged(room->bucket, STORE_HEAD, NULL) +
           memory_store_logged(room->bucket, STORE_LIST, NULL);
}

Test(lookup, files_directories_and_symlinks_are_told_apart)
{
    ROOM_SCOPED(room, NULL);
    struct attributes attributes;
    tree_put(&room, "p/f", "12345", "mode=33152", "mtime=1700000000.25", NULL);
    tree_put(&room, "p/l", "there", "mode=41471", NULL);
    tree_put(&room, "p/marked/", "", "mode=16832", NULL);
    memory_store_put_text(room.bucket, "p/implied/x", "x");
    cr_assert_eq(tree_stat(&room, "f", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFREG | 0600);
    cr_assert_eq(attributes.size, 5);
    cr_assert_eq(attributes.mtime_ns, INT64_C(1700000000250000000));
    cr_assert_eq(tree_stat(&room, "l", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFLNK | 0777);
    cr_assert_eq(tree_stat(&room, "marked", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFDIR | 0700);
    cr_assert_eq(tree_stat(&room, "implied", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFDIR | 0755);
}

Test(lookup, a_directory_hides_a_file_of_its_name_and_it_is_counted)
{
    ROOM_SCOPED(room, NULL);
    struct attributes attributes;
    memory_store_put_text(room.bucket, "p/a", "file");
    memory_store_put_text(room.bucket, "p/a/x", "x");
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert(S_ISDIR(attributes.mode));
    cr_assert_gt(room.cache->names.hidden, 0);
    cr_assert_str_eq(room.cache->names.hidden_example, "p/a");
}

Test(lookup, what_was_confirmed_within_attr_ttl_costs_no_request)
{
    ROOM_SCOPED(room, NULL);
    struct entry entry;
    clock_fake_begin(INT64_C(1700000000000000000));
    memory_store_put_text(room.bucket, "p/f", "x");
    cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
    inode_unref(entry.inode);
    cr_assert_eq(tree_lookup(&room, "none", &entry), -ENOENT);
    cr_assert_gt(entry.valid_ms, 0);
    size_t asked = count_asked(&room);
    cr_assert_eq(cache_lookup(room.cache, NULL, room.root, "f", &entry), 0);
    inode_unref(entry.inode);
    cr_assert_eq(cache_lookup(room.cache, NULL, room.root, "none", &entry), -ENOENT);
    cr_assert_eq(count_asked(&room), asked);
    clock_fake_advance(1001);
    cr_assert_eq(cache_lookup(room.cache, NULL, room.root, "f", &entry), -EAGAIN);
    cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
    inode_unref(entry.inode);
    cr_assert_eq(count_asked(&room), asked + 1, "a known file costs one HEAD");
    clock_fake_end();
}

/* By a question for the name, and by a whole listing. */
Test(lookup, that_a_name_is_not_there_is_believed_for_negative_ttl)
{
    static const int64_t ttls[][2] = {{60000, 1000}, {1000, 60000}}; /* attr_ttl, negative_ttl */
    for (int row = 0; row < 2; row++) {
        ROOM_SCOPED(room,
                    &((struct room_config){.attr_ttl_ms = ttls[row][0], .negative_ttl_ms = ttls[row][1]}));
        struct entry entry;
        BUF_SCOPED listed = BUF_INIT;
        clock_fake_begin(INT64_C(1700000000000000000));
        memory_store_put_text(room.bucket, "p/f", "x");
        memory_store_put_text(room.bucket, "p/d/f", "x");
        cr_assert_eq(tree_lookup(&room, "none", &entry), -ENOENT);
        cr_assert_leq(entry.valid_ms, ttls[row][1]);
        cr_assert_eq(tree_list(&room, "d", false, &listed), 0);
        cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
        inode_unref(entry.inode);
        struct entry directory;
        cr_assert_eq(tree_lookup(&room, "d", &directory), 0);
        clock_fake_advance(30000);
        int known = row ? -ENOENT : -EAGAIN;
        cr_expect_eq(cache_lookup(room.cache, NULL, room.root, "none", &entry), known);
        cr_expect_eq(cache_lookup(room.cache, NULL, directory.inode, "none", &entry), known);
        int rc = cache_lookup(room.cache, NULL, room.root, "f", &entry);
        cr_expect_eq(rc, row ? -EAGAIN : 0);
        inode_unref(rc == 0 ? entry.inode : NULL);
        inode_unref(directory.inode);
        clock_fake_end();
    }
}

Test(lookup, a_foreign_change_is_seen_after_attr_ttl_in_the_same_node)
{
    ROOM_SCOPED(room, NULL);
    struct entry before, after;
    clock_fake_begin(INT64_C(1700000000000000000));
    memory_store_put_text(room.bucket, "p/f", "x");
    cr_assert_eq(tree_lookup(&room, "f", &before), 0);
    memory_store_put_text(room.bucket, "p/f", "longer");
    clock_fake_advance(1001);
    cr_assert_eq(tree_lookup(&room, "f", &after), 0);
    cr_assert_eq(after.attributes.size, 6);
    cr_assert_eq(after.id, before.id);
    inode_unref(before.inode);
    inode_unref(after.inode);
    clock_fake_end();
}

Test(lookup, a_foreign_change_of_an_open_file_is_a_new_node_of_the_same_number)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct entry after;
    struct attributes attributes;
    int64_t valid_ms;
    clock_fake_begin(INT64_C(1700000000000000000));
    memory_store_put_text(room.bucket, "p/f", "x");
    cr_assert_eq(tree_open(&room, "f", O_RDONLY, &handle), 0);
    uint64_t id = inode_id(room_inode(handle));
    memory_store_put_text(room.bucket, "p/f", "longer");
    clock_fake_advance(1001);
    cr_assert_eq(names_revalidate(room_inode(handle), &room.waiter), -ESTALE);
    cr_assert_eq(tree_lookup(&room, "f", &after), 0);
    cr_assert_neq(after.id, id);
    cr_assert_eq(after.attributes.number, room_inode(handle)->number);
    cr_assert_eq(after.attributes.size, 6);
    cr_assert_eq(cache_attributes(room.cache, &room.waiter, room_inode(handle), &attributes, &valid_ms), 0);
    cr_assert_eq(attributes.size, 1, "the open one stays what it was");
    inode_unref(after.inode);
    cache_release(room.cache, handle);
    clock_fake_end();
    cr_assert(memory_store_has(room.bucket, "p/f"));
}

Test(lookup, a_file_that_became_a_directory_is_a_new_node)
{
    ROOM_SCOPED(room, NULL);
    struct entry before, after;
    clock_fake_begin(INT64_C(1700000000000000000));
    memory_store_put_text(room.bucket, "p/f", "x");
    cr_assert_eq(tree_lookup(&room, "f", &before), 0);
    memory_store_remove(room.bucket, "p/f");
    memory_store_put_text(room.bucket, "p/f/x", "x");
    clock_fake_advance(1001);
    cr_assert_eq(tree_lookup(&room, "f", &after), 0);
    cr_assert(S_ISDIR(after.attributes.mode));
    cr_assert_neq(after.id, before.id);
    cr_assert_eq(before.inode->type, S_IFREG);
    inode_unref(before.inode);
    inode_unref(after.inode);
    clock_fake_end();
}

Test(lookup, what_is_unsent_is_the_truth_whatever_the_server_says)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes attributes;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    cr_assert_eq(room_create(&room, "f", &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "12", 2, 0), 0);
    clock_fake_advance(5000);
    cr_assert_eq(tree_stat(&room, "f", &attributes), 0);
    cr_assert_eq(attributes.size, 2);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    cr_assert_str_eq(list.bytes, "f ");
    clock_fake_end();
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(lookup, after_a_few_misses_one_listing_answers_for_the_directory)
{
    ROOM_SCOPED(room, NULL);
    struct entry entry;
    char name[16];
    clock_fake_begin(INT64_C(1700000000000000000));
    memory_store_put_text(room.bucket, "p/there", "x");
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof name, "no%d", i);
        cr_assert_eq(tree_lookup(&room, name, &entry), -ENOENT);
    }
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), LOOKUP_MISSES);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, "p/"), 1);
    memory_store_put_text(room.bucket, "p/no49", "x");
    clock_fake_advance(1001);
    cr_assert_eq(tree_lookup(&room, "no49", &entry), 0, "believed for attr_ttl only");
    inode_unref(entry.inode);
    clock_fake_end();
}

Test(lookup, markers_listed_with_their_metadata_need_no_HEAD)
{
    ROOM_SCOPED(room, &(struct room_config){.bucket = {.list_meta = true}});
    struct attributes attributes;
    tree_put(&room, "p/d/", "", "mode=16832", NULL);
    cr_assert_eq(tree_stat(&room, "d", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFDIR | 0700);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, "p/d/"), 0);
}

Test(lookup, an_error_is_no_absence)
{
    ROOM_SCOPED(room, NULL);
    struct entry entry;
    memory_store_put_text(room.bucket, "p/f", "x");
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .times = 1, .rc = -EACCES});
    cr_assert_eq(tree_lookup(&room, "f", &entry), -EACCES);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_LIST, .times = 1, .rc = -ETIMEDOUT});
    cr_assert_eq(tree_lookup(&room, "f", &entry), -EIO);
    cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
    inode_unref(entry.inode);
}

/* ---- Many at once. ---- */

struct looker {
    pthread_t thread;
    struct room *room;
    struct waiter waiter;
    struct entry entry;
    int rc;
};

static void *look(void *context)
{
    struct looker *looker = context;
    looker->rc = cache_lookup(looker->room->cache, &looker->waiter, looker->room->root, "f", &looker->entry);
    return NULL;
}

static struct looker *start_lookers(struct room *room)
{
    struct looker *lookers = calloc(LOOKERS, sizeof *lookers);
    for (int i = 0; i < LOOKERS; i++) {
        lookers[i].room = room;
        waiter_init(&lookers[i].waiter);
        pthread_create(&lookers[i].thread, NULL, look, &lookers[i]);
    }
    return lookers;
}

Test(lookup, two_hundred_lookups_of_one_name_are_one_request)
{
    ROOM_SCOPED(room, &(struct room_config){.attr_ttl_ms = 60000});
    memory_store_put_text(room.bucket, "p/f", "x");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .times = 1, .op = STORE_HEAD});
    struct looker *lookers = start_lookers(&room);
    cr_assert(memory_store_await(room.bucket, STORE_HEAD, "p/f", 1));
    memory_store_unhang(room.bucket, 0, NULL);
    for (int i = 0; i < LOOKERS; i++) {
        pthread_join(lookers[i].thread, NULL);
        cr_assert_eq(lookers[i].rc, 0);
        cr_assert_eq(lookers[i].entry.id, lookers[0].entry.id);
        inode_unref(lookers[i].entry.inode);
        waiter_release(&lookers[i].waiter);
    }
    free(lookers);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, "p/f"), 1);
}

static bool all_joined(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    const struct asking *asking = asking_find_lookup_locked(&room->cache->names, room->root, "f");
    return asking && asking->references == LOOKERS;
}

Test(lookup, a_server_that_does_not_answer_is_not_asked_again_by_each_of_them)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    ROOM_SCOPED(room, NULL);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG});
    struct looker *lookers = start_lookers(&room);
    cr_assert(room_await(all_joined, &room));
    clock_fake_advance(60001);
    for (int i = 0; i < LOOKERS; i++) {
        pthread_join(lookers[i].thread, NULL);
        cr_assert_eq(lookers[i].rc, -EIO);
        waiter_release(&lookers[i].waiter);
    }
    free(lookers);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, "p/f"), 1);
    clock_fake_end();
}

Test(lookup, all_end_when_interrupted_and_the_first_one_takes_nobody_along)
{
    ROOM_SCOPED(room, NULL);
    memory_store_put_text(room.bucket, "p/f", "x");
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_HEAD});
    struct looker *lookers = start_lookers(&room);
    cr_assert(memory_store_await(room.bucket, STORE_HEAD, "p/f", 1));
    for (int i = 0; i < LOOKERS; i++)
        if (i % 2)
            waiter_interrupt(&lookers[i].waiter);
    for (int i = 1; i < LOOKERS; i += 2) {
        pthread_join(lookers[i].thread, NULL);
        cr_assert_eq(lookers[i].rc, -EINTR);
    }
    memory_store_fault_end(room.bucket, fault);
    memory_store_unhang(room.bucket, 0, NULL);
    for (int i = 0; i < LOOKERS; i++) {
        if (i % 2 == 0) {
            pthread_join(lookers[i].thread, NULL);
            cr_assert_eq(lookers[i].rc, 0);
            inode_unref(lookers[i].entry.inode);
        }
        waiter_release(&lookers[i].waiter);
    }
    free(lookers);
}

/* The kernel may hold the old node for a while: what it opens then must not take bytes that go nowhere. */
Test(lookup, a_node_that_a_foreign_version_replaced_is_not_opened_again)
{
    struct room_config config = {.attr_ttl_ms = 1};
    ROOM_SCOPED(room, &config);
    struct handle *reader, *other = NULL;
    struct entry entry;
    struct opened opened;
    struct attributes wanted = {.size = 0}, got;
    tree_put(&room, "p/f", "old", NULL);
    cr_assert_eq(tree_open(&room, "f", O_RDONLY, &reader), 0);
    struct inode *old = room_inode(reader);
    memory_store_put_text(room.bucket, "p/f", "foreign");
    while (tree_lookup(&room, "f", &entry) == 0 && entry.inode == old)
        inode_unref(entry.inode);
    inode_unref(entry.inode);
    cr_assert_eq(cache_open(room.cache, &room.waiter, old, O_WRONLY | O_TRUNC, ROOM_PROCESS, &other, &opened),
                 -ESTALE);
    cr_assert_eq(cache_open(room.cache, &room.waiter, old, O_RDONLY, ROOM_PROCESS, &other, &opened), -ESTALE);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, old, NULL, SET_SIZE, &wanted, &got), -ESTALE);
    cr_assert_eq(cache_attributes(room.cache, &room.waiter, old, &got, &entry.valid_ms), 0);
    cr_assert(tree_holds(&room, "p/f", "foreign"));
    cache_release(room.cache, reader);
}

/* ---- A directory that becomes a file while somebody works in it. ---- */

struct work {
    pthread_t thread;
    struct room *room;
    struct inode *directory;
    struct entry entry;
    int rc;
};

static void *look_up_x(void *context)
{
    struct work *work = context;
    WAITER_SCOPED(waiter);
    work->rc = cache_lookup(work->room->cache, &waiter, work->directory, "x", &work->entry);
    return NULL;
}

static void *make_x(void *context)
{
    struct work *work = context;
    struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
    WAITER_SCOPED(waiter);
    work->rc = cache_mkdir(work->room->cache, &waiter, work->directory, "x", &maker, &work->entry);
    return NULL;
}

/* The work's call about `key` hangs; meanwhile "d" is a file on the server, and is looked at. */
static void replace_d_under(struct room *room, struct work *work, void *(*run)(void *), enum store_op op,
                            const char *key)
{
    struct entry entry;
    struct attributes attributes;
    memory_store_put_text(room->bucket, "p/d/y", "y");
    cr_assert_eq(tree_lookup(room, "d", &entry), 0);
    *work = (struct work){.room = room, .directory = entry.inode};
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = op, .key = key});
    pthread_create(&work->thread, NULL, run, work);
    cr_assert(memory_store_await(room->bucket, op, key, 1));
    memory_store_remove(room->bucket, key);
    memory_store_remove(room->bucket, "p/d/y");
    memory_store_put_text(room->bucket, "p/d", "a file now");
    clock_fake_advance(1001);
    cr_assert_eq(tree_stat(room, "d", &attributes), 0);
    cr_assert(S_ISDIR(attributes.mode), "somebody works in it");
    memory_store_faults_end(room->bucket);
    memory_store_unhang(room->bucket, 0, NULL);
    pthread_join(work->thread, NULL);
}

Test(lookup, a_directory_stays_one_while_a_name_in_it_is_looked_up)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    ROOM_SCOPED(room, NULL);
    struct work work;
    struct attributes attributes;
    memory_store_put_text(room.bucket, "p/d/x", "x");
    replace_d_under(&room, &work, look_up_x, STORE_HEAD, "p/d/x");
    if (work.rc == 0)
        inode_unref(work.entry.inode);
    inode_unref(work.directory);
    clock_fake_advance(1001);
    cr_assert_eq(tree_stat(&room, "d", &attributes), 0);
    cr_assert(S_ISREG(attributes.mode));
    clock_fake_end();
}

Test(lookup, what_was_made_in_a_directory_that_is_gone_meanwhile_has_no_other_key)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    ROOM_SCOPED(room, NULL);
    struct work work;
    BUF_SCOPED key = BUF_INIT;
    replace_d_under(&room, &work, make_x, STORE_PUT, "p/d/x/");
    cr_assert_eq(work.rc, 0);
    cr_assert_eq(names_key(work.entry.inode, &key), 0);
    cr_assert_str_eq(key.bytes, "p/d/x/");
    inode_unref(work.entry.inode);
    inode_unref(work.directory);
    clock_fake_end();
}

/* ---- Directories. ---- */

static bool take_all(void *context, struct listed *listed)
{
    (void)context;
    inode_unref(listed->entry.inode);
    return true;
}

static void assert_own_listing(struct room *room, struct inode *directory)
{
    struct listing *listing;
    cr_assert_eq(cache_list_open(room->cache, directory, &listing), 0);
    cr_assert_eq(cache_list(room->cache, &room->waiter, listing, 0, false, take_all, NULL), 0);
    cache_list_release(listing);
}

/* A LIST of the parent tells that a directory is there, and nothing of its marker. */
Test(lookup, a_foreign_change_of_a_marker_is_seen_though_the_parent_is_listed_again_and_again)
{
    for (int way = 0; way < 8; way++) {
        ROOM_SCOPED(room, &(struct room_config){.bucket = {.list_meta = way & 1}});
        struct attributes attributes;
        clock_fake_begin(INT64_C(1700000000000000000));
        tree_put(&room, "p/a/", "", "mode=16832", NULL);
        tree_put(&room, "p/a/x", "x", NULL);
        for (int i = 0; i < 4; i++) {
            BUF_SCOPED listed = BUF_INIT;
            cr_assert_eq(tree_list(&room, "", way & 2, &listed), 0);
            cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
            cr_assert_eq(attributes.mode, i ? 16877 : 16832, "way %d, after %d s", way, i);
            if (way & 4)
                cr_assert_eq(tree_list(&room, "a", true, &listed), 0);
            clock_fake_advance(1001);
            if (i == 0)
                tree_put(&room, "p/a/", "", "mode=16877", NULL);
        }
        clock_fake_end();
    }
}

/* Its own listing tells of its marker, too: without metadata by its version, or that there is none. */
Test(lookup, who_works_in_a_directory_is_not_asked_for_its_marker_besides)
{
    for (int way = 0; way < 4; way++) {
        ROOM_SCOPED(room, &(struct room_config){.bucket = {.list_meta = way & 1}});
        struct attributes attributes;
        clock_fake_begin(INT64_C(1700000000000000000));
        if (way & 2)
            tree_put(&room, "p/a/", "", "mode=16832", NULL);
        tree_put(&room, "p/a/x", "x", "mode=33152", NULL);
        cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
        for (int i = 0; i < 4; i++) {
            BUF_SCOPED listed = BUF_INIT;
            struct entry entry;
            cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
            clock_fake_advance(700);
            assert_own_listing(&room, entry.inode);
            inode_unref(entry.inode);
            clock_fake_advance(302);
            cr_assert_eq(tree_list(&room, "", false, &listed), 0);
            memory_store_log_clear(room.bucket);
            cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
            cr_assert_eq(attributes.mode, way & 2 ? 16832 : S_IFDIR | 0755);
            cr_assert_eq(count_asked(&room), 0, "way %d, round %d", way, i);
        }
        clock_fake_end();
    }
}
