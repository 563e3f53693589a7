/* veil: keys under which objects stand, or may stand, that are no files there: hidden from lookups and listings, and not
 * to be written by others while something is at work on them.
 *
 *      inode                                              veils
 *      no name any more, its object is to go (doomed)     remote.key, this version
 *      renamed, its object has not followed (displaced)   remote.key, this version; held while it may still follow
 *      an upload of it runs, or its outcome is unknown,
 *      and its name is gone or another one                that key, any version; held
 *      an upload of it goes on at its birth key           held, and given back to who needs it (birth.h); any version
 *                                                         once it tries to complete
 *      its object is being deleted                        held
 *
 * Held: nobody else may PUT, COPY or DELETE there. An upload that would waits (inode->awaits_key), and is poked when
 * veil_update_locked() or the deleter gives the key back (veil_release()).
 *
 * Threads: all under the lock of names; `inode->lock` inside.
 */
#ifndef CACHE_VEIL_H
#define CACHE_VEIL_H

#include "cache/aftermath.h"

struct veil {
    struct veil *next; /* of this key */
    struct inode *inode;
    bool any; /* whatever stands there; else the version of inode->remote */
};

struct veil_key { /* in names->veils */
    UT_hash_handle by_key;
    struct veil *first;
    char key[];
};

/* What of it is meant: the very key; the entries of the directory "p/a/"; all that begins so. */
enum veil_scope { VEIL_AT, VEIL_ENTRIES, VEIL_BELOW };

/* The veils of this inode, and `displaced`, are what the drawing says now. Call after each change of its name, its remote.key, its
 * doubts. */
void veil_update_locked(struct inode *inode);
/* This object is no file that anybody shall see. */
bool veil_hides_locked(struct names *names, const struct store_object *object);
/* Veils at keys that begin so; counting ends at `max`. */
size_t veil_count_locked(struct names *names, const char *prefix, size_t max);
/* Asks the server (LIST, page after page, from `token` on; NULL: from the start): is there anything below `prefix` that is not
 * hidden? 0, or as server_wait(). No lock is held. */
int veil_look_below(struct cache *cache, const char *prefix, const char *token, const char *what,
                    struct waiter *waiter, bool *ret_shows);
/* The nameless inode, not `but`, whose object of a known version stands under this very key, the last one of several; NULL. */
struct inode *veil_doomed_locked(struct names *names, const char *key, const struct inode *but);
/* Somebody else than `inode` (may be NULL) is at work on this key. */
bool veil_held_locked(struct names *names, const char *key, const struct inode *inode);
/* The upload of the inode works on a key from now on: inode->busy_key. `birth`: parts of it landed under this one (NULL: none did), and it
 * goes on there where nobody else has to do with that key; else the one that is wanted. What may stand somewhere is found out first,
 * there. 0; -EAGAIN: it is held, and the inode awaits it; -ENOENT, -ENAMETOOLONG as names_key(). No lock is held. */
int veil_claim(struct inode *inode, const char *birth, struct buf *ret_key);
/* Somebody needs what is there: an upload that is to end where it was begun, for a file of another name, ends now and begins anew
 * under that name. One whose Complete is on its way hears how it went first. */
void veil_ask_back_locked(struct names *names, const char *of, enum veil_scope scope);
/* What stands under this very key, or is being sent there, is of an inode, not `but`, that has another name by now and takes it along;
 * NULL. */
struct inode *veil_displaced_locked(struct names *names, const char *key, const struct inode *but);
/* Something there is still to follow its name: what is hidden (keepsake.h) never was under any. */
bool veil_displaced_within_locked(struct names *names, const char *of, enum veil_scope scope);
/* Waits until nothing is any more, and asks for what can be given back. No lock is held. 0, -EINTR, -EAGAIN (no waiter), -EIO: not
 * within io_timeout. */
int veil_await_displaced(struct cache *cache, const char *of, enum veil_scope scope, struct waiter *waiter);
/* The upload of the inode rests: keys that are not its name's any more are given back. No lock is held. */
void veil_rest(struct inode *inode);
/* The key may be free now: the upload that waits for it goes on. rc < 0: what was at work there failed, and who waits for that
 * upload hears it. No lock is held. */
void veil_release(struct cache *cache, const char *key, int rc);

#endif
