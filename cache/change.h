/* change: names made and removed, for the files that do it (change.c, removal.c, rename.c).
 *
 * Each operation takes the marker of its name(s), works without a lock, changes the tree under the lock, drops the marker.
 */
#ifndef CACHE_CHANGE_H
#define CACHE_CHANGE_H

#include "cache/asking.h"

struct change {
    struct cache *cache;
    struct inode *parent;
    const char *name;
    struct asking *asking;
    struct buf key;     /* "p/a" */
    bool exclusive;     /* what is made overwrites nothing, when it goes up */
    const char *target; /* of the symlink that is made, else NULL */
    uint64_t device;    /* of the device node that is made, else 0 */
};

/* Names of files change at once, and what follows from that is sent behind. */
static inline bool change_goes_behind(const struct cache *cache)
{
    return cache->config.durability != DURABILITY_SYNC && cache->journal;
}
/* Checks the name and takes the marker; behind: nothing is sent while it is held. 0, -EROFS, -EINVAL, -ENAMETOOLONG, -EILSEQ, -ENOTDIR, -ENOENT, -EAGAIN, -EINTR.
 * change_end() after any outcome. */
int change_begin(struct change *change, struct cache *cache, struct inode *parent, const char *name,
                 bool behind, struct waiter *waiter);
void change_end(struct change *change);
/* names_orphan_locked() for a file that is open, or (behind) any: its object, if it has one, goes, not before the last close. 1; 0:
 * nobody has it open, and it keeps its name; -errno: it cannot be recorded, and nothing has changed. */
int change_doom_locked(struct inode *inode, bool behind, struct aftermath *aftermath);
/* Waits until what was removed behind under this name (below: in this directory) is gone, for who asks or tells the server now. 0,
 * -EINTR, -EAGAIN, -EIO: no answer for io_timeout. */
int change_await_deletes(struct cache *cache, struct inode *parent, const char *name, bool below,
                         struct waiter *waiter);
/* Nothing is unsent in the directory, and nothing stands below its key ("p/a/") but its marker and what is to go. -ENOTEMPTY. */
int change_check_empty(struct inode *directory, const char *what, const char *key, bool *ret_marker,
                       struct waiter *waiter);
/* After a change of names, before its reply: where the user asked for that, waits until it is on the disk. No lock is held. Disks
 * answer, so nobody interrupts it. 0, -EIO. */
int change_commit(struct cache *cache);
/* The same of a name that went, which in sync does not come back with the power either: what the disk holds unsent of it is given up. */
int change_commit_gone(struct cache *cache);
/* Without a waiter, and it would have to wait at change_commit(). */
bool change_must_wait(const struct cache *cache, const struct waiter *waiter);

#endif
