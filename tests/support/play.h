/* play: a small cache's worth of changes on a journal, at random, and what must be found of them afterwards.
 *
 * Files are born, written (riding or not), cut, renamed over each other, confirmed, unlinked and forgotten; bytes come before
 * records. What is small stands in slots of slabs, and moves when it has grown out of one. After each record the sum of the ledger is kept: sums[n] is the state after n records.
 *
 * Threads: one plays. `appended` and `acked` may be read by any: a cut of the power notes them.
 */
#ifndef TESTS_SUPPORT_PLAY_H
#define TESTS_SUPPORT_PLAY_H

#include <stdatomic.h>

#include "cache/journal.h"
#include "cache/slab.h"

#define PLAY_FILES 8

struct play_write { /* that a record spoke of */
    size_t record;
    uint64_t id;
    char local[ACCOUNT_LOCAL_MAX];
    uint64_t start, end;
    unsigned seed;
};

struct play_file {
    uint64_t id; /* 0: none */
    struct disk_file *local;
    char local_name[ACCOUNT_LOCAL_MAX];
    bool named;
};

struct play {
    struct disk *disk; /* of `slabs` */
    struct slabs *slabs;
    struct journal *journal;
    unsigned random;
    unsigned next_local;
    struct play_file files[PLAY_FILES];
    uint32_t *sums;
    size_t sum_room;
    struct play_write *writes;
    size_t write_count, write_room;
    atomic_size_t appended; /* journal_append returned 0 */
    atomic_size_t acked;    /* journal_flush returned 0 */
    int rc;                 /* the first error that was not expected */
};

void play_init(struct play *play, unsigned seed);
void play_release(struct play *play);
/* What a journal is to be opened on that is played with: `below`, and slabs on it, until play_leave(). */
struct disk *play_disk(struct play *play, struct disk *below);
/* From here on with this journal, on play_disk(), whose state is that after `records`. */
void play_use(struct play *play, struct journal *journal, size_t records);
/* The journal, where there is one, is given up, with the local files and the slabs. */
void play_leave(struct play *play);
unsigned play_random(struct play *play, unsigned limit);
/* One change at random, or a flush. Errors end in play->rc; what failed is not counted. */
void play_step(struct play *play);
void play_flush(struct play *play);
/* The number of records, between least and most, after which the state was that of the ledger, with the bytes of its dirty ranges
 * in local files of `disk` (or newer ones, that records of the same file behind it speak of); SIZE_MAX: there is none, and `why`
 * says what differs. */
size_t play_find(struct play *play, struct disk *disk, const struct ledger *ledger, size_t least, size_t most,
                 struct buf *why);

#endif
