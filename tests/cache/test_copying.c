#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cache/core.h"
#include "tests/support/tree.h"

/* ---- By parts. ---- */

static void refuse_large_copies(struct room *room)
{
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .rc = -EFBIG});
}

Test(copying, what_the_endpoint_does_not_copy_at_once_goes_by_parts)
{
    ROOM_SCOPED(room, NULL);
    struct store_object object;
    tree_put(&room, "p/a", "large", "colour=blue", NULL);
    refuse_large_copies(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, "p/b"), 1);
    cr_assert(tree_holds(&room, "p/b", "large"));
    cr_assert(!memory_store_has(room.bucket, "p/a"));
    cr_assert(memory_store_peek(room.bucket, "p/b", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    store_object_release(&object);
}

Test(copying, a_copy_by_parts_that_fails_leaves_no_upload_behind)
{
    for (uint64_t n = 1;; n++) {
        ROOM_SCOPED(room, NULL);
        tree_put(&room, "p/a", "large", NULL);
        struct entry entry;
        cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
        inode_unref(entry.inode);
        int rung = memory_store_fail_nth(room.bucket, n, -EACCES);
        refuse_large_copies(&room);
        int rc = tree_rename(&room, "a", "b", 0);
        bool struck = memory_store_fault_struck(room.bucket, rung);
        memory_store_faults_end(room.bucket);
        cr_assert_eq(memory_store_upload_count(room.bucket), 0, "rung %d", (int)n);
        cr_assert(memory_store_has(room.bucket, "p/a") || tree_holds(&room, "p/b", "large"));
        if (!struck) {
            cr_assert_eq(rc, 0);
            break;
        }
    }
}

Test(copying, a_large_object_goes_by_parts_of_a_quarter_and_never_at_once)
{
    struct room_config config = {.bucket = {.part_bytes_min = 1}, .copy_bytes_max = 8};
    static const char *const rows[][3] = {{"d/a", "d/b", "p/d/b"}, {"d", "e", "p/e/a"}};
    for (int i = 0; i < 2; i++) {
        ROOM_SCOPED(room, &config);
        memory_store_put_text(room.bucket, "p/d/a", "0123456789");
        memory_store_put_text(room.bucket, "p/d/small", "01234567");
        cr_assert_eq(tree_rename(&room, rows[i][0], rows[i][1], 0), 0);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, rows[i][2]), 5);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, rows[i][2]), 0);
        cr_assert(tree_holds(&room, rows[i][2], "0123456789"));
        cr_assert_eq(memory_store_object_count(room.bucket), 2);
    }
}

Test(copying, where_parts_cannot_be_copied_a_large_object_goes_at_once)
{
    for (int unprobed = 0; unprobed < 2; unprobed++) {
        struct room_config config = {.bucket = {.no_part_copy = true, .unprobed = unprobed},
                                     .copy_bytes_max = 8};
        ROOM_SCOPED(room, &config);
        memory_store_put_text(room.bucket, "p/a", "0123456789");
        cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
        cr_assert(tree_holds(&room, "p/b", "0123456789"));
        cr_assert_eq(memory_store_upload_count(room.bucket), 0);
    }
}

Test(copying, a_large_object_may_be_put_together_for_longer_than_io_timeout)
{
    struct room_config config = {.bucket = {.part_bytes_min = 1}, .copy_bytes_max = 8, .io_timeout_ms = 100};
    ROOM_SCOPED(room, &config);
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_DELAY, .op = STORE_COMPLETE, .delay_ms = 400});
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert(tree_holds(&room, "p/b", "0123456789"));
}

/* ---- In doubt. ---- */

static void lose_reply(struct room *room, enum store_op op)
{
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = op, .times = 1});
}

Test(copying, a_copy_whose_reply_was_lost_is_known_by_what_it_made)
{
    for (int ours = 0; ours < 2; ours++) {
        ROOM_SCOPED(room, NULL);
        if (ours)
            cr_assert_eq(tree_write(&room, "a", "text"), 0);
        else
            tree_put(&room, "p/a", "text", "colour=blue", NULL);
        lose_reply(&room, STORE_COPY);
        cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
        cr_assert(tree_holds(&room, "p/b", "text"));
        cr_assert_eq(memory_store_object_count(room.bucket), 1);
    }
}

Test(copying, a_copy_of_parts_whose_reply_was_lost_is_known_by_its_id)
{
    struct room_config config = {.bucket = {.part_bytes_min = 1}, .copy_bytes_max = 8};
    ROOM_SCOPED(room, &config);
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    lose_reply(&room, STORE_COMPLETE);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert(tree_holds(&room, "p/b", "0123456789"));
    cr_assert_eq(memory_store_object_count(room.bucket), 1);
}

Test(copying, a_copy_that_was_not_done_is_not_taken_for_what_stood_there)
{
    static const char *const rows[] = {"text", "more than that"};
    for (int i = 0; i < 2; i++) {
        ROOM_SCOPED(room, NULL);
        tree_put(&room, "p/a", "text", "colour=blue", NULL);
        tree_put(&room, "p/b", rows[i], "colour=red", NULL);
        memory_store_fault(
            room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .times = 1, .unknown = true});
        cr_assert_eq(tree_rename(&room, "a", "b", 0), -EIO);
        cr_assert(tree_holds(&room, "p/a", "text"));
        cr_assert(tree_holds(&room, "p/b", rows[i]));
    }
}
