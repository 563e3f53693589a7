#include "cache/flusher.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"

#define SETTLE_MS        50    /* of one step */
#define REMOVE_FILES     64    /* likewise */
#define MARK_PAUSE       100   /* before a MARK that nothing but the last flush needs */
#define CHECKPOINT_PAUSE 10000 /* after one that failed */

void flusher_break(struct journal *journal, const char *what, int rc)
{
    LOCK_SCOPED(&journal->lock);
    if (!journal->broken)
        log_error("journal: %s: %s: changes are refused until the next mount, what was written may be lost "
                  "with the "
                  "power",
                  what, err_name(rc));
    journal->broken = true;
    gate_open(&journal->news);
    gate_open(&journal->wake); /* whom the flusher answers */
}

uint64_t flusher_unflushed_locked(const struct journal *journal)
{
    uint64_t bytes = journal->unflushed.due_bytes + journal->tape.end - journal->flushed_end;
    /* What came while a flush ran may be on the disk already: it counts only with the next MARK. */
    return bytes == 0 && journal->appended > journal->flushed ? 1 : bytes;
}

bool flusher_set_due_locked(struct journal *journal, int64_t in_ms)
{
    int64_t due_ms = clock_ms() + in_ms;
    if (journal->due_ms && journal->due_ms <= due_ms)
        return false;
    journal->due_ms = due_ms;
    return true;
}

/* ---- Local files. ---- */

/* Flushes the first of `files`; -ENOENT: there is none. */
static int flush_one(struct journal *journal, struct list *files)
{
    lock_take(&journal->lock);
    struct unflushed_file *entry = unflushed_take(files);
    lock_drop(&journal->lock);
    if (!entry)
        return -ENOENT;
    int rc = disk_flush(entry->file);
    LOCK_SCOPED(&journal->lock);
    unflushed_done(&journal->unflushed, entry, rc == 0);
    return rc;
}

static int flush_files(struct journal *journal, struct list *files)
{
    int rc;
    do {
        rc = flush_one(journal, files);
        if (rc == 0)
            journal->names_due = true; /* its name may be as new as its bytes */
    } while (rc == 0);
    if (rc == -ENOENT)
        return 0;
    LOCK_SCOPED(&journal->lock);
    unflushed_put_back(&journal->unflushed, files);
    return rc;
}

int flusher_back(struct journal *journal, struct moment *ret_moment)
{
    struct list files = LIST_INIT(files);
    lock_take(&journal->lock);
    *ret_moment = (struct moment){journal->appended, journal->tape.sequence, journal->tape.end};
    unflushed_begin(&journal->unflushed, NEED_DUE, &files);
    lock_drop(&journal->lock);
    int rc = flush_files(journal, &files);
    if (rc == 0 && journal->names_due) {
        rc = journal->disk->ops->flush_names(journal->disk);
        journal->names_due = rc < 0;
    }
    if (rc < 0)
        flusher_break(journal, "flush of local files", rc);
    return rc;
}

void flusher_begin_settling_locked(struct journal *journal)
{
    assert(!journal->settles);
    unflushed_begin(&journal->unflushed, NEED_RIDING, &journal->settling);
    journal->unflushed.riding_bytes = journal->unflushed.riding_files = 0;
    journal->settling_sequence = journal->tape.sequence;
    journal->settles = true;
}

/* A few files, so that a commit does not wait long. Names are flushed by the commit whose MARK tells of it. */
static void settle_some(struct journal *journal)
{
    int64_t until_ms = clock_ms() + SETTLE_MS;
    int rc;
    do {
        rc = flush_one(journal, &journal->settling);
        journal->names_due = journal->names_due || rc == 0;
    } while (rc == 0 && clock_ms() < until_ms);
    if (rc == -ENOENT) {
        LOCK_SCOPED(&journal->lock);
        journal->settles = false;
        journal->settled_sequence = journal->settling_sequence;
        journal->mark_due = true;
    } else if (rc < 0) {
        flusher_break(journal, "flush of local files", rc);
    }
}

/* ---- The tape. ---- */

/* What is backed is said before the flush that makes it L, and what was flushed after it: so one flush of the tape does. Should
 * the power go within it, any of its pages may be there: a MARK that is read, but for records before it that are not, proves
 * nothing of them, because `flushed` speaks of the flush before. A MARK that is read with all before it proves that the local
 * bytes of records up to `backed` are there, because they were flushed before it was written. */
static int append_mark(struct journal *journal, const struct moment *moment, struct moment *ret_mark)
{
    struct record mark = {.type = RECORD_MARK,
                          .flushed = journal->flushed_sequence,
                          .backed = moment->sequence,
                          .settled = journal->settled_sequence};
    LOCK_SCOPED(&journal->lock);
    int rc = tape_append(&journal->tape, &mark);
    *ret_mark = (struct moment){journal->appended, journal->tape.sequence, journal->tape.end};
    return rc;
}

static void begin_commit(struct journal *journal)
{
    LOCK_SCOPED(&journal->lock);
    journal->busy_ms = journal->busy_ms ? journal->busy_ms : journal->since_ms;
    journal->since_ms = 0;
    journal->due_ms = 0; /* what comes from here on sets it anew */
}

static void end_commit(struct journal *journal, const struct moment *moment, const struct moment *mark)
{
    LOCK_SCOPED(&journal->lock);
    /* The last one needs another MARK to be known as flushed, when nothing comes that brings one. */
    journal->mark_due = moment->appended > journal->flushed;
    journal->flushed = moment->appended;
    journal->flushed_end = mark->end;
    journal->flushed_sequence = mark->sequence;
    journal->busy_ms = 0;
    if (journal->mark_due)
        flusher_set_due_locked(journal, MARK_PAUSE);
    if (journal->appended > journal->flushed)
        flusher_set_due_locked(journal, journal->commit_ms);
    gate_open(&journal->news);
}

/* The records are there and in the log; only the MARK found no room. Once more when something went; at the end never. */
static void put_off(struct journal *journal, int rc)
{
    if (!journal->full_said)
        log_warn("journal: no room for a mark: %s, nothing is called flushed until there is", err_name(rc));
    journal->full_said = true;
    lock_take(&journal->lock);
    bool stopping = journal->stopping;
    journal->due_ms = clock_ms() + MARK_PAUSE;
    journal->hurry = 0;
    lock_drop(&journal->lock);
    if (stopping)
        flusher_break(journal, "last mark", rc);
}

static void commit(struct journal *journal)
{
    struct moment moment, mark;
    begin_commit(journal);
    if (flusher_back(journal, &moment) < 0)
        return;
    int rc = append_mark(journal, &moment, &mark);
    if (rc == -ENOSPC || rc == -EDQUOT) {
        put_off(journal, rc);
        return;
    }
    journal->full_said = false;
    if (rc == 0)
        rc = disk_flush(journal->tape.file);
    if (rc < 0)
        flusher_break(journal, "flush of the log", rc);
    else
        end_commit(journal, &moment, &mark);
}

/* ---- Checkpoints. ---- */

static bool wants_checkpoint_locked(const struct journal *journal)
{
    uint64_t log = journal->tape.end;
    return log > journal->checkpoint_bytes && log > 2 * journal->ledger.bytes &&
           clock_ms() >= journal->checkpoint_ms;
}

static void hear_checkpoint(struct journal *journal, int rc)
{
    if (rc == 0)
        return;
    journal->foreign = false;
    if (rc > 0)
        return;
    journal->checkpoint_ms = clock_ms() + CHECKPOINT_PAUSE;
    lock_take(&journal->lock);
    bool broken = journal->broken;
    lock_drop(&journal->lock);
    if (!broken)
        log_warn("journal: checkpoint: %s, the log goes on growing", err_name(rc));
}

static void begin_checkpoint(struct journal *journal)
{
    int rc = checkpoint_begin(journal);
    if (rc < 0)
        hear_checkpoint(journal, rc);
}

/* ---- Removals. ---- */

static struct removal *take_removal_locked(struct journal *journal)
{
    struct list *first = journal->removals.next;
    struct removal *removal = container_of(first, struct removal, link);
    if (first == &journal->removals || removal->appended > journal->flushed)
        return NULL;
    list_remove(first);
    return removal;
}

/* A few: then something else may be due. */
static void remove_files(struct journal *journal)
{
    for (int i = 0; i < REMOVE_FILES; i++) {
        lock_take(&journal->lock);
        struct removal *removal = take_removal_locked(journal);
        lock_drop(&journal->lock);
        if (!removal)
            return;
        int rc = journal->disk->ops->remove(journal->disk, removal->name);
        if (rc < 0 && rc != -ENOENT)
            log_warn("journal: remove of local file %s: %s, its space stays taken", removal->name,
                     err_name(rc));
        free(removal);
    }
}

static bool has_removals_locked(const struct journal *journal)
{
    return !list_empty(&journal->removals) &&
           container_of(journal->removals.next, struct removal, link)->appended <= journal->flushed;
}

/* ---- Those who wait without a thread. ---- */

/* The lock is dropped around each answer. */
static void answer_waits_locked(struct journal *journal, bool all)
{
    struct list answered = LIST_INIT(answered);
    list_for_each_safe (at, after, &journal->waits) {
        const struct journal_wait *wait = container_of(at, struct journal_wait, link);
        if (!all && !journal->broken && wait->appended > journal->flushed)
            continue;
        list_remove(at);
        list_append(&answered, at);
    }
    uint64_t flushed = journal->flushed;
    struct list *first;
    while ((first = list_pop(&answered))) {
        struct journal_wait *wait = container_of(first, struct journal_wait, link);
        lock_drop(&journal->lock);
        wait->flushed(wait, wait->appended <= flushed ? 0 : -EIO);
        lock_take(&journal->lock);
    }
}

/* ---- The thread. ---- */

static bool commit_is_due_locked(const struct journal *journal)
{
    bool anything = journal->appended > journal->flushed || journal->mark_due;
    if (journal->foreign || !anything)
        return false;
    return journal->stopping || journal->hurry > journal->flushed ||
           (journal->due_ms && clock_ms() >= journal->due_ms);
}

/* What takes long, and goes on in steps. */
static enum work next_step_locked(const struct journal *journal)
{
    if (journal->stopping)
        return WORK_NONE;
    if (journal->settles)
        return WORK_SETTLE;
    if (journal->checkpoint.state != CHECKPOINT_IDLE)
        return WORK_CHECKPOINT;
    if (journal->foreign || wants_checkpoint_locked(journal))
        return WORK_NEW_CHECKPOINT;
    if (journal->unflushed.riding_bytes > RIDING_BYTES || journal->unflushed.riding_files > RIDING_FILES)
        return WORK_NEW_SETTLE;
    return WORK_NONE;
}

/* In turn, so that nothing waits for ever: where a commit is due as soon as the last one has ended, the log would grow without
 * end. When stopping, only what must be is done. */
static enum work next_work_locked(struct journal *journal)
{
    if (journal->broken)
        return WORK_NONE;
    if (journal->stopping)
        journal->foreign = false;
    const enum work ready[] = {
        commit_is_due_locked(journal) ? WORK_COMMIT : WORK_NONE,
        has_removals_locked(journal) ? WORK_REMOVE : WORK_NONE,
        next_step_locked(journal),
    };
    for (int i = 1; i <= 3; i++) {
        int turn = (journal->turn + i) % 3;
        if (ready[turn] == WORK_NONE)
            continue;
        journal->turn = turn;
        return ready[turn];
    }
    return WORK_NONE;
}

static void do_work(struct journal *journal, enum work work)
{
    if (work == WORK_COMMIT)
        commit(journal);
    else if (work == WORK_REMOVE)
        remove_files(journal);
    else if (work == WORK_SETTLE)
        settle_some(journal);
    else if (work == WORK_CHECKPOINT)
        hear_checkpoint(journal, checkpoint_step(journal));
    else if (work == WORK_NEW_CHECKPOINT)
        begin_checkpoint(journal);
}

static void sleep_locked(struct journal *journal)
{
    int64_t due_ms = journal->due_ms ? journal->due_ms : CLOCK_NEVER;
    if (journal->broken)
        due_ms = CLOCK_NEVER;
    gate_wait_locked(&journal->wake, &journal->lock, &journal->waiter, due_ms);
}

void *flusher_run(void *argument)
{
    struct journal *journal = argument;
    lock_take(&journal->lock);
    for (;;) {
        answer_waits_locked(journal, false);
        enum work work = next_work_locked(journal);
        if (work == WORK_NONE && journal->stopping)
            break;
        if (work == WORK_NONE) {
            sleep_locked(journal);
        } else if (work == WORK_NEW_SETTLE) {
            flusher_begin_settling_locked(journal);
        } else {
            lock_drop(&journal->lock);
            do_work(journal, work);
            lock_take(&journal->lock);
        }
    }
    answer_waits_locked(journal, true);
    lock_drop(&journal->lock);
    checkpoint_abandon(journal);
    return NULL;
}
