/* syncing: the answer to an fsync, or to a close that waits; the fsync of a directory (cache_fsync_directory()).
 *
 *      asked: sync->recorded, and the flusher hurries --> the object stands in S3 --syncing_answer--> the log is on the disk so far? --> done
 *
 * What stands in S3 is made sure of only when the disk knows, too: else a power cut leaves an older version of the file there, unsent,
 * and the next mount sends that over it. The flush goes on beside the upload, so mostly nobody waits for it.
 *
 * Threads: any, without locks. Errors: -EIO when the journal broke.
 */
#ifndef CACHE_SYNCING_H
#define CACHE_SYNCING_H

#include "cache/core.h"

/* sync->inode is set. */
void syncing_begin(struct cache_sync *sync);
/* done(rc), after the flush where rc is 0. */
void syncing_answer(struct cache_sync *sync, int rc);

#endif
