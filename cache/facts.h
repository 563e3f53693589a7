/* facts: what the catalog remembers of one name, as bytes. Pure.
 *
 *      0       4      5       6
 *      | crc32c | type | flags | number? | directory? | size, modified, etag? | fields of the metadata? |
 *
 * Numbers of variable length (LEB128), signed ones zigzag. An ETag of 32 hexadecimal digits in quotes, with or without "-N", is
 * packed; others stand as they are. The names of metadata that skyvol and s3fs write have a code of one byte, skyvol-id is packed.
 * The CRC covers all behind it and begins with the directory and the name: facts of another place are none of this one.
 *
 * Not kept: the key (it follows from the place) and the headers of a rewrite (they are asked for again before one).
 */
#ifndef CACHE_FACTS_H
#define CACHE_FACTS_H

#include "base/buf.h"
#include "s3/store.h"

#define FACTS_BYTES_MAX ((size_t)8 << 10) /* longer ones are not kept: user metadata is 2 KiB at most */

struct facts {
    uint32_t type; /* S_IFMT bits; 0: an object that was listed without metadata, and nobody has looked at */
    bool attributes_known;    /* its metadata were seen, or are not wanted */
    uint64_t number;          /* st_ino; 0: the one that follows from its name */
    uint64_t directory;       /* of a directory: its id in the catalog; else 0 */
    bool exists;              /* there is an object: of a directory, its marker */
    struct store_object seen; /* where it exists: size, modified_ns, etag, meta, meta_known */
};

/* Appends them. 0, or -EMSGSIZE: longer than FACTS_BYTES_MAX, and nothing is appended. */
int facts_write(const struct facts *facts, uint64_t directory, const char *name, struct buf *out);
/* 0: ret_facts is the caller's until facts_release(); -EBADMSG: these are no facts of this place. */
int facts_read(const void *bytes, size_t length, uint64_t directory, const char *name,
               struct facts *ret_facts);
/* The same without a look at more than the first bytes, and without the CRC: for listings that name only. */
int facts_glance(const void *bytes, size_t length, uint32_t *ret_type, uint64_t *ret_number);
/* Likewise: the id of a directory; 0: it is none, or these are no facts. */
uint64_t facts_glance_directory(const void *bytes, size_t length);
void facts_release(struct facts *facts);

#endif
