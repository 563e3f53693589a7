/* names: the tree: (directory, name) -> inode, what listings and HEADs told of it, and its changes.
 *
 *      root(1) --"data"--> dir --"train.bin"--> file          hash {parent id, name} -> inode, plus a list of children
 *
 * What is known of a name, and since when, decides who answers:
 *      in use or unsent here            -> the inode, without a request (the overlay wins)
 *      confirmed within attr_ttl        -> the inode
 *      directory listed within attr_ttl -> the inode, or "no such file"
 *      else                             -> HEAD key and LIST key/ (one key), or, after a few misses, the directory's LIST
 * One in-flight marker per (directory, name): a second asker waits for the first one's answer.
 *
 * A number (st_ino) follows from (parent's number, name) by a hash, so that it stays over forgets; an inode that was
 * renamed is never forgotten while mounted.
 *
 * Threads: `lock` (LOCK_NAMES) is never held across the network. Whoever changes a name marks the inode(s) `moving`, drops the
 * lock, works, takes it again, changes the tree, clears the mark and opens `turn`. Below a moving directory all wait.
 */
#ifndef CACHE_NAMES_H
#define CACHE_NAMES_H

#include "cache/inode.h"

struct asking; /* an in-flight marker */

struct names {
    struct lock lock;
    struct gate turn; /* opened when a mark or an in-flight marker goes */
    struct inode *root;
    struct inode *table;   /* by_name */
    struct inode *numbers; /* by_number */
    struct asking *asking;
    struct list idle;
    size_t count;
    uint64_t next_id;
    uint64_t hidden; /* keys seen that are no file names */
    char hidden_example[256];
};

int names_init(struct cache *cache);
void names_release(struct cache *cache);

/* The whole key of an inode by its wanted name ("p/a/b", directories "p/a/b/"). -ENOENT when it has no name any more,
 * -ENAMETOOLONG over 1024 bytes. Takes the lock of names. */
int names_key(struct inode *inode, struct buf *ret_key);
/* The uploader's word: `inode` is in the bucket as `identity` under `key`, holding these versions. Takes names, inode. */
void names_confirmed(struct inode *inode, const char *key, const struct identity *identity, uint64_t content_version,
                     uint64_t attribute_version);
/* Asks the server what is under this inode's name, if that was longer than attr_ttl ago: 0 (the same, or no
 * answer needed), -ESTALE (another version: the name now has another inode), -ENOENT, -EINTR, -ETIMEDOUT ... */
int names_revalidate(struct inode *inode, struct waiter *waiter);
/* The last close of an inode whose name is gone or was overwritten: deletes its object, behind. */
void names_delete_behind(struct inode *inode);

#endif
