#include "cache/recall.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/asking.h"
#include "cache/attr.h"
#include "cache/core.h"
#include "cache/facts.h"
#include "cache/lookup.h"
#include "cache/observed.h"
#include "cache/server.h"

#define NOTE_AT_ONCE                                                                                         \
    256 /* names, of some hundred bytes each, before it is asked whether the catalog keeps up */

/* ---- Noting. ---- */

static struct catalog *catalog_of(const struct inode *inode)
{
    return inode->cache->catalog;
}

/* Of an upload by parts: its object says no time, and when it was made nobody has heard yet. `own` is to be released. */
static void read_meta_locked(const struct inode *inode, struct store_fields *own, struct facts *ret_facts)
{
    const struct remote *remote = &inode->remote;
    char time[32];

    ret_facts->seen.meta = remote->meta;
    if (remote->identity.modified_ns || store_fields_get(&remote->meta, "mtime"))
        return;
    attr_print_time(inode->wanted.attributes.mtime_ns, time);
    store_fields_copy(own, &remote->meta);
    store_fields_set(own, "mtime", time);
    ret_facts->seen.meta = *own;
}

/* Only what stands in the bucket under the name, and nothing that differs from it here. */
static bool read_facts_locked(struct inode *inode, struct store_fields *own, struct facts *ret_facts)
{
    const struct remote *remote = &inode->remote;
    bool plain = !inode_dirty_locked(inode) && !inode->orphan && !inode->maybe_key;
    bool timeless = inode->cache->config.list_attributes_only && !remote->identity.modified_ns;

    bool doubted = inode->type != S_IFDIR && !remote->confirmed_ms; /* whoever asks next asks the server */
    if (!plain || doubted || (inode->type != S_IFDIR && (!remote->exists || timeless)))
        return false;
    *ret_facts = (struct facts){
        .type = inode->attributes_known || inode->type == S_IFDIR ? inode->type : 0,
        .attributes_known = inode->attributes_known,
        .number = inode->number == names_number(inode->parent, inode->name) ? 0 : inode->number,
        .directory = inode->catalogued,
        .exists = remote->exists,
    };
    if (!remote->exists)
        return true;
    ret_facts->seen.size = remote->identity.size;
    ret_facts->seen.modified_ns = remote->identity.modified_ns;
    ret_facts->seen.meta_known = inode->attributes_known && !inode->cache->config.list_attributes_only;
    if (ret_facts->seen.meta_known)
        read_meta_locked(inode, own, ret_facts);
    memcpy(ret_facts->seen.etag, remote->identity.etag, sizeof remote->identity.etag);
    return true;
}

static bool put_locked(struct inode *inode)
{
    struct catalog *catalog = catalog_of(inode);
    uint64_t directory = inode->parent->catalogued;
    struct facts facts;
    struct store_fields own = {0};
    BUF_SCOPED bytes = BUF_INIT;
    LOCK_SCOPED(&inode->lock);

    if (inode->noted)
        return true;
    if (inode->type == S_IFDIR && !inode->catalogued)
        inode->catalogued = catalog_new_directory(catalog);
    inode->noted =
        read_facts_locked(inode, &own, &facts) && facts_write(&facts, directory, inode->name, &bytes) == 0;
    if (inode->noted)
        catalog_put(catalog, directory, inode->name, bytes.bytes, bytes.length);
    store_fields_release(&own);
    return inode->noted;
}

bool recall_note_locked(struct inode *inode)
{
    struct catalog *catalog = catalog_of(inode);

    assert(lock_held(&inode->cache->names.lock));
    if (!catalog || !inode->parent)
        return false;
    if (!inode->parent->catalogued && !recall_note_locked(inode->parent))
        return false;
    return put_locked(inode);
}

static bool is_unsent_locked(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode_dirty_locked(inode);
}

static void await_room_locked(struct cache *cache, size_t *count)
{
    WAITER_SCOPED(waiter);

    if (++*count % NOTE_AT_ONCE)
        return;
    lock_drop(&cache->names.lock);
    catalog_wait_room(cache->catalog, &waiter);
    lock_take(&cache->names.lock);
}

static void note_below_locked(struct inode *directory, size_t *count)
{
    list_for_each (at, &directory->children) {
        struct inode *child = container_of(at, struct inode, sibling);
        if (!recall_note_locked(child) && !is_unsent_locked(child))
            recall_doubt_locked(directory); /* it is there, and would be missing */
        await_room_locked(directory->cache, count);
        note_below_locked(child, count);
    }
}

void recall_note_all_locked(struct cache *cache)
{
    size_t count = 0;
    note_below_locked(cache->names.root, &count);
}

void recall_gone_locked(const struct inode *parent, const char *name)
{
    if (parent->catalogued)
        catalog_remove(catalog_of(parent), parent->catalogued, name);
}

void recall_doubt_locked(struct inode *directory)
{
    if (directory->catalogued)
        catalog_set_listed(catalog_of(directory), directory->catalogued, 0);
}

static void forget_below_locked(struct inode *inode)
{
    inode->noted = false;
    inode->catalogued = 0;
    inode->warm_ms = 0;
    if (inode->beyond) {
        inode->beyond = false;
        inode->listed_ms = 0;
        inode->forgotten++;
    }
    list_for_each (at, &inode->children)
        forget_below_locked(container_of(at, struct inode, sibling));
}

void recall_moved_locked(struct inode *directory)
{
    if (directory->type == S_IFDIR && directory->catalogued && directory->parent)
        catalog_remove_below(catalog_of(directory), directory->catalogued);
    if (directory->parent)
        forget_below_locked(directory);
}

void recall_forget_below_locked(struct inode *directory)
{
    if (directory->catalogued)
        catalog_remove_below(catalog_of(directory), directory->catalogued);
    directory->listed_ms = 0;
    directory->forgotten++;
    directory->warm_ms = 0;
    directory->warmed = true; /* there is nothing to warm it with */
    directory->beyond = false;
    list_for_each (at, &directory->children)
        forget_below_locked(container_of(at, struct inode, sibling));
}

/* ---- A name. ---- */

bool recall_alone(const struct inode *directory)
{
    return directory->warm_ms && atomic_load(&directory->cache->unreached);
}

void recall_begin_locked(struct inode *directory)
{
    struct names *names = &directory->cache->names;
    uint64_t number = directory->catalogued;

    if (directory->warm_ms) /* the last try found no server */
        lookup_refresh_locked(directory);
    if (!number || directory->warmed || directory->listed_ms || !directory->cache->config.attr_ttl_ms)
        return;
    directory->warmed = true;
    lock_drop(&names->lock);
    bool listed = catalog_listed(catalog_of(directory), number) != 0;
    lock_take(&names->lock);
    if (!listed || directory->listed_ms || directory->catalogued != number)
        return;
    if (directory->cache->config.immutable) { /* nothing can differ */
        directory->listed_ms = clock_ms();
        directory->beyond = true;
        return;
    }
    directory->warm_ms = clock_ms();
    lookup_refresh_locked(directory);
}

/* When the server was asked for what is given back: a warm one is out of date from the first moment on. */
static int64_t seen_ms_locked(const struct inode *directory, int64_t asked_ms)
{
    const int64_t ttl_ms = directory->cache->config.attr_ttl_ms;

    if (lookup_listed_locked(directory, asked_ms))
        return directory->listed_ms;
    if (directory->cache->config.immutable)
        return clock_ms();
    int64_t seen_ms = clock_ms() - ttl_ms;
    return seen_ms ? seen_ms : -1;
}

/* 0: it is hidden, or no facts that help. */
static int apply_facts_locked(struct inode *parent, const char *name, struct facts *facts, int64_t seen_ms,
                              struct aftermath *aftermath)
{
    struct cache *cache = parent->cache;
    struct observed observed = {.type = S_IFDIR, .attributes_known = facts->attributes_known};
    BUF_SCOPED key = BUF_INIT;

    if (names_child_key_locked(parent, name, &key) < 0)
        return 0;
    if (facts->type == S_IFDIR && facts->exists)
        buf_add_char(&key, '/');
    if (facts->exists) {
        facts->seen.key = xstrdup(key.bytes);
        if (names_doomed_locked(&cache->names, &facts->seen))
            return 0;
        observed.object = &facts->seen;
    }
    if (facts->type != S_IFDIR)
        observed.type = observed_file(cache, &facts->seen, seen_ms).type;
    if (!facts->seen.meta_known && !cache->config.list_attributes_only && facts->exists)
        observed.attributes_known = false;
    observed.started_ms = seen_ms;
    observed.number = facts->number;
    observed.directory = facts->directory;
    observed.recalled = true;
    observed_apply_locked(cache, parent, name, &observed, aftermath);
    return 1;
}

static int find_facts(struct inode *parent, uint64_t directory, const char *name, struct facts *ret_facts)
{
    BUF_SCOPED bytes = BUF_INIT;
    int rc = catalog_find(catalog_of(parent), directory, name, &bytes);

    *ret_facts = (struct facts){0};
    if (rc == 0 && facts_read(bytes.bytes, bytes.length, directory, name, ret_facts) < 0)
        rc = -ENODATA;
    return rc;
}

/* seen_ms: when the server said what the catalog has. */
static int look_locked(struct inode *parent, const char *name, int64_t seen_ms, bool marked,
                       struct aftermath *aftermath)
{
    struct names *names = &parent->cache->names;
    struct names_watch watch;
    struct facts facts;
    uint64_t directory = parent->catalogued;

    if (!directory || names_find_locked(names, parent, name))
        return 0;
    if (!marked && asking_changing_locked(names, parent, name))
        return 0; /* no inode is made under the feet of who makes, moves or removes it */
    names_watch_locked(names, &watch, parent, name);
    lock_drop(&names->lock);
    int rc = find_facts(parent, directory, name, &facts);
    lock_take(&names->lock);
    bool changed = names_watch_touched(&watch, name) || names_find_locked(names, parent, name) ||
                   parent->catalogued != directory || (parent != names->root && !parent->parent);
    names_unwatch_locked(&watch);
    if (changed)
        rc = 1;
    else if (rc == 0)
        rc = !marked && asking_changing_locked(names, parent, name)
                 ? 0
                 : apply_facts_locked(parent, name, &facts, seen_ms, aftermath);
    facts_release(&facts);
    return rc;
}

int recall_name_locked(struct inode *parent, const char *name, int64_t asked_ms, bool warm, bool marked,
                       struct aftermath *aftermath)
{
    bool fresh = parent->beyond && lookup_listed_locked(parent, asked_ms), alone = recall_alone(parent);

    if (!fresh && !alone && !(warm && parent->warm_ms) && !parent->cache->config.immutable)
        return 0;
    int rc = look_locked(parent, name, seen_ms_locked(parent, asked_ms), marked, aftermath);
    if (rc == -ENODATA && fresh) { /* what was forgotten is not there any more */
        parent->listed_ms = 0;
        parent->forgotten++;
    }
    bool denies = fresh && lookup_denies_locked(parent, asked_ms, warm ? LOOKUP_WARM : LOOKUP_FRESH);
    bool gone = rc == -ENOENT && (denies || alone);
    return rc == 1 || gone ? rc : 0;
}

void recall_given_locked(struct inode *parent, const char *name, int64_t listed_ms,
                         struct aftermath *aftermath)
{
    look_locked(parent, name, listed_ms, false, aftermath);
}

/* ---- A page. ---- */

static bool is_same(const struct store_object *object, const struct facts *facts)
{
    struct identity seen, known;

    server_identity(object, &seen);
    server_identity(&facts->seen, &known);
    bool timed = seen.modified_ns && known.modified_ns; /* a copy onto itself differs in its time only */
    return facts->exists && facts->seen.meta_known && timed && identity_equal(&seen, &known);
}

static void recall_object(struct cache *cache, uint64_t directory, const char *name,
                          struct store_object *object, struct recalled *ret_recalled)
{
    BUF_SCOPED bytes = BUF_INIT;
    uint32_t type;
    struct facts facts;

    if (catalog_find(cache->catalog, directory, name, &bytes) < 0)
        return;
    if (object && (object->meta_known || cache->config.list_attributes_only)) {
        if (facts_glance(bytes.bytes, bytes.length, &type, &ret_recalled->number) < 0)
            ret_recalled->number = 0;
        return;
    }
    if (facts_read(bytes.bytes, bytes.length, directory, name, &facts) < 0)
        return;
    ret_recalled->number = facts.number;
    ret_recalled->directory = facts.directory;
    if (object && is_same(object, &facts)) {
        store_fields_copy(&object->meta, &facts.seen.meta);
        object->meta_known = true;
    }
    facts_release(&facts);
}

void recall_numbers(struct cache *cache, uint64_t directory, const char *name, struct recalled *ret_recalled)
{
    *ret_recalled = (struct recalled){0};
    if (directory)
        recall_object(cache, directory, name, NULL, ret_recalled);
}

void recall_objects(struct cache *cache, uint64_t directory, struct store_call *list,
                    struct recalled *ret_objects, struct recalled *ret_prefixes)
{
    size_t skip = strlen(list->prefix);

    if (!directory)
        return;
    for (size_t i = 0; i < list->object_count; i++) {
        const char *rest = list->objects[i].key + skip;
        if (*rest)
            recall_object(cache, directory, rest, &list->objects[i], &ret_objects[i]);
    }
    for (size_t i = 0; i < list->prefix_count; i++) {
        const char *rest = list->prefixes[i] + skip;
        STRING_SCOPED *name = xstrndup(rest, strcspn(rest, "/"));
        if (*name)
            recall_object(cache, directory, name, NULL, &ret_prefixes[i]);
    }
}

/* ---- All names. ---- */

struct pruning {
    const char *const *names; /* listed, sorted */
    size_t count, at;
    char **gone; /* in the catalog, and not listed */
    size_t gone_count, gone_room;
    const char **missing; /* listed, and not in the catalog: its rows went to make room, or were too long */
    size_t missing_count, missing_room;
};

static void add_missing(struct pruning *pruning, const char *name)
{
    if (pruning->missing_count == pruning->missing_room) {
        pruning->missing_room = pruning->missing_room ? pruning->missing_room * 2 : 16;
        pruning->missing = xrealloc(pruning->missing, pruning->missing_room * sizeof *pruning->missing);
    }
    pruning->missing[pruning->missing_count++] = name;
}

static bool compare_with_listed(void *context, const char *name, const void *facts, size_t length)
{
    struct pruning *pruning = context;
    int order = 1;

    (void)facts, (void)length;
    while (pruning->at < pruning->count && (order = strcmp(pruning->names[pruning->at], name)) < 0)
        add_missing(pruning, pruning->names[pruning->at++]);
    if (pruning->at < pruning->count && order == 0) {
        pruning->at++;
        return true;
    }
    if (pruning->gone_count == pruning->gone_room) {
        pruning->gone_room = pruning->gone_room ? pruning->gone_room * 2 : 16;
        pruning->gone = xrealloc(pruning->gone, pruning->gone_room * sizeof *pruning->gone);
    }
    pruning->gone[pruning->gone_count++] = xstrdup(name);
    return true;
}

/* What the tree has of them is noted once more; what only the bucket has is not known, and the directory not whole. */
static bool note_missing_locked(struct inode *directory, const struct pruning *pruning,
                                const struct names_watch *watch)
{
    bool all = true;

    for (size_t i = 0; i < pruning->missing_count; i++) {
        const char *name = pruning->missing[i];
        struct inode *inode = names_find_locked(&directory->cache->names, directory, name);
        if (!inode) {
            all = all && names_watch_touched(watch, name);
            continue;
        }
        lock_take(&inode->lock);
        inode->noted = false;
        lock_drop(&inode->lock);
        all = (recall_note_locked(inode) || is_unsent_locked(inode)) && all;
    }
    return all;
}

bool recall_listed_locked(struct inode *directory, const char *const *names, size_t count,
                          const struct names_watch *watch, int64_t wall_ns)
{
    struct names *tree = &directory->cache->names;
    struct pruning pruning = {.names = names, .count = count};
    uint64_t number = directory->catalogued;

    if (!number || watch->all)
        return false;
    lock_drop(&tree->lock);
    int rc = catalog_walk(catalog_of(directory), number, compare_with_listed, &pruning);
    while (pruning.at < pruning.count)
        add_missing(&pruning, pruning.names[pruning.at++]);
    lock_take(&tree->lock);
    bool whole = rc == 0 && !watch->all && directory->catalogued == number;
    whole = whole && note_missing_locked(directory, &pruning, watch);
    for (size_t i = 0; i < pruning.gone_count; i++) {
        if (whole && !names_watch_touched(watch, pruning.gone[i]) &&
            !names_find_locked(tree, directory, pruning.gone[i]))
            catalog_remove(catalog_of(directory), number, pruning.gone[i]);
        free(pruning.gone[i]);
    }
    free(pruning.gone);
    free(pruning.missing);
    if (whole)
        catalog_set_listed(catalog_of(directory), number, wall_ns);
    return whole;
}

struct walking {
    void (*each)(void *context, const char *name, uint32_t type, uint64_t number);
    void *context;
};

static bool give_name(void *context, const char *name, const void *facts, size_t length)
{
    const struct walking *walking = context;
    uint32_t type;
    uint64_t number;

    if (facts_glance(facts, length, &type, &number) == 0)
        walking->each(walking->context, name, type, number);
    return true;
}

int recall_walk_locked(struct inode *directory,
                       void (*each)(void *context, const char *name, uint32_t type, uint64_t number),
                       void *context)
{
    struct names *names = &directory->cache->names;
    struct walking walking = {each, context};
    uint64_t number = directory->catalogued;

    if (!number)
        return -ENODATA;
    lock_drop(&names->lock);
    struct catalog *catalog = catalog_of(directory);
    int rc = catalog_listed(catalog, number) ? catalog_walk(catalog, number, give_name, &walking) : -ENODATA;
    bool whole = rc == 0 && catalog_listed(catalog, number);
    lock_take(&names->lock);
    return whole && directory->catalogued == number ? 0 : -ENODATA;
}
