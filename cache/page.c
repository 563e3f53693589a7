#include "cache/page.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/asking.h"
#include "cache/batch.h"
#include "cache/forest.h"
#include "cache/observed.h"
#include "cache/server.h"
#include "cache/veil.h"

#define LOOK_TRIES 4 /* below one name that goes on changing */

void page_place_release(struct page_place *place)
{
    free(place->prefix);
    free(place->token);
    free(place->last);
    page_call_free(place->ahead);
    *place = (struct page_place){0};
}

static void free_entries(struct page_entry *entries, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(entries[i].name);
    free(entries);
}

void page_release(struct page *page)
{
    free_entries(page->entries, page->count);
    free_entries(page->extras, page->extra_count);
    page_call_free(page->asked);
    page_call_free(page->unwanted);
    swath_unref(page->swath);
    free(page->recalled);
}

static struct page_entry *add_entry(struct page_entry **entries, size_t *count, size_t *room)
{
    if (*count == *room) {
        *room = *room ? *room * 2 : 64;
        *entries = xrealloc(*entries, *room * sizeof(**entries));
    }
    (*entries)[*count] = (struct page_entry){0};
    return &(*entries)[(*count)++];
}

/* ---- The order of keys: a directory's ends in "/". ---- */

int page_compare(const char *a, bool a_folder, const char *b, bool b_folder)
{
    size_t a_length = strlen(a), b_length = strlen(b);
    size_t common = a_length < b_length ? a_length : b_length;
    int order = memcmp(a, b, common);
    int a_next, b_next;

    if (order)
        return order;
    a_next = common < a_length ? (unsigned char)a[common] : a_folder ? '/' : 0;
    b_next = common < b_length ? (unsigned char)b[common] : b_folder ? '/' : 0;
    return a_next - b_next;
}

static int compare_entries(const void *a, const void *b)
{
    const struct page_entry *left = a, *right = b;
    return page_compare(left->name, left->folder, right->name, right->folder);
}

static struct page_entry *find_entry(const struct page *page, const char *name, bool folder)
{
    size_t low = 0, high = page->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct page_entry *entry = &page->entries[middle];
        int order = page_compare(name, folder, entry->name, entry->folder);
        if (order == 0)
            return entry;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* A directory of this name that there is something in. */
static bool has_folder(const struct page *page, const char *name)
{
    const struct page_entry *folder = find_entry(page, name, true);
    return folder && !folder->bare;
}

/* ---- The answer, as names. ---- */

static void take_own_marker_locked(struct page *page, const struct store_object *object, int64_t started_ms,
                                   struct aftermath *aftermath)
{
    struct inode *directory = page->directory;
    struct observed observed = {
        .type = S_IFDIR, .object = object, .attributes_known = true, .started_ms = started_ms};

    if (directory->parent)
        observed_apply_locked(page->cache, directory->parent, directory->name, &observed, aftermath);
}

/* It would have been the first: there is still none. */
static void miss_own_marker_locked(struct page *page, int64_t started_ms)
{
    struct inode *directory = page->directory;
    LOCK_SCOPED(&directory->lock);
    struct remote *remote = &directory->remote;

    if (directory->attributes_known && !remote->exists && remote->marker_ms < started_ms)
        remote->marker_ms = started_ms;
}

static void take_name_locked(struct page *page, const char *key, size_t length,
                             const struct store_object *object, const struct recalled *recalled)
{
    STRING_SCOPED *name = xstrndup(key + strlen(page->place->prefix), length);
    struct page_entry *entry;

    int rc = names_check(name);
    if (rc < 0 && rc != -EPERM)
        names_hide_locked(&page->cache->names, key);
    if (rc < 0)
        return;
    entry = add_entry(&page->entries, &page->count, &page->room);
    entry->name = name;
    name = NULL;
    entry->object = object;
    entry->recalled = *recalled;
    entry->folder = !object;
    entry->type = object ? 0 : S_IFDIR;
}

static void read_answer_locked(struct page *page, int64_t started_ms, struct aftermath *aftermath)
{
    const struct store_call *call = &page->asked->call;
    const struct page_place *place = page->place;
    size_t skip = strlen(place->prefix);
    bool marked = place->token || place->last; /* or it would not be here */

    for (size_t i = 0; i < call->object_count; i++) {
        const struct store_object *object = &call->objects[i];
        const char *rest = object->key + skip;
        marked = marked || !*rest;
        if (!*rest)
            take_own_marker_locked(page, object, started_ms, aftermath);
        else
            take_name_locked(page, object->key, strlen(rest), object, &page->recalled[i]);
    }
    for (size_t i = 0; i < call->prefix_count; i++) {
        const char *rest = call->prefixes[i] + skip;
        size_t length = strlen(rest);
        if (length)
            take_name_locked(page, call->prefixes[i], length - 1, NULL,
                             &page->recalled[call->object_count + i]);
    }
    if (!marked)
        miss_own_marker_locked(page, started_ms);
    if (page->count)
        qsort(page->entries, page->count, sizeof(*page->entries), compare_entries);
}

/* ---- Over the tree. ---- */

static struct inode *apply_object_locked(struct page *page, struct page_entry *entry, int64_t started_ms,
                                         struct aftermath *aftermath)
{
    struct cache *cache = page->cache;
    struct inode *inode = names_find_locked(&cache->names, page->directory, entry->name);
    struct observed observed = observed_file(cache, entry->object, started_ms);
    struct identity identity;

    observed.number = entry->recalled.number;
    if (entry->object->meta_known || cache->config.list_attributes_only)
        return observed_apply_locked(cache, page->directory, entry->name, &observed, aftermath);
    /* No metadata: the known version is confirmed; of another one, or a new name, somebody must ask before use. */
    observed.attributes_known = false;
    if (!inode)
        return observed_apply_locked(cache, page->directory, entry->name, &observed, aftermath);
    server_identity(entry->object, &identity);
    LOCK_SCOPED(&inode->lock);
    if (inode_overlays_locked(inode) || started_ms < inode->remote.confirmed_ms)
        return inode;
    bool same =
        inode->type != S_IFDIR && inode->remote.exists && identity_equal(&identity, &inode->remote.identity);
    inode->remote.confirmed_ms = same ? started_ms : 0;
    return inode;
}

uint32_t page_type(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    if (inode->type == S_IFDIR || inode_overlays_locked(inode))
        return inode->type;
    return inode->attributes_known && inode->remote.confirmed_ms ? inode->type : 0;
}

static void apply_entry_locked(struct page *page, struct page_entry *entry, const char *from,
                               const struct names_watch *watch, int64_t started_ms,
                               struct aftermath *aftermath)
{
    struct cache *cache = page->cache;
    struct inode *inode = names_find_locked(&cache->names, page->directory, entry->name);

    entry->shown = true;
    if (from && page_compare(entry->name, entry->folder, from, false) <= 0) {
        entry->shown = false; /* StartAfter "b/" brings the prefix "b/" again */
    } else if (names_watch_touched(watch, entry->name) && (inode || !entry->again)) {
        entry->shown = inode || watch->all;
    } else if (!inode && asking_changing_locked(&cache->names, page->directory, entry->name)) {
        ; /* being made, renamed to, removed: no inode is made here under the feet of who does it */
    } else if (!inode && page->swath &&
               names_absent_since_locked(&cache->names, page->directory, entry->name, started_ms)) {
        entry->shown = false; /* it was looked for when the swath had been asked for: it had gone by then */
    } else if (entry->object && has_folder(page, entry->name)) {
        names_hide_locked(&cache->names, entry->object->key);
        entry->shown = false;
    } else if (entry->object) {
        bool hidden = names_doomed_locked(&cache->names, entry->object);
        entry->shown = !hidden || inode; /* whose own object is still to come there */
        inode = hidden ? inode : apply_object_locked(page, entry, started_ms, aftermath);
    } else {
        struct observed observed = {.type = S_IFDIR,
                                    .attributes_known = cache->config.list_attributes_only,
                                    .started_ms = started_ms,
                                    .number = entry->recalled.number,
                                    .directory = entry->recalled.directory};
        entry->shown = !entry->bare || (inode && inode->type == S_IFDIR);
        if (entry->shown)
            inode = observed_apply_locked(cache, page->directory, entry->name, &observed, aftermath);
    }
    entry->inode_known = inode != NULL;
    entry->type = inode ? page_type(inode) : entry->object ? 0 : S_IFDIR;
    entry->number = inode ? inode->number : names_number(page->directory, entry->name);
}

/* entry->bare, as the server says. The lock is dropped meanwhile. *ret_overtaken: something changed there. */
static int look_below_locked(struct page *page, struct page_entry *entry, const char *key,
                             bool *ret_overtaken, struct waiter *waiter)
{
    struct names *names = &page->cache->names;
    struct names_watch watch;
    bool shows;

    names_watch_locked(names, &watch, page->directory, entry->name);
    lock_drop(&names->lock);
    int rc = veil_look_below(page->cache, key, NULL, "list", waiter, &shows);
    lock_take(&names->lock);
    entry->bare = !shows;
    *ret_overtaken = names_watch_touched(&watch, entry->name);
    names_unwatch_locked(&watch);
    return rc;
}

/* Names that nobody knows here as directories, and below which something is hidden, or was until a moment ago. */
static int find_bare_locked(struct page *page, const struct names_watch *watch, struct waiter *waiter)
{
    struct names *names = &page->cache->names;
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < page->count; i++) {
        struct page_entry *entry = &page->entries[i];
        STRING_SCOPED *key = xprintf("%s%s/", page->place->prefix, entry->name);
        struct inode *known = names_find_locked(names, page->directory, entry->name);
        bool overtaken = names_watch_touched(watch, entry->name);
        if (!entry->folder || (known && known->type == S_IFDIR) ||
            (!overtaken && !names_doomed_below_locked(names, key)))
            continue;
        rc = look_below_locked(page, entry, key, &overtaken, waiter);
        for (int tries = 1; rc == 0 && overtaken && tries < LOOK_TRIES; tries++)
            rc = look_below_locked(page, entry, key, &overtaken, waiter);
        entry->again = true;
    }
    return rc;
}

static bool in_range(const struct page *page, const struct inode *child, const char *from)
{
    bool folder = child->type == S_IFDIR;

    if (from && page_compare(child->name, folder, from, false) <= 0)
        return false;
    if (page->last)
        return true;
    if (!page->count)
        return false;
    const struct page_entry *end = &page->entries[page->count - 1];
    return page_compare(child->name, folder, end->name, end->folder) <= 0;
}

/* Names of the tree that the server does not have. */
static void apply_missing_locked(struct page *page, const char *from, const struct names_watch *watch,
                                 int64_t started_ms, struct aftermath *aftermath)
{
    struct names *names = &page->cache->names;
    struct observed nothing = {.started_ms = started_ms};

    list_for_each_safe (at, after, &page->directory->children) {
        struct inode *child = container_of(at, struct inode, sibling);
        if (!in_range(page, child, from) || find_entry(page, child->name, false) ||
            has_folder(page, child->name))
            continue;
        bool stays = names_watch_touched(watch, child->name) ||
                     asking_taken_locked(names, page->directory, child->name);
        if (!stays)
            stays =
                observed_apply_locked(page->cache, page->directory, child->name, &nothing, aftermath) != NULL;
        if (!stays)
            continue;
        struct page_entry *extra = add_entry(&page->extras, &page->extra_count, &page->extra_room);
        extra->name = xstrdup(child->name);
        extra->folder = child->type == S_IFDIR;
        extra->type = child->type;
        extra->number = child->number;
    }
    if (page->extra_count)
        qsort(page->extras, page->extra_count, sizeof(*page->extras), compare_entries);
}

/* ---- The call. ---- */

/* What was asked for while nobody read on is out of date by now. */
static bool is_stale(const struct page *page, const struct page_call *ahead)
{
    return ahead->made_ms + page->cache->config.attr_ttl_ms < clock_ms();
}

static int prepare_call_locked(struct page *page, struct page_call **ret_stale)
{
    struct page_place *place = page->place;
    BUF_SCOPED prefix = BUF_INIT;
    BUF_SCOPED after = BUF_INIT;
    int rc = names_key_locked(page->directory, &prefix);

    if (rc < 0)
        return rc;
    bool moved = place->prefix && strcmp(place->prefix, prefix.bytes) != 0;
    if (moved) {
        free(place->token);
        place->token = NULL;
    }
    free(place->prefix);
    place->prefix = xstrdup(prefix.bytes);
    if (place->last && !place->token)
        buf_printf(&after, "%s%s", place->prefix, place->last);
    page->asked = place->ahead;
    place->ahead = NULL;
    if (page->asked && (moved || is_stale(page, page->asked))) {
        *ret_stale = page->asked;
        page->asked = NULL;
    }
    if (!page->asked)
        page->asked = page_call_new_locked(page->directory, place->prefix, place->token,
                                           after.length ? after.bytes : NULL);
    return 0;
}

/* The lock may be dropped meanwhile. */
static int prepare_locked(struct page *page, struct waiter *waiter, struct page_call **ret_stale)
{
    const struct page_place *place = page->place;
    bool first = !place->token && !place->last && !place->ahead;
    int rc = waiter ? 0 : -EAGAIN;

    if (rc == 0 && first)
        rc = forest_list_locked(page->directory, page->since_ms, waiter, &page->swath);
    return rc < 0 ? rc : prepare_call_locked(page, ret_stale);
}

/* Called and returns with the lock held. */
static void ask_ahead_locked(struct page *page)
{
    const char *token = page->asked->call.next_token;
    struct page_place *place = page->place;
    struct names *names = &page->cache->names;

    if (!page->goes_on || !token || !page->cache->config.attr_ttl_ms)
        return;
    place->ahead = page_call_new_locked(page->directory, place->prefix, token, NULL);
    lock_drop(&names->lock);
    page_call_start(place->ahead);
    lock_take(&names->lock);
}

static int run_call(struct page *page, struct waiter *waiter)
{
    int rc = catalog_wait_room(page->cache->catalog, waiter);

    if (rc < 0)
        return rc;
    if (page->swath)
        page_call_answer(page->asked, page->swath);
    else if (!page->asked->under_way)
        page_call_start(page->asked);
    return page_call_wait(page->asked, waiter);
}

static void recall_page(struct page *page, uint64_t catalogued)
{
    struct store_call *call = &page->asked->call;

    page->recalled = xcalloc(call->object_count + call->prefix_count + 1, sizeof *page->recalled);
    recall_objects(page->cache, catalogued, call, page->recalled, page->recalled + call->object_count);
}

static void move_place(struct page *page)
{
    struct page_place *place = page->place;

    free(place->token);
    place->token = page->asked->call.next_token;
    page->asked->call.next_token = NULL;
    page->last = !place->token;
    if (!page->count)
        return;
    const struct page_entry *end = &page->entries[page->count - 1];
    free(place->last);
    place->last = xprintf("%s%s", end->name, end->object ? "" : "/");
}

int page_fetch_locked(struct page *page, struct waiter *waiter, struct aftermath *aftermath)
{
    struct names *names = &page->cache->names;
    struct page_call *stale = NULL;
    STRING_SCOPED *from = page->place->last ? xstrdup(page->place->last) : NULL;
    int rc = prepare_locked(page, waiter, &stale);

    if (rc < 0)
        return rc;
    uint64_t catalogued = page->directory->catalogued;
    const struct names_watch *watch = &page->asked->watch;
    page->began_ms = page->swath ? 0 : clock_ms();
    lock_drop(&names->lock);
    page_call_free(stale);
    rc = run_call(page, waiter);
    lock_take(&names->lock);
    if (rc < 0)
        return rc;
    ask_ahead_locked(page);
    lock_drop(&names->lock);
    recall_page(page, catalogued);
    lock_take(&names->lock);
    const int64_t asked_ms = page->asked->made_ms;
    read_answer_locked(page, asked_ms, aftermath);
    rc = find_bare_locked(page, watch, waiter);
    page->doubtful = watch->all;
    if (rc < 0) { /* this page is asked for again, the next one after it */
        page->unwanted = page->place->ahead;
        page->place->ahead = NULL;
        return rc;
    }
    move_place(page);
    for (size_t i = 0; i < page->count; i++)
        apply_entry_locked(page, &page->entries[i], from, watch, asked_ms, aftermath);
    apply_missing_locked(page, from, watch, asked_ms, aftermath);
    return rc;
}

/* ---- Attributes of many names. ---- */

static void apply_head_locked(struct cache *cache, struct inode *directory,
                              const struct page_question *question, const struct store_call *call,
                              int64_t started_ms, struct aftermath *aftermath)
{
    struct observed observed = {.started_ms = started_ms};

    if (question->folder)
        observed = (struct observed){.type = S_IFDIR,
                                     .object = call->rc == 0 ? &call->object : NULL,
                                     .attributes_known = true,
                                     .started_ms = started_ms};
    else if (call->rc == 0)
        observed = observed_file(cache, &call->object, started_ms);
    observed_apply_locked(cache, directory, question->name, &observed, aftermath);
}

int page_ask_locked(struct cache *cache, struct inode *directory, struct page_question *questions,
                    size_t count, struct waiter *waiter, struct aftermath *aftermath)
{
    struct names *names = &cache->names;
    struct store_call *calls = xcalloc(count ? count : 1, sizeof(*calls));
    char **keys = xcalloc(count ? count : 1, sizeof(*keys));
    struct names_watch watch;
    int64_t started_ms = clock_ms();
    BUF_SCOPED prefix = BUF_INIT;
    int rc = names_key_locked(directory, &prefix);

    for (size_t i = 0; rc == 0 && i < count; i++) {
        keys[i] = xprintf("%s%s%s", prefix.bytes, questions[i].name, questions[i].folder ? "/" : "");
        calls[i] = server_call(cache, STORE_HEAD, keys[i]);
    }
    if (rc == 0) {
        names_watch_locked(names, &watch, directory, NULL);
        lock_drop(&names->lock);
        rc = batch_run(cache->config.store, calls, count, NULL, waiter);
        lock_take(&names->lock);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            int one = server_settle(cache, "list", &calls[i], -ENOENT);
            questions[i].gone = one == -ENOENT && !questions[i].folder;
            bool ours = names_watch_touched(&watch, questions[i].name) ||
                        asking_changing_locked(names, directory, questions[i].name);
            if ((one == 0 || one == -ENOENT) && !ours)
                apply_head_locked(cache, directory, &questions[i], &calls[i], started_ms, aftermath);
        }
        names_unwatch_locked(&watch);
    }
    for (size_t i = 0; i < count; i++)
        free(keys[i]);
    free(keys);
    batch_release(calls, count);
    free(calls);
    return rc;
}
