#include "cache/cache.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/reader.h"

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

static struct handle *open_object_as(struct room *room, const char *name, uint64_t size, unsigned seed,
                                     int flags)
{
    struct handle *handle;
    char key[64];
    snprintf(key, sizeof key, "p/%s", name);
    put_object(room, key, size, seed);
    int rc = room_open(room, name, flags, &handle);
    if (rc == -ENOENT) /* known to be missing, within attr_ttl */
        cache_refresh(room->cache, name);
    cr_assert_eq(rc == -ENOENT ? room_open(room, name, flags, &handle) : rc, 0);
    return handle;
}

static struct handle *open_object(struct room *room, const char *name, uint64_t size, unsigned seed)
{
    return open_object_as(room, name, size, seed, O_RDONLY);
}

/* Holds the bucket back before the next GET happens, and what is scripted after this strikes that GET. */
struct barrier {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool open;
};

static void wait_at_barrier(struct memory_store *memory, const struct store_call *call, void *context)
{
    struct barrier *barrier = context;
    (void)memory;
    (void)call;
    pthread_mutex_lock(&barrier->mutex);
    while (!barrier->open)
        pthread_cond_wait(&barrier->cond, &barrier->mutex);
    pthread_mutex_unlock(&barrier->mutex);
}

static void set_barrier(struct barrier *barrier, struct room *room)
{
    struct fault meanwhile = {.kind = FAULT_MEANWHILE,
                              .op = STORE_GET,
                              .times = 1,
                              .meanwhile = wait_at_barrier,
                              .context = barrier};
    *barrier = (struct barrier){.open = false};
    pthread_mutex_init(&barrier->mutex, NULL);
    pthread_cond_init(&barrier->cond, NULL);
    memory_store_fault(room->bucket, &meanwhile);
}

static void open_barrier(struct barrier *barrier)
{
    pthread_mutex_lock(&barrier->mutex);
    barrier->open = true;
    pthread_cond_broadcast(&barrier->cond);
    pthread_mutex_unlock(&barrier->mutex);
}

struct sent {
    size_t count;
    uint64_t bytes, longest;
};

static struct sent count_gets(struct room *room, const char *key)
{
    struct sent sent = {0};
    for (size_t i = 0; i < memory_store_log_count(room->bucket); i++) {
        const struct memory_store_entry *entry = memory_store_log(room->bucket, i);
        if (entry->op != STORE_GET || strcmp(entry->key, key) != 0)
            continue;
        cr_assert(entry->if_match, "a GET without If-Match");
        sent.count++;
        sent.bytes += entry->length;
        sent.longest = entry->length > sent.longest ? entry->length : sent.longest;
    }
    return sent;
}

/* ---- What is fetched. ---- */

Test(read, a_sequence_fetches_each_byte_once_by_few_requests)
{
    ROOM_SCOPED(room, NULL); /* 64 MiB: a window of 16, GETs of 2 or 4 */
    struct handle *handle = open_object(&room, "a", 50 * MIB + 12345, 1);
    for (uint64_t at = 0; at < 50 * MIB; at += 256 * KIB)
        cr_assert_eq(room_read(&room, handle, at, 256 * KIB, 1), 0);
    cr_assert_eq(room_read(&room, handle, 50 * MIB, 12345, 1), 0);
    memory_store_settle(room.bucket);
    struct sent sent = count_gets(&room, "p/a");
    cr_assert_eq(sent.bytes, 50 * MIB + 12345);
    cr_assert(sent.longest == 4 * MIB || sent.longest == 2 * MIB);
    cr_assert(sent.count <= 25 + 8, "%zu requests", sent.count);
    cache_release(room.cache, handle);
}

Test(read, two_sequences_of_one_handle_do_not_disturb_each_other)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 60 * MIB, 1);
    for (uint64_t at = 0; at < 20 * MIB; at += 100 * KIB) {
        size_t size = (size_t)(at + 100 * KIB > 20 * MIB ? 20 * MIB - at : 100 * KIB);
        cr_assert_eq(room_read(&room, handle, at, size, 1), 0);
        cr_assert_eq(room_read(&room, handle, 40 * MIB + at, size, 1), 0);
    }
    memory_store_settle(room.bucket);
    struct sent sent = count_gets(&room, "p/a");
    cr_assert(sent.bytes >= 40 * MIB && sent.bytes <= 56 * MIB); /* the window at the end of the first */
    cr_assert(sent.count < 40, "%zu requests", sent.count);
    cache_release(room.cache, handle);
}

Test(read, random_reads_fetch_the_blocks_that_they_touch)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 40 * MIB, 1);
    static const uint64_t places[] = {30 * MIB + 5, 7 * MIB + 127 * KIB, 20 * MIB, 3 * MIB, 36 * MIB};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        cr_assert_eq(room_read(&room, handle, places[i], 4096, 1), 0);
    struct sent sent = count_gets(&room, "p/a");
    cr_assert_eq(sent.count, 5); /* the second touches two blocks: one GET */
    cr_assert_eq(sent.bytes, 6 * 128 * KIB);
    cache_release(room.cache, handle);
}

Test(read, a_small_object_is_one_request)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", MIB - 1, 1);
    for (uint64_t at = 0; at < MIB - 1; at += 4096)
        cr_assert_eq(room_read(&room, handle, at, at + 4096 < MIB ? 4096 : 4095, 1), 0);
    struct sent sent = count_gets(&room, "p/a");
    cr_assert(sent.count == 1 && sent.bytes == MIB - 1);
    cache_release(room.cache, handle);
}

Test(read, readers_of_one_block_share_its_fetch)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct fault hang = {.kind = FAULT_HANG, .op = STORE_GET, .times = 1};
    memory_store_fault(room.bucket, &hang);
    struct reader readers[4];
    for (int i = 0; i < 4; i++)
        reader_begin(&readers[i], &room, handle, 10 * MIB + (uint64_t)i * 4096, 4096);
    for (int i = 0; i < 4; i++)
        cr_assert(!reader_answered(&readers[i]));
    memory_store_unhang(room.bucket, STORE_GET, NULL);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(reader_wait(&readers[i]), 0);
        cr_assert(reader_holds(&readers[i], 10 * MIB + (uint64_t)i * 4096, 4096, 1));
        reader_release(&readers[i]);
    }
    struct sent sent = count_gets(&room, "p/a");
    cr_assert(sent.bytes <= 128 * KIB + 2 * MIB); /* the block, and what a sequence promises */
    cache_release(room.cache, handle);
}

Test(read, stops_at_the_end_of_the_file)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 300000, 1);
    static const struct {
        uint64_t offset;
        size_t size, length;
    } rows[] = {
        {0, 1 << 20, 300000}, {299999, 100, 1}, {300000, 100, 0}, {UINT64_MAX - 5, 100, 0}, {5, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct reader reader;
        reader_begin(&reader, &room, handle, rows[i].offset, rows[i].size);
        cr_assert_eq(reader_wait(&reader), 0);
        cr_assert(reader_holds(&reader, rows[i].offset, rows[i].length, 1), "row %zu", i);
        reader_release(&reader);
    }
    cache_release(room.cache, handle);
}

/* ---- Errors. ---- */

Test(read, what_landed_of_a_cut_body_is_answered_the_rest_fails_and_can_be_read_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct fault cut = {.kind = FAULT_CUT, .op = STORE_GET, .times = 1, .bytes = 300 * KIB};
    struct barrier barrier;
    set_barrier(&barrier, &room);
    memory_store_fault(room.bucket, &cut);
    struct reader first, second, third;
    reader_begin(&first, &room, handle, 0, 256 * KIB); /* one GET of 1 MiB for all three */
    reader_begin(&second, &room, handle, 200 * KIB, 200 * KIB);
    reader_begin(&third, &room, handle, 500 * KIB, 4096);
    open_barrier(&barrier);
    cr_assert_eq(reader_wait(&first), 0);
    cr_assert(reader_holds(&first, 0, 256 * KIB, 1));
    cr_assert_eq(reader_wait(&second), -EIO);
    cr_assert_eq(reader_wait(&third), -EIO);
    reader_release(&first);
    reader_release(&second);
    reader_release(&third);
    cr_assert_eq(room_read(&room, handle, 200 * KIB, 400 * KIB, 1), 0);
    cache_release(room.cache, handle);
}

Test(read, a_failed_range_answers_all_that_wait_for_it)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct fault fail = {.kind = FAULT_FAIL, .op = STORE_GET, .times = 1, .rc = -EACCES};
    struct barrier barrier;
    struct reader readers[8];
    set_barrier(&barrier, &room);
    memory_store_fault(room.bucket, &fail);
    for (int i = 0; i < 8; i++)
        reader_begin(&readers[i], &room, handle, (uint64_t)i * 128 * KIB, 128 * KIB);
    open_barrier(&barrier);
    for (int i = 0; i < 8; i++) {
        int rc = reader_wait(&readers[i]);
        cr_assert(rc == -EACCES, "reader %d: %d", i, rc);
        cr_assert(readers[i].read.piece_count == 0 && readers[i].read.length == 0);
        reader_release(&readers[i]);
    }
    cr_assert_eq(room_read(&room, handle, 0, 1 << 20, 1), 0);
    cache_release(room.cache, handle);
}

Test(read, read_ahead_that_fails_is_nobodys_error)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct fault fail = {.kind = FAULT_FAIL, .op = STORE_GET, .skip = 1, .times = 1};
    memory_store_fault(room.bucket, &fail);
    for (uint64_t at = 0; at < 20 * MIB; at += MIB) {
        int rc = room_read(&room, handle, at, MIB, 1);
        memory_store_settle(room.bucket);
        cr_assert_eq(rc, 0);
    }
    cache_release(room.cache, handle);
}

Test(read, no_answer_within_the_patience_is_eio)
{
    struct room_config config = {.io_timeout_ms = 50};
    ROOM_SCOPED(room, &config);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct fault hang = {.kind = FAULT_HANG, .op = STORE_GET, .times = 1};
    memory_store_fault(room.bucket, &hang);
    cr_assert_eq(room_read(&room, handle, 10 * MIB, 4096, 1), -EIO);
    cr_assert_eq(room_read(&room, handle, 10 * MIB, 4096, 1), 0);
    cache_release(room.cache, handle);
}

struct heard {
    int lines;
    char last[512];
};

static void hear_line(void *context, enum log_level level, const char *line)
{
    struct heard *heard = context;
    if (level > LOG_LEVEL_WARN)
        return;
    heard->lines++;
    snprintf(heard->last, sizeof heard->last, "%s", line);
}

Test(read, a_foreign_version_is_estale_said_once_and_nothing_of_the_old_one_is_read_any_more)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct heard heard = {0};
    cr_assert_eq(room_read(&room, handle, 10 * MIB, 4096, 1), 0);
    put_object(&room, "p/a", 20 * MIB, 2);
    log_tap(hear_line, &heard);
    struct fault hang = {.kind = FAULT_HANG, .op = STORE_GET, .times = 2};
    memory_store_fault(room.bucket, &hang);
    struct reader one, other;
    reader_begin(&one, &room, handle, 5 * MIB, 4096);
    reader_begin(&other, &room, handle, 15 * MIB, 4096);
    memory_store_unhang(room.bucket, STORE_GET, NULL);
    cr_assert_eq(reader_wait(&one), -ESTALE);
    cr_assert_eq(reader_wait(&other), -ESTALE);
    memory_store_settle(room.bucket);
    log_tap(NULL, NULL);
    cr_assert_eq(heard.lines, 1);
    cr_assert(strstr(heard.last, "p/a") && strstr(heard.last, "ESTALE") && strstr(heard.last, "replaced"));
    reader_release(&one);
    reader_release(&other);
    cr_assert_eq(room_read(&room, handle, 10 * MIB, 4096, 1), -ESTALE);
    cr_assert_eq(atomic_load(&room.cache->stale_reads), 3);
    struct handle *fresh;
    cr_assert_eq(room_open(&room, "a", O_RDONLY, &fresh), 0);
    cr_assert_eq(room_read(&room, fresh, 10 * MIB, 4096, 2), 0);
    cache_release(room.cache, fresh);
    cache_release(room.cache, handle);
}

Test(read, an_object_that_was_removed_is_estale)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    memory_store_remove(room.bucket, "p/a");
    cr_assert_eq(room_read(&room, handle, 10 * MIB, 4096, 1), -ESTALE);
    cache_release(room.cache, handle);
}

Test(read, our_own_upload_under_a_read_is_no_foreign_version)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object_as(&room, "a", 4 * MIB, 1, O_RDWR);
    struct heard heard = {0};
    log_tap(hear_line, &heard);
    struct fault hang = {.kind = FAULT_HANG, .op = STORE_GET, .times = 1};
    memory_store_fault(room.bucket, &hang);
    struct reader reader;
    reader_begin(&reader, &room, handle, 3 * MIB, 4096);
    cr_assert_eq(room_write(&room, handle, 100, 1000, 2), 0);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert(!reader_answered(&reader));
    memory_store_unhang(room.bucket, STORE_GET, NULL);
    cr_assert_eq(reader_wait(&reader), 0);
    cr_assert(reader_holds(&reader, 3 * MIB, 4096, 1));
    reader_release(&reader);
    log_tap(NULL, NULL);
    cr_assert_eq(heard.lines, 0, "%s", heard.last);
    cache_release(room.cache, handle);
}

/* ---- Interrupts. ---- */

Test(read, an_interrupt_ends_one_reader_once_and_the_fetch_goes_on_for_the_others)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct fault hang = {.kind = FAULT_HANG, .op = STORE_GET, .times = 1};
    memory_store_fault(room.bucket, &hang);
    struct reader one, other;
    reader_begin(&one, &room, handle, 10 * MIB, 4096);
    reader_begin(&other, &room, handle, 10 * MIB, 4096);
    reader_interrupt(&one);
    cr_assert_eq(reader_wait(&one), -EINTR);
    reader_interrupt(&one);
    cr_assert(!reader_answered(&other));
    memory_store_unhang(room.bucket, STORE_GET, NULL);
    cr_assert_eq(reader_wait(&other), 0);
    cr_assert_eq(reader_wait(&one), -EINTR); /* not again */
    reader_interrupt(&other);                /* too late: nothing */
    cr_assert(reader_holds(&other, 10 * MIB, 4096, 1));
    reader_release(&one);
    reader_release(&other);
    cache_release(room.cache, handle);
}

Test(read, a_reader_that_waits_for_memory_can_be_interrupted_and_goes_on_when_there_is_some)
{
    struct room_config config = {.memory_bytes = 4 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    void *pages[32];
    size_t count = 0;
    struct reader one, other;
    while ((pages[count] = page_try(room.memory, SHARE_UPLOAD)))
        count++;
    reader_begin(&one, &room, handle, 10 * MIB, 4096);
    reader_begin(&other, &room, handle, 15 * MIB, MIB);
    cr_assert(!reader_answered(&one) && !reader_answered(&other));
    reader_interrupt(&one);
    cr_assert_eq(reader_wait(&one), -EINTR);
    reader_release(&one);
    page_put_many(room.memory, pages, count, SHARE_UPLOAD);
    cr_assert_eq(reader_wait(&other), 0);
    cr_assert(reader_holds(&other, 15 * MIB, MIB, 1));
    reader_release(&other);
    cache_release(room.cache, handle);
}

/* ---- Memory. ---- */

static void *read_up(void *argument)
{
    struct reader *place = argument; /* room and handle ride in it */
    struct room *room = place->read.owner;
    long errors = 0;
    for (uint64_t at = 0; at + MIB <= 12 * MIB; at += MIB - 4096)
        errors += room_read(room, place->read.handle, at, MIB, 1) != 0;
    return (void *)errors;
}

Test(read, eight_readers_in_two_mebibytes_all_come_to_their_end)
{
    struct room_config config = {.memory_bytes = 2 * MIB};
    ROOM_SCOPED(room, &config);
    struct reader places[8];
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        char name[2] = {(char)('a' + i % 4), 0};
        places[i].read.owner = &room;
        places[i].read.handle = open_object(&room, name, 12 * MIB, 1);
        if (i >= 4)
            cache_release(room.cache, places[i].read.handle);
    }
    for (int i = 4; i < 8; i++) {
        char name[2] = {(char)('a' + i % 4), 0};
        cr_assert_eq(room_open(&room, name, O_RDONLY, &places[i].read.handle), 0);
    }
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, read_up, &places[i]);
    for (int i = 0; i < 8; i++) {
        void *errors;
        pthread_join(threads[i], &errors);
        cr_assert_null(errors);
    }
    for (int i = 0; i < 8; i++)
        cache_release(room.cache, places[i].read.handle);
    struct memory_report report;
    memory_report(room.memory, &report);
    cr_assert(report.used + report.idle <= 2 * MIB && report.waiting == 0);
}

Test(read, pinned_answers_stay_while_everything_else_is_evicted)
{
    struct room_config config = {.memory_bytes = 4 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *held = open_object(&room, "held", 9 * MIB, 1),
                  *other = open_object(&room, "b", 30 * MIB, 2);
    struct reader reader;
    reader_begin(&reader, &room, held, 0, MIB);
    cr_assert_eq(reader_wait(&reader), 0);
    for (uint64_t at = 0; at < 30 * MIB; at += MIB)
        cr_assert_eq(room_read(&room, other, at, MIB, 2), 0);
    cr_assert(reader_holds(&reader, 0, MIB, 1));
    put_object(&room, "p/held", 9 * MIB, 3);
    cr_assert_eq(room_read(&room, held, 7 * MIB, MIB, 1), -ESTALE); /* drops the old version */
    for (uint64_t at = 0; at < 30 * MIB; at += MIB)
        cr_assert_eq(room_read(&room, other, at, MIB, 2), 0);
    cr_assert(reader_holds(&reader, 0, MIB, 1));
    reader_release(&reader);
    cache_release(room.cache, held);
    cache_release(room.cache, other);
}

Test(read, a_sequence_is_read_ahead_also_when_random_reads_have_filled_the_memory)
{
    struct room_config config = {.memory_bytes = 16 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *random = open_object(&room, "r", 40 * MIB, 1),
                  *handle = open_object(&room, "s", 20 * MIB, 2);
    for (uint64_t i = 0; i < 160; i++)
        cr_assert_eq(room_read(&room, random, (i * 67 % 160) * 256 * KIB, 4096, 1), 0);
    for (uint64_t at = 0; at < 20 * MIB; at += 128 * KIB)
        cr_assert_eq(room_read(&room, handle, at, 128 * KIB, 2), 0);
    struct sent sent = count_gets(&room, "p/s");
    cr_assert(sent.count < 40, "%zu requests", sent.count);
    cr_assert_eq(sent.bytes, 20 * MIB);
    cache_release(room.cache, random);
    cache_release(room.cache, handle);
}

Test(read, a_sequence_in_little_memory_reads_no_block_twice)
{
    struct room_config config = {.memory_bytes = 4 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    for (uint64_t at = 0; at + 100000 < 20 * MIB; at += 100000) /* in the middle of blocks */
        cr_assert_eq(room_read(&room, handle, at, 100000, 1), 0);
    cr_assert(count_gets(&room, "p/a").bytes <= 20 * MIB);
    cache_release(room.cache, handle);
}

Test(read, read_ahead_that_found_no_memory_is_made_up_for)
{
    struct room_config config = {.memory_bytes = 16 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handle = open_object(&room, "a", 24 * MIB, 1);
    void *pages[128];
    size_t count = 0;
    while (count < 120 && (pages[count] = page_try(room.memory, SHARE_UPLOAD)))
        count++;
    for (uint64_t at = 0; at < 4 * MIB; at += 128 * KIB)
        cr_assert_eq(room_read(&room, handle, at, 128 * KIB, 1), 0);
    page_put_many(room.memory, pages, count, SHARE_UPLOAD);
    memory_store_log_clear(room.bucket);
    for (uint64_t at = 4 * MIB; at < 24 * MIB; at += 128 * KIB)
        cr_assert_eq(room_read(&room, handle, at, 128 * KIB, 1), 0);
    struct sent sent = count_gets(&room, "p/a");
    cr_assert(sent.count <= 26, "%zu requests", sent.count);
    cache_release(room.cache, handle);
}

/* ---- Bytes of several origins. ---- */

Test(read, what_is_all_local_asks_nobody)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle = open_object_as(&room, "a", 4 * MIB, 1, O_RDWR);
    cr_assert_eq(room_write(&room, handle, 2 * MIB, MIB, 2), 0);
    memory_store_log_clear(room.bucket);
    struct fault hang = {.kind = FAULT_HANG, .op = STORE_GET};
    memory_store_fault(room.bucket, &hang);
    cr_assert_eq(room_read(&room, handle, 2 * MIB + 100, MIB - 200, 2), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_GET, NULL), 0);
    cache_release(room.cache, handle);
}

/* Any writes, truncates and publications between reads of any range: the file that a plain array would be. */
Test(read, agrees_with_an_array_over_any_mixture_of_base_local_bytes_and_holes)
{
    enum { SPACE = 1500000 };
    static char model[SPACE], chunk[SPACE];
    srand(5);
    for (int round = 0; round < 25; round++) {
        struct room_config config = {.memory_bytes = round % 2 ? 5 * MIB : 0,
                                     .part_bytes = 8 * PAGE_BYTES,
                                     .bucket = {.part_bytes_min = 1}};
        ROOM_SCOPED(room, &config);
        size_t size = (size_t)rand() % SPACE;
        struct handle *handle = open_object_as(&room, "a", size, 1, O_RDWR);
        memset(model, 0, sizeof model);
        for (size_t i = 0; i < size; i++)
            model[i] = room_byte(1, i);
        for (int step = 0; step < 60; step++) {
            size_t at = (size_t)rand() % SPACE, length = (size_t)rand() % (SPACE - at);
            if (rand() % 3)
                length /= 40;
            if (rand() % 16 == 0) {
                cr_assert_eq(room_truncate(&room, handle, at), 0);
                memset(model + at, 0, sizeof model - at);
                size = at;
            } else if (rand() % 16 == 0) {
                cr_assert_eq(room_fsync(&room, handle), 0);
            } else if (rand() % 3 == 0) {
                memset(chunk, rand() % 250 + 1, length);
                cr_assert_eq(cache_write(room.cache, &room.waiter, handle, chunk, length, at), 0);
                memcpy(model + at, chunk, length);
                if (length && at + length > size)
                    size = at + length;
            }
            struct reader reader;
            at = (size_t)rand() % SPACE;
            length = (size_t)rand() % (MIB + 1);
            reader_begin(&reader, &room, handle, at, length);
            int rc = reader_wait(&reader);
            cr_assert(rc == 0, "round %d, step %d: %d", round, step, rc);
            size_t expected = at >= size ? 0 : length < size - at ? length : size - at;
            cr_assert_eq(reader.read.length, expected);
            reader_copy(&reader, chunk);
            cr_assert(memcmp(chunk, model + at, expected) == 0, "round %d, step %d", round, step);
            reader_release(&reader);
        }
        cache_release(room.cache, handle);
    }
}

Test(read, read_ahead_that_nobody_read_is_counted)
{
    struct room_config config = {.memory_bytes = 8 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handle = open_object(&room, "a", 20 * MIB, 1);
    struct blocks_report report;
    cr_assert_eq(room_read(&room, handle, 0, 128 * KIB, 1), 0);
    memory_store_settle(room.bucket);
    blocks_report(room.cache->blocks, &report);
    cr_assert(report.present >= 8 && report.wasted == 0 && report.fetching == 0);
    uint64_t unread = report.present - 1;
    put_object(&room, "p/a", 20 * MIB, 2);
    cr_assert_eq(room_read(&room, handle, 10 * MIB, 4096, 1), -ESTALE);
    void *pages[60];
    cr_assert_eq(page_take_many(room.memory, pages, 60, SHARE_UPLOAD, &room.waiter, INT64_MAX), 0);
    page_put_many(room.memory, pages, 60, SHARE_UPLOAD);
    blocks_report(room.cache->blocks, &report);
    cr_assert(report.wasted <= unread && report.wasted + report.present >= unread && report.wasted > 0);
    cache_release(room.cache, handle);
}
