#include "mount/flushing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/list.h"

#define AGAIN_MS     500
#define CLEAN_MS     200
#define AGAIN_MAX_MS 10000

struct waited {
    char *path;
    bool done;   /* its version is sent, or it cannot be */
    bool unsent; /* as last seen: wait_until_clean() */
};

struct flushing {
    struct cache *cache;
    struct waiter *waiter;
    const char *path;
    struct waited *all;
    size_t count, room;
    struct unsent *failed;
};

/* What no try will send is not waited for; somebody has asked for one more before. */
static void collect(void *context, const struct cache_unsent *unsent)
{
    struct flushing *flushing = context;
    if (!unsent_is_below(unsent->path, flushing->path))
        return;
    if (unsent->lasting) {
        unsent_add(flushing->failed, unsent);
        return;
    }
    if (flushing->count == flushing->room) {
        flushing->room = flushing->room ? 2 * flushing->room : 64;
        flushing->all = xrealloc(flushing->all, flushing->room * sizeof flushing->all[0]);
    }
    flushing->all[flushing->count++] = (struct waited){.path = xstrdup(unsent->path)};
}

/* ---- One of them now. ---- */

struct look {
    const char *path;
    bool unsent, lasting;
    struct unsent *failed;
};

static void look_each(void *context, const struct cache_unsent *unsent)
{
    struct look *look = context;
    if (strcmp(unsent->path, look->path) != 0)
        return;
    look->unsent = true;
    look->lasting = unsent->lasting;
    if (unsent->lasting)
        unsent_add(look->failed, unsent);
}

/* True: nothing of it is unsent, or no further try will send it; that is among the failed then. */
static bool is_settled(struct flushing *flushing, const char *path)
{
    struct look look = {.path = path, .failed = flushing->failed};
    cache_unsent(flushing->cache, look_each, &look);
    return !look.unsent || look.lasting;
}

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

static void await(struct sync *sync, struct waiter *waiter)
{
    LOCK_SCOPED(&sync->lock);
    while (!sync->done && gate_wait_locked(&sync->gate, &sync->lock, waiter, CLOCK_NEVER) == 0) {
    }
}

static int sync_one(struct flushing *flushing, struct inode *inode)
{
    struct sync sync = {.sync = {.inode = inode, .done = hear_done}};
    lock_init(&sync.lock, LOCK_LEAF, "flushing");
    gate_init(&sync.gate);
    cache_fsync(flushing->cache, inode, &sync.sync);
    await(&sync, flushing->waiter);
    if (!sync.done && cache_sync_interrupt(flushing->cache, &sync.sync)) {
        sync.rc = -EINTR;
    } else {
        WAITER_SCOPED(own); /* done() has been called, or is being called */
        await(&sync, &own);
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

/* Until what stood at the call has been sent: 0, also when it cannot be. What has no name any more is left to wait_until_clean(). */
static int wait_for_one(struct flushing *flushing, struct waited *one)
{
    for (int64_t pause_ms = AGAIN_MS;; pause_ms = 2 * pause_ms < AGAIN_MAX_MS ? 2 * pause_ms : AGAIN_MAX_MS) {
        struct inode *inode = one->path[0] ? find(flushing, one->path) : NULL;
        int rc = inode ? sync_one(flushing, inode) : 0;
        inode_unref(inode);
        if (rc == -EINTR || waiter_interrupted(flushing->waiter))
            return -EINTR;
        one->done = inode && (rc == 0 || is_settled(flushing, one->path));
        if (one->done || !inode)
            return 0;
        rc = pause_for(flushing->waiter, pause_ms);
        if (rc < 0)
            return rc;
    }
}

/* ---- All that are left, until each was seen with nothing unsent. ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct waited *)a)->path, ((const struct waited *)b)->path);
}

static void mark_unsent(void *context, const struct cache_unsent *unsent)
{
    struct flushing *flushing = context;
    struct waited key = {.path = (char *)(uintptr_t)unsent->path};
    struct waited *found = bsearch(&key, flushing->all, flushing->count, sizeof key, compare);
    if (found && unsent->lasting)
        unsent_add(flushing->failed, unsent);
    else if (found)
        found->unsent = true;
}

static void look_again(struct flushing *flushing)
{
    size_t kept = 0;
    cache_unsent(flushing->cache, mark_unsent, flushing);
    for (size_t i = 0; i < flushing->count; i++)
        if (flushing->all[i].unsent)
            flushing->all[kept++] = (struct waited){.path = flushing->all[i].path};
        else
            free(flushing->all[i].path);
    flushing->count = kept;
}

static void drop_done(struct flushing *flushing)
{
    size_t kept = 0;
    for (size_t i = 0; i < flushing->count; i++)
        if (flushing->all[i].done)
            free(flushing->all[i].path);
        else
            flushing->all[kept++] = flushing->all[i];
    flushing->count = kept;
}

static int wait_until_clean(struct flushing *flushing)
{
    int rc = 0;
    drop_done(flushing);
    if (flushing->count)
        qsort(flushing->all, flushing->count, sizeof flushing->all[0], compare);
    while (flushing->count && rc == 0) {
        look_again(flushing);
        if (flushing->count)
            rc = pause_for(flushing->waiter, CLEAN_MS);
    }
    return rc;
}

int flushing_wait(struct cache *cache, bool local, struct waiter *waiter, const char *path,
                  struct unsent *failed)
{
    struct flushing flushing = {.cache = cache, .waiter = waiter, .path = path, .failed = failed};
    int rc = 0;
    cache_unsent(cache, collect, &flushing);
    for (size_t i = 0; i < flushing.count && rc == 0 && !local; i++)
        rc = wait_for_one(&flushing, &flushing.all[i]);
    if (rc == 0)
        rc = wait_until_clean(&flushing);
    for (size_t i = 0; i < flushing.count; i++)
        free(flushing.all[i].path);
    free(flushing.all);
    return rc;
}
