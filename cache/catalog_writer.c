#include "cache/catalog_writer.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/catalog_evict.h"
#include "cache/facts.h"
#include "cache/listed_record.h"

/* One thing of a set, by its key. */
struct operation {
    const char *key;
    size_t key_length;
    const struct waiting_name *name;           /* or */
    const struct waiting_directory *directory; /* its listing */
};

struct removal {
    uint64_t directory, sequence;
};

struct removals {
    struct removal *all;
    size_t count, room;
};

/* ---- What is removed, below. ---- */

static void push(struct removals *removals, uint64_t directory, uint64_t sequence)
{
    if (!directory)
        return;
    if (removals->count == removals->room) {
        removals->room = removals->room ? 2 * removals->room : 64;
        removals->all = xrealloc(removals->all, removals->room * sizeof *removals->all);
    }
    removals->all[removals->count++] = (struct removal){directory, sequence};
}

/* What was said of a directory below, before the removal, does not count either. */
static void cover(struct catalog *catalog, struct waiting_directory *said, uint64_t sequence)
{
    LOCK_SCOPED(&catalog->lock);
    if (said->removed >= sequence)
        return;
    said->removed = sequence;
    said->listing_said = true;
    said->listed = 0;
}

struct below {
    const struct waiting *set;
    struct removals *removals;
    uint64_t sequence;
};

/* Its subdirectory goes too, unless something newer was said of that name: then it has moved. */
static void hear_removed(void *context, const struct lmdb_bytes *key, const struct lmdb_bytes *value)
{
    struct below *below = context;
    struct waiting_name *newer = NULL;
    uint64_t directory =
        key->length > WAITING_KEY_ID ? facts_glance_directory(value->bytes, value->length) : 0;

    if (directory == CATALOG_ROOT)
        return; /* it is in none */
    if (directory)
        HASH_FIND(hh, below->set->names, key->bytes, key->length, newer);
    if (!newer)
        push(below->removals, directory, below->sequence);
}

static int remove_one(struct catalog *catalog, struct removals *removals)
{
    struct removal removal = removals->all[--removals->count];
    struct waiting_directory *said = waiting_find_directory(catalog->writing, removal.directory);
    struct below below = {catalog->writing, removals, removal.sequence};

    if (said)
        cover(catalog, said, removal.sequence);
    for (const struct waiting_name *name = said ? said->names : NULL; name; name = name->next)
        if (name->facts && !waiting_counts(name))
            push(removals, facts_glance_directory(name->facts, name->length), removal.sequence);
    return catalog_evict_names(catalog, removal.directory, hear_removed, &below);
}

static int remove_below(struct catalog *catalog)
{
    struct removals removals = {0};
    int rc = 0;

    for (const struct waiting_directory *at = catalog->writing->directories; at; at = at->hh.next)
        if (at->removed) {
            struct removal removal = {at->id, at->removed};
            push(&removals, removal.directory, removal.sequence);
        }
    while (rc == 0 && removals.count)
        rc = remove_one(catalog, &removals);
    free(removals.all);
    return rc;
}

/* ---- What is put. ---- */

static int compare_operations(const void *one, const void *other)
{
    const struct operation *left = one, *right = other;
    return waiting_compare_keys(left->key, left->key_length, right->key, right->key_length);
}

/* Listings come sorted. */
static void sort(struct operation *operations, size_t count)
{
    for (size_t i = 1; i < count; i++)
        if (compare_operations(&operations[i - 1], &operations[i]) > 0) {
            qsort(operations, count, sizeof *operations, compare_operations);
            return;
        }
}

static struct operation *gather(const struct waiting *set, size_t *ret_count)
{
    size_t count = 0;
    struct operation *all = xcalloc(HASH_COUNT(set->names) + HASH_COUNT(set->directories) + 1, sizeof *all);

    for (const struct waiting_name *at = set->names; at; at = at->hh.next)
        all[count++] = (struct operation){.key = at->key, .key_length = at->key_length, .name = at};
    size_t names = count;
    for (const struct waiting_directory *at = set->directories; at; at = at->hh.next)
        if (at->listing_said)
            all[count++] = (struct operation){.key = at->key, .key_length = sizeof at->key, .directory = at};
    if (names || count)
        sort(all, count);
    *ret_count = count;
    return all;
}

/* An eviction between two transactions may have changed what it says. */
static int write_listing(struct catalog *catalog, const struct waiting_directory *directory)
{
    char bytes[LISTED_RECORD_BYTES];
    struct listed_record record = {catalog->place.head.generation, directory->listed};

    if (!directory->listed)
        return lmdb_write_delete(catalog->lmdb, directory->key, sizeof directory->key);
    listed_record_write(&record, directory->id, bytes);
    struct lmdb_bytes value = {bytes, sizeof bytes};
    return lmdb_write_put(catalog->lmdb, directory->key, sizeof directory->key, &value);
}

static int write_one(struct catalog *catalog, const struct operation *operation)
{
    const struct waiting_name *name = operation->name;

    if (!name)
        return write_listing(catalog, operation->directory);
    if (!waiting_counts(name))
        return 0; /* it went with its directory */
    if (!name->facts)
        return lmdb_write_delete(catalog->lmdb, operation->key, operation->key_length);
    struct lmdb_bytes value = {name->facts, name->length};
    return lmdb_write_put(catalog->lmdb, operation->key, operation->key_length, &value);
}

/* One transaction. */
static int write_some(struct catalog *catalog, const struct operation *at, const struct operation *end,
                      size_t *ret_count)
{
    size_t count = 0, bytes = 0;
    int rc = lmdb_write_begin(catalog->lmdb);

    if (rc < 0)
        return rc;
    while (rc == 0 && at + count < end && count < catalog->operations_max &&
           bytes < catalog->operation_bytes_max) {
        rc = write_one(catalog, at + count);
        bytes += at[count].key_length + (at[count].name ? at[count].name->length : 0);
        count++;
    }
    if (rc == 0)
        rc = lmdb_write_commit(catalog->lmdb);
    else
        lmdb_write_abort(catalog->lmdb);
    *ret_count = count;
    return rc;
}

/* Readers that hold pages will have ended. */
static int write_with_patience(struct catalog *catalog, const struct operation *at,
                               const struct operation *end, size_t *ret_count)
{
    int rc = write_some(catalog, at, end, ret_count);

    for (int i = 0; rc == -ENOBUFS && i < CATALOG_FULL_TRIES; i++) {
        rc = catalog_evict(catalog);
        if (rc < 0)
            return rc;
        usleep(CATALOG_FULL_PAUSE_US);
        rc = write_some(catalog, at, end, ret_count);
    }
    return rc;
}

static int write_names(struct catalog *catalog)
{
    size_t count, done = 0, some;
    struct operation *all = gather(catalog->writing, &count);
    int rc = 0;

    for (; rc == 0 && done < count; done += some) {
        rc = write_with_patience(catalog, all + done, all + count, &some);
        if (rc == 0)
            rc = catalog_evict_when_full(catalog);
    }
    free(all);
    return rc;
}

/* ---- The thread. ---- */

static void write_set(struct catalog *catalog)
{
    int rc = remove_below(catalog);

    if (rc == 0)
        rc = write_names(catalog);
    if (rc < 0)
        catalog_bypass(catalog, "write", rc);
}

static void write_waiting_locked(struct catalog *catalog)
{
    uint64_t said = catalog->sequence;

    catalog->writing = catalog->waiting;
    catalog->waiting = waiting_new();
    catalog->due_ms = 0;
    lock_drop(&catalog->lock);
    write_set(catalog);
    lock_take(&catalog->lock);
    waiting_unref(catalog->writing);
    catalog->writing = NULL;
    catalog->written = said;
    gate_open(&catalog->news);
}

static bool is_due_locked(const struct catalog *catalog)
{
    return catalog->due_ms &&
           (catalog->stopping || catalog->hurry > catalog->written ||
            catalog->waiting->bytes >= CATALOG_BATCH_BYTES || clock_ms() >= catalog->due_ms);
}

/* Whatever ends the process, the next start does not fall over the same thing. */
static void note_locked(struct catalog *catalog)
{
    enum catalog_state state = catalog->note;

    catalog->note = 0;
    lock_drop(&catalog->lock);
    int rc = catalog_place_note(&catalog->place, state);
    if (rc < 0)
        log_warn("catalog: note that %s cannot be used again: %s", catalog->place.path, err_name(rc));
    lock_take(&catalog->lock);
}

void *catalog_writer_run(void *argument)
{
    struct catalog *catalog = argument;
    WAITER_SCOPED(waiter);

    lock_take(&catalog->lock);
    for (;;) {
        if (catalog->note)
            note_locked(catalog);
        else if (is_due_locked(catalog))
            write_waiting_locked(catalog);
        else if (catalog->stopping)
            break;
        else
            gate_wait_locked(&catalog->wake, &catalog->lock, &waiter,
                             catalog->due_ms ? catalog->due_ms : CLOCK_NEVER);
    }
    lock_drop(&catalog->lock);
    return NULL;
}
