/* O_EXCL in write-back: made here at once, and when it goes up it overwrites nothing (condition.h). In sync: test_change.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "tests/support/room.h"
#include "tests/support/tree.h"

#define MIB       ((uint64_t)1 << 20)
#define WRITEBACK (&(struct room_config){.durability = DURABILITY_WRITEBACK})

static int make(struct room *room, const char *name, struct handle **ret_handle)
{
    struct maker maker = {.mode = 0600, .process = ROOM_PROCESS};
    struct entry entry;
    int rc = cache_create(room->cache, &room->waiter, room->root, name, O_RDWR | O_CREAT | O_EXCL, &maker,
                          &entry, ret_handle);
    if (rc == 0)
        inode_unref(entry.inode);
    return rc;
}

static void make_of(struct room *room, const char *name, size_t size, struct handle **ret_handle)
{
    cr_assert_eq(make(room, name, ret_handle), 0);
    cr_assert_eq(room_write(room, *ret_handle, 0, size, 1), 0);
}

static const struct memory_store_entry *find_last(struct room *room, enum store_op op)
{
    const struct memory_store_entry *found = NULL;
    for (size_t i = 0; i < memory_store_log_count(room->bucket); i++)
        if (memory_store_log(room->bucket, i)->op == op)
            found = memory_store_log(room->bucket, i);
    return found;
}

/* Ours went aside, theirs stands. */
static void expect_both(struct room *room, size_t size)
{
    BUF_SCOPED keys = BUF_INIT;
    memory_store_keys(room->bucket, &keys);
    char *aside = strstr(keys.bytes, "p/a.skyvol-conflict-");
    cr_assert(aside, "no conflict copy among %s", keys.bytes);
    *strchr(aside, '\n') = '\0';
    cr_assert_eq(room_object_size(room, aside), size);
    cr_assert(room_object_holds(room, aside, 0, size, 1));
    cr_assert_eq(room_object_size(room, "p/a"), 6, "theirs was overwritten");
}

Test(exclusive, it_is_made_without_the_server_and_goes_up_over_nothing)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle, *other;
    struct entry entry;
    cr_assert_eq(cache_lookup(room.cache, &room.waiter, room.root, "a", &entry), -ENOENT);
    room_stop_server(&room);
    make_of(&room, "a", 100, &handle);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, NULL), 0);
    cr_assert_eq(make(&room, "a", &other), -EEXIST);
    room_start_server(&room);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 1);
    cr_assert(find_last(&room, STORE_PUT)->if_absent);
    cr_assert_eq(make(&room, "a", &other), -EEXIST);
}

Test(exclusive, what_is_written_after_that_overwrites_it)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    make_of(&room, "a", 100, &handle);
    cr_assert_eq(room_fsync(&room, handle), 0);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    cr_assert_eq(room_truncate(&room, handle, 0), 0);
    cr_assert_eq(room_write(&room, handle, 0, 200, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 200, "who writes last wins");
    cr_assert_eq(memory_store_object_count(room.bucket), 1);
}

Test(exclusive, another_clients_object_is_not_overwritten)
{
    static const size_t sizes[] = {100, 20 * MIB}; /* one PUT; parts */
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        ROOM_SCOPED(room, WRITEBACK);
        struct handle *handle;
        make_of(&room, "a", sizes[i], &handle);
        memory_store_put_text(room.bucket, "p/a", "theirs");
        cr_assert_eq(room_fsync(&room, handle), -ESTALE);
        cr_assert_eq(room_close(&room, handle), 0);
        assert_drained(&room);
        expect_both(&room, sizes[i]);
    }
}

Test(exclusive, where_conditions_are_not_honoured_it_is_asked_before)
{
    for (int there = 0; there < 2; there++) {
        ROOM_SCOPED(room, (&(struct room_config){.bucket = {.ignore_conditions = true, .unprobed = true},
                                                 .durability = DURABILITY_WRITEBACK}));
        struct handle *handle;
        make_of(&room, "a", 100, &handle);
        if (there)
            memory_store_put_text(room.bucket, "p/a", "theirs");
        cr_assert_eq(room_close(&room, handle), 0);
        assert_drained(&room);
        if (there)
            expect_both(&room, 100);
        else
            cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
    }
}

Test(exclusive, the_rules_for_conflicts_hold)
{
    static const enum conflict_rule rules[] = {CONFLICT_LOCAL_WINS, CONFLICT_REMOTE_WINS};
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK, .conflict = rules[i]}));
        struct handle *handle;
        make_of(&room, "a", 100, &handle);
        memory_store_put_text(room.bucket, "p/a", "theirs");
        cr_assert_eq(room_close(&room, handle), 0);
        assert_drained(&room);
        cr_assert_eq(room_object_size(&room, "p/a"), rules[i] == CONFLICT_LOCAL_WINS ? 100 : 6);
        cr_assert_eq(memory_store_object_count(room.bucket), 1);
    }
}

Test(exclusive, a_kill_does_not_make_it_forget_that)
{
    for (int there = 0; there < 2; there++) {
        ROOM_SCOPED(room, WRITEBACK);
        struct handle *handle;
        room_stop_server(&room);
        make_of(&room, "a", 100, &handle);
        cr_assert_eq(room_close(&room, handle), 0);
        room_crash(&room);
        room_close_cache(&room);
        if (there)
            memory_store_put_text(room.bucket, "p/a", "theirs");
        room_reopen(&room);
        assert_drained(&room);
        if (there)
            expect_both(&room, 100);
        else
            cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
    }
}

static uint64_t log_end(struct room *room)
{
    struct journal_report report;
    journal_report(room->cache->journal, &report);
    return report.log_bytes;
}

static int find_journal(void *context, const char *name)
{
    if (strncmp(name, "journal-", 8) == 0)
        snprintf(context, 32, "%s", name);
    return 0;
}

/* The process died in the middle of its writing. */
static void tear_journal(struct room *room, uint64_t end)
{
    char name[32] = "";
    struct disk_file *file;
    room->snapshot->ops->list(room->snapshot, find_journal, name);
    cr_assert_eq(disk_open(room->snapshot, name, 0, &file), 0);
    cr_assert_eq(disk_truncate(file, end), 0);
    disk_close(file);
}

/* Of what was never answered all may be left, or nothing: not a file that overwrites. False: it was no tear any more. */
static bool die_while_making(bool link, uint64_t written)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle = NULL;
    room_stop_server(&room);
    uint64_t before = log_end(&room);
    cr_assert_eq(link ? tree_symlink(&room, "a", "target") : make(&room, "a", &handle), 0);
    bool torn = before + written < log_end(&room);
    if (handle)
        cr_assert_eq(room_close(&room, handle), 0);
    room_crash(&room);
    room_close_cache(&room);
    tear_journal(&room, before + written);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    room_reopen(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 6, "theirs was overwritten by what was torn at %d",
                 (int)written);
    cr_assert(torn || memory_store_object_count(room.bucket) == 2);
    return torn;
}

Test(exclusive, a_kill_in_the_middle_of_its_making_leaves_nothing_that_overwrites)
{
    for (int link = 0; link < 2; link++)
        for (uint64_t written = 0; die_while_making(link, written);
             written += 4) /* records end at multiples of 8 */
            ;
}

/* As tar, rsync and editors do. */
Test(exclusive, renamed_it_overwrites_as_any_other)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    memory_store_put_text(room.bucket, "p/b", "theirs");
    room_stop_server(&room);
    make_of(&room, "a", 100, &handle);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "a", room.root, "b", 0), 0);
    memory_store_put_text(room.bucket, "p/b", "theirs again");
    room_start_server(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/b"), 100);
    cr_assert_eq(memory_store_object_count(room.bucket), 1);
}

/* An object of ours may still stand there: of a file that was removed, whose delete hangs, or which somebody has open. */
Test(exclusive, over_what_this_mount_removed_itself)
{
    for (int open = 0; open < 2; open++) {
        ROOM_SCOPED(room, WRITEBACK);
        struct handle *old, *handle;
        cr_assert_eq(room_create(&room, "a", &old), 0);
        cr_assert_eq(room_write(&room, old, 0, 50, 3), 0);
        cr_assert_eq(room_fsync(&room, old), 0);
        if (!open)
            cr_assert_eq(room_close(&room, old), 0);
        int hang = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_DELETE});
        cr_assert_eq(cache_unlink(room.cache, &room.waiter, room.root, "a"), 0);
        make_of(&room, "a", 100, &handle);
        memory_store_fault_end(room.bucket, hang);
        memory_store_unhang(room.bucket, STORE_DELETE, NULL);
        cr_assert_eq(room_close(&room, handle), 0);
        if (open)
            cr_assert_eq(room_close(&room, old), 0);
        assert_drained(&room);
        cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
        cr_assert_eq(memory_store_object_count(room.bucket), 1, "a conflict with ourselves");
        cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 2, "it was refused first");
    }
}

Test(exclusive, a_lost_reply_is_no_conflict)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    make_of(&room, "a", 100, &handle);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .times = 1});
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
    cr_assert_eq(memory_store_object_count(room.bucket), 1);
}

static struct inode *make_directory(struct room *room)
{
    struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
    struct entry entry;
    cr_assert_eq(cache_mkdir(room->cache, &room->waiter, room->root, "d", &maker, &entry), 0);
    return entry.inode;
}

static void make_below(struct room *room, struct inode *directory, int flags, unsigned seed)
{
    struct maker maker = {.mode = 0600, .process = ROOM_PROCESS};
    struct entry entry;
    struct handle *handle;
    cr_assert_eq(cache_create(room->cache, &room->waiter, directory, "a", O_RDWR | O_CREAT | flags, &maker,
                              &entry, &handle),
                 0);
    inode_unref(entry.inode);
    cr_assert_eq(room_write(room, handle, 0, 100, seed), 0);
    cr_assert_eq(room_close(room, handle), 0);
}

/* What another client made there meanwhile is not taken along, nor for ours. */
Test(exclusive, in_a_directory_that_is_renamed)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct inode *directory = make_directory(&room);
    assert_drained(&room);
    room_stop_server(&room);
    make_below(&room, directory, O_EXCL, 1);
    memory_store_put_text(room.bucket, "p/d/a", "theirs");
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "d", room.root, "e", 0), 0);
    room_start_server(&room);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/d/a"), 6, "theirs is gone");
    cr_assert(room_object_holds(&room, "p/e/a", 0, 100, 1));
    inode_unref(directory);
}

Test(exclusive, over_what_was_removed_in_a_directory_that_is_renamed)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct inode *directory = make_directory(&room);
    make_below(&room, directory, 0, 3);
    assert_drained(&room);
    cr_assert_eq(cache_unlink(room.cache, &room.waiter, directory, "a"), 0);
    make_below(&room, directory, O_EXCL, 1);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "d", room.root, "e", 0), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/e/a", 0, 100, 1));
    cr_assert_not(memory_store_has(room.bucket, "p/d/a"), "what was removed came back");
    inode_unref(directory);
}

static void remove_it(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)call, (void)context;
    memory_store_remove(memory, "p/a");
}

Test(exclusive, what_was_in_the_way_and_has_gone_is_no_conflict)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    make_of(&room, "a", 100, &handle);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_MEANWHILE, .op = STORE_HEAD, .times = 1, .meanwhile = remove_it});
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
    cr_assert_eq(memory_store_object_count(room.bucket), 1);
}

/* ... and if it comes back before the next try, as lock files do, it stays. */
Test(exclusive, what_was_in_the_way_has_gone_and_comes_back)
{
    ROOM_SCOPED(room, WRITEBACK);
    struct handle *handle;
    make_of(&room, "a", 100, &handle);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    int fault = memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_MEANWHILE, .op = STORE_HEAD, .times = 1, .meanwhile = remove_it});
    cr_assert_eq(room_close(&room, handle), 0);
    for (int i = 0; i < 2000 && !memory_store_fault_struck(room.bucket, fault); i++)
        usleep(1000);
    memory_store_put_text(room.bucket, "p/a", "theirs");
    assert_drained(&room);
    expect_both(&room, 100);
}

static bool is_there(void *context)
{
    struct room *room = context;
    return memory_store_has(room->bucket, "p/a");
}

/* Given up, asked for and not found, and then it arrives after all. */
Test(exclusive, a_request_that_arrives_late_is_ours)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK, .io_timeout_ms = 200}));
    struct handle *handle;
    make_of(&room, "a", 100, &handle);
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .times = 1, .unknown = true});
    int again = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/a", 1));
    const struct memory_store_entry *first = NULL;
    for (size_t i = 0; !first && i < memory_store_log_count(room.bucket); i++)
        if (memory_store_log(room.bucket, i)->op == STORE_PUT)
            first = memory_store_log(room.bucket, i);
    char bytes[100];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = room_byte(1, i);
    memory_store_put(room.bucket, "p/a", bytes, sizeof bytes, &first->meta, &first->headers);
    memory_store_fault_end(room.bucket, again);
    memory_store_unhang(room.bucket, STORE_PUT, NULL);
    assert_drained(&room);
    cr_assert(room_await(is_there, &room));
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
    cr_assert_eq(memory_store_object_count(room.bucket), 1, "a conflict with ourselves");
}
