/* asking: an in-flight marker: somebody works on the name `name` in `parent` with no lock held. All others wait.
 *
 *      free --asking_take--> taken --asking_answer?--> dropped          turn is opened, waiters look again
 *                              '--asking_join (lookups of the same name): wait for its answer, share it
 *
 * The name "" stands for the listing of the directory. Below a directory that is `moving` nobody gets a marker; a mover
 * sets `moving` in the same hold in which it takes its own markers, then waits for those below (asking_wait_below).
 * Whoever holds a marker takes no other: no circle of waiters.
 *
 * Owns: counted references; each marker one of its parent. Threads: all under the lock of names.
 */
#ifndef CACHE_ASKING_H
#define CACHE_ASKING_H

#include "cache/aftermath.h"

struct asking {
    struct list link;
    struct inode *parent;
    char *name;
    bool lookup;   /* its answer may be shared */
    bool answered; /* rc and found are final */
    int rc;
    struct inode *found; /* a reference; NULL with rc -ENOENT */
    int references;
};

struct asking_place {
    struct inode *parent;
    const char *name;
    bool
        behind; /* what is done sends nothing now: a delete of the key that is under way is no reason to wait */
};

/* Waits until all places are free, then takes them at once. 0; -EAGAIN (no waiter), -EINTR, -ENOENT (a parent has no name
 * any more). The world may be another one after the wait. */
int asking_take_locked(struct names *names, const struct asking_place *places, size_t count,
                       struct waiter *waiter, struct asking **ret_asking);
/* For a single place. */
int asking_take_one_locked(struct names *names, struct inode *parent, const char *name, struct waiter *waiter,
                           struct asking **ret_asking);
/* The marker of the name that this inode has, also when it gets another one while we wait. -ENOENT: it has none. */
int asking_take_own_locked(struct names *names, const struct inode *inode, struct waiter *waiter,
                           struct aftermath *aftermath, struct asking **ret_asking);
/* The lookup of this name that is in flight; NULL. */
struct asking *asking_find_lookup_locked(struct names *names, const struct inode *parent, const char *name);
/* Waits for its answer: its rc, with a reference in *ret_found; -EINTR and -EAGAIN are the caller's own or ask for another
 * try (`answered` false). */
int asking_join_locked(struct names *names, struct asking *asking, struct waiter *waiter,
                       struct aftermath *aftermath, struct inode **ret_found);
void asking_answer_locked(struct asking *asking, int rc, struct inode *found);
void asking_drop_locked(struct names *names, struct asking *asking, struct aftermath *aftermath);
/* Waits until nobody but `own` works at or below the directory, which is `moving`. 0, -EINTR. */
int asking_wait_below_locked(struct names *names, const struct inode *directory, struct asking *const *own,
                             size_t own_count, struct waiter *waiter);
/* Somebody works at or below the directory. */
bool asking_below_locked(const struct names *names, const struct inode *directory);
bool asking_taken_locked(const struct names *names, const struct inode *parent, const char *name);
/* Taken by somebody who may change the name, not only look it up. */
bool asking_changing_locked(const struct names *names, const struct inode *parent, const char *name);

#endif
