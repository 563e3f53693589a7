#include "cache/replay.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/log.h"
#include "cache/tape.h"

#define SCAN_BYTES  ((size_t)1 << 20)
#define PATHS_NAMED 3 /* in the words about a damage */

struct replay_place { /* one ride */
    uint64_t start, end;
    uint64_t offset, behind, sequence; /* of its record in the file */
    size_t next;                       /* of the same file, + 1; 0: the last one */
};

struct replay_ride { /* of one id */
    uint64_t id;
    UT_hash_handle by_id;
    char local[ACCOUNT_LOCAL_MAX];
    struct extents rode; /* whose last write rode: here the log knows better than the file */
    size_t first, last;  /* + 1 */
    bool unmarked;       /* its file may not be flushed */
};

/* ---- Names. ---- */

void replay_print_name(uint64_t number, bool is_new, char out[REPLAY_NAME_MAX])
{
    snprintf(out, REPLAY_NAME_MAX, "journal-%" PRIu64 "%s", number, is_new ? ".new" : "");
}

bool replay_parse_name(const char *name, uint64_t *ret_number, bool *ret_new)
{
    char again[REPLAY_NAME_MAX];
    uint64_t number;
    if (sscanf(name, "journal-%" SCNu64, &number) != 1)
        return false;
    for (int is_new = 0; is_new < 2; is_new++) {
        replay_print_name(number, is_new, again);
        if (strcmp(again, name) != 0)
            continue;
        *ret_number = number;
        *ret_new = is_new;
        return true;
    }
    return false;
}

static int note_newest(void *context, const char *name)
{
    struct replay *replay = context;
    uint64_t number;
    bool is_new;
    if (!replay_parse_name(name, &number, &is_new) || is_new || number < replay->number)
        return 0;
    replay->found = true;
    replay->number = number;
    return 0;
}

/* ---- Looking: where it ends, what it proves. ---- */

static void add_dropped(struct replay *replay, uint64_t after, uint64_t until)
{
    if (after + 1 >= until)
        return;
    replay->dropped = xrealloc(replay->dropped, (replay->dropped_count + 1) * sizeof replay->dropped[0]);
    replay->dropped[replay->dropped_count++] = (struct replay_dropped){after, until};
}

static void look_at(struct replay *replay, const struct record *record)
{
    if (record->type == RECORD_HEADING)
        replay->salt = record->salt;
    if (record->type == RECORD_BOOT) {
        snprintf(replay->boot, sizeof replay->boot, "%s", record->boot);
        add_dropped(replay, record->kept, record->sequence);
    }
    if (record->type == RECORD_MARK) {
        replay->flushed = record->flushed;
        replay->backed = record->backed;
        replay->settled = record->settled;
        replay->marks++;
    }
    replay->sequence = record->sequence;
}

/* Does anything stand from `at` on, and is there a MARK that knows the record that should stand there? */
static int scan_rest(struct replay *replay, uint64_t at, bool *ret_known)
{
    char *bytes = xmalloc(SCAN_BYTES);
    ssize_t got = 1;
    *ret_known = false;
    for (; at < replay->size && got > 0 && !*ret_known; at += SCAN_BYTES - RECORD_MARK_SIZE) {
        got = disk_read(replay->file, bytes, SCAN_BYTES, at);
        for (ssize_t i = 0; i < got && !*ret_known; i += 8) {
            *ret_known = record_marks(bytes + i, (size_t)(got - i), replay->salt, replay->sequence + 1);
            for (ssize_t j = i; j < i + 8 && j < got; j++)
                replay->torn = replay->torn || bytes[j];
        }
    }
    free(bytes);
    return got < 0 ? (int)got : 0;
}

static int refuse_newer(const struct replay *replay, const struct record *record, struct buf *why)
{
    if (record->format > RECORD_FORMAT)
        buf_printf(why, "%s has format %" PRIu32 ", this skyvol knows %d: a newer one wrote it; use that one",
                   replay->name, record->format, RECORD_FORMAT);
    else
        buf_printf(why,
                   "%s, byte %" PRIu64 ": a record of type %d that this skyvol does not know: a newer one "
                   "wrote it; use that one",
                   replay->name, replay->end, (int)record->type);
    return -EPROTO;
}

static int refuse_damage(const struct replay *replay, struct buf *why)
{
    buf_printf(why, "%s, byte %" PRIu64 ": damaged: record %" PRIu64 " had been on the disk", replay->name,
               replay->end, replay->sequence + 1);
    return -EBADMSG;
}

/* The whole file, record by record. Nothing is applied. */
static int look(struct replay *replay, struct buf *why)
{
    struct tape_reader reader;
    struct record record = {0};
    bool known = false;
    int rc;
    tape_reader_init(&reader, replay->file, 0, 0, 0);
    while ((rc = tape_read(&reader, replay->size, &record)) == 1) {
        look_at(replay, &record);
        replay->end = tape_reader_at(&reader);
    }
    tape_reader_release(&reader);
    if (rc == -EPROTO)
        return refuse_newer(replay, &record, why);
    if (rc == -EBADMSG || rc == -ENODATA)
        rc = scan_rest(replay, replay->end, &known);
    if (rc < 0) {
        buf_printf(why, "%s: %s", replay->name, err_text(rc));
        return rc;
    }
    return known || replay->marks == 0 ? refuse_damage(replay, why) : 0;
}

/* ---- Applying. ---- */

static bool counts(const struct replay *replay, uint64_t sequence)
{
    for (size_t i = 0; i < replay->dropped_count; i++)
        if (sequence > replay->dropped[i].after && sequence < replay->dropped[i].until)
            return false;
    return sequence <= replay->kept;
}

static struct replay_ride *ride_of(struct replay *replay, uint64_t id, bool make)
{
    struct replay_ride *ride;
    HASH_FIND(by_id, replay->rides, &id, sizeof id, ride);
    if (ride || !make)
        return ride;
    ride = xcalloc(1, sizeof *ride);
    ride->id = id;
    HASH_ADD(by_id, replay->rides, id, sizeof ride->id, ride);
    return ride;
}

static void drop_ride(struct replay *replay, struct replay_ride *ride)
{
    HASH_DELETE(by_id, replay->rides, ride);
    extents_release(&ride->rode);
    free(ride);
}

static void add_place(struct replay *replay, struct replay_ride *ride, const struct record *record,
                      uint64_t offset, uint64_t behind)
{
    size_t count = replay->place_count;
    if ((count & (count - 1)) == 0) /* room is the next power of two */
        replay->places = xrealloc(replay->places, (count ? count * 2 : 1) * sizeof replay->places[0]);
    replay->places[count] = (struct replay_place){.start = record->start,
                                                  .end = record->end,
                                                  .offset = offset,
                                                  .behind = behind,
                                                  .sequence = record->sequence};
    replay->place_count = count + 1;
    if (ride->last)
        replay->places[ride->last - 1].next = count + 1;
    else
        ride->first = count + 1;
    ride->last = count + 1;
}

/* Which bytes of local files may be missing there, and where the log has them. */
static void note_write(struct replay *replay, const struct record *record, uint64_t offset, uint64_t behind)
{
    bool rides = record->bytes && record->sequence > replay->settled;
    bool unmarked = !record->bytes && record->sequence > replay->backed;
    struct replay_ride *ride = ride_of(replay, record->id, rides || unmarked);
    if (!ride)
        return;
    if (strcmp(ride->local, record->local) != 0) {
        extents_clear(&ride->rode);
        snprintf(ride->local, sizeof ride->local, "%s", record->local);
    }
    ride->unmarked = ride->unmarked || unmarked;
    if (rides) {
        extents_add(&ride->rode, record->start, record->end); /* within RECORD_RIDE_MAX: always fits */
        add_place(replay, ride, record, offset, behind);
    } else {
        extents_remove(&ride->rode, record->start, record->end);
    }
}

/* What is dirty was copied into another local file, what rode as well: the log has nothing more to say of it. */
static void note_move(struct replay *replay, const struct ledger *ledger, const struct record *record)
{
    const struct account *account = ledger_find(ledger, record->id);
    if (!account || !account->dirty.count || !record->dirty || !record->dirty->count ||
        strcmp(account->local, record->local) == 0)
        return;
    bool unmarked = record->sequence > replay->backed;
    struct replay_ride *ride = ride_of(replay, record->id, unmarked);
    if (!ride)
        return;
    extents_clear(&ride->rode);
    snprintf(ride->local, sizeof ride->local, "%s", record->local);
    ride->unmarked = ride->unmarked || unmarked;
}

static int apply(struct replay *replay, struct ledger *ledger, const struct record *record, uint64_t offset,
                 uint64_t behind, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    if (record->type == RECORD_REMOTE || record->type == RECORD_RESTATED)
        note_move(replay, ledger, record);
    int rc = ledger_apply(ledger, record, &words);
    if (rc < 0) {
        buf_printf(why, "%s, byte %" PRIu64 ": damaged: record %" PRIu64 " does not fit: %s", replay->name,
                   offset, record->sequence, rc == -E2BIG ? "too many ranges" : words.bytes);
        return -EBADMSG;
    }
    if (record->type == RECORD_WRITE)
        note_write(replay, record, offset, behind);
    struct replay_ride *ride = record->type == RECORD_FORGET ? ride_of(replay, record->id, false) : NULL;
    if (ride)
        drop_ride(replay, ride);
    return 0;
}

static int apply_all(struct replay *replay, struct ledger *ledger, struct buf *why)
{
    struct tape_reader reader;
    struct record record;
    uint64_t offset = 0;
    int rc;
    tape_reader_init(&reader, replay->file, 0, 0, 0);
    while ((rc = tape_read(&reader, replay->end, &record)) == 1) {
        if (counts(replay, record.sequence))
            rc = apply(replay, ledger, &record, offset, tape_reader_at(&reader), why);
        else
            replay->lost += record.sequence > replay->kept && record.type != RECORD_MARK;
        if (rc < 0)
            break;
        offset = tape_reader_at(&reader);
    }
    tape_reader_release(&reader);
    if (rc < 0 && why->length == 0) /* it could be read a moment ago */
        buf_printf(why, "%s, byte %" PRIu64 ": %s", replay->name, offset, err_text(rc));
    return rc;
}

/* ---- All of it. ---- */

static int open_newest(struct replay *replay, struct disk *disk, struct buf *why)
{
    int rc = disk->ops->list(disk, note_newest, replay);
    if (rc == 0 && !replay->found)
        return 0;
    replay_print_name(replay->number, false, replay->name);
    if (rc == 0)
        rc = disk_open(disk, replay->name, 0, &replay->file);
    if (rc == 0)
        rc = disk_size(replay->file, &replay->size);
    if (rc < 0)
        buf_printf(why, "%s: %s", replay->name, err_text(rc));
    return rc;
}

static int check_source(const struct replay *replay, const struct ledger *ledger, const char *source,
                        struct buf *why)
{
    if (!source || strcmp(ledger->source, source) == 0)
        return 0;
    buf_printf(why, "%s holds changes of %s, not of %s", replay->name, ledger->source, source);
    return -EXDEV;
}

/* Which files are at stake. */
static void name_files(const struct ledger *ledger, struct buf *why)
{
    size_t count = 0;
    for (struct account *at = ledger->accounts; at; at = at->by_id.next) {
        if (at->dirty.count == 0)
            continue;
        if (++count <= PATHS_NAMED) {
            buf_add_string(why, count == 1 ? "; unsent bytes of: " : ", ");
            account_path(at, why);
        }
    }
    if (count > PATHS_NAMED)
        buf_printf(why, " and %zu others", count - PATHS_NAMED);
    buf_add_string(why, "; nothing was changed");
}

int replay_run(struct replay *replay, struct disk *disk, const char *source, const char *boot,
               struct ledger *ledger, struct buf *why)
{
    BUF_SCOPED ignored = BUF_INIT;
    *replay = (struct replay){0};
    int rc = open_newest(replay, disk, why);
    if (rc < 0 || !replay->found)
        return rc;
    int looked = look(replay, why);
    if (looked < 0 && looked != -EBADMSG)
        return looked;
    bool same = !*boot || !replay->boot[0] || strcmp(boot, replay->boot) == 0;
    replay->kept = same || looked < 0 ? replay->sequence : replay->backed;
    rc = apply_all(replay, ledger, looked < 0 ? &ignored : why);
    if (looked < 0 || rc == -EBADMSG) {
        name_files(ledger, why);
        return -EBADMSG;
    }
    return rc < 0 ? rc : check_source(replay, ledger, source, why);
}

/* ---- Settling. ---- */

/* Those bytes of one ride that are the file's and that nobody else wrote since. */
static int write_ride(struct disk_file *file, const struct replay_ride *ride, const struct account *account,
                      const struct record *record)
{
    struct extent rode, dirty;
    for (uint64_t at = record->start; extents_next(&ride->rode, at, record->end, &rode); at = rode.end) {
        for (uint64_t from = rode.start; extents_next(&account->dirty, from, rode.end, &dirty);
             from = dirty.end) {
            const char *bytes = record->bytes;
            int rc =
                disk_write(file, bytes + (dirty.start - record->start), dirty.end - dirty.start, dirty.start);
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static int settle_rides(struct replay *replay, struct disk_file *file, const struct replay_ride *ride,
                        const struct account *account)
{
    int rc = 0;
    for (size_t i = ride->first; i && rc == 0; i = replay->places[i - 1].next) {
        const struct replay_place *place = &replay->places[i - 1];
        struct tape_reader reader;
        struct record record;
        tape_reader_init(&reader, replay->file, replay->salt, place->sequence - 1, place->offset);
        rc = tape_read(&reader, place->behind, &record);
        if (rc == 1)
            rc = write_ride(file, ride, account, &record);
        tape_reader_release(&reader);
    }
    return rc;
}

static int settle_file(struct replay *replay, struct disk *disk, const struct replay_ride *ride,
                       const struct account *account)
{
    struct disk_file *file;
    bool rode = ride->rode.count > 0;
    int rc = disk_open(disk, account->local, rode ? DISK_CREATE : 0, &file);
    if (rc == -ENOENT) { /* after a power cut nothing unmarked counts, so somebody removed it */
        log_warn("journal: local file %s of file %" PRIu64 " is missing", account->local, account->id);
        return 0;
    }
    if (rc == 0) {
        rc = settle_rides(replay, file, ride, account);
        if (rc == 0)
            rc = disk_flush(file);
        disk_close(file);
    }
    return rc;
}

int replay_settle(struct replay *replay, struct disk *disk, const struct ledger *ledger)
{
    int rc = 0;
    for (struct replay_ride *ride = replay->rides; ride && rc == 0; ride = ride->by_id.next) {
        const struct account *account = ledger_find(ledger, ride->id);
        if (account && account->dirty.count && strcmp(account->local, ride->local) == 0)
            rc = settle_file(replay, disk, ride, account);
    }
    if (rc == 0 && replay->rides)
        rc = disk->ops->flush_names(disk);
    return rc;
}

void replay_release(struct replay *replay)
{
    struct replay_ride *ride, *after;
    HASH_ITER (by_id, replay->rides, ride, after)
        drop_ride(replay, ride);
    free(replay->places);
    free(replay->dropped);
    disk_close(replay->file);
    *replay = (struct replay){0};
}
