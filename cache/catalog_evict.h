/* catalog_evict: room in the map. Whole directories go, those first that were listed longest ago, then those never listed.
 *
 *      0 ------------------ 7/10 ------------- 9/10 ------- full
 *                            ^---- until here ---'           puts fail: readers may hold the pages that are to be used again
 *
 * Threads: the writer's.
 */
#ifndef CACHE_CATALOG_EVICT_H
#define CACHE_CATALOG_EVICT_H

#include "cache/catalog_writer.h"

/* How long a full map is waited for. */
#define CATALOG_FULL_TRIES    500
#define CATALOG_FULL_PAUSE_US 20000

typedef void catalog_evicted(void *context, const struct lmdb_bytes *key, const struct lmdb_bytes *value);

/* Deletes all of a directory, its listing first, in transactions of bounded size. `each`, where not NULL, sees all before. */
int catalog_evict_names(struct catalog *catalog, uint64_t directory, catalog_evicted *each, void *context);
/* Until 7/10. */
int catalog_evict(struct catalog *catalog);
/* Where it is beyond 9/10. Notes the usage. */
int catalog_evict_when_full(struct catalog *catalog);

#endif
