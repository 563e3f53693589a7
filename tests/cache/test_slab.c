#include "cache/slab.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "tests/support/fault_disk.h"
#include "tests/support/power_disk.h"

#define KIB ((uint64_t)1 << 10)

struct slot { /* as its owner has it */
    struct disk_file *file;
    char name[SLAB_NAME_MAX];
};

static struct slot claim(struct slabs *slabs, uint64_t bytes)
{
    struct slot slot;
    cr_assert_eq(slabs_claim(slabs, bytes, &slot.file, slot.name), 0);
    return slot;
}

static void put(struct slot *slot, char byte, size_t size)
{
    char bytes[4096];
    memset(bytes, byte, sizeof bytes);
    cr_assert_eq(disk_write(slot->file, bytes, size, 0), 0);
}

static bool holds(struct disk_file *file, char byte, size_t size)
{
    char bytes[4096] = {0};
    if (disk_read(file, bytes, size, 0) != (ssize_t)size)
        return false;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte)
            return false;
    return true;
}

static int drop(struct slabs *slabs, struct slot *slot)
{
    disk_close(slot->file);
    return slabs_disk(slabs)->ops->remove(slabs_disk(slabs), slot->name);
}

static int count_name(void *context, const char *name)
{
    (void)name;
    ++*(size_t *)context;
    return 0;
}

static size_t count_files(struct power_disk *power)
{
    struct disk *disk = power_disk_disk(power);
    size_t count = 0;
    cr_assert_eq(disk->ops->list(disk, count_name, &count), 0);
    return count;
}

Test(slab, many_small_files_stand_in_one_local_file_and_apart)
{
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot *slots = xcalloc(SLAB_SLOTS, sizeof slots[0]);
    for (size_t i = 0; i < SLAB_SLOTS; i++) {
        slots[i] = claim(slabs, 4 * KIB);
        put(&slots[i], (char)i, 4096);
    }
    cr_assert_eq(count_files(power), 1);
    for (size_t i = 0; i < SLAB_SLOTS; i++)
        cr_assert(holds(slots[i].file, (char)i, 4096));
    struct slot more = claim(slabs, 1);
    cr_assert_eq(count_files(power), 2, "the first one is full");
    cr_assert_eq(drop(slabs, &more), 0);
    for (size_t i = 0; i < SLAB_SLOTS; i++)
        cr_assert_eq(drop(slabs, &slots[i]), 0);
    cr_assert_eq(count_files(power), 0, "the last slot takes its slab with it");
    free(slots);
    slabs_free(slabs);
    power_disk_free(power);
}

Test(slab, what_is_larger_needs_a_file_of_its_own_and_says_so)
{
    static const struct {
        uint64_t bytes, room;
    } rows[] = {
        {0, 4 * KIB}, {1, 4 * KIB}, {4 * KIB, 4 * KIB}, {4 * KIB + 1, 32 * KIB}, {32 * KIB, 32 * KIB}};
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot slot;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        slot = claim(slabs, rows[i].bytes);
        cr_assert_eq(slab_room(slabs, slot.file), rows[i].room);
        cr_assert_eq(disk_write(slot.file, "xy", 2, rows[i].room - 2), 0);
        cr_assert_eq(disk_write(slot.file, "xy", 2, rows[i].room - 1), -EFBIG, "never into the next one");
        cr_assert_eq(disk_truncate(slot.file, rows[i].room + 1), -EFBIG);
        cr_assert_eq(disk_punch(slot.file, rows[i].room, 1), -EFBIG);
        cr_assert_eq(drop(slabs, &slot), 0);
    }
    cr_assert_eq(slabs_claim(slabs, 32 * KIB + 1, &slot.file, slot.name), -EFBIG);
    struct disk_file *own;
    cr_assert_eq(disk_open(slabs_disk(slabs), "own", DISK_CREATE, &own), 0);
    cr_assert_eq(slab_room(slabs, own), UINT64_MAX);
    disk_close(own);
    slabs_free(slabs);
    power_disk_free(power);
}

Test(slab, a_slot_is_given_out_again_only_after_it_was_removed)
{
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot kept = claim(slabs, 1), gone = claim(slabs, 1), other = claim(slabs, 1);
    disk_close(gone.file);
    struct slot next = claim(slabs, 1);
    cr_assert_str_neq(next.name, gone.name, "closed is not removed");
    cr_assert_eq(slabs_disk(slabs)->ops->remove(slabs_disk(slabs), gone.name), 0);
    cr_assert_eq(slabs_disk(slabs)->ops->remove(slabs_disk(slabs), gone.name), -ENOENT);
    struct slot again = claim(slabs, 1);
    cr_assert_str_eq(again.name, gone.name);
    struct slot *all[] = {&kept, &other, &next, &again};
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(drop(slabs, all[i]), 0);
    slabs_free(slabs);
    power_disk_free(power);
}

static long flushes; /* and writes */

static void count_flush(void *context, long nth)
{
    (void)context;
    (void)nth;
    flushes++;
}

Test(slab, one_flush_is_that_of_all_that_were_written_before_it)
{
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot a = claim(slabs, 1), b = claim(slabs, 1);
    put(&a, 'a', 10);
    put(&b, 'b', 10);
    power_disk_watch(power, count_flush, NULL);
    cr_assert_eq(disk_flush(a.file), 0);
    cr_assert_eq(disk_flush(b.file), 0);
    cr_assert_eq(flushes, 1);
    put(&b, 'c', 10);
    cr_assert_eq(flushes, 2);
    cr_assert_eq(disk_flush(a.file), 0);
    cr_assert_eq(flushes, 2, "it has not changed");
    cr_assert_eq(disk_flush(b.file), 0);
    cr_assert_eq(flushes, 3);
    power_disk_watch(power, NULL, NULL);
    drop(slabs, &a);
    drop(slabs, &b);
    slabs_free(slabs);
    power_disk_free(power);
}

/* What is flushed is found by its name, whatever becomes of the slots beside it; what stands there is not given out. */
Test(slab, what_was_flushed_is_found_by_its_name_after_a_power_cut)
{
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot a = claim(slabs, 1), b = claim(slabs, 1), c = claim(slabs, 1);
    put(&a, 'a', 4096);
    put(&b, 'b', 4096);
    cr_assert_eq(disk_flush(b.file), 0);
    cr_assert_eq(slabs_disk(slabs)->ops->flush_names(slabs_disk(slabs)), 0);
    put(&c, 'c', 4096);
    put(&a, 'x', 4096);
    for (unsigned seed = 0; seed < 20; seed++) {
        struct power_disk *after = power_disk_cut(power, seed);
        struct slabs *found = slabs_new(power_disk_disk(after));
        struct disk_file *file;
        cr_assert_eq(disk_open(slabs_disk(found), b.name, 0, &file), 0);
        cr_assert(holds(file, 'b', 4096));
        struct slot fresh = claim(found, 1);
        cr_assert(strncmp(fresh.name, b.name, strlen(b.name) - 4) != 0, "%s", fresh.name);
        drop(found, &fresh);
        disk_close(file);
        cr_assert_eq(slabs_disk(found)->ops->remove(slabs_disk(found), b.name), 0);
        cr_assert_eq(count_files(after), 0, "nobody else opened a slot of it");
        slabs_free(found);
        power_disk_free(after);
    }
    struct slot *all[] = {&a, &b, &c};
    for (size_t i = 0; i < 3; i++)
        drop(slabs, all[i]);
    slabs_free(slabs);
    power_disk_free(power);
}

/* An earlier process may not have flushed it. */
Test(slab, a_slot_that_was_found_is_flushed_although_nothing_was_written)
{
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot slot = claim(slabs, 1);
    put(&slot, 'a', 4096);
    struct power_disk *killed = power_disk_kill(power);
    struct slabs *next = slabs_new(power_disk_disk(killed));
    struct disk_file *file;
    cr_assert_eq(disk_open(slabs_disk(next), slot.name, 0, &file), 0);
    cr_assert_eq(disk_flush(file), 0);
    cr_assert_eq(slabs_disk(next)->ops->flush_names(slabs_disk(next)), 0);
    struct power_disk *cut = power_disk_cut(killed, 0);
    size_t size;
    char slab[SLAB_NAME_MAX];
    cr_assert(slab_parse(slot.name, slab));
    char *bytes = power_disk_bytes(cut, slab, &size);
    cr_assert(bytes && size == 4096 && bytes[0] == 'a' && bytes[4095] == 'a');
    free(bytes);
    disk_close(file);
    slabs_free(next);
    power_disk_free(cut);
    power_disk_free(killed);
    drop(slabs, &slot);
    slabs_free(slabs);
    power_disk_free(power);
}

Test(slab, after_a_flush_that_failed_no_other_one_says_that_it_is_there)
{
    struct power_disk *power = power_disk_new();
    struct fault_disk fault;
    fault_disk_init(&fault, power_disk_disk(power));
    struct slabs *slabs = slabs_new(&fault.disk);
    struct slot a = claim(slabs, 1), b = claim(slabs, 1);
    put(&a, 'a', 10);
    put(&b, 'b', 10);
    atomic_store(&fault.flush_rc, -EIO);
    cr_assert_eq(disk_flush(a.file), -EIO);
    atomic_store(&fault.flush_rc, 0);
    cr_assert_eq(disk_flush(b.file), -EIO);
    cr_assert_eq(disk_flush(a.file), -EIO);
    drop(slabs, &a);
    drop(slabs, &b);
    slabs_free(slabs);
    power_disk_free(power);
}

Test(slab, a_file_that_is_still_open_outlives_its_slot)
{
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot slot = claim(slabs, 1);
    put(&slot, 'a', 10);
    cr_assert_eq(slabs_disk(slabs)->ops->remove(slabs_disk(slabs), slot.name), 0);
    cr_assert_eq(count_files(power), 0);
    cr_assert_eq(disk_flush(slot.file), 0);
    cr_assert(holds(slot.file, 'a', 10));
    disk_close(slot.file);
    slabs_free(slabs);
    power_disk_free(power);
}

Test(slab, a_slot_allocates_within_itself)
{
    struct power_disk *power = power_disk_new();
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct slot slot = claim(slabs, 1);
    cr_assert_eq(disk_allocate(slot.file, 0, 4 * KIB), -EOPNOTSUPP, "that disk promises nothing");
    cr_assert_eq(disk_allocate(slot.file, 1, 4 * KIB), -EFBIG);
    drop(slabs, &slot);
    slabs_free(slabs);
    power_disk_free(power);
}

Test(slab, names_are_those_of_slabs_and_slots_and_nothing_else)
{
    static const struct {
        char name[40], slab[40], path[40];
        uint64_t offset;
    } rows[] = {
        {"4k-00000000000000ab", "4k-00000000000000ab", "4k-00000000000000ab", 0},
        {"4k-00000000000000ab.002", "4k-00000000000000ab", "4k-00000000000000ab", 8192},
        {"32k-fedcba9876543210.3ff", "32k-fedcba9876543210", "32k-fedcba9876543210", 33521664},
        {"4k-00000000000000ab.400", "", "4k-00000000000000ab.400", 0},
        {"4k-00000000000000ab.02", "", "4k-00000000000000ab.02", 0},
        {"4k-00000000000000ab.0002", "", "4k-00000000000000ab.0002", 0},
        {"4k-00000000000000AB", "", "4k-00000000000000AB", 0},
        {"4k-ab", "", "4k-ab", 0},
        {"8k-00000000000000ab.002", "", "8k-00000000000000ab.002", 0},
        {"00000000000000ab", "", "00000000000000ab", 0},
        {"journal-1", "", "journal-1", 0},
        {"", "", "", 0},
    };
    struct power_disk *power = power_disk_new();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char slab[SLAB_NAME_MAX] = "";
        cr_assert_eq(slab_parse(rows[i].name, slab), rows[i].slab[0] != 0, "%s", rows[i].name);
        cr_assert_str_eq(slab, rows[i].slab);
        uint64_t offset;
        STRING_SCOPED *path = slab_path(power_disk_disk(power), rows[i].name, &offset);
        cr_assert_str_eq(path, rows[i].path);
        cr_assert_eq(offset, rows[i].offset);
    }
    power_disk_free(power);
}
