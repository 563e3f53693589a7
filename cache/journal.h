/* journal: the append-only log in the cache directory that makes what is wanted survive, and its checkpoints.
 *
 *      journal_append(record) --> ledger (in memory) --> write(2) at the end of the tape                       grade P
 *      the flusher, every `commit`: local files that are due, names, MARK, the tape                            grade L
 *      log > CHECKPOINT_BYTES and > 2 x the ledger: journal-9.new is written whole, flushed, and becomes journal-9; journal-8 goes
 *
 * A MARK says what is on the disk before it, and is itself part of the flush that makes it L. When nothing more comes, another
 * one says so of all. See replay.h for what opening does with them, checkpoint.h for how a file follows another one.
 *
 * Use: bytes first (disk_write into the local file), then the record, then the reply. The record of a change is appended under
 *      the lock under which the change is made, so that the log has them in the same order. A file's contents ride (bytes in
 *      the WRITE record, and in the local file all the same) while it is at most RECORD_RIDE_MAX large.
 *      Bytes of a local file that were flushed stay until the record that gives them up is: nothing of it is truncated or
 *      punched in place (take a new file for O_TRUNC; what is not in `present` is not read), it is removed by journal_retire().
 *      One record makes a change, whole or not at all: BIRTH for a creation, NODE with `replaced` for a rename over another file. What has
 *      no account yet gets one first: NODE of each directory above it, of itself, ATTRIBUTES, RESTATED; a file without the last of
 *      these was opened only, and nothing of it is sent (account.h).
 * Owns: the ledger, the tape, files that were retired. The disk is the caller's.
 * Threads: any, with any lock up to LOCK_INODE held; those that take a waiter wait, and so hold none. The flusher is its own.
 *      No append waits, also not with commit_ms 0: it may be called with locks. journal_commit() waits, after they are dropped.
 * Errors: an append that fails changed nothing: -ENOSPC, -EDQUOT (records that free space: REMOTE, RESTATED, PART, UPLOAD_END, TRYING, FORGET
 *      find room much longer), -EBADMSG (it does not fit: a bug, said in the log), -E2BIG and -EMSGSIZE (ledger.h, record.h).
 *      Once a flush has failed, pages may be lost: said once, and all fail with -EIO until the journal is opened again.
 */
#ifndef CACHE_JOURNAL_H
#define CACHE_JOURNAL_H

#include "base/disk.h"
#include "base/list.h"
#include "base/waiter.h"
#include "cache/ledger.h"

#define CHECKPOINT_BYTES ((uint64_t)16 << 20)
/* What rides is settled (its local files flushed) when there is more than this of it: so a replay has no more to settle. */
#define RIDING_BYTES ((uint64_t)8 << 20)
#define RIDING_FILES ((uint64_t)2048)

struct journal;

struct journal_config {
    struct disk *disk;         /* the caller's; outlives the journal */
    const char *source;        /* what HEADING must say; another one: -EXDEV */
    const char *boot;          /* of this host: /proc/sys/kernel/random/boot_id; "" not known */
    int64_t commit_ms;         /* 100; 0: flushing begins at once, and journal_commit() waits for it */
    uint64_t unflushed_max;    /* bytes of local files and log: see journal_throttle(); 0: 256 MiB */
    uint64_t checkpoint_bytes; /* 0: CHECKPOINT_BYTES */
};

/* Opens or makes it, and replays it. A new checkpoint begins behind: until then the old file is only added to. -EXDEV (another
 * source), -EPROTO (a newer format), -EBADMSG (corruption), else of the disk: nothing was changed by the first three; `why` has a line. */
int journal_open(const struct journal_config *config, struct journal **ret_journal, struct buf *why);
/* Flushes and ends. Retired files are closed and removed, unless a flush failed. */
void journal_free(struct journal *journal);

/* What was found, and what has been added since. With journal_lock() held. */
struct ledger *journal_ledger_locked(struct journal *journal);
struct lock *journal_lock(struct journal *journal);

/* The account is there (forgotten ones that others stand in too). */
bool journal_knows(struct journal *journal, uint64_t id);
/* A number for a new account. */
uint64_t journal_new_id(struct journal *journal);
/* The record is in the log and in the ledger. `file`: whose bytes a WRITE speaks of, or a RESTATED that says that they stand in
 * another local file than before, or that more of them are dirty, else NULL; it must stay open until journal_retire(). */
int journal_append(struct journal *journal, const struct record *record, struct disk_file *file);
/* Takes a file. `name` NULL: it stays on the disk, and is closed when what was written is flushed. Else all records that needed
 * it have been given up: it is closed, and removed once everything appended so far is on the disk. */
void journal_retire(struct journal *journal, struct disk_file **file, const char *name);

/* All that was appended so far is on the disk. 0, -EINTR, -EAGAIN (no waiter), -EIO. */
int journal_flush(struct journal *journal, struct waiter *waiter);
/* With commit_ms 0 the same, else 0 at once: what close and changes of names call before they reply, without a lock. */
int journal_commit(struct journal *journal, struct waiter *waiter);
struct journal_wait {
    struct list link; /* the journal's */
    uint64_t appended;
    void (*flushed)(struct journal_wait *wait, int rc); /* 0, -EIO; holds no lock, must not block */
};

/* All that was appended so far is to be flushed, at once; how far that is, for journal_await(). */
uint64_t journal_hurry(struct journal *journal);
/* The same without hurry: up to the last time that something lost its name, or something known to the journal changed it, or one that
 * overwrites nothing, and was never sent, ended. */
uint64_t journal_moved(struct journal *journal);
/* flushed() is called when so much is: before this returns, or on the flusher's thread, which then has forgotten `wait`. */
void journal_await(struct journal *journal, struct journal_wait *wait);
/* Waits while more than unflushed_max is not flushed: what writers call, without a lock. 0, -EINTR, -EAGAIN, -EIO. */
int journal_throttle(struct journal *journal, struct waiter *waiter);

struct journal_report {
    bool fresh;  /* no journal was found: local files that stand there are nobody's */
    bool broken; /* a flush failed */
    uint64_t accounts, log_bytes, unflushed_bytes;
    int64_t oldest_unflushed_ms; /* age; 0: all is flushed */
    uint64_t checkpoints;        /* since it was opened */
    uint64_t records_replayed;
};
void journal_report(struct journal *journal, struct journal_report *ret_report);

#endif
