/* record: one change of what is wanted or confirmed, as bytes of the journal. Pure.
 *
 *      0        4        8          16     20
 *      | length | crc32c | sequence | type | payload ... | zeros to a multiple of 8 |
 *        u32      u32      u64        u32
 *
 * All numbers little-endian. `length` counts the payload. The CRC covers all but itself, the zeros too, and starts from the
 * file's salt: bytes of another journal that ride in this one are no records of it. Sequences grow by one from 1, the HEADING
 * (whose CRC starts from 0). What each payload holds, in order, is the table in record.c: numbers as they are, bool u8,
 * texts with their NUL, sets of fields as u32 count and name, value texts, extents as u32 count and u64 pairs, pieces as
 * u32 count and u64 each, contents as u32 length and bytes.
 *
 * A file is named by `id`: the journal's own number of an inode, never another one's; 0 is the root of the mount. What a
 * record states is so after the change: it is not to be worked out from what was so before.
 */
#ifndef CACHE_RECORD_H
#define CACHE_RECORD_H

#include "base/buf.h"
#include "cache/extent.h"
#include "cache/inode.h"
#include "cache/part.h"

#define RECORD_HEAD      20
#define RECORD_MARK_SIZE 48 /* of a whole MARK */
#define RECORD_RIDE_MAX                                                                                      \
    ((size_t)32 << 10) /* size of a file whose contents ride: one flush, of the log, makes them L */
#define RECORD_BYTES_MAX                                                                                     \
    ((size_t)4 << 20)   /* of a payload: the metadata of an object, and 65 536 extents, fit */
#define RECORD_FORMAT 1 /* of HEADING, its first field in all formats: a larger one is refused */

enum record_type {
    RECORD_HEADING = 1, /* the first of a file: format, salt, source */
    RECORD_BOOT, /* what follows was written under this boot of the host; what does not count of what stands before */
    RECORD_MARK, /* what is on the disk: see the fields */
    RECORD_NODE, /* id stands at this place (rename, or first mention), or at none: its object, if any, is to go */
    RECORD_BIRTH,      /* id was made here: place, attributes, size; nothing of it is in the bucket */
    RECORD_ATTRIBUTES, /* wanted attributes, without the size */
    RECORD_WRITE,      /* [start, end) was written into the local file; contents may ride along */
    RECORD_SIZE,       /* cut or grown by truncate */
    RECORD_REMOTE,     /* what the bucket is known to hold, and all that differs from it here; ends TRYING */
    RECORD_UPLOAD,     /* a multipart upload was created */
    RECORD_PART, /* a part of it landed, with the bytes of content_version; size 0: that version changed its range */
    RECORD_UPLOAD_END, /* completed, aborted, or lost */
    RECORD_TRYING,     /* a PUT, COPY or COMPLETE with this skyvol_id may have happened; "": it has not */
    RECORD_FORGET,     /* clean, or given up: nothing is kept of it */
    RECORD_RESTATED,   /* as REMOTE, but says nothing of what is tried: TRYING stays */
    RECORD_EXCLUSIVE, /* made where nothing was to be (O_EXCL): until it was sent, or got another name or directory itself, it overwrites nothing (of a checkpoint, or a copy, clone.h) */
    RECORD_XATTRS, /* wanted extended attributes: the whole set, as the field of metadata has it (xattr.h) */
    RECORD_BIRTH_EXCLUSIVE, /* BIRTH and EXCLUSIVE in one: what was torn between two would be a file that overwrites */
    RECORD_TYPE_END,
};

/* What a record says; fields that its type does not have are zero, NULL texts are "". Texts, bytes and sets point into the
 * bytes that were read or into the reader, or are the writer's: nothing here is owned. */
struct record {
    enum record_type type;
    uint64_t sequence; /* as read; a writer gives it to record_write() */
    uint64_t id;       /* all but HEADING, BOOT, MARK */
    /* HEADING, BOOT */
    uint32_t format, salt;
    uint64_t next_id;   /* the least id that was never used */
    const char *source; /* endpoint, bucket, prefix: whose changes these are */
    const char *boot;
    uint64_t kept; /* BOOT: records behind this one, up to here, went with the power */
    /* MARK: sequences of this file. Records up to `flushed` are on the disk, the local bytes that records up to `backed` speak
     * of are, and what rode in records up to `settled` stands in local files, on the disk. settled, flushed <= backed. */
    uint64_t flushed, backed, settled;
    /* NODE, BIRTH; all that is said of BIRTH is so of BIRTH_EXCLUSIVE too */
    uint64_t parent;
    const char *name;   /* "": none (NODE) */
    uint32_t kind;      /* S_IFMT bits */
    const char *target; /* of a symlink, or "major:minor" of a device; "" where only the bucket knows it */
    uint64_t
        replaced; /* NODE: who had the name until now and has none any more, in the same moment; 0: nobody */
    bool forgotten; /* NODE of a checkpoint: kept for what is below it only */
    /* ATTRIBUTES, BIRTH: number, mode (0: not known), uid, gid and times */
    struct attributes attributes;
    uint64_t attribute_version; /* UPLOAD, TRYING: that it carries */
    const char *xattrs;         /* XATTRS, beside ctime and attribute_version; "": none */
    bool mtime_explicit;        /* UPLOAD: it carries an mtime, mtime_ns */
    /* WRITE, SIZE, REMOTE and RESTATED, BIRTH */
    uint64_t start, end;
    uint64_t size;            /* of the file afterwards; of a part; of what TRYING sends */
    int64_t mtime_ns;         /* WRITE, SIZE: of mtime and ctime */
    uint64_t content_version; /* PART, TRYING: that it carries */
    uint64_t base_size;
    bool whole_replacement;
    const char *local; /* name of the local file; "" none */
    const void *bytes; /* WRITE: the contents of [start, end), or NULL: they stand in the local file only */
    /* REMOTE and RESTATED; key: UPLOAD, TRYING too */
    const char *key;          /* whole; "": no object */
    struct identity identity; /* UPLOAD: of what stood under its key at Create; no ETag: nothing did */
    const struct store_fields *meta, *headers;
    bool headers_known;
    uint64_t remote_content_version, remote_attribute_version;
    const struct extents *dirty;
    /* UPLOAD, PART, TRYING */
    const char *upload_id, *skyvol_id;
    const char *etag,
        *checksum; /* of a part; the checksum is "" as yet: what a part holds is told by its size and ETag */
    bool copying;  /* parts are copies of the object: changes here do not make them stale */
    struct part_plan plan;
    uint64_t index; /* of a part, from 0 */
};

/* Appends it to `out`. 0, or -EMSGSIZE: over RECORD_BYTES_MAX, or more rides than may; nothing is appended. */
int record_write(const struct record *record, uint32_t salt, uint64_t sequence, struct buf *out);

/* What a reader of one file has learned, and memory for the sets of the last record. Zero is its beginning. */
struct record_reader {
    uint32_t salt;     /* from the HEADING on */
    uint64_t sequence; /* of the last record */
    struct store_fields meta, headers;
    struct extents dirty;
    struct part_piece *pieces;
    size_t meta_room, headers_room, pieces_room;
};

void record_reader_release(struct record_reader *reader);
/* > 0: *ret_record is the next one, and takes that many of the bytes; it is valid until the next call and while they stay.
 * -ENODATA: it is longer than `length`, or there is none. -EBADMSG: no record that we wrote here. -EPROTO: its CRC is right,
 * and its type or payload is not known here: a newer skyvol wrote it (ret_record->format, sequence and type are set). */
ssize_t record_read(struct record_reader *reader, const void *bytes, size_t length,
                    struct record *ret_record);
/* True when a whole MARK stands exactly here and says that the record `sequence` was on the disk. */
bool record_marks(const void *bytes, size_t length, uint32_t salt, uint64_t sequence);

const char *record_type_name(enum record_type type);
/* Of what was made here: BIRTH, BIRTH_EXCLUSIVE. */
bool record_is_birth(const struct record *record);

#endif
