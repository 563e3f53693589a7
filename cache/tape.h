/* tape: one file of the journal, written at its end and read from its beginning.
 *
 *      journal-8:  HEADING  BOOT  record record ... MARK record ... MARK | zeros: room taken ahead |
 *                  1        2     3                                      end                       room
 *
 * Room is taken ahead, so that a disk that is full stops what users do (-ENOSPC) while what frees space, and MARKs, still
 * get written: TAPE_RESERVE is theirs. It also keeps a flush from changing the size of the file.
 *
 * Errors: a record that fails to be written is cut off again, and the tape is as before. Where even that fails the tape is
 *         torn: -EIO from then on.
 * Threads: none; the owner's lock. disk_flush(tape->file) may run beside the others.
 */
#ifndef CACHE_TAPE_H
#define CACHE_TAPE_H

#include "base/disk.h"
#include "cache/record.h"

#define TAPE_RESERVE ((uint64_t)256 << 10) /* for records that free space */
#define TAPE_LAST    ((uint64_t)8 << 10)   /* ... and of it for MARKs */
#define TAPE_STEP    ((uint64_t)512 << 10) /* of room */

struct tape {
    struct disk_file *file; /* owned; NULL: no tape */
    uint32_t salt;
    uint64_t sequence; /* of the last record */
    uint64_t end, room;
    bool torn;
    struct buf encoded; /* of the record under way */
};

/* A new file `name` (an old one of that name is emptied) that says HEADING and BOOT, nothing flushed. tape_release()
 * after any outcome; the name stays then. */
int tape_begin(struct tape *tape, struct disk *disk, const char *name, const char *source, uint64_t next_id,
               const char *boot);
/* Goes on behind `end` of a file of `size` that was read; `torn`: what stands there becomes zeros. Nothing is given back, so
 * that a disk that is full has the room it had. Takes the file, also when it fails. */
int tape_resume(struct tape *tape, struct disk_file **file, uint32_t salt, uint64_t sequence, uint64_t end,
                uint64_t size, bool torn);
void tape_release(struct tape *tape);

/* The record is the tape's last. -ENOSPC, -EMSGSIZE, -EIO ... */
int tape_append(struct tape *tape, const struct record *record);
/* In two steps, for many at once: its bytes, with its sequence, are in `out`; bytes of such records, in order, stand at the
 * end. After a failure of either the tape cannot be used any more. */
int tape_encode(struct tape *tape, const struct record *record, struct buf *out);
int tape_put(struct tape *tape, const struct buf *bytes);
/* Room for TAPE_RESERVE, and more, is there. */
int tape_make_room(struct tape *tape);

/* Reads records in order; nothing of the disk is changed. */
struct tape_reader {
    struct disk_file *file; /* the caller's */
    struct record_reader reader;
    struct buf window;
    uint64_t window_at; /* offset of the window in the file */
    size_t at;          /* in the window */
};

/* From `offset`, where the record after `sequence` begins. 0, 0, 0: the whole file. */
void tape_reader_init(struct tape_reader *reader, struct disk_file *file, uint32_t salt, uint64_t sequence,
                      uint64_t offset);
void tape_reader_release(struct tape_reader *reader);
/* 1: *ret_record is the next one that ends at or before `limit`, valid until the next call. 0: it is at `limit`. -ENODATA:
 * the file, or what may be read of it, ends within a record, or between two. -EBADMSG, -EPROTO as record_read(); else of the disk. */
int tape_read(struct tape_reader *reader, uint64_t limit, struct record *ret_record);
/* Where the next record begins. */
uint64_t tape_reader_at(const struct tape_reader *reader);

#endif
