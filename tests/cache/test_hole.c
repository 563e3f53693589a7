/* Holes found, punched and allocated through the cache's door, also while an upload reads the file, and over a crash. */
#include "cache/hole.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/content.h"
#include "cache/core.h"
#include "cache/part.h"
#include "cache/pressure.h"
#include "tests/support/reader.h"
#include "tests/support/room.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define TIB ((uint64_t)1 << 40)

#define PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define ZERO  FALLOC_FL_ZERO_RANGE
#define KEEP  FALLOC_FL_KEEP_SIZE

static const struct room_config writeback = {.durability = DURABILITY_WRITEBACK};

static int allocate(struct room *room, struct handle *handle, int mode, uint64_t offset, uint64_t length)
{
    return cache_allocate(room->cache, &room->waiter, handle, mode, offset, length);
}

static void put_object(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    free(bytes);
}

static struct attributes stat_of(struct room *room, struct handle *handle)
{
    struct attributes attributes;
    int64_t valid_ms;
    cr_assert_eq(cache_attributes(room->cache, &room->waiter, handle->inode, &attributes, &valid_ms), 0);
    return attributes;
}

static int64_t seek(struct room *room, struct handle *handle, int whence, uint64_t offset)
{
    uint64_t found = UINT64_MAX;
    int rc = cache_seek(room->cache, handle, whence, offset, &found);
    return rc < 0 ? rc : (int64_t)found;
}

Test(hole, is_what_nobody_wrote_behind_the_base)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    put_object(&room, "p/a", 10 * KIB, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 100 * KIB, KIB, 2), 0);
    cr_assert_eq(room_truncate(&room, handle, 200 * KIB), 0);
    static const struct {
        uint64_t from;
        int64_t data, hole;
    } rows[] = {
        {0, 0, 10 * KIB},
        {10 * KIB - 1, 10 * KIB - 1, 10 * KIB},
        {10 * KIB, 100 * KIB, 10 * KIB},
        {100 * KIB, 100 * KIB, 101 * KIB},
        {101 * KIB - 1, 101 * KIB - 1, 101 * KIB},
        {101 * KIB, -ENXIO, 101 * KIB},
        {200 * KIB - 1, -ENXIO, 200 * KIB - 1},
        {200 * KIB, -ENXIO, -ENXIO},
        {(uint64_t)-1, -ENXIO, -ENXIO},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_assert_eq(seek(&room, handle, SEEK_DATA, rows[i].from), rows[i].data, "row %zu", i);
        cr_assert_eq(seek(&room, handle, SEEK_HOLE, rows[i].from), rows[i].hole, "row %zu", i);
    }
    cr_assert_eq(seek(&room, handle, SEEK_SET, 0), -EINVAL);
    cr_assert_eq(stat_of(&room, handle).blocks, 22);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(seek(&room, handle, SEEK_HOLE, 0), 200 * (int64_t)KIB);
    cr_assert_eq(stat_of(&room, handle).blocks, 400);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(hole, hides_from_all_while_somebody_may_store_into_a_mapping)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle, *mapper;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_truncate(&room, handle, MIB), 0);
    cr_assert_eq(seek(&room, handle, SEEK_DATA, 0), -ENXIO);
    cr_assert_eq(stat_of(&room, handle).blocks, 1, "none would say: do not look");
    cr_assert_eq(room_open(&room, "a", O_RDWR, &mapper), 0);
    cr_assert_eq(seek(&room, handle, SEEK_DATA, 5), 5);
    cr_assert_eq(seek(&room, handle, SEEK_HOLE, 5), (int64_t)MIB);
    cr_assert_eq(stat_of(&room, handle).blocks, MIB / 512);
    cr_assert_eq(room_close(&room, mapper), 0);
    cr_assert_eq(seek(&room, handle, SEEK_DATA, 0), -ENXIO);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(hole, punched_where_only_we_have_bytes_gives_them_back)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 4 * MIB, 1), 0);
    int64_t before_ns = stat_of(&room, handle).mtime_ns;
    usleep(1000);
    cr_assert_eq(allocate(&room, handle, PUNCH, MIB, 2 * MIB), 0);
    cr_assert_eq(pressure_dirty(room.cache->pressure), 2 * MIB);
    cr_assert_eq(extents_bytes(&handle->inode->present), 2 * MIB);
    cr_assert_gt(stat_of(&room, handle).mtime_ns, before_ns);
    cr_assert_eq(allocate(&room, handle, PUNCH, 4 * MIB, MIB), 0, "behind the end");
    cr_assert_eq(stat_of(&room, handle).size, 4 * MIB);
    cr_assert_eq(room_read(&room, handle, MIB, MIB, 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", MIB, 3 * MIB, 0));
    cr_assert(room_object_holds(&room, "p/a", 3 * MIB, 4 * MIB, 1));
}

/* Whichever call of the disk fails: a hole that was acknowledged is there after a kill, though the bytes before rode in the log. */
Test(hole, that_was_acknowledged_is_there_after_a_kill)
{
    /* Nobody flushes meanwhile: the calls are those of the punch. */
    const struct room_config config = {.durability = DURABILITY_WRITEBACK, .commit_ms = 600000};
    bool struck = true;
    for (long n = 0; struck; n++) {
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        room_stop_server(&room);
        cr_assert_eq(room_create(&room, "a", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 12 * KIB, 1), 0);
        atomic_store(&room.disk.fail_nth, n);
        int rc = allocate(&room, handle, PUNCH, 4 * KIB, 4 * KIB);
        struck = atomic_exchange(&room.disk.fail_nth, -1) < 0;
        room_crash(&room);
        cr_assert(room_close(&room, handle) <= 0);
        room_reopen(&room);
        cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
        if (rc == 0)
            cr_assert_eq(room_read(&room, handle, 4 * KIB, 4 * KIB, 0), 0, "call %ld failed", n);
        cr_assert_eq(room_read(&room, handle, 8 * KIB, 4 * KIB, 1), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        room_start_server(&room);
    }
}

Test(hole, punched_into_the_base_goes_up_as_zeros)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    put_object(&room, "p/a", MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(allocate(&room, handle, PUNCH, 1000, 200 * KIB), 0);
    cr_assert_eq(allocate(&room, handle, ZERO, MIB - 10, 30), 0);
    cr_assert_eq(stat_of(&room, handle).size, MIB + 20);
    cr_assert_eq(room_read(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_read(&room, handle, 1000, 200 * KIB, 0), 0);
    cr_assert_eq(room_read(&room, handle, MIB - 10, 30, 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 1000, 1000 + 200 * KIB, 0));
    cr_assert(room_object_holds(&room, "p/a", 1000 + 200 * KIB, MIB - 10, 1));
    cr_assert(room_object_holds(&room, "p/a", MIB - 10, MIB + 20, 0));
}

/* Small ones share a local file, which may end before their slot does. */
Test(hole, punched_into_a_small_base_is_zeros_also_when_the_file_grows)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    put_object(&room, "p/a", 20 * KIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(allocate(&room, handle, PUNCH, 10 * KIB, 100), 0);
    cr_assert_eq(room_read(&room, handle, 10 * KIB, 100, 0), 0);
    cr_assert_eq(room_write(&room, handle, 15 * KIB, 60 * KIB, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 0, 10 * KIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 10 * KIB, 10 * KIB + 100, 0));
    cr_assert(room_object_holds(&room, "p/a", 10 * KIB + 100, 15 * KIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 15 * KIB, 75 * KIB, 2));
}

/* What the running upload has read of the range becomes the base. */
Test(hole, punched_while_the_file_goes_up_stays_one)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    struct room_sync sync;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100 * KIB, 1), 0);
    room_stop_server(&room);
    room_sync_prepare(&sync);
    room_fsync_begin(&room, handle, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/a", 1));
    cr_assert_eq(allocate(&room, handle, PUNCH, 10 * KIB, 20 * KIB), 0);
    room_start_server(&room);
    cr_assert_eq(room_sync_end(&sync), 0);
    cr_assert_eq(room_read(&room, handle, 10 * KIB, 20 * KIB, 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/a", 10 * KIB, 30 * KIB, 0));
    cr_assert(room_object_holds(&room, "p/a", 30 * KIB, 100 * KIB, 1));
}

Test(hole, of_terabytes_takes_a_moment_and_no_bytes)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, TIB, MIB, 1), 0);
    int64_t begun = clock_ms();
    cr_assert_eq(allocate(&room, handle, PUNCH, 0, TIB + 10), 0);
    cr_assert_eq(allocate(&room, handle, ZERO, 0, 2 * TIB), 0);
    cr_assert_lt(clock_ms() - begun, 5000);
    cr_assert_eq(pressure_dirty(room.cache->pressure), 0);
    cr_assert_eq(stat_of(&room, handle).size, 2 * TIB);
    cr_assert_eq(room_truncate(&room, handle, 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(hole, modes_and_sizes_that_cannot_be_change_nothing)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle, *reader;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100, 1), 0);
    uint64_t version = handle->inode->wanted.content_version;
    static const struct {
        int mode, rc;
        uint64_t offset, length;
    } rows[] = {
        {FALLOC_FL_PUNCH_HOLE, -EOPNOTSUPP, 0, 10},
        {FALLOC_FL_COLLAPSE_RANGE, -EOPNOTSUPP, 0, 10},
        {FALLOC_FL_INSERT_RANGE, -EOPNOTSUPP, 0, 10},
        {PUNCH | ZERO, -EOPNOTSUPP, 0, 10},
        {0, -EFBIG, OBJECT_BYTES_MAX, 1},
        {0, -EFBIG, 1, UINT64_MAX},
        {KEEP, -EFBIG, 0, OBJECT_BYTES_MAX + 1},
        {ZERO, -EFBIG, 50, OBJECT_BYTES_MAX},
        {0, -ENOSPC, 0, OBJECT_BYTES_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_eq(allocate(&room, handle, rows[i].mode, rows[i].offset, rows[i].length), rows[i].rc,
                     "row %zu", i);
    cr_assert_eq(room_truncate(&room, handle, OBJECT_BYTES_MAX + 1), -EFBIG);
    cr_assert_eq(room_write(&room, handle, OBJECT_BYTES_MAX, 1, 1), -EFBIG);
    cr_assert_eq(cache_allocate(room.cache, NULL, handle, 0, 0, 10), -EAGAIN);
    cr_assert_eq(handle->inode->wanted.content_version, version);
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &reader), 0);
    cr_assert_eq(allocate(&room, reader, 0, 0, 10), -EBADF);
    cr_assert_eq(room_close(&room, reader), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(hole, allocated_is_zeros_that_take_blocks_of_the_disk_and_no_bytes)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    uint64_t total, before, after;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100, 1), 0);
    cr_assert_eq(room.directory->ops->space(room.directory, &total, &before), 0);
    cr_assert_eq(allocate(&room, handle, KEEP, 0, 256 * MIB), 0);
    cr_assert_eq(room.directory->ops->space(room.directory, &total, &after), 0);
    cr_assert_gt(before - after, 128 * MIB);
    cr_assert_eq(stat_of(&room, handle).size, 100);
    cr_assert_eq(allocate(&room, handle, 0, 50, MIB), 0);
    cr_assert_eq(stat_of(&room, handle).size, MIB + 50);
    cr_assert_eq(pressure_dirty(room.cache->pressure), 100);
    cr_assert_eq(room_read(&room, handle, 0, 100, 1), 0);
    cr_assert_eq(room_read(&room, handle, 100, MIB - 50, 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(hole, what_the_disk_cannot_hold_is_not_promised)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    uint64_t total, space;
    cr_assert_eq(room.directory->ops->space(room.directory, &total, &space), 0);
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(allocate(&room, handle, 0, 0, space), -ENOSPC);
    cr_assert_eq(stat_of(&room, handle).size, 0);
    room.disk.full = true;
    cr_assert_eq(allocate(&room, handle, 0, 0, MIB), -ENOSPC);
    room.disk.full = false;
    cr_assert_eq(stat_of(&room, handle).size, 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

static void *make_room_soon(void *context)
{
    struct room *room = context;
    usleep(200000);
    room->disk.free_bytes = 60 * MIB;
    room_start_server(room);
    return NULL;
}

Test(hole, what_is_promised_waits_for_room_while_uploads_make_some)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .io_timeout_ms = 20000};
    ROOM_SCOPED(room, &config);
    struct handle *handle, *other;
    pthread_t thread;
    room.disk.free_bytes = 40 * MIB;
    room_stop_server(&room);
    cr_assert_eq(room_create(&room, "other", &other), 0);
    cr_assert_eq(room_write(&room, other, 0, 10 * MIB, 1), 0);
    cr_assert_eq(room_close(&room, other), 0);
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(allocate(&room, handle, 0, 0, 50 * MIB), -ENOSPC, "more than there will ever be");
    pthread_create(&thread, NULL, make_room_soon, &room);
    cr_assert_eq(allocate(&room, handle, 0, 0, 40 * MIB), 0);
    pthread_join(thread, NULL);
    cr_assert(room_object_holds(&room, "p/other", 0, 10 * MIB, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(hole, what_was_stored_into_a_mapping_is_written_back_where_it_stands)
{
    ROOM_SCOPED(room, &writeback);
    struct handle *handle;
    put_object(&room, "p/a", 100, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR | O_APPEND, &handle), 0);
    cr_assert_eq(cache_write_back(room.cache, &room.waiter, handle, "XY", 2, 10), 0);
    cr_assert_eq(stat_of(&room, handle).size, 100);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 10), 0);
    cr_assert_eq(stat_of(&room, handle).size, 102);
    cache_set_flags(handle, O_RDWR);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 10), 0);
    cr_assert_eq(stat_of(&room, handle).size, 102);
    cache_set_flags(handle, O_WRONLY | O_APPEND | O_SYNC);
    cr_assert_eq(handle->flags & O_ACCMODE, O_RDWR);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "XY", 2, 10), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 104, "O_SYNC");
    cr_assert_eq(room_close(&room, handle), 0);
}

/* ---- Any of it. ---- */

enum { SPACE = 400000 };

struct trial {
    struct room *room;
    struct handle *handle;
    char model[SPACE];
    uint64_t size;
};

static void zero_model(struct trial *trial, int mode, uint64_t at, uint64_t length)
{
    uint64_t end = at + length;
    if (!(mode & KEEP) && end > trial->size)
        trial->size = end;
    end = end < trial->size ? end : trial->size;
    if (mode & (ZERO | FALLOC_FL_PUNCH_HOLE) && at < end)
        memset(trial->model + at, 0, end - at);
}

static void change(struct trial *trial, uint64_t at, uint64_t length)
{
    static const int modes[] = {0, KEEP, PUNCH, ZERO, ZERO | KEEP, PUNCH};
    static char chunk[SPACE];
    int kind = rand() % 8;
    if (kind == 0) {
        cr_assert_eq(room_truncate(trial->room, trial->handle, at), 0);
        memset(trial->model + at, 0, SPACE - at);
        trial->size = at;
    } else if (kind < 4) {
        int mode = modes[rand() % 6];
        cr_assert_eq(allocate(trial->room, trial->handle, mode, at, length + 1), 0);
        zero_model(trial, mode, at, length + 1);
    } else if (length) {
        memset(chunk, rand() % 250 + 1, length);
        cr_assert_eq(cache_write(trial->room->cache, &trial->room->waiter, trial->handle, chunk, length, at),
                     0);
        memcpy(trial->model + at, chunk, length);
        if (at + length > trial->size)
            trial->size = at + length;
    }
}

static void check_shown(struct trial *trial)
{
    struct reader reader;
    static char shown[SPACE];
    cr_assert_eq(stat_of(trial->room, trial->handle).size, trial->size);
    if (trial->size == 0)
        return;
    reader_begin(&reader, trial->room, trial->handle, 0, trial->size);
    cr_assert_eq(reader_wait(&reader), 0);
    reader_copy(&reader, shown);
    reader_release(&reader);
    for (uint64_t i = 0; i < trial->size; i++)
        cr_assert_eq(shown[i], trial->model[i], "byte %zu", (size_t)i);
    LOCK_SCOPED(&trial->handle->inode->lock);
    inode_check_locked(trial->handle->inode);
}

static void check_sent(struct trial *trial, int round)
{
    BUF_SCOPED bytes = BUF_INIT;
    assert_drained(trial->room);
    cr_assert(memory_store_peek(trial->room->bucket, "p/a", NULL, &bytes));
    cr_assert_eq(bytes.length, trial->size, "round %d", round);
    cr_assert_eq(memcmp(bytes.bytes, trial->model, trial->size), 0, "round %d", round);
}

static void begin_trial(struct trial *trial)
{
    memset(trial->model, 0, SPACE);
    trial->size = (uint64_t)rand() % (SPACE / 2);
    put_object(trial->room, "p/a", trial->size, 1);
    for (uint64_t i = 0; i < trial->size; i++)
        trial->model[i] = room_byte(1, i);
    cr_assert_eq(room_open(trial->room, "a", O_RDWR, &trial->handle), 0);
}

/* The file is what an array would be, shown and sent, whatever uploads were under way, and when the process died. */
Test(hole, agrees_with_an_array_after_any_changes_publications_and_crashes)
{
    static struct trial trial;
    srand(12);
    for (int round = 0; round < 40; round++) {
        struct room_config config = {
            .part_bytes = PAGE_BYTES, .bucket = {.part_bytes_min = 1}, .durability = DURABILITY_WRITEBACK};
        ROOM_SCOPED(room, &config);
        trial.room = &room;
        begin_trial(&trial);
        for (int step = 0; step < 25; step++) {
            uint64_t at = (uint64_t)rand() % (SPACE - 1), length = (uint64_t)rand() % (SPACE - at - 1);
            change(&trial, at, rand() % 3 ? length / 50 : length);
            if (rand() % 3 == 0) /* behind: what comes next meets it on its way */
                cr_assert_eq(cache_publish(room.cache, "a"), 0);
            if (rand() % 8 == 0)
                check_shown(&trial);
        }
        check_shown(&trial);
        if (round % 2) {
            room_crash(&room);
            cache_release(room.cache, trial.handle);
            room_reopen(&room);
        } else {
            cr_assert_eq(room_close(&room, trial.handle), 0);
        }
        check_sent(&trial, round);
    }
}
