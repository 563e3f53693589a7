/* Parts that go up while the file is still written (sending.c). */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "tests/support/room.h"

#define MIB   ((uint64_t)1 << 20)
#define EARLY (&(struct room_config){.early_bytes = 16 * MIB, .durability = DURABILITY_WRITEBACK})

static void await_parts(struct room *room, const char *key, size_t count)
{
    for (int i = 0; i < 2000 && memory_store_logged(room->bucket, STORE_PART, key) < count; i++)
        usleep(5000);
    cr_assert_geq(memory_store_logged(room->bucket, STORE_PART, key), count);
}

Test(early, whole_parts_go_up_while_the_writer_goes_on_and_each_goes_once)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 15 * MIB, 1), 0);
    usleep(50000);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 0, "it began too early");
    cr_assert_eq(room_write(&room, handle, 15 * MIB, 20 * MIB, 1), 0);
    await_parts(&room, "p/a", 4);
    usleep(50000);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 4,
                 "the part that is being written went");
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    cr_assert_eq(room_write(&room, handle, 35 * MIB, 5 * MIB, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 40 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 5);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 1);
}

Test(early, where_parts_must_be_equal_they_go_up_early_too)
{
    ROOM_SCOPED(room, (&(struct room_config){.bucket = {.equal_parts = true},
                                             .early_bytes = 16 * MIB,
                                             .durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 35 * MIB, 1), 0);
    await_parts(&room, "p/a", 4);
    cr_assert_eq(room_write(&room, handle, 35 * MIB, 5 * MIB, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 40 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 5);
}

/* More would keep the writer from the processors that he shares with the server of a test machine, and with us. */
Test(early, half_of_the_processors_two_at_least_are_for_parts_of_a_file_that_is_still_written)
{
    ROOM_SCOPED(room, (&(struct room_config){.early_bytes = 16 * MIB,
                                             .part_bytes = 5 * MIB,
                                             .memory_bytes = 256 * MIB,
                                             .durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    size_t processors = (size_t)sysconf(_SC_NPROCESSORS_ONLN), allowed = processors > 3 ? processors / 2 : 2;
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PART});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 60 * MIB, 1), 0);
    await_parts(&room, "p/a", allowed < 12 ? allowed : 12);
    usleep(50000);
    cr_assert_leq(memory_store_logged(room.bucket, STORE_PART, "p/a"), allowed);
    memory_store_fault_end(room.bucket, fault);
    memory_store_unhang(room.bucket, STORE_PART, NULL);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 60 * MIB, 1));
}

Test(early, a_part_that_was_written_over_goes_again_when_the_file_is_asked_for)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 40 * MIB, 1), 0);
    await_parts(&room, "p/a", 5);
    cr_assert_eq(room_write(&room, handle, 9 * MIB, 100, 2), 0);
    usleep(50000);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 5);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 6);
    cr_assert(room_object_holds(&room, "p/a", 0, 9 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 9 * MIB, 9 * MIB + 100, 2));
    cr_assert(room_object_holds(&room, "p/a", 9 * MIB + 100, 40 * MIB, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(early, what_was_cut_off_is_not_in_the_object)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 40 * MIB, 1), 0);
    await_parts(&room, "p/a", 2);
    cr_assert_eq(room_truncate(&room, handle, 20 * MIB), 0);
    cr_assert_eq(room_write(&room, handle, 20 * MIB, 10 * MIB, 3), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 30 * MIB);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 20 * MIB, 30 * MIB, 3));
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

Test(early, a_file_cut_down_to_one_put_leaves_no_upload_behind)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 24 * MIB, 1), 0);
    await_parts(&room, "p/a", 3);
    cr_assert_eq(room_truncate(&room, handle, 0), 0);
    cr_assert_eq(room_write(&room, handle, 0, 10, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert_eq(room_object_size(&room, "p/a"), 10);
    memory_store_settle(room.bucket);
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}

static bool no_upload(void *context)
{
    struct room *room = context;
    return memory_store_upload_count(room->bucket) == 0;
}

Test(early, an_unlinked_file_leaves_nothing)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 24 * MIB, 1), 0);
    await_parts(&room, "p/a", 3);
    cr_assert_eq(cache_unlink(room.cache, &room.waiter, room.root, "a"), 0);
    cr_assert_eq(room_write(&room, handle, 24 * MIB, 24 * MIB, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_await(no_upload, &room));
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
}

Test(early, a_file_that_is_renamed_meanwhile_goes_up_under_its_last_name)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 24 * MIB, 1), 0);
    await_parts(&room, "p/a", 3);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "a", room.root, "b", 0), 0);
    cr_assert_eq(room_write(&room, handle, 24 * MIB, 24 * MIB, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/b", 0, 48 * MIB, 1));
    cr_assert_not(memory_store_has(room.bucket, "p/a"));
    cr_assert(room_await(no_upload, &room));
}

Test(early, a_server_that_refuses_does_not_touch_the_writer)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PART});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 40 * MIB, 1), 0);
    await_parts(&room, "p/a", 1);
    cr_assert_eq(room_close(&room, handle), 0);
    memory_store_fault_end(room.bucket, fault);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 40 * MIB, 1));
}

Test(early, parts_of_a_process_that_died_while_it_wrote_are_not_sent_again)
{
    ROOM_SCOPED(room, EARLY);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 36 * MIB, 1), 0);
    await_parts(&room, "p/a", 4);
    usleep(300000); /* the journal has heard of them */
    room_crash(&room);
    cache_release(room.cache, handle);
    room_close_cache(&room);
    memory_store_log_clear(room.bucket);
    room_reopen(&room);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 36 * MIB, 1));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 1);
}

/* ---- Any order of changes. ---- */

#define SEEDS      12
#define STEPS      24
#define MODEL_MAX  (64 * MIB)
#define CHUNK_SEED 200

struct model {
    uint8_t *seeds; /* of each 64 KiB: 0 zeros */
    uint64_t size;  /* in units of 64 KiB */
};
#define UNIT ((uint64_t)64 << 10)

static void model_write(struct model *model, uint64_t from, uint64_t count, unsigned seed)
{
    for (uint64_t i = from; i < from + count; i++)
        model->seeds[i] = (uint8_t)seed;
    if (from + count > model->size)
        model->size = from + count;
}

static void model_cut(struct model *model, uint64_t size)
{
    for (uint64_t i = size; i < model->size; i++)
        model->seeds[i] = 0;
    model->size = size;
}

static void check_object(struct room *room, const struct model *model, unsigned seed)
{
    cr_assert_eq(room_object_size(room, "p/a"), model->size * UNIT, "seed %u", seed);
    for (uint64_t i = 0; i < model->size;) {
        uint64_t end = i;
        while (end < model->size && model->seeds[end] == model->seeds[i])
            end++;
        cr_assert(room_object_holds(room, "p/a", i * UNIT, end * UNIT, model->seeds[i]), "seed %u", seed);
        i = end;
    }
}

static void take_step(struct room *room, struct handle *handle, struct model *model, unsigned *random,
                      unsigned seed)
{
    uint64_t room_left = MODEL_MAX / UNIT - model->size, count = 1 + (unsigned)rand_r(random) % 100;
    unsigned what = (unsigned)rand_r(random) % 10;
    if (count > room_left)
        count = room_left;
    if (what < 6 && count) {
        cr_assert_eq(room_write(room, handle, model->size * UNIT, count * UNIT, seed), 0);
        model_write(model, model->size, count, seed);
    } else if (what < 8 && model->size > 1) {
        uint64_t from = (unsigned)rand_r(random) % model->size;
        uint64_t some = 1 + (unsigned)rand_r(random) % 4;
        some = from + some > model->size ? model->size - from : some;
        cr_assert_eq(room_write(room, handle, from * UNIT, some * UNIT, seed), 0);
        model_write(model, from, some, seed);
    } else if (what == 8 && model->size > 1) {
        uint64_t size = (unsigned)rand_r(random) % model->size;
        cr_assert_eq(room_truncate(room, handle, size * UNIT), 0);
        model_cut(model, size);
    } else {
        cr_assert_eq(room_fsync(room, handle), 0);
        check_object(room, model, seed);
    }
}

Test(early, whatever_the_order_of_writes_cuts_and_fsyncs_the_object_is_the_file)
{
    for (unsigned seed = 1; seed <= SEEDS; seed++) {
        ROOM_SCOPED(room, EARLY);
        struct model model = {.seeds = xcalloc(MODEL_MAX / UNIT, 1)};
        struct handle *handle;
        unsigned random = seed;
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        for (unsigned step = 1; step <= STEPS; step++)
            take_step(&room, handle, &model, &random, step);
        cr_assert_eq(room_close(&room, handle), 0);
        assert_drained(&room);
        check_object(&room, &model, seed);
        cr_assert(room_await(no_upload, &room), "seed %u", seed);
        free(model.seeds);
    }
}
