/* A request that was given up, and that the server takes up all the same, later (settling.h). */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cache/core.h"
#include "cache/server.h"
#include "tests/support/reader.h"
#include "tests/support/room.h"
#include "tests/support/tree.h"

static const struct room_config behind = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 60000};

static void note_id(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)memory;
    snprintf(context, UPLOAD_ID_MAX, "%s", store_fields_get(call->meta, SERVER_ID_FIELD));
}

static bool is_given_up(void *context)
{
    struct inode *inode = context;
    LOCK_SCOPED(&inode->lock);
    return inode->late_id[0];
}

/* "0123456789" is patched to "01XY456789"; the PUT of that is given up, and the file patched on to "01XY4567Z9". */
static void patch_twice(struct room *room, char id[UPLOAD_ID_MAX], struct handle **ret_handle)
{
    memory_store_put_text(room->bucket, "p/a", "0123456789");
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                     .op = STORE_PUT,
                                                     .key = "p/a",
                                                     .times = 1,
                                                     .meanwhile = note_id,
                                                     .context = id});
    memory_store_fault(
        room->bucket,
        &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .key = "p/a", .times = 1, .unknown = true});
    struct handle *kept;
    cr_assert_eq(tree_open(room, "a", O_RDONLY, &kept), 0);
    cr_assert_eq(tree_open(room, "a", O_RDWR, ret_handle), 0);
    cr_assert_eq(cache_write(room->cache, &room->waiter, *ret_handle, "XY", 2, 2), 0);
    cr_assert_eq(room_close(room, *ret_handle), 0);
    cr_assert(room_await(is_given_up, room_inode(kept)));
    cr_assert_eq(tree_open(room, "a", O_RDWR, ret_handle), 0);
    cache_release(room->cache, kept);
    cr_assert_eq(cache_write(room->cache, &room->waiter, *ret_handle, "Z", 1, 8), 0);
}

static void arrive_late(struct room *room, const char *id)
{
    tree_put(room, "p/a", "01XY456789", id, NULL);
}

static void check_one_whole_file(struct room *room)
{
    assert_drained(room);
    cr_assert(tree_holds(room, "p/a", "01XY4567Z9"));
    assert_keys(room, "p/a ");
}

static void meet_late_arrival(struct room *room, bool read)
{
    struct handle *handle;
    char id[64] = "skyvol-id=";
    patch_twice(room, id + strlen(id), &handle);
    arrive_late(room, id);
    if (read)
        cr_assert_eq(room_read_text(room, handle, "01XY4567Z9"), 0);
    cr_assert_eq(room_close(room, handle), 0);
    check_one_whole_file(room);
}

Test(late, what_arrived_after_all_is_the_base_of_what_is_sent_next)
{
    ROOM_SCOPED(room, &behind);
    meet_late_arrival(&room, false);
}

Test(late, who_reads_meanwhile_gets_the_file_and_no_error)
{
    ROOM_SCOPED(room, &behind);
    meet_late_arrival(&room, true);
}

Test(late, another_clients_version_is_another_clients)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    char id[64];
    patch_twice(&room, id, &handle);
    tree_put(&room, "p/a", "theirs", "skyvol-id=another", NULL);
    cr_assert_eq(room_close(&room, handle), 0);
    size_t unsent;
    cache_drain(room.cache, &room.waiter, 0, &unsent);
    cr_assert(tree_holds(&room, "p/a", "theirs"));
}

Test(late, an_earlier_request_that_arrives_before_the_second_one_is_given_up_is_known)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    char id[64] = "skyvol-id=";
    patch_twice(&room, id + strlen(id), &handle);
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .key = "p/a", .times = 1, .unknown = true});
    arrive_late(&room, id);
    cr_assert_eq(room_close(&room, handle), 0);
    check_one_whole_file(&room);
}

static void change_mode(struct room *room, struct inode *inode, uint32_t mode)
{
    struct attributes wanted = {.mode = mode}, now;
    cr_assert_eq(cache_set_attributes(room->cache, &room->waiter, inode, NULL, SET_MODE, &wanted, &now), 0);
}

Test(late, attributes_that_meet_it_are_kept)
{
    ROOM_SCOPED(room, &behind);
    struct entry entry;
    char id[64] = "skyvol-id=";
    memory_store_put_text(room.bucket, "p/a", "0123456789");
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                    .op = STORE_COPY,
                                                    .times = 1,
                                                    .meanwhile = note_id,
                                                    .context = id + strlen(id)});
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .times = 1, .unknown = true});
    cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
    change_mode(&room, entry.inode, 0600);
    cr_assert(room_await(is_given_up, entry.inode));
    tree_put(&room, "p/a", "0123456789, copied", id, NULL); /* another ETag, as of a copy that was of parts */
    change_mode(&room, entry.inode, 0640);
    assert_drained(&room);
    inode_unref(entry.inode);
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
    cr_expect_str_eq(store_fields_get(&object.meta, "mode"), "33184");
    store_object_release(&object);
}
