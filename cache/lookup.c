#include "cache/lookup.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/batch.h"
#include "cache/forest.h"
#include "cache/listing.h"
#include "cache/observed.h"
#include "cache/recall.h"
#include "cache/server.h"
#include "cache/veil.h"

#define LARGE_PAUSE  1000 /* lookups in a large directory until its listing is tried again */
#define READING_MS   5000 /* who reads a directory asks for its next page within */
#define ASK_TRIES    4
#define RECALL_TRIES 4

/* ---- What the server says of one name. ---- */

struct look {
    struct cache *cache;
    struct inode *parent;
    const char *name;
    struct buf key;    /* "p/a" */
    struct buf folder; /* "p/a/" */
    struct names_watch watch;
    uint32_t known_type;    /* of the inode under the name; 0: none */
    bool known_attributes;  /* of a directory */
    struct identity marker; /* of a known directory; etag "" when it has none */
    size_t doomed_below;
    uint64_t catalogued; /* of the parent, where the tree does not have the name */
    int64_t started_ms;
    struct store_call calls[2]; /* HEAD key, LIST folder */
    bool headed, listed;
    bool found_file, shows_below; /* shows_below: something that is not hidden */
    struct store_call marker_head;
    struct observed observed;
};

static int begin_look(struct look *look)
{
    struct names *names = &look->cache->names;
    LOCK_SCOPED(&names->lock);
    int rc = names_child_key_locked(look->parent, look->name, &look->key);

    if (rc < 0)
        return rc;
    buf_reset(&look->folder);
    buf_printf(&look->folder, "%s/", look->key.bytes);
    struct inode *inode = names_find_locked(names, look->parent, look->name);
    look->known_type = inode ? inode->type : 0;
    look->marker.etag[0] = '\0';
    look->known_attributes = false;
    look->catalogued = inode ? 0 : look->parent->catalogued;
    if (inode) {
        LOCK_SCOPED(&inode->lock);
        look->known_attributes = inode->attributes_known;
        if (inode->type == S_IFDIR && inode->remote.exists)
            look->marker = inode->remote.identity;
    }
    look->doomed_below = names_doomed_below_locked(names, look->folder.bytes);
    look->started_ms = clock_ms();
    look->headed = look->listed = look->found_file = look->shows_below = false;
    names_watch_locked(names, &look->watch, look->parent, look->name);
    return 0;
}

static void prepare_calls(struct look *look)
{
    look->calls[0] = server_call(look->cache, STORE_HEAD, look->key.bytes);
    look->calls[1] = server_call(look->cache, STORE_LIST, NULL);
    look->calls[1].prefix = look->folder.bytes;
    look->calls[1].max_keys = 1 + (int)(look->doomed_below < 100 ? look->doomed_below : 100);
    look->marker_head = server_call(look->cache, STORE_HEAD, look->folder.bytes);
}

static void end_look(struct look *look)
{
    lock_take(&look->cache->names.lock);
    names_unwatch_locked(&look->watch);
    lock_drop(&look->cache->names.lock);
    batch_release(look->calls, 2);
    store_call_release(&look->marker_head);
}

static bool shows_file(struct look *look)
{
    LOCK_SCOPED(&look->cache->names.lock);
    return look->calls[0].rc == 0 && !names_doomed_locked(&look->cache->names, &look->calls[0].object);
}

/* When all of the first page is hidden, the next ones tell. */
static int look_further(struct look *look, struct waiter *waiter)
{
    const struct store_call *list = &look->calls[1];
    struct names *names = &look->cache->names;

    lock_take(&names->lock);
    for (size_t i = 0; i < list->object_count && !look->shows_below; i++)
        look->shows_below = !names_doomed_locked(names, &list->objects[i]);
    lock_drop(&names->lock);
    if (look->shows_below || !list->next_token)
        return 0;
    return veil_look_below(look->cache, look->folder.bytes, list->next_token, "lookup", waiter,
                           &look->shows_below);
}

static int run_calls(struct look *look, bool head, bool list, struct waiter *waiter)
{
    size_t first = head ? 0 : 1, count = (size_t)head + (size_t)list;
    int rc = batch_run(look->cache->config.store, &look->calls[first], count, NULL, waiter);

    if (rc < 0)
        return rc;
    look->headed = look->headed || head;
    look->listed = look->listed || list;
    for (size_t i = first; i < first + count; i++) {
        int one = server_settle(look->cache, "lookup", &look->calls[i], -ENOENT);
        if (one < 0 && one != -ENOENT)
            rc = one;
    }
    look->found_file = look->headed && shows_file(look);
    return rc < 0 || !list || look->calls[1].rc < 0 ? rc : look_further(look, waiter);
}

static bool found_folder(const struct look *look)
{
    const struct store_call *list = &look->calls[1];
    /* What is hidden keeps it until it has its marker. */
    bool kept = look->known_type == S_IFDIR && list->object_count;

    return look->listed && list->rc == 0 && (look->shows_below || kept);
}

static int observe_folder(struct look *look, struct waiter *waiter)
{
    const struct store_call *list = &look->calls[1];
    const struct store_object *first = &list->objects[0];
    struct identity identity;
    int rc;

    look->observed =
        (struct observed){.type = S_IFDIR, .attributes_known = true, .started_ms = look->started_ms};
    if (!list->object_count || strcmp(first->key, look->folder.bytes) != 0)
        return 0;
    look->observed.object = first;
    if (first->meta_known || look->cache->config.list_attributes_only)
        return 0;
    server_identity(first, &identity);
    if (look->known_attributes && look->marker.etag[0] && identity_equal(&identity, &look->marker))
        return 0;
    rc = server_wait(look->cache, "lookup", &look->marker_head, -ENOENT, waiter);
    look->observed.object = rc == 0 ? &look->marker_head.object : NULL;
    return rc == -ENOENT ? 0 : rc;
}

static int observe(struct look *look, struct waiter *waiter)
{
    bool known_file = look->known_type && look->known_type != S_IFDIR,
         known_folder = look->known_type == S_IFDIR;
    int rc = run_calls(look, !known_folder, !known_file, waiter);

    if (rc == 0 && known_file && !look->found_file)
        rc = run_calls(look, false, true, waiter);
    if (rc == 0 && known_folder && !found_folder(look))
        rc = run_calls(look, true, false, waiter);
    if (rc < 0)
        return rc;
    if (found_folder(look))
        return observe_folder(look, waiter);
    if (look->found_file)
        look->observed = observed_file(look->cache, &look->calls[0].object, look->started_ms);
    else
        look->observed = (struct observed){.started_ms = look->started_ms};
    return 0;
}

static void recall(struct look *look)
{
    struct recalled recalled;
    recall_numbers(look->cache, look->catalogued, look->name, &recalled);
    look->observed.number = recalled.number;
    look->observed.directory = recalled.directory;
}

/* 1: the name changed here meanwhile, look again. A directory that the tree does not have, and below which changes do not cease, is
 * there. */
static int apply_look(struct look *look, bool last, struct inode **ret_inode)
{
    struct names *names = &look->cache->names;
    AFTERMATH_SCOPED(aftermath, look->cache);
    LOCK_SCOPED(&names->lock);
    struct inode *inode;

    bool lasting =
        last && look->observed.type == S_IFDIR && !names_find_locked(names, look->parent, look->name);
    if (lasting || !names_watch_touched(&look->watch, look->name)) {
        if (look->observed.type == S_IFDIR && look->found_file && look->known_type != S_IFDIR)
            names_hide_locked(names, look->key.bytes);
        inode = observed_apply_locked(look->cache, look->parent, look->name, &look->observed, &aftermath);
    } else if (last) {
        inode = names_find_locked(names, look->parent, look->name);
    } else {
        return 1;
    }
    if (!inode)
        return -ENOENT;
    names_used_locked(inode);
    *ret_inode = inode_ref(inode);
    return 0;
}

int lookup_ask(struct cache *cache, struct inode *parent, const char *name, struct waiter *waiter,
               struct inode **ret_inode)
{
    struct look look = {.cache = cache, .parent = parent, .name = name, .key = BUF_INIT, .folder = BUF_INIT};
    int rc = 1;

    if (!waiter)
        return -EAGAIN;
    for (int tries = 0; rc == 1; tries++) {
        rc = begin_look(&look);
        if (rc < 0)
            break;
        prepare_calls(&look);
        rc = observe(&look, waiter);
        if (rc == 0)
            recall(&look);
        if (rc == 0)
            rc = apply_look(&look, tries == ASK_TRIES, ret_inode);
        end_look(&look);
    }
    buf_release(&look.key);
    buf_release(&look.folder);
    return rc;
}

/* ---- What memory says. ---- */

static int64_t fresh_ms(const struct inode *inode)
{
    int64_t ttl_ms = inode->cache->config.attr_ttl_ms;
    int64_t seen_ms = inode_seen_ms_locked(inode), left_ms = seen_ms + ttl_ms - clock_ms();

    if (inode == inode->cache->names.root || inode_overlays_locked(inode))
        return ttl_ms;
    if (!seen_ms) /* nobody vouches for it; the clock may not have run as long as a ttl */
        return 0;
    return left_ms > 0 ? left_ms : 0;
}

/* One that takes longer to list than its names are believed would never be of use: it is, for a multiple of that time. */
static int64_t stretch_ms(int64_t ttl_ms, int64_t took_ms)
{
    took_ms = took_ms < LOOKUP_STRETCH_MS_MAX ? took_ms : LOOKUP_STRETCH_MS_MAX;
    return ttl_ms && LOOKUP_STRETCH * took_ms > ttl_ms ? LOOKUP_STRETCH * took_ms : ttl_ms;
}

/* Who only looks may believe it for so long: while its directory is being listed, and as long as that listing is good. */
static int64_t looked_at_ms(const struct inode *inode)
{
    const struct inode *parent = inode->parent;
    int64_t ttl_ms = inode->cache->config.attr_ttl_ms, seen_ms = inode_seen_ms_locked(inode),
            now_ms = clock_ms(), until_ms = 0;

    if (!parent)
        return 0;
    if (parent->warm_ms) /* what differs is told when it was listed */
        return ttl_ms;
    if (parent->growing_ms && seen_ms >= parent->growing_ms) {
        int64_t took_ms = parent->grown_ms > parent->listing_ms ? parent->grown_ms : parent->listing_ms;
        until_ms = parent->growing_ms + stretch_ms(ttl_ms, took_ms);
    } else if (parent->listed_ms && seen_ms >= parent->listed_ms) {
        until_ms = parent->listed_ms + stretch_ms(ttl_ms, parent->listing_ms);
    }
    return until_ms > now_ms ? until_ms - now_ms : 0;
}

int64_t lookup_valid_ms(const struct inode *inode)
{
    int64_t left_ms = fresh_ms(inode), look_ms = looked_at_ms(inode);
    return left_ms > look_ms ? left_ms : look_ms;
}

struct refresh { /* of a directory's listing, behind */
    struct job job;
    struct list link;        /* in names->refreshes while it runs */
    struct waiter *waiter;   /* ... for the server */
    struct inode *directory; /* a reference */
};

static bool is_large(const struct inode *directory)
{
    return directory->listed_pages > LOOKUP_LARGE;
}

/* Of a large directory: one more question in it; true: as many were asked as its listing took pages, since it was begun last. */
static bool large_is_worth_it_locked(struct inode *directory)
{
    if (++directory->looks <= directory->listed_pages)
        return false;
    directory->looks = 0;
    return true;
}

/* As many pages as what is known to stand there takes, and some more. All, where somebody is reading it: what he is told is looked
 * up next (ls -l), one by one at two requests each. */
static int count_pages(const struct inode *directory)
{
    if (directory->read_ms && clock_ms() - directory->read_ms < READING_MS)
        return INT_MAX;
    if (directory->beyond)
        return LOOKUP_LARGE;
    size_t pages = LOOKUP_PAGES + directory->child_count * 3 / 2 / STORE_LIST_MAX;
    return pages < LOOKUP_LARGE ? (int)pages : LOOKUP_LARGE;
}

/* Behind, nobody waits for them: one that was listed whole can be so again. */
static int count_pages_behind(const struct inode *directory)
{
    if (directory->warm_ms)
        return INT_MAX;
    return is_large(directory) ? directory->listed_pages * 3 / 2 : count_pages(directory);
}

static void run_refresh(struct job *job)
{
    struct refresh *refresh = container_of(job, struct refresh, job);
    struct inode *directory = refresh->directory;
    struct cache *cache = directory->cache;
    struct names *names = &cache->names;
    struct asking *asking;
    {
        WAITER_SCOPED(waiter);
        AFTERMATH_SCOPED(aftermath, cache);
        LOCK_SCOPED(&names->lock);
        refresh->waiter = &waiter;
        list_append(&names->refreshes, &refresh->link);
        if (!atomic_load(&cache->stopping) &&
            asking_take_one_locked(names, directory, "", &waiter, &asking) == 0) {
            int pages = count_pages_behind(directory);
            lock_drop(&names->lock);
            listing_look(cache, directory, pages, &waiter);
            lock_take(&names->lock);
            asking_drop_locked(names, asking, &aftermath);
        }
        list_remove(&refresh->link);
        directory->refreshing = false;
        if (!atomic_load(&cache->unreached))
            directory->warm_ms = 0; /* else it is tried again when somebody looks */
    }
    inode_unref(directory);
    free(refresh);
}

void lookup_stop(struct cache *cache)
{
    LOCK_SCOPED(&cache->names.lock);
    list_for_each (at, &cache->names.refreshes)
        waiter_interrupt(container_of(at, struct refresh, link)->waiter);
}

void lookup_refresh_locked(struct inode *directory)
{
    struct cache *cache = directory->cache;
    if (directory->refreshing)
        return;
    struct refresh *refresh = xcalloc(1, sizeof *refresh);
    refresh->job.run = run_refresh;
    list_init(&refresh->link);
    refresh->directory = inode_ref(directory);
    directory->refreshing = true;
    if (!atomic_load(&cache->stopping) && pool_post(cache->refreshing, &refresh->job) == 0)
        return;
    directory->warm_ms = 0;
    directory->refreshing = false;
    atomic_fetch_sub(&directory->references, 1); /* the caller has one */
    free(refresh);
}

bool lookup_listed_locked(const struct inode *directory, int64_t asked_ms)
{
    int64_t ttl_ms = stretch_ms(directory->cache->config.attr_ttl_ms, directory->listing_ms);
    return directory->listed_ms && directory->listed_ms + ttl_ms > asked_ms;
}

bool lookup_denies_locked(const struct inode *directory, int64_t asked_ms, enum lookup_trust trust)
{
    int64_t ttl_ms = directory->cache->config.negative_ttl_ms;

    if (trust == LOOKUP_WARM)
        ttl_ms = stretch_ms(ttl_ms, directory->listing_ms);
    return directory->listed_ms && directory->listed_ms + ttl_ms > asked_ms;
}

/* Its listing has answered, and is half way to its end: the next one begins before anybody has to wait for it. */
static void keep_fresh_locked(struct inode *directory, int64_t now_ms)
{
    int64_t ttl_ms = stretch_ms(directory->cache->config.negative_ttl_ms, directory->listing_ms);
    bool is_late = now_ms - directory->listed_ms > ttl_ms / 2;
    if (is_late && (!is_large(directory) || large_is_worth_it_locked(directory)))
        lookup_refresh_locked(directory);
}

bool lookup_known_locked(struct inode *parent, const char *name, int64_t asked_ms, enum lookup_trust trust,
                         struct inode **ret_inode, int64_t *ret_valid_ms)
{
    struct cache *cache = parent->cache;
    struct inode *inode = names_find_locked(&cache->names, parent, name);
    int64_t now_ms = clock_ms(),
            until_ms = parent->listed_ms + stretch_ms(cache->config.negative_ttl_ms, parent->listing_ms);

    *ret_inode = inode;
    if (inode) {
        LOCK_SCOPED(&inode->lock);
        bool looks = trust == LOOKUP_WARM || recall_alone(parent);
        bool trusted = fresh_ms(inode) > 0 || (looks && looked_at_ms(inode) > 0);
        *ret_valid_ms = lookup_valid_ms(inode);
        return inode_overlays_locked(inode) || (inode->attributes_known && trusted);
    }
    if (names_absent_locked(&cache->names, parent, name, ret_valid_ms))
        return true;
    *ret_valid_ms = parent->listed_ms && until_ms > now_ms ? until_ms - now_ms : 0;
    if (!lookup_denies_locked(parent, asked_ms, trust))
        return false;
    keep_fresh_locked(parent, now_ms);
    return !parent->beyond; /* else the catalog has to say so, too */
}

void lookup_fill_locked(struct inode *inode, struct entry *ret_entry)
{
    names_used_locked(inode);
    ret_entry->inode = inode_ref(inode);
    ret_entry->id = inode->id;
    LOCK_SCOPED(&inode->lock);
    inode_attributes_locked(inode, &ret_entry->attributes);
    ret_entry->valid_ms = lookup_valid_ms(inode);
}

/* ---- Both. ---- */

/* Counts one more question in this directory; true: its listing is the cheaper answer. */
static bool many_misses_locked(struct inode *parent)
{
    int64_t now_ms = clock_ms(), ttl_ms = parent->cache->config.negative_ttl_ms;

    if (is_large(parent)) {
        if (large_is_worth_it_locked(parent) && ttl_ms > 0)
            lookup_refresh_locked(parent);
        return false;
    }
    if (parent->misses < 0) { /* more pages than anybody shall wait for */
        parent->misses++;
        return false;
    }
    if (parent->misses == 0 || parent->misses_ms + ttl_ms < now_ms) {
        parent->misses = 0;
        parent->misses_ms = now_ms;
    }
    return ++parent->misses > LOOKUP_MISSES && ttl_ms > 0;
}

/* Lists the directory once for all who ask in it. Called and returns with the lock held. */
static int list_for_all_locked(struct cache *cache, struct inode *parent, struct waiter *waiter,
                               struct aftermath *aftermath)
{
    struct names *names = &cache->names;
    struct asking *asking;
    int64_t listed_ms = parent->listed_ms;
    int pages = count_pages(parent);
    int rc = asking_take_one_locked(names, parent, "", waiter, &asking);

    if (rc < 0)
        return rc;
    if (parent->listed_ms == listed_ms && parent->misses >= 0) {
        lock_drop(&names->lock);
        rc = listing_look(cache, parent, pages, waiter);
        lock_take(&names->lock);
        parent->misses = parent->listed_ms == listed_ms ? -LARGE_PAUSE : 0;
    }
    asking_drop_locked(names, asking, aftermath);
    return rc;
}

static int ask_once_locked(struct cache *cache, struct inode *parent, const char *name, struct waiter *waiter,
                           struct aftermath *aftermath, struct inode **ret_inode)
{
    struct names *names = &cache->names;
    struct asking *asking = asking_find_lookup_locked(names, parent, name);
    struct inode *known;
    int64_t valid_ms;
    int rc;

    if (asking)
        return asking_join_locked(names, asking, waiter, aftermath, ret_inode);
    rc = asking_take_one_locked(names, parent, name, waiter, &asking);
    if (rc < 0)
        return rc;
    if (lookup_known_locked(parent, name, clock_ms(), LOOKUP_FRESH, &known, &valid_ms)) {
        asking_drop_locked(names, asking, aftermath);
        return -EAGAIN; /* somebody settled it while we waited: look again */
    }
    asking->lookup = true;
    lock_drop(&names->lock);
    rc = lookup_ask(cache, parent, name, waiter, ret_inode);
    lock_take(&names->lock);
    if (rc != -EINTR)
        asking_answer_locked(asking, rc, rc == 0 ? *ret_inode : NULL);
    asking_drop_locked(names, asking, aftermath);
    return rc;
}

/* A directory that was listed in its parent, where nobody has seen its marker, or not since: another listing would tell no more. */
static bool lacks_marker_locked(struct inode *inode)
{
    if (!inode || inode->type != S_IFDIR)
        return false;
    LOCK_SCOPED(&inode->lock);
    const struct remote *remote = &inode->remote;
    int64_t until_ms = remote->confirmed_ms + inode->cache->config.attr_ttl_ms;
    bool older = remote->marker_ms < remote->confirmed_ms && until_ms > clock_ms();
    return !inode->attributes_known || older;
}

/* As forest_look_locked(). */
static int look_at_directory_locked(struct inode *inode, struct waiter *waiter, struct aftermath *aftermath)
{
    if (!lacks_marker_locked(inode))
        return 0;
    inode_ref(inode);
    int rc = forest_look_locked(inode, waiter, aftermath);
    aftermath_unref(aftermath, inode);
    return rc;
}

int lookup_resolve(struct cache *cache, struct inode *parent, const char *name, enum lookup_trust trust,
                   struct waiter *waiter, struct inode **ret_inode, int64_t *ret_valid_ms)
{
    struct names *names = &cache->names;
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&names->lock);
    int64_t asked_ms = clock_ms();
    bool listed = false;
    int rc, recalls = 0;

    *ret_inode = NULL;
    if (parent->type != S_IFDIR)
        return -ENOTDIR;
    recall_begin_locked(parent);
    for (;;) {
        struct inode *known;
        if (parent != names->root && !parent->parent)
            return -ENOENT;
        if (lookup_known_locked(parent, name, asked_ms, trust, &known, ret_valid_ms)) {
            *ret_inode = known ? inode_ref(known) : NULL;
            return known ? 0 : -ENOENT;
        }
        rc = recalls++ < RECALL_TRIES
                 ? recall_name_locked(parent, name, asked_ms, trust == LOOKUP_WARM, false, &aftermath)
                 : 0;
        if (rc == 0 && recalls <= RECALL_TRIES)
            rc = look_at_directory_locked(known, waiter, &aftermath);
        if (rc < 0)
            return rc;
        if (rc == 1)
            continue;
        if (!waiter)
            return -EAGAIN;
        bool asked = asking_find_lookup_locked(names, parent, name) != NULL; /* its answer serves us too */
        if (!asked && !listed && many_misses_locked(parent)) {
            listed = true;
            rc = list_for_all_locked(cache, parent, waiter, &aftermath);
            if (rc < 0)
                return rc;
            continue;
        }
        rc = ask_once_locked(cache, parent, name, waiter, &aftermath, ret_inode);
        *ret_valid_ms = cache->config.negative_ttl_ms;
        if (rc != -EAGAIN)
            return rc;
    }
}

static int resolve_marked(struct cache *cache, struct inode *parent, const char *name, int64_t asked_ms,
                          struct waiter *waiter, struct inode **ret_inode)
{
    struct inode *known;
    int64_t valid_ms;
    bool answered;
    int rc = 1;
    {
        AFTERMATH_SCOPED(aftermath, cache);
        LOCK_SCOPED(&cache->names.lock);
        for (int tries = 0;; tries++) {
            answered = lookup_known_locked(parent, name, asked_ms, LOOKUP_FRESH, &known, &valid_ms);
            *ret_inode = answered && known ? inode_ref(known) : NULL;
            if (answered || tries == RECALL_TRIES)
                break;
            rc = recall_name_locked(parent, name, asked_ms, false, true, &aftermath);
            if (rc != 1)
                break;
        }
    }
    if (answered)
        return *ret_inode ? 0 : -ENOENT;
    if (rc == -ENOENT)
        return rc;
    return lookup_ask(cache, parent, name, waiter, ret_inode);
}

int lookup_resolve_marked(struct cache *cache, struct inode *parent, const char *name, struct waiter *waiter,
                          struct inode **ret_inode)
{
    return resolve_marked(cache, parent, name, clock_ms(), waiter, ret_inode);
}

int lookup_resolve_made(struct cache *cache, struct inode *parent, const char *name, struct waiter *waiter,
                        struct inode **ret_inode)
{
    return resolve_marked(cache, parent, name, clock_ms() - cache->config.negative_ttl_ms, waiter, ret_inode);
}

int cache_lookup(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                 struct entry *ret_entry)
{
    struct inode *inode;
    int64_t valid_ms = 0;
    int rc = names_check(name);

    *ret_entry = (struct entry){0};
    if (rc < 0)
        return rc == -EILSEQ || rc == -EPERM ? -ENOENT
                                             : rc; /* the endpoint cannot hold such a name, or hides it */
    rc = lookup_resolve(cache, parent, name, LOOKUP_WARM, waiter, &inode, &valid_ms);
    if (rc == -ENOENT)
        ret_entry->valid_ms = valid_ms;
    if (rc < 0)
        return rc;
    lock_take(&cache->names.lock);
    parent->looked_ms = clock_ms();
    lookup_fill_locked(inode, ret_entry);
    lock_drop(&cache->names.lock);
    inode_unref(inode);
    return 0;
}

/* The place of an inode now; false: it has none. Owned by the caller. */
static bool get_place(struct inode *inode, struct inode **ret_parent, char **ret_name)
{
    LOCK_SCOPED(&inode->cache->names.lock);
    if (!inode->parent)
        return false;
    *ret_parent = inode_ref(inode->parent);
    *ret_name = xstrdup(inode->name);
    return true;
}

static bool still_there(struct inode *inode, struct inode *parent, const char *name)
{
    LOCK_SCOPED(&inode->cache->names.lock);
    return !inode->parent || (inode->parent == parent && strcmp(inode->name, name) == 0);
}

static int revalidate(struct inode *inode, enum lookup_trust trust, struct waiter *waiter)
{
    struct cache *cache = inode->cache;

    if (inode == cache->names.root)
        return 0;
    for (;;) {
        struct inode *parent, *found;
        STRING_SCOPED *name = NULL;
        int64_t valid_ms;
        if (!get_place(inode, &parent, &name)) {
            LOCK_SCOPED(&inode->lock);
            return inode->opens && !inode->lost ? 0
                                                : -ESTALE; /* unlinked: who has it open may open it again */
        }
        int rc = lookup_resolve(cache, parent, name, trust, waiter, &found, &valid_ms);
        bool same = found == inode, stayed = still_there(inode, parent, name);
        inode_unref(found);
        inode_unref(parent);
        if (rc < 0 && rc != -ENOENT)
            return rc;
        if (same)
            return 0;
        if (stayed)
            return rc < 0 ? rc : -ESTALE;
    }
}

int names_revalidate(struct inode *inode, struct waiter *waiter)
{
    return revalidate(inode, LOOKUP_FRESH, waiter);
}

int names_look_again(struct inode *inode, struct waiter *waiter)
{
    return revalidate(inode, LOOKUP_WARM, waiter);
}
