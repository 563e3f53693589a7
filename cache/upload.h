/* upload: one inode's way up, a state machine; uploader: the one thread that steps them all.
 *
 *      idle --> asking --> filling --> creating --> sending <--> frozen
 *        |      |  ^        |  |                       |
 *        |      |  '--------'  |       .---------------'
 *        |      |              v       v
 *        +------+-----------> completing -------> confirmed --> idle
 *        |      '-----------> copying -----------^    ^
 *        |                       '---> settling ------'
 *        '<--- conflict <--- asking, filling, sending, settling: another client's object, or none, is in the place of what was patched (conflict.h)
 *        '<--- parked (an error; tried again behind, at once for the next sync) <--- from any of them
 *
 * asking: HEAD for the headers and metadata that a rewrite keeps, and that the base still stands where the endpoint knows
 * no If-Match (then also before completing); the probe of whether it does; the tags, where there are some (tagging.h), also when a
 * copy turns out to go by parts only. filling: the rest of a patched file's
 * base comes into the local file, but for what is copied. copying: attributes alone differ, a copy onto itself; or its name does (displaced): a copy under its
 * name's key, also while somebody writes; what stood under the old one goes behind (names_confirmed). settling: a PUT, copy or Complete whose outcome
 * is unknown, or that a condition refused: HEAD, and our id and our size there mean done.
 *
 * small (<= part_bytes): one PUT in `completing`. Bytes are read from the local file into pages and sent as they
 * were: a body never changes while it is sent. Ranges changed since they were read stand in inode->unread; at the end,
 * parts that they touch go again; from the second round on, writers are held (frozen) until the bytes are read, so that
 * fsync ends. Complete is sent only when all parts are of one version. Before it, nothing of it is visible.
 * A part needs memory as a whole: at least 5 MiB, so memory= must be 8 MiB or more; see part.h.
 *
 * A large file of which little changed: ranges of the base are parts by UploadPartCopy, with If-Match (mosaic.h). A write within one
 * that came before the version was taken: the file is cut anew, the third time with its writers held from the cut on. An
 * endpoint that refuses such a copy is not asked again, and gets files whole.
 *
 * Early: a new file that is appended to (early_bytes) is created and sends the whole parts that its writer has left behind, few at a time
 * (uploader.h: early_max), then rests in idle with what landed; a part that is written over after that goes again when the file is asked for.
 * Asked for by a close alone, an upload waits while the file is open for writing again, and gives way where it had begun.
 * Renamed after parts landed it is completed where it was begun, and copied (birth.h); for that idle may go over asking (the probe) to sending.
 * After a restart (resuming.h) an upload goes on in creating, where LIST_PARTS says what landed, or in settling.
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
    UPLOAD_CONFLICT,
    UPLOAD_PARKED,
    UPLOAD_CONFIRMED,
};

struct uploader;

struct uploader *uploader_new(struct cache *cache);
/* Stops: running calls are canceled, files stay. */
void uploader_free(struct uploader *uploader);

/* The inode became dirty (call with its lock held): it is listed as unsent, nothing goes up yet. */
void uploader_note_dirty_locked(struct inode *inode);
/* It is listed as unsent. */
bool uploader_lists(struct uploader *uploader, const struct inode *inode);
/* Something that decides about uploads changed: orphan, opens, holds, dirty. */
void uploader_poke(struct inode *inode);
/* It has lost its name, so its upload ends. The thread sleeps on where it has nothing in hand of it: rm -r would wake it for each file. */
void uploader_end(struct inode *inode);
/* Publish what is wanted, behind, when nobody has it open for writing: what a writer is in the middle of is not shown. */
void uploader_publish(struct inode *inode);
/* The same also in the middle. */
void uploader_publish_open(struct inode *inode);
/* The same of all that is open for writing, and neither on its way nor failed. */
void uploader_publish_growing(struct uploader *uploader);
/* Somebody has asked for it, and it may go. Lock held. */
bool uploader_asked_locked(const struct inode *inode);
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

/* An error after which trying again is left to others: what is parked with it does not move by itself. */
bool uploader_stuck(int parked_rc);
int uploader_drain(struct uploader *uploader, struct waiter *waiter, int64_t deadline_ms, size_t *ret_unsent);
/* References to all unsent inodes; the caller drops them and frees the array. */
void uploader_list_unsent(struct uploader *uploader, struct inode ***ret_inodes, size_t *ret_count);

struct uploader_report {
    uint64_t unsent_files, unsent_bytes, uploading, parked, conflicts;
    uint64_t in_flight_max; /* uploads at once, as the server takes them */
    uint64_t sent_files, sent_bytes, sent_again_bytes, copied_bytes;
    int64_t oldest_unsent_ms;
};
/* The sent_ ones alone: quick. */
void uploader_report_sent(struct uploader *uploader, struct uploader_report *ret_report);
void uploader_report(struct uploader *uploader, struct uploader_report *ret_report);

#endif
