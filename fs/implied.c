#include "fs/implied.h"

#include <assert.h>
#include <fcntl.h>
#include <stdlib.h>

#include <uthash.h>

#include "base/buf.h"
#include "base/clock.h"

struct implied {
    /* Set at birth. */
    uint64_t id;
    struct handle *handle;   /* of a file, else NULL */
    struct listing *listing; /* of a directory, else NULL */
    /* Under the set's lock. */
    unsigned uses;
    bool known;       /* in the table, on its shelf */
    size_t bytes;     /* of the listing, as counted in listed_bytes */
    int64_t used_ms;  /* when its last use ended */
    struct list link; /* on the shelf; of those that are to end, in a list of who ends them */
    UT_hash_handle by_id;
};

void implied_init(struct implied_set *set)
{
    *set = (struct implied_set){0};
    lock_init(&set->lock, LOCK_LEAF, "implied");
    list_init(&set->handles.recent);
    list_init(&set->listings.recent);
}

void implied_release(struct implied_set *set)
{
    assert(set->handles.count == 0 && set->listings.count == 0);
    lock_release(&set->lock);
}

static void end_implied(struct implied_set *set, struct implied *implied)
{
    if (implied->handle)
        cache_release(set->cache, implied->handle);
    if (implied->listing)
        cache_list_release(implied->listing);
    free(implied);
}

static void end_those(struct implied_set *set, struct list *over)
{
    struct list *link;
    while ((link = list_pop(over)))
        end_implied(set, container_of(link, struct implied, link));
}

static struct implied_shelf *shelf_of(struct implied_set *set, const struct implied *implied)
{
    return implied->handle ? &set->handles : &set->listings;
}

/* Nobody finds it any more. Without a use it goes to `over`. */
static void unknow_locked(struct implied_set *set, struct implied *implied, struct list *over)
{
    assert(implied->known);
    implied->known = false;
    HASH_DELETE(by_id, set->table, implied);
    list_remove(&implied->link);
    shelf_of(set, implied)->count--;
    set->listed_bytes -= implied->bytes;
    if (implied->uses == 0)
        list_append(over, &implied->link);
}

static void use_locked(struct implied_set *set, struct implied *implied)
{
    implied->uses++;
    list_remove(&implied->link);
    list_append(&shelf_of(set, implied)->recent, &implied->link);
}

static struct implied *find_locked(struct implied_set *set, uint64_t id)
{
    struct implied *implied = NULL;
    HASH_FIND(by_id, set->table, &id, sizeof id, implied);
    return implied;
}

static struct implied *oldest_locked(struct implied_shelf *shelf)
{
    return list_empty(&shelf->recent) ? NULL : container_of(shelf->recent.next, struct implied, link);
}

static bool is_idle_locked(const struct implied *implied, int64_t now_ms)
{
    return implied->uses == 0 && now_ms - implied->used_ms >= IMPLIED_IDLE_MS;
}

static void bound_locked(struct implied_set *set, struct list *over)
{
    struct implied *oldest;
    if (set->handles.count > IMPLIED_MAX)
        unknow_locked(set, oldest_locked(&set->handles), over);
    if (set->listings.count > IMPLIED_MAX)
        unknow_locked(set, oldest_locked(&set->listings), over);
    while (set->listed_bytes > IMPLIED_LISTED_MAX && (oldest = oldest_locked(&set->listings)) &&
           is_idle_locked(oldest, clock_ms()))
        unknow_locked(set, oldest, over);
}

struct implied *implied_find(struct implied_set *set, uint64_t id)
{
    LOCK_SCOPED(&set->lock);
    struct implied *implied = find_locked(set, id);
    if (implied)
        use_locked(set, implied);
    return implied;
}

static int make_implied(struct implied_set *set, uint64_t id, struct inode *inode,
                        struct implied **ret_implied)
{
    struct implied made = {.id = id};
    struct opened opened;
    int rc = cache_list_open(set->cache, inode, &made.listing);
    if (rc == -ENOTDIR)
        rc = cache_open(set->cache, NULL, inode, O_RDONLY, 0, &made.handle, &opened);
    assert(rc != -EAGAIN); /* where nothing changes nothing is waited for */
    if (rc < 0)
        return rc;
    *ret_implied = xmalloc(sizeof made);
    **ret_implied = made;
    list_init(&(*ret_implied)->link);
    return 0;
}

int implied_take(struct implied_set *set, uint64_t id, struct inode *inode, struct implied **ret_implied)
{
    struct list over = LIST_INIT(over);
    struct implied *made;
    *ret_implied = implied_find(set, id);
    int rc = *ret_implied ? 0 : make_implied(set, id, inode, &made);
    if (rc < 0 || *ret_implied)
        return rc;
    lock_take(&set->lock);
    struct implied *implied = find_locked(set, id); /* another reader's, made meanwhile */
    if (implied) {
        list_append(&over, &made->link);
    } else {
        implied = made;
        implied->known = true;
        HASH_ADD(by_id, set->table, id, sizeof implied->id, implied);
        shelf_of(set, implied)->count++;
    }
    use_locked(set, implied);
    bound_locked(set, &over);
    lock_drop(&set->lock);
    end_those(set, &over);
    *ret_implied = implied;
    return 0;
}

struct handle *implied_handle(const struct implied *implied)
{
    return implied->handle;
}

struct listing *implied_listing(const struct implied *implied)
{
    return implied->listing;
}

static void count_bytes_locked(struct implied_set *set, struct implied *implied)
{
    size_t bytes = implied->listing ? cache_list_bytes(implied->listing) : 0;
    set->listed_bytes += bytes - implied->bytes;
    implied->bytes = bytes;
}

void implied_drop(struct implied_set *set, struct implied *implied, bool over)
{
    struct list ended = LIST_INIT(ended);
    if (!implied)
        return;
    lock_take(&set->lock);
    implied->uses--;
    implied->used_ms = clock_ms();
    if (!implied->known) {
        if (implied->uses == 0)
            list_append(&ended, &implied->link);
    } else {
        count_bytes_locked(set, implied);
        if (over)
            unknow_locked(set, implied, &ended);
        bound_locked(set, &ended);
    }
    lock_drop(&set->lock);
    end_those(set, &ended);
}

void implied_forget(struct implied_set *set, uint64_t id)
{
    struct list over = LIST_INIT(over);
    lock_take(&set->lock);
    struct implied *implied = find_locked(set, id);
    if (implied)
        unknow_locked(set, implied, &over);
    lock_drop(&set->lock);
    end_those(set, &over);
}

void implied_end_all(struct implied_set *set)
{
    struct list over = LIST_INIT(over);
    struct implied *implied;
    lock_take(&set->lock);
    while ((implied = oldest_locked(&set->handles)) || (implied = oldest_locked(&set->listings)))
        unknow_locked(set, implied, &over);
    lock_drop(&set->lock);
    end_those(set, &over);
}

size_t implied_count(struct implied_set *set)
{
    LOCK_SCOPED(&set->lock);
    return set->handles.count + set->listings.count;
}
