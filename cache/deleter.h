/* deleter: the one thread that deletes, behind, the objects of files that have no name any more (names->doomed).
 *
 *      unlink, last close, restore --deleter_add--> queue --> at work --gone, or another client's stands there--> forgotten
 *                                                    ^  ^       |---the name is in use again: it takes the object along--^
 *                                                    |  |       |---its name is being worked on: when that ends
 *                                                    |  '-------'
 *                                                    '-- resting <-- an error: again after 1 s, 2 s ... 60 s, for ever
 *
 * Before its object goes: what an upload of it may have left is asked for (settling.h); a directory that would vanish with it
 * gets its marker. Only the version that was seen goes: by condition, or looked at just before. Where MANY_MIN of one
 * directory wait, one LIST looks at them all and DELETE_MANY removes those that it shows as they were; the others go one by one.
 * What is kept in the journal (an account without a name) survives the process.
 *
 * Threads: `_locked` with the lock of names held. The queues are under that lock too.
 */
#ifndef CACHE_DELETER_H
#define CACHE_DELETER_H

#include "cache/core.h"

#define DELETER_WAIT_MAX 100000 /* objects that wait; who unlinks more waits as well */

struct deleter *deleter_new(struct cache *cache);
/* What nobody tried yet is tried once more, quickly: at most one batch. Before the uploader goes, which it pokes. */
void deleter_stop(struct deleter *deleter);
/* After the uploader, which adds to it until its end. */
void deleter_free(struct deleter *deleter);

/* The inode is doomed: its object goes as soon as nobody has it open and its upload has ended. */
void deleter_add_locked(struct inode *inode);
/* It is not doomed any more. */
void deleter_drop_locked(struct inode *inode);
/* Waits while too many wait. 0, -EINTR, -EAGAIN. */
int deleter_throttle(struct deleter *deleter, struct waiter *waiter);
/* Waits until nothing at keys that begin so, nor (a whole key) at this one, is left to delete; what failed is tried at once. */
int deleter_await(struct deleter *deleter, const char *prefix, struct waiter *waiter, int64_t deadline_ms);
/* The same of what stood in this very directory ("p/d/"), not below. */
int deleter_await_entries(struct deleter *deleter, const char *directory, struct waiter *waiter,
                          int64_t deadline_ms);

/* What failed to go at such a key, or below it ("p/a" and "p/a/b"; "": all), is tried again now. Nobody waits. */
void deleter_hurry(struct deleter *deleter, const char *path);
/* The last try ended by a refusal, and the next one is not due. */
bool deleter_refused_locked(const struct inode *inode);

struct deleter_report {
    size_t count, failing;
    int64_t oldest_ms; /* age; 0: none */
};
void deleter_report(struct deleter *deleter, struct deleter_report *ret_report);
/* References to all that wait; the caller drops them and frees the array. */
void deleter_list(struct deleter *deleter, struct inode ***ret_inodes, size_t *ret_count);

#endif
