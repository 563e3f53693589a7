/* unflushed: the local files whose bytes are not on the disk yet, as far as the journal speaks of them.
 *
 *      noted --> due      records speak of bytes that they do not carry: flushed before the next MARK
 *            '-> riding   all such bytes stand in the log too: flushed before the log that has them goes
 *
 *      due, riding --unflushed_begin--> at work --unflushed_take--> busy --unflushed_done--> gone, or due / riding again
 *                                                                                          (noted in between)
 *
 * Use: unflushed_begin() moves a list to one's own; unflushed_take() its files one by one, flush each without the lock,
 *      unflushed_done() under it. What is at work is flushed even when nobody wants the file any more: the records that gave
 *      it up may be lost with the power, when those that speak of it are not.
 * Owns: nothing of a file, until unflushed_retire(): then it closes it.
 * Threads: under the lock of the journal, all of it.
 */
#ifndef CACHE_UNFLUSHED_H
#define CACHE_UNFLUSHED_H

#include <uthash.h>

#include "base/disk.h"
#include "base/list.h"

enum unflushed_need { NEED_NOTHING, NEED_RIDING, NEED_DUE };

struct unflushed_file {
    struct disk_file *file;
    UT_hash_handle by_file;
    struct list link;         /* in due, riding, or a list that was spliced from them; by itself while busy */
    enum unflushed_need need; /* what it stands for; while busy: what was noted since */
    uint64_t due_bytes;       /* likewise */
    enum unflushed_need taken; /* while busy: what it stood for */
    uint64_t taken_bytes;
    uint64_t round;
    bool busy;
    bool retired, unwanted; /* its owner has done with it; nobody needs its bytes any more */
};

struct unflushed {
    struct unflushed_file *files;
    struct list due, riding;
    uint64_t due_bytes;            /* of all, the busy ones too */
    uint64_t riding_bytes;         /* noted since the caller last set it to 0 */
    uint64_t riding_files;         /* ... and files that began to ride */
    uint64_t rounds[NEED_DUE + 1]; /* grow with each begin: files of an older one are at work */
};

void unflushed_init(struct unflushed *unflushed);
/* Retired files are closed. */
void unflushed_release(struct unflushed *unflushed);
/* `bytes` of it were written; rides: they stand in the log as well. */
void unflushed_note(struct unflushed *unflushed, struct disk_file *file, uint64_t bytes, bool rides);
/* All that are due, or all that ride, are at work now, in `to`, which was empty. */
void unflushed_begin(struct unflushed *unflushed, enum unflushed_need need, struct list *to);
/* The work is broken off: what is left of it stands where it stood. */
void unflushed_put_back(struct unflushed *unflushed, struct list *files);
/* The first of `files`, busy now; NULL: the list is empty. */
struct unflushed_file *unflushed_take(struct list *files);
/* It was flushed, or could not be (flushed false: it stands in its list again). */
void unflushed_done(struct unflushed *unflushed, struct unflushed_file *entry, bool flushed);
/* The owner has done with the file: it is closed, now or when it is not busy any more. `wanted`: its bytes still count, so
 * not before they are flushed. */
void unflushed_retire(struct unflushed *unflushed, struct disk_file **file, bool wanted);

#endif
