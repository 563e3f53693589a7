/* scribe: hands for tests that write a journal and look at what stands in it. A hand that fails ends the test, with words.
 *
 * Not here: changes at random and what must be found of them (play.h); disks that fail (power_disk.h, fault_disk.h).
 */
#ifndef TESTS_SUPPORT_SCRIBE_H
#define TESTS_SUPPORT_SCRIBE_H

#include "cache/journal.h"
#include "tests/support/play.h"
#include "tests/support/power_disk.h"

#define HOUR_MS 3600000 /* as commit_ms: nothing is flushed unless it is asked for */

/* SKYVOL_SEED, or of the time; said in stderr. */
unsigned scribe_seed(void);

/* A journal's, of one source, in the "first boot". checkpoint_bytes 0: as usual. */
struct journal_config scribe_config(struct disk *disk, int64_t commit_ms, uint64_t checkpoint_bytes);
struct journal *scribe_open_with(const struct journal_config *config);
struct journal *scribe_open(struct disk *disk, int64_t commit_ms);
/* Opened and closed again: what journal_open said. */
int scribe_try(const struct journal_config *config, struct buf *why);

/* A file is born, named after its id: what journal_append said. */
int scribe_add(struct journal *journal, uint64_t id);
void scribe_flush(struct journal *journal);
/* Of its ledger, which is checked. */
uint32_t scribe_sum(struct journal *journal);
uint64_t scribe_log_bytes(struct journal *journal);

/* A journal of some changes, closed, with one file of its own ("journal-1"): what stands in it is in the order of play->sums. */
struct power_disk *scribe_record(struct play *play, unsigned seed, int steps);

/* What a program that only looks would find, in the same boot. */
struct scribe_look {
    int rc;
    uint32_t sum;
    bool torn;
    uint64_t end;
};
struct scribe_look scribe_look(struct disk *disk);
bool scribe_has(struct disk *disk, const char *name);

#endif
