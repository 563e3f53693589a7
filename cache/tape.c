#include "cache/tape.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

#define WINDOW_BYTES ((size_t)256 << 10)

/* ---- Room. ---- */

/* What must stay free behind this record. Who frees space may take what users may not; only MARKs take the last of it. */
static uint64_t reserve_behind(enum record_type type)
{
    static const uint64_t reserves[RECORD_TYPE_END] = {
        [RECORD_NODE] = TAPE_RESERVE,       [RECORD_BIRTH] = TAPE_RESERVE,
        [RECORD_ATTRIBUTES] = TAPE_RESERVE, [RECORD_WRITE] = TAPE_RESERVE,
        [RECORD_SIZE] = TAPE_RESERVE,       [RECORD_REMOTE] = TAPE_LAST,
        [RECORD_UPLOAD] = TAPE_RESERVE,     [RECORD_PART] = TAPE_LAST,
        [RECORD_UPLOAD_END] = TAPE_LAST,    [RECORD_TRYING] = TAPE_LAST,
        [RECORD_FORGET] = TAPE_LAST,        [RECORD_RESTATED] = TAPE_LAST,
        [RECORD_EXCLUSIVE] = TAPE_RESERVE,  [RECORD_BIRTH_EXCLUSIVE] = TAPE_RESERVE,
        [RECORD_XATTRS] = TAPE_RESERVE,
    };
    return reserves[type];
}

static int extend(struct tape *tape, uint64_t room)
{
    static const char zeros[64 << 10];
    while (tape->room < room) {
        uint64_t step = room - tape->room < sizeof zeros ? room - tape->room : sizeof zeros;
        int rc = disk_write(tape->file, zeros, step, tape->room);
        if (rc < 0)
            return rc; /* zeros behind the room harm nobody */
        tape->room += step;
    }
    return 0;
}

static int make_room(struct tape *tape, uint64_t needed)
{
    if (tape->end + needed <= tape->room)
        return 0;
    return extend(tape, (tape->end + needed + TAPE_STEP) / TAPE_STEP * TAPE_STEP);
}

int tape_make_room(struct tape *tape)
{
    return make_room(tape, TAPE_RESERVE + TAPE_STEP / 2);
}

/* ---- Writing. ---- */

int tape_begin(struct tape *tape, struct disk *disk, const char *name, const char *source, uint64_t next_id,
               const char *boot)
{
    *tape = (struct tape){.encoded = BUF_INIT};
    struct record heading = {
        .type = RECORD_HEADING, .format = RECORD_FORMAT, .next_id = next_id, .source = source};
    struct record host = {.type = RECORD_BOOT, .boot = boot, .kept = 1};
    BUF_SCOPED bytes = BUF_INIT;
    digest_random(&heading.salt, sizeof heading.salt);
    tape->salt = heading.salt;
    int rc = disk_open(disk, name, DISK_CREATE, &tape->file);
    if (rc == 0)
        rc = disk_truncate(tape->file, 0);
    if (rc == 0)
        rc = tape_encode(tape, &heading, &bytes);
    if (rc == 0)
        rc = tape_encode(tape, &host, &bytes);
    return rc < 0 ? rc : tape_put(tape, &bytes);
}

int tape_resume(struct tape *tape, struct disk_file **file, uint32_t salt, uint64_t sequence, uint64_t end,
                uint64_t size, bool torn)
{
    *tape = (struct tape){.file = *file,
                          .salt = salt,
                          .sequence = sequence,
                          .end = end,
                          .room = torn ? end : size,
                          .encoded = BUF_INIT};
    *file = NULL;
    return extend(tape, size);
}

void tape_release(struct tape *tape)
{
    if (!tape->file)
        return;
    disk_close(tape->file);
    buf_release(&tape->encoded);
    *tape = (struct tape){0};
}

int tape_encode(struct tape *tape, const struct record *record, struct buf *out)
{
    int rc = record_write(record, tape->salt, tape->sequence + 1, out);
    if (rc == 0)
        tape->sequence++;
    return rc;
}

/* A half-written record goes: behind it nothing could be read. */
static void cut_back(struct tape *tape)
{
    tape->torn = disk_truncate(tape->file, tape->end) < 0;
    tape->room = tape->end;
}

int tape_put(struct tape *tape, const struct buf *bytes)
{
    if (tape->torn)
        return -EIO;
    int rc = disk_write(tape->file, bytes->bytes, bytes->length, tape->end);
    if (rc < 0) {
        cut_back(tape);
        return rc;
    }
    tape->end += bytes->length;
    if (tape->room < tape->end)
        tape->room = tape->end;
    return 0;
}

int tape_append(struct tape *tape, const struct record *record)
{
    if (tape->torn)
        return -EIO;
    buf_reset(&tape->encoded);
    int rc = record_write(record, tape->salt, tape->sequence + 1, &tape->encoded);
    if (rc == 0) /* it may be too large, or the disk full: then what is kept for records like this is taken */
        rc = make_room(tape, tape->encoded.length + TAPE_RESERVE);
    if ((rc == -ENOSPC || rc == -EDQUOT) &&
        tape->end + tape->encoded.length + reserve_behind(record->type) <= tape->room)
        rc = 0;
    if (rc == 0)
        rc = tape_put(tape, &tape->encoded);
    if (rc == 0)
        tape->sequence++;
    return rc;
}

/* ---- Reading. ---- */

void tape_reader_init(struct tape_reader *reader, struct disk_file *file, uint32_t salt, uint64_t sequence,
                      uint64_t offset)
{
    *reader = (struct tape_reader){.file = file,
                                   .reader = {.salt = salt, .sequence = sequence},
                                   .window = BUF_INIT,
                                   .window_at = offset};
}

void tape_reader_release(struct tape_reader *reader)
{
    record_reader_release(&reader->reader);
    buf_release(&reader->window);
}

uint64_t tape_reader_at(const struct tape_reader *reader)
{
    return reader->window_at + reader->at;
}

/* More of the file behind what is left of the window. 1, or 0: nothing more may be read. */
static int refill(struct tape_reader *reader, uint64_t limit)
{
    struct buf *window = &reader->window;
    size_t left = window->length - reader->at;
    uint64_t from = reader->window_at + window->length;
    if (from >= limit)
        return 0;
    BUF_SCOPED next = BUF_INIT;
    size_t more =
        left < WINDOW_BYTES ? WINDOW_BYTES : left; /* a record longer than a window: twice as much */
    if (more > limit - from)
        more = limit - from;
    buf_add(&next, window->bytes + reader->at, left);
    char *bytes = xmalloc(more);
    ssize_t got = disk_read(reader->file, bytes, more, from);
    if (got > 0)
        buf_add(&next, bytes, (size_t)got);
    free(bytes);
    if (got <= 0)
        return (int)got;
    buf_release(window);
    *window = next;
    next = (struct buf)BUF_INIT;
    reader->window_at += reader->at;
    reader->at = 0;
    return 1;
}

int tape_read(struct tape_reader *reader, uint64_t limit, struct record *ret_record)
{
    for (;;) {
        size_t left = reader->window.length - reader->at;
        ssize_t size = record_read(&reader->reader, reader->window.bytes + reader->at, left, ret_record);
        if (size > 0) {
            reader->at += (size_t)size;
            return 1;
        }
        if (size != -ENODATA)
            return (int)size;
        if (tape_reader_at(reader) == limit)
            return 0;
        int rc = refill(reader, limit);
        if (rc <= 0)
            return rc < 0 ? rc : -ENODATA;
    }
}
