/* forest: who walks a tree of small directories (find, ls -lR, du, rsync, git status) is answered for many of them by one LIST without
 * delimiter, from the directory on that he has come to (swath.h).
 *
 *      R/ ......... its own LIST                    nothing tells yet that somebody walks
 *      R/a/         its own LIST                    the first in R that is asked for
 *      R/b/         LIST R/ from "b/" on            another one beside it, within FOREST_WALK_MS: a walker
 *      R/b/x/, R/c/, R/d/ ...  from there, while it is fresh; the next one that it does not tell all of: again from there on
 *
 * What a directory gets from a swath it gets as from its own LIST (page.h), asked when the swath was. One in which, or above which,
 * anything changed here since then (a touch) is asked for itself. A swath is used for half of attr_ttl, so that what it tells is
 * good for a while. With it come the markers of the directories: their attributes cost no HEADs.
 *
 * How many keys are asked for grows with proof: FOREST_KEYS, and twice as many each time that he has come to their end, half as many
 * when they were out of date before.
 *
 * It costs no more than it saves: one that did not tell all of FOREST_WORTH directories, or answered one question only, was a failure,
 * and those who would ask for the next one do without FOREST_PAUSE times, twice as often ... FOREST_PAUSE_MAX. A marker without metadata
 * (most servers list so) is no answer to who wants its attributes; the names below it may be one to who lists them.
 *
 * It is a guess, and nobody waits long for it: when the server is silent for FOREST_PATIENCE_MS, or refuses it, those that wait for it
 * do without, too.
 *
 * Bounds: FOREST_SWATHS pages of LIST, charged to SHARE_DEMAND: until the next one is asked for when they are out of date, or memory is
 * short and clean blocks were not enough. FOREST_TOUCHES places of a key (mostly 200 bytes, 1.2 KiB at most) while a swath is of use, and
 * until the next change of a name: not charged, since the budget takes nothing back under the lock of names.
 * Threads: `_locked` with the lock of names held; who waits for the server drops it meanwhile, and holds the marker of the directory's
 * listing, or of its name.
 */
#ifndef CACHE_FOREST_H
#define CACHE_FOREST_H

#include "cache/core.h"
#include "cache/swath.h"

#define FOREST_SWATHS    4
#define FOREST_TOUCHES   4096
#define FOREST_WALK_MS   2000
#define FOREST_WORTH     4 /* directories */
#define FOREST_MANY      8 /* whose attributes are wanted at once: reason enough to ask */
#define FOREST_KEYS      500
#define FOREST_KEYS_MIN  64
#define FOREST_PAUSE     16
#define FOREST_PAUSE_MAX 256

#define FOREST_PATIENCE_MS 2000 /* less where io_timeout is less */

struct aftermath;
struct forest;

struct forest *forest_new(struct cache *cache);
/* Memory is not asked of it any more; before the lock of names goes. */
void forest_stop(struct forest *forest);
void forest_free(struct forest *forest);

/* The directory is to be listed, from its beginning. *ret_swath: what tells all of it, and was asked for at since_ms or later, a reference;
 * NULL: it has to be asked for itself. 0, -EINTR. */
int forest_list_locked(struct inode *directory, int64_t since_ms, struct waiter *waiter,
                       struct swath **ret_swath);
/* The attributes of the directory, which are not known. 1: they are; 0: it has to be asked for itself; else as forest_list_locked().
 * Waiter NULL: only what is here is looked at. */
int forest_look_locked(struct inode *directory, struct waiter *waiter, struct aftermath *aftermath);
/* What is here tells of it already, enough or not: it is not to be asked for. */
bool forest_tells_locked(const struct inode *directory);
/* Those of many directories are wanted, of which this is the first: they are asked for if that is worth it. Errors as forest_list_locked(). */
int forest_ask_locked(struct inode *directory, struct waiter *waiter);

/* names_touched_locked() of this name. */
void forest_touched_locked(const struct inode *parent, const char *name);
/* A directory has got another name. Or: nothing that was known before now is to be told. */
void forest_clear_locked(struct cache *cache);

#endif
