/* What readers have left in memory of the object that a file was patched from, when the bucket has it no more. */
#include "cache/salvage.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/core.h"
#include "cache/journal.h"
#include "tests/support/power_disk.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

/* ---- Scenery. ---- */

static void put(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    free(bytes);
}

static void replace(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)memory, (void)call;
    put(context, "p/a", 500, 3);
}

static void take_away(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)call, (void)context;
    memory_store_remove(memory, "p/a");
}

/* Each by a reader of its own: of what a sequence has passed little stays. */
static void read_all(struct room *room, uint64_t start, uint64_t end)
{
    struct handle *reader;
    for (uint64_t at = start; at < end; at += MIB) {
        cr_assert_eq(room_open(room, "a", O_RDONLY, &reader), 0);
        cr_assert_eq(room_read(room, reader, at, end - at < MIB ? end - at : MIB, 1), 0);
        cache_release(room->cache, reader);
    }
}

/* Pattern 1, but 10 bytes of pattern 2 at `patched`. */
static bool holds(struct room *room, const char *key, uint64_t size, uint64_t patched)
{
    return room_object_size(room, key) == size && room_object_holds(room, key, 0, patched, 1) &&
           room_object_holds(room, key, patched, patched + 10, 2) &&
           room_object_holds(room, key, patched + 10, size, 1);
}

/* The caller's; NULL: none. */
static char *find_copy(struct room *room)
{
    BUF_SCOPED keys = BUF_INIT;
    memory_store_keys(room->bucket, &keys);
    char *next = NULL;
    for (char *key = strtok_r(keys.bytes, "\n", &next); key; key = strtok_r(NULL, "\n", &next))
        if (strstr(key, ".skyvol-conflict-"))
            return xstrdup(key);
    return NULL;
}

static void expect_both(struct room *room, uint64_t size, uint64_t patched)
{
    STRING_SCOPED *key = find_copy(room);
    cr_assert(key, "there is no conflict copy");
    cr_assert(holds(room, key, size, patched));
    cr_assert(!memory_store_has(room->bucket, "p/a") ||
              (room_object_size(room, "p/a") == 500 && room_object_holds(room, "p/a", 0, 500, 3)));
}

static void note_conflict(void *context, const struct cache_unsent *unsent)
{
    size_t *count = context;
    *count += unsent->conflict && unsent->parked && strcmp(unsent->path, "a") == 0;
}

static bool is_parked(struct room *room)
{
    size_t count = 0;
    cache_unsent(room->cache, note_conflict, &count);
    return count == 1;
}

/* ---- By itself. ---- */

Test(salvage, blocks_land_where_nothing_was_written_and_not_where_it_is_copied)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct extents copied = {0};
    put(&room, "p/a", MIB + 5, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(salvage_blocks(room_inode(handle), NULL), 0);
    cr_assert_eq(room_inode(handle)->present.count, 0, "nobody has read anything");
    read_all(&room, 0, MIB + 5);
    cr_assert_eq(room_write(&room, handle, 700000, 10, 2), 0);
    extents_add(&copied, 0, 4 * PAGE_BYTES);
    cr_assert_eq(salvage_blocks(room_inode(handle), &copied), 0);
    cr_assert(extents_cover(&room_inode(handle)->present, 4 * PAGE_BYTES, MIB + 5));
    cr_assert_not(extents_touch(&room_inode(handle)->present, 0, 4 * PAGE_BYTES));
    cr_assert_eq(extents_bytes(&room_inode(handle)->dirty), 10, "what the bucket has is not unsent");
    cr_assert_eq(salvage_blocks(room_inode(handle), NULL), 0);
    cr_assert(extents_cover(&room_inode(handle)->present, 0, MIB + 5));
    extents_release(&copied);
    memory_store_log_clear(room.bucket);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_GET, NULL), 0);
    cr_assert(holds(&room, "p/a", MIB + 5, 700000));
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(salvage, what_was_cut_off_stays_away)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, 0, MIB);
    cr_assert_eq(room_truncate(&room, handle, 300000), 0);
    cr_assert_eq(room_truncate(&room, handle, MIB), 0);
    cr_assert_eq(salvage_blocks(room_inode(handle), NULL), 0);
    cr_assert(extents_cover(&room_inode(handle)->present, 0, 300000));
    cr_assert_not(extents_touch(&room_inode(handle)->present, 300000, MIB));
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 300000, 1));
    cr_assert(room_object_holds(&room, "p/a", 300000, MIB, 0));
}

Test(salvage, blocks_of_another_version_are_nobodys)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, 0, MIB);
    cr_assert_eq(room_truncate(&room, handle, 0), 0);
    cr_assert_eq(room_write(&room, handle, 0, MIB, 4), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(content_give_back(room_inode(handle), false, &room.waiter), true);
    cr_assert_eq(salvage_blocks(room_inode(handle), NULL), 0);
    cr_assert_eq(room_inode(handle)->present.count, 0);
    cr_assert_eq(room_read(&room, handle, 0, MIB, 4), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(salvage, what_is_in_memory_is_not_fetched_again_to_be_sent)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 3 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, 0, 3 * MIB);
    memory_store_log_clear(room.bucket);
    cr_assert_eq(room_write(&room, handle, MIB, 10, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_GET, NULL), 0);
    cr_assert(holds(&room, "p/a", 3 * MIB, MIB));
}

/* ---- In a conflict. ---- */

struct moment { /* at which another client's object comes */
    const char *name;
    uint64_t size;
    bool no_part_copy;
    enum store_op op; /* 0: before anything is sent */
    bool late;        /* who does not honour conditions does not tell */
};

static void keep_both(const struct moment *moment, bool vanishes, bool honoured)
{
    struct room_config config = {
        .bucket = {.no_part_copy = moment->no_part_copy, .ignore_conditions = !honoured}};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    uint64_t patched = moment->size / 2;
    put(&room, "p/a", moment->size, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, 0, moment->size);
    cr_assert_eq(room_write(&room, handle, patched, 10, 2), 0);
    if (moment->op)
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                        .op = moment->op,
                                                        .times = 1,
                                                        .meanwhile = vanishes ? take_away : replace,
                                                        .context = &room});
    else
        (vanishes ? take_away : replace)(room.bucket, NULL, &room);
    int rc = room_fsync(&room, handle);
    cr_assert_eq(rc, -ESTALE, "%s, %d: %d", moment->name, vanishes, rc);
    cr_assert_eq(room_fsync(&room, handle), 0, "%s, %d: it goes up beside theirs", moment->name, vanishes);
    expect_both(&room, moment->size, patched);
    cr_assert_eq(memory_store_has(room.bucket, "p/a"), !vanishes);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(salvage, both_are_kept_where_the_rest_of_ours_is_in_memory_only)
{
    static const struct moment moments[] = {
        {"small", 1000, false, 0, false},
        {"whole", 20 * MIB, true, 0, false},
        {"parts", 20 * MIB, false, 0, false},
        {"in the middle of a small one", 1000, false, STORE_PUT, true},
        {"in the middle of copies", 20 * MIB, false, STORE_PART_COPY, false},
        {"when all was copied", 20 * MIB, false, STORE_COMPLETE, true},
    };
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++)
        for (int vanishes = 0; vanishes < 2; vanishes++)
            for (int honoured = 0; honoured < 2; honoured++)
                if (honoured || !moments[i].late)
                    keep_both(&moments[i], vanishes, honoured);
}

static size_t told;

static void hear_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level;
    told += strstr(line, "was replaced or removed by somebody") != NULL;
}

/* A read that meets the other version is the first to know of it. */
Test(salvage, a_reader_who_finds_it_out_first_takes_nothing_away)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 4 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, MIB, 4 * MIB);
    cr_assert_eq(room_write(&room, handle, 2 * MIB, 10, 2), 0);
    put(&room, "p/a", 500, 3);
    log_tap(hear_line, NULL);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(room_read(&room, handle, 0, 1000, 1), -ESTALE);
    log_tap(NULL, NULL);
    cr_assert_eq(told, 1, "it was said %zu times", told);
    cr_assert_eq(room_read(&room, handle, 3 * MIB, MIB, 1), 0, "of the same version as before");
    cr_assert_eq(room_write(&room, handle, 0, MIB, 1), 0);
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert_eq(room_fsync(&room, handle), 0);
    expect_both(&room, 4 * MIB, 2 * MIB);
    cr_assert_eq(room_close(&room, handle), 0);
}

/* Of who only reads nothing has to be kept. */
Test(salvage, what_is_clean_is_forgotten_with_its_version)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 4 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    read_all(&room, MIB, 4 * MIB);
    put(&room, "p/a", 500, 3);
    cr_assert_eq(room_read(&room, handle, 0, 1000, 1), -ESTALE);
    cr_assert_eq(HASH_CNT(by_index, room_inode(handle)->block_table), 0);
    cache_release(room.cache, handle);
}

/* A byte is nowhere: it stays here, is named, and loses nothing of what there was, also when the process dies. */
Test(salvage, what_lacks_bytes_keeps_those_that_were_in_memory)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    put(&room, "p/a", 4 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, MIB, 4 * MIB);
    cr_assert_eq(room_write(&room, handle, 2 * MIB, 10, 2), 0);
    put(&room, "p/a", 500, 3);
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert(is_parked(&room));
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_read(&room, handle, MIB, MIB, 1), 0);
    cr_assert_eq(room_read(&room, handle, 3 * MIB, MIB, 1), 0);
    cr_assert_eq(room_read(&room, handle, 0, 1000, 1), -ESTALE);
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert(is_parked(&room));
    cr_assert_eq(memory_store_object_count(room.bucket), 1);

    cr_assert_eq(room_write(&room, handle, 0, MIB, 1), 0, "whole again");
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert_eq(room_fsync(&room, handle), 0);
    expect_both(&room, 4 * MIB, 2 * MIB);
    cr_assert_eq(room_close(&room, handle), 0);
}

/* What was written is on the disk before the rest of its base comes: that is no less unsent then, and has to follow. */
static void lose_power(bool from_memory)
{
    struct power_disk *power = power_disk_new(), *found;
    {
        ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK,
                                                 .commit_ms = 3600000,
                                                 .disk = power_disk_disk(power),
                                                 .boot = "first"}));
        struct handle *handle;
        put(&room, "p/a", MIB, 1);
        cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
        if (from_memory)
            read_all(&room, 0, MIB);
        cr_assert_eq(room_write(&room, handle, 500000, 10, 2), 0);
        cr_assert_eq(journal_flush(room.cache->journal, &room.waiter), 0);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                        .op = STORE_PUT,
                                                        .times = 1,
                                                        .meanwhile = replace,
                                                        .context = &room});
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT, .skip = 1});
        cr_assert_eq(room_fsync(&room, handle), -ESTALE);
        cr_assert_eq(journal_flush(room.cache->journal, &room.waiter), 0);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .rc = -EIO});
        found = power_disk_cut(power, 0);
        cache_release(room.cache, handle);
        room_reopen_on(&room, power_disk_disk(found), "second");
        assert_drained(&room);
        expect_both(&room, MIB, 500000);
    }
    power_disk_free(power);
    power_disk_free(found);
}

Test(salvage, a_power_cut_takes_nothing_of_the_base_from_what_is_kept)
{
    lose_power(true);
    lose_power(false);
}

Test(salvage, a_disk_that_is_full_puts_it_off)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 2 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, 0, 2 * MIB);
    cr_assert_eq(room_write(&room, handle, MIB, 10, 2), 0);
    put(&room, "p/a", 500, 3);
    atomic_store(&room.disk.write_rc, -ENOSPC);
    cr_assert_eq(room_fsync(&room, handle), -ENOSPC);
    atomic_store(&room.disk.write_rc, 0);
    for (int i = 0; i < 3 && room_fsync(&room, handle) < 0; i++)
        ;
    expect_both(&room, 2 * MIB, MIB);
    cr_assert_eq(room_close(&room, handle), 0);
}

/* Renamed here, and removed there before the object had followed its name. */
Test(salvage, a_renamed_file_whose_object_is_gone_goes_up_from_memory)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    put(&room, "p/a", 2 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    read_all(&room, 0, 2 * MIB);
    memory_store_fault(
        room.bucket,
        &(struct fault){
            .kind = FAULT_MEANWHILE, .op = STORE_COPY, .times = 1, .meanwhile = take_away, .context = &room});
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert(room_object_holds(&room, "p/b", 0, 2 * MIB, 1));
    cr_assert_eq(room_close(&room, handle), 0);
}
