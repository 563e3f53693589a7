#include "cache/journal.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "cache/replay.h"
#include "tests/support/fault_disk.h"
#include "tests/support/ledger_text.h"
#include "tests/support/scribe.h"

/* ---- Opening again. ---- */

Test(journal, what_was_appended_is_there_when_it_is_opened_again)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, scribe_seed(), 300);
    for (int i = 0; i < 3; i++) {
        struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
        cr_assert_eq(scribe_sum(journal), play.sums[atomic_load(&play.appended)]);
        struct journal_report report;
        journal_report(journal, &report);
        cr_assert_not(report.fresh);
        journal_free(journal);
    }
    power_disk_free(power);
    play_release(&play);
}

Test(journal, a_new_one_says_so_and_ids_are_never_used_twice)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    struct journal_report report;
    journal_report(journal, &report);
    cr_assert(report.fresh && !report.broken && report.accounts == 0 && report.oldest_unflushed_ms == 0);
    uint64_t id = journal_new_id(journal);
    cr_assert_eq(scribe_add(journal, id), 0);
    journal_report(journal, &report);
    cr_assert(report.accounts == 1 && report.unflushed_bytes > 0 && report.oldest_unflushed_ms > 0);
    scribe_flush(journal);
    journal_report(journal, &report);
    cr_assert(report.unflushed_bytes == 0 && report.oldest_unflushed_ms == 0);
    struct record forget = {.type = RECORD_FORGET, .id = id};
    cr_assert_eq(journal_append(journal, &forget, NULL), 0);
    journal_free(journal);
    journal = scribe_open(power_disk_disk(power), HOUR_MS);
    cr_assert_gt(journal_new_id(journal), id);
    journal_free(journal);
    power_disk_free(power);
}

/* What is sent under the name afterwards waits for that: a power cut would bring the one back that must overwrite nothing. */
Test(journal, the_end_of_one_that_overwrites_nothing_is_to_be_known_before_another_is_sent_there)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        uint64_t id = journal_new_id(journal), moved = journal_moved(journal);
        struct record birth = {.type = exclusive ? RECORD_BIRTH_EXCLUSIVE : RECORD_BIRTH,
                               .id = id,
                               .name = "b",
                               .kind = S_IFREG,
                               .attributes = {.number = 7, .mode = S_IFREG | 0644},
                               .attribute_version = 1,
                               .content_version = 1};
        cr_assert_eq(journal_append(journal, &birth, NULL), 0);
        struct record forget = {.type = RECORD_FORGET, .id = id};
        cr_assert_eq(journal_append(journal, &forget, NULL), 0);
        cr_assert_eq(journal_moved(journal) > moved, exclusive);
    }
    journal_free(journal);
    power_disk_free(power);
}

Test(journal, another_source_or_a_newer_format_is_refused_in_words_and_nothing_is_changed)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 1, 50);
    struct journal_config config = scribe_config(power_disk_disk(power), 1, 0);
    BUF_SCOPED why = BUF_INIT;
    size_t before_size, after_size;
    char *before = power_disk_bytes(power, "journal-1", &before_size);

    config.source = "another one";
    cr_assert_eq(scribe_try(&config, &why), -EXDEV);
    cr_assert_not_null(strstr(why.bytes, "another one"));

    config.source = "http://endpoint/bucket/prefix";
    struct disk_file *file;
    cr_assert_eq(disk_open(config.disk, "journal-1", 0, &file), 0);
    size_t size = 20 + 4 + 4 + 8 + strlen(config.source) + 1;
    size = (size + 7) / 8 * 8;
    uint32_t format = htole32(RECORD_FORMAT + 1);
    memcpy(before + 20, &format, 4);
    uint32_t crc = htole32(crc32c(crc32c(0, before, 4), before + 8, size - 8));
    memcpy(before + 4, &crc, 4);
    disk_write(file, before, size, 0);
    disk_close(file);
    buf_reset(&why);
    cr_assert_eq(scribe_try(&config, &why), -EPROTO);
    cr_assert_not_null(strstr(why.bytes, "format 2"), "%s", why.bytes);

    char *after = power_disk_bytes(power, "journal-1", &after_size);
    cr_assert(before_size == after_size && memcmp(before, after, after_size) == 0);
    cr_assert_not(scribe_has(config.disk, "journal-2"));
    free(before);
    free(after);
    power_disk_free(power);
    play_release(&play);
}

/* ---- Errors. ---- */

Test(journal, a_full_disk_refuses_the_append_and_leaves_the_log_as_it_is)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = scribe_config(power_disk_disk(power), HOUR_MS, UINT64_MAX);
    struct journal *journal = scribe_open_with(&config);
    uint64_t id = 0;
    int rc;
    power_disk_set_room(power, 100000);
    do {
        rc = scribe_add(journal, ++id);
    } while (rc == 0);
    cr_assert_eq(rc, -ENOSPC);
    cr_assert_gt(id, 1000);
    uint64_t bytes = scribe_log_bytes(journal);
    uint32_t sum = scribe_sum(journal);
    cr_assert_eq(scribe_add(journal, id), -ENOSPC);
    cr_assert(scribe_log_bytes(journal) == bytes && scribe_sum(journal) == sum);
    scribe_flush(journal); /* there is room for the MARK */
    for (uint64_t i = 1; i < 1000; i++) {
        struct record forget = {.type = RECORD_FORGET, .id = i};
        cr_assert_eq(journal_append(journal, &forget, NULL), 0, "what frees space goes on");
    }
    scribe_flush(journal);
    power_disk_set_room(power, UINT64_MAX);
    cr_assert_eq(scribe_add(journal, id), 0);
    sum = scribe_sum(journal);
    journal_free(journal);
    cr_assert_eq(scribe_look(config.disk).sum, sum);
    power_disk_free(power);
}

Test(journal, a_full_disk_at_the_next_mount_stops_nothing_but_new_changes)
{
    struct play play;
    struct power_disk *power = scribe_record(&play, 9, 100);
    power_disk_set_room(power, 100);
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    struct journal *journal = scribe_open(slabs_disk(slabs), 1);
    cr_assert_eq(scribe_sum(journal), play.sums[atomic_load(&play.appended)]);
    while (scribe_add(journal, journal_new_id(journal)) == 0)
        ; /* the file had some room */
    cr_assert_eq(scribe_add(journal, journal_new_id(journal)), -ENOSPC);
    scribe_flush(journal);
    power_disk_set_room(power, UINT64_MAX);
    cr_assert_eq(scribe_add(journal, journal_new_id(journal)), 0);
    scribe_flush(journal);
    uint32_t sum = scribe_sum(journal);
    journal_free(journal);
    slabs_free(slabs);
    cr_assert_eq(scribe_look(power_disk_disk(power)).sum, sum);
    power_disk_free(power);
    play_release(&play);
}

Test(journal, a_record_that_does_not_fit_is_not_in_the_log)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    struct record forget = {.type = RECORD_FORGET, .id = 5};
    uint64_t bytes = scribe_log_bytes(journal);
    cr_assert_eq(journal_append(journal, &forget, NULL), -EBADMSG);
    cr_assert_eq(scribe_log_bytes(journal), bytes);
    journal_free(journal);
    power_disk_free(power);
}

Test(journal, after_a_failed_flush_all_fails_loudly_and_what_was_appended_is_found)
{
    struct power_disk *power = power_disk_new();
    struct fault_disk fault;
    fault_disk_init(&fault, power_disk_disk(power));
    struct journal *journal = scribe_open(&fault.disk, HOUR_MS);
    struct journal_report report;
    WAITER_SCOPED(waiter);
    cr_assert_eq(scribe_add(journal, 1), 0);
    atomic_store(&fault.flush_rc, -EIO);
    cr_assert_eq(journal_flush(journal, &waiter), -EIO);
    atomic_store(&fault.flush_rc, 0);
    cr_assert_eq(journal_flush(journal, &waiter), -EIO, "pages may be lost: it stays so");
    cr_assert_eq(scribe_add(journal, 2), -EIO);
    cr_assert_eq(journal_throttle(journal, &waiter), -EIO);
    journal_report(journal, &report);
    cr_assert(report.broken);
    uint32_t sum = scribe_sum(journal);
    journal_free(journal);
    cr_assert_eq(scribe_look(power_disk_disk(power)).sum, sum);
    power_disk_free(power);
}

Test(journal, a_rename_whose_outcome_nobody_knows_hides_nothing)
{
    struct power_disk *power = power_disk_new();
    struct fault_disk fault;
    fault_disk_init(&fault, power_disk_disk(power));
    struct journal_config config = scribe_config(&fault.disk, 1, 1);
    struct journal *journal = scribe_open_with(&config);
    struct journal_report report = {0};
    atomic_store(&fault.rename_rc, -EIO);
    uint64_t id = 0;
    while (!report.broken) {
        int rc = scribe_add(journal, ++id);
        cr_assert(rc == 0 || rc == -EIO);
        struct record forget = {.type = RECORD_FORGET, .id = id};
        if (rc == 0)
            journal_append(journal, &forget, NULL);
        journal_report(journal, &report);
    }
    uint32_t sum = scribe_sum(journal);
    cr_assert_eq(scribe_add(journal, id + 1), -EIO);
    journal_free(journal);
    cr_assert_eq(scribe_look(power_disk_disk(power)).sum, sum);
    power_disk_free(power);
}

/* One run with the Nth call failing. True: it struck. */
static bool climb(long n, unsigned seed)
{
    struct power_disk *power = power_disk_new();
    struct fault_disk fault;
    struct play play;
    BUF_SCOPED why = BUF_INIT;
    fault_disk_init(&fault, power_disk_disk(power));
    struct journal_config config = scribe_config(&fault.disk, 1, 2048);
    play_init(&play, seed);
    struct journal *journal = NULL;
    for (int session = 0; session < 2; session++) {
        if (session == 0)
            atomic_store(&fault.fail_nth, n);
        config.disk = play_disk(&play, &fault.disk);
        if (journal_open(&config, &journal, &why) == 0) {
            play_use(&play, journal, atomic_load(&play.appended));
            for (int i = 0; i < 60; i++)
                play_step(&play);
        }
        play_leave(&play);
    }
    bool struck = atomic_load(&fault.struck) > 0;
    atomic_store(&fault.fail_nth, -1);
    struct slabs *slabs = slabs_new(power_disk_disk(power));
    config.disk = slabs_disk(slabs);
    buf_reset(&why);
    cr_assert_eq(journal_open(&config, &journal, &why), 0, "call %ld: %s", n, why.bytes);
    lock_take(journal_lock(journal));
    struct ledger *ledger = journal_ledger_locked(journal);
    ledger_check(ledger);
    size_t appended = atomic_load(&play.appended);
    if (appended > 0)
        cr_assert_eq(play_find(&play, power_disk_disk(power), ledger, appended, appended, &why), appended,
                     "call %ld: %s", n, why.bytes);
    lock_drop(journal_lock(journal));
    journal_free(journal);
    slabs_free(slabs);
    power_disk_free(power);
    play_release(&play);
    return struck;
}

Test(journal, no_failing_call_of_the_disk_loses_what_append_acknowledged, .timeout = 300)
{
    unsigned seed = scribe_seed();
    long misses = 0, n = 0;
    for (; misses < 20; n++) /* the flusher's calls come at their own times: a few rungs in a row */
        misses = climb(n, seed) ? 0 : misses + 1;
    cr_assert_gt(n, 300);
    fprintf(stderr, "%ld rungs\n", n);
}

/* ---- The power goes. ---- */

struct cutter {
    struct power_disk *power;
    struct play *play;
    long nth;
    bool kill;
    unsigned seed;
    struct power_disk *found;
    size_t appended, acked;
};

static void cut_at(void *context, long nth)
{
    struct cutter *cutter = context;
    if (nth != cutter->nth)
        return;
    cutter->appended = atomic_load(&cutter->play->appended);
    cutter->acked = atomic_load(&cutter->play->acked);
    cutter->found =
        cutter->kill ? power_disk_kill(cutter->power) : power_disk_cut(cutter->power, cutter->seed);
}

static void settle(struct replay *replay, struct disk *disk, const struct ledger *ledger)
{
    struct slabs *slabs = slabs_new(disk);
    cr_assert_eq(replay_settle(replay, slabs_disk(slabs), ledger), 0);
    slabs_free(slabs);
}

/* One session, cut at a random call. kill: only the process dies. Returns what is found, with a journal on it. */
static struct power_disk *live(struct play *play, struct power_disk *power, bool kill, char boot[16])
{
    struct journal_config config = scribe_config(power_disk_disk(power), 1, 2048);
    struct cutter cutter = {.power = power,
                            .play = play,
                            .nth = 1 + play_random(play, 700),
                            .kill = kill,
                            .seed = 1 + play_random(play, 100000)};
    BUF_SCOPED why = BUF_INIT;
    config.boot = boot;
    if (!kill && play_random(play, 10) == 0)
        cutter.seed = 0;
    power_disk_watch(power, cut_at, &cutter);
    size_t start = atomic_load(&play->appended);
    config.disk = play_disk(play, config.disk);
    play_use(play, scribe_open_with(&config), start);
    for (int i = 0; i < 150; i++)
        play_step(play);
    cr_assert_eq(play->rc, 0);
    size_t appended = atomic_load(&play->appended);
    play_leave(play);
    power_disk_watch(power, NULL, NULL);
    if (!cutter.found) {
        cutter.nth = 0;
        cut_at(&cutter, 0);
    }
    power_disk_free(power);
    if (!kill)
        snprintf(boot, 16, "boot %u", play_random(play, 1000000));
    config.boot = boot;
    config.disk = power_disk_disk(cutter.found);
    config.commit_ms = HOUR_MS;
    struct ledger ledger;
    struct replay replay;
    ledger_init(&ledger);
    cr_assert_eq(replay_run(&replay, config.disk, NULL, boot, &ledger, &why), 0, "%s", why.bytes);
    settle(&replay, config.disk, &ledger);
    ledger_check(&ledger);
    size_t records =
        play_find(play, config.disk, &ledger, kill ? cutter.appended : cutter.acked, appended, &why);
    cr_assert_neq(records, SIZE_MAX, "%s, call %ld, seed %u:\n%s", kill ? "kill" : "power", cutter.nth,
                  cutter.seed, why.bytes);
    atomic_store(&play->appended, records);
    atomic_store(&play->acked, cutter.acked);
    replay_release(&replay);
    ledger_release(&ledger);
    return cutter.found;
}

/* ---- A cut at each call. ---- */

#define SEEDS 4

struct slicer {
    struct power_disk *power;
    struct play *play;
    long nth;
    struct power_disk *found[SEEDS];
    size_t acked;
};

static void slice_at(void *context, long nth)
{
    struct slicer *slicer = context;
    if (nth != slicer->nth)
        return;
    slicer->acked = atomic_load(&slicer->play->acked);
    for (unsigned seed = 0; seed < SEEDS; seed++)
        slicer->found[seed] = power_disk_cut(slicer->power, seed ? seed + (unsigned)nth * 7919u : 0);
}

static void check_found(struct play *play, struct power_disk *found, size_t acked, long nth)
{
    struct disk *disk = power_disk_disk(found);
    struct ledger ledger;
    struct replay replay;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    cr_assert_eq(replay_run(&replay, disk, NULL, "next boot", &ledger, &why), 0, "call %ld: %s", nth,
                 why.bytes);
    settle(&replay, disk, &ledger);
    ledger_check(&ledger);
    cr_assert_neq(play_find(play, disk, &ledger, acked, atomic_load(&play->appended), &why), SIZE_MAX,
                  "call %ld: %s", nth, why.bytes);
    replay_release(&replay);
    ledger_release(&ledger);
    power_disk_free(found);
}

/* Short lives with checkpoints, cut at call n. False: they have fewer calls. */
static bool slice(unsigned seed, long n)
{
    struct play play;
    struct power_disk *power = power_disk_new();
    struct journal_config config = scribe_config(power_disk_disk(power), 1, 1);
    struct slicer slicer = {.power = power, .play = &play, .nth = n};
    play_init(&play, seed);
    power_disk_watch(power, slice_at, &slicer);
    for (int session = 0; session < 3; session++) { /* each but the first begins with a checkpoint */
        config.disk = play_disk(&play, power_disk_disk(power));
        play_use(&play, scribe_open_with(&config), atomic_load(&play.appended));
        for (int i = 0; i < 30; i++) {
            play_step(&play);
            if (i % 12 == 11)
                play_flush(&play);
        }
        cr_assert_eq(play.rc, 0);
        play_leave(&play);
    }
    power_disk_watch(power, NULL, NULL);
    bool reached = slicer.found[0];
    for (unsigned i = 0; i < SEEDS && reached; i++)
        check_found(&play, slicer.found[i], slicer.acked, n);
    power_disk_free(power);
    play_release(&play);
    return reached;
}

Test(journal, a_power_cut_at_any_call_finds_one_moment_with_all_that_was_flushed, .timeout = 300)
{
    unsigned seed = scribe_seed();
    long misses = 0, n;
    for (n = 1; misses < 10; n++)
        misses = slice(seed, n) ? 0 : misses + 1;
    cr_assert_gt(n, 200);
}

/* Opens what a power cut left, dies at call n, and is looked at by the next process. */
static uint32_t die_while_opening(struct power_disk *left, long n, bool *ret_died)
{
    struct power_disk *power = power_disk_kill(left);
    struct play idle;
    struct cutter cutter = {.power = power, .play = &idle, .nth = n, .kill = true};
    struct journal_config config = scribe_config(power_disk_disk(power), HOUR_MS, 0);
    play_init(&idle, 0);
    config.boot = "second boot";
    power_disk_watch(power, cut_at, &cutter);
    struct journal *journal = scribe_open_with(&config);
    scribe_flush(journal); /* and so its checkpoint */
    journal_free(journal);
    *ret_died = cutter.found;
    struct power_disk *found = cutter.found ? cutter.found : power_disk_kill(power);
    struct ledger ledger;
    struct replay replay;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    cr_assert_eq(replay_run(&replay, power_disk_disk(found), NULL, "second boot", &ledger, &why), 0, "%s",
                 why.bytes);
    uint32_t sum = ledger_sum(&ledger);
    replay_release(&replay);
    ledger_release(&ledger);
    power_disk_free(found);
    power_disk_free(power);
    play_release(&idle);
    return sum;
}

Test(journal, what_went_with_the_power_stays_away_when_the_next_process_dies_early)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = scribe_open(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(scribe_add(journal, 1), 0);
    scribe_flush(journal);
    uint32_t sum = scribe_sum(journal);
    cr_assert_eq(scribe_add(journal, 2), 0); /* it stands in the log, and nobody called it flushed */
    struct power_disk *left = power_disk_kill(power);
    bool died = true;
    long n;
    for (n = 1; died; n++)
        cr_assert_eq(die_while_opening(left, n, &died), sum, "call %ld", n);
    cr_assert_gt(n, 8);
    journal_free(journal);
    power_disk_free(left);
    power_disk_free(power);
}

/* Several lives of one cache directory. */
static void live_on(unsigned seed, int lives)
{
    struct play play;
    struct power_disk *power = power_disk_new();
    char boot[16] = "boot 0";
    play_init(&play, seed);
    for (int i = 0; i < lives; i++)
        power = live(&play, power, play_random(&play, 2), boot);
    power_disk_free(power);
    play_release(&play);
}

Test(journal, a_power_cut_finds_one_moment_with_all_that_was_flushed_and_a_kill_finds_all, .timeout = 300)
{
    unsigned seed = scribe_seed();
    const char *runs = getenv("SKYVOL_RUNS"); /* more of them: see it alarm */
    for (unsigned i = 0; i < (runs ? strtoul(runs, NULL, 10) : 80); i++) {
        fprintf(stderr, "run %u\r", i);
        live_on(seed + i, 6);
    }
}
