#include "cache/publishing.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/support/room.h"

#define MIB ((uint64_t)1 << 20)

Test(publishing, an_open_file_that_is_quiet_appears)
{
    struct room_config config = {.publish_after_ms = 100, .durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "log", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    for (int i = 0; i < 1000 && room_object_size(&room, "p/log") != 1000; i++)
        usleep(5000);
    cr_assert_eq(room_object_size(&room, "p/log"), 1000);
    cr_assert_eq(room_write(&room, handle, 1000, 1000, 1), 0);
    for (int i = 0; i < 1000 && room_object_size(&room, "p/log") != 2000; i++)
        usleep(5000);
    cr_assert(room_object_holds(&room, "p/log", 0, 2000, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

static bool is_behind(struct room *room, uint64_t at)
{
    uint64_t size = room_object_size(room, "p/log");
    return size == UINT64_MAX || at - size > 1500;
}

Test(publishing, a_log_that_is_written_for_hours_appears_every_few_minutes)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    {
        struct room_config config = {.publish_after_ms = 60000, .durability = DURABILITY_WRITEBACK};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        cr_assert_eq(room_create(&room, "log", &handle), 0);
        uint64_t at = 0, before = 0;
        for (int hour = 0; hour < 2; hour++) {
            for (int i = 0; i < 120; i++) { /* a line every 30 s: it is never quiet */
                cr_assert_eq(room_write(&room, handle, at, 100, 1), 0);
                at += 100;
                clock_fake_advance(30000);
                usleep(2000);
                /* On a busy machine time stands until the uploader has had its turn. */
                for (int n = 0; n < 1000 && at > 1500 && is_behind(&room, at); n++) {
                    clock_fake_advance(50);
                    usleep(5000);
                }
            }
            uint64_t size = room_object_size(&room, "p/log");
            cr_assert(size != UINT64_MAX && size > before && at - size <= 1500, "%lu of %lu", size, at);
            before = size;
        }
        cr_assert_leq(memory_store_logged(room.bucket, STORE_PUT, "p/log"), 30, "it went up too often");
        cr_assert_eq(room_close(&room, handle), 0);
    }
    clock_fake_end();
}

Test(publishing, a_file_that_was_just_made_is_not_quiet)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    {
        struct room_config config = {.publish_after_ms = 60000, .durability = DURABILITY_WRITEBACK};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        cr_assert_eq(room_create(&room, "new", &handle), 0);
        clock_fake_advance(59000);
        usleep(100000);
        cr_assert_not(memory_store_has(room.bucket, "p/new"));
        cr_assert_eq(room_close(&room, handle), 0);
    }
    clock_fake_end();
}

Test(publishing, a_large_file_does_not_go_up_by_time_where_parts_cannot_be_copied)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    {
        struct room_config config = {.bucket = {.no_part_copy = true},
                                     .publish_after_ms = 60000,
                                     .durability = DURABILITY_WRITEBACK,
                                     .memory_bytes = 128 * MIB};
        ROOM_SCOPED(room, &config);
        struct handle *large, *small;
        cr_assert_eq(room_create(&room, "large", &large), 0);
        cr_assert_eq(room_truncate(&room, large, 65 * MIB), 0);
        cr_assert_eq(room_create(&room, "small", &small), 0);
        cr_assert_eq(room_write(&room, small, 0, 1000, 1), 0);
        /* The small one tells that the time of both has come. */
        for (int i = 0; i < 1000 && !memory_store_has(room.bucket, "p/small"); i++) {
            clock_fake_advance(10000);
            usleep(5000);
        }
        cr_assert(memory_store_has(room.bucket, "p/small"));
        cr_assert_not(memory_store_has(room.bucket, "p/large"));
        cr_assert_eq(room_truncate(&room, large, 0), 0);
        cr_assert_eq(room_close(&room, large), 0);
        cr_assert_eq(room_close(&room, small), 0);
    }
    clock_fake_end();
}

Test(publishing, a_large_log_that_is_appended_to_appears_by_copies_of_what_is_there)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    {
        struct room_config config = {
            .publish_after_ms = 60000, .durability = DURABILITY_WRITEBACK, .memory_bytes = 128 * MIB};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        uint64_t size = 70 * MIB, sent = 0;
        char *zeros = xcalloc(1, size);
        memory_store_put(room.bucket, "p/log", zeros, size, NULL, NULL);
        free(zeros);
        cr_assert_eq(room_open(&room, "log", O_WRONLY | O_APPEND, &handle), 0);
        for (int line = 0; line < 3; line++) {
            cr_assert_eq(room_write(&room, handle, size, 100, 1), 0);
            size += 100;
            for (int i = 0; i < 1000 && room_object_size(&room, "p/log") != size; i++) {
                clock_fake_advance(10000);
                usleep(5000);
            }
            cr_assert_eq(room_object_size(&room, "p/log"), size);
        }
        cr_assert(room_object_holds(&room, "p/log", 70 * MIB, size, 1));
        for (size_t i = 0; i < memory_store_log_count(room.bucket); i++)
            if (memory_store_log(room.bucket, i)->op == STORE_PART)
                sent += memory_store_log(room.bucket, i)->length;
        cr_assert_eq(sent, 300);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_GET, "p/log"), 0);
        cr_assert_eq(room_close(&room, handle), 0);
    }
    clock_fake_end();
}

Test(publishing, what_a_writer_is_in_the_middle_of_is_not_shown_by_the_close_before)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    struct inode *inode = inode_ref(room_inode(handle));
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(upload_hold(inode, &room.waiter), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_open(&room, "a", O_WRONLY | O_TRUNC, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 500, 2), 0);
    upload_unhold(inode);
    usleep(200000);
    cr_assert_not(memory_store_has(room.bucket, "p/a"), "half of a save was shown");
    cr_assert_eq(room_write(&room, handle, 500, 500, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    for (int i = 0; i < 1000 && !memory_store_has(room.bucket, "p/a"); i++)
        usleep(5000);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 2));
    inode_unref(inode);
}
