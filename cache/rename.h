/* rename: one name becomes another. At every moment one of the two names holds the whole data.
 *
 * durability=writeback, local: the tree changes at once, recorded (rename_behind.c); what stands in the bucket follows behind, each
 * object by a COPY from where it stands to where its name is, then the old one goes:
 *
 *      tree: "b" --NODE--> inode {remote.key "p/a"}: displaced --COPY p/a -> p/b, or PUT p/b--> {remote.key "p/b"} --> p/a is doomed
 *      "p/a" is hidden and nobody else writes there (veil.h), until the object has followed or was given up
 *      a directory: all below is listed into the tree, each object gets an account, one NODE moves the edge (rename_tree_behind.c)
 *      a rename that would make a circle (each waits for the other's key) waits until one of them has followed
 *
 * durability=sync: the caller waits for all of it, and it happens in this order:
 *
 *      file       hold uploads -> COPY old key to new -> the tree -> DELETE old key
 *                 never sent, or sent only as an empty object: the tree alone; it goes up under its new name (birth.h)
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
 * While something is at work on the new key for a file that lost this name (veil.h) it waits, at most io_timeout: -EIO.
 * What was overwritten while open lost its object; ranges of it that are nowhere else are kept on the server before (keepsake.h), or,
 * where that fails, get ESTALE.
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
    struct buf to_key;   /* "p/b" */
    int64_t deadline_ms; /* of the wait for that key */
};

/* The edge of the tree, under the lock: the target loses its name, the inode gets it. -errno: it cannot be recorded, and nothing
 * has changed. */
int rename_edge_locked(struct rename *rename, struct aftermath *aftermath);
/* What is no directory; the markers are held. (rename_behind.c) */
int rename_file_behind(struct rename *rename, struct waiter *waiter);
/* Each has an account where it stands, so that one record moves the one and takes the name of the other. NULL is nobody. Lock of names. */
int rename_open_account_locked(struct inode *inode);
/* It has another name: its upload, if one runs, begins anew (birth.h: what landed is not sent again); what it has in the bucket follows. Lock of names. */
void rename_displace_locked(struct inode *inode);
/* The same of all that is below. */
void rename_displace_below_locked(struct inode *inode);
/* Looks that are in flight do not know it. */
void rename_touch_locked(struct rename *rename);
/* Something in the directory is unsent. Lock of names. */
bool rename_unsent_in_locked(struct inode *directory);
/* A directory and all below it, from "p/a/" to "p/b/"; nobody works below it. -EXDEV: there are more objects than the overlay has room for
 * (overlay.h), or keys that are no names: they are copied while the caller waits, as in sync; nothing has happened. (rename_tree_behind.c) */
int rename_tree_behind(struct rename *rename, const char *from, const char *to, struct waiter *waiter);
/* The markers are held, the inode is `moving`, nobody works below it. (rename_tree.c) */
int rename_directory(struct rename *rename, struct waiter *waiter);

#endif
