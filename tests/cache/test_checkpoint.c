#include "cache/checkpoint.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/support/scribe.h"

Test(checkpoint, checkpoints_keep_the_log_short_and_the_state)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = scribe_config(power_disk_disk(power), 1, 4096);
    struct play play;
    play_init(&play, scribe_seed());
    config.disk = play_disk(&play, config.disk);
    play_use(&play, scribe_open_with(&config), 0);
    struct journal_report report;
    for (int i = 0; i < 3000; i++) {
        play_step(&play);
        if (i % 100 == 0)
            play_flush(&play);
    }
    journal_report(play.journal, &report);
    cr_assert_eq(play.rc, 0);
    cr_assert_gt(report.checkpoints, 3);
    uint64_t number = report.checkpoints + 1;
    play_leave(&play);
    config.disk = power_disk_disk(power);
    char name[32];
    size_t names = 0;
    for (uint64_t i = 1; i <= number + 5; i++) {
        snprintf(name, sizeof name, "journal-%" PRIu64, i);
        names += scribe_has(config.disk, name);
    }
    cr_assert_eq(names, 1, "the old ones are gone");
    cr_assert_eq(scribe_look(config.disk).sum, play.sums[atomic_load(&play.appended)]);
    power_disk_free(power);
    play_release(&play);
}

Test(checkpoint, leftovers_of_a_checkpoint_go_and_the_newest_whole_one_counts)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 7, 50);
    struct disk *disk = power_disk_disk(power);
    static const char *const leftovers[] = {"journal-2.new", "journal-1.new", "journal-0"};
    struct disk_file *file;
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(disk_open(disk, leftovers[i], DISK_CREATE, &file), 0);
        cr_assert_eq(disk_write(file, "rubbish", 7, 0), 0);
        disk_close(file);
    }
    cr_assert_eq(disk_open(disk, "journal-1x", DISK_CREATE, &file), 0);
    disk_close(file);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    cr_assert_eq(scribe_sum(journal), play.sums[atomic_load(&play.appended)]);
    journal_free(journal);
    for (size_t i = 0; i < 3; i++)
        cr_assert_not(scribe_has(disk, leftovers[i]));
    cr_assert(scribe_has(disk, "journal-1x"), "not ours");
    power_disk_free(power);
    play_release(&play);
}

Test(checkpoint, nothing_is_called_flushed_in_a_file_of_another_process)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 8, 50);
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(scribe_add(journal, journal_new_id(journal)), 0);
    scribe_flush(journal);
    struct journal_report report;
    journal_report(journal, &report);
    cr_assert_eq(report.checkpoints, 1);
    journal_free(journal);
    cr_assert(scribe_has(power_disk_disk(power), "journal-2"));
    cr_assert_not(scribe_has(power_disk_disk(power), "journal-1"));
    power_disk_free(power);
    play_release(&play);
}

static void be_slow(void *context, long nth)
{
    (void)context, (void)nth;
    usleep(500);
}

static size_t check_marks(struct disk *disk)
{
    struct ledger ledger;
    struct replay replay;
    struct tape_reader reader;
    struct record record;
    BUF_SCOPED why = BUF_INIT;
    size_t marks = 0;
    ledger_init(&ledger);
    cr_assert_eq(replay_run(&replay, disk, NULL, "", &ledger, &why), 0);
    tape_reader_init(&reader, replay.file, 0, 0, 0);
    while (tape_read(&reader, replay.end, &record) == 1) {
        if (record.type != RECORD_MARK)
            continue;
        cr_assert(marks > 0 || (record.backed == record.sequence - 1 && record.flushed == record.backed),
                  "the first one seals the file");
        cr_assert_lt(record.backed, record.sequence);
        cr_assert_leq(record.flushed, record.backed);
        cr_assert_leq(record.settled, record.backed);
        marks++;
    }
    tape_reader_release(&reader);
    replay_release(&replay);
    ledger_release(&ledger);
    return marks;
}

/* While a checkpoint goes on commits do, too: their MARKs are the old file's. */
Test(checkpoint, a_mark_speaks_of_its_own_file_only)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = scribe_config(power_disk_disk(power), 1, 1);
    struct journal *journal = scribe_open_with(&config);
    struct journal_report report = {0};
    static char bytes[3000];
    struct disk_file *files[200];
    power_disk_watch(power, be_slow, NULL);
    uint64_t id = 0;
    while (report.checkpoints < 3 || id < 200) {
        cr_assert_eq(scribe_add(journal, ++id), 0);
        if (id <= 200) {
            char name[16];
            snprintf(name, sizeof name, "l%" PRIu64, id);
            struct record write = {.type = RECORD_WRITE,
                                   .id = id,
                                   .end = sizeof bytes,
                                   .size = sizeof bytes,
                                   .content_version = 2,
                                   .local = name,
                                   .bytes = bytes};
            cr_assert_eq(disk_open(config.disk, name, DISK_CREATE, &files[id - 1]), 0);
            cr_assert_eq(disk_write(files[id - 1], bytes, sizeof bytes, 0), 0);
            cr_assert_eq(journal_append(journal, &write, files[id - 1]), 0);
        } else {
            struct record forget = {.type = RECORD_FORGET, .id = id};
            cr_assert_eq(journal_append(journal, &forget, NULL), 0);
        }
        journal_report(journal, &report);
    }
    for (size_t i = 0; i < 200; i++)
        journal_retire(journal, &files[i], NULL);
    scribe_flush(journal);
    power_disk_watch(power, NULL, NULL);
    struct power_disk *killed = power_disk_kill(power);
    cr_assert_gt(check_marks(power_disk_disk(killed)), 0);
    journal_free(journal);
    power_disk_free(killed);
    power_disk_free(power);
}
