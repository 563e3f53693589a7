/* discard: the unsent changes of one file given up, by the word of the user or of conflict=remote-wins.
 *
 *      the inode, dirty --discard_locked--> lost orphan: its account ends, its upload is aborted, its local file goes
 *      its name         ------------------> in doubt: whoever looks next is told what stands in the bucket, or that nothing does
 *
 * Nothing in the bucket is touched. Who has it open for reading reads on what is here.
 */
#ifndef CACHE_DISCARD_H
#define CACHE_DISCARD_H

#include "cache/aftermath.h"

/* Nobody sends it (a hold, or the uploader itself) and the caller holds the marker of its name. Lock of names. */
void discard_locked(struct inode *inode, struct aftermath *aftermath);

#endif
