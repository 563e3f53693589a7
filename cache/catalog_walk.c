/* Walks of the catalog: what waits is merged over what stands in LMDB. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cache/catalog_writer.h"

/* A name of one of the two sets. The chunks of the set hold its texts. */
struct item {
    const char *name;
    const void *facts; /* NULL: removed */
    size_t length;
    int age; /* of its set: 0 is newer */
};

struct walk {
    struct catalog *catalog;
    uint64_t directory;
    uint64_t prefix; /* the directory, as keys begin */
    catalog_each *each;
    void *context;
    bool ended;
    struct waiting *sets[2];
    struct item *items, *at; /* `at` moves from the first to the last */
    size_t count, room;
    bool covered; /* what is older does not count */
    struct lmdb_read *read;
    struct lmdb_bytes key, value; /* of the map: the next name */
    bool more;
};

/* ---- What waits. ---- */

static void add_item(struct walk *walk, const struct waiting_name *name, int age)
{
    if (walk->count == walk->room) {
        walk->room = walk->room ? 2 * walk->room : 64;
        walk->items = xrealloc(walk->items, walk->room * sizeof *walk->items);
    }
    walk->items[walk->count++] = (struct item){name->key + WAITING_KEY_ID, name->facts, name->length, age};
}

static void gather_locked(struct walk *walk, struct waiting *waiting, int age)
{
    const struct waiting_directory *said = waiting_find_directory(waiting, walk->directory);

    if (walk->covered || !said)
        return;
    walk->sets[age] = waiting_ref(waiting);
    for (const struct waiting_name *name = said->names; name; name = name->next)
        if (waiting_counts(name))
            add_item(walk, name, age);
    walk->covered = said->removed;
}

static int compare_items(const void *one, const void *other)
{
    const struct item *left = one, *right = other;
    int order = strcmp(left->name, right->name);
    return order ? order : left->age - right->age;
}

/* Sorted, and of two with one name the newer. */
static void sort_items(struct walk *walk)
{
    size_t kept = 0;

    if (walk->count)
        qsort(walk->items, walk->count, sizeof *walk->items, compare_items);
    for (size_t i = 0; i < walk->count; i++)
        if (!kept || strcmp(walk->items[kept - 1].name, walk->items[i].name) != 0)
            walk->items[kept++] = walk->items[i];
    walk->count = kept;
    walk->at = walk->items;
}

/* ---- What stands in the map. ---- */

/* -ENOENT: there is no more of this directory. */
static int hold(struct walk *walk, int rc)
{
    walk->more = rc == 0 && walk->key.length > sizeof walk->prefix &&
                 walk->key.length <= sizeof walk->prefix + NAME_BYTES_MAX &&
                 memcmp(walk->key.bytes, &walk->prefix, sizeof walk->prefix) == 0;
    return rc == -ENOENT ? 0 : rc;
}

static int advance(struct walk *walk)
{
    return hold(walk, lmdb_next(walk->read, &walk->key, &walk->value));
}

/* The record of its listing stands before all names. */
static int open_map(struct walk *walk)
{
    int rc = lmdb_seek(walk->read, &walk->prefix, sizeof walk->prefix, &walk->key, &walk->value);
    bool record = rc == 0 && walk->key.length == sizeof walk->prefix &&
                  memcmp(walk->key.bytes, &walk->prefix, sizeof walk->prefix) == 0;

    return record ? advance(walk) : hold(walk, rc);
}

/* ---- Both. ---- */

static void give(struct walk *walk, const char *name, const void *facts, size_t length)
{
    if (facts)
        walk->ended = !walk->each(walk->context, name, facts, length);
}

static int give_next(struct walk *walk)
{
    char name[NAME_BYTES_MAX + 1];
    bool waits = walk->at < walk->items + walk->count;

    if (walk->more) {
        size_t length = walk->key.length - sizeof walk->prefix;
        memcpy(name, (const char *)walk->key.bytes + sizeof walk->prefix, length);
        name[length] = 0;
    }
    int order = !walk->more ? -1 : !waits ? 1 : strcmp(walk->at->name, name);
    if (order > 0)
        give(walk, name, walk->value.bytes, walk->value.length);
    else
        give(walk, walk->at->name, walk->at->facts, walk->at->length);
    walk->at += order <= 0;
    return order >= 0 && !walk->ended ? advance(walk) : 0;
}

static int merge(struct walk *walk)
{
    int rc = walk->read ? open_map(walk) : 0;

    while (rc == 0 && !walk->ended && (walk->more || walk->at < walk->items + walk->count))
        rc = give_next(walk);
    return rc;
}

static int begin(struct walk *walk)
{
    LOCK_SCOPED(&walk->catalog->lock);
    gather_locked(walk, walk->catalog->waiting, 0);
    gather_locked(walk, walk->catalog->writing, 1);
    return walk->covered ? 0 : lmdb_read_begin(walk->catalog->lmdb, &walk->read);
}

static void end(struct walk *walk)
{
    lmdb_read_end(walk->read);
    free(walk->items);
    LOCK_SCOPED(&walk->catalog->lock);
    waiting_unref(walk->sets[0]);
    waiting_unref(walk->sets[1]);
}

int catalog_walk(struct catalog *catalog, uint64_t directory, catalog_each *each, void *context)
{
    struct walk walk = {.catalog = catalog,
                        .directory = directory,
                        .prefix = htobe64(directory),
                        .each = each,
                        .context = context};

    if (catalog_is_bypassed(catalog))
        return -ENODATA;
    int rc = begin(&walk);
    if (rc == 0) {
        sort_items(&walk);
        rc = merge(&walk);
    }
    end(&walk);
    if (rc < 0 && rc != -ENODATA && rc != -EAGAIN)
        catalog_bypass(catalog, "walk", rc);
    return rc < 0 ? -ENODATA : 0;
}
