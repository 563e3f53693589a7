#include "cache/block.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/room.h"

#define MIB       ((uint64_t)1 << 20)
#define BLOCK_MAX 64 /* of the object */

struct bench {
    struct room room;
    struct handle *handle;
    struct inode *inode;
    struct blocks *blocks;
    struct block_source source;
    struct list fetches;
};

static void bench_init(struct bench *bench, size_t memory_bytes)
{
    struct room_config config = {.memory_bytes = memory_bytes};
    char *bytes = xmalloc(BLOCK_MAX * PAGE_BYTES);
    for (uint64_t i = 0; i < BLOCK_MAX * PAGE_BYTES; i++)
        bytes[i] = room_byte(1, i);
    room_init(&bench->room, &config);
    memory_store_put(bench->room.bucket, "p/a", bytes, BLOCK_MAX * PAGE_BYTES, NULL, NULL);
    free(bytes);
    cr_assert_eq(room_open(&bench->room, "a", O_RDONLY, &bench->handle), 0);
    bench->inode = room_inode(bench->handle);
    bench->blocks = bench->room.cache->blocks;
    strcpy(bench->source.key, "p/a");
    bench->source.identity = bench->inode->remote.identity;
    list_init(&bench->fetches);
    LOCK_SCOPED(blocks_lock(bench->blocks));
    blocks_expect_locked(bench->inode, &bench->source.identity);
}

static void bench_release(struct bench *bench)
{
    cache_release(bench->room.cache, bench->handle);
    room_release(&bench->room);
}

#define BENCH_SCOPED(name, memory_bytes)                                                                     \
    struct bench name __attribute__((cleanup(bench_release)));                                               \
    bench_init(&name, memory_bytes)

static uint64_t fetch(struct bench *bench, uint64_t first, uint64_t end, enum memory_share share,
                      uint64_t run)
{
    struct blocks_wanted wanted = {first, end, share, run};
    LOCK_SCOPED(blocks_lock(bench->blocks));
    return blocks_fetch_locked(bench->inode, &bench->source, wanted, NULL, &bench->fetches);
}

static void send(struct bench *bench)
{
    fetches_start(bench->blocks, &bench->fetches);
    cr_assert(memory_store_settle(bench->room.bucket));
}

/* As a reader that takes blocks [first, end) and lets them go. */
static void read_up(struct bench *bench, uint64_t first, uint64_t end, bool passed)
{
    struct free_pages free_pages = {0};
    lock_take(blocks_lock(bench->blocks));
    for (uint64_t index = first; index < end; index++) {
        struct block *block = blocks_find_locked(bench->inode, index);
        cr_assert(block && block->state == BLOCK_PRESENT, "block %zu", (size_t)index);
        block_pin_locked(block);
        block_unpin_locked(block, passed, &free_pages);
    }
    lock_drop(blocks_lock(bench->blocks));
    free_pages_give(bench->blocks, &free_pages);
}

static size_t count_present(struct bench *bench, uint64_t first, uint64_t end)
{
    size_t count = 0;
    LOCK_SCOPED(blocks_lock(bench->blocks));
    for (uint64_t index = first; index < end; index++)
        count += blocks_find_locked(bench->inode, index) != NULL;
    return count;
}

/* "offset+length" of every GET in blocks. */
static void print_gets(struct bench *bench, struct buf *out)
{
    for (size_t i = 0; i < memory_store_log_count(bench->room.bucket); i++) {
        const struct memory_store_entry *entry = memory_store_log(bench->room.bucket, i);
        if (entry->op == STORE_GET)
            buf_printf(out, "%zu+%zu ", (size_t)(entry->offset / PAGE_BYTES),
                       (size_t)(entry->length / PAGE_BYTES));
    }
}

Test(block, neighbours_share_a_get_what_is_here_is_not_asked_for_again)
{
    BENCH_SCOPED(bench, 0);
    BUF_SCOPED gets = BUF_INIT;
    fetch(&bench, 3, 5, SHARE_DEMAND, 0);
    send(&bench);
    fetch(&bench, 1, 8, SHARE_DEMAND, 0);  /* 3 and 4 are here: two GETs */
    fetch(&bench, 8, 20, SHARE_AHEAD, 16); /* joins the second up to the border at 16 */
    fetch(&bench, 7, 9, SHARE_DEMAND, 0);  /* on their way */
    send(&bench);
    print_gets(&bench, &gets);
    cr_assert_str_eq(gets.bytes, "3+2 1+2 5+11 16+4 ");
    struct blocks_report report;
    blocks_report(bench.blocks, &report);
    cr_assert(report.present == 19 && report.fetching == 0);
}

Test(block, a_get_has_no_more_than_its_most_blocks)
{
    BENCH_SCOPED(bench, 0);
    BUF_SCOPED gets = BUF_INIT;
    fetch(&bench, 0, 20, SHARE_AHEAD, 8);
    send(&bench);
    print_gets(&bench, &gets);
    cr_assert_str_eq(gets.bytes, "0+8 8+8 16+4 ");
}

Test(block, bytes_land_where_the_block_stands)
{
    BENCH_SCOPED(bench, 0);
    fetch(&bench, 10, 13, SHARE_DEMAND, 0);
    send(&bench);
    LOCK_SCOPED(blocks_lock(bench.blocks));
    for (uint64_t index = 10; index < 13; index++) {
        struct block *block = blocks_find_locked(bench.inode, index);
        for (size_t i = 0; i < PAGE_BYTES; i += 997)
            cr_assert_eq(block->page[i], room_byte(1, index * PAGE_BYTES + i));
    }
}

Test(block, read_ahead_takes_half_of_the_memory_and_no_block_that_waits_for_its_reader)
{
    BENCH_SCOPED(bench, 4 * MIB); /* 32 pages */
    cr_assert_eq(fetch(&bench, 0, 64, SHARE_AHEAD, 128), 16);
    send(&bench);
    cr_assert_eq(fetch(&bench, 16, 64, SHARE_AHEAD, 128), 16);
    cr_assert_eq(count_present(&bench, 0, 64), 16);
    {
        LOCK_SCOPED(blocks_lock(bench.blocks));
        cr_assert_eq(blocks_room_locked(bench.blocks), 0);
    }
    read_up(&bench, 0, 4, false); /* four pages more may be ahead */
    cr_assert_eq(fetch(&bench, 16, 64, SHARE_AHEAD, 128), 20);
    send(&bench);
    cr_assert_eq(count_present(&bench, 4, 20), 16);
}

Test(block, read_ahead_on_the_pages_of_others_takes_no_more_than_half_either)
{
    BENCH_SCOPED(bench, 4 * MIB);
    uint64_t end = fetch(&bench, 0, 64, SHARE_DEMAND, 0);
    send(&bench);
    read_up(&bench, 0, end, false);
    cr_assert_eq(fetch(&bench, end, 64, SHARE_AHEAD, 128), end + 16);
    send(&bench);
}

Test(block, a_demand_read_takes_passed_blocks_first_and_the_coldest_next)
{
    BENCH_SCOPED(bench, 4 * MIB);
    uint64_t end = fetch(&bench, 0, 64, SHARE_DEMAND, 0); /* all there is, less what names have */
    cr_assert(end > 20 && end < 32);
    send(&bench);
    read_up(&bench, 0, end, false);
    read_up(&bench, 10, 12, true);
    cr_assert_eq(fetch(&bench, end, end + 3, SHARE_DEMAND, 0), end + 3);
    send(&bench);
    cr_assert_eq(count_present(&bench, 10, 12), 0);
    cr_assert_eq(count_present(&bench, 0, 1), 0);
    cr_assert_eq(count_present(&bench, 1, 10) + count_present(&bench, 12, end + 3), 9 + end + 3 - 12);
}

Test(block, a_pinned_block_outlives_eviction_and_drop_but_is_found_no_more)
{
    BENCH_SCOPED(bench, 4 * MIB);
    struct free_pages free_pages = {0};
    struct memory_report before, after;
    fetch(&bench, 5, 6, SHARE_DEMAND, 0);
    send(&bench);
    lock_take(blocks_lock(bench.blocks));
    struct block *block = blocks_find_locked(bench.inode, 5);
    block_pin_locked(block);
    lock_drop(blocks_lock(bench.blocks));
    uint64_t end = fetch(&bench, 6, 64, SHARE_DEMAND, 0);
    cr_assert(end < 40);
    send(&bench);
    blocks_drop(bench.inode);
    cr_assert_eq(count_present(&bench, 0, 64), 0);
    fetch(&bench, 0, 3, SHARE_DEMAND, 0); /* on the pages of the dropped ones */
    send(&bench);
    for (size_t i = 0; i < PAGE_BYTES; i += 997)
        cr_assert_eq(block->page[i], room_byte(1, 5 * PAGE_BYTES + i));
    memory_report(bench.room.memory, &before);
    lock_take(blocks_lock(bench.blocks));
    block_unpin_locked(block, false, &free_pages);
    lock_drop(blocks_lock(bench.blocks));
    free_pages_give(bench.blocks, &free_pages);
    memory_report(bench.room.memory, &after);
    cr_assert_eq(before.used - after.used, PAGE_BYTES);
}

Test(block, a_sequence_needs_little_more_memory_than_its_window)
{
    BENCH_SCOPED(bench, 64 * MIB);
    struct memory_report report;
    for (int round = 0; round < 20; round++) {
        blocks_drop(bench.inode);
        for (uint64_t at = 0; at < BLOCK_MAX; at += 8) {
            fetch(&bench, at, at + 8, SHARE_AHEAD, 8);
            send(&bench);
            read_up(&bench, at, at + 8, true);
        }
    }
    memory_report(bench.room.memory, &report);
    cr_assert(report.shares[SHARE_AHEAD] <= (BLOCKS_PASSED_KEEP + 16) * PAGE_BYTES, "%zu pages",
              report.shares[SHARE_AHEAD] / PAGE_BYTES);
}

Test(block, memory_that_others_need_is_given_back)
{
    BENCH_SCOPED(bench, 4 * MIB);
    void *pages[28];
    fetch(&bench, 0, 64, SHARE_DEMAND, 0);
    send(&bench);
    cr_assert_eq(page_take_many(bench.room.memory, pages, 28, SHARE_UPLOAD, &bench.room.waiter, INT64_MAX),
                 0);
    page_put_many(bench.room.memory, pages, 28, SHARE_UPLOAD);
    cr_assert(count_present(&bench, 0, 64) <= 4);
}
