/* What is unsent is given up: nothing of it is left here, and nothing in the bucket is touched. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

static int discard(struct room *room, const char *path)
{
    BUF_SCOPED why = BUF_INIT;
    int rc = cache_discard(room->cache, &room->waiter, path, &why);
    cr_assert_eq(rc == 0, why.length == 0, "%d: %s", rc, why.bytes);
    return rc;
}

static uint64_t count_unsent(struct room *room)
{
    struct cache_backlog backlog;
    cache_backlog(room->cache, &backlog);
    return backlog.files;
}

static bool nothing_is_unsent(void *context)
{
    return count_unsent(context) == 0;
}

static bool no_upload_is_left(void *context)
{
    struct room *room = context;
    return memory_store_upload_count(room->bucket) == 0;
}

static void check_all_forgotten(struct room *room)
{
    cr_assert(room_await(nothing_is_unsent, room));
    cr_assert(room_await_no_local_file(room), "%zu local files are left", room_local_files(room));
    memory_store_faults_end(room->bucket);
    memory_store_unhang(room->bucket, 0, NULL);
    room_reopen(room);
    cr_assert_eq(count_unsent(room), 0, "the journal remembers what was given up");
}

static void refuse(struct room *room, enum store_op op)
{
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_FAIL, .op = op, .rc = -EACCES});
}

static void check_text(struct room *room, const char *path, const char *text)
{
    struct handle *handle;
    struct attributes attributes;
    cr_assert_eq(tree_stat(room, path, &attributes), 0);
    cr_assert_eq(attributes.size, strlen(text));
    cr_assert_eq(tree_open(room, path, O_RDONLY, &handle), 0);
    cr_assert_eq(room_read_text(room, handle, text), 0);
    cache_release(room->cache, handle);
}

Test(discard, a_file_that_was_never_sent_vanishes)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct attributes attributes;
    refuse(&room, STORE_PUT);
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_close(&room, handle), -EACCES);
    cr_assert_eq(discard(&room, "a"), 0);
    cr_assert_eq(tree_stat(&room, "a", &attributes), -ENOENT);
    cr_assert_eq(discard(&room, "a"), -ENOENT);
    check_all_forgotten(&room);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
}

Test(discard, a_patched_file_is_again_what_the_bucket_holds)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    refuse(&room, STORE_PUT);
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 9), 0);
    cr_assert_eq(room_close(&room, handle), -EACCES);
    cr_assert_eq(discard(&room, "a"), 0);
    check_text(&room, "a", "0123456789");
    check_all_forgotten(&room);
    cr_assert(tree_holds(&room, "p/a", "0123456789"));
}

Test(discard, another_clients_version_shows_when_ours_is_given_up)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    cr_assert_eq(tree_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 4), 0);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    cr_assert_eq(room_close(&room, handle), -ESTALE);
    cr_assert_eq(discard(&room, "a"), 0);
    check_text(&room, "a", "theirs");
    check_all_forgotten(&room);
    cr_assert(tree_holds(&room, "p/a", "theirs"));
}

Test(discard, attributes_alone_are_again_those_of_the_object)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct entry entry;
    struct attributes wanted = {.mode = 0600}, seen, before;
    tree_put(&room, "p/a", "text", "mode=33188", NULL);
    refuse(&room, STORE_COPY);
    cr_assert_eq(tree_stat(&room, "a", &before), 0);
    cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &seen),
                 0);
    inode_unref(entry.inode);
    cr_assert_eq(tree_stat(&room, "a", &seen), 0);
    cr_assert_eq(seen.mode & 07777, 0600);
    cr_assert_eq(discard(&room, "a"), 0);
    cr_assert_eq(tree_stat(&room, "a", &seen), 0);
    cr_assert_eq(seen.mode & 07777, 0644);
    cr_assert_eq(seen.number, before.number, "the name's number stays");
    check_all_forgotten(&room);
    cr_assert_eq(tree_stat(&room, "a", &seen), 0);
    cr_assert_eq(seen.mode & 07777, 0644);
}

Test(discard, who_waits_for_what_is_given_up_hears_that_it_never_arrived)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct room_sync sync;
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    struct handle *reader;
    cr_assert_eq(tree_open(&room, "a", O_RDONLY, &reader), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 4), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_GET});
    room_fsync_begin(&room, reader, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_GET, "p/a", 1));
    cache_release(room.cache, handle);
    cr_assert_eq(discard(&room, "a"), 0);
    cr_assert_eq(room_sync_end(&sync), -ESTALE);
    cache_release(room.cache, reader);
    check_all_forgotten(&room);
    cr_assert(tree_holds(&room, "p/a", "0123456789"));
}

Test(discard, a_multipart_upload_of_ours_is_aborted)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 40 * MIB, 1), 0);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_PART, .skip = 2, .rc = -EACCES});
    cr_assert_eq(room_close(&room, handle), -EACCES);
    cr_assert_eq(memory_store_upload_count(room.bucket), 1);
    cr_assert_eq(discard(&room, "a"), 0);
    cr_assert(room_await(no_upload_is_left, &room));
    check_all_forgotten(&room);
}

Test(discard, so_is_one_of_an_earlier_process_also_after_a_crash_in_between)
{
    for (int crash = 0; crash < 2; crash++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 40 * MIB, 1), 0);
        memory_store_fault(room.bucket,
                           &(struct fault){.kind = FAULT_FAIL, .op = STORE_PART, .skip = 2, .rc = -EACCES});
        cr_assert_eq(room_close(&room, handle), -EACCES);
        room_close_cache(&room);
        room_reopen(&room);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_LIST_PARTS});
        if (crash)
            memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_ABORT});
        cr_assert_eq(discard(&room, "a"), 0);
        if (crash) {
            room_crash(&room);
            room_reopen(&room);
        }
        cr_assert(room_await(no_upload_is_left, &room));
        check_all_forgotten(&room);
        cr_assert_not(memory_store_has(room.bucket, "p/a"));
    }
}

Test(discard, what_arrived_without_a_word_is_asked_for_and_stays)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct fault lost = {.kind = FAULT_LOSE_REPLY, .op = STORE_PUT}, deaf = {.op = STORE_HEAD};
    deaf.kind = FAULT_FAIL;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    memory_store_fault(room.bucket, &lost);
    memory_store_fault(room.bucket, &deaf);
    cr_assert_eq(room_close(&room, handle), -EIO);
    cr_assert_eq(discard(&room, "a"), -EIO, "nobody knows what stands there");
    cr_assert_eq(count_unsent(&room), 1);
    memory_store_faults_end(room.bucket);
    refuse(&room, STORE_PUT);
    int rc = discard(&room, "a"); /* the uploader may have been quicker */
    cr_assert(rc == 0 || rc == -ENOENT);
    check_all_forgotten(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    struct attributes attributes;
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 1000);
}

static int remove_local(void *context, const char *name)
{
    struct disk *disk = context;
    return strspn(name, "0123456789abcdef") == strlen(name) ? disk->ops->remove(disk, name) : 0;
}

Test(discard, what_is_damaged_here_can_be_given_up_too)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    refuse(&room, STORE_PUT);
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100000, 1), 0);
    cr_assert_eq(room_close(&room, handle), -EACCES);
    room_close_cache(&room);
    cr_assert_eq(room.directory->ops->list(room.directory, remove_local, room.directory), 0);
    room_reopen(&room);
    cr_assert_eq(count_unsent(&room), 1);
    cr_assert_eq(discard(&room, "a"), 0);
    check_text(&room, "a", "0123456789");
    check_all_forgotten(&room);
    cr_assert(tree_holds(&room, "p/a", "0123456789"));
}

Test(discard, a_file_that_is_open_for_writing_is_busy)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(discard(&room, "a"), -EBUSY);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
}

Test(discard, what_is_sent_a_directory_or_nothing_is_no_such_file)
{
    ROOM_SCOPED(room, NULL);
    cr_assert_eq(tree_write(&room, "a", "text"), 0);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(discard(&room, "a"), -ENOENT);
    cr_assert_eq(discard(&room, "d"), -ENOENT);
    cr_assert_eq(discard(&room, ""), -ENOENT);
    cr_assert_eq(discard(&room, "d/x"), -ENOENT);
    cr_assert(tree_holds(&room, "p/a", "text"));
}

Test(discard, who_has_it_open_for_reading_reads_on)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle, *reader;
    refuse(&room, STORE_PUT);
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "text", 4, 0), 0);
    cr_assert_eq(tree_open(&room, "a", O_RDONLY, &reader), 0);
    cr_assert_eq(room_close(&room, handle), -EACCES);
    cr_assert_eq(discard(&room, "a"), 0);
    cr_assert_eq(room_read_text(&room, reader, "text"), 0);
    cache_release(room.cache, reader);
    check_all_forgotten(&room);
}

Test(discard, it_does_not_come_back_after_a_crash)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    refuse(&room, STORE_PUT);
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_close(&room, handle), -EACCES);
    cr_assert_eq(discard(&room, "a"), 0);
    room_crash(&room);
    room_reopen(&room);
    check_all_forgotten(&room);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
}
