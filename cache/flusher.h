/* flusher: the inside of the journal, for journal.c, flusher.c and checkpoint.c only.
 *
 *      appended -----------------------------------> flushed          records, counted since the journal was opened
 *                 back: due files, names    MARK, flush of the tape
 *
 *      sleeping <--> commit | settling a few files | one slice of a checkpoint | removals     in turn
 *
 * One thread flushes; so between the steps of a checkpoint no record is called flushed but by it.
 *
 * A tape of an earlier process (`foreign`) gets no MARK: pages that a failed flush lost look well in memory, and only a new
 * file proves them. So the first thing done is a checkpoint, and nothing is called flushed before. Should it fail (a full
 * disk), the old tape has to do.
 */
#ifndef CACHE_FLUSHER_H
#define CACHE_FLUSHER_H

#include <pthread.h>

#include "cache/checkpoint.h"
#include "cache/journal.h"
#include "cache/unflushed.h"

/* What the journal held at one time: where flushing has got to, or is to get. */
struct moment {
    uint64_t appended; /* records */
    uint64_t sequence; /* of the tape */
    uint64_t end;
};

struct removal { /* of a local file, once `appended` records are flushed */
    struct list link;
    char name[ACCOUNT_LOCAL_MAX];
    uint64_t appended;
};

enum work {
    WORK_NONE,
    WORK_COMMIT,
    WORK_REMOVE,
    WORK_SETTLE,
    WORK_CHECKPOINT,
    WORK_NEW_SETTLE,
    WORK_NEW_CHECKPOINT,
};

struct journal {
    /* Set at birth. */
    struct disk *disk;
    char *source, *boot;
    int64_t commit_ms;
    uint64_t unflushed_max, checkpoint_bytes;
    bool fresh;
    uint64_t replayed;

    /* Under lock. */
    struct lock lock;
    struct gate wake; /* the flusher's */
    struct gate news; /* something was flushed, or never will be */
    struct ledger ledger;
    struct tape tape; /* the file may be flushed without the lock: only the flusher takes another one */
    struct unflushed unflushed;
    struct list removals;
    struct list waits; /* struct journal_wait */
    uint64_t appended, flushed;
    uint64_t moved;       /* `appended` after the last record of journal_moved() */
    uint64_t flushed_end; /* of the tape */
    uint64_t hurry;       /* somebody waits for so many records */
    int64_t due_ms;       /* 0: nothing is to be flushed */
    int64_t since_ms,
        busy_ms;   /* age of the oldest record that no flush works on; of the oldest it works on; 0 none */
    bool mark_due; /* no MARK knows of the last flush yet */
    bool broken, stopping;
    uint64_t checkpoints;

    /* The flusher's. */
    pthread_t thread;
    struct waiter waiter;
    uint64_t number;           /* of the tape's file */
    uint64_t flushed_sequence; /* of the tape */
    uint64_t settled_sequence;
    uint64_t settling_sequence; /* what `settling` will settle */
    struct list settling;       /* riding files at work */
    bool settles;
    bool foreign;
    bool names_due;
    bool full_said;
    int turn; /* of next_work_locked() */
    struct checkpoint checkpoint;
    int64_t checkpoint_ms; /* no earlier */
};

void *flusher_run(void *journal);
/* Local files and names are on the disk, as far as records up to *ret_moment speak of them. An error breaks the journal. */
int flusher_back(struct journal *journal, struct moment *ret_moment);
/* From now on nothing is appended or called flushed. Said once. */
void flusher_break(struct journal *journal, const char *what, int rc);
/* Files that ride now are settled in steps. */
void flusher_begin_settling_locked(struct journal *journal);
/* The next commit begins within in_ms; false: it did already. */
bool flusher_set_due_locked(struct journal *journal, int64_t in_ms);
/* 0: a power cut loses nothing. */
uint64_t flusher_unflushed_locked(const struct journal *journal);

#endif
