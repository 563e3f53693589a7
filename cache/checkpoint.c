#include "cache/checkpoint.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/flusher.h"

#define SLICE_BYTES ((size_t)64 << 10)  /* of the ledger, under the lock: about 100 us */
#define COPY_BYTES  ((uint64_t)1 << 20) /* of one step */
#define STEP_MS     50
#define LAST_BYTES  ((uint64_t)64 << 10) /* that may be copied under the lock */
#define FLUSH_BYTES ((uint64_t)8 << 20)  /* of one flush, but for the last */

static void set_state(struct checkpoint *checkpoint, enum checkpoint_state state)
{
    static const bool edges[3][3] = {
        [CHECKPOINT_IDLE] = {[CHECKPOINT_DUMPING] = true},
        [CHECKPOINT_DUMPING] = {[CHECKPOINT_COPYING] = true, [CHECKPOINT_IDLE] = true},
        [CHECKPOINT_COPYING] = {[CHECKPOINT_IDLE] = true},
    };
    assert(edges[checkpoint->state][state]);
    checkpoint->state = state;
}

/* ---- Writing. ---- */

/* In pieces, so that none takes long: commits go on in between. */
static int flush_some(struct checkpoint *checkpoint)
{
    if (checkpoint->tape.end - checkpoint->flushed_end < FLUSH_BYTES)
        return 0;
    checkpoint->flushed_end = checkpoint->tape.end;
    return disk_flush(checkpoint->tape.file);
}

static int put(struct checkpoint *checkpoint, const struct buf *bytes)
{
    return bytes->length ? tape_put(&checkpoint->tape, bytes) : 0;
}

/* The tape has one of its own. */
static void hear_dump(void *context, const struct record *record)
{
    struct checkpoint *checkpoint = context;
    if (record->type == RECORD_HEADING || checkpoint->rc < 0)
        return;
    checkpoint->rc = tape_encode(&checkpoint->tape, record, &checkpoint->pending);
}

static int dump_slice(struct journal *journal)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    BUF_SCOPED bytes = BUF_INIT;
    lock_take(&journal->lock);
    bool more = ledger_dump_more(&journal->ledger, SLICE_BYTES);
    bytes = checkpoint->pending;
    checkpoint->pending = (struct buf)BUF_INIT;
    int rc = checkpoint->rc;
    lock_drop(&journal->lock);
    if (rc == 0)
        rc = put(checkpoint, &bytes);
    if (rc < 0 || more)
        return rc;
    checkpoint->dumped_sequence = checkpoint->tape.sequence;
    set_state(checkpoint, CHECKPOINT_COPYING);
    return 0;
}

/* ---- Copying. ---- */

/* Records of the old tape that end at or before `limit`, about `bytes` of them. A MARK speaks of its own file only. */
static int copy(struct journal *journal, uint64_t limit, uint64_t bytes)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    uint64_t from = tape_reader_at(&checkpoint->old);
    BUF_SCOPED copied = BUF_INIT;
    struct record record;
    int rc = 0;
    while (rc == 0 && tape_reader_at(&checkpoint->old) - from < bytes) {
        rc = tape_read(&checkpoint->old, limit, &record);
        if (rc <= 0)
            break;
        rc = record.type == RECORD_MARK ? 0 : tape_encode(&checkpoint->tape, &record, &copied);
    }
    if (rc == -ENODATA)
        rc = -EBADMSG; /* we wrote it whole */
    return rc < 0 ? rc : put(checkpoint, &copied);
}

static int copy_up_to(struct journal *journal, uint64_t limit)
{
    int rc = 0;
    while (rc == 0 && tape_reader_at(&journal->checkpoint.old) < limit)
        rc = copy(journal, limit, COPY_BYTES);
    return rc;
}

/* A step of it: what stands there now. What is being appended is not looked at. */
static int copy_some(struct journal *journal, uint64_t *ret_left)
{
    lock_take(&journal->lock);
    uint64_t limit = journal->tape.end;
    lock_drop(&journal->lock);
    int rc = copy(journal, limit, COPY_BYTES);
    *ret_left = limit - tape_reader_at(&journal->checkpoint.old);
    return rc;
}

/* ---- The change of files. ---- */

/* All that is in the new file is on the disk, and says so. */
static int seal(struct checkpoint *checkpoint)
{
    struct record mark = {.type = RECORD_MARK,
                          .flushed = checkpoint->tape.sequence,
                          .backed = checkpoint->tape.sequence,
                          .settled = checkpoint->dumped_sequence};
    int rc = tape_make_room(&checkpoint->tape);
    if (rc == 0)
        rc = tape_append(&checkpoint->tape, &mark);
    return rc < 0 ? rc : disk_flush(checkpoint->tape.file);
}

/* *ret_unsure: it failed, but may have happened: the name would hide what is appended to the old file. */
static int name_file(struct journal *journal, struct checkpoint *checkpoint, bool *ret_unsure)
{
    char name[REPLAY_NAME_MAX];
    replay_print_name(checkpoint->number, false, name);
    int rc = journal->disk->ops->rename(journal->disk, checkpoint->name, name);
    *ret_unsure = rc < 0 && journal->disk->ops->remove(journal->disk, name) != -ENOENT;
    return rc;
}

/* In one hold, so that no record is appended between its last copy and the name. */
static int switch_files(struct journal *journal, uint64_t sealed_end, uint64_t sealed_sequence,
                        struct tape *ret_old, bool *ret_unsure)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    LOCK_SCOPED(&journal->lock);
    int rc = journal->tape.torn ? -EIO : copy_up_to(journal, journal->tape.end);
    if (rc == 0)
        rc = name_file(journal, checkpoint, ret_unsure);
    if (rc < 0)
        return rc;
    *ret_old = journal->tape;
    journal->tape = checkpoint->tape;
    checkpoint->tape = (struct tape){0};
    journal->flushed_end = sealed_end;
    journal->flushed_sequence = sealed_sequence;
    journal->settled_sequence = checkpoint->dumped_sequence;
    journal->names_due = true;
    journal->mark_due = true; /* also where nothing was appended: the names are to be flushed */
    journal->checkpoints++;
    return 0;
}

static void remove_old(struct journal *journal, uint64_t number)
{
    char name[REPLAY_NAME_MAX];
    replay_print_name(number, false, name);
    int rc = journal->disk->ops->remove(journal->disk, name);
    if (rc < 0)
        log_warn("journal: remove of %s: %s, it goes when the journal is opened again", name, err_name(rc));
}

/* It has its name in memory; once that is on the disk the old one is not needed. */
static int end(struct journal *journal, struct tape *old)
{
    uint64_t number = journal->number;
    struct checkpoint *checkpoint = &journal->checkpoint;
    struct moment moment;
    tape_release(old);
    tape_reader_release(&checkpoint->old);
    set_state(checkpoint, CHECKPOINT_IDLE);
    journal->number = checkpoint->number;
    int rc = flusher_back(journal, &moment);
    if (rc == 0)
        remove_old(journal, number);
    return rc;
}

/* What rode before P is settled: the flusher does that before all steps. */
static int finish(struct journal *journal)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    struct moment moment;
    struct tape old;
    bool unsure = false;
    assert(!journal->settles);
    int rc = flusher_back(journal, &moment);
    if (rc == 0)
        rc = copy_up_to(journal, moment.end);
    if (rc == 0)
        rc = seal(checkpoint);
    uint64_t sealed_end = checkpoint->tape.end, sealed_sequence = checkpoint->tape.sequence;
    for (uint64_t left = UINT64_MAX; rc == 0 && left > LAST_BYTES;) /* it came while that was flushed */
        rc = copy_some(journal, &left);
    if (rc == 0)
        rc = switch_files(journal, sealed_end, sealed_sequence, &old, &unsure);
    if (unsure)
        flusher_break(journal, "rename of the new log", rc);
    return rc < 0 ? rc : end(journal, &old);
}

/* ---- Steps. ---- */

static int begin_tape(struct journal *journal, uint64_t number)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    lock_take(&journal->lock);
    uint64_t next_id = journal->ledger.next_id;
    lock_drop(&journal->lock);
    checkpoint->number = number;
    replay_print_name(number, true, checkpoint->name);
    return tape_begin(&checkpoint->tape, journal->disk, checkpoint->name, journal->source, next_id,
                      journal->boot);
}

static void drop_tape(struct journal *journal)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    if (!checkpoint->tape.file)
        return;
    tape_release(&checkpoint->tape);
    journal->disk->ops->remove(journal->disk, checkpoint->name);
}

int checkpoint_begin(struct journal *journal)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    assert(!journal->settles);
    int rc = begin_tape(journal, journal->number + 1);
    if (rc < 0) {
        drop_tape(journal);
        return rc;
    }
    LOCK_SCOPED(&journal->lock);
    checkpoint->rc = 0;
    checkpoint->flushed_end = 0;
    checkpoint->pending = (struct buf)BUF_INIT;
    ledger_dump_begin(&journal->ledger, hear_dump, checkpoint);
    flusher_begin_settling_locked(journal);
    tape_reader_init(&checkpoint->old, journal->tape.file, journal->tape.salt, journal->tape.sequence,
                     journal->tape.end);
    set_state(checkpoint, CHECKPOINT_DUMPING);
    return 0;
}

void checkpoint_abandon(struct journal *journal)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    if (checkpoint->state == CHECKPOINT_IDLE)
        return;
    lock_take(&journal->lock);
    ledger_dump_end(&journal->ledger);
    buf_release(&checkpoint->pending);
    lock_drop(&journal->lock);
    tape_reader_release(&checkpoint->old);
    drop_tape(journal);
    set_state(checkpoint, CHECKPOINT_IDLE);
}

/* 1: only the end is left to do. */
static int work_some(struct journal *journal)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    uint64_t left = UINT64_MAX;
    int rc = checkpoint->state == CHECKPOINT_DUMPING ? dump_slice(journal) : copy_some(journal, &left);
    if (rc == 0)
        rc = flush_some(checkpoint);
    return rc == 0 && left < COPY_BYTES ? 1 : rc;
}

/* By time, not by bytes: it must be faster than those who append meanwhile. */
int checkpoint_step(struct journal *journal)
{
    int64_t until_ms = clock_ms() + STEP_MS;
    int rc;
    do {
        rc = work_some(journal);
    } while (rc == 0 && clock_ms() < until_ms);
    bool ends = rc == 1;
    if (ends)
        rc = finish(journal);
    if (rc < 0)
        checkpoint_abandon(journal);
    return rc < 0 ? rc : ends;
}

int checkpoint_first(struct journal *journal)
{
    struct checkpoint *checkpoint = &journal->checkpoint;
    struct tape none;
    bool unsure;
    int rc = begin_tape(journal, 1);
    if (rc == 0) {
        checkpoint->dumped_sequence = checkpoint->tape.sequence;
        rc = seal(checkpoint);
    }
    if (rc == 0)
        rc = switch_files(journal, checkpoint->tape.end, checkpoint->tape.sequence, &none, &unsure);
    drop_tape(journal);
    if (rc < 0)
        return rc;
    journal->number = 1;
    journal->names_due = journal->mark_due = false;
    journal->checkpoints = 0;
    return journal->disk->ops->flush_names(journal->disk);
}
