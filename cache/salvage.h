/* salvage: bytes of a base that are in memory (block.h) go into the local file: nobody has to fetch them, and where another client
 * has replaced the object nobody else has them any more.
 *
 *      base     |--------------------------------------|
 *      blocks        |######|      |######|######|            as readers have left them
 *      present  |====|                |===|                   written, or here before: stays as it is
 *      then     |====|######|      |##|===|######|
 *
 * Threads: blocks on the disk; one page at a time is written under the inode's lock.
 * Errors: of the disk, and what came before stays. A set of ranges that is full takes no more: no error, those are lacking.
 */
#ifndef CACHE_SALVAGE_H
#define CACHE_SALVAGE_H

#include "cache/inode.h"

/* All of the base that is in memory is in the local file, too, but for what lies within `copied` (NULL: nothing). */
int salvage_blocks(struct inode *inode, const struct extents *copied);

#endif
