/* content: the bytes of one inode: reads that join local bytes, the base in the bucket and holes; writes; truncation.
 *
 *      file   |-- dirty --|---- base (blocks) ----|-- local --|---- zeros ----|
 *             0                              base_size                      size
 *
 * A byte comes from the local file where `present` covers it, else from the remote object below base_size, else it is
 * zero. Every GET carries If-Match of remote.identity: a foreign version answers -ESTALE, said in the log.
 *
 * Not here: names and revalidation (names.h), sending (upload.h).
 */
#ifndef CACHE_CONTENT_H
#define CACHE_CONTENT_H

#include "cache/inode.h"
#include "cache/prefetch.h"

struct handle {
    struct inode *inode; /* a reference */
    int flags;           /* O_ACCMODE, O_APPEND, O_SYNC */
    pid_t process;       /* thread group that opened it */
    struct lock lock;    /* LOCK_LEAF, around prefetch */
    struct prefetch prefetch;
};

/* Makes a handle of an inode whose name and identity are settled. Counts opens. O_TRUNC is applied here. */
int content_open(struct inode *inode, int flags, pid_t process, struct handle **ret_handle, struct opened *ret_opened);
/* ftruncate and truncate: local at once; extends by zeros, cuts extents and base_size. With NULL waiter -EAGAIN where
 * it would have to wait for held writers. */
int content_truncate(struct inode *inode, struct waiter *waiter, uint64_t size);
/* Brings all bytes of the base that are not present into the local file (before a patched file goes up whole). Blocking. */
int content_fill(struct inode *inode, struct waiter *waiter);
/* A confirmed upload: dirty ranges of that version are clean; the base is the new object. Call with its lock held. */
void content_confirmed_locked(struct inode *inode, uint64_t content_version, uint64_t size);
/* The remote object is another one, and nothing here is dirty or open: local bytes and blocks go. Lock held. */
void content_forget_locked(struct inode *inode);
/* The last reference is gone. */
void content_release(struct inode *inode);

#endif
