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
    struct buf key; /* "p/a" */
};

/* Checks the name and takes the marker. 0, -EROFS, -EINVAL, -ENAMETOOLONG, -EILSEQ, -ENOTDIR, -ENOENT, -EAGAIN, -EINTR.
 * change_end() after any outcome. */
int change_begin(struct change *change, struct cache *cache, struct inode *parent, const char *name,
                 struct waiter *waiter);
void change_end(struct change *change);
/* names_orphan_locked() for a file that is open; its object, if it has one, goes at the last close. False: nobody has it
 * open, and it keeps its name. */
bool change_doom_locked(struct inode *inode, struct aftermath *aftermath);

#endif
