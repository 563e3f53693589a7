/* rename: one name becomes another. At every moment one of the two names holds the whole data.
 *
 *      file       hold uploads -> COPY old key to new -> the tree -> DELETE old key
 *                 never sent, or sent only as an empty object: the tree alone; it goes up under its new name
 *                 a conflict (another client replaced what it was made from): so does it, and theirs keeps the old name;
 *                 -ESTALE when parts of what it was made from are not here
 *      directory  moving (all below wait) -> LIST all below, page by page: COPY them -> the tree (one edge)
 *                 -> LIST again, page by page: DELETE_MANY of what was copied
 *                 a failure before the tree changes removes the copies made; the old tree is whole as it was;
 *                 what another client wrote below meanwhile stays under the old name
 *
 * Else a file with unsent data takes the object it had along and publishes over it, under the new name. A copy of an own
 * object is the same content, whatever its ETag: open handles and caches follow it (remote.key and identity of every inode
 * below).
 * What was overwritten while open lost its object: reads of ranges that are not here get ESTALE.
 * A delete that fails leaves the old key, whole, and is the error of the call; the new name holds the data too.
 */
#ifndef CACHE_RENAME_H
#define CACHE_RENAME_H

#include "cache/change.h"

#define RENAME_KEYS_MAX ((size_t)1000000) /* more below one directory: -EXDEV, and mv copies file by file */

struct rename {
    struct cache *cache;
    struct inode *from_parent, *to_parent;
    const char *from_name, *to_name;
    struct asking *marks[2];
    struct inode *inode;  /* a reference */
    struct inode *target; /* a reference; NULL: the new name is free */
    struct inode
        *frozen; /* a reference: the directory under the new name, `moving` like the inode itself; NULL */
    struct buf to_key; /* "p/b" */
};

/* The edge of the tree, under the lock: the target loses its name, the inode gets it. */
void rename_edge_locked(struct rename *rename, struct aftermath *aftermath);
/* The markers are held, the inode is `moving`, nobody works below it. (rename_tree.c) */
int rename_directory(struct rename *rename, struct waiter *waiter);

#endif
