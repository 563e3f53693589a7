/* A large file is copied inside the mount by the server, and the copy is as durable as if it had been written. */
#include "cache/clone.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "cache/keepsake.h"
#include "cache/recording.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

#define MIB  ((uint64_t)1 << 20)
#define PART (5 * MIB)
#define SIZE (12 * MIB + 345)
#define CALL ((uint64_t)0x7ffff000) /* what the kernel asks for at most */

static void put_with(struct room *room, const char *key, uint64_t size, unsigned seed,
                     const struct store_fields *meta, const struct store_fields *headers)
{
    char *bytes = xmalloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, meta, headers);
    free(bytes);
}

static void put(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    put_with(room, key, size, seed, NULL, NULL);
}

struct pair {
    struct handle *from, *to;
};

/* "a" has `size` bytes of pattern 1, "b" is as `flags` have it. */
static struct pair open_pair(struct room *room, uint64_t size, int flags)
{
    struct maker maker = {.mode = 0640, .uid = 7, .gid = 8, .process = ROOM_PROCESS};
    struct entry entry;
    struct pair pair;
    put(room, "p/a", size, 1);
    cr_assert_eq(tree_open(room, "a", O_RDONLY, &pair.from), 0);
    if (!(flags & O_CREAT)) {
        cr_assert_eq(tree_open(room, "b", flags, &pair.to), 0);
        return pair;
    }
    cr_assert_eq(
        cache_create(room->cache, &room->waiter, room->root, "b", O_RDWR | flags, &maker, &entry, &pair.to),
        0);
    inode_unref(entry.inode);
    return pair;
}

static int copy_as(struct room *room, struct pair *pair, struct waiter *waiter, uint64_t at, uint64_t length,
                   uint64_t *ret_length)
{
    *ret_length = 0;
    return cache_copy_range(room->cache, waiter, pair->from, at, pair->to, at, length, ret_length);
}

static int copy(struct room *room, struct pair *pair)
{
    uint64_t length;
    int rc = copy_as(room, pair, &room->waiter, 0, CALL, &length);
    cr_assert(rc < 0 || length == SIZE);
    return rc;
}

static void close_pair(struct room *room, struct pair *pair)
{
    cache_release(room->cache, pair->from);
    cr_assert_eq(room_close(room, pair->to), 0);
}

static void read_whole(struct room *room, struct handle *handle, unsigned seed)
{
    for (uint64_t at = 0; at < SIZE; at += MIB)
        cr_assert_eq(room_read(room, handle, at, at + MIB < SIZE ? MIB : SIZE - at, seed), 0);
}

static uint64_t size_of(struct room *room, const char *path)
{
    struct attributes attributes;
    cr_assert_eq(tree_stat(room, path, &attributes), 0);
    return attributes.size;
}

static bool nothing_hidden(struct room *room)
{
    BUF_SCOPED keys = BUF_INIT;
    tree_keys(room, &keys);
    return !strstr(keys.bytes, KEEPSAKE_NAME);
}

static bool nothing_is_kept(void *context)
{
    struct room *room = context;
    bool hidden = !nothing_hidden(room);
    LOCK_SCOPED(&room->cache->names.lock);
    return !hidden && list_empty(&room->cache->names.doomed);
}

static void expect_settled(struct room *room, const char *keys)
{
    assert_drained(room);
    cr_assert(room_await(nothing_is_kept, room));
    assert_keys(room, keys);
}

static size_t count_bytes_moved(struct room *room)
{
    return memory_store_logged(room->bucket, STORE_GET, NULL) +
           memory_store_logged(room->bucket, STORE_PART, NULL);
}

static struct room_config config_of(enum durability durability)
{
    return (struct room_config){.durability = durability, .part_bytes = PART};
}

static const struct room_config writeback = {.durability = DURABILITY_WRITEBACK, .part_bytes = PART};

/* ---- What it is. ---- */

Test(clone, no_byte_of_a_large_file_comes_here)
{
    for (int way = 0; way < 12; way++) {
        struct room_config config = config_of((enum durability)(way % 3));
        config.copy_bytes_max = way < 6 ? 0 : 8 * MIB;
        config.bucket.part_bytes_min = 1;
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT | (way / 3 % 2 ? O_EXCL : 0));
        memory_store_log_clear(room.bucket);
        cr_assert_eq(copy(&room, &pair), 0);
        cr_assert_eq(size_of(&room, "b"), SIZE);
        close_pair(&room, &pair);
        if (config.durability == DURABILITY_SYNC)
            cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1), "close waits for it");
        expect_settled(&room, "p/a p/b ");
        cr_assert_eq(count_bytes_moved(&room), 0, "way %d", way);
        cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
        cr_assert_eq(room_object_size(&room, "p/b"), SIZE);
        cr_assert(room_object_holds(&room, "p/a", 0, SIZE, 1));
    }
}

Test(clone, it_reads_as_its_source_before_and_after_it_has_gone_up)
{
    ROOM_SCOPED(room, &writeback);
    struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
    cr_assert_eq(copy(&room, &pair), 0);
    cr_assert_not(memory_store_has(room.bucket, "p/b"), "its writer is in the middle");
    read_whole(&room, pair.to, 1);
    cr_assert_eq(room_fsync(&room, pair.to), 0);
    read_whole(&room, pair.to, 1);
    close_pair(&room, &pair);
    expect_settled(&room, "p/a p/b ");
}

Test(clone, its_attributes_are_its_own)
{
    ROOM_SCOPED(room, &writeback);
    struct store_object object = {0};
    struct store_fields meta = {0}, headers = {0};
    store_fields_set(&meta, "colour", "red");
    store_fields_set(&headers, "content-type", "image/png");
    put_with(&room, "p/a", SIZE, 1, &meta, &headers);
    struct maker maker = {.mode = 0640, .uid = 7, .gid = 8, .process = ROOM_PROCESS};
    struct entry entry;
    struct pair pair;
    cr_assert_eq(tree_open(&room, "a", O_RDONLY, &pair.from), 0);
    cr_assert_eq(
        cache_create(room.cache, &room.waiter, room.root, "b", O_RDWR | O_EXCL, &maker, &entry, &pair.to), 0);
    inode_unref(entry.inode);
    cr_assert_eq(copy(&room, &pair), 0);
    close_pair(&room, &pair);
    expect_settled(&room, "p/a p/b ");
    cr_assert(memory_store_peek(room.bucket, "p/b", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "33184");
    cr_assert_str_eq(store_fields_get(&object.meta, "uid"), "7");
    cr_assert_null(store_fields_get(&object.meta, "colour"));
    const char *type = store_fields_get(&object.headers, "content-type");
    cr_assert(!type || strcmp(type, "image/png") != 0);
    store_object_release(&object);
    store_fields_release(&meta);
    store_fields_release(&headers);
}

Test(clone, what_it_replaces_is_there_until_then_and_keeps_its_type)
{
    for (int way = 0; way < 4; way++) {
        struct room_config config = config_of(way / 2 ? DURABILITY_SYNC : DURABILITY_WRITEBACK);
        config.bucket.list_meta = way % 2; /* then its headers are not known by the listing */
        ROOM_SCOPED(room, &config);
        struct store_object object = {0};
        struct store_fields headers = {0};
        BUF_SCOPED names = BUF_INIT;
        store_fields_set(&headers, "content-type", "image/png");
        put_with(&room, "p/b", 1000, 2, NULL, &headers);
        put(&room, "p/a", SIZE, 1);
        cr_assert_eq(tree_list(&room, "", true, &names), 0);
        struct pair pair = open_pair(&room, SIZE, O_RDWR | O_TRUNC);
        cr_assert_eq(copy(&room, &pair), 0);
        read_whole(&room, pair.to, 1);
        usleep(20000);
        cr_assert(room_object_holds(&room, "p/b", 0, 1000, 2), "others see the old one");
        close_pair(&room, &pair);
        expect_settled(&room, "p/a p/b ");
        cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
        cr_assert(memory_store_peek(room.bucket, "p/b", &object, NULL));
        cr_assert_str_eq(store_fields_get(&object.headers, "content-type"), "image/png");
        store_object_release(&object);
        store_fields_release(&headers);
    }
}

/* A write came in between: what was about to be left is its object still, wherever it is renamed to. */
Test(clone, what_was_left_and_taken_back_neither_goes_nor_is_hidden)
{
    ROOM_SCOPED(room, &writeback);
    struct store_object object = {0};
    struct store_fields headers = {0};
    struct handle *handle;
    BUF_SCOPED names = BUF_INIT;
    store_fields_set(&headers, "content-type", "image/png");
    put_with(&room, "p/b", 1000, 2, NULL, &headers);
    cr_assert_eq(tree_list(&room, "", true, &names), 0);
    cr_assert_eq(tree_open(&room, "b", O_RDWR | O_TRUNC, &handle), 0);
    {
        AFTERMATH_SCOPED(aftermath, room.cache);
        LOCK_SCOPED(&room.cache->names.lock);
        names_take_back_locked(names_leave_locked(room_inode(handle), &aftermath), &aftermath);
        cr_assert(list_empty(&room.cache->names.doomed));
        cr_assert_eq(names_doomed_below_locked(&room.cache->names, "p/"), 0);
    }
    cr_assert_eq(room_write(&room, handle, 0, 10, 1), 0);
    cr_assert_eq(tree_rename(&room, "b", "c", 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    expect_settled(&room, "p/c ");
    cr_assert(room_object_holds(&room, "p/c", 0, 10, 1));
    cr_assert(memory_store_peek(room.bucket, "p/c", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.headers, "content-type"), "image/png");
    store_object_release(&object);
    store_fields_release(&headers);
}

static void replace_destination(struct memory_store *memory, const struct store_call *call, void *context)
{
    struct store_fields headers = {0};
    (void)memory, (void)call;
    store_fields_set(&headers, "content-type", "text/newer");
    put_with(context, "p/b", 2000, 3, NULL, &headers);
    store_fields_release(&headers);
}

/* The destination is another client's newer version when its headers are asked for: a whole replacement is the last writer and keeps what
 * that version carries; what was not emptied here is no such thing, and both stay. */
Test(clone, a_destination_that_another_client_replaces_meanwhile_is_the_last_writers_or_a_conflict)
{
    for (int way = 0; way < 2; way++) {
        struct room_config config = writeback;
        config.bucket.list_meta = true; /* its headers are not known */
        ROOM_SCOPED(room, &config);
        struct store_object object = {0};
        BUF_SCOPED names = BUF_INIT;
        BUF_SCOPED keys = BUF_INIT;
        put(&room, "p/a", SIZE, 1);
        put(&room, "p/b", way ? 0 : 1000, 2);
        cr_assert_eq(tree_list(&room, "", true, &names), 0);
        struct pair pair = open_pair(&room, SIZE, way ? O_RDWR : O_RDWR | O_TRUNC);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                        .op = STORE_HEAD,
                                                        .key = "p/b",
                                                        .times = 1,
                                                        .meanwhile = replace_destination,
                                                        .context = &room});
        cr_assert_eq(copy(&room, &pair), 0, "way %d", way);
        int rc = room_close(&room, pair.to);
        cr_assert(rc == 0 || way, "%d", rc);
        cache_release(room.cache, pair.from);
        assert_drained(&room);
        cr_assert(room_await(nothing_is_kept, &room));
        tree_keys(&room, &keys);
        cr_assert(memory_store_peek(room.bucket, "p/b", &object, NULL));
        cr_assert_str_eq(store_fields_get(&object.headers, "content-type"), "text/newer", "way %d", way);
        cr_assert(room_object_holds(&room, "p/b", 0, way ? 2000 : SIZE, way ? 3 : 1), "way %d", way);
        cr_assert_eq(strstr(keys.bytes, "p/b.skyvol-conflict-") != NULL, way, "way %d: %s", way, keys.bytes);
        store_object_release(&object);
    }
}

static void copy_by_steps(struct room *room, struct pair *pair)
{
    uint64_t length = 0;
    for (uint64_t at = 0, step = 5 * MIB; at < SIZE; at += length) {
        cr_assert_eq(copy_as(room, pair, &room->waiter, at, step, &length), 0, "at %d", (int)at);
        cr_assert_eq(length, SIZE - at < step ? SIZE - at : step);
        cr_assert_eq(size_of(room, "b"), at + length);
    }
}

Test(clone, of_one_that_takes_several_calls_all_is_copied_at_the_first)
{
    struct room_config config = writeback;
    config.copy_step_min = 4 * MIB;
    ROOM_SCOPED(room, &config);
    struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
    memory_store_log_clear(room.bucket);
    copy_by_steps(&room, &pair);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, NULL), 1);
    close_pair(&room, &pair);
    expect_settled(&room, "p/a p/b ");
    cr_assert_eq(count_bytes_moved(&room), 0);
    cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
}

Test(clone, one_that_ends_between_two_calls_is_as_long_as_it_got)
{
    for (int crash = 0; crash < 2; crash++) {
        struct room_config config = writeback;
        config.copy_step_min = 4 * MIB;
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
        uint64_t length;
        cr_assert_eq(copy_as(&room, &pair, &room.waiter, 0, 7 * MIB, &length), 0);
        if (crash)
            room_crash(&room);
        cache_release(room.cache, pair.from);
        cache_release(room.cache, pair.to);
        if (crash)
            room_reopen(&room);
        expect_settled(&room, "p/a p/b ");
        cr_assert_eq(room_object_size(&room, "p/b"), 7 * MIB);
        cr_assert(room_object_holds(&room, "p/b", 0, 7 * MIB, 1));
    }
}

Test(clone, the_next_call_takes_nothing_of_another_version_or_behind_a_change)
{
    for (int way = 0; way < 4; way++) {
        struct room_config config = writeback;
        config.copy_step_min = 4 * MIB;
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
        uint64_t length;
        cr_assert_eq(copy_as(&room, &pair, &room.waiter, 0, 6 * MIB, &length), 0);
        if (way == 0) {
            cache_release(room.cache, pair.from);
            put(&room, "p/a", SIZE, 2);
            cache_refresh(room.cache, "");
            cr_assert_eq(tree_open(&room, "a", O_RDONLY, &pair.from), 0);
        } else if (way == 1) {
            cr_assert_eq(room_truncate(&room, pair.to, 5 * MIB), 0);
            cr_assert_eq(room_truncate(&room, pair.to, 6 * MIB), 0);
        } else if (way == 2) {
            cr_assert_eq(room_write(&room, pair.to, 6 * MIB, 10, 2), 0);
        } else {
            cr_assert_eq(room_fsync(&room, pair.to), 0);
        }
        cr_assert_eq(copy_as(&room, &pair, &room.waiter, 6 * MIB, 5 * MIB, &length), -EOPNOTSUPP, "way %d",
                     way);
        close_pair(&room, &pair);
        expect_settled(&room, "p/a p/b ");
        cr_assert(room_object_holds(&room, "p/b", 0, 5 * MIB, 1));
    }
}

/* ---- The source. ---- */

Test(clone, what_becomes_of_the_source_later_is_nothing_to_it)
{
    for (int removed = 0; removed < 2; removed++) {
        ROOM_SCOPED(room, &writeback);
        struct pair pair = open_pair(&room, SIZE, O_CREAT);
        cr_assert_eq(copy(&room, &pair), 0);
        if (removed)
            memory_store_remove(room.bucket, "p/a");
        else
            put(&room, "p/a", SIZE, 2);
        read_whole(&room, pair.to, 1);
        close_pair(&room, &pair);
        assert_drained(&room);
        cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
    }
}

static void change_source(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)memory, (void)call;
    put(context, "p/a", SIZE, 2);
}

Test(clone, a_foreign_version_that_comes_meanwhile_is_not_mixed_in)
{
    for (int large = 0; large < 2; large++) {
        struct room_config config = writeback;
        config.copy_bytes_max = large ? 8 * MIB : 0;
        config.bucket.part_bytes_min = 1;
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                        .op = STORE_PART_COPY,
                                                        .skip = (uint64_t)large,
                                                        .times = 1,
                                                        .meanwhile = change_source,
                                                        .context = &room});
        cr_assert_eq(copy(&room, &pair), -EOPNOTSUPP);
        cr_assert_eq(size_of(&room, "b"), 0);
        close_pair(&room, &pair);
        expect_settled(&room, "p/a p/b ");
        cr_assert_eq(room_object_size(&room, "p/b"), 0);
    }
}

Test(clone, one_that_is_changed_or_open_for_writing_is_read_and_written)
{
    for (int way = 0; way < 4; way++) {
        ROOM_SCOPED(room, &writeback);
        struct handle *writer;
        struct pair pair = open_pair(&room, SIZE, O_CREAT);
        room_stop_server(&room);
        cr_assert_eq(tree_open(&room, "a", O_RDWR, &writer), 0);
        if (way == 1)
            cr_assert_eq(room_write(&room, writer, 0, 10, 2), 0);
        if (way >= 2)
            cr_assert_eq(room_truncate(&room, writer, SIZE - 1), 0);
        if (way == 3)
            cr_assert_eq(room_truncate(&room, writer, SIZE), 0);
        if (way > 0)
            cache_release(room.cache, writer);
        cr_assert_eq(copy(&room, &pair), -EOPNOTSUPP, "way %d", way);
        room_start_server(&room);
        if (way == 0)
            cache_release(room.cache, writer);
        close_pair(&room, &pair);
        expect_settled(&room, "p/a p/b ");
    }
}

Test(clone, what_only_has_other_attributes_or_another_name_is_copied)
{
    for (int way = 0; way < 2; way++) {
        ROOM_SCOPED(room, &writeback);
        struct pair pair = open_pair(&room, SIZE, O_CREAT);
        struct attributes attributes = {.uid = 99};
        if (way)
            cr_assert_eq(tree_rename(&room, "a", "c", 0), 0);
        else
            cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, room_inode(pair.from), NULL, SET_UID,
                                              &attributes, &attributes),
                         0);
        cr_assert_eq(copy(&room, &pair), 0, "way %d", way);
        close_pair(&room, &pair);
        expect_settled(&room, way ? "p/b p/c " : "p/a p/b ");
        cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
    }
}

/* ---- What is cheaper, or cannot be, is left to the kernel. ---- */

static int copy_range(struct room *room, struct pair *pair, uint64_t from, uint64_t to, uint64_t length)
{
    uint64_t got;
    return cache_copy_range(room->cache, &room->waiter, pair->from, from, pair->to, to, length, &got);
}

Test(clone, small_files_parts_and_what_is_no_new_file_are_read_and_written)
{
    ROOM_SCOPED(room, &writeback);
    struct pair pair = open_pair(&room, SIZE, O_CREAT);
    struct pair same = {pair.to, pair.to};
    struct handle *writes_through;
    cr_assert_eq(copy_range(&room, &pair, 0, 0, SIZE - 1), -EOPNOTSUPP);
    cr_assert_eq(copy_range(&room, &pair, MIB, 0, SIZE), -EOPNOTSUPP);
    cr_assert_eq(copy_range(&room, &pair, 0, MIB, SIZE), -EOPNOTSUPP);
    cr_assert_eq(copy_range(&room, &pair, MIB, MIB, SIZE), -EOPNOTSUPP);
    cr_assert_eq(copy_range(&room, &pair, SIZE, SIZE, SIZE), -EOPNOTSUPP);
    cr_assert_eq(copy_range(&room, &same, 0, 0, SIZE), -EOPNOTSUPP);
    cr_assert_eq(tree_open(&room, "b", O_WRONLY | O_SYNC, &writes_through), 0);
    cr_assert_eq(copy_range(&room, &(struct pair){pair.from, writes_through}, 0, 0, SIZE), -EOPNOTSUPP);
    cache_release(room.cache, writes_through);
    cr_assert_eq(copy_range(&room, &(struct pair){pair.from, pair.from}, 0, 0, SIZE), -EBADF);
    cr_assert_eq(room_write(&room, pair.to, 0, 1, 2), 0);
    cr_assert_eq(copy_range(&room, &pair, 0, 0, SIZE), -EOPNOTSUPP);
    cr_assert_eq(room_truncate(&room, pair.to, 0), 0);
    cr_assert_eq(tree_unlink(&room, "b"), 0);
    cr_assert_eq(copy_range(&room, &pair, 0, 0, SIZE), -EOPNOTSUPP, "it has no name");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, NULL), 0);
    close_pair(&room, &pair);
}

Test(clone, what_one_put_sends_is_read_and_written)
{
    for (uint64_t size = PART; size <= PART + 1; size++) {
        ROOM_SCOPED(room, &writeback);
        struct pair pair = open_pair(&room, size, O_CREAT);
        cr_assert_eq(copy_range(&room, &pair, 0, 0, size), size == PART ? -EOPNOTSUPP : 0);
        close_pair(&room, &pair);
        assert_drained(&room);
    }
}

Test(clone, where_parts_cannot_be_copied_files_are_not_either)
{
    for (int equal = 0; equal < 2; equal++) {
        struct room_config config = writeback;
        config.bucket.equal_parts = equal;
        config.bucket.no_part_copy = !equal;
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT);
        cr_assert_eq(copy(&room, &pair), -EOPNOTSUPP);
        close_pair(&room, &pair);
    }
}

Test(clone, without_a_waiter_it_asks_to_be_run_where_it_may_wait)
{
    ROOM_SCOPED(room, &writeback);
    struct pair pair = open_pair(&room, SIZE, O_CREAT);
    uint64_t length;
    cr_assert_eq(copy_as(&room, &pair, NULL, 0, CALL, &length), -EAGAIN);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, NULL), 0);
    close_pair(&room, &pair);
}

Test(clone, a_server_that_will_not_leaves_it_to_the_kernel)
{
    static const int errors[] = {-EACCES, -EIO, -EOPNOTSUPP, -ENOSPC};
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        ROOM_SCOPED(room, &writeback);
        struct pair pair = open_pair(&room, SIZE, O_CREAT);
        memory_store_fault(
            room.bucket,
            &(struct fault){.kind = FAULT_FAIL, .op = STORE_PART_COPY, .rc = errors[i], .times = 1});
        cr_assert_eq(copy(&room, &pair), -EOPNOTSUPP);
        cr_assert_eq(size_of(&room, "b"), 0);
        close_pair(&room, &pair);
        expect_settled(&room, "p/a p/b ");
    }
}

/* ---- What happens meanwhile. ---- */

Test(clone, a_reply_that_is_lost_is_found_out)
{
    ROOM_SCOPED(room, &writeback);
    struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_COMPLETE, .times = 1});
    cr_assert_eq(copy(&room, &pair), 0);
    read_whole(&room, pair.to, 1);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_COMPLETE, .times = 1});
    close_pair(&room, &pair);
    expect_settled(&room, "p/a p/b ");
    cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
}

struct copier { /* on a thread of its own */
    struct room *room;
    struct pair *pair;
    struct waiter waiter;
    pthread_t thread;
    int rc;
    atomic_bool ended;
};

static void *run_copier(void *argument)
{
    struct copier *copier = argument;
    uint64_t length;
    copier->rc = copy_as(copier->room, copier->pair, &copier->waiter, 0, CALL, &length);
    atomic_store(&copier->ended, true);
    return NULL;
}

static void start_copier(struct copier *copier, struct room *room, struct pair *pair)
{
    *copier = (struct copier){.room = room, .pair = pair};
    waiter_init(&copier->waiter);
    pthread_create(&copier->thread, NULL, run_copier, copier);
}

static int end_copier(struct copier *copier)
{
    pthread_join(copier->thread, NULL);
    waiter_release(&copier->waiter);
    return copier->rc;
}

Test(clone, it_can_be_interrupted_and_then_nothing_has_changed)
{
    ROOM_SCOPED(room, &writeback);
    struct copier copier;
    struct pair pair = open_pair(&room, SIZE, O_CREAT);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART_COPY, .times = 1});
    start_copier(&copier, &room, &pair);
    cr_assert(memory_store_await(room.bucket, STORE_PART_COPY, NULL, 1));
    cr_assert_eq(tree_unlink(&room, "b"), 0, "nothing waits for it");
    waiter_interrupt(&copier.waiter);
    cr_assert_eq(end_copier(&copier), -EINTR);
    close_pair(&room, &pair);
    expect_settled(&room, "p/a ");
}

static bool has_arrived(void *context)
{
    return room_object_size(context, "p/b") == SIZE && nothing_hidden(context);
}

/* "c" is copied from "b", which is on its way from what is hidden; `ends`: and arrives meanwhile. */
static void copy_copy(struct room *room, bool ends)
{
    struct copier copier;
    struct pair pair = open_pair(room, SIZE, O_CREAT);
    cr_assert_eq(copy(room, &pair), 0);
    memory_store_fault(room->bucket,
                       &(struct fault){.kind = FAULT_HANG, .op = STORE_CREATE, .key = "p/b", .times = 1});
    close_pair(room, &pair);
    cr_assert(memory_store_await(room->bucket, STORE_CREATE, "p/b", 1));
    cr_assert_eq(tree_open(room, "b", O_RDONLY, &pair.from), 0);
    cr_assert_eq(room_create(room, "c", &pair.to), 0);
    if (ends)
        memory_store_fault(room->bucket,
                           &(struct fault){.kind = FAULT_HANG, .op = STORE_PART_COPY, .times = 1});
    start_copier(&copier, room, &pair);
    if (ends) {
        cr_assert(memory_store_await(room->bucket, STORE_PART_COPY, NULL, 1));
        memory_store_unhang(room->bucket, STORE_CREATE, "p/b");
        cr_assert(room_await(has_arrived, room));
        memory_store_unhang(room->bucket, STORE_PART_COPY, NULL);
    }
    cr_assert_eq(end_copier(&copier), 0);
    memory_store_unhang(room->bucket, STORE_CREATE, "p/b");
    close_pair(room, &pair);
    expect_settled(room, "p/a p/b p/c ");
    cr_assert(room_object_holds(room, "p/c", 0, SIZE, 1));
}

Test(clone, a_copy_is_copied_before_it_has_gone_up_and_while_it_does)
{
    for (int ends = 0; ends < 2; ends++) {
        ROOM_SCOPED(room, &writeback);
        copy_copy(&room, ends);
    }
}

static int change_something(struct room *room, struct pair *pair, int way)
{
    switch (way) {
    case 0:
        return room_write(room, pair->to, 0, 100, 3);
    case 1:
        return tree_unlink(room, "b");
    case 2:
        return tree_rename(room, "b", "c", 0);
    default:
        return tree_rename(room, "a", "c", 0);
    }
}

Test(clone, a_name_or_content_that_is_changed_meanwhile_is_not_lost)
{
    static const char *const keys[] = {"p/a p/b ", "p/a ", "p/a p/c ", "p/b p/c "};
    for (int way = 0; way < 4; way++) {
        ROOM_SCOPED(room, &writeback);
        struct copier copier;
        struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
        memory_store_fault(room.bucket,
                           &(struct fault){.kind = FAULT_HANG, .op = STORE_PART_COPY, .times = 1});
        start_copier(&copier, &room, &pair);
        cr_assert(memory_store_await(room.bucket, STORE_PART_COPY, NULL, 1));
        cr_assert_eq(change_something(&room, &pair, way), 0);
        memory_store_unhang(room.bucket, STORE_PART_COPY, NULL);
        int rc = end_copier(&copier);
        cr_assert(rc == 0 ? way > 1 : rc == -EOPNOTSUPP, "way %d: %d", way, rc);
        close_pair(&room, &pair);
        expect_settled(&room, keys[way]);
        if (way == 0)
            cr_assert(room_object_holds(&room, "p/b", 0, 100, 3));
        if (way >= 2 && rc == 0)
            cr_assert(room_object_holds(&room, way == 2 ? "p/c" : "p/b", 0, SIZE, 1));
    }
}

/* ---- A file like any other, before it has gone up. ---- */

Test(clone, it_is_changed_before_it_has_gone_up_and_the_rest_is_copied)
{
    ROOM_SCOPED(room, &writeback);
    struct pair pair = open_pair(&room, 32 * MIB, O_CREAT | O_EXCL);
    uint64_t length;
    cr_assert_eq(copy_as(&room, &pair, &room.waiter, 0, CALL, &length), 0);
    memory_store_log_clear(room.bucket);
    cr_assert_eq(room_write(&room, pair.to, 6 * MIB, 1000, 2), 0);
    cr_assert_eq(room_truncate(&room, pair.to, 30 * MIB), 0);
    cr_assert_eq(room_read(&room, pair.to, 29 * MIB, MIB, 1), 0);
    close_pair(&room, &pair);
    expect_settled(&room, "p/a p/b ");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, NULL), 1);
    cr_assert_eq(room_object_size(&room, "p/b"), 30 * MIB);
    cr_assert(room_object_holds(&room, "p/b", 0, 6 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/b", 6 * MIB, 6 * MIB + 1000, 2));
    cr_assert(room_object_holds(&room, "p/b", 6 * MIB + 1000, 30 * MIB, 1));
}

Test(clone, it_is_copied_over_again_cut_off_renamed_and_removed)
{
    static const char *const keys[] = {"p/a p/b ", "p/a p/b ", "p/a p/c ", "p/a "};
    for (int way = 0; way < 8; way++) {
        struct room_config config = config_of(way < 4 ? DURABILITY_WRITEBACK : DURABILITY_SYNC);
        ROOM_SCOPED(room, &config);
        put(&room, "p/b", 1000, 2);
        struct pair pair = open_pair(&room, SIZE, O_RDWR | O_TRUNC);
        cr_assert_eq(copy(&room, &pair), 0);
        switch (way % 4) {
        case 0:
            cr_assert_eq(room_truncate(&room, pair.to, 0), 0);
            cr_assert_eq(copy(&room, &pair), 0);
            break;
        case 1:
            cr_assert_eq(room_truncate(&room, pair.to, 0), 0);
            break;
        case 2:
            cr_assert_eq(tree_rename(&room, "b", "c", 0), 0);
            break;
        default:
            cr_assert_eq(tree_unlink(&room, "b"), 0);
            read_whole(&room, pair.to, 1);
        }
        close_pair(&room, &pair);
        expect_settled(&room, keys[way % 4]);
        if (way % 4 == 0 || way % 4 == 2)
            cr_assert(room_object_holds(&room, way % 4 ? "p/c" : "p/b", 0, SIZE, 1), "way %d", way);
        if (way % 4 == 1)
            cr_assert_eq(room_object_size(&room, "p/b"), 0);
    }
}

Test(clone, who_gives_it_up_leaves_nothing_hidden)
{
    ROOM_SCOPED(room, &writeback);
    BUF_SCOPED why = BUF_INIT;
    struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
    cr_assert_eq(copy(&room, &pair), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_CREATE, .rc = -EACCES});
    close_pair(&room, &pair);
    cr_assert_eq(cache_discard(room.cache, &room.waiter, "b", &why), 0, "%s", why.bytes);
    memory_store_faults_end(room.bucket);
    expect_settled(&room, "p/a ");
}

Test(clone, an_fsync_of_the_directory_does_not_wait_for_who_has_it_open)
{
    for (int sync = 0; sync < 2; sync++) {
        struct room_config config = config_of(sync ? DURABILITY_SYNC : DURABILITY_WRITEBACK);
        config.io_timeout_ms = 3000;
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
        cr_assert_eq(copy(&room, &pair), 0);
        cr_assert_eq(cache_fsync_directory(room.cache, &room.waiter, room.root), 0);
        close_pair(&room, &pair);
        expect_settled(&room, "p/a p/b ");
    }
}

/* ---- What it may overwrite. ---- */

/* Ours went aside, theirs stands. */
static void expect_both(struct room *room)
{
    BUF_SCOPED keys = BUF_INIT;
    memory_store_keys(room->bucket, &keys);
    char *aside = strstr(keys.bytes, "p/b.skyvol-conflict-");
    cr_assert(aside, "no conflict copy among %s", keys.bytes);
    *strchr(aside, '\n') = '\0';
    cr_assert(room_object_holds(room, aside, 0, SIZE, 1));
    cr_assert_eq(room_object_size(room, "p/b"), 6, "theirs was overwritten");
    cr_assert(room_await(nothing_is_kept, room));
}

Test(clone, one_that_o_excl_made_overwrites_nothing)
{
    for (int way = 0; way < 4; way++) {
        struct room_config config = config_of(way < 2 ? DURABILITY_WRITEBACK : DURABILITY_SYNC);
        config.bucket.ignore_conditions = way % 2;
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
        cr_assert_eq(copy(&room, &pair), 0);
        memory_store_put_text(room.bucket, "p/b", "theirs");
        cache_release(room.cache, pair.from);
        cr_assert_eq(room_close(&room, pair.to), way < 2 ? 0 : -ESTALE, "way %d", way);
        assert_drained(&room);
        expect_both(&room);
    }
}

Test(clone, an_empty_file_that_was_not_made_here_is_replaced_if_it_is_that_still)
{
    for (int foreign = 0; foreign < 4; foreign++) {
        ROOM_SCOPED(room, &writeback);
        memory_store_put_text(room.bucket, "p/b", "");
        struct pair pair = open_pair(&room, SIZE, O_RDWR);
        cr_assert_eq(copy(&room, &pair), 0);
        if (foreign / 2) {
            room_crash(&room);
            cache_release(room.cache, pair.from);
            cache_release(room.cache, pair.to);
        }
        if (foreign % 2)
            memory_store_put_text(room.bucket, "p/b", "theirs");
        if (foreign / 2)
            room_reopen(&room);
        else
            close_pair(&room, &pair);
        assert_drained(&room);
        if (foreign % 2)
            expect_both(&room);
        else
            expect_settled(&room, "p/a p/b ");
        if (!(foreign % 2))
            cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
    }
}

/* ---- The death of the process. ---- */

Test(clone, a_kill_after_the_call_loses_nothing)
{
    for (int way = 0; way < 6; way++) {
        struct room_config config = config_of((enum durability)(way % 3));
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT | (way / 3 ? O_EXCL : 0));
        cr_assert_eq(copy(&room, &pair), 0);
        room_crash(&room);
        cache_release(room.cache, pair.from);
        cache_release(room.cache, pair.to);
        memory_store_remove(room.bucket, "p/a");
        room_reopen(&room);
        cr_assert_eq(size_of(&room, "b"), SIZE);
        expect_settled(&room, "p/b ");
        cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
    }
}

/* As it stands in the journal between two of its records. */
static void doom_again(struct inode *inode)
{
    lock_take(&inode->cache->names.lock);
    struct inode *hidden = inode_new(inode->cache, S_IFREG, 0);
    lock_take(&inode->lock);
    hidden->remote.key = xstrdup(inode->remote.key);
    hidden->remote.identity = inode->remote.identity;
    lock_drop(&inode->lock);
    lock_take(&hidden->lock);
    hidden->orphan = hidden->remote.exists = true;
    cr_assert_eq(recording_doomed_locked(hidden), 0);
    lock_drop(&hidden->lock);
    lock_drop(&inode->cache->names.lock);
    inode_unref(hidden);
}

Test(clone, nor_does_one_when_the_journal_still_says_that_what_is_hidden_is_to_go)
{
    for (int way = 0; way < 2; way++) {
        struct room_config config = config_of(way ? DURABILITY_SYNC : DURABILITY_WRITEBACK);
        ROOM_SCOPED(room, &config);
        struct pair pair = open_pair(&room, SIZE, O_CREAT | O_EXCL);
        cr_assert_eq(copy(&room, &pair), 0);
        doom_again(room_inode(pair.to));
        room_crash(&room);
        cache_release(room.cache, pair.from);
        cache_release(room.cache, pair.to);
        room.next_fault = (struct fault){.kind = FAULT_DELAY, .op = STORE_CREATE, .delay_ms = 300};
        room_reopen(&room);
        expect_settled(&room, "p/a p/b ");
        cr_assert(room_object_holds(&room, "p/b", 0, SIZE, 1));
    }
}

struct death {
    struct room *room;
    struct pair *pair;
    struct copier copier;
    int hang;
};

static bool is_struck(const struct death *death)
{
    return memory_store_fault_struck(death->room->bucket, death->hang) > 0;
}

static bool struck_or_copied(void *context)
{
    struct death *death = context;
    return is_struck(death) || atomic_load(&death->copier.ended);
}

static bool struck_or_sent(void *context)
{
    struct death *death = context;
    return is_struck(death) || (room_clean(death->pair->to) && nothing_is_kept(death->room));
}

/* The Nth call of the copy, or of its way up, has happened, and nobody here heard of it. False: there are not so many. */
static bool die_at(uint64_t n, enum durability durability, bool replaces)
{
    struct room_config config = config_of(durability);
    ROOM_SCOPED(room, &config);
    put(&room, "p/b", replaces ? 1000 : 0, 2);
    struct pair pair = open_pair(&room, SIZE, O_RDWR | O_TRUNC);
    struct fault fault = {.kind = FAULT_HANG_REPLY, .skip = n - 1, .times = 1};
    struct death death = {.room = &room, .pair = &pair};
    death.hang = memory_store_fault(room.bucket, &fault);
    start_copier(&death.copier, &room, &pair);
    cr_assert(room_await(struck_or_copied, &death));
    bool returned = !is_struck(&death);
    if (returned) {
        cr_assert_eq(end_copier(&death.copier), 0);
        uploader_publish_open(room_inode(pair.to));
        cr_assert(room_await(struck_or_sent, &death));
    }
    bool died = is_struck(&death);
    usleep(5000); /* it has happened */
    room_crash(&room);
    memory_store_unhang(room.bucket, 0, NULL);
    if (!returned)
        end_copier(&death.copier);
    cache_release(room.cache, pair.from);
    cache_release(room.cache, pair.to);
    room_reopen(&room);
    expect_settled(&room, "p/a p/b ");
    uint64_t size = room_object_size(&room, "p/b");
    cr_assert(size == SIZE ? room_object_holds(&room, "p/b", 0, SIZE, 1) : size == 0, "rung %d", (int)n);
    cr_assert(!returned || size == SIZE, "rung %d: it had returned", (int)n);
    return died;
}

Test(clone, whenever_the_process_dies_it_is_what_it_was_or_whole)
{
    for (int way = 0; way < 4; way++) {
        uint64_t n = 1;
        while (die_at(n, way % 2 ? DURABILITY_SYNC : DURABILITY_WRITEBACK, way / 2))
            n++;
        cr_assert(n > 4, "it ended at rung %d", (int)n);
    }
}
