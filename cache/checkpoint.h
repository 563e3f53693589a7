/* checkpoint: the next file of the journal, made beside the one in use while records go on being appended to that.
 *
 *      idle -> dumping -> copying -> idle
 *
 *      journal-8:      ... | P ............ M ...... | E            appended meanwhile
 *      journal-9.new:  HEADING BOOT, ledger as of P | copies of P to M | MARK | copies of M to E     <- named, and in use
 *
 * dumping: the ledger, in slices (ledger_dump_begin), while what rode before P is settled, because those records go.
 * copying: records since, until few are left. Then local bytes are flushed as far as records up to a moment M speak of them,
 * these records are copied, MARK says so, all is flushed. What came since is few: under the lock it is copied, the file gets its
 * name, and is the one in use from there on.
 *
 * After the death of the process either file has all that was appended. After a power cut either has all that was called flushed,
 * since nothing is between M and the next flush of names. Only then the old file goes.
 *
 * Errors: before it has its name, the new file goes and the old one stays in use.
 * Threads: the flusher's; the journal's lock is taken for slices.
 */
#ifndef CACHE_CHECKPOINT_H
#define CACHE_CHECKPOINT_H

#include "cache/replay.h"
#include "cache/tape.h"

struct journal;

enum checkpoint_state { CHECKPOINT_IDLE, CHECKPOINT_DUMPING, CHECKPOINT_COPYING };

struct checkpoint {
    enum checkpoint_state state;
    uint64_t number;
    char name[REPLAY_NAME_MAX]; /* until it is in use */
    struct tape tape;
    struct tape_reader old;   /* of records from P on */
    uint64_t dumped_sequence; /* of the last one of the ledger */
    uint64_t flushed_end;     /* of the new file */

    /* Under the journal's lock. */
    struct buf pending; /* dumped, not written */
    int rc;             /* a record that could not be encoded */
};

int checkpoint_begin(struct journal *journal);
/* A slice of the work. 1: the new file is in use. 0: there is more. An error: it was abandoned, or the journal is broken. */
int checkpoint_step(struct journal *journal);
/* Harmless when idle. */
void checkpoint_abandon(struct journal *journal);
/* The first file of a new journal, whole: nothing runs yet. */
int checkpoint_first(struct journal *journal);

#endif
