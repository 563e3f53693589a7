#include "cache/replay.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/tape.h"
#include "tests/support/scribe.h"

/* So that it need not be looked through for each bit. */
static void cut_room(struct disk *disk, uint64_t size)
{
    struct disk_file *file;
    cr_assert_eq(disk_open(disk, "journal-1", 0, &file), 0);
    cr_assert_eq(disk_truncate(file, size), 0);
    disk_close(file);
}

Test(replay, every_flipped_bit_is_detected)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 2, 30);
    uint32_t sum = play.sums[atomic_load(&play.appended)];
    struct scribe_look whole = scribe_look(power_disk_disk(power));
    cr_assert(whole.rc == 0 && !whole.torn && whole.sum == sum);
    cut_room(power_disk_disk(power), whole.end + 4096);
    for (uint64_t bit = 0; bit < whole.end * 8; bit++) {
        bool last = bit / 8 >= whole.end - RECORD_MARK_SIZE;
        cr_assert(power_disk_flip(power, "journal-1", bit));
        struct scribe_look found = scribe_look(power_disk_disk(power));
        if (last) /* the last MARK holds nothing: it is a tail that was torn, and said to be */
            cr_assert(found.rc == 0 && found.torn && found.sum == sum, "bit %" PRIu64, bit);
        else
            cr_assert_eq(found.rc, -EBADMSG, "bit %" PRIu64 " of %" PRIu64, bit, whole.end * 8);
        power_disk_flip(power, "journal-1", bit);
    }
    cr_assert(power_disk_flip(power, "journal-1", (whole.end + 1000) * 8));
    cr_assert(scribe_look(power_disk_disk(power)).torn, "also behind the end");
    power_disk_free(power);
    play_release(&play);
}

Test(replay, damage_before_a_mark_is_refused_in_words_and_nothing_is_changed)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 3, 200);
    struct journal_config config = scribe_config(power_disk_disk(power), 1, 0);
    struct scribe_look whole = scribe_look(config.disk);
    for (uint64_t byte = 200; byte < whole.end - RECORD_MARK_SIZE; byte += 997) {
        BUF_SCOPED why = BUF_INIT;
        size_t before_size, after_size;
        cr_assert(power_disk_flip(power, "journal-1", byte * 8));
        char *before = power_disk_bytes(power, "journal-1", &before_size);
        cr_assert_eq(scribe_try(&config, &why), -EBADMSG);
        cr_assert(strstr(why.bytes, "journal-1") && strstr(why.bytes, "damaged"), "%s", why.bytes);
        char *after = power_disk_bytes(power, "journal-1", &after_size);
        cr_assert(before_size == after_size && memcmp(before, after, after_size) == 0);
        cr_assert_not(scribe_has(config.disk, "journal-2.new"));
        free(before);
        free(after);
        power_disk_flip(power, "journal-1", byte * 8);
    }
    cr_assert_eq(scribe_look(config.disk).sum, whole.sum);
    power_disk_free(power);
    play_release(&play);
}

Test(replay, the_words_about_damage_name_the_files)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = scribe_config(power_disk_disk(power), HOUR_MS, UINT64_MAX);
    struct journal *journal = scribe_open_with(&config);
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(scribe_add(journal, 1), 0);
    struct record write = {
        .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2, .local = "l", .bytes = "x"};
    cr_assert_eq(journal_append(journal, &write, NULL), 0);
    scribe_flush(journal);
    struct journal_report report;
    journal_report(journal, &report);
    cr_assert_eq(scribe_add(journal, 2), 0);
    journal_free(journal);
    power_disk_flip(power, "journal-1", (report.log_bytes + 30) * 8);
    cr_assert_eq(scribe_try(&config, &why), -EBADMSG);
    cr_assert_not_null(strstr(why.bytes, "file 1"), "%s", why.bytes);
    power_disk_free(power);
}

/* Where each record of the changes ends. */
static size_t find_ends(struct disk *disk, uint64_t *ends, size_t room, uint64_t *ret_first_mark)
{
    struct disk_file *file;
    struct tape_reader reader;
    struct record record;
    size_t count = 0;
    cr_assert_eq(disk_open(disk, "journal-1", 0, &file), 0);
    tape_reader_init(&reader, file, 0, 0, 0);
    *ret_first_mark = 0;
    while (tape_read(&reader, UINT64_MAX, &record) == 1) {
        if (record.type == RECORD_MARK && !*ret_first_mark)
            *ret_first_mark = tape_reader_at(&reader);
        if (record.type == RECORD_MARK || record.type == RECORD_BOOT || record.type == RECORD_HEADING)
            continue;
        cr_assert_lt(count, room);
        ends[count++] = tape_reader_at(&reader);
    }
    tape_reader_release(&reader);
    disk_close(file);
    return count;
}

Test(replay, every_beginning_of_one_is_the_state_after_its_last_whole_record)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, scribe_seed(), 80);
    struct disk *disk = power_disk_disk(power);
    uint64_t ends[200], first_mark;
    size_t count = find_ends(disk, ends, 200, &first_mark), records = 0;
    struct scribe_look whole = scribe_look(disk);
    size_t size;
    char *bytes = power_disk_bytes(power, "journal-1", &size);
    cr_assert_eq(count, atomic_load(&play.appended));
    for (uint64_t length = 0; length <= whole.end; length++) {
        struct power_disk *prefix = power_disk_new();
        struct disk_file *file;
        while (records < count && ends[records] <= length)
            records++;
        disk_open(power_disk_disk(prefix), "journal-1", DISK_CREATE, &file);
        disk_write(file, bytes, length, 0);
        disk_close(file);
        struct scribe_look found = scribe_look(power_disk_disk(prefix));
        if (length < first_mark)
            cr_assert_eq(found.rc, -EBADMSG, "it had been whole when it got its name");
        else
            cr_assert(found.rc == 0 && found.sum == play.sums[records], "%" PRIu64 " bytes: %d", length,
                      found.rc);
        power_disk_free(prefix);
    }
    free(bytes);
    power_disk_free(power);
    play_release(&play);
}

static char heard[512];

static void hear_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level;
    if (strstr(line, "torn"))
        snprintf(heard, sizeof heard, "%s", line);
}

Test(replay, a_torn_tail_is_cut_and_said_and_written_on)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 5, 50);
    struct disk *disk = power_disk_disk(power);
    struct scribe_look whole = scribe_look(disk);
    struct disk_file *file;
    cr_assert_eq(disk_open(disk, "journal-1", 0, &file), 0);
    cr_assert_eq(disk_write(file, "half a record", 13, whole.end), 0);
    disk_close(file);
    log_tap(hear_line, NULL);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    log_tap(NULL, NULL);
    cr_assert_not_null(strstr(heard, "journal-1"));
    cr_assert_eq(scribe_sum(journal), whole.sum);
    cr_assert_eq(scribe_add(journal, journal_new_id(journal)), 0);
    uint32_t sum = scribe_sum(journal);
    struct power_disk *killed = power_disk_kill(power);
    journal_free(journal);
    cr_assert_eq(scribe_look(disk).sum, sum);
    cr_assert_eq(scribe_look(power_disk_disk(killed)).sum, sum);
    power_disk_free(killed);
    power_disk_free(power);
    play_release(&play);
}

/* The record that carries `bytes` is torn: what it carries is to prove nothing. */
static struct scribe_look tear_one_that_carries(const char *bytes, size_t size)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(scribe_add(journal, 1), 0);
    uint64_t at = scribe_log_bytes(journal);
    struct record write = {.type = RECORD_WRITE,
                           .id = 1,
                           .end = size,
                           .size = size,
                           .content_version = 2,
                           .local = "l",
                           .bytes = bytes};
    cr_assert_eq(journal_append(journal, &write, NULL), 0);
    struct power_disk *cut = power_disk_kill(power);
    power_disk_flip(cut, "journal-1", (at + 25) * 8);
    struct scribe_look found = scribe_look(power_disk_disk(cut));
    journal_free(journal);
    power_disk_free(power);
    power_disk_free(cut);
    return found;
}

Test(replay, a_journal_that_rides_in_a_journal_is_no_part_of_it)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 6, 100);
    size_t size;
    char *bytes = power_disk_bytes(power, "journal-1", &size);
    cr_assert_gt(size, 8200);
    for (size_t shift = 0; shift < 8; shift++) { /* records stand at multiples of 8 */
        struct scribe_look found = tear_one_that_carries(bytes + shift, 8192);
        cr_assert(found.rc == 0 && found.torn);
    }
    free(bytes);
    power_disk_free(power);
    play_release(&play);
}

Test(replay, what_stood_behind_a_torn_record_never_comes_back)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    uint64_t at = scribe_log_bytes(journal);
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(scribe_add(journal, 2), 0);
    struct power_disk *torn = power_disk_kill(power);
    journal_free(journal);
    power_disk_flip(torn, "journal-1", (at + 30) * 8); /* the first one; the second one is whole */
    journal = scribe_open(power_disk_disk(torn), HOUR_MS);
    cr_assert_eq(scribe_add(journal, 3), 0); /* as long as the first one, and with its sequence */
    uint32_t sum = scribe_sum(journal);
    struct power_disk *again = power_disk_kill(torn);
    struct scribe_look found = scribe_look(power_disk_disk(again));
    cr_assert(found.rc == 0 && found.sum == sum);
    journal_free(journal);
    power_disk_free(again);
    power_disk_free(torn);
    power_disk_free(power);
}

static struct disk_file *put_byte(struct disk *disk, const char *name)
{
    struct disk_file *file;
    cr_assert_eq(disk_open(disk, name, DISK_CREATE, &file), 0);
    cr_assert_eq(disk_write(file, "x", 1, 0), 0);
    return file;
}

/* It grew out of its file while what it held rode: the next process has to flush the other file before it calls it flushed. */
Test(replay, what_moved_into_another_local_file_is_there_after_a_kill_and_a_power_cut)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    struct disk_file *small = put_byte(disk, "l1"), *large;
    struct extents dirty = {0};
    struct record write = {.type = RECORD_WRITE,
                           .id = 1,
                           .end = 1,
                           .size = 1,
                           .content_version = 2,
                           .local = "l1",
                           .bytes = "x"};
    struct record move = {
        .type = RECORD_REMOTE, .id = 1, .size = 1, .content_version = 2, .local = "l2", .dirty = &dirty};
    extents_add(&dirty, 0, 1);
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(journal_append(journal, &write, small), 0);
    large = put_byte(disk, "l2");
    cr_assert_eq(journal_append(journal, &move, large), 0);
    journal_retire(journal, &small, "l1");
    struct power_disk *killed = power_disk_kill(power);
    journal_retire(journal, &large, NULL);
    journal_free(journal);

    journal = scribe_open(power_disk_disk(killed), HOUR_MS);
    scribe_flush(journal);
    struct power_disk *cut = power_disk_cut(killed, 0);
    journal_free(journal);
    size_t size = 0;
    char *bytes = power_disk_bytes(cut, "l2", &size);
    cr_assert(bytes && size == 1 && bytes[0] == 'x', "%zu bytes", size);
    free(bytes);
    extents_release(&dirty);
    power_disk_free(cut);
    power_disk_free(killed);
    power_disk_free(power);
}
