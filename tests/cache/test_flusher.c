#include "cache/flusher.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/replay.h"
#include "tests/support/scribe.h"

/* ---- Waiting. ---- */

Test(flusher, a_flush_waits_and_says_why_it_does_not)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    struct waiter waiter;
    waiter_init(&waiter);
    cr_assert_eq(journal_flush(journal, NULL), 0, "nothing is to be flushed");
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(journal_flush(journal, NULL), -EAGAIN);
    scribe_flush(journal);
    cr_assert_eq(journal_flush(journal, NULL), 0);
    cr_assert_eq(scribe_add(journal, 2), 0);
    waiter_interrupt(&waiter);
    cr_assert_eq(journal_flush(journal, &waiter), -EINTR);
    waiter_release(&waiter);
    journal_free(journal);
    power_disk_free(power);
}

Test(flusher, with_commit_0_changes_wait_for_the_disk)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), 0);
    WAITER_SCOPED(waiter);
    for (uint64_t id = 1; id < 50; id++) {
        cr_assert_eq(scribe_add(journal, id), 0);
        cr_assert_eq(journal_commit(journal, &waiter), 0);
        struct power_disk *cut = power_disk_cut(power, 0);
        cr_assert_eq(scribe_look(power_disk_disk(cut)).sum, scribe_sum(journal));
        power_disk_free(cut);
    }
    journal_free(journal);
    journal = scribe_open(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(scribe_add(journal, 100), 0);
    cr_assert_eq(journal_commit(journal, NULL), 0, "else nobody waits");
    journal_free(journal);
    power_disk_free(power);
}

Test(flusher, writers_wait_while_too_much_is_not_flushed)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = scribe_config(power_disk_disk(power), HOUR_MS, 0);
    config.unflushed_max = (uint64_t)1 << 40;
    struct journal *journal = scribe_open_with(&config);
    struct disk_file *file;
    WAITER_SCOPED(waiter);
    cr_assert_eq(disk_open(config.disk, "l", DISK_CREATE, &file), 0);
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(journal_throttle(journal, NULL), 0);
    struct record write = {.type = RECORD_WRITE,
                           .id = 1,
                           .end = (uint64_t)3 << 39,
                           .size = (uint64_t)3 << 39,
                           .content_version = 2,
                           .local = "l"};
    cr_assert_eq(journal_append(journal, &write, file), 0);
    int rc = journal_throttle(journal, NULL);
    cr_assert(rc == -EAGAIN || rc == 0, "the flusher may have been quicker: %d", rc);
    cr_assert_eq(journal_throttle(journal, &waiter), 0);
    struct journal_report report;
    journal_report(journal, &report);
    cr_assert_eq(report.unflushed_bytes, 0);
    journal_retire(journal, &file, NULL);
    journal_free(journal);
    power_disk_free(power);
}

Test(flusher, what_another_process_left_unflushed_is_flushed_too)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(scribe_add(journal, 1), 0);
    uint32_t sum = scribe_sum(journal);
    struct power_disk *killed = power_disk_kill(power);
    journal_free(journal);
    journal = scribe_open(power_disk_disk(killed), HOUR_MS);
    scribe_flush(journal);
    struct power_disk *cut = power_disk_cut(killed, 0);
    cr_assert_eq(scribe_look(power_disk_disk(cut)).sum, sum);
    journal_free(journal);
    power_disk_free(power);
    power_disk_free(killed);
    power_disk_free(cut);
}

/* ---- Local files. ---- */

Test(flusher, a_local_file_goes_only_when_the_record_that_gives_it_up_is_on_the_disk)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    struct disk_file *file;
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(disk_open(disk, "l", DISK_CREATE, &file), 0);
    cr_assert_eq(disk_write(file, "x", 1, 0), 0);
    struct record write = {
        .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2, .local = "l"};
    cr_assert_eq(journal_append(journal, &write, file), 0);
    scribe_flush(journal);
    struct record forget = {.type = RECORD_FORGET, .id = 1};
    cr_assert_eq(journal_append(journal, &forget, NULL), 0);
    journal_retire(journal, &file, "l");
    cr_assert_null(file);
    cr_assert(scribe_has(disk, "l"));
    journal_free(journal);
    cr_assert_not(scribe_has(disk, "l"));
    power_disk_free(power);
}

Test(flusher, small_contents_ride_and_survive_the_power_without_a_flush_of_their_file)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    struct disk_file *file;
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(disk_open(disk, "l", DISK_CREATE, &file), 0);
    static const char *const pieces[] = {"hello ", "world ", "WORLD "};
    for (uint64_t i = 0; i < 3; i++) {
        uint64_t at = i == 0 ? 0 : 6;
        struct record write = {.type = RECORD_WRITE,
                               .id = 1,
                               .start = at,
                               .end = at + 6,
                               .size = at + 6,
                               .content_version = 2 + i,
                               .local = "l",
                               .bytes = pieces[i]};
        cr_assert_eq(disk_write(file, pieces[i], 6, at), 0);
        cr_assert_eq(journal_append(journal, &write, file), 0);
    }
    scribe_flush(journal);
    struct power_disk *cut = power_disk_cut(power, 0);
    cr_assert_not(scribe_has(power_disk_disk(cut), "l"));
    struct journal *found = scribe_open(power_disk_disk(cut), HOUR_MS);
    size_t size;
    char *bytes = power_disk_bytes(cut, "l", &size);
    cr_assert(size == 12 && memcmp(bytes, "hello WORLD ", 12) == 0);
    free(bytes);
    journal_free(found);
    journal_retire(journal, &file, NULL);
    journal_free(journal);
    power_disk_free(cut);
    power_disk_free(power);
}

Test(flusher, many_that_ride_are_settled_so_that_a_replay_is_short)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal_config config = scribe_config(disk, 1, UINT64_MAX);
    struct journal *journal = scribe_open_with(&config);
    static char bytes[8192];
    struct disk_file *file;
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(disk_open(disk, "l", DISK_CREATE, &file), 0);
    cr_assert_eq(disk_write(file, bytes, sizeof bytes, 0), 0);
    for (uint64_t i = 0; i < 2 * RIDING_BYTES / sizeof bytes; i++) {
        struct record write = {.type = RECORD_WRITE,
                               .id = 1,
                               .end = sizeof bytes,
                               .size = sizeof bytes,
                               .content_version = 2 + i,
                               .local = "l",
                               .bytes = bytes};
        cr_assert_eq(journal_append(journal, &write, file), 0);
    }
    struct replay replay = {0};
    for (int tries = 0; tries < 2000 && replay.settled < 500; tries++) {
        struct ledger ledger;
        BUF_SCOPED why = BUF_INIT;
        ledger_init(&ledger);
        replay_release(&replay);
        usleep(1000);
        struct power_disk *cut = power_disk_kill(power);
        cr_assert_eq(replay_run(&replay, power_disk_disk(cut), NULL, "", &ledger, &why), 0, "%s", why.bytes);
        disk_close(replay.file);
        replay.file = NULL;
        power_disk_free(cut);
        ledger_release(&ledger);
    }
    cr_assert_geq(replay.settled, 500);
    replay_release(&replay);
    journal_retire(journal, &file, NULL);
    journal_free(journal);
    power_disk_free(power);
}

struct meddler {
    struct journal *journal;
    struct disk_file *file;
    bool armed;
};

/* Between the flush of one file and that of the next. */
static void give_up_the_other(void *context, long nth)
{
    struct meddler *meddler = context;
    (void)nth;
    if (!meddler->armed)
        return;
    meddler->armed = false;
    struct record forget = {.type = RECORD_FORGET, .id = 2};
    cr_assert_eq(journal_append(meddler->journal, &forget, NULL), 0);
    journal_retire(meddler->journal, &meddler->file, "l2");
}

Test(flusher, a_file_given_up_while_a_flush_goes_on_is_flushed_as_its_records_are)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    struct disk_file *files[3];
    for (uint64_t id = 1; id < 3; id++) {
        char name[8];
        snprintf(name, sizeof name, "l%" PRIu64, id);
        cr_assert_eq(scribe_add(journal, id), 0);
        cr_assert_eq(disk_open(disk, name, DISK_CREATE, &files[id]), 0);
        cr_assert_eq(disk_write(files[id], "x", 1, 0), 0);
        struct record write = {
            .type = RECORD_WRITE, .id = id, .end = 1, .size = 1, .content_version = 2, .local = name};
        cr_assert_eq(journal_append(journal, &write, files[id]), 0);
    }
    struct meddler meddler = {journal, files[2], true};
    power_disk_watch(power, give_up_the_other, &meddler);
    scribe_flush(journal);
    cr_assert_not(meddler.armed);
    power_disk_watch(power, NULL, NULL);
    struct power_disk *cut = power_disk_cut(power, 0);
    struct ledger ledger;
    struct replay replay;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    cr_assert_eq(replay_run(&replay, power_disk_disk(cut), NULL, "another boot", &ledger, &why), 0);
    size_t size = 0;
    char *bytes = power_disk_bytes(cut, "l2", &size);
    if (ledger_find(&ledger, 2)) /* FORGET came after what was flushed */
        cr_assert(size == 1 && *bytes == 'x');
    free(bytes);
    replay_release(&replay);
    ledger_release(&ledger);
    journal_retire(journal, &files[1], NULL);
    journal_free(journal);
    power_disk_free(cut);
    power_disk_free(power);
}

/* A record that comes while local files are flushed is not backed by that flush. */
static void write_the_other(void *context, long nth)
{
    struct meddler *meddler = context;
    (void)nth;
    if (!meddler->armed)
        return;
    meddler->armed = false;
    struct record write = {
        .type = RECORD_WRITE, .id = 2, .end = 1, .size = 1, .content_version = 2, .local = "l2"};
    cr_assert_eq(disk_write(meddler->file, "x", 1, 0), 0);
    cr_assert_eq(journal_append(meddler->journal, &write, meddler->file), 0);
}

Test(flusher, what_comes_during_a_flush_is_not_called_backed_by_it)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    struct disk_file *first, *second;
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(scribe_add(journal, 2), 0);
    cr_assert_eq(disk_open(disk, "l1", DISK_CREATE, &first), 0);
    cr_assert_eq(disk_open(disk, "l2", DISK_CREATE, &second), 0);
    struct record write = {
        .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2, .local = "l1"};
    cr_assert_eq(disk_write(first, "x", 1, 0), 0);
    cr_assert_eq(journal_append(journal, &write, first), 0);
    struct meddler meddler = {journal, second, true};
    power_disk_watch(power, write_the_other, &meddler);
    scribe_flush(journal);
    power_disk_watch(power, NULL, NULL);
    struct power_disk *cut = power_disk_cut(power, 0);
    struct ledger ledger;
    struct replay replay;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    cr_assert_eq(replay_run(&replay, power_disk_disk(cut), NULL, "another boot", &ledger, &why), 0);
    cr_assert_eq(ledger_find(&ledger, 1)->dirty.count, 1);
    cr_assert_eq(ledger_find(&ledger, 2)->dirty.count, 0);
    replay_release(&replay);
    ledger_release(&ledger);
    journal_retire(journal, &first, NULL);
    journal_retire(journal, &second, NULL);
    journal_free(journal);
    power_disk_free(cut);
    power_disk_free(power);
}

/* Also by the flush of the tape, which has it on the disk then, behind what is backed. */
static void add_another(void *context, long nth)
{
    struct meddler *meddler = context;
    (void)nth;
    if (!meddler->armed)
        return;
    meddler->armed = false;
    cr_assert_eq(scribe_add(meddler->journal, 3), 0);
}

Test(flusher, what_a_power_cut_would_lose_is_never_told_as_flushed)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = scribe_open(disk, HOUR_MS);
    struct disk_file *file;
    struct journal_report report;
    cr_assert_eq(scribe_add(journal, 1), 0);
    cr_assert_eq(disk_open(disk, "l1", DISK_CREATE, &file), 0);
    cr_assert_eq(disk_write(file, "x", 1, 0), 0);
    struct record write = {
        .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2, .local = "l1"};
    cr_assert_eq(journal_append(journal, &write, file), 0);
    struct meddler meddler = {journal, NULL, true};
    power_disk_watch(power, add_another, &meddler);
    scribe_flush(journal);
    power_disk_watch(power, NULL, NULL);
    journal_report(journal, &report);
    struct power_disk *cut = power_disk_cut(power, 0); /* after the report: more may be flushed since */
    struct ledger ledger;
    struct replay replay;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    cr_assert_eq(replay_run(&replay, power_disk_disk(cut), NULL, "another boot", &ledger, &why), 0);
    cr_assert(ledger_find(&ledger, 3) || report.unflushed_bytes > 0);
    replay_release(&replay);
    ledger_release(&ledger);
    scribe_flush(journal);
    journal_report(journal, &report);
    cr_assert_eq(report.unflushed_bytes, 0);
    journal_retire(journal, &file, NULL);
    journal_free(journal);
    power_disk_free(cut);
    power_disk_free(power);
}
