#include "mount/flushing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"

#define AGAIN_MS     50
#define CLEAN_MS     200
#define SLICE_MS     1000
#define AGAIN_MAX_MS 10000

enum waited_state { WAITED, SENT, REFUSED };

struct waited {
    char *path;
    enum waited_state state;
    bool seen, moving; /* in the last look at all: unsent; ... and not refused, nor waiting for others */
    bool waits;        /* ... but for others */
};

struct flushing {
    struct cache *cache;
    struct waiter *waiter;
    const char *path;
    struct waited *all; /* by path */
    size_t count, room;
    size_t moving, refused; /* in the last look, of all that is unsent, asked for or not */
    struct unsent *failed;
};

static void collect(void *context, const struct cache_unsent *unsent)
{
    struct flushing *flushing = context;
    if (!unsent_is_below(unsent->path, flushing->path))
        return;
    if (flushing->count == flushing->room) {
        flushing->room = flushing->room ? 2 * flushing->room : 64;
        flushing->all = xrealloc(flushing->all, flushing->room * sizeof flushing->all[0]);
    }
    flushing->all[flushing->count++] = (struct waited){.path = xstrdup(unsent->path)};
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct waited *)a)->path, ((const struct waited *)b)->path);
}

/* Two may have one path: a file, and the delete of the one before it. They are waited for as one. */
static void collect_all(struct flushing *flushing)
{
    size_t kept = 0;
    cache_unsent(flushing->cache, collect, flushing);
    if (flushing->count)
        qsort(flushing->all, flushing->count, sizeof flushing->all[0], compare);
    for (size_t i = 0; i < flushing->count; i++)
        if (kept && compare(&flushing->all[kept - 1], &flushing->all[i]) == 0)
            free(flushing->all[i].path);
        else
            flushing->all[kept++] = flushing->all[i];
    flushing->count = kept;
}

static struct waited *find_waited(struct flushing *flushing, const char *path)
{
    struct waited key = {.path = (char *)(uintptr_t)path};
    return flushing->count ? bsearch(&key, flushing->all, flushing->count, sizeof key, compare) : NULL;
}

/* ---- Looks at all. ---- */

static void mark(void *context, const struct cache_unsent *unsent)
{
    struct flushing *flushing = context;
    struct waited *found = find_waited(flushing, unsent->path);
    flushing->moving += !unsent->refused && !unsent->waits;
    flushing->refused += unsent->refused;
    if (!found)
        return;
    found->seen = true;
    found->moving = found->moving || (!unsent->refused && !unsent->waits);
    found->waits = found->waits || (!unsent->refused && unsent->waits);
}

/* Those that wait for others are refused with them: when nothing moves any more, whoever these are. True while there are some. */
static bool settle_waiting(struct flushing *flushing)
{
    bool stuck = flushing->refused && !flushing->moving, waited = false;
    for (size_t i = 0; i < flushing->count; i++) {
        struct waited *one = &flushing->all[i];
        if (stuck && one->state == WAITED && one->waits && !one->moving)
            one->state = REFUSED;
        waited = waited || one->state == WAITED;
    }
    return waited;
}

/* True while any of them is waited for. */
static bool look_at_all(struct flushing *flushing)
{
    for (size_t i = 0; i < flushing->count; i++)
        flushing->all[i].seen = flushing->all[i].moving = flushing->all[i].waits = false;
    flushing->moving = flushing->refused = 0;
    cache_unsent(flushing->cache, mark, flushing);
    for (size_t i = 0; i < flushing->count; i++) {
        struct waited *one = &flushing->all[i];
        if (one->state == WAITED && !one->moving && !one->waits)
            one->state = one->seen ? REFUSED : SENT;
    }
    return settle_waiting(flushing);
}

/* Another try of it may be under way by now. */
static void add_failed(void *context, const struct cache_unsent *unsent)
{
    struct flushing *flushing = context;
    const struct waited *found = find_waited(flushing, unsent->path);
    struct cache_unsent told = *unsent;
    if (!found || found->state != REFUSED || (!unsent->parked && !unsent->waits))
        return;
    told.refused = true;
    unsent_add(flushing->failed, &told);
}

/* ---- One of them now. ---- */

/* A reference; NULL: the name is gone, and with it what was to be sent under it. */
static struct inode *find(struct flushing *flushing, const char *path)
{
    struct inode *inode = cache_root(flushing->cache);
    while (inode && *path) {
        size_t length = strcspn(path, "/");
        STRING_SCOPED *name = xstrndup(path, length);
        struct entry entry = {0};
        int rc = cache_lookup(flushing->cache, flushing->waiter, inode, name, &entry);
        inode_unref(inode);
        inode = rc == 0 ? entry.inode : NULL;
        path += length + (path[length] == '/');
    }
    return inode;
}

/* ---- Waiting. ---- */

struct sync {
    struct cache_sync sync;
    struct lock lock;
    struct gate gate;
    bool done;
    int rc;
};

static void hear_done(struct cache_sync *ended, int rc)
{
    struct sync *sync = container_of(ended, struct sync, sync);
    LOCK_SCOPED(&sync->lock);
    sync->rc = rc;
    sync->done = true;
    gate_open(&sync->gate);
}

/* 0: done; else -EINTR, -ETIMEDOUT. */
static int await(struct sync *sync, struct waiter *waiter, int64_t deadline_ms)
{
    int rc = 0;
    LOCK_SCOPED(&sync->lock);
    while (!sync->done && rc == 0)
        rc = gate_wait_locked(&sync->gate, &sync->lock, waiter, deadline_ms);
    return sync->done ? 0 : rc;
}

static bool only_waits(const struct waited *one)
{
    return one->waits && !one->moving;
}

/* Looks meanwhile whether it is still its own way up that is waited for. True: it has been answered. */
static bool await_own(struct flushing *flushing, const struct waited *one, struct sync *sync)
{
    int64_t slice_ms = SLICE_MS;
    int rc;
    while ((rc = await(sync, flushing->waiter, clock_ms() + slice_ms)) == -ETIMEDOUT) {
        look_at_all(flushing);
        if (one->state != WAITED || only_waits(one))
            break;
        slice_ms = 2 * slice_ms < AGAIN_MAX_MS ? 2 * slice_ms : AGAIN_MAX_MS;
    }
    return rc == 0;
}

/* -EAGAIN: it waits for others, or has got somewhere already. */
static int sync_one(struct flushing *flushing, const struct waited *one, struct inode *inode)
{
    struct sync sync = {.sync = {.inode = inode, .done = hear_done}};
    lock_init(&sync.lock, LOCK_LEAF, "flushing");
    gate_init(&sync.gate);
    cache_fsync(flushing->cache, inode, &sync.sync);
    if (!await_own(flushing, one, &sync) && cache_sync_interrupt(flushing->cache, &sync.sync)) {
        sync.rc = waiter_interrupted(flushing->waiter) ? -EINTR : -EAGAIN;
    } else {
        WAITER_SCOPED(own); /* done() has been called, or is being called */
        await(&sync, &own, CLOCK_NEVER);
    }
    lock_take(&sync.lock); /* who called done() has left it */
    lock_drop(&sync.lock);
    gate_release(&sync.gate);
    lock_release(&sync.lock);
    return sync.rc;
}

static int pause_for(struct waiter *waiter, int64_t ms)
{
    struct lock lock;
    struct gate gate;
    lock_init(&lock, LOCK_LEAF, "flushing");
    gate_init(&gate);
    lock_take(&lock);
    int rc = gate_wait_locked(&gate, &lock, waiter, clock_ms() + ms);
    lock_drop(&lock);
    gate_release(&gate);
    lock_release(&lock);
    return rc == -EINTR ? rc : 0;
}

/* Until what stood at the call has been sent, or is refused: 0. What has no name any more, or waits for others, is left to
 * wait_until_clean(). */
static int wait_for_one(struct flushing *flushing, struct waited *one)
{
    int64_t pause_ms = AGAIN_MS;
    while (one->state == WAITED) {
        struct inode *inode = one->path[0] ? find(flushing, one->path) : NULL;
        int rc = inode && !only_waits(one) ? sync_one(flushing, one, inode) : 0;
        inode_unref(inode);
        if (rc == -EINTR || waiter_interrupted(flushing->waiter))
            return -EINTR;
        if (!inode || only_waits(one))
            return 0;
        if (rc == 0)
            one->state = SENT;
        else
            look_at_all(flushing);
        /* Who waits hears of a failure before the try has ended: it is looked at again before another one begins. */
        rc = one->state == WAITED ? pause_for(flushing->waiter, pause_ms) : 0;
        if (rc < 0)
            return rc;
        if (one->state == WAITED)
            look_at_all(flushing);
        pause_ms = 2 * pause_ms < AGAIN_MAX_MS ? 2 * pause_ms : AGAIN_MAX_MS;
    }
    return 0;
}

static int wait_until_clean(struct flushing *flushing)
{
    int rc = 0;
    while (rc == 0 && look_at_all(flushing))
        rc = pause_for(flushing->waiter, CLEAN_MS);
    return rc;
}

int flushing_wait(struct cache *cache, bool local, struct waiter *waiter, const char *path,
                  struct unsent *failed)
{
    struct flushing flushing = {.cache = cache, .waiter = waiter, .path = path, .failed = failed};
    int rc = 0;
    collect_all(&flushing);
    look_at_all(&flushing);
    for (size_t i = 0; i < flushing.count && rc == 0 && !local; i++)
        rc = wait_for_one(&flushing, &flushing.all[i]);
    if (rc == 0)
        rc = wait_until_clean(&flushing);
    if (rc == 0)
        cache_unsent(cache, add_failed, &flushing);
    for (size_t i = 0; i < flushing.count; i++)
        free(flushing.all[i].path);
    free(flushing.all);
    return rc;
}
