/* Who has a file open reads it to its end, whatever takes its name here. */
#include "cache/keepsake.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)
#define OLD (12 * MIB)

static void put(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    free(bytes);
}

static size_t count_kept(struct room *room)
{
    BUF_SCOPED keys = BUF_INIT;
    size_t count = 0;
    tree_keys(room, &keys);
    for (const char *at = keys.bytes; (at = strstr(at, "p/" KEEPSAKE_NAME)); at++)
        count++;
    return count;
}

static bool nothing_is_kept(void *context)
{
    return count_kept(context) == 0;
}

static bool nothing_is_doomed(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    return list_empty(&room->cache->names.doomed);
}

static struct handle *open_old(struct room *room)
{
    struct handle *handle;
    put(room, "p/b", OLD, 1);
    cr_assert_eq(tree_open(room, "b", O_RDONLY, &handle), 0);
    cr_assert_eq(room_read(room, handle, 0, 4096, 1), 0);
    return handle;
}

static void read_old(struct room *room, struct handle *handle)
{
    for (uint64_t at = 0; at < OLD; at += MIB)
        cr_assert_eq(room_read(room, handle, at, MIB / 8, 1), 0, "at %d MiB", (int)(at / MIB));
}

static void close_old(struct room *room, struct handle *handle)
{
    cache_release(room->cache, handle);
    cr_assert(room_await(nothing_is_kept, room));
    cr_assert(room_await(nothing_is_doomed, room));
}

static void check_new(struct room *room)
{
    cr_assert(room_object_holds(room, "p/b", 0, 1000, 2));
    cr_assert_eq(room_object_size(room, "p/b"), 1000);
}

/* ---- What overwrites it. ---- */

Test(keepsake, a_rename_over_an_open_file_leaves_it_readable_to_its_end)
{
    for (int large = 0; large < 2; large++) {
        struct room_config config = {.copy_bytes_max = large ? 4 * MIB : 0, .bucket = {.part_bytes_min = 1}};
        ROOM_SCOPED(room, &config);
        BUF_SCOPED names = BUF_INIT;
        struct handle *handle = open_old(&room);
        put(&room, "p/a", 1000, 2);
        cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
        check_new(&room);
        cr_assert_eq(count_kept(&room), 1);
        read_old(&room, handle);
        cr_assert_eq(tree_list(&room, "", true, &names), 0);
        cr_assert_str_eq(names.bytes, "b ");
        close_old(&room, handle);
        check_new(&room);
    }
}

static void write_new(struct room *room, const char *name)
{
    struct handle *handle;
    cr_assert_eq(room_create(room, name, &handle), 0);
    cr_assert_eq(room_write(room, handle, 0, 1000, 2), 0);
    cr_assert_eq(room_close(room, handle), 0);
}

Test(keepsake, so_does_a_rename_of_a_file_that_goes_up_later)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_old(&room), *fresh;
    cr_assert_eq(room_create(&room, "a", &fresh), 0);
    cr_assert_eq(room_write(&room, fresh, 0, 1000, 2), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(room_read(&room, handle, MIB, 4096, 1), 0);
    cr_assert_eq(room_close(&room, fresh), 0);
    check_new(&room);
    read_old(&room, handle);
    close_old(&room, handle);
    check_new(&room);
}

Test(keepsake, so_does_a_new_file_under_the_name_of_an_unlinked_one)
{
    for (int behind = 0; behind < 2; behind++) {
        ROOM_SCOPED(room,
                    (&(struct room_config){.durability = behind ? DURABILITY_WRITEBACK : DURABILITY_SYNC}));
        struct handle *handle = open_old(&room);
        size_t unsent;
        cr_assert_eq(tree_unlink(&room, "b"), 0);
        write_new(&room, "b");
        cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), 0);
        check_new(&room);
        cr_assert_eq(count_kept(&room), 1);
        read_old(&room, handle);
        close_old(&room, handle);
        check_new(&room);
    }
}

Test(keepsake, so_does_an_exclusive_create_and_a_rename_over_the_name_of_an_unlinked_one)
{
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        ROOM_SCOPED(room, NULL);
        struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
        struct handle *handle = open_old(&room), *fresh;
        struct entry entry;
        put(&room, "p/a", 1000, 2);
        cr_assert_eq(tree_unlink(&room, "b"), 0);
        if (exclusive) {
            cr_assert_eq(cache_create(room.cache, &room.waiter, room.root, "b", O_RDWR | O_EXCL, &maker,
                                      &entry, &fresh),
                         0);
            inode_unref(entry.inode);
            cache_release(room.cache, fresh);
        } else {
            cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
        }
        cr_assert_eq(count_kept(&room), 1);
        read_old(&room, handle);
        close_old(&room, handle);
        cr_assert_eq(room_object_size(&room, "p/b"), exclusive ? 0 : 1000);
    }
}

static void *rename_a_to_b(void *argument)
{
    struct room *room = argument;
    WAITER_SCOPED(waiter);
    int rc = cache_rename(room->cache, &waiter, room->root, "a", room->root, "b", 0);
    cr_assert_eq(rc, 0);
    return NULL;
}

static bool new_is_there(void *context)
{
    return room_object_size(context, "p/b") == 1000;
}

/* Servers that keep objects in directories have no "b" beside "b/x". */
Test(keepsake, a_directory_under_the_name_of_an_unlinked_one_has_no_object_beside_it)
{
    for (int renamed = 0; renamed < 2; renamed++) {
        ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
        struct handle *handle = open_old(&room);
        cr_assert_eq(tree_mkdir(&room, "d"), 0);
        cr_assert_eq(tree_unlink(&room, "b"), 0);
        if (renamed)
            cr_assert_eq(tree_rename(&room, "d", "b", 0), 0);
        else
            cr_assert_eq(tree_mkdir(&room, "b"), 0);
        cr_assert_not(memory_store_has(room.bucket, "p/b"));
        cr_assert_eq(count_kept(&room), 1);
        read_old(&room, handle);
        close_old(&room, handle);
        cr_assert(memory_store_has(room.bucket, "p/b/"));
    }
}

Test(keepsake, a_read_between_the_overwriting_and_its_reply_is_none_the_wiser)
{
    ROOM_SCOPED(room, NULL);
    pthread_t thread;
    struct handle *handle = open_old(&room);
    put(&room, "p/a", 1000, 2);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_HANG_REPLY, .key = "p/b", .op = STORE_COPY});
    pthread_create(&thread, NULL, rename_a_to_b, &room);
    cr_assert(room_await(new_is_there, &room));
    read_old(&room, handle);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(thread, NULL);
    read_old(&room, handle);
    close_old(&room, handle);
    check_new(&room);
}

/* ---- When it is not needed, or cannot be. ---- */

Test(keepsake, what_is_whole_here_or_closed_needs_none)
{
    for (int closed = 0; closed < 2; closed++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        cr_assert_eq(room_create(&room, "b", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, MIB, 1), 0);
        cr_assert_eq(room_flush(&room, handle), 0);
        if (closed)
            cache_release(room.cache, handle);
        put(&room, "p/a", 1000, 2);
        memory_store_log_clear(room.bucket);
        cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, NULL), 1);
        cr_assert_eq(count_kept(&room), 0);
        if (closed)
            continue;
        cr_assert_eq(room_read(&room, handle, 0, MIB / 2, 1), 0);
        close_old(&room, handle);
    }
}

/* What is wanted lies behind the end of the object, in the page of its last bytes: nobody asks for that page. */
Test(keepsake, what_is_written_behind_the_end_of_a_replaced_file_is_read_without_it)
{
    for (int sync = 0; sync < 2; sync++) {
        ROOM_SCOPED(room,
                    (&(struct room_config){.durability = sync ? DURABILITY_SYNC : DURABILITY_WRITEBACK}));
        struct handle *handle;
        cr_assert_eq(room_create(&room, "b", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
        cr_assert_eq(room_fsync(&room, handle), 0);
        write_new(&room, "a");
        cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
        cr_assert_eq(room_write(&room, handle, 5000, 1000, 1), 0);
        cr_assert_eq(room_read(&room, handle, 5000, 1000, 1), 0);
        cr_assert_eq(room_read(&room, handle, 2000, 1000, 0), 0, "the hole");
        cr_assert_eq(room_read(&room, handle, 0, 1000, 1), 0);
        cache_release(room.cache, handle);
    }
}

Test(keepsake, a_copy_that_fails_costs_the_reader_its_ranges_and_not_the_rename)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_old(&room);
    put(&room, "p/a", 1000, 2);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .rc = -EACCES, .times = 1});
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    check_new(&room);
    cr_assert_eq(room_read(&room, handle, 11 * MIB, 4096, 1), -ESTALE);
    close_old(&room, handle);
}

Test(keepsake, a_rename_that_fails_leaves_none_behind)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_old(&room);
    put(&room, "p/a", 1000, 2);
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .rc = -EACCES, .skip = 1, .times = 1});
    cr_assert_eq(tree_rename(&room, "a", "b", 0), -EACCES);
    cr_assert(room_await(nothing_is_kept, &room));
    read_old(&room, handle);
    cr_assert(room_object_holds(&room, "p/b", 0, OLD, 1));
    close_old(&room, handle);
    cr_assert(room_object_holds(&room, "p/b", 0, OLD, 1));
}

Test(keepsake, its_names_are_no_names_here)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct entry entry;
    BUF_SCOPED names = BUF_INIT;
    memory_store_put_text(room.bucket, "p/" KEEPSAKE_NAME "0123", "another mount's");
    memory_store_put_text(room.bucket, "p/a", "text");
    cr_assert_eq(tree_list(&room, "", true, &names), 0);
    cr_assert_str_eq(names.bytes, "a ");
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, room.root, KEEPSAKE_NAME "0123", &entry), -ENOENT);
    memory_store_put_text(room.bucket, "p/.skyvol-probe-0123", "a try of a process that died");
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, room.root, ".skyvol-probe-0123", &entry), -ENOENT);
    cr_assert_eq(room_create(&room, KEEPSAKE_NAME "0123", &handle), -EPERM);
    cr_assert_eq(tree_rename(&room, "a", KEEPSAKE_NAME "0123", 0), -EPERM);
    cr_assert_eq(room.cache->names.hidden, 0, "nothing that anybody must be told of");
    cr_assert_eq(count_kept(&room), 1, "it is another mount's");
}

/* ---- The death of the process. ---- */

static void *rename_and_die(void *argument)
{
    struct room *room = argument;
    WAITER_SCOPED(waiter);
    cache_rename(room->cache, &waiter, room->root, "a", room->root, "b", 0);
    return NULL;
}

Test(keepsake, whenever_the_process_dies_none_is_left_behind)
{
    bool died = true;
    for (uint64_t n = 1; died; n++) {
        ROOM_SCOPED(room, (&(struct room_config){.io_timeout_ms = 1000}));
        pthread_t thread;
        struct handle *handle = open_old(&room);
        struct entry entry;
        put(&room, "p/a", 1000, 2);
        cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
        inode_unref(entry.inode);
        struct fault fault = {.kind = FAULT_HANG_REPLY, .skip = n - 1, .times = 1};
        int hang = memory_store_fault(room.bucket, &fault);
        pthread_create(&thread, NULL, rename_and_die, &room);
        for (int i = 0; i < 300 && !memory_store_fault_struck(room.bucket, hang); i++)
            usleep(1000);
        died = memory_store_fault_struck(room.bucket, hang) > 0;
        usleep(5000); /* it has happened */
        room_crash(&room);
        memory_store_unhang(room.bucket, 0, NULL);
        pthread_join(thread, NULL);
        cache_release(room.cache, handle);
        room_reopen(&room);
        cr_assert(room_await(nothing_is_kept, &room), "rung %d", (int)n);
        cr_assert(room_await(nothing_is_doomed, &room));
        uint64_t size = room_object_size(&room, "p/b");
        cr_assert(size == 1000 || (size == OLD && memory_store_has(room.bucket, "p/a")), "rung %d", (int)n);
        cr_assert(died || n > 3);
    }
}
