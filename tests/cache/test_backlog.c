/* What is told of the unsent. */
#include <criterion/criterion.h>
#include <errno.h>

#include "tests/support/room.h"

struct refusal {
    bool refused, parked, seen;
};

static void look_for_refusal(void *context, const struct cache_unsent *unsent)
{
    *(struct refusal *)context = (struct refusal){unsent->refused, unsent->parked, true};
}

static struct refusal refusal_of(struct room *room)
{
    struct refusal refusal = {0};
    cache_unsent(room->cache, look_for_refusal, &refusal);
    return refusal;
}

static bool is_refused(void *context)
{
    return refusal_of(context).refused;
}

static bool is_parked(void *context)
{
    return refusal_of(context).parked;
}

Test(backlog, what_is_refused_is_so_again_only_when_it_was_tried_again)
{
    ROOM_SCOPED(room, &(struct room_config){.durability = DURABILITY_WRITEBACK});
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 10, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EACCES});
    cr_assert_eq(room_fsync(&room, handle), -EACCES);
    cr_assert(room_await(is_refused, &room));
    memory_store_faults_end(room.bucket);
    room_stop_server(&room);
    cr_assert_eq(cache_publish(room.cache, ""), 0);
    cr_assert_not(is_refused(&room), "the try that was asked for has not ended");
    room_start_server(&room);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
}

Test(backlog, trouble_that_passes_is_no_refusal)
{
    ROOM_SCOPED(room, &(struct room_config){.durability = DURABILITY_WRITEBACK});
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 10, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EIO});
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    cr_assert(room_await(is_parked, &room));
    cr_assert_not(is_refused(&room));
    memory_store_faults_end(room.bucket);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
}
