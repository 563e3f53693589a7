#include "cache/pressure.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "tests/support/reader.h"
#include "tests/support/room.h"

#define MIB ((uint64_t)1 << 20)

static struct room_config limited(uint64_t dirty_max)
{
    return (struct room_config){
        .dirty_max = dirty_max, .durability = DURABILITY_WRITEBACK, .io_timeout_ms = 1000};
}

static int write_file(struct room *room, const char *name, uint64_t size)
{
    struct handle *handle;
    int rc = room_create(room, name, &handle);
    cr_assert_eq(rc, 0);
    rc = room_write(room, handle, 0, size, 1);
    cr_assert_eq(room_close(room, handle), 0);
    return rc;
}

Test(pressure, a_writer_beyond_the_limit_goes_on_when_bytes_went_up)
{
    struct room_config config = limited(4 * MIB);
    ROOM_SCOPED(room, &config);
    char name[] = "a0";
    for (int i = 0; i < 10; i++, name[1]++) {
        cr_assert_eq(write_file(&room, name, 2 * MIB), 0);
        cr_assert_leq(pressure_dirty(room.cache->pressure), 4 * MIB);
    }
    size_t unsent;
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), 0);
    cr_assert_eq(pressure_dirty(room.cache->pressure), 0);
}

Test(pressure, what_is_open_goes_up_to_make_room)
{
    struct room_config config = limited(4 * MIB);
    ROOM_SCOPED(room, &config);
    struct handle *open;
    cr_assert_eq(room_create(&room, "open", &open), 0);
    cr_assert_eq(room_write(&room, open, 0, 3 * MIB, 1), 0);
    cr_assert_eq(write_file(&room, "b", 3 * MIB), 0);
    cr_assert(room_object_holds(&room, "p/open", 0, 3 * MIB, 1));
    cr_assert_eq(room_close(&room, open), 0);
}

Test(pressure, when_nothing_goes_up_the_writer_hears_enospc_and_the_file_keeps_what_was_taken)
{
    struct room_config config = limited(4 * MIB);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3 * MIB, 1), 0);
    int64_t begun = clock_ms();
    cr_assert_eq(room_write(&room, handle, 3 * MIB, 4 * MIB, 1), -ENOSPC);
    cr_assert_geq(clock_ms() - begun, 900);
    memory_store_fault_end(room.bucket, fault);
    if (room_fsync(&room, handle) < 0) /* it joined the last try that met the fault */
        cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_geq(room_object_size(&room, "p/a"), 3 * MIB);
    cr_assert(room_object_holds(&room, "p/a", 0, 3 * MIB, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

static void *interrupt_soon(void *context)
{
    usleep(100000);
    waiter_interrupt(context);
    return NULL;
}

Test(pressure, who_waits_can_be_interrupted)
{
    struct room_config config = limited(4 * MIB);
    config.io_timeout_ms = 60000;
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    pthread_t thread;
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 4 * MIB - 1, 1), 0);
    pthread_create(&thread, NULL, interrupt_soon, &room.waiter);
    cr_assert_eq(room_write(&room, handle, 4 * MIB, MIB, 1), -EINTR);
    pthread_join(thread, NULL);
    memory_store_fault_end(room.bucket, fault);
    cache_release(room.cache, handle);
}

Test(pressure, without_a_waiter_nothing_waits_and_nothing_is_written)
{
    struct room_config config = limited(4 * MIB);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3 * MIB, 1), 0);
    cr_assert_eq(cache_write(room.cache, NULL, handle, "x", 1, 3 * MIB), -EAGAIN);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a") == UINT64_MAX ? 3 * MIB : room_object_size(&room, "p/a"),
                 3 * MIB);
}

Test(pressure, a_disk_that_is_full_makes_the_writer_wait_for_what_goes_up)
{
    struct room_config config = limited(0);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_DELAY, .op = STORE_PUT, .delay_ms = 300});
    cr_assert_eq(write_file(&room, "a", MIB), 0);
    cr_assert_eq(room_create(&room, "b", &handle), 0);
    atomic_store(&room.disk.full, true);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 2), 0, "the disk had room again when a was gone");
    cr_assert_eq(room_close(&room, handle), 0);
}

/* One file that grows, by small writes, to a server that takes all: it goes up while it is open, and is never stuck. */
Test(pressure, a_file_larger_than_the_limit_goes_through)
{
    struct room_config config = limited(4 * MIB);
    config.io_timeout_ms = 60000;
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    for (uint64_t at = 0; at < 12 * MIB; at += 16 << 10) {
        cr_assert_eq(room_write(&room, handle, at, 16 << 10, 1), 0);
        cr_assert_leq(pressure_dirty(room.cache->pressure), 4 * MIB);
    }
    cr_assert_eq(room_close(&room, handle), 0);
    size_t unsent;
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 12 * MIB);
    cr_assert(room_object_holds(&room, "p/a", 0, 12 * MIB, 1));
}

Test(pressure, what_went_up_of_an_open_file_makes_room_on_a_full_disk)
{
    struct room_config config = limited(0);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3 * MIB, 1), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(extents_bytes(&room_inode(handle)->present), 3 * MIB);
    atomic_store(&room.disk.full, true);
    cr_assert_eq(room_write(&room, handle, 3 * MIB, 1000, 1), -ENOSPC);
    cr_assert_eq(extents_bytes(&room_inode(handle)->present), 0);
    atomic_store(&room.disk.full, false);
    cr_assert_eq(room_write(&room, handle, 3 * MIB, 1000, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    size_t unsent;
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 3 * MIB + 1000, 1));
}

/* Its object went with its name: what is here is all there is. */
Test(pressure, a_file_that_was_renamed_over_keeps_its_bytes_on_a_full_disk)
{
    struct room_config config = limited(0);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    size_t unsent;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3 * MIB, 1), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(write_file(&room, "b", MIB), 0);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "b", room.root, "a", 0), 0);
    cr_assert_eq(cache_drain(room.cache, &room.waiter, clock_ms() + 10000, &unsent), 0);
    atomic_store(&room.disk.full, true);
    room_write(&room, handle, 3 * MIB, 1000, 1); /* which removes of files may have made room for */
    cr_assert(extents_cover(&room_inode(handle)->present, 0, 3 * MIB));
    atomic_store(&room.disk.full, false);
    cr_assert_eq(room_close(&room, handle), 0);
}

static void put(struct room *room, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, "p/a", bytes, size, NULL, NULL);
    free(bytes);
}

static void put_theirs(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)memory, (void)call;
    put(context, 500, 3);
}

/* Another client's object stands where its base was: what came in of that nobody would give again. */
Test(pressure, a_file_in_conflict_keeps_its_bytes_on_a_full_disk)
{
    struct room_config config = limited(0);
    config.bucket.no_part_copy = true;
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    put(&room, 10 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 9 * MIB, 10, 2), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                    .op = STORE_GET,
                                                    .skip = 1,
                                                    .times = 1,
                                                    .meanwhile = put_theirs,
                                                    .context = &room});
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert(extents_cover(&room_inode(handle)->present, 0, 4 * MIB));
    atomic_store(&room.disk.full, true);
    cr_assert_eq(room_write(&room, handle, 9 * MIB, 10, 4), -ENOSPC);
    cr_assert(extents_cover(&room_inode(handle)->present, 0, 4 * MIB));
    cr_assert_eq(room_read(&room, handle, 0, MIB, 1), 0);
    cr_assert_eq(room_read(&room, handle, 3 * MIB, MIB, 1), 0);
    cache_release(room.cache, handle);
}
