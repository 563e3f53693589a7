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
    atomic_int flags;    /* O_ACCMODE, O_APPEND, O_SYNC, O_DSYNC */
    pid_t process;       /* thread group that opened it */
    atomic_bool closing; /* set under the inode's lock: counted in closing_opens */
    struct lock lock;    /* LOCK_LEAF, around prefetch */
    struct prefetch prefetch;
    struct prefetch_stream streams[];
};

/* Makes a handle of an inode whose name and identity are settled. Counts opens. O_TRUNC is applied here. */
int content_open(struct inode *inode, int flags, pid_t process, struct handle **ret_handle,
                 struct opened *ret_opened);
/* ftruncate and truncate: local at once; extends by zeros, cuts extents and base_size. With NULL waiter -EAGAIN where
 * it would have to wait for held writers. To the size that it has: only the times change, and those of a clean file do not, for
 * which its bytes would go up again; of an empty one they do. */
int content_truncate(struct inode *inode, struct waiter *waiter, uint64_t size);
/* To a larger size: what is behind its old end, which was that of the base too, is more of the base. Held (upload_hold), recorded, lock
 * held. The journal's error: nothing has changed. */
int content_grow_locked(struct inode *inode, uint64_t size);
/* All or nothing, as cache_write(); append: at the size as it stands, whatever `offset` says. */
int content_write(struct inode *inode, struct waiter *waiter, const void *bytes, size_t size, uint64_t offset,
                  bool append);
/* [start, end) reads as zeros; what is behind the size does so anyway, and with `grow` it reaches to `end`. Nothing is written for that:
 * it becomes a hole, or, where the base would show through, a hole of the local file that goes up as zeros. */
int content_zero(struct inode *inode, struct waiter *waiter, uint64_t start, uint64_t end, bool grow);
/* The local file gets the blocks of [start, end), where its disk gives any. In steps, each of which can be interrupted. -ENOSPC: some may
 * stay until it is closed and has gone up. */
int content_reserve(struct inode *inode, struct waiter *waiter, uint64_t start, uint64_t end);
/* Its close is being answered, or it is written again (a duplicate of it stayed open). */
void content_set_closing(struct handle *handle, bool closing);
/* Brings bytes of the base that are not present into the local file (before a patched file goes up): all, but for those that
 * are copied where they are (`copied`, or NULL; it stays as it is meanwhile). Blocking. */
int content_fill(struct inode *inode, const struct extents *copied, struct waiter *waiter);
/* True when bytes of the base are missing in the local file: see content_fill(). Lock held. */
bool content_gaps_locked(const struct inode *inode);
bool content_lacks_locked(const struct inode *inode, const struct extents *copied);
/* What need not be fetched: here already, or copied where it is (NULL: nothing is). Lock held. */
void content_join_locked(const struct inode *inode, const struct extents *copied, struct extents *ret_good);
/* Bytes of the base at `start` go where still nothing is present: a write in between is newer. Lock held. */
int content_land_locked(struct inode *inode, uint64_t start, const void *bytes, size_t length);
/* All that is here is unsent from now on, what the base has as well too: it is not given back, and after a crash it is here without
 * the base. The journal's error: as before. Lock held. */
int content_own_base_locked(struct inode *inode);
/* From now on it is a file that nobody sent: all of the base that is still part of it is here. Lock held. */
void content_forget_base_locked(struct inode *inode);
/* The same for one that may be clean: all of it is unsent then. Lock held. */
void content_part_locked(struct inode *inode);
/* Gives back the space of bytes that the base has as well, for a local disk that is full: true when there were some. The journal says
 * first what is dirty, and the disk hears that: else the next mount takes holes for what was written. `uploads`: the caller is the
 * inode's upload. Takes the lock; blocks. */
bool content_give_back(struct inode *inode, bool uploads, struct waiter *waiter);
/* Bytes from `start` on, as the file stands, into `pieces`, at most to `end`, the end of the file or of the pieces: local
 * bytes, zeros elsewhere (the base must be filled in). From the call on changes of the range stand in inode->unread.
 * Takes the lock, but not while it reads: whoever wants one version looks at `unread` afterwards. ret_version: of the contents
 * when it began. 0, or -EIO: the local file lost bytes. The uploader's thread only. */
int content_read_local(struct inode *inode, uint64_t start, uint64_t end, const struct iovec *pieces,
                       size_t count, uint64_t *ret_length, uint64_t *ret_version);
/* A confirmed upload: what was not changed since is clean, unless it stands elsewhere than under its name; the base is the new object of
 * `size`. Lock held. Only the uploader's own word counts (inode->upload_busy); done twice it changes nothing more. */
void content_confirmed_locked(struct inode *inode, uint64_t content_version, uint64_t size, bool elsewhere);
/* Where the object is of this version, and under the name, nothing is dirty any more. Lock held. */
void content_arrived_locked(struct inode *inode);
/* After whoever changed `dirty`: tells pressure.h. Lock held. */
void content_count_dirty_locked(struct inode *inode);
/* The remote object is another one, and nothing here is dirty or open: local bytes and blocks go. Lock held. */
void content_forget_locked(struct inode *inode);
/* The local file goes, when nothing in it is unsent and nobody has the inode open. Lock held. */
void content_tidy_locked(struct inode *inode);
/* Nobody writes any more: what was reserved of the disk goes back. Lock held. */
void content_trim_locked(struct inode *inode);
/* Reads that wait for what becomes of an upload (inode->rereads) begin again, or end with rc < 0. No lock held. */
void reads_go_on(struct inode *inode, int rc);
/* The last reference is gone. Unsent bytes of a file that has a name stay on the disk. */
void content_release(struct inode *inode);

#endif
