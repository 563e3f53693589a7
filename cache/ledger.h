/* ledger: what the journal's records add up to: an account of each file that is not simply what the bucket holds, and of
 * the directories above it. Pure: records in, state out, and the state back into records (a checkpoint).
 *
 *      ledger_apply(record) ... ledger_apply(record)  ==  state  ==  ledger_apply of each of ledger_dump(state)
 *
 *      NODE, BIRTH ---> open ---FORGET---> gone                 a renamed directory is one record: the places below it
 *                        ^ |                                    follow from `parent`
 *                        | '--FORGET of a directory that others stand in--> forgotten --the last of them goes--> gone
 *                        '--------------------NODE--------------------------'  (and on: it may be the last of its parent)
 *
 * An id is of one inode for ever: who needs an account that it has forgotten opens it again by NODE, whether or not it is gone.
 * Two accounts never have one place: NODE names whom it replaces, in the same moment.
 *
 * Errors: a record that does not fit the state (an unknown id, a taken place, a version that runs backwards, a circle of
 * parents) is -EBADMSG with words; one that makes more than EXTENTS_MAX dirty ranges is -E2BIG: say RESTATED with a smaller
 * set first. Nothing is changed then.
 * Threads: none; the journal's lock guards its ledger.
 */
#ifndef CACHE_LEDGER_H
#define CACHE_LEDGER_H

#include "cache/account.h"

#define LEDGER_DEPTH_MAX 1024 /* of directories: a key holds no more than half of it */

typedef void ledger_each(void *context, const struct record *record);

struct ledger {
    struct account *accounts; /* by_id; not the root */
    struct account *places;   /* by_place */
    char *source;             /* NULL until HEADING */
    uint64_t next_id;         /* the least that was never used; 1 at first */
    uint64_t bytes;           /* roughly what a checkpoint of it takes */

    /* A dump under way: accounts of an older round are as they were when it began. */
    struct list dumped, undumped; /* by account->turn */
    uint64_t round;
    ledger_each *each; /* NULL: none is under way */
    void *context;
};

void ledger_init(struct ledger *ledger);
void ledger_release(struct ledger *ledger);
/* 0: ledger_apply() will take it. `why` gets words for -EBADMSG. HEADING, BOOT and MARK always fit. */
int ledger_admits(const struct ledger *ledger, const struct record *record, struct buf *why);
int ledger_apply(struct ledger *ledger, const struct record *record, struct buf *why);
struct account *ledger_find(const struct ledger *ledger, uint64_t id);

/* The whole state as records, in an order in which they can be applied: HEADING (source and next_id), then directories
 * before what is in them. */
void ledger_dump(struct ledger *ledger, ledger_each *each, void *context);
/* The same in slices, while records are applied: `each` hears the state as it stood at ledger_dump_begin(), because an account
 * that is about to change is given before. Applied in this order it, and then the records since, are the state. */
void ledger_dump_begin(struct ledger *ledger, ledger_each *each, void *context);
/* About `bytes` more of it; false: all has been given, and the dump is over. */
bool ledger_dump_more(struct ledger *ledger, size_t bytes);
/* Abandons it. Harmless when none is under way. */
void ledger_dump_end(struct ledger *ledger);

/* Aborts on a bug: the drawings above and in account.h. Slow: for tests. */
void ledger_check(const struct ledger *ledger);

#endif
