#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/aftermath.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

/* ---- Numbers and ids. ---- */

Test(names, a_number_stays_over_forgets_and_an_id_is_never_used_twice)
{
    ROOM_SCOPED(room, NULL);
    struct attributes first, again;
    struct entry entry;
    memory_store_put_text(room.bucket, "p/d/f", "x");
    memory_store_put_text(room.bucket, "p/d/other", "x");
    cr_assert_eq(tree_stat(&room, "d/f", &first), 0);
    cr_assert_eq(tree_lookup(&room, "d/f", &entry), 0);
    uint64_t id = entry.id;
    inode_unref(entry.inode);
    clock_fake_begin(clock_wall_ns());
    memory_store_remove(room.bucket, "p/d/f");
    clock_fake_advance(1001);
    cr_assert_eq(tree_lookup(&room, "d/f", &entry), -ENOENT);
    memory_store_put_text(room.bucket, "p/d/f", "y");
    clock_fake_advance(1001);
    cr_assert_eq(tree_lookup(&room, "d/f", &entry), 0);
    again = entry.attributes;
    cr_assert_eq(again.number, first.number);
    cr_assert_neq(entry.id, id);
    inode_unref(entry.inode);
    clock_fake_end();
}

Test(names, the_number_of_a_listing_is_the_number_of_stat)
{
    ROOM_SCOPED(room, NULL);
    struct attributes attributes;
    memory_store_put_text(room.bucket, "p/f", "x");
    uint64_t expected = names_number(room.root, "f");
    cr_assert_eq(tree_stat(&room, "f", &attributes), 0);
    cr_assert_eq(attributes.number, expected);
    cr_assert_eq(inode_id(room.root), 1);
    cr_assert_eq(room.root->number, 1);
}

/* ---- Room. ---- */

static size_t used_by_names(struct room *room)
{
    struct memory_report report;
    memory_report(room->memory, &report);
    return report.shares[SHARE_NAMES];
}

/* With what was read here and there of a large file, which is closed. Returns the rest, taken in SHARE_UPLOAD. */
static size_t fill_with_blocks(struct room *room)
{
    struct memory_report report;
    struct handle *handle;
    size_t bytes = (size_t)16 << 20;
    char *large = xcalloc(1, bytes);
    memory_store_put(room->bucket, "p/large", large, bytes, NULL, NULL);
    free(large);
    cr_assert_eq(tree_open(room, "large", O_RDONLY, &handle), 0);
    for (uint64_t i = 0; i < 128; i++) {
        struct reader reader;
        reader_begin(&reader, room, handle, i * 37 % 128 * PAGE_BYTES, 1);
        cr_assert_eq(reader_wait(&reader), 0);
        reader_release(&reader);
    }
    cache_release(room->cache, handle);
    memory_report(room->memory, &report);
    size_t rest = report.limit - report.used;
    cr_assert_lt(rest, PAGE_BYTES);
    cr_assert(memory_try(room->memory, rest, SHARE_UPLOAD));
    return rest;
}

Test(names, those_used_longest_ago_are_forgotten_and_found_again)
{
    struct room_config config = {.bucket = {.list_meta = true}, .memory_bytes = (size_t)4 << 20};
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    struct attributes first, again;
    char key[32];
    for (int i = 0; i < 3000; i++) {
        snprintf(key, sizeof key, "p/%04d", i);
        memory_store_put_text(room.bucket, key, "x");
    }
    cr_assert_eq(tree_stat(&room, "0000", &first), 0);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    cr_assert_eq(list.length, 3000 * 5);
    cr_assert_lt(room.cache->names.count, 1000, "an eighth of 4 MiB, or what came with the last page");
    cr_assert_leq(used_by_names(&room), (size_t)1 << 20);
    lock_take(&room.cache->names.lock);
    cr_assert_null(names_find_locked(&room.cache->names, room.root, "0000"));
    lock_drop(&room.cache->names.lock);
    cr_assert_eq(tree_stat(&room, "0000", &again), 0,
                 "a listing of which something was forgotten is not complete");
    cr_assert_eq(first.number, again.number);
}

Test(names, what_is_open_or_unsent_is_never_forgotten)
{
    struct room_config config = {.bucket = {.list_meta = true}, .memory_bytes = (size_t)4 << 20};
    ROOM_SCOPED(room, &config);
    BUF_SCOPED list = BUF_INIT;
    struct handle *handle;
    struct attributes attributes;
    char key[32];
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_write(&room, "d/open", "1"), 0);
    cr_assert_eq(tree_open(&room, "d/open", O_RDONLY, &handle), 0);
    for (int i = 0; i < 3000; i++) {
        snprintf(key, sizeof key, "p/%04d", i);
        memory_store_put_text(room.bucket, key, "x");
    }
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    cr_assert_not_null(room_inode(handle)->parent);
    cr_assert_eq(tree_stat(&room, "d/open", &attributes), 0);
    cache_release(room.cache, handle);
}

/* A whole page of names, and one at a time. */
Test(names, they_have_room_where_clean_blocks_take_all_the_memory)
{
    for (int way = 0; way < 2; way++) {
        struct room_config config = {.bucket = {.list_meta = true}, .memory_bytes = (size_t)8 << 20};
        ROOM_SCOPED(room, &config);
        BUF_SCOPED list = BUF_INIT;
        struct attributes attributes;
        char key[32];
        clock_fake_begin(INT64_C(1700000000000000000));
        for (int i = 0; i < 200; i++) {
            snprintf(key, sizeof key, "p/d/%04d", i);
            memory_store_put_text(room.bucket, key, "x");
        }
        size_t rest = fill_with_blocks(&room);
        if (way)
            cr_assert_eq(tree_list(&room, "d", true, &list), 0);
        for (int round = 0; round < 2; round++) {
            for (int i = 0; i < 200; i++) {
                snprintf(key, sizeof key, "d/%04d", i);
                cr_assert_eq(tree_stat(&room, key, &attributes), 0);
            }
            if (round == 0)
                memory_store_log_clear(room.bucket);
        }
        cr_assert_geq(room.cache->names.count, 200);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), 0);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, NULL), 0);
        cr_assert_geq(used_by_names(&room), 200 * sizeof(struct inode));
        memory_give(room.memory, rest, SHARE_UPLOAD);
        clock_fake_end();
    }
}

/* ---- Notices to the kernel. ---- */

struct heard {
    pthread_mutex_t mutex;
    uint64_t inode_id, parent_id;
    char name[32];
};

static void hear_inode(void *context, uint64_t id)
{
    struct heard *heard = context;
    pthread_mutex_lock(&heard->mutex);
    heard->inode_id = id;
    pthread_mutex_unlock(&heard->mutex);
}

static void hear_name(void *context, uint64_t parent_id, const char *name)
{
    struct heard *heard = context;
    pthread_mutex_lock(&heard->mutex);
    heard->parent_id = parent_id;
    snprintf(heard->name, sizeof heard->name, "%s", name);
    pthread_mutex_unlock(&heard->mutex);
}

static bool heard_inode(void *context)
{
    struct heard *heard = context;
    pthread_mutex_lock(&heard->mutex);
    bool any = heard->inode_id != 0;
    pthread_mutex_unlock(&heard->mutex);
    return any;
}

static bool heard_name(void *context)
{
    struct heard *heard = context;
    pthread_mutex_lock(&heard->mutex);
    bool any = heard->name[0] != 0;
    pthread_mutex_unlock(&heard->mutex);
    return any;
}

Test(names, the_kernel_hears_of_foreign_changes_and_of_nothing_else)
{
    ROOM_SCOPED(room, NULL);
    struct heard heard = {.mutex = PTHREAD_MUTEX_INITIALIZER};
    struct entry entry;
    struct handle *handle;
    room.cache->config.notify = (struct cache_notify){hear_inode, hear_name, &heard};
    clock_fake_begin(INT64_C(1700000000000000000));
    cr_assert_eq(tree_write(&room, "f", "1"), 0);
    cr_assert_eq(tree_rename(&room, "f", "g", 0), 0);
    cr_assert_eq(tree_lookup(&room, "g", &entry), 0);
    uint64_t id = entry.id;
    inode_unref(entry.inode);
    clock_fake_advance(5000);
    cr_assert_eq(tree_lookup(&room, "g", &entry), 0);
    inode_unref(entry.inode);
    cr_assert(!heard_inode(&heard) && !heard_name(&heard), "our own");
    memory_store_put_text(room.bucket, "p/g", "22");
    clock_fake_advance(1001);
    cr_assert_eq(tree_open(&room, "g", O_RDONLY, &handle), 0);
    cr_assert(room_await(heard_inode, &heard));
    cr_assert_eq(heard.inode_id, id);
    memory_store_remove(room.bucket, "p/g");
    clock_fake_advance(1001);
    cr_assert_eq(tree_lookup(&room, "g", &entry), -ENOENT);
    cr_assert(room_await(heard_name, &heard));
    cr_assert_eq(heard.parent_id, 1);
    cr_assert_str_eq(heard.name, "g");
    cache_release(room.cache, handle);
    clock_fake_end();
}

/* ---- Keys. ---- */

Test(names, a_key_follows_the_names_above_and_ends_with_the_name)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    BUF_SCOPED key = BUF_INIT;
    cr_assert_eq(tree_mkdir(&room, "a"), 0);
    cr_assert_eq(tree_write(&room, "a/f", "x"), 0);
    cr_assert_eq(tree_open(&room, "a/f", O_RDONLY, &handle), 0);
    cr_assert_eq(names_key(room_inode(handle), &key), 0);
    cr_assert_str_eq(key.bytes, "p/a/f");
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(names_key(room_inode(handle), &key), 0);
    cr_assert_str_eq(key.bytes, "p/b/f");
    cr_assert_eq(tree_unlink(&room, "b/f"), 0);
    cr_assert_eq(names_key(room_inode(handle), &key), -ENOENT);
    cache_release(room.cache, handle);
}

Test(names, which_names_are_names)
{
    char name[300];
    memset(name, 'n', sizeof name);
    name[255] = 0;
    cr_assert_eq(names_check("a"), 0);
    cr_assert_eq(names_check("..."), 0);
    cr_assert_eq(names_check("\xc3\xa4"), 0);
    cr_assert_eq(names_check(name), 0);
    name[255] = 'n';
    name[256] = 0;
    cr_assert_eq(names_check(name), -ENAMETOOLONG);
    cr_assert_eq(names_check(""), -EINVAL);
    cr_assert_eq(names_check("."), -EINVAL);
    cr_assert_eq(names_check(".."), -EINVAL);
    cr_assert_eq(names_check("a/b"), -EINVAL);
    cr_assert_eq(names_check("\xff"), -EILSEQ);
}

/* ---- Doomed objects. ---- */

Test(names, a_delete_behind_that_fails_keeps_the_object_hidden_here)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct entry entry;
    BUF_SCOPED list = BUF_INIT;
    cr_assert_eq(tree_write(&room, "f", "x"), 0);
    cr_assert_eq(tree_open(&room, "f", O_RDONLY, &handle), 0);
    cr_assert_eq(tree_unlink(&room, "f"), 0);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE, .times = 1, .rc = -EACCES});
    cache_release(room.cache, handle);
    cr_assert(memory_store_await(room.bucket, 0, NULL, 0));
    usleep(10000);
    cr_assert(memory_store_has(room.bucket, "p/f"));
    cr_assert_eq(tree_lookup(&room, "f", &entry), -ENOENT);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    cr_assert_str_eq(list.bytes, "");
    cr_assert_eq(tree_write(&room, "f", "new"), 0, "the name can be used again");
    cr_assert(tree_holds(&room, "p/f", "new"));
}

Test(names, below_a_directory_that_has_no_name_nothing_has_a_key)
{
    ROOM_SCOPED(room, NULL);
    struct entry directory, child;
    BUF_SCOPED key = BUF_INIT;
    memory_store_put_text(room.bucket, "p/d/x", "x");
    cr_assert_eq(tree_lookup(&room, "d", &directory), 0);
    cr_assert_eq(tree_lookup(&room, "d/x", &child), 0);
    {
        AFTERMATH_SCOPED(aftermath, room.cache);
        LOCK_SCOPED(&room.cache->names.lock);
        names_detach_locked(directory.inode, &aftermath);
        struct inode *late = names_make_locked(room.cache, directory.inode, "late", S_IFREG, 0, &aftermath);
        cr_assert_eq(names_key_locked(late, &key), -ENOENT);
        cr_assert_str_eq(key.bytes, "");
        names_detach_locked(late, &aftermath);
    }
    cr_assert_eq(names_key(child.inode, &key), -ENOENT);
    inode_unref(child.inode);
    inode_unref(directory.inode);
}
