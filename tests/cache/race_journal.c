/* Threads that append, flush, throttle and retire side by side, over checkpoints, for ThreadSanitizer; and what they left is found. */
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/journal.h"
#include "tests/support/ledger_text.h"
#include "tests/support/power_disk.h"

#define THREADS     4
#define ROUNDS      400
#define CHECKPOINTS 5 /* at least */

struct stage {
    struct disk *disk;
    struct journal *journal;
    int number;
};

static void append(struct stage *stage, const struct record *record, struct disk_file *file)
{
    int rc = journal_append(stage->journal, record, file);
    assert(rc == 0);
}

static void give_birth(struct stage *stage, uint64_t id, const char *name)
{
    struct record record = {.type = RECORD_BIRTH,
                            .id = id,
                            .name = name,
                            .kind = S_IFREG,
                            .attributes = {.mode = S_IFREG | 0644},
                            .attribute_version = 1,
                            .content_version = 1};
    append(stage, &record, NULL);
}

static void write_some(struct stage *stage, uint64_t id, const char *local, struct disk_file *file)
{
    static const char bytes[600];
    for (uint64_t i = 0; i < 5; i++) {
        struct record record = {.type = RECORD_WRITE,
                                .id = id,
                                .start = i * 400,
                                .end = i * 400 + sizeof bytes,
                                .size = i * 400 + sizeof bytes,
                                .content_version = 2 + i,
                                .local = local,
                                .bytes = id % 3 ? bytes : NULL};
        int rc = disk_write(file, bytes, sizeof bytes, i * 400);
        assert(rc == 0);
        append(stage, &record, file);
    }
}

static void live_once(struct stage *stage, int round, struct waiter *waiter)
{
    char name[32], local[32];
    struct disk_file *file;
    uint64_t id = journal_new_id(stage->journal);
    snprintf(name, sizeof name, "%d-%d", stage->number, round);
    snprintf(local, sizeof local, "l%" PRIu64, id);
    give_birth(stage, id, name);
    int rc = disk_open(stage->disk, local, DISK_CREATE, &file);
    assert(rc == 0);
    write_some(stage, id, local, file);
    if (round % 50 == 0)
        rc = journal_flush(stage->journal, waiter);
    else if (round % 7 == 0)
        rc = journal_throttle(stage->journal, waiter);
    assert(rc == 0);
    if (round % 4 == 0 && round < ROUNDS) { /* it stays unsent */
        journal_retire(stage->journal, &file, NULL);
        return;
    }
    struct record forget = {.type = RECORD_FORGET, .id = id};
    append(stage, &forget, NULL);
    journal_retire(stage->journal, &file, local);
}

static void *live(void *argument)
{
    struct stage *stage = argument;
    struct journal_report report;
    struct waiter waiter;
    waiter_init(&waiter);
    int round = 0;
    do {
        live_once(stage, round, &waiter);
        journal_report(stage->journal, &report);
        assert(!report.broken);
    } while (++round < ROUNDS || report.checkpoints < CHECKPOINTS);
    waiter_release(&waiter);
    return NULL;
}

static uint32_t sum_of(struct journal *journal)
{
    LOCK_SCOPED(journal_lock(journal));
    ledger_check(journal_ledger_locked(journal));
    return ledger_sum(journal_ledger_locked(journal));
}

static struct journal *open_on(struct disk *disk)
{
    struct journal_config config = {.disk = disk,
                                    .source = "race",
                                    .boot = "boot",
                                    .commit_ms = 1,
                                    .checkpoint_bytes = 16384,
                                    .unflushed_max = 1 << 20};
    struct journal *journal;
    BUF_SCOPED why = BUF_INIT;
    int rc = journal_open(&config, &journal, &why);
    assert(rc == 0);
    return journal;
}

int main(void)
{
    struct power_disk *power = power_disk_new();
    struct disk *disk = power_disk_disk(power);
    struct journal *journal = open_on(disk);
    struct stage stages[THREADS];
    pthread_t threads[THREADS];
    struct journal_report report;
    for (int i = 0; i < THREADS; i++) {
        stages[i] = (struct stage){disk, journal, i};
        pthread_create(&threads[i], NULL, live, &stages[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    journal_report(journal, &report);
    uint32_t sum = sum_of(journal);
    journal_free(journal);
    journal = open_on(disk);
    assert(sum_of(journal) == sum);
    journal_free(journal);
    power_disk_free(power);
    printf("%" PRIu64 " checkpoints\n", report.checkpoints);
    return 0;
}
