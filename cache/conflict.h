/* conflict: the object that a file was patched from is another client's by now, or gone, or one is where O_EXCL made a file: what becomes
 * of ours.
 *
 *      keep both     ours --moves aside--> NAME.skyvol-conflict-HOST-TIME, which goes up whole; theirs has NAME
 *      remote wins   ours is given up (discard.h)
 *      local wins    ours goes up whole, over theirs
 *
 *      bytes of the base that only memory has come into the local file (salvage.h) -> all that is here is recorded as unsent
 *      -> NODE: the new name -> RESTATED: no base
 *      A crash before NODE: the old name, and the same conflict again. After it: the new name. Whole in each case.
 *
 * Open handles, and what they write later, follow ours; who waits in fsync or close hears ESTALE once. Where parts of the base are
 * nowhere here, ours stays what and where it is, but for remote-wins: the bucket has another version, and ranges that were copied
 * into an unfinished upload can be neither read nor completed under another key.
 * Whole replacement (create without O_EXCL, O_TRUNC, rename) is no conflict: the last writer wins.
 *
 * Threads: conflict_settle() blocks, and is called by the upload of that inode while it is busy; the marker of the name keeps renames
 *          and removals away, and a hold of the upload interrupts it.
 */
#ifndef CACHE_CONFLICT_H
#define CACHE_CONFLICT_H

#include "cache/inode.h"

#define CONFLICT_HOST_MAX  32 /* bytes of the host's name */
#define CONFLICT_NAMES_MAX 99 /* copies of one name, host and second */

/* 1: ours stepped aside, or was given up: who waits hears ESTALE. 0: it goes up under its own name, or from a request of ours that
 * had arrived late (settling.h). -ESTALE: it stays as it is.
 * -EINTR, or an error of the server or the journal: not now. */
int conflict_settle(struct inode *inode, struct waiter *waiter);
/* The name of the nth copy (from 1), of at most `room` bytes: `name` is cut where it must be, between two characters.
 * -ENAMETOOLONG: nothing would be left of it. */
int conflict_name(const char *name, const char *host, int64_t wall_ns, unsigned nth, size_t room,
                  struct buf *ret_name);
/* The first label of a host's name, of letters, digits, '-' and '_' only; "host" when nothing is left. */
void conflict_host(const char *hostname, struct buf *ret_host);

#endif
