/* aftermath: what a change of the tree leaves to do when the lock of names is dropped: last references, notices.
 *
 *      AFTERMATH_SCOPED(aftermath, cache);     declared before the lock is taken, so that it is settled after the drop
 *      LOCK_SCOPED(&cache->names.lock);
 *
 * Notices to the kernel go out on the pool `behind`: the kernel may hold a directory locked until the very operation
 * that found the change has been answered.
 */
#ifndef CACHE_AFTERMATH_H
#define CACHE_AFTERMATH_H

#include "cache/core.h"

struct notice;

struct aftermath {
    struct cache *cache;
    struct inode **inodes;
    size_t count, room;
    struct notice *notices;
    size_t names_short,
        short_bytes; /* names that were made, and the room that they found none of (names_find_room) */
};

#define AFTERMATH_SCOPED(name, of)                                                                           \
    struct aftermath name __attribute__((cleanup(aftermath_settle))) = {.cache = (of)}

void aftermath_unref(struct aftermath *aftermath, struct inode *inode);
/* name NULL: the inode `id` changed; else the name in the directory `id`. */
void aftermath_notify(struct aftermath *aftermath, uint64_t id, const char *name);
void aftermath_settle(struct aftermath *aftermath);

#endif
