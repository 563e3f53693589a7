#include "cache/catalog.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/catalog_writer.h"
#include "cache/facts.h"
#include "cache/listed_record.h"

#define BATCH_MS         50
#define GENERATION_SHIFT 32 /* numbers of directories: a run of them for each time it is opened */
#define BYTES_MIN        ((uint64_t)1 << 20)
#define PAGE             4096
#define OPERATIONS_MIN   16
#define OPERATIONS_MAX   4096

/* ---- Birth and end. ---- */

static uint64_t clamp(uint64_t value, uint64_t min, uint64_t max)
{
    return value < min ? min : value > max ? max : value;
}

static int open_map(struct catalog *catalog, const struct catalog_config *config, struct buf *why)
{
    struct catalog_place *place = &catalog->place;
    int rc = lmdb_open(place->path, config->bytes_max, place->mark, &catalog->lmdb);

    if (rc == -EBADMSG) {
        rc = catalog_place_move_aside(place, config, why);
        if (rc == 0)
            rc = lmdb_open(place->path, config->bytes_max, place->mark, &catalog->lmdb);
    }
    if (rc < 0 && !why->length)
        buf_printf(why, "%s: open the map: %s", place->path, err_text(rc));
    return rc;
}

static void release(struct catalog *catalog)
{
    lmdb_close(catalog->lmdb);
    catalog_place_release(&catalog->place);
    waiting_unref(catalog->waiting);
    free(catalog);
}

static void start(struct catalog *catalog)
{
    lock_init(&catalog->lock, LOCK_LEAF, "catalog");
    gate_init(&catalog->wake);
    gate_init(&catalog->news);
    catalog->waiting = waiting_new();
    lmdb_usage(catalog->lmdb, &catalog->usage);
    int rc = pthread_create(&catalog->thread, NULL, catalog_writer_run, catalog);
    assert(rc == 0);
}

struct catalog *catalog_new(const struct catalog_config *config, struct buf *why)
{
    struct catalog *catalog = xcalloc(1, sizeof *catalog);
    struct catalog_config exact = *config;
    uint64_t bytes = config->bytes_max ? config->bytes_max : CATALOG_BYTES;

    exact.bytes_max = catalog->bytes_max = (bytes < BYTES_MIN ? BYTES_MIN : bytes) / PAGE * PAGE;
    catalog->operations_max = clamp(bytes / PAGE / 64, OPERATIONS_MIN, OPERATIONS_MAX);
    catalog->operation_bytes_max = clamp(bytes / 64, 2 * FACTS_BYTES_MAX, CATALOG_BATCH_BYTES);
    int rc = catalog_place_open(&catalog->place, &exact, why);
    if (rc == 0)
        rc = open_map(catalog, &exact, why);
    if (rc < 0) {
        release(catalog);
        return NULL;
    }
    atomic_init(&catalog->next_directory, (catalog->place.head.generation << GENERATION_SHIFT) + 1);
    start(catalog);
    return catalog;
}

/* The pages first: a note that says closed speaks of them. */
static void close_map(struct catalog *catalog)
{
    bool sound = !catalog_is_bypassed(catalog);
    int rc = sound ? lmdb_flush(catalog->lmdb) : 0;

    lmdb_close(catalog->lmdb);
    catalog->lmdb = NULL;
    if (sound && rc == 0)
        rc = catalog_place_note(&catalog->place, CATALOG_CLOSED);
    if (rc < 0)
        log_warn("catalog: close of %s: %s, its listings will not be believed", catalog->place.path,
                 err_name(rc));
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return;
    lock_take(&catalog->lock);
    catalog->stopping = true;
    gate_open(&catalog->wake);
    lock_drop(&catalog->lock);
    pthread_join(catalog->thread, NULL);
    close_map(catalog);
    gate_release(&catalog->wake);
    gate_release(&catalog->news);
    lock_release(&catalog->lock);
    release(catalog);
}

bool catalog_is_bypassed(const struct catalog *catalog)
{
    return !catalog || atomic_load(&catalog->bypassed);
}

void catalog_bypass(struct catalog *catalog, const char *what, int rc)
{
    if (atomic_exchange(&catalog->bypassed, true))
        return;
    log_warn("catalog: %s: %s: the metadata cache at %s is not used until the next mount", what, err_name(rc),
             catalog->place.path);
    LOCK_SCOPED(&catalog->lock);
    waiting_unref(catalog->waiting);
    catalog->waiting = waiting_new();
    catalog->due_ms = 0;
    catalog->note = rc == -EBADMSG ? CATALOG_BROKEN : rc == -ENOBUFS ? CATALOG_FULL : 0;
    gate_open(&catalog->wake);
    gate_open(&catalog->news);
}

/* ---- What is said. ---- */

uint64_t catalog_new_directory(struct catalog *catalog)
{
    static atomic_uint_fast64_t without = CATALOG_ROOT + 1; /* unique as long as nothing is kept */
    return atomic_fetch_add(catalog ? &catalog->next_directory : &without, 1);
}

/* False: it is bypassed. */
static bool begin_saying_locked(struct catalog *catalog)
{
    if (catalog_is_bypassed(catalog))
        return false;
    catalog->sequence++;
    return true;
}

static void end_saying_locked(struct catalog *catalog)
{
    bool first = !catalog->due_ms;

    if (first)
        catalog->due_ms = clock_ms() + BATCH_MS;
    if (first || catalog->waiting->bytes >= CATALOG_BATCH_BYTES)
        gate_open(&catalog->wake);
}

static void put(struct catalog *catalog, uint64_t directory, const char *name, const void *facts,
                size_t length)
{
    assert(*name && strlen(name) <= NAME_BYTES_MAX && length <= FACTS_BYTES_MAX);
    if (!catalog)
        return;
    LOCK_SCOPED(&catalog->lock);
    if (!begin_saying_locked(catalog))
        return;
    waiting_put(catalog->waiting, catalog->sequence, directory, name, facts, length);
    end_saying_locked(catalog);
}

void catalog_put(struct catalog *catalog, uint64_t directory, const char *name, const void *facts,
                 size_t length)
{
    assert(facts);
    put(catalog, directory, name, facts, length);
}

void catalog_remove(struct catalog *catalog, uint64_t directory, const char *name)
{
    put(catalog, directory, name, NULL, 0);
}

void catalog_remove_below(struct catalog *catalog, uint64_t directory)
{
    if (!catalog)
        return;
    LOCK_SCOPED(&catalog->lock);
    if (!begin_saying_locked(catalog))
        return;
    waiting_remove_below(catalog->waiting, catalog->sequence, directory);
    end_saying_locked(catalog);
}

/* Names of it went since that listing began, perhaps some that were put by it. */
static bool was_evicted_locked(const struct catalog *catalog, uint64_t directory, int64_t since_ns)
{
    size_t known = catalog->evicted < CATALOG_EVICTIONS ? catalog->evicted : CATALOG_EVICTIONS;

    for (size_t i = 0; i < known; i++)
        if (catalog->evictions[i].directory == directory && catalog->evictions[i].wall_ns >= since_ns)
            return true;
    return catalog->evicted > CATALOG_EVICTIONS && since_ns <= catalog->evicted_until;
}

void catalog_set_listed(struct catalog *catalog, uint64_t directory, int64_t wall_ns)
{
    if (!catalog)
        return;
    LOCK_SCOPED(&catalog->lock);
    if (!begin_saying_locked(catalog))
        return;
    bool whole = wall_ns && !was_evicted_locked(catalog, directory, wall_ns);
    waiting_set_listed(catalog->waiting, directory, whole ? wall_ns : 0);
    end_saying_locked(catalog);
}

/* ---- What is known. ---- */

int64_t catalog_parse_listed(const struct catalog *catalog, uint64_t directory,
                             const struct lmdb_bytes *value)
{
    struct listed_record record;
    int64_t listed = 0;

    if (listed_record_read(&record, directory, value) && record.generation >= catalog->place.head.trusted)
        listed = record.wall_ns;
    return listed;
}

/* One look at all three layers, as they are at one moment. */
struct look {
    uint64_t directory;
    bool absent;  /* the name was removed */
    bool known;   /* `listed` is known */
    bool covered; /* what is older does not count */
    int64_t listed;
    struct lmdb_read *read; /* NULL: not needed, or rc */
    int rc;
};

static void hear_directory(struct look *look, const struct waiting *waiting)
{
    const struct waiting_directory *said = waiting_find_directory(waiting, look->directory);

    if (!said)
        return;
    if (said->listing_said && !look->known) {
        look->known = true;
        look->listed = said->listed;
    }
    look->covered = said->removed;
}

/* True: the facts stand in memory, and are copied. `key` NULL: only the listing is asked for. */
static bool hear_locked(struct look *look, const struct waiting *waiting, const char *key, size_t length,
                        struct buf *ret_facts)
{
    if (!waiting || (!waiting->names && !waiting->directories) || look->covered)
        return false;
    const struct waiting_name *name = key && !look->absent ? waiting_find_name(waiting, key, length) : NULL;
    if (name && name->facts) {
        buf_add(ret_facts, name->facts, name->length);
        return true;
    }
    look->absent = look->absent || name;
    hear_directory(look, waiting);
    return false;
}

/* The snapshot is taken under the lock: what leaves memory later stands in it. */
static bool begin_look(struct catalog *catalog, struct look *look, const char *key, size_t length,
                       struct buf *ret_facts)
{
    LOCK_SCOPED(&catalog->lock);
    if (hear_locked(look, catalog->waiting, key, length, ret_facts) ||
        hear_locked(look, catalog->writing, key, length, ret_facts))
        return true;
    if (!look->covered && !((look->absent || !key) && look->known))
        look->rc = lmdb_read_begin(catalog->lmdb, &look->read);
    return false;
}

/* 0: nobody has listed it, or there is no record that can be believed. */
static void read_listed(struct catalog *catalog, struct look *look)
{
    uint64_t key = htobe64(look->directory);
    struct lmdb_bytes value;

    look->rc = lmdb_get(look->read, &key, sizeof key, &value);
    if (look->rc == 0)
        look->listed = catalog_parse_listed(catalog, look->directory, &value);
    else if (look->rc == -ENOENT)
        look->rc = 0;
}

static void read_name(struct look *look, const char *key, size_t length, struct buf *ret_facts)
{
    struct lmdb_bytes value;

    look->rc = lmdb_get(look->read, key, length, &value);
    if (look->rc == 0)
        buf_add(ret_facts, value.bytes, value.length);
    look->absent = look->rc == -ENOENT;
}

static void end_look(struct catalog *catalog, struct look *look)
{
    lmdb_read_end(look->read);
    if (look->rc < 0 && look->rc != -ENOENT && look->rc != -EAGAIN)
        catalog_bypass(catalog, "read", look->rc);
}

int catalog_find(struct catalog *catalog, uint64_t directory, const char *name, struct buf *ret_facts)
{
    struct look look = {.directory = directory};
    char key[CATALOG_KEY_MAX];

    if (catalog_is_bypassed(catalog) || !*name || strlen(name) > NAME_BYTES_MAX)
        return -ENODATA;
    size_t length = waiting_key(directory, name, key);
    if (begin_look(catalog, &look, key, length, ret_facts))
        return 0;
    bool found = false;
    if (look.read && !look.absent) {
        read_name(&look, key, length, ret_facts);
        found = look.rc == 0;
    }
    if (look.read && look.absent && !look.known)
        read_listed(catalog, &look);
    end_look(catalog, &look);
    if (found)
        return 0;
    bool heard = look.rc == 0 || look.rc == -ENOENT;
    return look.listed && heard && !catalog_is_bypassed(catalog) ? -ENOENT : -ENODATA;
}

int64_t catalog_listed(struct catalog *catalog, uint64_t directory)
{
    struct look look = {.directory = directory};

    if (catalog_is_bypassed(catalog))
        return 0;
    begin_look(catalog, &look, NULL, 0, NULL);
    if (look.read)
        read_listed(catalog, &look);
    end_look(catalog, &look);
    return look.rc == 0 ? look.listed : 0;
}

/* ---- For all. ---- */

int catalog_wait_room(struct catalog *catalog, struct waiter *waiter)
{
    int rc = 0;

    if (catalog_is_bypassed(catalog))
        return 0;
    LOCK_SCOPED(&catalog->lock);
    while (rc == 0 && !catalog_is_bypassed(catalog) &&
           catalog->waiting->bytes + (catalog->writing ? catalog->writing->bytes : 0) > CATALOG_WAITING_MAX)
        rc = gate_wait_locked(&catalog->news, &catalog->lock, waiter, CLOCK_NEVER);
    return rc;
}

void catalog_settle(struct catalog *catalog)
{
    if (catalog_is_bypassed(catalog))
        return;
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&catalog->lock);
    uint64_t said = catalog->sequence;
    catalog->hurry = said;
    gate_open(&catalog->wake);
    while (catalog->written < said && !catalog_is_bypassed(catalog))
        gate_wait_locked(&catalog->news, &catalog->lock, &waiter, CLOCK_NEVER);
}

void catalog_report(struct catalog *catalog, struct json *object)
{
    struct lmdb_usage usage = {0};
    size_t waiting = 0;

    if (!catalog_is_bypassed(catalog)) { /* else what is left of it goes at any moment */
        LOCK_SCOPED(&catalog->lock);
        usage = catalog->usage;
        waiting = catalog->waiting->bytes + (catalog->writing ? catalog->writing->bytes : 0);
    }
    json_set_integer(object, "bytes", (int64_t)usage.bytes);
    json_set_integer(object, "entries", (int64_t)usage.entries);
    json_set_integer(object, "waiting", (int64_t)waiting);
    json_set_bool(object, "bypassed", catalog_is_bypassed(catalog));
}

void catalog_dying(void)
{
    const char *mark = lmdb_inside();

    if (mark) {
        int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd >= 0)
            close(fd);
    }
}
