/* upload: one inode's way up, a state machine; uploader: the one thread that steps them all.
 *
 *      idle --> asking --> filling --> creating --> sending <--> frozen
 *        |      |  ^        |  |                       |
 *        |      |  '--------'  |       .---------------'
 *        |      |              v       v
 *        +------+-----------> completing -------> confirmed --> idle
 *        |      '-----------> copying -----------^    ^
 *        |                       '---> settling ------'
 *        '<--- parked (an error; tried again behind, at once for the next sync) <--- from any of them
 *
 * asking: HEAD for the headers and metadata that a rewrite keeps, and that the base still stands where the endpoint knows
 * no If-Match (then also before completing); the probe of whether it does. filling: the rest of a patched file's
 * base comes into the local file. copying: attributes alone differ, a copy onto itself. settling: a PUT, copy or Complete whose outcome
 * is unknown, or that a condition refused: HEAD, and our id and our size there mean done.
 *
 * small (<= part_bytes): one PUT in `completing`. Bytes are read from the local file into pages and sent as they
 * were: a body never changes while it is sent. Ranges changed since they were read stand in inode->unread; at the end,
 * parts that they touch go again; from the second round on, writers are held (frozen) until the bytes are read, so that
 * fsync ends. Complete is sent only when all parts are of one version. Before it, nothing of it is visible.
 * A part needs memory as a whole: at least 5 MiB, so memory= must be 8 MiB or more; see part.h.
 *
 * Every PUT and Create carries x-amz-meta-skyvol-id (random): an unknown outcome is settled by HEAD: our id and our
 * size there mean done.
 * Verified: the server checked each byte (checksum header) or the ETag it answered is the MD5 that we sent.
 *
 * Waiters: struct cache_sync in inode->syncs, each with the version that it waits for; answered when remote holds it, when
 * no byte was acknowledged for io_timeout (-EIO; the upload goes on behind), or with the error that parked it. After a
 * failed one, the next sync starts another try.
 *
 * Threads: one uploader thread; a mailbox (LOCK_UPLOAD) brings it events {inode changed, call done, memory granted, timer,
 * hold dropped, stop}. Only it touches struct upload. It takes the inode's lock briefly, never across the network.
 */
#ifndef CACHE_UPLOAD_H
#define CACHE_UPLOAD_H

#include "cache/inode.h"

enum upload_state {
    UPLOAD_IDLE,
    UPLOAD_ASKING,
    UPLOAD_FILLING,
    UPLOAD_CREATING,
    UPLOAD_SENDING,
    UPLOAD_FROZEN,
    UPLOAD_COMPLETING,
    UPLOAD_SETTLING,
    UPLOAD_COPYING,
    UPLOAD_PARKED,
    UPLOAD_CONFIRMED,
};

struct uploader;

struct uploader *uploader_new(struct cache *cache);
/* Stops: running calls are canceled, files stay. */
void uploader_free(struct uploader *uploader);

/* The inode became dirty (call with its lock held): it is listed as unsent, nothing goes up yet. */
void uploader_note_dirty_locked(struct inode *inode);
/* Something that decides about uploads changed: orphan, opens, holds, dirty. */
void uploader_poke(struct inode *inode);
/* Publish what is wanted now, behind. */
void uploader_publish(struct inode *inode);
/* Publish, and answer `sync` (cache.h): see Waiters above. */
void uploader_sync(struct inode *inode, struct cache_sync *sync);
bool uploader_sync_interrupt(struct cache_sync *sync);
/* Blocking form, for setattr, rename, truncate by path. 0, -EINTR (the upload goes on), or the error. */
int uploader_sync_wait(struct inode *inode, struct waiter *waiter);

/* While held, no upload of this inode runs: waits until the running one is idle or confirmed (parts already sent are
 * kept or aborted). Renames and unlinks hold by settling_hold(). 0, -EINTR, -ETIMEDOUT. */
int upload_hold(struct inode *inode, struct waiter *waiter);
void upload_unhold(struct inode *inode);
/* Nothing is unsent and no upload is at work: what the server says of it is believed again. Or it is dirty again. 0, -EINTR. */
int upload_await_end(struct inode *inode, struct waiter *waiter);

int uploader_drain(struct uploader *uploader, struct waiter *waiter, int64_t deadline_ms, size_t *ret_unsent);
void uploader_each_unsent(struct uploader *uploader,
                          void (*each)(void *context, const char *key, const char *path, uint64_t bytes,
                                       const char *why),
                          void *context);

struct uploader_report {
    uint64_t unsent_files, unsent_bytes, uploading, parked, conflicts;
    uint64_t sent_files, sent_bytes, sent_again_bytes;
    int64_t oldest_unsent_ms;
};
void uploader_report(struct uploader *uploader, struct uploader_report *ret_report);

#endif
