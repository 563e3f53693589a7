#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/core.h"
#include "cache/rename.h"
#include "tests/support/tree.h"

/* ---- Files. ---- */

Test(rename, a_file_has_its_new_name_its_number_and_its_attributes)
{
    ROOM_SCOPED(room, NULL);
    struct attributes before, after;
    struct entry entry;
    tree_put(&room, "p/a", "one", "mode=33152", "uid=7", "mtime=1700000000.5", "colour=blue", NULL);
    cr_assert_eq(tree_stat(&room, "a", &before), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
    cr_assert_eq(tree_stat(&room, "b", &after), 0);
    cr_assert_eq(before.number, after.number);
    cr_assert_eq(after.mode, S_IFREG | 0600);
    cr_assert_eq(after.mtime_ns, INT64_C(1700000000500000000));
    cr_assert(tree_holds(&room, "p/b", "one"));
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/b", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    store_object_release(&object);
    assert_keys(&room, "p/b ");
}

Test(rename, a_new_file_under_the_old_name_has_a_number_of_its_own)
{
    ROOM_SCOPED(room, NULL);
    struct attributes moved, fresh;
    cr_assert_eq(tree_write(&room, "log", "1"), 0);
    cr_assert_eq(tree_rename(&room, "log", "log.1", 0), 0);
    cr_assert_eq(tree_write(&room, "log", "2"), 0);
    cr_assert_eq(tree_stat(&room, "log.1", &moved), 0);
    cr_assert_eq(tree_stat(&room, "log", &fresh), 0);
    cr_assert_neq(moved.number, fresh.number);
    cr_assert(tree_holds(&room, "p/log", "2") && tree_holds(&room, "p/log.1", "1"));
}

Test(rename, the_rules_of_rename_2)
{
    ROOM_SCOPED(room, NULL);
    cr_assert_eq(tree_write(&room, "f", "f"), 0);
    cr_assert_eq(tree_write(&room, "g", "g"), 0);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_mkdir(&room, "e"), 0);
    cr_assert_eq(tree_mkdir(&room, "full"), 0);
    cr_assert_eq(tree_write(&room, "full/x", "x"), 0);
    cr_assert_eq(tree_rename(&room, "f", "f", 0), 0);
    cr_assert_eq(tree_rename(&room, "none", "f", 0), -ENOENT);
    cr_assert_eq(tree_rename(&room, "f", "g", RENAME_NOREPLACE), -EEXIST);
    cr_assert_eq(tree_rename(&room, "f", "d", 0), -EISDIR);
    cr_assert_eq(tree_rename(&room, "d", "f", 0), -ENOTDIR);
    cr_assert_eq(tree_rename(&room, "d", "d/sub", 0), -EINVAL);
    cr_assert_eq(tree_rename(&room, "d", "full", 0), -ENOTEMPTY);
    cr_assert_eq(tree_rename(&room, "f", "g", RENAME_EXCHANGE), -EINVAL);
    cr_assert_eq(tree_rename(&room, "full/x", "full", 0), -ENOTEMPTY);
    assert_keys(&room, "p/d/ p/e/ p/f p/full/ p/full/x p/g ");
    cr_assert_eq(tree_rename(&room, "full", "e", 0), 0, "onto an empty directory");
    cr_assert_eq(tree_rename(&room, "f", "g", 0), 0);
    assert_keys(&room, "p/d/ p/e/ p/e/x p/g ");
    cr_assert(tree_holds(&room, "p/g", "f"));
}

Test(rename, noreplace_asks_the_server_of_this_moment)
{
    ROOM_SCOPED(room, NULL);
    struct entry entry;
    cr_assert_eq(tree_write(&room, "a", "ours"), 0);
    cr_assert_eq(tree_lookup(&room, "b", &entry), -ENOENT);
    memory_store_put_text(room.bucket, "p/b", "foreign");
    cr_assert_eq(tree_rename(&room, "a", "b", RENAME_NOREPLACE), -EEXIST);
    cr_assert(tree_holds(&room, "p/b", "foreign"));
}

Test(rename, a_file_that_nobody_sent_yet_goes_up_under_its_new_name_only)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/b", "old");
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "new", 3, 0), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert(tree_holds(&room, "p/b", "old"), "until the data come");
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(tree_holds(&room, "p/b", "new"));
    assert_keys(&room, "p/b ");
}

Test(rename, a_never_sent_file_that_replaced_an_object_takes_it_along_when_it_goes)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/b", "old");
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_unlink(&room, "b"), 0);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    assert_keys(&room, "");
}

Test(rename, unsent_changes_follow_their_file)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(tree_write(&room, "a", "old"), 0);
    cr_assert_eq(tree_open(&room, "a", O_RDWR | O_TRUNC, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "newer", 5, 0), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_keys(&room, "p/b ");
    cr_assert(tree_holds(&room, "p/b", "old"));
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(tree_holds(&room, "p/b", "newer"));
    assert_keys(&room, "p/b ");
}

struct strikes {
    struct room *room;
    int fault;
};

static bool struck_twice(void *context)
{
    struct strikes *strikes = context;
    return memory_store_fault_struck(strikes->room->bucket, strikes->fault) >= 2;
}

/* Its PUT happened, but neither the reply nor the HEADs behind it, of the close and of the next try, said so. */
static void write_in_doubt(struct room *room, const char *path, const char *key)
{
    struct fault heads = {.kind = FAULT_FAIL, .op = STORE_HEAD, .key = key, .skip = 1 /* the lookup's */};
    struct strikes strikes = {room, memory_store_fault(room->bucket, &heads)};
    memory_store_fault(room->bucket,
                       &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .key = key, .times = 1});
    cr_assert_eq(tree_write(room, path, "new"), -EIO);
    cr_assert(room_await(struck_twice, &strikes));
    memory_store_fault_end(room->bucket, strikes.fault);
    cr_assert(tree_holds(room, key, "new"));
}

Test(rename, an_object_whose_put_nobody_confirmed_moves_along)
{
    static const char *const rows[][3] = {{"a/f", "a/g", "p/a/g p/a/x "}, {"a", "b", "p/b/f p/b/x "}};
    for (int i = 0; i < 2; i++) {
        ROOM_SCOPED(room, NULL);
        size_t unsent;
        memory_store_put_text(room.bucket, "p/a/x", "x");
        write_in_doubt(&room, "a/f", "p/a/f");
        cr_assert_eq(tree_rename(&room, rows[i][0], rows[i][1], 0), 0);
        cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 5000, &unsent), 0);
        assert_keys(&room, rows[i][2]);
    }
}

Test(rename, an_object_whose_put_nobody_confirmed_goes_with_who_replaced_it)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    write_in_doubt(&room, "b", "p/b");
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(tree_unlink(&room, "b"), 0, "before it was sent");
    cache_release(room.cache, handle);
    room_close_cache(&room);
    assert_keys(&room, "");
}

/* It was opened, `text` written into it at 0, and another client replaced it meanwhile. */
static void make_conflict(struct room *room, const char *path, const char *text)
{
    STRING_SCOPED *key = xprintf("p/%s", path);
    struct handle *handle;
    memory_store_put_text(room->bucket, key, "0123456789");
    cr_assert_eq(tree_open(room, path, O_RDWR, &handle), 0);
    cr_assert_eq(cache_write(room->cache, &room->waiter, handle, text, strlen(text), 0), 0);
    memory_store_put_text(room->bucket, key, "foreign");
    cr_assert_eq(room_close(room, handle), -ESTALE);
}

Test(rename, a_file_with_a_conflict_goes_up_under_its_new_name_and_theirs_keeps_the_old_one)
{
    for (int taken = 0; taken < 2; taken++) {
        ROOM_SCOPED(room, NULL);
        struct attributes attributes;
        size_t unsent;
        BUF_SCOPED path = BUF_INIT, key = BUF_INIT;
        for (int i = 0; i < 4; i++) /* so long that no conflict copy finds room beside it */
            buf_printf(&path, "%0*d/", i < 3 ? 255 : 240, i);
        buf_add_string(&path, "a");
        buf_printf(&key, "p/%s", path.bytes);
        if (taken)
            memory_store_put_text(room.bucket, "p/b", "old");
        make_conflict(&room, path.bytes, "abcdefghij");
        cr_assert_eq(tree_rename(&room, path.bytes, "b", 0), 0);
        cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 5000, &unsent), 0);
        cr_assert(tree_holds(&room, "p/b", "abcdefghij"));
        cr_assert(tree_holds(&room, key.bytes, "foreign"));
        cr_assert_eq(tree_stat(&room, path.bytes, &attributes), 0);
        cr_assert_eq(attributes.size, 7);
    }
}

Test(rename, a_conflict_that_lacks_bytes_of_its_base_keeps_its_name)
{
    ROOM_SCOPED(room, NULL);
    struct attributes attributes;
    make_conflict(&room, "a", "ab");
    cr_assert_eq(tree_rename(&room, "a", "b", 0), -ESTALE);
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 10);
    assert_keys(&room, "p/a ");
    cr_assert_eq(tree_unlink(&room, "a"), 0);
}

Test(rename, an_empty_object_of_an_exclusive_create_replaces_nothing_before_the_bytes_come)
{
    ROOM_SCOPED(room, NULL);
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct handle *handle;
    struct entry entry;
    memory_store_put_text(room.bucket, "p/b", "old");
    cr_assert_eq(
        cache_create(room.cache, &room.waiter, room.root, "a", O_RDWR | O_EXCL, &maker, &entry, &handle), 0);
    inode_unref(entry.inode);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "new", 3, 0), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert(tree_holds(&room, "p/b", "old"));
    assert_keys(&room, "p/b ");
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(tree_holds(&room, "p/b", "new"));
}

Test(rename, the_last_child_that_moves_away_leaves_a_marker_behind)
{
    ROOM_SCOPED(room, NULL);
    memory_store_put_text(room.bucket, "p/a/x", "x");
    cr_assert_eq(tree_rename(&room, "a/x", "x", 0), 0);
    assert_keys(&room, "p/a/ p/x ");
}

Test(rename, at_every_failure_one_of_the_names_holds_the_whole_file)
{
    for (uint64_t n = 1;; n++) {
        ROOM_SCOPED(room, NULL);
        cr_assert_eq(tree_write(&room, "a", "new"), 0);
        cr_assert_eq(tree_write(&room, "b", "old"), 0);
        int rung = memory_store_fail_nth(room.bucket, n, -EIO);
        int rc = tree_rename(&room, "a", "b", 0);
        bool struck = memory_store_fault_struck(room.bucket, rung);
        memory_store_faults_end(room.bucket);
        BUF_SCOPED a = BUF_INIT;
        BUF_SCOPED b = BUF_INIT;
        memory_store_peek(room.bucket, "p/a", NULL, &a);
        memory_store_peek(room.bucket, "p/b", NULL, &b);
        cr_assert(strcmp(a.bytes, "new") == 0 || strcmp(b.bytes, "new") == 0, "rung %d", (int)n);
        if (rc == 0)
            cr_assert_str_eq(b.bytes, "new");
        if (!struck) {
            cr_assert_eq(rc, 0);
            break;
        }
    }
}

/* ---- Directories. ---- */

static void fill_directory(struct room *room)
{
    tree_put(room, "p/a/", "", "mode=16877", NULL);
    cr_assert_eq(tree_mkdir(room, "a/sub"), 0);
    cr_assert_eq(tree_write(room, "a/1", "one"), 0);
    cr_assert_eq(tree_write(room, "a/sub/2", "two"), 0);
    tree_put(room, "p/a/3", "three", "mode=33261", "colour=red", NULL);
    memory_store_put_text(room->bucket, "p/a//hidden", "hidden");
}

#define OLD "p/a/ p/a//hidden p/a/1 p/a/3 p/a/sub/ p/a/sub/2 "
#define NEW "p/b/ p/b//hidden p/b/1 p/b/3 p/b/sub/ p/b/sub/2 "

Test(rename, a_directory_moves_with_all_below_hidden_keys_too)
{
    ROOM_SCOPED(room, NULL);
    struct attributes before, after;
    struct entry entry;
    struct store_object object;
    fill_directory(&room);
    cr_assert_eq(tree_stat(&room, "a/sub/2", &before), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_keys(&room, NEW);
    cr_assert(tree_holds(&room, "p/b/sub/2", "two"));
    cr_assert(memory_store_peek(room.bucket, "p/b/3", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "red");
    store_object_release(&object);
    cr_assert_eq(tree_lookup(&room, "a", &entry), -ENOENT);
    cr_assert_eq(tree_stat(&room, "b/sub/2", &after), 0);
    cr_assert_eq(before.number, after.number);
    assert_list(&room, "b", false, "1 3? sub/ ");
    cr_assert_eq(tree_rename(&room, "b", "a", 0), 0, "and back");
    assert_keys(&room, OLD);
}

Test(rename, an_implied_directory_moves_and_an_empty_one_too)
{
    ROOM_SCOPED(room, NULL);
    memory_store_put_text(room.bucket, "p/a/x", "x");
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_keys(&room, "p/b/x ");
    cr_assert_eq(tree_mkdir(&room, "e"), 0);
    cr_assert_eq(tree_rename(&room, "e", "b/e", 0), 0);
    assert_keys(&room, "p/b/e/ p/b/x ");
}

Test(rename, open_files_below_follow_and_what_they_have_unsent_goes_up_under_the_new_name)
{
    ROOM_SCOPED(room, NULL);
    struct handle *fresh, *old;
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct entry directory, entry;
    fill_directory(&room);
    cr_assert_eq(tree_lookup(&room, "a", &directory), 0);
    cr_assert_eq(
        cache_create(room.cache, &room.waiter, directory.inode, "new", O_RDWR, &maker, &entry, &fresh), 0);
    inode_unref(entry.inode);
    inode_unref(directory.inode);
    cr_assert_eq(cache_write(room.cache, &room.waiter, fresh, "fresh", 5, 0), 0);
    cr_assert_eq(tree_open(&room, "a/1", O_RDWR | O_TRUNC, &old), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, old, "changed", 7, 0), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_keys(&room, NEW);
    cr_assert_eq(room_close(&room, fresh), 0);
    cr_assert_eq(room_close(&room, old), 0);
    cr_assert(tree_holds(&room, "p/b/new", "fresh"));
    cr_assert(tree_holds(&room, "p/b/1", "changed"));
    assert_keys(&room, "p/b/ p/b//hidden p/b/1 p/b/3 p/b/new p/b/sub/ p/b/sub/2 ");
}

Test(rename, a_clean_open_file_below_is_the_same_version_afterwards)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct entry entry;
    fill_directory(&room);
    cr_assert_eq(tree_open(&room, "a/sub/2", O_RDONLY, &handle), 0);
    uint64_t id = inode_id(room_inode(handle));
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(names_revalidate(room_inode(handle), &room.waiter), 0);
    cr_assert_eq(tree_lookup(&room, "b/sub/2", &entry), 0);
    cr_assert_eq(entry.id, id);
    cr_assert_str_eq(entry.inode->remote.key, "p/b/sub/2");
    inode_unref(entry.inode);
    cache_release(room.cache, handle);
}

Test(rename, an_unlinked_open_file_below_is_still_deleted_at_its_close)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    fill_directory(&room);
    cr_assert_eq(tree_open(&room, "a/1", O_RDONLY, &handle), 0);
    cr_assert_eq(tree_unlink(&room, "a/1"), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_list(&room, "b", false, "3? sub/ ");
    cache_release(room.cache, handle);
    room_close_cache(&room);
    assert_keys(&room, "p/b/ p/b//hidden p/b/3 p/b/sub/ p/b/sub/2 ");
}

/* The ladder: after the Nth call failed, the old tree is whole, or the new one; never a byte less. */
static bool whole(struct room *room, const char *prefix)
{
    static const char *const rest[] = {"/hidden", "1", "3", "sub/2"}, *const text[] = {"hidden", "one",
                                                                                       "three", "two"};
    for (int i = 0; i < 4; i++) {
        char key[64];
        BUF_SCOPED bytes = BUF_INIT;
        snprintf(key, sizeof key, "%s%s", prefix, rest[i]);
        if (!memory_store_peek(room->bucket, key, NULL, &bytes) || strcmp(bytes.bytes, text[i]) != 0)
            return false;
    }
    return true;
}

Test(rename, a_directory_is_whole_under_one_of_its_names_whatever_call_fails)
{
    for (uint64_t n = 1;; n++) {
        ROOM_SCOPED(room, NULL);
        fill_directory(&room);
        struct entry entry;
        int rung = memory_store_fail_nth(room.bucket, n, -EIO);
        int rc = tree_rename(&room, "a", "b", 0);
        bool struck = memory_store_fault_struck(room.bucket, rung);
        memory_store_faults_end(room.bucket);
        cr_assert(whole(&room, "p/a/") || whole(&room, "p/b/"), "rung %d", (int)n);
        if (rc == 0) {
            cr_assert(whole(&room, "p/b/"), "rung %d", (int)n);
            assert_keys(&room, NEW);
        }
        cr_assert(rc == 0 || struck);
        if (!struck)
            break;
        if (tree_lookup(&room, "b", &entry) == -ENOENT) {
            assert_keys(&room, OLD); /* the copies are gone again */
            cr_assert_eq(tree_rename(&room, "a", "b", 0), 0, "rung %d: a second try", (int)n);
            assert_keys(&room, NEW);
        } else {
            cr_assert(whole(&room, "p/b/"), "rung %d", (int)n);
            inode_unref(entry.inode);
        }
    }
}

Test(rename, a_lost_reply_of_a_copy_is_settled_or_leaves_no_copy_behind)
{
    for (int told = 0; told < 2; told++) {
        ROOM_SCOPED(room, NULL);
        fill_directory(&room);
        memory_store_fault(
            room.bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_COPY, .skip = 2, .times = 1});
        if (!told)
            memory_store_fault(room.bucket,
                               &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .key = "p/b/1"});
        cr_assert_eq(tree_rename(&room, "a", "b", 0), told ? 0 : -EIO);
        assert_keys(&room, told ? NEW : OLD);
    }
}

static void put_foreign(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)call;
    memory_store_put_text(memory, context, "foreign");
}

Test(rename, what_others_write_below_after_its_copy_stays_under_the_old_name)
{
    ROOM_SCOPED(room, &(struct room_config){.bucket = {.page_max = 2}});
    struct attributes attributes;
    char first[] = "p/a/1", second[] = "p/a/new";
    fill_directory(&room);
    struct fault last_copy = {.kind = FAULT_MEANWHILE,
                              .op = STORE_COPY,
                              .key = "p/b/sub/2",
                              .meanwhile = put_foreign,
                              .context = first};
    memory_store_fault(room.bucket, &last_copy);
    last_copy.context = second;
    memory_store_fault(room.bucket, &last_copy);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_keys(&room, "p/a/1 p/a/new " NEW);
    cr_assert(tree_holds(&room, "p/a/1", "foreign") && tree_holds(&room, "p/b/1", "one"));
    cr_assert_eq(tree_stat(&room, "a/1", &attributes), 0, "and is shown at once");
}

/* ---- Others meanwhile. ---- */

static void *rename_a_to_b(void *context)
{
    return (void *)(intptr_t)tree_rename(context, "a", "b", 0);
}

struct creation {
    struct room *room;
    struct inode *directory;
    int rc;
};

static void *create_below(void *context)
{
    struct creation *creation = context;
    WAITER_SCOPED(waiter);
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct handle *handle;
    struct entry entry;
    creation->rc = cache_create(creation->room->cache, &waiter, creation->directory, "late", O_RDWR, &maker,
                                &entry, &handle);
    if (creation->rc == 0) {
        inode_unref(entry.inode);
        creation->rc = room_close(creation->room, handle);
    }
    return NULL;
}

Test(rename, a_file_created_below_meanwhile_waits_and_is_in_the_new_place)
{
    ROOM_SCOPED(room, NULL);
    pthread_t mover, creator;
    struct creation creation = {.room = &room};
    struct entry directory;
    void *moved;
    fill_directory(&room);
    cr_assert_eq(tree_lookup(&room, "a", &directory), 0);
    creation.directory = directory.inode;
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY, .key = "p/b/1", .times = 1});
    pthread_create(&mover, NULL, rename_a_to_b, &room);
    cr_assert(memory_store_await(room.bucket, STORE_COPY, "p/b/1", 1));
    pthread_create(&creator, NULL, create_below, &creation);
    usleep(20000); /* lets it come to its wait; the claim holds without it too */
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(mover, &moved);
    pthread_join(creator, NULL);
    cr_assert_eq((intptr_t)moved, 0);
    cr_assert_eq(creation.rc, 0);
    inode_unref(directory.inode);
    assert_keys(&room, "p/b/ p/b//hidden p/b/1 p/b/3 p/b/late p/b/sub/ p/b/sub/2 ");
}

Test(rename, an_interrupt_ends_it_and_the_old_directory_is_whole)
{
    ROOM_SCOPED(room, NULL);
    pthread_t mover;
    void *moved;
    fill_directory(&room);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY, .key = "p/b/3", .times = 1});
    pthread_create(&mover, NULL, rename_a_to_b, &room);
    cr_assert(memory_store_await(room.bucket, STORE_COPY, "p/b/3", 1));
    waiter_interrupt(&room.waiter);
    pthread_join(mover, &moved);
    cr_assert_eq((intptr_t)moved, -EINTR);
    assert_keys(&room, OLD);
}

struct interrupted {
    struct room *room;
    struct waiter waiter;
};

static void *rename_until_interrupted(void *context)
{
    struct interrupted *interrupted = context;
    struct cache *cache = interrupted->room->cache;
    struct inode *root = interrupted->room->root;
    return (void *)(intptr_t)cache_rename(cache, &interrupted->waiter, root, "a", root, "b", 0);
}

Test(rename, an_interrupted_one_removes_nothing_that_it_did_not_begin_to_copy)
{
    ROOM_SCOPED(room, NULL);
    struct interrupted interrupted = {.room = &room};
    pthread_t mover;
    void *moved;
    for (int i = 0; i < 30; i++) {
        char key[16];
        snprintf(key, sizeof key, "p/a/%02d", i);
        memory_store_put_text(room.bucket, key, "x");
    }
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY});
    waiter_init(&interrupted.waiter);
    pthread_create(&mover, NULL, rename_until_interrupted, &interrupted);
    cr_assert(memory_store_await(room.bucket, STORE_COPY, NULL, 16));
    memory_store_put_text(room.bucket, "p/b/29", "foreign");
    waiter_interrupt(&interrupted.waiter);
    pthread_join(mover, &moved);
    waiter_release(&interrupted.waiter);
    cr_assert_eq((intptr_t)moved, -EINTR);
    cr_assert(tree_holds(&room, "p/b/29", "foreign"));
    cr_assert_eq(memory_store_object_count(room.bucket), 31);
}

Test(rename, a_silent_server_is_asked_about_one_copy_in_doubt_not_about_each)
{
    struct room_config config = {.io_timeout_ms = 300, .attr_ttl_ms = 100000};
    ROOM_SCOPED(room, &config);
    char key[32];
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "p/d/f%d", i);
        memory_store_put_text(room.bucket, key, "x");
    }
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_COPY});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_HEAD, .key = "p/e/f0"});
    for (int i = 1; i < 12; i++) {
        snprintf(key, sizeof key, "p/e/f%d", i);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_HEAD, .key = key});
    }
    size_t heads = 0;
    cr_assert_eq(tree_rename(&room, "d", "e", 0), -EIO);
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "p/e/f%d", i);
        heads += memory_store_logged(room.bucket, STORE_HEAD, key);
    }
    cr_assert_eq(heads, 1, "%zu", heads);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    for (int i = 0; i < 12; i++) {
        snprintf(key, sizeof key, "p/d/f%d", i);
        cr_assert(memory_store_has(room.bucket, key));
    }
}
