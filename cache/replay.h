/* replay: the newest file of a journal, read back into a ledger.
 *
 *      HEADING BOOT ....... MARK ....... MARK ... record rec|rest
 *                                          |             '- torn: cut, and said in one line. Zeros are room, and nothing is said
 *                                          '- damage before it is corruption: nothing is opened, nothing is changed
 *
 * A MARK that names a damaged record as one that was on the disk proves corruption; so does a file that ends before its first
 * MARK, because it got its name after that. All else is a tail that a power cut may leave: any of its pages, none, or some.
 *
 * After the death of the process alone (the last BOOT is this one) every whole record counts. After a power cut those do that
 * the last MARK says are backed: behind it records may speak of local bytes that are gone. So what is found is always the
 * state as it stood at one moment, never a name without its bytes. (A process that was killed, and the host rebooted before
 * the next one, looks the same: what was younger than `commit` is lost then.)
 *
 * Use: replay_run(), which changes nothing on the disk, also for programs that only look (status). To go on writing:
 *      replay_settle(), then tape_resume() with what is told here.
 */
#ifndef CACHE_REPLAY_H
#define CACHE_REPLAY_H

#include "base/disk.h"
#include "cache/ledger.h"

#define REPLAY_NAME_MAX 40

struct replay_dropped { /* records (after, until) do not count */
    uint64_t after, until;
};

struct replay {
    bool found; /* false: there is no journal here, and the rest is zero */
    uint64_t number;
    char name[REPLAY_NAME_MAX];
    struct disk_file *file; /* owned, unless taken */

    /* Of the file. */
    uint32_t salt;
    uint64_t size, end; /* behind the last whole record */
    uint64_t sequence;  /* of the last whole record */
    bool torn;          /* behind `end` stands something that is not room */
    uint64_t flushed, backed, settled, marks;
    char boot[64]; /* of the last BOOT */
    uint64_t kept; /* records behind it went with the power; sequence: none did */
    uint64_t lost; /* so many */
    struct replay_dropped *dropped;
    size_t dropped_count;

    /* What may stand in the log only. */
    struct replay_ride *rides; /* by id */
    struct replay_place *places;
    size_t place_count;
};

/* The newest journal-N of the disk. `source`, NULL: any. `boot`: of this host, "": not known, nothing went with the power.
 * 0, -EXDEV (of another source), -EPROTO (a newer format), -EBADMSG (corruption; the ledger holds what stands before it), or of
 * the disk; `why` has a line. replay_release() after any outcome. */
int replay_run(struct replay *replay, struct disk *disk, const char *source, const char *boot,
               struct ledger *ledger, struct buf *why);
/* What rode, and is dirty still, stands in the local files, and these and all that unmarked records speak of are flushed. */
int replay_settle(struct replay *replay, struct disk *disk, const struct ledger *ledger);
void replay_release(struct replay *replay);

/* "journal-8", and whether a name is one; `ret_new`: of a checkpoint that got no name ("journal-8.new"). */
void replay_print_name(uint64_t number, bool is_new, char out[REPLAY_NAME_MAX]);
bool replay_parse_name(const char *name, uint64_t *ret_number, bool *ret_new);

#endif
