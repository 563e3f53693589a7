#include "cache/journal.h"

#include <criterion/criterion.h>
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/crc.h"
#include "base/log.h"
#include "cache/replay.h"
#include "cache/tape.h"
#include "tests/support/fault_disk.h"
#include "tests/support/ledger_text.h"
#include "tests/support/play.h"
#include "tests/support/power_disk.h"

#define HOUR_MS 3600000

static unsigned seed_and_say(void)
{
    const char *given = getenv("SKYVOL_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    fprintf(stderr, "SKYVOL_SEED=%u\n", seed);
    return seed;
}

static struct journal_config config_of(struct disk *disk, int64_t commit_ms, uint64_t checkpoint_bytes)
{
    return (struct journal_config){.disk = disk,
                                   .source = "http://endpoint/bucket/prefix",
                                   .boot = "first boot",
                                   .commit_ms = commit_ms,
                                   .checkpoint_bytes = checkpoint_bytes};
}

static struct journal *open_with(const struct journal_config *config)
{
    BUF_SCOPED why = BUF_INIT;
    struct journal *journal = NULL;
    cr_assert_eq(journal_open(config, &journal, &why), 0, "%s", why.bytes);
    return journal;
}

static struct journal *open_on(struct disk *disk, int64_t commit_ms)
{
    struct journal_config config = config_of(disk, commit_ms, 0);
    return open_with(&config);
}

static int try_open(const struct journal_config *config, struct buf *why)
{
    struct journal *journal = NULL;
    int rc = journal_open(config, &journal, why);
    journal_free(journal);
    return rc;
}

static uint32_t sum_of(struct journal *journal)
{
    LOCK_SCOPED(journal_lock(journal));
    ledger_check(journal_ledger_locked(journal));
    return ledger_sum(journal_ledger_locked(journal));
}

static void flush(struct journal *journal)
{
    WAITER_SCOPED(waiter);
    cr_assert_eq(journal_flush(journal, &waiter), 0);
}

static uint64_t log_bytes(struct journal *journal)
{
    struct journal_report report;
    journal_report(journal, &report);
    return report.log_bytes;
}

static struct record birth(uint64_t id, const char *name)
{
    return (struct record){.type = RECORD_BIRTH,
                           .id = id,
                           .name = name,
                           .kind = S_IFREG,
                           .attributes = {.mode = S_IFREG | 0644},
                           .attribute_version = 1,
                           .content_version = 1};
}

static int add_file(struct journal *journal, uint64_t id)
{
    char name[32];
    snprintf(name, sizeof name, "file %" PRIu64, id);
    struct record record = birth(id, name);
    return journal_append(journal, &record, NULL);
}

static bool has_name(struct disk *disk, const char *name)
{
    struct disk_file *file;
    if (disk_open(disk, name, 0, &file) < 0)
        return false;
    disk_close(file);
    return true;
}

/* A journal of some changes, closed, with one file of its own: what stands in it is in the order of play->sums. */
static struct power_disk *recorded(struct play *play, unsigned seed, int steps)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = config_of(power_disk_disk(power), 1, UINT64_MAX);
    play_init(play, seed);
    play_use(play, config.disk, open_with(&config), 0);
    for (int i = 0; i < steps; i++)
        play_step(play);
    cr_assert_eq(play->rc, 0);
    play_leave(play);
    return power;
}

/* ---- Opening again. ---- */

Test(journal, what_was_appended_is_there_when_it_is_opened_again)
{
    struct play play;
    struct power_disk *power = recorded(&play, seed_and_say(), 300);
    for (int i = 0; i < 3; i++) {
        struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
        cr_assert_eq(sum_of(journal), play.sums[atomic_load(&play.appended)]);
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
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    struct journal_report report;
    journal_report(journal, &report);
    cr_assert(report.fresh && !report.broken && report.accounts == 0 && report.oldest_unflushed_ms == 0);
    uint64_t id = journal_new_id(journal);
    cr_assert_eq(add_file(journal, id), 0);
    journal_report(journal, &report);
    cr_assert(report.accounts == 1 && report.unflushed_bytes > 0 && report.oldest_unflushed_ms > 0);
    flush(journal);
    journal_report(journal, &report);
    cr_assert(report.unflushed_bytes == 0 && report.oldest_unflushed_ms == 0);
    struct record forget = {.type = RECORD_FORGET, .id = id};
    cr_assert_eq(journal_append(journal, &forget, NULL), 0);
    journal_free(journal);
    journal = open_on(power_disk_disk(power), HOUR_MS);
    cr_assert_gt(journal_new_id(journal), id);
    journal_free(journal);
    power_disk_free(power);
}

Test(journal, another_source_or_a_newer_format_is_refused_in_words_and_nothing_is_changed)
{
    struct play play;
    struct power_disk *power = recorded(&play, 1, 50);
    struct journal_config config = config_of(power_disk_disk(power), 1, 0);
    BUF_SCOPED why = BUF_INIT;
    size_t before_size, after_size;
    char *before = power_disk_bytes(power, "journal-1", &before_size);

    config.source = "another one";
    cr_assert_eq(try_open(&config, &why), -EXDEV);
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
    cr_assert_eq(try_open(&config, &why), -EPROTO);
    cr_assert_not_null(strstr(why.bytes, "format 2"), "%s", why.bytes);

    char *after = power_disk_bytes(power, "journal-1", &after_size);
    cr_assert(before_size == after_size && memcmp(before, after, after_size) == 0);
    cr_assert_not(has_name(config.disk, "journal-2"));
    free(before);
    free(after);
    power_disk_free(power);
    play_release(&play);
}

/* ---- Damage. ---- */

struct found {
    int rc;
    uint32_t sum;
    bool torn;
    uint64_t end;
};

static struct found look(struct disk *disk)
{
    struct ledger ledger;
    struct replay replay;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    struct found found = {.rc = replay_run(&replay, disk, NULL, "first boot", &ledger, &why)};
    cr_assert(found.rc == 0 || why.length > 0);
    ledger_check(&ledger);
    found.sum = ledger_sum(&ledger);
    found.torn = replay.torn;
    found.end = replay.end;
    replay_release(&replay);
    ledger_release(&ledger);
    return found;
}

/* So that it need not be looked through for each bit. */
static void cut_room(struct disk *disk, uint64_t size)
{
    struct disk_file *file;
    cr_assert_eq(disk_open(disk, "journal-1", 0, &file), 0);
    cr_assert_eq(disk_truncate(file, size), 0);
    disk_close(file);
}

Test(journal, every_flipped_bit_is_detected)
{
    struct play play;
    struct power_disk *power = recorded(&play, 2, 30);
    uint32_t sum = play.sums[atomic_load(&play.appended)];
    struct found whole = look(power_disk_disk(power));
    cr_assert(whole.rc == 0 && !whole.torn && whole.sum == sum);
    cut_room(power_disk_disk(power), whole.end + 4096);
    for (uint64_t bit = 0; bit < whole.end * 8; bit++) {
        bool last = bit / 8 >= whole.end - RECORD_MARK_SIZE;
        cr_assert(power_disk_flip(power, "journal-1", bit));
        struct found found = look(power_disk_disk(power));
        if (last) /* the last MARK holds nothing: it is a tail that was torn, and said to be */
            cr_assert(found.rc == 0 && found.torn && found.sum == sum, "bit %" PRIu64, bit);
        else
            cr_assert_eq(found.rc, -EBADMSG, "bit %" PRIu64 " of %" PRIu64, bit, whole.end * 8);
        power_disk_flip(power, "journal-1", bit);
    }
    cr_assert(power_disk_flip(power, "journal-1", (whole.end + 1000) * 8));
    cr_assert(look(power_disk_disk(power)).torn, "also behind the end");
    power_disk_free(power);
    play_release(&play);
}

Test(journal, damage_before_a_mark_is_refused_in_words_and_nothing_is_changed)
{
    struct play play;
    struct power_disk *power = recorded(&play, 3, 200);
    struct journal_config config = config_of(power_disk_disk(power), 1, 0);
    struct found whole = look(config.disk);
    for (uint64_t byte = 200; byte < whole.end - RECORD_MARK_SIZE; byte += 997) {
        BUF_SCOPED why = BUF_INIT;
        size_t before_size, after_size;
        cr_assert(power_disk_flip(power, "journal-1", byte * 8));
        char *before = power_disk_bytes(power, "journal-1", &before_size);
        cr_assert_eq(try_open(&config, &why), -EBADMSG);
        cr_assert(strstr(why.bytes, "journal-1") && strstr(why.bytes, "damaged"), "%s", why.bytes);
        char *after = power_disk_bytes(power, "journal-1", &after_size);
        cr_assert(before_size == after_size && memcmp(before, after, after_size) == 0);
        cr_assert_not(has_name(config.disk, "journal-2.new"));
        free(before);
        free(after);
        power_disk_flip(power, "journal-1", byte * 8);
    }
    cr_assert_eq(look(config.disk).sum, whole.sum);
    power_disk_free(power);
    play_release(&play);
}

Test(journal, the_words_about_damage_name_the_files)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = config_of(power_disk_disk(power), HOUR_MS, UINT64_MAX);
    struct journal *journal = open_with(&config);
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(add_file(journal, 1), 0);
    struct record write = {
        .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2, .local = "l", .bytes = "x"};
    cr_assert_eq(journal_append(journal, &write, NULL), 0);
    flush(journal);
    struct journal_report report;
    journal_report(journal, &report);
    cr_assert_eq(add_file(journal, 2), 0);
    journal_free(journal);
    power_disk_flip(power, "journal-1", (report.log_bytes + 30) * 8);
    cr_assert_eq(try_open(&config, &why), -EBADMSG);
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

Test(journal, every_beginning_of_one_is_the_state_after_its_last_whole_record)
{
    struct play play;
    struct power_disk *power = recorded(&play, seed_and_say(), 80);
    struct disk *disk = power_disk_disk(power);
    uint64_t ends[200], first_mark;
    size_t count = find_ends(disk, ends, 200, &first_mark), records = 0;
    struct found whole = look(disk);
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
        struct found found = look(power_disk_disk(prefix));
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

Test(journal, a_torn_tail_is_cut_and_said_and_written_on)
{
    struct play play;
    struct power_disk *power = recorded(&play, 5, 50);
    struct disk *disk = power_disk_disk(power);
    struct found whole = look(disk);
    struct disk_file *file;
    cr_assert_eq(disk_open(disk, "journal-1", 0, &file), 0);
    cr_assert_eq(disk_write(file, "half a record", 13, whole.end), 0);
    disk_close(file);
    log_tap(hear_line, NULL);
    struct journal *journal = open_on(disk, HOUR_MS);
    log_tap(NULL, NULL);
    cr_assert_not_null(strstr(heard, "journal-1"));
    cr_assert_eq(sum_of(journal), whole.sum);
    cr_assert_eq(add_file(journal, journal_new_id(journal)), 0);
    uint32_t sum = sum_of(journal);
    struct power_disk *killed = power_disk_kill(power);
    journal_free(journal);
    cr_assert_eq(look(disk).sum, sum);
    cr_assert_eq(look(power_disk_disk(killed)).sum, sum);
    power_disk_free(killed);
    power_disk_free(power);
    play_release(&play);
}

/* The record that carries `bytes` is torn: what it carries is to prove nothing. */
static struct found tear_one_that_carries(const char *bytes, size_t size)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(add_file(journal, 1), 0);
    uint64_t at = log_bytes(journal);
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
    struct found found = look(power_disk_disk(cut));
    journal_free(journal);
    power_disk_free(power);
    power_disk_free(cut);
    return found;
}

Test(journal, a_journal_that_rides_in_a_journal_is_no_part_of_it)
{
    struct play play;
    struct power_disk *power = recorded(&play, 6, 100);
    size_t size;
    char *bytes = power_disk_bytes(power, "journal-1", &size);
    cr_assert_gt(size, 8200);
    for (size_t shift = 0; shift < 8; shift++) { /* records stand at multiples of 8 */
        struct found found = tear_one_that_carries(bytes + shift, 8192);
        cr_assert(found.rc == 0 && found.torn);
    }
    free(bytes);
    power_disk_free(power);
    play_release(&play);
}

Test(journal, what_stood_behind_a_torn_record_never_comes_back)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    uint64_t at = log_bytes(journal);
    cr_assert_eq(add_file(journal, 1), 0);
    cr_assert_eq(add_file(journal, 2), 0);
    struct power_disk *torn = power_disk_kill(power);
    journal_free(journal);
    power_disk_flip(torn, "journal-1", (at + 30) * 8); /* the first one; the second one is whole */
    journal = open_on(power_disk_disk(torn), HOUR_MS);
    cr_assert_eq(add_file(journal, 3), 0); /* as long as the first one, and with its sequence */
    uint32_t sum = sum_of(journal);
    struct power_disk *again = power_disk_kill(torn);
    struct found found = look(power_disk_disk(again));
    cr_assert(found.rc == 0 && found.sum == sum);
    journal_free(journal);
    power_disk_free(again);
    power_disk_free(torn);
    power_disk_free(power);
}

/* ---- Checkpoints. ---- */

Test(journal, checkpoints_keep_the_log_short_and_the_state)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = config_of(power_disk_disk(power), 1, 4096);
    struct play play;
    play_init(&play, seed_and_say());
    play_use(&play, config.disk, open_with(&config), 0);
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
    char name[32];
    size_t names = 0;
    for (uint64_t i = 1; i <= number + 5; i++) {
        snprintf(name, sizeof name, "journal-%" PRIu64, i);
        names += has_name(config.disk, name);
    }
    cr_assert_eq(names, 1, "the old ones are gone");
    cr_assert_eq(look(config.disk).sum, play.sums[atomic_load(&play.appended)]);
    power_disk_free(power);
    play_release(&play);
}

Test(journal, leftovers_of_a_checkpoint_go_and_the_newest_whole_one_counts)
{
    struct play play;
    struct power_disk *power = recorded(&play, 7, 50);
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
    struct journal *journal = open_on(disk, HOUR_MS);
    cr_assert_eq(sum_of(journal), play.sums[atomic_load(&play.appended)]);
    journal_free(journal);
    for (size_t i = 0; i < 3; i++)
        cr_assert_not(has_name(disk, leftovers[i]));
    cr_assert(has_name(disk, "journal-1x"), "not ours");
    power_disk_free(power);
    play_release(&play);
}

Test(journal, nothing_is_called_flushed_in_a_file_of_another_process)
{
    struct play play;
    struct power_disk *power = recorded(&play, 8, 50);
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(add_file(journal, journal_new_id(journal)), 0);
    flush(journal);
    struct journal_report report;
    journal_report(journal, &report);
    cr_assert_eq(report.checkpoints, 1);
    journal_free(journal);
    cr_assert(has_name(power_disk_disk(power), "journal-2"));
    cr_assert_not(has_name(power_disk_disk(power), "journal-1"));
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
Test(journal, a_mark_speaks_of_its_own_file_only)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = config_of(power_disk_disk(power), 1, 1);
    struct journal *journal = open_with(&config);
    struct journal_report report = {0};
    static char bytes[3000];
    struct disk_file *files[200];
    power_disk_watch(power, be_slow, NULL);
    uint64_t id = 0;
    while (report.checkpoints < 3 || id < 200) {
        cr_assert_eq(add_file(journal, ++id), 0);
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
    flush(journal);
    power_disk_watch(power, NULL, NULL);
    struct power_disk *killed = power_disk_kill(power);
    cr_assert_gt(check_marks(power_disk_disk(killed)), 0);
    journal_free(journal);
    power_disk_free(killed);
    power_disk_free(power);
}

/* ---- Errors. ---- */

Test(journal, a_full_disk_refuses_the_append_and_leaves_the_log_as_it_is)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = config_of(power_disk_disk(power), HOUR_MS, UINT64_MAX);
    struct journal *journal = open_with(&config);
    uint64_t id = 0;
    int rc;
    power_disk_set_room(power, 100000);
    do {
        rc = add_file(journal, ++id);
    } while (rc == 0);
    cr_assert_eq(rc, -ENOSPC);
    cr_assert_gt(id, 1000);
    uint64_t bytes = log_bytes(journal);
    uint32_t sum = sum_of(journal);
    cr_assert_eq(add_file(journal, id), -ENOSPC);
    cr_assert(log_bytes(journal) == bytes && sum_of(journal) == sum);
    flush(journal); /* there is room for the MARK */
    for (uint64_t i = 1; i < 1000; i++) {
        struct record forget = {.type = RECORD_FORGET, .id = i};
        cr_assert_eq(journal_append(journal, &forget, NULL), 0, "what frees space goes on");
    }
    flush(journal);
    power_disk_set_room(power, UINT64_MAX);
    cr_assert_eq(add_file(journal, id), 0);
    sum = sum_of(journal);
    journal_free(journal);
    cr_assert_eq(look(config.disk).sum, sum);
    power_disk_free(power);
}

Test(journal, a_full_disk_at_the_next_mount_stops_nothing_but_new_changes)
{
    struct play play;
    struct power_disk *power = recorded(&play, 9, 100);
    power_disk_set_room(power, 100);
    struct journal *journal = open_on(power_disk_disk(power), 1);
    cr_assert_eq(sum_of(journal), play.sums[atomic_load(&play.appended)]);
    while (add_file(journal, journal_new_id(journal)) == 0)
        ; /* the file had some room */
    cr_assert_eq(add_file(journal, journal_new_id(journal)), -ENOSPC);
    flush(journal);
    power_disk_set_room(power, UINT64_MAX);
    cr_assert_eq(add_file(journal, journal_new_id(journal)), 0);
    flush(journal);
    uint32_t sum = sum_of(journal);
    journal_free(journal);
    cr_assert_eq(look(power_disk_disk(power)).sum, sum);
    power_disk_free(power);
    play_release(&play);
}

Test(journal, a_record_that_does_not_fit_is_not_in_the_log)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    struct record forget = {.type = RECORD_FORGET, .id = 5};
    uint64_t bytes = log_bytes(journal);
    cr_assert_eq(journal_append(journal, &forget, NULL), -EBADMSG);
    cr_assert_eq(log_bytes(journal), bytes);
    journal_free(journal);
    power_disk_free(power);
}

Test(journal, after_a_failed_flush_all_fails_loudly_and_what_was_appended_is_found)
{
    struct power_disk *power = power_disk_new();
    struct fault_disk fault;
    fault_disk_init(&fault, power_disk_disk(power));
    struct journal *journal = open_on(&fault.disk, HOUR_MS);
    struct journal_report report;
    WAITER_SCOPED(waiter);
    cr_assert_eq(add_file(journal, 1), 0);
    atomic_store(&fault.flush_rc, -EIO);
    cr_assert_eq(journal_flush(journal, &waiter), -EIO);
    atomic_store(&fault.flush_rc, 0);
    cr_assert_eq(journal_flush(journal, &waiter), -EIO, "pages may be lost: it stays so");
    cr_assert_eq(add_file(journal, 2), -EIO);
    cr_assert_eq(journal_throttle(journal, &waiter), -EIO);
    journal_report(journal, &report);
    cr_assert(report.broken);
    uint32_t sum = sum_of(journal);
    journal_free(journal);
    cr_assert_eq(look(power_disk_disk(power)).sum, sum);
    power_disk_free(power);
}

Test(journal, a_rename_whose_outcome_nobody_knows_hides_nothing)
{
    struct power_disk *power = power_disk_new();
    struct fault_disk fault;
    fault_disk_init(&fault, power_disk_disk(power));
    struct journal_config config = config_of(&fault.disk, 1, 1);
    struct journal *journal = open_with(&config);
    struct journal_report report = {0};
    atomic_store(&fault.rename_rc, -EIO);
    uint64_t id = 0;
    while (!report.broken) {
        int rc = add_file(journal, ++id);
        cr_assert(rc == 0 || rc == -EIO);
        struct record forget = {.type = RECORD_FORGET, .id = id};
        if (rc == 0)
            journal_append(journal, &forget, NULL);
        journal_report(journal, &report);
    }
    uint32_t sum = sum_of(journal);
    cr_assert_eq(add_file(journal, id + 1), -EIO);
    journal_free(journal);
    cr_assert_eq(look(power_disk_disk(power)).sum, sum);
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
    struct journal_config config = config_of(&fault.disk, 1, 2048);
    play_init(&play, seed);
    struct journal *journal = NULL;
    for (int session = 0; session < 2; session++) {
        if (session == 0)
            atomic_store(&fault.fail_nth, n);
        if (journal_open(&config, &journal, &why) < 0)
            continue;
        play_use(&play, config.disk, journal, atomic_load(&play.appended));
        for (int i = 0; i < 60; i++)
            play_step(&play);
        play_leave(&play);
    }
    bool struck = atomic_load(&fault.struck) > 0;
    atomic_store(&fault.fail_nth, -1);
    config.disk = power_disk_disk(power);
    buf_reset(&why);
    cr_assert_eq(journal_open(&config, &journal, &why), 0, "call %ld: %s", n, why.bytes);
    lock_take(journal_lock(journal));
    struct ledger *ledger = journal_ledger_locked(journal);
    ledger_check(ledger);
    size_t appended = atomic_load(&play.appended);
    if (appended > 0)
        cr_assert_eq(play_find(&play, config.disk, ledger, appended, appended, &why), appended,
                     "call %ld: %s", n, why.bytes);
    lock_drop(journal_lock(journal));
    journal_free(journal);
    journal = NULL;
    power_disk_free(power);
    play_release(&play);
    return struck;
}

Test(journal, no_failing_call_of_the_disk_loses_what_append_acknowledged, .timeout = 300)
{
    unsigned seed = seed_and_say();
    long misses = 0, n = 0;
    for (; misses < 20; n++) /* the flusher's calls come at their own times: a few rungs in a row */
        misses = climb(n, seed) ? 0 : misses + 1;
    cr_assert_gt(n, 300);
    fprintf(stderr, "%ld rungs\n", n);
}

/* ---- Waiting. ---- */

Test(journal, a_flush_waits_and_says_why_it_does_not)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    struct waiter waiter;
    waiter_init(&waiter);
    cr_assert_eq(journal_flush(journal, NULL), 0, "nothing is to be flushed");
    cr_assert_eq(add_file(journal, 1), 0);
    cr_assert_eq(journal_flush(journal, NULL), -EAGAIN);
    flush(journal);
    cr_assert_eq(journal_flush(journal, NULL), 0);
    cr_assert_eq(add_file(journal, 2), 0);
    waiter_interrupt(&waiter);
    cr_assert_eq(journal_flush(journal, &waiter), -EINTR);
    waiter_release(&waiter);
    journal_free(journal);
    power_disk_free(power);
}

Test(journal, with_commit_0_changes_wait_for_the_disk)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = open_on(power_disk_disk(power), 0);
    WAITER_SCOPED(waiter);
    for (uint64_t id = 1; id < 50; id++) {
        cr_assert_eq(add_file(journal, id), 0);
        cr_assert_eq(journal_commit(journal, &waiter), 0);
        struct power_disk *cut = power_disk_cut(power, 0);
        cr_assert_eq(look(power_disk_disk(cut)).sum, sum_of(journal));
        power_disk_free(cut);
    }
    journal_free(journal);
    journal = open_on(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(add_file(journal, 100), 0);
    cr_assert_eq(journal_commit(journal, NULL), 0, "else nobody waits");
    journal_free(journal);
    power_disk_free(power);
}

Test(journal, writers_wait_while_too_much_is_not_flushed)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = config_of(power_disk_disk(power), HOUR_MS, 0);
    config.unflushed_max = (uint64_t)1 << 40;
    struct journal *journal = open_with(&config);
    struct disk_file *file;
    WAITER_SCOPED(waiter);
    cr_assert_eq(disk_open(config.disk, "l", DISK_CREATE, &file), 0);
    cr_assert_eq(add_file(journal, 1), 0);
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

/* ---- Local files. ---- */

Test(journal, a_local_file_goes_only_when_the_record_that_gives_it_up_is_on_the_disk)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = open_on(disk, HOUR_MS);
    struct disk_file *file;
    cr_assert_eq(add_file(journal, 1), 0);
    cr_assert_eq(disk_open(disk, "l", DISK_CREATE, &file), 0);
    cr_assert_eq(disk_write(file, "x", 1, 0), 0);
    struct record write = {
        .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2, .local = "l"};
    cr_assert_eq(journal_append(journal, &write, file), 0);
    flush(journal);
    struct record forget = {.type = RECORD_FORGET, .id = 1};
    cr_assert_eq(journal_append(journal, &forget, NULL), 0);
    journal_retire(journal, &file, "l");
    cr_assert_null(file);
    cr_assert(has_name(disk, "l"));
    journal_free(journal);
    cr_assert_not(has_name(disk, "l"));
    power_disk_free(power);
}

Test(journal, small_contents_ride_and_survive_the_power_without_a_flush_of_their_file)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = open_on(disk, HOUR_MS);
    struct disk_file *file;
    cr_assert_eq(add_file(journal, 1), 0);
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
    flush(journal);
    struct power_disk *cut = power_disk_cut(power, 0);
    cr_assert_not(has_name(power_disk_disk(cut), "l"));
    struct journal *found = open_on(power_disk_disk(cut), HOUR_MS);
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

Test(journal, many_that_ride_are_settled_so_that_a_replay_is_short)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal_config config = config_of(disk, 1, UINT64_MAX);
    struct journal *journal = open_with(&config);
    static char bytes[8192];
    struct disk_file *file;
    cr_assert_eq(add_file(journal, 1), 0);
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

Test(journal, a_file_given_up_while_a_flush_goes_on_is_flushed_as_its_records_are)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = open_on(disk, HOUR_MS);
    struct disk_file *files[3];
    for (uint64_t id = 1; id < 3; id++) {
        char name[8];
        snprintf(name, sizeof name, "l%" PRIu64, id);
        cr_assert_eq(add_file(journal, id), 0);
        cr_assert_eq(disk_open(disk, name, DISK_CREATE, &files[id]), 0);
        cr_assert_eq(disk_write(files[id], "x", 1, 0), 0);
        struct record write = {
            .type = RECORD_WRITE, .id = id, .end = 1, .size = 1, .content_version = 2, .local = name};
        cr_assert_eq(journal_append(journal, &write, files[id]), 0);
    }
    struct meddler meddler = {journal, files[2], true};
    power_disk_watch(power, give_up_the_other, &meddler);
    flush(journal);
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

Test(journal, what_comes_during_a_flush_is_not_called_backed_by_it)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = open_on(disk, HOUR_MS);
    struct disk_file *first, *second;
    cr_assert_eq(add_file(journal, 1), 0);
    cr_assert_eq(add_file(journal, 2), 0);
    cr_assert_eq(disk_open(disk, "l1", DISK_CREATE, &first), 0);
    cr_assert_eq(disk_open(disk, "l2", DISK_CREATE, &second), 0);
    struct record write = {
        .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2, .local = "l1"};
    cr_assert_eq(disk_write(first, "x", 1, 0), 0);
    cr_assert_eq(journal_append(journal, &write, first), 0);
    struct meddler meddler = {journal, second, true};
    power_disk_watch(power, write_the_other, &meddler);
    flush(journal);
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

/* ---- The power goes. ---- */

Test(journal, what_another_process_left_unflushed_is_flushed_too)
{
    struct power_disk *power = power_disk_new();
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(add_file(journal, 1), 0);
    uint32_t sum = sum_of(journal);
    struct power_disk *killed = power_disk_kill(power);
    journal_free(journal);
    journal = open_on(power_disk_disk(killed), HOUR_MS);
    flush(journal);
    struct power_disk *cut = power_disk_cut(killed, 0);
    cr_assert_eq(look(power_disk_disk(cut)).sum, sum);
    journal_free(journal);
    power_disk_free(power);
    power_disk_free(killed);
    power_disk_free(cut);
}

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

/* One session, cut at a random call. kill: only the process dies. Returns what is found, with a journal on it. */
static struct power_disk *live(struct play *play, struct power_disk *power, bool kill, char boot[16])
{
    struct journal_config config = config_of(power_disk_disk(power), 1, 2048);
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
    play_use(play, config.disk, open_with(&config), start);
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
    cr_assert_eq(replay_settle(&replay, config.disk, &ledger), 0);
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
    cr_assert_eq(replay_settle(&replay, disk, &ledger), 0);
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
    struct journal_config config = config_of(power_disk_disk(power), 1, 1);
    struct slicer slicer = {.power = power, .play = &play, .nth = n};
    play_init(&play, seed);
    power_disk_watch(power, slice_at, &slicer);
    for (int session = 0; session < 3; session++) { /* each but the first begins with a checkpoint */
        play_use(&play, config.disk, open_with(&config), atomic_load(&play.appended));
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
    unsigned seed = seed_and_say();
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
    struct journal_config config = config_of(power_disk_disk(power), HOUR_MS, 0);
    play_init(&idle, 0);
    config.boot = "second boot";
    power_disk_watch(power, cut_at, &cutter);
    struct journal *journal = open_with(&config);
    flush(journal); /* and so its checkpoint */
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
    struct journal *journal = open_on(power_disk_disk(power), HOUR_MS);
    cr_assert_eq(add_file(journal, 1), 0);
    flush(journal);
    uint32_t sum = sum_of(journal);
    cr_assert_eq(add_file(journal, 2), 0); /* it stands in the log, and nobody called it flushed */
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
    unsigned seed = seed_and_say();
    const char *runs = getenv("SKYVOL_RUNS"); /* more of them: see it alarm */
    for (unsigned i = 0; i < (runs ? strtoul(runs, NULL, 10) : 80); i++) {
        fprintf(stderr, "run %u\r", i);
        live_on(seed + i, 6);
    }
}
