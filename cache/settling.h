/* settling: an upload held for an operation on its name, and with it the question answered whether an object of ours
 * stands there that nobody confirmed: the reply of a PUT, COPY or COMPLETE was lost, and so was the HEAD behind it.
 *
 *      upload --heard nothing certain--> inode->maybe_id, maybe_key --hold--> HEAD: our id?  yes: inode->remote is it
 *             <--asks nothing any more-- (cleared)                                           no: nothing of it stands there
 *
 * An unlink or rename that did not ask would forget that object: a file that nobody made would stand in the bucket.
 *
 * A request that had not arrived when we asked may do so later: a server that hung takes what stands in its buffers when it goes on.
 * An upload or a read that meets another version than the base asks whether it is that one (inode->late_id, the last of them): it is
 * ours, made from the same base, and all that it brought is still counted as unsent. Who removes or, in sync, moves the
 * file does not ask.
 *
 * Threads: blocking, no lock held. Errors: as upload_hold() and server.h; then nothing is held and the question stands.
 */
#ifndef CACHE_SETTLING_H
#define CACHE_SETTLING_H

#include "cache/inode.h"

/* upload_hold(), after which inode->remote tells all that is ours under the name. Ended by upload_unhold(). */
int settling_hold(struct inode *inode, const char *what, struct waiter *waiter);
/* The question alone, for who knows that no upload runs. */
int settling_ask(struct inode *inode, const char *what, struct waiter *waiter);

/* What stands in the place of the base is that late request's: 1, and it is the base from here on; 0: it is not. No upload runs, or
 * the caller is its errand. */
int settling_take_late(struct inode *inode, const char *what, struct waiter *waiter);
/* True: that is being found out, by a job or by the upload that runs, and reads_go_on() comes when it has been. */
bool settling_ask_late_locked(struct inode *inode);

#endif
