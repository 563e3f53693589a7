/* lock: a mutex with a place in the one order of all locks.
 *
 *      names -> inode -> journal -> blocks -> upload -> store -> pool -> memory -> leaf
 *
 * A thread that holds a lock may take only locks of a higher rank (LOCK_LEAF: nothing at all after it);
 * builds with SKYVOL_LOCK_ORDER abort and name both locks otherwise. No lock is held across the network, a
 * flush to disk, or a callback. Two locks of one rank are never held together, but for LOCK_INODE, in the
 * order of addresses.
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdbool.h>

enum lock_rank {
    LOCK_NAMES = 1, /* the tree of names, one per mount */
    LOCK_INODE,     /* wanted, remote, extents, upload state of one inode */
    LOCK_JOURNAL,   /* the ledger, the end of the log: one buffered write is made under it */
    LOCK_BLOCKS,    /* the block cache; which slots of slabs are free */
    LOCK_UPLOAD,    /* the uploader's mailbox */
    LOCK_STORE,     /* a store's calls, a mailbox of a network loop */
    LOCK_POOL,      /* a queue of workers */
    LOCK_MEMORY,    /* the memory budget */
    LOCK_LEAF,      /* log, waiter, credentials: nothing is taken under it */
};

struct lock {
    pthread_mutex_t mutex;
    enum lock_rank rank;
    const char *name;
};

void lock_init(struct lock *lock, enum lock_rank rank, const char *name);
void lock_release(struct lock *lock);
void lock_take(struct lock *lock);
void lock_drop(struct lock *lock);
void lock_drop_cleanup(struct lock **lock); /* for LOCK_SCOPED */
/* For assertions; always true where the order is not checked. */
bool lock_held(const struct lock *lock);
/* Asserts in checking builds that this thread holds no lock at all: stands before every callback and long
 * wait. */
void lock_assert_none(void);

#define LOCK_SCOPED_NAME2(line) lock_scope_##line
#define LOCK_SCOPED_NAME(line)  LOCK_SCOPED_NAME2(line)
#define LOCK_SCOPED(place)                                                                                   \
    struct lock *LOCK_SCOPED_NAME(__LINE__) __attribute__((cleanup(lock_drop_cleanup))) = (place);           \
    lock_take(LOCK_SCOPED_NAME(__LINE__))

#endif
