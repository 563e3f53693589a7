#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

/* Under ASan: what the other parts name is not freed before they end. */
Test(sending, an_upload_that_the_server_lost_starts_again_when_its_parts_have_ended)
{
    struct room_config config = {.part_bytes = 5 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "big", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL,
                                                    .op = STORE_PART,
                                                    .rc = -ENOENT,
                                                    .times = 1,
                                                    .http_status = 404,
                                                    .code = "NoSuchUpload"});
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_DELAY, .op = STORE_PART, .times = 3, .delay_ms = 200});
    room_fsync_begin(&room, handle, &sync);
    cr_assert_eq(room_sync_end(&sync), -EIO);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/big", 0, 20 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/big"), 2);
}

Test(sending, a_resumed_patch_asks_again_before_completing_where_conditions_are_not_honoured)
{
    struct room_config config = {
        .bucket.ignore_conditions = true, .part_bytes = 5 * MIB, .attr_ttl_ms = 100000};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    char *bytes = calloc(1, 12 * MIB);
    memory_store_put(room.bucket, "p/f", bytes, 12 * MIB, NULL, NULL);
    free(bytes);
    cr_assert_eq(tree_open(&room, "f", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COMPLETE, .times = 1});
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    memory_store_put_text(room.bucket, "p/f", "foreign");
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert(tree_holds(&room, "p/f", "foreign"));
    cache_release(room.cache, handle);
}

static bool complete_went_through(void *context)
{
    struct room *room = context;
    return memory_store_has(room->bucket, "p/f");
}

Test(sending, who_waits_for_a_complete_without_an_answer_hears_eio_and_it_goes_on_behind)
{
    struct room_config config = {.part_bytes = 5 * MIB, .io_timeout_ms = 300};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "f", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 12 * MIB, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COMPLETE, .times = 1});
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert(room_await(complete_went_through, &room));
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COMPLETE, "p/f"), 1);
}
