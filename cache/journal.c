#include "cache/journal.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/flusher.h"

#define UNFLUSHED_MAX ((uint64_t)256 << 20)

/* ---- Opening. ---- */

static struct journal *make_journal(const struct journal_config *config)
{
    struct journal *journal = xcalloc(1, sizeof *journal);
    journal->disk = config->disk;
    journal->source = xstrdup(config->source);
    journal->boot = xstrdup(config->boot ? config->boot : "");
    journal->commit_ms = config->commit_ms;
    journal->unflushed_max = config->unflushed_max ? config->unflushed_max : UNFLUSHED_MAX;
    journal->checkpoint_bytes = config->checkpoint_bytes ? config->checkpoint_bytes : CHECKPOINT_BYTES;
    lock_init(&journal->lock, LOCK_JOURNAL, "journal");
    gate_init(&journal->wake);
    gate_init(&journal->news);
    ledger_init(&journal->ledger);
    unflushed_init(&journal->unflushed);
    list_init(&journal->removals);
    list_init(&journal->waits);
    list_init(&journal->settling);
    waiter_init(&journal->waiter);
    return journal;
}

static void release_journal(struct journal *journal)
{
    struct list *link;
    while ((link = list_pop(&journal->removals)))
        free(container_of(link, struct removal, link)); /* they go when it is opened again */
    unflushed_release(&journal->unflushed);
    tape_release(&journal->tape);
    ledger_release(&journal->ledger);
    waiter_release(&journal->waiter);
    gate_release(&journal->wake);
    gate_release(&journal->news);
    lock_release(&journal->lock);
    free(journal->source);
    free(journal->boot);
    free(journal);
}

struct leftovers {
    uint64_t number; /* the one that stays */
    char **names;
    size_t count;
};

static int note_leftover(void *context, const char *name)
{
    struct leftovers *leftovers = context;
    uint64_t number;
    bool is_new;
    if (!replay_parse_name(name, &number, &is_new) || (number == leftovers->number && !is_new))
        return 0;
    leftovers->names = xrealloc(leftovers->names, (leftovers->count + 1) * sizeof leftovers->names[0]);
    leftovers->names[leftovers->count++] = xstrdup(name);
    return 0;
}

/* Older files, and new ones that never got their name. Where one stays it harms nobody. */
static void remove_leftovers(struct journal *journal)
{
    struct leftovers leftovers = {.number = journal->number};
    int rc = journal->disk->ops->list(journal->disk, note_leftover, &leftovers);
    for (size_t i = 0; i < leftovers.count; i++) {
        int removed = journal->disk->ops->remove(journal->disk, leftovers.names[i]);
        rc = rc < 0 ? rc : removed;
        free(leftovers.names[i]);
    }
    free(leftovers.names);
    if (rc < 0)
        log_warn("journal: remove of old files: %s", err_name(rc));
}

static void tell_losses(const struct replay *replay)
{
    if (replay->torn)
        log_warn("journal: %s: a torn tail was cut at byte %" PRIu64, replay->name, replay->end);
    if (replay->lost)
        log_warn("journal: %s: the host went down: the last %" PRIu64
                 " changes were not flushed and do not count",
                 replay->name, replay->lost);
}

/* The file that was found is added to, until a checkpoint takes its place. */
static int resume(struct journal *journal, struct replay *replay)
{
    struct record boot = {.type = RECORD_BOOT, .boot = journal->boot, .kept = replay->kept};
    bool other = *journal->boot && strcmp(journal->boot, replay->boot) != 0;
    int rc = replay_settle(replay, journal->disk, &journal->ledger);
    if (rc == 0)
        rc = tape_resume(&journal->tape, &replay->file, replay->salt, replay->sequence, replay->end,
                         replay->size, replay->torn);
    if (rc == 0 && other)
        rc = tape_append(&journal->tape, &boot);
    if (rc < 0)
        return rc;
    tell_losses(replay);
    journal->number = replay->number;
    journal->replayed = replay->sequence;
    journal->flushed_end = journal->tape.end;
    journal->flushed_sequence = replay->flushed;
    journal->settled_sequence = journal->tape.sequence;
    journal->foreign = true;
    /* What was found may not be flushed either: it counts as one record that is not. */
    journal->appended = 1;
    journal->since_ms = clock_ms();
    flusher_set_due_locked(journal, journal->commit_ms);
    remove_leftovers(journal);
    return 0;
}

static int start(struct journal *journal, struct replay *replay, struct buf *why)
{
    int rc = replay->found ? resume(journal, replay) : checkpoint_first(journal);
    journal->fresh = !replay->found;
    if (rc == 0)
        rc = -pthread_create(&journal->thread, NULL, flusher_run, journal);
    if (rc < 0)
        buf_printf(why, "the journal cannot be written: %s", err_text(rc));
    return rc;
}

/* HEADING has told it; a new one is told here. */
static void set_source(struct journal *journal)
{
    if (!journal->ledger.source)
        journal->ledger.source = xstrdup(journal->source);
}

int journal_open(const struct journal_config *config, struct journal **ret_journal, struct buf *why)
{
    struct journal *journal = make_journal(config);
    struct replay replay;
    int rc = replay_run(&replay, config->disk, config->source, journal->boot, &journal->ledger, why);
    set_source(journal);
    if (rc == 0)
        rc = start(journal, &replay, why);
    replay_release(&replay);
    if (rc == 0)
        *ret_journal = journal;
    else
        release_journal(journal);
    return rc;
}

void journal_free(struct journal *journal)
{
    if (!journal)
        return;
    lock_take(&journal->lock);
    journal->stopping = true;
    gate_open(&journal->wake);
    lock_drop(&journal->lock);
    pthread_join(journal->thread, NULL);
    release_journal(journal);
}

struct ledger *journal_ledger_locked(struct journal *journal)
{
    assert(lock_held(&journal->lock));
    return &journal->ledger;
}

struct lock *journal_lock(struct journal *journal)
{
    return &journal->lock;
}

/* ---- Appending. ---- */

bool journal_knows(struct journal *journal, uint64_t id)
{
    LOCK_SCOPED(&journal->lock);
    return ledger_find(&journal->ledger, id) != NULL;
}

uint64_t journal_new_id(struct journal *journal)
{
    LOCK_SCOPED(&journal->lock);
    return journal->ledger.next_id++;
}

/* The flusher knows when to look. */
static void note_append_locked(struct journal *journal)
{
    journal->appended++;
    if (!journal->since_ms)
        journal->since_ms = clock_ms();
    bool sooner = flusher_set_due_locked(journal, journal->commit_ms);
    bool much = flusher_unflushed_locked(journal) > journal->unflushed_max / 2;
    if (much)
        journal->hurry = journal->appended;
    if (sooner || much)
        gate_open(&journal->wake);
}

/* It fits, and stands in the log. */
static int log_record_locked(struct journal *journal, const struct record *record)
{
    BUF_SCOPED why = BUF_INIT;
    int rc = journal->broken ? -EIO : ledger_admits(&journal->ledger, record, &why);
    if (rc == -EBADMSG)
        log_error("journal: refused: %s", why.bytes);
    return rc < 0 ? rc : tape_append(&journal->tape, record);
}

/* Of the local file that it speaks of. */
static uint64_t bytes_of(const struct record *record)
{
    return record->type == RECORD_WRITE ? record->end - record->start : extents_bytes(record->dirty);
}

static int append_locked(struct journal *journal, const struct record *record, struct disk_file *file)
{
    BUF_SCOPED why = BUF_INIT;
    int rc = log_record_locked(journal, record);
    if (rc < 0)
        return rc;
    rc = ledger_apply(&journal->ledger, record, &why);
    assert(rc == 0);
    if (file)
        unflushed_note(&journal->unflushed, file, bytes_of(record), record->bytes != NULL);
    note_append_locked(journal);
    return 0;
}

/* Whoever comes after it under the name that it had must not be sent before the disk knows: with it there, and an older journal, our
 * own object would be taken for another client's. */
static bool moves_locked(const struct journal *journal, const struct record *record)
{
    const struct account *account = ledger_find(&journal->ledger, record->id);
    bool nameless = !record->name || !*record->name;

    if (record->type == RECORD_FORGET)
        return account && account->exclusive;
    return record->type == RECORD_NODE && (nameless || account);
}

int journal_append(struct journal *journal, const struct record *record, struct disk_file *file)
{
    lock_take(&journal->lock);
    bool moves = moves_locked(journal, record);
    int rc = append_locked(journal, record, file);
    if (rc == 0 && moves)
        journal->moved = journal->appended;
    bool torn = journal->tape.torn;
    lock_drop(&journal->lock);
    if (torn)
        flusher_break(journal, "write of the log", rc);
    return rc;
}

void journal_retire(struct journal *journal, struct disk_file **file, const char *name)
{
    LOCK_SCOPED(&journal->lock);
    unflushed_retire(&journal->unflushed, file, !name);
    if (!name)
        return;
    struct removal *removal = xcalloc(1, sizeof *removal);
    snprintf(removal->name, sizeof removal->name, "%s", name);
    removal->appended = journal->appended;
    list_append(&journal->removals, &removal->link);
    if (journal->appended == journal->flushed) /* else it goes after the flush that is due */
        gate_open(&journal->wake);
}

/* ---- Waiting. ---- */

/* Until `appended` records are flushed. */
static int wait_flushed_locked(struct journal *journal, uint64_t appended, struct waiter *waiter)
{
    while (journal->flushed < appended && !journal->broken) {
        if (journal->hurry < appended)
            journal->hurry = appended;
        gate_open(&journal->wake);
        int rc = gate_wait_locked(&journal->news, &journal->lock, waiter, CLOCK_NEVER);
        if (rc < 0)
            return rc;
    }
    return journal->flushed < appended ? -EIO : 0;
}

int journal_flush(struct journal *journal, struct waiter *waiter)
{
    LOCK_SCOPED(&journal->lock);
    return wait_flushed_locked(journal, journal->appended, waiter);
}

uint64_t journal_hurry(struct journal *journal)
{
    LOCK_SCOPED(&journal->lock);
    if (journal->hurry < journal->appended) {
        journal->hurry = journal->appended;
        gate_open(&journal->wake);
    }
    return journal->appended;
}

uint64_t journal_moved(struct journal *journal)
{
    LOCK_SCOPED(&journal->lock);
    return journal->moved;
}

void journal_await(struct journal *journal, struct journal_wait *wait)
{
    lock_take(&journal->lock);
    bool flushed = journal->flushed >= wait->appended, over = flushed || journal->broken;
    if (!over) {
        if (journal->hurry < wait->appended)
            journal->hurry = wait->appended;
        list_append(&journal->waits, &wait->link);
        gate_open(&journal->wake);
    }
    lock_drop(&journal->lock);
    if (over)
        wait->flushed(wait, flushed ? 0 : -EIO);
}

int journal_commit(struct journal *journal, struct waiter *waiter)
{
    return journal->commit_ms > 0 ? 0 : journal_flush(journal, waiter);
}

int journal_throttle(struct journal *journal, struct waiter *waiter)
{
    LOCK_SCOPED(&journal->lock);
    while (flusher_unflushed_locked(journal) > journal->unflushed_max) {
        int rc = wait_flushed_locked(journal, journal->appended, waiter);
        if (rc < 0)
            return rc;
    }
    return journal->broken ? -EIO : 0;
}

/* ---- Telling. ---- */

void journal_report(struct journal *journal, struct journal_report *ret_report)
{
    LOCK_SCOPED(&journal->lock);
    int64_t since_ms = journal->busy_ms ? journal->busy_ms : journal->since_ms;
    *ret_report = (struct journal_report){
        .fresh = journal->fresh,
        .broken = journal->broken,
        .accounts = HASH_CNT(by_id, journal->ledger.accounts),
        .log_bytes = journal->tape.end,
        .unflushed_bytes = flusher_unflushed_locked(journal),
        .oldest_unflushed_ms = since_ms ? clock_ms() - since_ms + 1 : 0,
        .checkpoints = journal->checkpoints,
        .records_replayed = journal->replayed,
    };
}
