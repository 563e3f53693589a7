/* copying: an object copied on the server under another key, whole: at once, or by parts where it is too large for that.
 *
 * Metadata and headers go with it. ret_identity is the copy's. A failed copy by parts leaves nothing behind (its upload is
 * aborted).
 *
 * Errors: as server.h; -ESTALE: the source is another version now; -ENOENT: it is gone.
 */
#ifndef CACHE_COPYING_H
#define CACHE_COPYING_H

#include "cache/core.h"

int copying_run(struct cache *cache, const char *what, const char *source_key, const struct identity *source,
                const char *key, struct identity *ret_identity, struct waiter *waiter);
/* For what STORE_COPY refused with -EFBIG. */
int copying_by_parts(struct cache *cache, const char *what, const char *source_key,
                     const struct identity *source, const char *key, struct identity *ret_identity,
                     struct waiter *waiter);

#endif
