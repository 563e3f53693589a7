/* A file that is renamed when parts of it have landed: completed where they are, then copied (upload.h, veil.h). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cache/uploader.h"
#include "tests/support/room.h"

#define MIB        ((uint64_t)1 << 20)
#define EARLY_SIZE (24 * MIB) /* three parts of it land while it is written */
#define SIZE       (44 * MIB)
#define EARLY      (&(struct room_config){.early_bytes = 16 * MIB, .durability = DURABILITY_WRITEBACK})

static bool three_parts_landed(void *context)
{
    struct room *room = context;
    struct uploader_report report;
    uploader_report_sent(room->cache->uploader, &report);
    return report.sent_bytes >= 24 * MIB;
}

/* "a", open, and parts of it have landed. */
static void begin_early(struct room *room, struct handle **ret_handle)
{
    cr_assert_eq(room_create(room, "a", ret_handle), 0);
    cr_assert_eq(room_write(room, *ret_handle, 0, EARLY_SIZE, 1), 0);
    cr_assert(room_await(three_parts_landed, room));
}

static void move(struct room *room, const char *from, const char *to)
{
    cr_assert_eq(cache_rename(room->cache, &room->waiter, room->root, from, room->root, to, 0), 0);
}

static struct inode *make_directory(struct room *room, const char *name)
{
    struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
    struct entry entry;
    cr_assert_eq(cache_mkdir(room->cache, &room->waiter, room->root, name, &maker, &entry), 0);
    return entry.inode;
}

static void write_rest(struct room *room, struct handle *handle)
{
    cr_assert_eq(room_write(room, handle, EARLY_SIZE, SIZE - EARLY_SIZE, 1), 0);
}

/* As a checkpoint is saved that is renamed while it is written; and it is in the bucket. */
static void save_renamed(struct room *room)
{
    struct handle *handle;
    begin_early(room, &handle);
    move(room, "a", "b");
    write_rest(room, handle);
    cr_assert_eq(room_close(room, handle), 0);
    assert_drained(room);
}

static bool is_alone(void *context)
{
    struct room *room = context;
    BUF_SCOPED keys = BUF_INIT;
    memory_store_keys(room->bucket, &keys);
    return memory_store_upload_count(room->bucket) == 0 && keys.bytes && strcmp(keys.bytes, "p/b\n") == 0;
}

static void expect_object(struct room *room, const char *key)
{
    cr_assert_eq(room_object_size(room, key), SIZE, "%s", key);
    cr_assert(room_object_holds(room, key, 0, SIZE, 1), "%s", key);
}

static const struct memory_store_entry *find_complete(struct room *room)
{
    const struct memory_store_entry *found = NULL;
    for (size_t i = 0; i < memory_store_log_count(room->bucket); i++)
        if (memory_store_log(room->bucket, i)->op == STORE_COMPLETE)
            found = memory_store_log(room->bucket, i);
    return found;
}

static uint64_t sent_again(struct room *room)
{
    struct uploader_report report;
    uploader_report_sent(room->cache->uploader, &report);
    return report.sent_again_bytes;
}

/* As one that was never renamed, then a copy. */
static void expect_sent_once(struct room *room)
{
    const struct memory_store_entry *complete = find_complete(room);
    expect_object(room, "p/b");
    cr_assert(room_await(is_alone, room));
    cr_assert_eq(memory_store_logged(room->bucket, STORE_PART, "p/a"), 6);
    cr_assert_eq(memory_store_logged(room->bucket, STORE_PART, "p/b"), 0);
    cr_assert_str_eq(complete->key, "p/a");
    cr_assert(complete->if_absent);
    cr_assert_eq(memory_store_logged(room->bucket, STORE_COPY, "p/b"), 1);
}

Test(birth, a_part_that_landed_before_the_rename_is_not_sent_again)
{
    ROOM_SCOPED(room, EARLY);
    save_renamed(&room);
    expect_sent_once(&room);
    cr_assert_eq(sent_again(&room), 0);
}

/* Written, closed, renamed: what was on its way at that moment is all that goes again. */
Test(birth, renamed_in_the_middle_of_its_last_parts)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    begin_early(&room, &handle);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART});
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(memory_store_await(room.bucket, STORE_PART, "p/a", 1));
    memory_store_faults_end(room.bucket);
    move(&room, "a", "b");
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert(room_await(is_alone, &room));
    cr_assert_leq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 9);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/b"), 0);
    cr_assert(find_complete(&room)->if_absent);
}

Test(birth, fsync_answers_when_the_object_stands_under_its_last_name)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    cr_assert_eq(room_fsync(&room, handle), 0);
    expect_object(&room, "p/b");
    expect_sent_once(&room);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(birth, in_sync_too_and_its_close_waits_for_the_last_name)
{
    ROOM_SCOPED(room, (&(struct room_config){.early_bytes = 16 * MIB}));
    struct handle *handle;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    expect_object(&room, "p/b");
    assert_drained(&room);
    expect_sent_once(&room);
}

Test(birth, below_a_directory_that_is_renamed_too)
{
    ROOM_SCOPED(room, EARLY);
    struct inode *directory = make_directory(&room, "d");
    struct handle *handle;
    begin_early(&room, &handle);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "a", directory, "f", 0), 0);
    move(&room, "d", "e");
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    expect_object(&room, "p/e/f");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 6);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    inode_unref(directory);
}

/* Its directory has another name by now, and was never known to the server. */
Test(birth, in_a_directory_that_is_renamed_itself)
{
    ROOM_SCOPED(room, EARLY);
    struct inode *directory = make_directory(&room, "d");
    struct handle *handle;
    begin_early(&room, &handle);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "a", directory, "f", 0), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(room_truncate(&room, handle, 0), 0);
    memory_store_log_clear(room.bucket);
    cr_assert_eq(room_write(&room, handle, 0, EARLY_SIZE, 1), 0);
    for (int i = 0; i < 2000 && memory_store_logged(room.bucket, STORE_PART, "p/d/f") < 3; i++)
        usleep(5000);
    memory_store_settle(room.bucket);
    move(&room, "d", "e");
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    expect_object(&room, "p/e/f");
    cr_assert_not(memory_store_has(room.bucket, "p/d/f"));
    inode_unref(directory);
}

Test(birth, a_process_that_died_in_between_is_no_reason_to_send_parts_again)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    usleep(300000); /* the journal has heard of all */
    room_crash(&room);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    size_t parts = memory_store_logged(room.bucket, STORE_PART, "p/a");
    room_reopen(&room);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert(room_await(is_alone, &room));
    cr_assert_leq(memory_store_logged(room.bucket, STORE_PART, "p/a"), parts + 3);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/b"), 0);
}

/* Killed when the Complete had happened, or had not. */
Test(birth, a_complete_that_was_never_answered_is_found_where_it_was_sent)
{
    for (int happened = 0; happened < 2; happened++) {
        ROOM_SCOPED(room, EARLY);
        struct handle *handle;
        begin_early(&room, &handle);
        move(&room, "a", "b");
        write_rest(&room, handle);
        memory_store_fault(room.bucket, &(struct fault){.kind = happened ? FAULT_HANG_REPLY : FAULT_HANG,
                                                        .op = STORE_COMPLETE});
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert(memory_store_await(room.bucket, STORE_COMPLETE, "p/a", 1));
        usleep(100000);
        room_crash(&room);
        room_close_cache(&room);
        cr_assert_eq(memory_store_has(room.bucket, "p/a"), happened);
        room_reopen(&room);
        assert_drained(&room);
        expect_sent_once(&room);
    }
}

Test(birth, a_lost_reply_of_complete_is_settled_there)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_COMPLETE, .times = 1});
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    expect_sent_once(&room);
}

static bool is_completed(void *context)
{
    struct room *room = context;
    return memory_store_has(room->bucket, "p/a");
}

/* The name was a temporary one: another host may clean it up. */
Test(birth, what_was_closed_is_kept_here_until_it_stands_under_its_last_name)
{
    for (int crash = 0; crash < 2; crash++) {
        ROOM_SCOPED(room, EARLY);
        struct handle *handle;
        begin_early(&room, &handle);
        move(&room, "a", "b");
        write_rest(&room, handle);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY});
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert(room_await(is_completed, &room));
        usleep(300000); /* the journal has heard of it */
        if (crash)
            room_crash(&room);
        room_close_cache(&room);
        cr_assert(memory_store_remove(room.bucket, "p/a"));
        room_reopen(&room);
        assert_drained(&room);
        expect_object(&room, "p/b");
        cr_assert(room_await(is_alone, &room));
        cr_assert(room_await_no_local_file(&room));
    }
}

/* ---- Where that key is not ours any more. ---- */

/* All of it goes again, under the name that it has. */
static void expect_sent_anew(struct room *room)
{
    expect_object(room, "p/b");
    cr_assert_eq(memory_store_logged(room->bucket, STORE_PART, "p/b"), 6);
    cr_assert_geq(sent_again(room), 24 * MIB);
}

/* "a" over an object that stands there; parts of it have landed, and the last ones hang. */
static void begin_over(struct room *room, struct handle **ret_handle)
{
    cr_assert_eq(room_open(room, "a", O_RDWR | O_TRUNC, ret_handle), 0);
    cr_assert_eq(room_write(room, *ret_handle, 0, EARLY_SIZE, 1), 0);
    cr_assert(room_await(three_parts_landed, room));
}

/* The fault that they hang by. */
static int move_closed(struct room *room, struct handle *handle)
{
    int hang = memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART});
    write_rest(room, handle);
    cr_assert_eq(room_close(room, handle), 0);
    cr_assert(memory_store_await(room->bucket, STORE_PART, "p/a", 1));
    move(room, "a", "b");
    return hang;
}

static void go_on(struct room *room, int hang)
{
    memory_store_fault_end(room->bucket, hang);
    memory_store_unhang(room->bucket, STORE_PART, NULL);
}

static void foreign_write(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)call, (void)context;
    memory_store_put_text(memory, "p/a", "theirs");
}

Test(birth, another_clients_object_under_the_old_name_stays)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                    .op = STORE_COMPLETE,
                                                    .key = "p/a",
                                                    .times = 1,
                                                    .meanwhile = foreign_write});
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    expect_sent_anew(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 6, "theirs is gone");
    cr_assert_eq(memory_store_object_count(room.bucket), 2, "there is a conflict copy");
}

Test(birth, another_clients_object_is_seen_while_ours_is_not_there)
{
    ROOM_SCOPED(room, (&(struct room_config){
                          .early_bytes = 16 * MIB, .durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 1}));
    struct handle *handle;
    struct entry entry;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .key = "p/a"});
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(memory_store_await(room.bucket, STORE_PART, "p/a", 1));
    memory_store_put_text(room.bucket, "p/a", "theirs");
    usleep(10000);
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, room.root, "a", &entry), 0);
    inode_unref(entry.inode);
    room_start_server(&room);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert_eq(room_object_size(&room, "p/a"), 6);
}

/* Refused, and the question what stands there instead is not answered at first: it is no conflict, it only has to go elsewhere. */
Test(birth, a_refusal_that_is_settled_later)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "old");
    begin_over(&room, &handle);
    int hang = move_closed(&room, handle);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                    .op = STORE_COMPLETE,
                                                    .key = "p/a",
                                                    .times = 1,
                                                    .meanwhile = foreign_write});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .times = 1});
    go_on(&room, hang);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert_eq(room_object_size(&room, "p/a"), 6);
    cr_assert_eq(memory_store_object_count(room.bucket), 2);
}

/* The object that the file had there is overwritten, and nothing else. */
Test(birth, over_the_object_that_it_had_before)
{
    ROOM_SCOPED(room, (&(struct room_config){
                          .early_bytes = 16 * MIB, .durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 1}));
    struct handle *handle;
    struct entry entry;
    memory_store_put_text(room.bucket, "p/a", "old");
    begin_over(&room, &handle);
    int hang = move_closed(&room, handle);
    usleep(10000);
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, room.root, "a", &entry), -ENOENT,
                 "it has another name by now");
    go_on(&room, hang);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/b"), 0);
    cr_assert(find_complete(&room)->if_match);
    cr_assert(room_await(is_alone, &room));
}

/* In sync the older object has gone on, and nothing stands there. */
Test(birth, over_an_object_that_was_renamed_with_it)
{
    ROOM_SCOPED(room, (&(struct room_config){.early_bytes = 16 * MIB}));
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/a", "old");
    begin_over(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/b"), 0);
    cr_assert(room_await(is_alone, &room));
}

Test(birth, a_key_that_the_server_does_not_let_us_have)
{
    static const int refusals[] = {-EISDIR, -EOPNOTSUPP};
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        ROOM_SCOPED(room, EARLY);
        struct handle *handle;
        begin_early(&room, &handle);
        move(&room, "a", "b");
        write_rest(&room, handle);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL,
                                                        .op = STORE_COMPLETE,
                                                        .key = "p/a",
                                                        .rc = refusals[i],
                                                        .http_status = 409});
        cr_assert_eq(room_close(&room, handle), 0);
        assert_drained(&room);
        expect_sent_anew(&room);
    }
}

Test(birth, an_endpoint_without_conditions_gets_it_under_its_last_name)
{
    ROOM_SCOPED(room, (&(struct room_config){.bucket = {.ignore_conditions = true, .unprobed = true},
                                             .early_bytes = 16 * MIB,
                                             .durability = DURABILITY_WRITEBACK}));
    save_renamed(&room);
    expect_sent_anew(&room);
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
}

Test(birth, what_is_not_known_of_conditions_is_probed)
{
    ROOM_SCOPED(room, (&(struct room_config){.bucket = {.unprobed = true},
                                             .early_bytes = 16 * MIB,
                                             .durability = DURABILITY_WRITEBACK}));
    save_renamed(&room);
    expect_sent_once(&room);
}

Test(birth, where_so_large_a_file_cannot_be_copied_it_is_sent_under_its_last_name)
{
    ROOM_SCOPED(room, (&(struct room_config){.bucket = {.no_part_copy = true},
                                             .copy_bytes_max = 40 * MIB,
                                             .early_bytes = 16 * MIB,
                                             .durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, NULL), 0);
}

/* ---- Where somebody here needs that key. ---- */

/* Renamed, closed, and its last parts hang: it is at work under its birth key. */
static void begin_hanging(struct room *room, struct handle **ret_handle)
{
    begin_early(room, ret_handle);
    move(room, "a", "b");
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART, .key = "p/a"});
    write_rest(room, *ret_handle);
    cr_assert_eq(room_close(room, *ret_handle), 0);
    cr_assert(memory_store_await(room->bucket, STORE_PART, "p/a", 1));
}

Test(birth, a_log_that_was_rotated_and_its_successor_do_not_wait_for_each_other)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *old, *fresh;
    begin_hanging(&room, &old);
    cr_assert_eq(room_create(&room, "a", &fresh), 0);
    cr_assert_eq(room_write(&room, fresh, 0, 100, 7), 0);
    cr_assert_eq(room_fsync(&room, fresh), 0, "it needs the key, and gets it");
    cr_assert_eq(room_close(&room, fresh), 0);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert_eq(room_object_size(&room, "p/a"), 100);
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 7));
}

Test(birth, the_successor_was_there_first)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *old, *fresh;
    begin_early(&room, &old);
    move(&room, "a", "b");
    cr_assert_eq(room_create(&room, "a", &fresh), 0);
    cr_assert_eq(room_write(&room, fresh, 0, 100, 7), 0);
    write_rest(&room, old);
    cr_assert_eq(room_close(&room, old), 0);
    cr_assert_eq(room_close(&room, fresh), 0);
    assert_drained(&room);
    expect_sent_anew(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 7));
}

Test(birth, mkdir_and_exclusive_create_get_the_old_name_at_once)
{
    for (int directory = 0; directory < 2; directory++) {
        ROOM_SCOPED(room, EARLY);
        struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
        struct entry entry;
        struct handle *old, *fresh = NULL;
        begin_hanging(&room, &old);
        if (directory)
            cr_assert_eq(cache_mkdir(room.cache, &room.waiter, room.root, "a", &maker, &entry), 0);
        else
            cr_assert_eq(cache_create(room.cache, &room.waiter, room.root, "a", O_RDWR | O_EXCL | O_CREAT,
                                      &maker, &entry, &fresh),
                         0);
        inode_unref(entry.inode);
        if (fresh)
            cr_assert_eq(room_close(&room, fresh), 0);
        assert_drained(&room);
        expect_object(&room, "p/b");
        cr_assert(memory_store_has(room.bucket, directory ? "p/a/" : "p/a"));
        cr_assert_eq(memory_store_object_count(room.bucket), 2);
    }
}

Test(birth, a_file_that_is_renamed_to_the_old_name_gets_it)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *old, *fresh;
    cr_assert_eq(room_create(&room, "c", &fresh), 0);
    cr_assert_eq(room_write(&room, fresh, 0, 100, 7), 0);
    cr_assert_eq(room_close(&room, fresh), 0);
    assert_drained(&room);
    begin_hanging(&room, &old);
    move(&room, "c", "a");
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 7));
    cr_assert_eq(memory_store_object_count(room.bucket), 2);
}

Test(birth, fsync_of_the_directory_that_it_left_does_not_wait_for_it)
{
    ROOM_SCOPED(room, EARLY);
    struct inode *directory = make_directory(&room, "d");
    struct handle *handle;
    begin_early(&room, &handle);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "a", directory, "f", 0), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART});
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(memory_store_await(room.bucket, STORE_PART, "p/a", 1));
    cr_assert_eq(cache_fsync_directory(room.cache, &room.waiter, room.root), 0);
    room_start_server(&room);
    assert_drained(&room);
    expect_object(&room, "p/d/f");
    inode_unref(directory);
}

Test(birth, fsync_of_a_directory_above_leaves_it_alone)
{
    ROOM_SCOPED(room, EARLY);
    struct inode *directory = make_directory(&room, "d");
    struct handle *handle;
    begin_hanging(&room, &handle);
    cr_assert_eq(cache_fsync_directory(room.cache, &room.waiter, directory), 0);
    room_start_server(&room);
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/b"), 0);
    inode_unref(directory);
}

Test(birth, a_directory_that_is_renamed_to_the_old_name_gets_it)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle, *fresh;
    struct inode *directory = make_directory(&room, "d");
    cr_assert_eq(room_create(&room, "c", &fresh), 0);
    cr_assert_eq(room_close(&room, fresh), 0);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "c", directory, "c", 0), 0);
    assert_drained(&room);
    begin_hanging(&room, &handle);
    move(&room, "d", "a");
    assert_drained(&room);
    expect_object(&room, "p/b");
    cr_assert(memory_store_has(room.bucket, "p/a/c"));
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    inode_unref(directory);
}

/* In sync what is overwritten may still have its object where it was born. */
Test(birth, one_that_is_renamed_over_before_it_was_copied_leaves_nothing)
{
    ROOM_SCOPED(room, (&(struct room_config){.early_bytes = 16 * MIB}));
    struct handle *handle, *fresh;
    cr_assert_eq(room_create(&room, "c", &fresh), 0);
    cr_assert_eq(room_write(&room, fresh, 0, 100, 7), 0);
    cr_assert_eq(room_close(&room, fresh), 0);
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .times = 1});
    cr_assert_eq(room_close(&room, handle), -EIO);
    cr_assert(memory_store_has(room.bucket, "p/a"));
    move(&room, "c", "b");
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/b", 0, 100, 7));
    cr_assert(room_await(is_alone, &room), "p/a came back");
}

Test(birth, an_unlinked_one_leaves_nothing_under_either_name)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    begin_hanging(&room, &handle);
    cr_assert_eq(cache_unlink(room.cache, &room.waiter, room.root, "b"), 0);
    room_start_server(&room);
    assert_drained(&room);
    room_close_cache(&room);
    cr_assert_eq(memory_store_object_count(room.bucket), 0);
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

Test(birth, renamed_back_it_is_as_if_nothing_had_been)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    move(&room, "b", "a");
    write_rest(&room, handle);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    expect_object(&room, "p/a");
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 6);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, NULL), 0);
}

/* The journal called all of it dirty while it stood elsewhere than under its name; what a full disk then got back must not be taken for
 * what was written. */
Test(birth, renamed_back_and_given_back_to_a_full_disk_it_survives_a_kill)
{
    ROOM_SCOPED(room,
                (&(struct room_config){
                    .early_bytes = 16 * MIB, .durability = DURABILITY_WRITEBACK, .io_timeout_ms = 1000}));
    struct handle *handle, *other;
    begin_early(&room, &handle);
    move(&room, "a", "b");
    write_rest(&room, handle);
    cr_assert_eq(room_open(&room, "b", O_RDWR, &other), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY});
    cr_assert_lt(room_fsync(&room, handle), 0);
    cr_assert(room_await(is_completed, &room));
    cr_assert_eq(room_close(&room, handle), 0);
    move(&room, "b", "a");
    assert_drained(&room);
    atomic_store(&room.disk.full, true);
    room_write(&room, other, SIZE, 1000, 1);
    cr_assert_lt(extents_bytes(&room_inode(other)->present), MIB, "nothing was given back");
    atomic_store(&room.disk.full, false);
    cr_assert_eq(room_write(&room, other, SIZE, 1000, 1), 0);
    room_crash(&room);
    cache_release(room.cache, other);
    room_close_cache(&room);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), SIZE + 1000);
    cr_assert(room_object_holds(&room, "p/a", 0, SIZE + 1000, 1), "holes were sent");
}
