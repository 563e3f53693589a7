/* recording: what happens to an inode, said to the journal before anybody hears of it, so that it survives.
 *
 *      none --recording_take, recording_born_locked--> recorded --clean, and not open for writing--> none (FORGET)
 *                                                       |    ^
 *         a note of the uploader could not be written   '----'  debt: the account is told anew before its next record
 *
 * inode->account is the number there, given once. What is no directory has an account while `recorded`; a directory while its marker is
 * unsent. Else it has one as long as something below has one, and it says its place only: the ledger drops it with its last child.
 *
 * Records of what a user did (born, content, attributes, moved, doomed) come before the change: if one fails, nothing
 * has changed, and the operation fails with its error. Records of what the uploader learned come after: a failure leaves a
 * journal that knows less (it would ask the server again after a crash), and a debt.
 *
 * Threads: `_locked` with the inode's lock held; those that give or take places with the lock of names as well, so that no
 *          directory loses its account while one is opened below.
 * Errors: as journal_append(): -ENOSPC, -EDQUOT, -EIO. Without a journal (a read-only mount) all is 0.
 */
#ifndef CACHE_RECORDING_H
#define CACHE_RECORDING_H

#include "cache/core.h"
#include "cache/journal.h"
#include "cache/uploader.h"

/* ---- What users do. ---- */

/* Takes the lock of the inode; it is recorded then, or an orphan, of which nothing survives. An error: the lock is not taken. */
int recording_take(struct inode *inode);
/* The same for who holds both locks: it has an account. */
int recording_open_locked(struct inode *inode);
/* A new file that nobody sent yet stands in the tree. */
int recording_born_locked(struct inode *inode);

struct content_change {
    uint64_t start, end; /* written; equal: truncated */
    const void *bytes;   /* what was written */
    uint64_t size, base_size;
    bool whole_replacement;
    int64_t now_ns;
};
/* The bytes stand in the local file already. -E2BIG: one dirty range too many, say recording_remote_locked() of fewer first. */
int recording_content_locked(struct inode *inode, const struct content_change *change);
/* What is dirty stands in this file already, and no longer where it stood. */
int recording_local_locked(struct inode *inode, struct disk_file *file, const char *name);
/* The attributes are to become what `wanted` says; or, where those differ, the extended attributes and the time of that. */
int recording_attributes_locked(struct inode *inode, const struct wanted *wanted);
/* As O_EXCL has it (record.h: EXCLUSIVE): nothing of it was sent. */
int recording_exclusive_locked(struct inode *inode);
/* The inode, or directory, is about to get this place; `replaced` loses it in the same moment, NULL: it is free. Lock of names. */
int recording_moved_locked(struct inode *inode, struct inode *to_parent, const char *to_name,
                           struct inode *replaced);
/* It is about to lose its name; its object, if it has one, is to go when nobody has it open any more. Both locks. */
int recording_doomed_locked(struct inode *inode);
/* Nothing of it is to survive: what is unsent was given up or overwritten. Both locks (an inode that has a name). */
void recording_forget_locked(struct inode *inode);
/* The account ends when all is sent and nobody has it open for writing. Takes names, inode. */
void recording_tidy(struct inode *inode);

/* ---- What the uploader learns. ---- */

/* inode->remote, and what of the contents differs from it; a try that is under way stays one. */
int recording_remote_locked(struct inode *inode);
/* The same, when more of its local file is dirty than was: bytes of its base, that no WRITE speaks of, are flushed as what was written. */
int recording_owned_locked(struct inode *inode);
/* The same, with what a try has come to: nothing more is to be found out. */
void recording_settled_locked(struct inode *inode);
void recording_upload(struct upload *upload);
void recording_part(struct upload *upload, size_t index);
/* Completed, aborted or lost. */
void recording_upload_end(struct inode *inode, const char *upload_id);
/* A PUT, COPY or COMPLETE of upload->id is about to be sent; -EIO and such: it must not be; -ECANCELED: its name went meanwhile. */
int recording_trying(struct upload *upload);
/* It did not happen. */
void recording_tried(struct upload *upload);

#endif
