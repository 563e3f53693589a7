#include "cache/listing.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/forest.h"
#include "cache/lookup.h"
#include "cache/page.h"
#include "cache/recall.h"
#include "cache/veil.h"

#define CHUNK_BYTES ((size_t)32 * 1024)
#define DOTS        2

struct chunk {
    struct chunk *next;
    size_t used;
    char bytes[CHUNK_BYTES];
};

struct listing_entry {
    const char *name; /* in a chunk */
    uint64_t number;
    uint32_t type; /* 0: not known yet */
    bool asked;    /* for its attributes, in vain where they are not known */
    bool gone;
};

struct listing {
    struct cache *cache;
    struct inode *directory;
    char marker[24]; /* a name that no file has: this listing at work in the directory */
    bool marked;     /* the caller holds a marker already */
    bool goes_on;    /* the next page is wanted, too */
    bool busy;       /* under the lock of names */
    /* One thread at a time. */
    struct listing_entry *entries;
    size_t count, room;
    atomic_size_t bytes; /* of chunks and entries */
    struct chunk *chunks;
    struct page_place place;
    bool begun, complete, all_known, given;
    bool recalled; /* it came from memory or the catalog */
    bool looked;   /* ... and those who list there look names up as well */
    int64_t started_ms, started_wall_ns;
    int pages;
    int64_t waited_ms;        /* for its pages */
    int64_t answered_ms;      /* the last of them */
    uint64_t forgotten;       /* directory->forgotten at the start */
    uint64_t refreshes;       /* cache->refreshes at the start */
    struct names_watch watch; /* of the whole of it, while it grows */
    bool watching;
};

/* ---- The snapshot. ---- */

static const char *keep_name(struct listing *listing, const char *name)
{
    size_t length = strlen(name) + 1;

    if (!listing->chunks || listing->chunks->used + length > CHUNK_BYTES) {
        struct chunk *chunk = xmalloc(sizeof(*chunk));
        chunk->next = listing->chunks;
        chunk->used = 0;
        listing->chunks = chunk;
        atomic_fetch_add(&listing->bytes, sizeof(*chunk));
    }
    char *kept = listing->chunks->bytes + listing->chunks->used;
    memcpy(kept, name, length);
    listing->chunks->used += length;
    return kept;
}

static void add_entry(struct listing *listing, const char *name, uint32_t type, uint64_t number)
{
    if (listing->count == listing->room) {
        size_t more = listing->room ? listing->room : 32;
        listing->room += more;
        listing->entries = xrealloc(listing->entries, listing->room * sizeof(*listing->entries));
        atomic_fetch_add(&listing->bytes, more * sizeof(*listing->entries));
    }
    listing->entries[listing->count++] =
        (struct listing_entry){.name = keep_name(listing, name), .number = number, .type = type};
}

static void watch_locked(struct listing *listing)
{
    names_watch_locked(&listing->cache->names, &listing->watch, listing->directory, NULL);
    listing->watching = true;
}

static void end_growth_locked(struct listing *listing)
{
    if (listing->directory->growing_ms == listing->started_ms)
        listing->directory->growing_ms = 0;
}

static void unwatch_locked(struct listing *listing)
{
    if (listing->watching)
        end_growth_locked(listing);
    if (listing->watching)
        names_unwatch_locked(&listing->watch);
    listing->watching = false;
}

static void clear_snapshot(struct listing *listing)
{
    lock_take(&listing->cache->names.lock);
    unwatch_locked(listing);
    lock_drop(&listing->cache->names.lock);
    for (struct chunk *chunk = listing->chunks, *next; chunk; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    listing->chunks = NULL;
    listing->count = 0;
    atomic_store(&listing->bytes, listing->room * sizeof(*listing->entries));
    page_place_release(&listing->place);
    listing->begun = listing->complete = listing->given = listing->recalled = false;
    listing->pages = 0;
    listing->waited_ms = listing->answered_ms = 0;
    listing->all_known = true;
}

static int make_listing(struct cache *cache, struct inode *directory, struct listing **ret_listing)
{
    struct listing *listing;

    if (directory->type != S_IFDIR)
        return -ENOTDIR;
    listing = xcalloc(1, sizeof(*listing));
    listing->cache = cache;
    listing->directory = inode_ref(directory);
    snprintf(listing->marker, sizeof(listing->marker), "/%p", (void *)listing);
    listing->all_known = true;
    *ret_listing = listing;
    return 0;
}

int cache_list_open(struct cache *cache, struct inode *directory, struct listing **ret_listing)
{
    int rc = make_listing(cache, directory, ret_listing);
    if (rc == 0)
        (*ret_listing)->goes_on = true;
    return rc;
}

void cache_list_release(struct listing *listing)
{
    if (!listing)
        return;
    clear_snapshot(listing);
    free(listing->entries);
    inode_unref(listing->directory);
    free(listing);
}

size_t cache_list_bytes(const struct listing *listing)
{
    return atomic_load(&listing->bytes);
}

/* ---- Growing. ---- */

/* The file "b" of an earlier page stands beside the directory "b/" of this one: the directory has the name. The names
 * between them in the order of keys all begin with "b". */
static bool turn_into_directory(struct listing *listing, const char *name, uint64_t number)
{
    size_t length = strlen(name);

    for (size_t i = listing->count; i-- > 0 && strncmp(listing->entries[i].name, name, length) == 0;)
        if (!listing->entries[i].name[length]) {
            listing->entries[i].type = S_IFDIR;
            listing->entries[i].number = number;
            listing->entries[i].asked = listing->entries[i].gone = false;
            return true;
        }
    return false;
}

static void take_entry(struct listing *listing, const struct page_entry *entry)
{
    if (!entry->shown || (entry->folder && turn_into_directory(listing, entry->name, entry->number)))
        return;
    add_entry(listing, entry->name, entry->type, entry->number);
    if (!entry->inode_known)
        listing->all_known = false;
}

/* The page, and what only the tree has, in one order. */
static void take_page(struct listing *listing, const struct page *page)
{
    size_t extra = 0;

    for (size_t i = 0; i <= page->count; i++) {
        const struct page_entry *entry = i < page->count ? &page->entries[i] : NULL;
        for (; extra < page->extra_count; extra++) {
            const struct page_entry *own = &page->extras[extra];
            if (entry && page_compare(entry->name, entry->folder, own->name, own->folder) < 0)
                break;
            add_entry(listing, own->name, own->type, own->number);
        }
        if (entry)
            take_entry(listing, entry);
    }
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static const char **sort_names(const struct listing *listing)
{
    const char **sorted = xcalloc(listing->count + 1, sizeof *sorted);

    for (size_t i = 0; i < listing->count; i++)
        sorted[i] = listing->entries[i].name;
    if (listing->count)
        qsort(sorted, listing->count, sizeof *sorted, compare_names);
    return sorted;
}

/* What was listed, and nothing else, is in the catalog then. The lock is dropped meanwhile. */
static bool note_whole_locked(struct listing *listing)
{
    struct lock *lock = &listing->cache->names.lock;

    if (!listing->cache->catalog)
        return false;
    lock_drop(lock);
    const char **sorted = sort_names(listing);
    lock_take(lock);
    bool noted = recall_listed_locked(listing->directory, sorted, listing->count, &listing->watch,
                                      listing->started_wall_ns);
    lock_drop(lock);
    free(sorted);
    lock_take(lock);
    return noted;
}

static void end_listing_locked(struct listing *listing)
{
    struct inode *directory = listing->directory;

    listing->complete = true;
    bool whole = listing->all_known && directory->forgotten == listing->forgotten;
    bool noted = whole && note_whole_locked(listing);
    unwatch_locked(listing);
    if (!whole || directory->forgotten != listing->forgotten || (directory->beyond && !noted))
        return;
    if (directory->listed_ms < listing->started_ms)
        directory->listed_ms = listing->started_ms;
    directory->listing_ms = listing->waited_ms;
    directory->listed_pages = listing->pages;
    directory->misses = directory->looks = 0;
}

/* What was asked for before that is of no use to it: a listing that is to tell which names are missing has to be believed for a while. So
 * it is newer than the last one, too, which is half out of date by then. */
static int64_t choose_since_ms(const struct listing *listing)
{
    return listing->marked ? clock_ms() - listing->cache->config.negative_ttl_ms / 2 : 0;
}

/* Its page was told by what somebody else asked for, before. */
static void date_back_locked(struct listing *listing, const struct swath *swath)
{
    if (listing->directory->growing_ms == listing->started_ms)
        listing->directory->growing_ms = swath->asked_ms;
    listing->started_ms = swath->asked_ms;
    listing->started_wall_ns = swath->asked_ns;
}

/* The marker keeps a rename of the directory, or of one above, waiting: the keys of the page stay true. */
static int grow(struct listing *listing, struct waiter *waiter)
{
    struct cache *cache = listing->cache;
    struct names *names = &cache->names;
    struct inode *directory = listing->directory;
    struct asking *asking = NULL;
    struct page page = {
        .cache = cache, .directory = directory, .place = &listing->place, .goes_on = listing->goes_on};
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&names->lock);
    int rc = 0;

    if (!listing->marked)
        rc = asking_take_one_locked(names, directory, listing->marker, waiter, &asking);
    if (rc == -ENOENT) { /* removed meanwhile: nothing more */
        listing->begun = listing->complete = true;
        return 0;
    }
    if (rc < 0)
        return rc;
    if (!listing->begun) {
        listing->begun = true;
        listing->started_ms = clock_ms();
        listing->started_wall_ns = clock_wall_ns();
        watch_locked(listing);
        directory->growing_ms = listing->started_ms;
        directory->grown_ms = 0;
        listing->forgotten = directory->forgotten;
        listing->refreshes = cache->refreshes;
    }
    /* Who reads on after a pause longer than names are believed has a listing that is of no moment. */
    int64_t asked_ms = clock_ms(), ttl_ms = cache->config.attr_ttl_ms;
    if (listing->answered_ms && asked_ms - listing->answered_ms > ttl_ms && ttl_ms) {
        listing->all_known = false;
        end_growth_locked(listing);
    }
    page.since_ms = choose_since_ms(listing);
    rc = page_fetch_locked(&page, waiter, &aftermath);
    if (page.swath)
        date_back_locked(listing, page.swath);
    listing->answered_ms = clock_ms();
    listing->waited_ms += page.began_ms ? listing->answered_ms - page.began_ms : 0;
    if (directory->growing_ms == listing->started_ms)
        directory->grown_ms = listing->waited_ms;
    if (page.doubtful)
        listing->all_known = false;
    if (!listing->marked) {
        directory->read_ms = listing->answered_ms;
        directory->misses = directory->misses < 0 ? 0 : directory->misses; /* they are worth another try */
    }
    if (rc == 0) {
        listing->pages++;
        take_page(listing, &page);
        if (page.last)
            end_listing_locked(listing);
    }
    asking_drop_locked(names, asking, &aftermath);
    lock_drop(&names->lock);
    page_release(&page);
    lock_take(&names->lock);
    return rc;
}

int listing_look(struct cache *cache, struct inode *directory, int pages, struct waiter *waiter)
{
    struct listing *listing;
    int rc = make_listing(cache, directory, &listing);

    if (rc < 0)
        return rc;
    listing->marked = true;
    while (rc == 0 && !listing->complete && pages-- > 0 && !atomic_load(&cache->stopping)) {
        listing->goes_on = pages > 0;
        rc = grow(listing, waiter);
    }
    cache_list_release(listing);
    return rc;
}

static int compare_entries(const void *a, const void *b)
{
    const struct listing_entry *left = a, *right = b;
    return page_compare(left->name, left->type == S_IFDIR, right->name, right->type == S_IFDIR);
}

static void add_recalled(void *context, const char *name, uint32_t type, uint64_t number)
{
    struct listing *listing = context;
    add_entry(listing, name, type, number ? number : names_number(listing->directory, name));
}

static int compare_recalled(const void *name, const void *entry)
{
    return strcmp(name, ((const struct listing_entry *)entry)->name);
}

/* Among the first `count`, which are sorted by their bytes. */
static struct listing_entry *find_recalled(const struct listing *listing, size_t count, const char *name)
{
    return count ? bsearch(name, listing->entries, count, sizeof *listing->entries, compare_recalled) : NULL;
}

static void drop_recalled(const struct listing *listing, size_t count, const char *name)
{
    struct listing_entry *entry = find_recalled(listing, count, name);
    if (entry)
        entry->gone = true;
}

/* Objects under these keys are no files of theirs. */
static void drop_veiled_locked(const struct listing *listing, size_t count)
{
    struct names *names = &listing->cache->names;
    BUF_SCOPED prefix = BUF_INIT;

    if (!names->veils || names_key_locked(listing->directory, &prefix) < 0)
        return;
    for (struct veil_key *at = names->veils; at; at = at->by_key.next) {
        if (strncmp(at->key, prefix.bytes, prefix.length) != 0)
            continue;
        const char *rest = at->key + prefix.length;
        STRING_SCOPED *name = xstrndup(rest, strcspn(rest, "/"));
        const char *slash = rest + strlen(name);
        if (*name && (!*slash || !slash[1]))
            drop_recalled(listing, count, name);
    }
}

static void keep_those_there(struct listing *listing)
{
    size_t kept = 0;
    for (size_t i = 0; i < listing->count; i++)
        if (!listing->entries[i].gone)
            listing->entries[kept++] = listing->entries[i];
    listing->count = kept;
}

/* What the tree has over what the catalog has, of which whatever changed here meanwhile is not believed. */
static void add_children_locked(struct listing *listing, size_t recalled)
{
    for (size_t i = 0; i < listing->watch.count; i++)
        drop_recalled(listing, recalled, listing->watch.touched[i]);
    drop_veiled_locked(listing, recalled);
    list_for_each (at, &listing->directory->children) {
        struct inode *child = container_of(at, struct inode, sibling);
        struct listing_entry *entry = find_recalled(listing, recalled, child->name);
        if (!entry) {
            add_entry(listing, child->name, page_type(child), child->number);
            continue;
        }
        entry->gone = false;
        entry->type = page_type(child);
        entry->number = child->number;
    }
    keep_those_there(listing);
}

/* 0: listed; -ENODATA: the server has to be asked; -EAGAIN: the catalog, by somebody who may wait. */
static int list_from_catalog_locked(struct listing *listing, struct waiter *waiter)
{
    if (!waiter)
        return -EAGAIN;
    watch_locked(listing);
    int rc = recall_walk_locked(listing->directory, add_recalled, listing);
    bool told = rc == 0 && !listing->watch.all &&
                (lookup_listed_locked(listing->directory, clock_ms()) || listing->directory->warm_ms);
    if (told)
        add_children_locked(listing, listing->count);
    unwatch_locked(listing);
    if (!told)
        listing->count = 0;
    return told ? 0 : -ENODATA;
}

/* All of a directory that was listed whole a moment ago, or that is listed behind, as an earlier mount knew it; in no order yet. */
static int list_from_memory_locked(struct listing *listing, struct waiter *waiter)
{
    struct inode *directory = listing->directory;
    int rc = -ENODATA;

    recall_begin_locked(directory);
    listing->started_ms = clock_ms();
    listing->refreshes = listing->cache->refreshes;
    if (directory->warm_ms || (directory->beyond && lookup_listed_locked(directory, clock_ms()))) {
        rc = list_from_catalog_locked(listing, waiter);
    } else if (lookup_listed_locked(directory, clock_ms())) {
        add_children_locked(listing, 0);
        rc = 0;
    }
    if (rc == 0)
        listing->begun = listing->complete = listing->recalled = true;
    listing->looked = directory->looked_ms && directory->looked_ms + LISTING_LOOKED_MS > clock_ms();
    return rc;
}

/* A million names take a second to sort: nobody waits for that but who lists. */
static int list_from_memory(struct listing *listing, struct waiter *waiter)
{
    lock_take(&listing->cache->names.lock);
    int rc = list_from_memory_locked(listing, waiter);
    lock_drop(&listing->cache->names.lock);
    if (rc == 0 && listing->count)
        qsort(listing->entries, listing->count, sizeof *listing->entries, compare_entries);
    return rc;
}

/* ---- Giving. ---- */

/* A directory's are not what the listing has told: they were seen since it began, or are still good, or nothing newer is to be had. */
static bool attributes_known(const struct listing *listing, const struct listing_entry *entry,
                             struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    if (inode_overlays_locked(inode))
        return true;
    if (!inode->attributes_known || !inode->remote.confirmed_ms)
        return false;
    return inode->type != S_IFDIR || entry->asked || inode->remote.marker_ms >= listing->started_ms ||
           lookup_valid_ms(inode) > 0;
}

static struct inode *find_child_locked(struct listing *listing, const char *name, struct aftermath *aftermath)
{
    struct names *names = &listing->cache->names;
    struct inode *inode = names_find_locked(names, listing->directory, name);

    if (inode)
        return inode;
    if (!listing->recalled)
        recall_given_locked(listing->directory, name, listing->started_ms, aftermath);
    else
        recall_name_locked(listing->directory, name, listing->started_ms, true, false, aftermath);
    return names_find_locked(names, listing->directory, name);
}

static bool fill_known(struct listing *listing, struct listing_entry *entry, struct listed *listed)
{
    AFTERMATH_SCOPED(aftermath, listing->cache);
    LOCK_SCOPED(&listing->cache->names.lock);
    struct inode *inode = find_child_locked(listing, entry->name, &aftermath);

    if (!inode)
        return false;
    if (!attributes_known(listing, entry, inode))
        return false;
    /* What the kernel is told of it holds on to: where memory has no room for that name, it gets the name alone. */
    if (names_used_locked(inode))
        lookup_fill_locked(inode, &listed->entry);
    listed->type = entry->type = inode->type;
    listed->number = entry->number = inode->number;
    return true;
}

/* Entries whose attributes are asked for at once. */
struct questions {
    struct page_question all[LISTING_HEADS_MAX];
    struct listing_entry *asked[LISTING_HEADS_MAX];
    size_t count;
    size_t folders;       /* of them, those that a forest may tell of */
    struct inode *folder; /* the first of these, borrowed */
};

/* Those from `first` on that have none. */
static void gather_questions_locked(struct listing *listing, size_t first, struct aftermath *aftermath,
                                    struct questions *ret_questions)
{
    struct names *names = &listing->cache->names;

    ret_questions->count = ret_questions->folders = 0;
    for (size_t i = first; i < listing->count && i < first + LISTING_HEADS_MAX; i++) {
        struct listing_entry *entry = &listing->entries[i];
        struct inode *inode = names_find_locked(names, listing->directory, entry->name);
        bool folder = inode && inode->type == S_IFDIR;
        if (entry->asked || (inode && attributes_known(listing, entry, inode)) ||
            (folder && forest_look_locked(inode, NULL, aftermath) == 1))
            continue;
        if (folder && !forest_tells_locked(inode) && !ret_questions->folders++)
            ret_questions->folder = inode;
        ret_questions->all[ret_questions->count] =
            (struct page_question){entry->name, entry->type == S_IFDIR, false};
        ret_questions->asked[ret_questions->count++] = entry;
    }
}

/* Asks for the attributes of the entries from `first` on that have none. */
static int ask_attributes(struct listing *listing, size_t first, struct waiter *waiter)
{
    struct cache *cache = listing->cache;
    struct names *names = &cache->names;
    struct questions questions;
    struct asking *asking;
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&names->lock);
    int rc = asking_take_one_locked(names, listing->directory, listing->marker, waiter, &asking);

    if (rc < 0)
        return rc;
    gather_questions_locked(listing, first, &aftermath, &questions);
    if (questions.folders >= FOREST_MANY) {
        rc = forest_ask_locked(questions.folder, waiter);
        gather_questions_locked(listing, first, &aftermath, &questions);
    }
    if (rc == 0 && questions.count)
        rc = page_ask_locked(cache, listing->directory, questions.all, questions.count, waiter, &aftermath);
    for (size_t i = 0; rc == 0 && i < questions.count; i++) {
        questions.asked[i]->asked = true;
        questions.asked[i]->gone = questions.all[i].gone;
    }
    asking_drop_locked(names, asking, &aftermath);
    return rc;
}

/* 1: filled, or a name alone, whose attributes cannot be told now; 0: the name is gone; -EAGAIN, -EINTR ... */
static int fill_entry(struct listing *listing, size_t index, bool with_entry, struct waiter *waiter,
                      struct listed *listed)
{
    struct listing_entry *entry = &listing->entries[index];
    int rc;

    *listed = (struct listed){
        .name = entry->name, .next_offset = index + DOTS + 1, .type = entry->type, .number = entry->number};
    if (!with_entry || fill_known(listing, entry, listed))
        return 1;
    if (!entry->asked) {
        if (!waiter)
            return -EAGAIN;
        rc = ask_attributes(listing, index, waiter);
        if (rc == -ENOENT)
            return 0; /* the directory itself is gone */
        if (rc < 0)
            return rc;
    }
    return fill_known(listing, entry, listed) || !entry->gone;
}

static bool give_dot(struct listing *listing, uint64_t offset,
                     bool (*sink)(void *context, struct listed *listed), void *context)
{
    struct listed listed = {.name = offset ? ".." : ".", .next_offset = offset + 1, .type = S_IFDIR};

    lock_take(&listing->cache->names.lock);
    const struct inode *parent = listing->directory->parent;
    listed.number = offset && parent ? parent->number : listing->directory->number;
    lock_drop(&listing->cache->names.lock);
    return sink(context, &listed);
}

static bool wants_full(const struct listing *listing, size_t index)
{
    return !listing->recalled || listing->looked || index < LISTING_FULL;
}

static int give_entries(struct listing *listing, uint64_t offset, bool with_entries, struct waiter *waiter,
                        bool (*sink)(void *context, struct listed *listed), void *context)
{
    bool any = false;

    for (; offset < DOTS; offset++, any = true)
        if (!give_dot(listing, offset, sink, context))
            return 0;
    for (size_t index = offset - DOTS;; index++) {
        struct listed listed;
        int rc = 0;
        while (rc == 0 && index >= listing->count && !listing->complete)
            rc = waiter ? grow(listing, waiter) : -EAGAIN;
        if (rc == 0 && index >= listing->count)
            return 0;
        if (rc == 0)
            rc = fill_entry(listing, index, with_entries && wants_full(listing, index), waiter, &listed);
        if (rc < 0)
            return any ? 0 : rc; /* what was given already counts; the next call meets the error again */
        if (rc == 0)
            continue;
        if (!sink(context, &listed)) {
            inode_unref(listed.entry.inode);
            return 0;
        }
        any = true;
    }
}

static int take_turn(struct listing *listing, struct waiter *waiter)
{
    struct names *names = &listing->cache->names;
    LOCK_SCOPED(&names->lock);
    int rc = 0;

    while (rc == 0 && listing->busy)
        rc = waiter ? gate_wait_locked(&names->turn, &names->lock, waiter, CLOCK_NEVER) : -EAGAIN;
    if (rc == 0)
        listing->busy = true;
    return rc;
}

/* Rewound: looks anew; but where nothing changes others may be in the middle of it. */
static bool begins_anew(const struct listing *listing, uint64_t offset)
{
    const struct cache *cache = listing->cache;
    bool stays = cache->config.immutable && listing->refreshes == cache->refreshes;
    return offset == 0 && listing->given && !stays;
}

int cache_list(struct cache *cache, struct waiter *waiter, struct listing *listing, uint64_t offset,
               bool with_entries, bool (*sink)(void *context, struct listed *listed), void *context)
{
    int rc = take_turn(listing, waiter);

    if (rc < 0)
        return rc;
    if (begins_anew(listing, offset))
        clear_snapshot(listing);
    rc = listing->begun ? 0 : list_from_memory(listing, waiter);
    if (rc == -ENODATA)
        rc = waiter ? 0 : -EAGAIN;
    if (rc == 0)
        rc = give_entries(listing, offset, with_entries, waiter, sink, context);
    if (rc == 0)
        listing->given = true;
    lock_take(&cache->names.lock);
    listing->busy = false;
    gate_open(&cache->names.turn);
    lock_drop(&cache->names.lock);
    return rc;
}
