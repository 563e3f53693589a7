/* keepsake: the object of a file that somebody has open, and that is about to be overwritten here, kept on the server under a hidden
 * key until the last close.
 *
 *      open, parts of it nowhere but in its object  --keepsake_take--> journaled: PREFIX.skyvol-kept-HEX is to go --> COPY
 *           |                                                                                               |
 *           '<--keepsake_forgo (nothing was overwritten)--- inode->keepsake <-------------------------------'
 *      its object is overwritten --keepsake_follow, or the first read that meets that--> remote.key is the hidden one
 *      the last close --keepsake_closed--> DELETE, behind; after a crash the next mount deletes it (restore.h)
 *
 * The hidden object is an inode of its own that never had a name: doomed from its birth (names.h), with an account of its own.
 * Names that begin so are no names here, on any mount: names_check().
 *
 * A file that was copied inside the mount (clone.h) begins with such an object as its own, until it has gone up.
 *
 * Threads: what copies blocks, without a lock. Errors: said in the log; then ranges that are not here cannot be read any more.
 */
#ifndef CACHE_KEEPSAKE_H
#define CACHE_KEEPSAKE_H

#include "cache/aftermath.h"
#include "cache/copying.h"

#define KEEPSAKE_NAME ".skyvol-kept-"

struct keepsake {
    struct inode *inode; /* a reference */
    char *key;
    struct identity identity;
};

/* 0: it has one, or needs none; else the error of the copy, and it has none. */
int keepsake_take(struct inode *inode, struct waiter *waiter);
/* Its object is overwritten: it reads from its keepsake from now on. False: it has none, or does so already. Lock held. */
bool keepsake_follow_locked(struct inode *inode);
/* Its object was not overwritten after all. */
void keepsake_forgo(struct inode *inode);
/* After a close; does something after the last one. */
void keepsake_closed(struct inode *inode);

/* Runs it, to a hidden key: the keepsake is the caller's, journaled before its object can stand in the bucket, and deleted at the next
 * mount should the process die. The errors of copying_run(): then there is none. */
int keepsake_copy(struct copying *copying, struct waiter *waiter, struct keepsake **ret_keepsake);
/* It is not needed: the object goes, behind. */
void keepsake_drop(struct keepsake *keepsake);
/* The object is another inode's from here on, which the journal knows: nobody else deletes it. Lock of names. */
void keepsake_give_locked(struct keepsake *keepsake, struct aftermath *aftermath);

/* A file that was unlinked while open has its object under this key, and needs a keepsake before that is overwritten. */
bool keepsake_is_due(struct cache *cache, const char *key);
/* All of these get theirs, and follow it when names_undoom_locked() says that it happened. 0, -EINTR. */
int keepsake_take_unlinked(struct cache *cache, const char *key, struct waiter *waiter);
/* A directory comes under this name: servers that keep objects in directories show nothing below an object "a". What an unlinked
 * open file has there goes now; its readers follow their keepsake. 0, or the error of the DELETE, and it stands. */
int keepsake_make_way(struct cache *cache, const char *key, struct waiter *waiter);

/* Objects of our own making that are no files, under the names that they have below the mount: shown nowhere. */
bool keepsake_is_name(const char *name);
bool keepsake_is_key(const struct cache *cache, const char *key);

#endif
