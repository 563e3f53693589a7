#include "tests/support/scribe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/err.h"
#include "cache/replay.h"
#include "tests/support/ledger_text.h"

static void demand(int rc, const char *what, const char *why)
{
    if (rc == 0)
        return;
    fprintf(stderr, "%s gave %s: %s\n", what, err_name(rc), why);
    abort();
}

unsigned scribe_seed(void)
{
    const char *given = getenv("SKYVOL_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    fprintf(stderr, "SKYVOL_SEED=%u\n", seed);
    return seed;
}

struct journal_config scribe_config(struct disk *disk, int64_t commit_ms, uint64_t checkpoint_bytes)
{
    return (struct journal_config){.disk = disk,
                                   .source = "http://endpoint/bucket/prefix",
                                   .boot = "first boot",
                                   .commit_ms = commit_ms,
                                   .checkpoint_bytes = checkpoint_bytes};
}

struct journal *scribe_open_with(const struct journal_config *config)
{
    BUF_SCOPED why = BUF_INIT;
    struct journal *journal = NULL;
    demand(journal_open(config, &journal, &why), "journal_open", why.bytes);
    return journal;
}

struct journal *scribe_open(struct disk *disk, int64_t commit_ms)
{
    struct journal_config config = scribe_config(disk, commit_ms, 0);
    return scribe_open_with(&config);
}

int scribe_try(const struct journal_config *config, struct buf *why)
{
    struct journal *journal = NULL;
    int rc = journal_open(config, &journal, why);
    journal_free(journal);
    return rc;
}

int scribe_add(struct journal *journal, uint64_t id)
{
    char name[32];
    snprintf(name, sizeof name, "file %" PRIu64, id);
    struct record birth = {.type = RECORD_BIRTH,
                           .id = id,
                           .name = name,
                           .kind = S_IFREG,
                           .attributes = {.mode = S_IFREG | 0644},
                           .attribute_version = 1,
                           .content_version = 1};
    return journal_append(journal, &birth, NULL);
}

void scribe_flush(struct journal *journal)
{
    WAITER_SCOPED(waiter);
    demand(journal_flush(journal, &waiter), "journal_flush", "");
}

uint32_t scribe_sum(struct journal *journal)
{
    LOCK_SCOPED(journal_lock(journal));
    ledger_check(journal_ledger_locked(journal));
    return ledger_sum(journal_ledger_locked(journal));
}

uint64_t scribe_log_bytes(struct journal *journal)
{
    struct journal_report report;
    journal_report(journal, &report);
    return report.log_bytes;
}

struct power_disk *scribe_record(struct play *play, unsigned seed, int steps)
{
    struct power_disk *power = power_disk_new();
    struct journal_config config = scribe_config(power_disk_disk(power), 1, UINT64_MAX);
    play_init(play, seed);
    config.disk = play_disk(play, config.disk);
    play_use(play, scribe_open_with(&config), 0);
    for (int i = 0; i < steps; i++)
        play_step(play);
    demand(play->rc, "a step of the play", "");
    play_leave(play);
    return power;
}

struct scribe_look scribe_look(struct disk *disk)
{
    struct ledger ledger;
    struct replay replay;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    struct scribe_look found = {.rc = replay_run(&replay, disk, NULL, "first boot", &ledger, &why)};
    if (found.rc != 0 && why.length == 0)
        demand(found.rc, "replay_run", "without a word of why");
    ledger_check(&ledger);
    found.sum = ledger_sum(&ledger);
    found.torn = replay.torn;
    found.end = replay.end;
    replay_release(&replay);
    ledger_release(&ledger);
    return found;
}

bool scribe_has(struct disk *disk, const char *name)
{
    struct disk_file *file;
    if (disk_open(disk, name, 0, &file) < 0)
        return false;
    disk_close(file);
    return true;
}
