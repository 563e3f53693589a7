/* Large files of which little changed: what stands in the bucket is copied there, the rest is sent (mosaic.h). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/core.h"
#include "cache/uploader.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

static void put(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    free(bytes);
}

struct moved {
    uint64_t fetched, sent, copied;
    size_t gets, parts, copies;
};

/* What the log says that the calls carried. */
static struct moved count_moved(struct room *room)
{
    struct moved moved = {0};
    for (size_t i = 0; i < memory_store_log_count(room->bucket); i++) {
        const struct memory_store_entry *entry = memory_store_log(room->bucket, i);
        if (entry->op == STORE_GET) {
            moved.gets++;
            moved.fetched += entry->length;
        } else if (entry->op == STORE_PART || entry->op == STORE_PUT) {
            moved.parts++;
            moved.sent += entry->length;
        } else if (entry->op == STORE_PART_COPY) {
            moved.copies++;
            moved.copied += entry->length;
            cr_assert(entry->source_if_match && entry->source_if_match[0] == '"', "an unconditional copy");
        }
    }
    return moved;
}

static int drain(struct room *room)
{
    size_t unsent;
    return cache_drain(room->cache, &room->waiter, clock_ms() + 20000, &unsent);
}

Test(copied, an_append_sends_what_was_appended_and_fetches_nothing)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 30 * MIB + 17, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 30 * MIB + 17, 1024, 2), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    struct moved moved = count_moved(&room);
    cr_assert_eq(moved.gets, 0);
    cr_assert_eq(moved.sent, 1024);
    cr_assert(moved.copies == 1 && moved.copied == 30 * MIB + 17);
    cr_assert(room_object_holds(&room, "p/a", 0, 30 * MIB + 17, 1));
    cr_assert(room_object_holds(&room, "p/a", 30 * MIB + 17, 30 * MIB + 17 + 1024, 2));
    cr_assert(room_clean(handle));
    struct uploader_report report;
    uploader_report_sent(room.cache->uploader, &report);
    cr_assert(report.sent_bytes == 1024 && report.copied_bytes == 30 * MIB + 17);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

Test(copied, a_patch_in_the_middle_fetches_and_sends_one_least_part)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 50 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 20 * MIB + 5, 4096, 2), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    struct moved moved = count_moved(&room);
    cr_assert(moved.sent == 5 * MIB && moved.fetched == 5 * MIB - 4096 && moved.copies == 2);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB + 5, 1));
    cr_assert(room_object_holds(&room, "p/a", 20 * MIB + 5, 20 * MIB + 5 + 4096, 2));
    cr_assert(room_object_holds(&room, "p/a", 20 * MIB + 5 + 4096, 50 * MIB, 1));
    cr_assert_eq(room_read(&room, handle, 40 * MIB, 100000, 1), 0);
    cr_assert_eq(room_read(&room, handle, 20 * MIB + 5, 4096, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(copied, what_was_put_together_is_the_base_of_the_next_change)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 20 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    for (uint64_t i = 0; i < 5; i++) {
        memory_store_log_clear(room.bucket);
        cr_assert_eq(room_write(&room, handle, 20 * MIB + i * 100, 100, 1), 0);
        cr_assert_eq(room_fsync(&room, handle), 0);
        cr_assert_eq(count_moved(&room).sent, 100);
    }
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB + 500, 1));
    cr_assert_eq(room_object_size(&room, "p/a"), 20 * MIB + 500);
}

/* ---- Endpoints that cannot. ---- */

static char heard[8][400];
static size_t heard_count;

static void hear_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level;
    if (strstr(line, "UploadPartCopy") && heard_count < 8)
        snprintf(heard[heard_count++], sizeof heard[0], "%s", line);
}

Test(copied, an_endpoint_that_refuses_copies_of_parts_gets_the_file_whole_and_is_not_asked_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handles[2];
    const char *names[] = {"a", "b"};
    put(&room, "p/a", 20 * MIB, 1);
    put(&room, "p/b", 20 * MIB, 1);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL,
                                                    .op = STORE_PART_COPY,
                                                    .rc = -EOPNOTSUPP,
                                                    .http_status = 501,
                                                    .code = "NotImplemented"});
    log_tap(hear_line, NULL);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(room_open(&room, names[i], O_WRONLY, &handles[i]), 0);
        cr_assert_eq(room_write(&room, handles[i], 20 * MIB, 1000, 1), 0);
        cr_assert_eq(room_close(&room, handles[i]), 0);
    }
    log_tap(NULL, NULL);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB + 1000, 1));
    cr_assert(room_object_holds(&room, "p/b", 0, 20 * MIB + 1000, 1));
    cr_assert_eq(count_moved(&room).copies, 1);
    cr_assert_eq(heard_count, 1);
}

Test(copied, endpoints_known_not_to_copy_or_to_want_equal_parts_get_the_file_whole)
{
    for (int equal = 0; equal < 2; equal++) {
        struct room_config config = {.bucket = {.no_part_copy = !equal, .equal_parts = equal}};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        put(&room, "p/a", 20 * MIB, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 20 * MIB, 1000, 1), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert_eq(count_moved(&room).copies, 0);
        cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB + 1000, 1));
    }
}

/* ---- Another client. ---- */

static void replace(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)memory, (void)call;
    put(context, "p/a", 1000, 3);
}

static void take_away(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)call, (void)context;
    memory_store_remove(memory, "p/a");
}

static void note_parked(void *context, const struct cache_unsent *unsent)
{
    size_t *count = context;
    *count += unsent->conflict && unsent->parked && strcmp(unsent->path, "a") == 0;
}

Test(copied, a_foreign_version_in_the_middle_is_a_conflict_and_what_was_written_stays)
{
    static const enum store_op ops[] = {STORE_PART_COPY, STORE_COMPLETE};
    for (int i = 0; i < 4; i++) {
        struct room_config config = {.durability = DURABILITY_WRITEBACK};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        size_t parked = 0;
        put(&room, "p/a", 40 * MIB, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 20 * MIB, 10, 2), 0);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                        .op = ops[i / 2],
                                                        .times = 1,
                                                        .meanwhile = i & 1 ? take_away : replace,
                                                        .context = &room});
        cr_assert_eq(room_fsync(&room, handle), -ESTALE, "row %d", i);
        cache_unsent(room.cache, note_parked, &parked);
        cr_assert_eq(parked, 1, "row %d", i);
        cr_assert_leq(count_moved(&room).copies, 4, "it is tried again and again");
        cr_assert_eq(room_object_size(&room, "p/a"), i & 1 ? UINT64_MAX : 1000);
        cr_assert_eq(room_read(&room, handle, 20 * MIB, 10, 2), 0);
        for (int k = 0; k < 1000 && memory_store_upload_count(room.bucket); k++)
            usleep(5000);
        cr_assert_eq(memory_store_upload_count(room.bucket), 0);
        cache_release(room.cache, handle);
    }
}

Test(copied, an_upload_that_the_server_lost_while_it_copied_starts_again)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    put(&room, "p/a", 20 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 20 * MIB, 10, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL,
                                                    .op = STORE_PART_COPY,
                                                    .times = 1,
                                                    .rc = -ENOENT,
                                                    .http_status = 404,
                                                    .code = "NoSuchUpload"});
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB + 10, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

/* ---- Changes on the way. ---- */

Test(copied, a_write_into_a_range_that_is_copied_goes_up_with_the_sync_that_took_no_version_yet)
{
    struct room_config config = {.uploads_max = 1};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct room_sync sync;
    put(&room, "p/a", 50 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 50 * MIB, 100, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART_COPY, .times = 1});
    room_fsync_begin(&room, handle, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_PART_COPY, "p/a", 1));
    cr_assert_eq(room_write(&room, handle, 30 * MIB, 100, 2), 0);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert_eq(room_sync_end(&sync), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 30 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 30 * MIB, 30 * MIB + 100, 2));
    cr_assert(room_object_holds(&room, "p/a", 30 * MIB + 100, 50 * MIB + 100, 1));
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

struct spoiler {
    struct room *room;
    struct handle *handle;
    uint64_t at;
    int written, held;
};

/* Behind its part each copy finds a byte changed, as long as the writer is not held. */
static void spoil(struct memory_store *memory, const struct store_call *call, void *context)
{
    struct spoiler *spoiler = context;
    (void)memory;
    int rc =
        cache_write(spoiler->room->cache, NULL, spoiler->handle, "x", 1, call->offset + call->length / 2);
    spoiler->written += rc == 0;
    spoiler->held += rc == -EAGAIN;
}

Test(copied, a_writer_who_spoils_each_cut_is_held_in_the_end_and_fsync_ends)
{
    struct room_config config = {.uploads_max = 1};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    put(&room, "p/a", 80 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    struct spoiler spoiler = {.room = &room, .handle = handle};
    cr_assert_eq(room_write(&room, handle, 80 * MIB, 100, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                    .op = STORE_PART_COPY,
                                                    .meanwhile = spoil,
                                                    .context = &spoiler});
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert(spoiler.written >= 2 && spoiler.held >= 1, "%d, %d", spoiler.written, spoiler.held);
    memory_store_faults_end(room.bucket);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(copied, a_file_that_is_cut_off_or_grows_on_the_way_ends_whole)
{
    static const uint64_t sizes[] = {0, 100, 6 * MIB, 25 * MIB, 39 * MIB, 60 * MIB};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct room_config config = {.uploads_max = i & 1};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        struct room_sync sync;
        put(&room, "p/a", 40 * MIB, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 20 * MIB, 100, 2), 0);
        memory_store_fault(room.bucket,
                           &(struct fault){.kind = FAULT_HANG, .op = STORE_PART_COPY, .times = 1});
        room_fsync_begin(&room, handle, &sync);
        cr_assert(memory_store_await(room.bucket, STORE_PART_COPY, "p/a", 1));
        cr_assert_eq(room_truncate(&room, handle, sizes[i]), 0);
        memory_store_unhang(room.bucket, 0, NULL);
        cr_assert_eq(room_sync_end(&sync), 0);
        cr_assert_eq(room_fsync(&room, handle), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        uint64_t size = sizes[i], before = size < 20 * MIB ? size : 20 * MIB;
        cr_assert_eq(room_object_size(&room, "p/a"), size);
        cr_assert(room_object_holds(&room, "p/a", 0, before, 1));
        if (size > before)
            cr_assert(room_object_holds(&room, "p/a", 20 * MIB + 100, size < 40 * MIB ? size : 40 * MIB, 1));
        if (size > 40 * MIB)
            cr_assert(room_object_holds(&room, "p/a", 40 * MIB, size, 0));
    }
}

/* ---- Reads meanwhile. ---- */

Test(copied, a_read_of_what_our_own_complete_replaces_waits_for_its_outcome)
{
    for (int interrupted = 0; interrupted < 2; interrupted++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct room_sync sync;
        struct reader reader;
        put(&room, "p/a", 20 * MIB, 1);
        cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 20 * MIB, 10, 1), 0);
        memory_store_fault(room.bucket,
                           &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_COMPLETE, .times = 1});
        room_fsync_begin(&room, handle, &sync);
        for (int i = 0; i < 2000 && room_object_size(&room, "p/a") != 20 * MIB + 10; i++)
            usleep(5000);
        reader_begin(&reader, &room, handle, 5 * MIB, 1000);
        for (int i = 0; i < 2000 && !memory_store_logged(room.bucket, STORE_GET, "p/a"); i++)
            usleep(5000);
        usleep(100000);
        cr_assert_not(reader_answered(&reader), "another version was read, or an error: %d", reader.read.rc);
        if (interrupted) {
            reader_interrupt(&reader);
            cr_assert_eq(reader_wait(&reader), -EINTR);
        }
        memory_store_unhang(room.bucket, 0, NULL);
        cr_assert_eq(room_sync_end(&sync), 0);
        cr_assert(interrupted || reader_wait(&reader) == 0);
        cr_assert(interrupted || reader_holds(&reader, 5 * MIB, 1000, 1));
        reader_release(&reader);
        cr_assert_eq(room_close(&room, handle), 0);
    }
}

/* ---- Renamed, and whatever fails. ---- */

Test(copied, a_file_that_was_patched_and_renamed_is_put_together_under_its_new_name)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    put(&room, "p/a", 40 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_CREATE});
    cr_assert_eq(room_write(&room, handle, 20 * MIB, 10, 2), 0);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    memory_store_fault_end(room.bucket, fault);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(drain(&room), 0);
    assert_keys(&room, "p/b ");
    cr_assert_leq(count_moved(&room).sent, 5 * MIB);
    cr_assert(room_object_holds(&room, "p/b", 0, 20 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/b", 20 * MIB, 20 * MIB + 10, 2));
    cr_assert(room_object_holds(&room, "p/b", 20 * MIB + 10, 40 * MIB, 1));
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

Test(copied, no_acknowledged_byte_is_lost_whichever_call_fails)
{
    static const int errors[] = {-EIO, -EOPNOTSUPP};
    for (uint64_t n = 2; n < 24; n++) {
        struct room_config config = {.durability = DURABILITY_WRITEBACK};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        put(&room, "p/a", 30 * MIB, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 15 * MIB, 10, 2), 0);
        cr_assert_eq(room_write(&room, handle, 30 * MIB, 10, 3), 0);
        int rung = memory_store_fail_nth(room.bucket, n / 2, errors[n % 2]);
        int rc = 0;
        for (int i = 0; i < 5 && (rc = room_fsync(&room, handle)) < 0; i++)
            ;
        cr_assert_eq(rc, 0, "call %lu", n / 2);
        cr_assert(room_object_holds(&room, "p/a", 0, 15 * MIB, 1), "call %lu", n / 2);
        cr_assert(room_object_holds(&room, "p/a", 15 * MIB, 15 * MIB + 10, 2), "call %lu", n / 2);
        cr_assert(room_object_holds(&room, "p/a", 15 * MIB + 10, 30 * MIB, 1), "call %lu", n / 2);
        cr_assert(room_object_holds(&room, "p/a", 30 * MIB, 30 * MIB + 10, 3), "call %lu", n / 2);
        cr_assert_eq(room_close(&room, handle), 0);
        if (!memory_store_fault_struck(room.bucket, rung))
            break;
    }
}

/* ---- After a crash. ---- */

static void die_when_two_copies_landed(struct room *room, struct handle **ret_handle)
{
    struct room_sync sync;
    put(room, "p/a", 60 * MIB, 1);
    cr_assert_eq(room_open(room, "a", O_WRONLY, ret_handle), 0);
    cr_assert_eq(room_write(room, *ret_handle, 20 * MIB, 10, 2), 0);
    cr_assert_eq(room_write(room, *ret_handle, 40 * MIB, 10, 2), 0);
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART});
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART_COPY, .skip = 2});
    room_fsync_begin(room, *ret_handle, &sync);
    cr_assert(memory_store_await(room->bucket, STORE_PART_COPY, "p/a", 1));
    usleep(300000); /* the journal has heard of them */
    room_crash(room);
    cr_assert(cache_sync_interrupt(room->cache, &sync.sync));
    cache_release(room->cache, *ret_handle);
    room_close_cache(room);
    memory_store_log_clear(room->bucket);
}

Test(copied, copies_that_landed_are_not_made_again_after_a_crash)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    die_when_two_copies_landed(&room, &handle);
    room_reopen(&room);
    cr_assert_eq(drain(&room), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 0);
    struct moved moved = count_moved(&room);
    cr_assert(moved.copies == 1 && moved.sent == 10 * MIB, "%zu, %lu", moved.copies, moved.sent);
    cr_assert_leq(moved.fetched, 10 * MIB);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 20 * MIB, 20 * MIB + 10, 2));
    cr_assert(room_object_holds(&room, "p/a", 20 * MIB + 10, 40 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 40 * MIB + 10, 60 * MIB, 1));
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

Test(copied, after_a_crash_a_change_within_a_copied_range_cuts_the_file_anew)
{
    for (int cut = 0; cut < 2; cut++) {
        struct room_config config = {.durability = DURABILITY_WRITEBACK};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        die_when_two_copies_landed(&room, &handle);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST_PARTS});
        room_reopen(&room);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        if (cut)
            cr_assert_eq(room_truncate(&room, handle, 30 * MIB), 0);
        cr_assert_eq(room_write(&room, handle, 5 * MIB, 10, 3), 0);
        memory_store_faults_end(room.bucket);
        memory_store_unhang(room.bucket, 0, NULL);
        cr_assert_eq(room_fsync(&room, handle), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert(room_object_holds(&room, "p/a", 0, 5 * MIB, 1));
        cr_assert(room_object_holds(&room, "p/a", 5 * MIB, 5 * MIB + 10, 3));
        cr_assert(room_object_holds(&room, "p/a", 20 * MIB, 20 * MIB + 10, 2));
        cr_assert(room_object_holds(&room, "p/a", 20 * MIB + 10, cut ? 30 * MIB : 40 * MIB, 1));
        cr_assert_eq(room_object_size(&room, "p/a"), cut ? 30 * MIB : 60 * MIB);
        cr_assert_eq(drain(&room), 0);
        for (int k = 0; k < 1000 && memory_store_upload_count(room.bucket); k++)
            usleep(5000);
        cr_assert_eq(memory_store_upload_count(room.bucket), 0);
    }
}

/* ---- Whatever is done to it. ---- */

struct model {
    char *bytes;
    uint64_t size;
};

static void model_resize(struct model *model, uint64_t size)
{
    model->bytes = xrealloc(model->bytes, size + 1);
    if (size > model->size)
        memset(model->bytes + model->size, 0, size - model->size);
    model->size = size;
}

static void model_write(struct model *model, uint64_t at, uint64_t size, unsigned seed)
{
    if (at + size > model->size)
        model_resize(model, at + size);
    for (uint64_t i = 0; i < size; i++)
        model->bytes[at + i] = room_byte(seed, at + i);
}

static void change_at_random(struct room *room, struct handle *handle, struct model *model, unsigned *seed)
{
    static const uint64_t lengths[] = {1, 4096, 65536, 1 * MIB, 3 * MIB, 6 * MIB};
    uint64_t at = (uint64_t)rand_r(seed) % (model->size + 1), length = lengths[rand_r(seed) % 6];
    switch (rand_r(seed) % 8) {
    case 0:
        at = at < model->size / 2 ? model->size / 2 : at;
        cr_assert_eq(room_truncate(room, handle, at), 0);
        model_resize(model, at);
        break;
    case 1:
        at = model->size + (uint64_t)rand_r(seed) % (8 * MIB);
        cr_assert_eq(room_truncate(room, handle, at), 0);
        model_resize(model, at);
        break;
    case 2:
    case 3:
    case 4:
        at = model->size;
        /* fall through */
    default:
        cr_assert_eq(room_write(room, handle, at, length, *seed | 1), 0);
        model_write(model, at, length, *seed | 1);
    }
}

static bool matches(struct room *room, const struct model *model)
{
    BUF_SCOPED bytes = BUF_INIT;
    return memory_store_peek(room->bucket, "p/a", NULL, &bytes) && bytes.length == model->size &&
           memcmp(bytes.bytes, model->bytes, model->size) == 0;
}

Test(copied, random_changes_reach_the_bucket_as_a_plain_file_would_hold_them)
{
    unsigned begin = (unsigned)(getenv("SEED") ? atoi(getenv("SEED")) : 1);
    for (unsigned n = begin; n < begin + 3; n++) {
        unsigned seed = n;
        struct room_config config = {.durability = DURABILITY_WRITEBACK};
        ROOM_SCOPED(room, &config);
        struct model model = {0};
        struct handle *handle;
        put(&room, "p/a", 40 * MIB, 1);
        model_write(&model, 0, 40 * MIB, 1);
        cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
        for (int i = 0; i < 12; i++) {
            struct room_sync sync;
            change_at_random(&room, handle, &model, &seed);
            room_fsync_begin(&room, handle, &sync);
            if (rand_r(&seed) % 2) /* on the way */
                change_at_random(&room, handle, &model, &seed);
            cr_assert_eq(room_sync_end(&sync), 0, "SEED=%u, step %d", n, i);
            cr_assert_eq(room_fsync(&room, handle), 0, "SEED=%u, step %d", n, i);
            cr_assert(matches(&room, &model), "SEED=%u, step %d", n, i);
        }
        cr_assert_gt(count_moved(&room).copies, 0);
        cr_assert_eq(room_close(&room, handle), 0);
        free(model.bytes);
    }
}
