#include "cache/content.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "tests/support/room.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)

static void put_object(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    free(bytes);
}

static uint64_t size_of(struct handle *handle)
{
    LOCK_SCOPED(&handle->inode->lock);
    inode_check_locked(handle->inode);
    return handle->inode->wanted.attributes.size;
}

Test(content, a_write_behind_the_end_leaves_a_hole_of_zeros)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 100, 1), 0);
    cr_assert_eq(room_write(&room, handle, 300 * KIB, 100, 2), 0);
    cr_assert_eq(size_of(handle), 300 * KIB + 100);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 100, 1));
    cr_assert(room_object_holds(&room, "p/a", 100, 300 * KIB, 0));
    cr_assert(room_object_holds(&room, "p/a", 300 * KIB, 300 * KIB + 100, 2));
}

/* Any writes and truncates, some of them published in between, are the file that a plain array would be. */
Test(content, agrees_with_an_array_after_any_writes_truncates_and_publications)
{
    enum { SPACE = 400000 };
    static char model[SPACE], chunk[SPACE];
    srand(11);
    for (int round = 0; round < 30; round++) {
        struct room_config config = {.part_bytes = PAGE_BYTES, .bucket = {.part_bytes_min = 1}};
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        size_t size = (size_t)rand() % SPACE;
        put_object(&room, "p/a", size, 1);
        memset(model, 0, sizeof model);
        for (size_t i = 0; i < size; i++)
            model[i] = room_byte(1, i);
        cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
        for (int step = 0; step < 25; step++) {
            size_t at = (size_t)rand() % SPACE, length = (size_t)rand() % (SPACE - at);
            if (rand() % 3)
                length /= 50;
            switch (rand() % 4) {
            case 0:
                cr_assert_eq(room_truncate(&room, handle, at), 0);
                memset(model + at, 0, sizeof model - at);
                size = at;
                break;
            case 1:
                if (rand() % 2)
                    cr_assert_eq(room_fsync(&room, handle), 0);
                break;
            default:
                memset(chunk, rand() % 250 + 1, length);
                cr_assert_eq(cache_write(room.cache, &room.waiter, handle, chunk, length, at), 0);
                memcpy(model + at, chunk, length);
                if (length && at + length > size)
                    size = at + length;
            }
            cr_assert_eq(size_of(handle), size);
        }
        cr_assert_eq(room_close(&room, handle), 0);
        BUF_SCOPED bytes = BUF_INIT;
        cr_assert(memory_store_peek(room.bucket, "p/a", NULL, &bytes));
        cr_assert_eq(bytes.length, size);
        cr_assert_eq(memcmp(bytes.bytes, model, size), 0, "round %d", round);
    }
}

Test(content, fill_fetches_the_gaps_and_nothing_over_what_was_written)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_object(&room, "p/a", 10 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 5 * MIB, MIB, 2), 0);
    cr_assert_eq(content_fill(room_inode(handle), NULL, NULL), -EAGAIN);
    cr_assert_eq(content_fill(room_inode(handle), NULL, &room.waiter), 0);
    struct iovec piece = {malloc(10 * MIB), 10 * MIB};
    char *bytes = piece.iov_base;
    cr_assert_eq(disk_read(room_inode(handle)->local, bytes, 10 * MIB, 0), (ssize_t)(10 * MIB));
    for (uint64_t i = 0; i < 10 * MIB; i += 997)
        cr_assert_eq(bytes[i], (room_byte(i >= 5 * MIB && i < 6 * MIB ? 2 : 1, i)));
    free(bytes);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(content, what_the_base_has_as_well_can_be_given_back_to_a_full_disk)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_object(&room, "p/a", 10 * MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 5 * MIB, MIB, 2), 0);
    cr_assert_eq(room_write(&room, handle, 8 * MIB, MIB, 2), 0);
    cr_assert_eq(content_fill(room_inode(handle), NULL, &room.waiter), 0);
    cr_assert(content_give_back(room_inode(handle), false, &room.waiter));
    cr_assert_not(content_give_back(room_inode(handle), false, &room.waiter), "nothing is left to give");
    cr_assert_eq(extents_bytes(&room_inode(handle)->present), 2 * MIB);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 5 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 5 * MIB, 6 * MIB, 2));
    cr_assert(room_object_holds(&room, "p/a", 6 * MIB, 8 * MIB, 1));
    cr_assert(room_object_holds(&room, "p/a", 8 * MIB, 9 * MIB, 2));
    cr_assert(room_object_holds(&room, "p/a", 9 * MIB, 10 * MIB, 1));
}

/* Nobody would give it again. */
Test(content, nothing_of_a_file_in_conflict_is_given_back)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_object(&room, "p/a", MIB, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 1000, 1000, 2), 0);
    cr_assert_eq(content_fill(room_inode(handle), NULL, &room.waiter), 0);
    for (int parked = 1; parked >= 0; parked--) {
        lock_take(&room_inode(handle)->lock);
        room_inode(handle)->parked_rc = parked ? -ESTALE : 0;
        lock_drop(&room_inode(handle)->lock);
        cr_assert_eq(content_give_back(room_inode(handle), true, &room.waiter), !parked);
        cr_assert_eq(extents_bytes(&room_inode(handle)->present), parked ? MIB : 1000);
    }
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(content, fill_of_a_replaced_object_is_estale_and_fetches_nothing_of_it)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_object(&room, "p/a", 1000, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 10, 2), 0);
    put_object(&room, "p/a", 1000, 3);
    cr_assert_eq(content_fill(room_inode(handle), NULL, &room.waiter), -ESTALE);
    cr_assert_eq(extents_bytes(&room_inode(handle)->present), 10);
    cache_release(room.cache, handle);
}

Test(content, more_ranges_than_fit_make_the_file_whole_and_lose_nothing)
{
    enum { STEP = 3 };
    uint64_t size = (uint64_t)(EXTENTS_MAX + 100) * STEP;
    for (int based = 0; based < 2; based++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        put_object(&room, "p/a", based ? size / 2 : 0, 1);
        cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
        for (uint64_t at = 0; at < size; at += STEP)
            cr_assert_eq(room_write(&room, handle, at, 1, 2), 0);
        cr_assert_lt(room_inode(handle)->present.count, EXTENTS_MAX);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert_leq(memory_store_logged(room.bucket, STORE_GET, "p/a"), 2, "a request for each little gap");
        BUF_SCOPED bytes = BUF_INIT;
        cr_assert(memory_store_peek(room.bucket, "p/a", NULL, &bytes));
        for (uint64_t at = 0; at + STEP < size; at += STEP) {
            cr_assert_eq(bytes.bytes[at], room_byte(2, at));
            cr_assert_eq(bytes.bytes[at + 1], (based && at + 1 < size / 2 ? room_byte(1, at + 1) : 0));
        }
    }
}

Test(content, a_file_over_five_tib_is_efbig)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "x", 1, (uint64_t)5 << 40), -EFBIG);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "x", 1, UINT64_MAX), -EFBIG);
    cr_assert_eq(room_truncate(&room, handle, ((uint64_t)5 << 40) + 1), -EFBIG);
    cr_assert_eq(size_of(handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(content, a_reader_may_not_write_and_a_read_only_mount_opens_nothing_for_writing)
{
    struct room_config config = {.read_only = true};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    put_object(&room, "p/a", 1000, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), -EROFS);
    cr_assert_eq(room_open(&room, "a", O_RDONLY | O_TRUNC, &handle), -EROFS);
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &handle), 0);
    cr_assert_neq(cache_write(room.cache, &room.waiter, handle, "x", 1, 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(content, the_kernels_pages_stay_over_our_own_writes_and_uploads_only)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct opened opened;
    put_object(&room, "p/a", 1000, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    struct inode *inode = inode_ref(room_inode(handle));
    cr_assert_eq(room_write(&room, handle, 0, 10, 2), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(content_open(inode, O_RDONLY, 1, &handle, &opened), 0);
    cr_assert(opened.keep_cache);
    cr_assert_eq(room_close(&room, handle), 0);
    lock_take(&inode->lock);
    inode->remote.identity.modified_ns += INT64_C(5000000000); /* what names finds, when nobody has it open */
    content_forget_locked(inode);
    lock_drop(&inode->lock);
    cr_assert_eq(content_open(inode, O_RDONLY, 1, &handle, &opened), 0);
    cr_assert_not(opened.keep_cache);
    cr_assert_eq(room_close(&room, handle), 0);
    inode_unref(inode);
}

struct largest {
    struct disk *disk;
    uint64_t blocks;
};

static int note_blocks(void *context, const char *name)
{
    struct largest *largest = context;
    struct stat st;
    STRING_SCOPED *path = disk_path(largest->disk, name);
    if (stat(path, &st) == 0 && (uint64_t)st.st_blocks * 512 > largest->blocks)
        largest->blocks = (uint64_t)st.st_blocks * 512;
    return 0;
}

static uint64_t largest_file(struct room *room)
{
    struct largest largest = {.disk = room->directory};
    cr_assert_eq(room->directory->ops->list(room->directory, note_blocks, &largest), 0);
    return largest.blocks;
}

Test(content, who_appends_much_has_blocks_ahead_of_him_until_he_closes)
{
    ROOM_SCOPED(room, &(struct room_config){.durability = DURABILITY_WRITEBACK});
    struct handle *handle;
    struct statfs st;
    int fault = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_CREATE});
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    for (uint64_t at = 0; at < 9; at++)
        cr_assert_eq(room_write(&room, handle, at * MIB, MIB, 1), 0);
    cr_assert_eq(statfs(room.path, &st), 0);
    if (st.f_type == EXT4_SUPER_MAGIC)
        cr_assert_geq(largest_file(&room), 32 * MIB);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_leq(largest_file(&room), 10 * MIB);
    memory_store_fault_end(room.bucket, fault);
}

Test(content, the_local_file_goes_at_the_last_close_of_a_clean_file)
{
    ROOM_SCOPED(room, NULL);
    struct handle *first, *second;
    cr_assert_eq(room_create(&room, "a", &first), 0);
    cr_assert_eq(room_write(&room, first, 0, 10, 1), 0);
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &second), 0);
    cr_assert_eq(room_close(&room, first), 0);
    cr_assert_eq(room_local_files(&room), 1);
    cr_assert_eq(room_close(&room, second), 0);
    cr_assert(room_await_no_local_file(&room));
}

Test(content, o_sync_makes_each_write_wait_for_the_bucket)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_object(&room, "p/a", 100, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY | O_SYNC, &handle), 0);
    cr_assert_eq(cache_write(room.cache, NULL, handle, "x", 1, 0), -EAGAIN);
    cr_assert_eq(room_write(&room, handle, 0, 10, 2), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 10, 2));
    cr_assert_eq(room_close(&room, handle), 0);
}
