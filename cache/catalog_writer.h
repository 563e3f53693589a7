/* catalog_writer: the one thread that writes the catalog: what waits, removals below, eviction. Inside of catalog.h.
 *
 *      waiting --(50 ms after its first, or 1 MiB)--> writing --(some transactions)--> LMDB; then `writing` goes
 *
 * A transaction is small beside the map: LMDB writes each page that it touches anew. What is being written is found in memory
 * until all of it stands in LMDB, so that nobody sees half.
 */
#ifndef CACHE_CATALOG_WRITER_H
#define CACHE_CATALOG_WRITER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "base/waiter.h"
#include "cache/catalog.h"
#include "cache/catalog_place.h"
#include "cache/lmdb.h"
#include "cache/waiting.h"

#define CATALOG_BATCH_BYTES ((size_t)1 << 20)
#define CATALOG_EVICTIONS   1024 /* that are known one by one */
#define CATALOG_KEY_MAX     (WAITING_KEY_ID + NAME_BYTES_MAX + 1)

struct catalog_eviction {
    uint64_t directory;
    int64_t wall_ns;
};

struct catalog {
    /* Set at birth. */
    struct catalog_place place;
    struct lmdb *lmdb;
    uint64_t bytes_max;
    size_t operations_max, operation_bytes_max; /* of a transaction */
    pthread_t thread;
    atomic_uint_fast64_t next_directory;
    atomic_bool bypassed;

    /* Under lock. */
    struct lock lock;
    struct waiting *waiting, *writing; /* writing: NULL when nothing is */
    uint64_t sequence, written;        /* the last thing that was said; the last that stands in LMDB */
    uint64_t hurry;                    /* what was said until then is written at once */
    int64_t due_ms;                    /* when to write; 0: nothing waits */
    bool stopping;
    enum catalog_state note; /* to be noted by the thread; 0: nothing */
    struct gate wake, news;  /* of the thread; something was written, or it is bypassed */
    struct catalog_eviction evictions[CATALOG_EVICTIONS];
    size_t evicted;        /* of them, ever */
    int64_t evicted_until; /* those before them: a listing that began earlier is not whole */
    struct lmdb_usage usage;
};

void *catalog_writer_run(void *catalog);
/* One line in the log, and nothing more is done with LMDB. Hold no lock. */
void catalog_bypass(struct catalog *catalog, const char *what, int rc);
bool catalog_is_bypassed(const struct catalog *catalog);

/* What a listing's record says; 0: nothing that counts. */
int64_t catalog_parse_listed(const struct catalog *catalog, uint64_t directory,
                             const struct lmdb_bytes *value);

#endif
