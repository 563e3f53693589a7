/* copying: an object copied on the server under another key, whole, with its metadata, headers and tags.
 *
 *      up to copy_bytes_max         one COPY
 *      larger, -EFBIG, or by_parts  CREATE with the source's metadata, PART_COPY of a quarter of copy_bytes_max each, COMPLETE:
 *                                   no part takes longer than the mount's patience
 *
 * In doubt (the reply was lost) a HEAD tells what stands under the key. A COMPLETE: our own id, that CREATE carried. A COPY
 * carries the source's metadata and nothing of ours; it counts as done when what stands there is what it would have
 * made: the source's size and all its metadata, and its ETag, or the skyvol-id of its upload, which no other content has.
 * (Where the ETag of a copy is another one, and the source is not of ours, it cannot be told: the error stays, `maybe`.)
 *
 * Use: fill in the inputs; copying_run(), or, for many at once, copying_prepare() each that is not copying_is_large(), run
 *      the calls, copying_heard() each.
 * Errors: as server.h; -ESTALE: the source is another version now; -ENOENT: it is gone. A failed copy by parts leaves no
 *         upload behind (it is aborted).
 */
#ifndef CACHE_COPYING_H
#define CACHE_COPYING_H

#include "cache/core.h"

struct copying {
    struct cache *cache;
    const char *what; /* for the log */
    const char *source_key, *key;
    const struct identity *source; /* only this version is copied */
    /* Whatever its size: who gives it up leaves no object, but parts at most. A COPY may end after the DELETE of what it made. */
    bool by_parts;
    /* Results. */
    struct identity to; /* what the copy is */
    bool maybe;         /* it failed, and a copy may stand under the key all the same */
};

int copying_run(struct copying *copying, struct waiter *waiter);

bool copying_is_large(const struct copying *copying);
/* Bytes of one part of it. */
uint64_t copying_part_bytes(const struct cache *cache, uint64_t size);
/* The call of a copy that is not large. */
void copying_prepare(const struct copying *copying, struct store_call *ret_call);
/* The end of that call, which stays the caller's to release. */
int copying_heard(struct copying *copying, struct store_call *call, struct waiter *waiter);

#endif
