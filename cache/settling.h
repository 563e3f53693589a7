/* settling: an upload held for an operation on its name, and with it the question answered whether an object of ours
 * stands there that nobody confirmed: the reply of a PUT, COPY or COMPLETE was lost, and so was the HEAD behind it.
 *
 *      upload --heard nothing certain--> inode->maybe_id, maybe_key --hold--> HEAD: our id?  yes: inode->remote is it
 *             <--asks nothing any more-- (cleared)                                           no: nothing of it stands there
 *
 * An unlink or rename that did not ask would forget that object: a file that nobody made would stand in the bucket.
 *
 * Threads: blocking, no lock held. Errors: as upload_hold() and server.h; then nothing is held and the question stands.
 */
#ifndef CACHE_SETTLING_H
#define CACHE_SETTLING_H

#include "cache/inode.h"

/* upload_hold(), after which inode->remote tells all that is ours under the name. Ended by upload_unhold(). */
int settling_hold(struct inode *inode, const char *what, struct waiter *waiter);

#endif
