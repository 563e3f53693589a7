#include "cache/catalog_evict.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

#define CANDIDATES_MAX 65536 /* of one look through all directories */

struct candidate {
    int64_t listed; /* INT64_MAX: never */
    uint64_t directory;
};

/* A heap: the youngest of those that are kept is on top. */
struct candidates {
    struct candidate *all;
    size_t count;
};

/* ---- Which. ---- */

static void sink(struct candidates *candidates, size_t at)
{
    struct candidate *all = candidates->all, moved = all[at];

    for (size_t child; (child = 2 * at + 1) < candidates->count; at = child) {
        if (child + 1 < candidates->count && all[child + 1].listed > all[child].listed)
            child++;
        if (all[child].listed <= moved.listed)
            break;
        all[at] = all[child];
    }
    all[at] = moved;
}

static void rise(struct candidates *candidates, size_t at)
{
    struct candidate *all = candidates->all, moved = all[at];

    for (; at && all[(at - 1) / 2].listed < moved.listed; at = (at - 1) / 2)
        all[at] = all[(at - 1) / 2];
    all[at] = moved;
}

static void add(struct candidates *candidates, struct candidate candidate)
{
    if (candidates->count < CANDIDATES_MAX) {
        candidates->all[candidates->count++] = candidate;
        rise(candidates, candidates->count - 1);
    } else if (candidate.listed < candidates->all[0].listed) {
        candidates->all[0] = candidate;
        sink(candidates, 0);
    }
}

static int compare(const void *one, const void *other)
{
    const struct candidate *left = one, *right = other;
    return (left->listed > right->listed) - (left->listed < right->listed);
}

/* One step for each directory, from its first key to the next one's. */
static int look_through(struct catalog *catalog, struct lmdb_read *read, struct candidates *candidates)
{
    struct lmdb_bytes key, value;
    uint64_t id = 0;
    int rc;

    while ((rc = lmdb_seek(read, &id, sizeof id, &key, &value)) == 0) {
        if (key.length < sizeof id)
            return -EBADMSG;
        memcpy(&id, key.bytes, sizeof id);
        id = be64toh(id);
        int64_t listed = key.length == sizeof id ? catalog_parse_listed(catalog, id, &value) : 0;
        add(candidates, (struct candidate){listed ? listed : INT64_MAX, id});
        if (id == UINT64_MAX)
            return 0;
        id = htobe64(id + 1);
    }
    return rc == -ENOENT ? 0 : rc;
}

static int choose(struct catalog *catalog, struct candidates *candidates)
{
    struct lmdb_read *read;
    int rc = lmdb_read_begin(catalog->lmdb, &read);

    if (rc < 0)
        return rc;
    candidates->count = 0;
    rc = look_through(catalog, read, candidates);
    lmdb_read_end(read);
    qsort(candidates->all, candidates->count, sizeof *candidates->all, compare);
    return rc;
}

/* ---- Away. ---- */

static int delete_some(struct catalog *catalog, uint64_t directory, catalog_evicted *each, void *context)
{
    uint64_t prefix = htobe64(directory);
    struct lmdb_bytes key, value;
    int rc = lmdb_write_begin(catalog->lmdb);

    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < catalog->operations_max; i++) {
        rc = lmdb_write_first(catalog->lmdb, &prefix, sizeof prefix, &key, &value);
        if (rc == 0 && each)
            each(context, &key, &value);
        if (rc == 0)
            rc = lmdb_write_delete_here(catalog->lmdb);
    }
    if (rc < 0 && rc != -ENOENT) {
        lmdb_write_abort(catalog->lmdb);
        return rc;
    }
    int committed = lmdb_write_commit(catalog->lmdb);
    return committed < 0 ? committed : rc;
}

int catalog_evict_names(struct catalog *catalog, uint64_t directory, catalog_evicted *each, void *context)
{
    int rc, tries = 0;

    do {
        rc = delete_some(catalog, directory, each, context);
        if (rc == -ENOBUFS && tries++ < CATALOG_FULL_TRIES) {
            usleep(CATALOG_FULL_PAUSE_US);
            rc = 0;
        }
    } while (rc == 0);
    return rc == -ENOENT ? 0 : rc;
}

/* Before the first name goes: who has heard that it was listed has a snapshot with all of them, and a listing that is under way
 * will not count. */
static void note(struct catalog *catalog, uint64_t directory)
{
    LOCK_SCOPED(&catalog->lock);
    struct catalog_eviction *place = &catalog->evictions[catalog->evicted++ % CATALOG_EVICTIONS];
    if (place->wall_ns > catalog->evicted_until)
        catalog->evicted_until = place->wall_ns;
    *place = (struct catalog_eviction){directory, clock_wall_ns()};
    waiting_doubt(catalog->waiting, directory);
    if (catalog->writing)
        waiting_doubt(catalog->writing, directory);
}

static bool is_beyond(struct catalog *catalog, uint64_t tenths)
{
    struct lmdb_usage usage;

    lmdb_usage(catalog->lmdb, &usage);
    LOCK_SCOPED(&catalog->lock);
    catalog->usage = usage;
    return usage.bytes > catalog->bytes_max / 10 * tenths;
}

static int evict_chosen(struct catalog *catalog, const struct candidates *candidates)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < candidates->count && is_beyond(catalog, 7); i++) {
        note(catalog, candidates->all[i].directory);
        rc = catalog_evict_names(catalog, candidates->all[i].directory, NULL, NULL);
    }
    return rc;
}

int catalog_evict(struct catalog *catalog)
{
    struct candidates candidates = {.all = xcalloc(CANDIDATES_MAX, sizeof *candidates.all)};
    int rc = 0;

    while (rc == 0 && is_beyond(catalog, 7)) {
        rc = choose(catalog, &candidates);
        if (rc == 0 && !candidates.count)
            break;
        if (rc == 0)
            rc = evict_chosen(catalog, &candidates);
    }
    free(candidates.all);
    return rc;
}

int catalog_evict_when_full(struct catalog *catalog)
{
    if (!is_beyond(catalog, 9))
        return 0;
    log_debug("catalog: the map is nearly full: directories that were listed long ago go");
    return catalog_evict(catalog);
}
