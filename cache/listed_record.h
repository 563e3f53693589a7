/* listed_record: what the catalog writes when a directory was listed whole. Pure.
 *
 *      crc32c over the directory's id and what is behind | generation | wall_ns      little-endian
 */
#ifndef CACHE_LISTED_RECORD_H
#define CACHE_LISTED_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/lmdb.h"

#define LISTED_RECORD_BYTES 20

struct listed_record {
    uint64_t generation; /* of the catalog when it was written */
    int64_t wall_ns;     /* when the listing began */
};

void listed_record_write(const struct listed_record *record, uint64_t directory,
                         char out[LISTED_RECORD_BYTES]);
/* False: these bytes are no such record, or another directory's. */
bool listed_record_read(struct listed_record *ret_record, uint64_t directory, const struct lmdb_bytes *value);

#endif
