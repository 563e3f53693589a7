/* Doomed objects (names.h): of files unlinked or renamed over while open. Hidden until the last close deletes them. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/asking.h"
#include "cache/server.h"

void names_doom_locked(struct inode *inode)
{
    assert(!inode->parent && list_empty(&inode->idle));
    list_append(&inode->cache->names.doomed, &inode_ref(inode)->idle);
}

bool names_doomed_locked(struct names *names, const struct store_object *object)
{
    struct identity seen;

    server_identity(object, &seen);
    list_for_each (at, &names->doomed) {
        struct inode *inode = container_of(at, struct inode, idle);
        LOCK_SCOPED(&inode->lock);
        if (strcmp(inode->remote.key, object->key) == 0 && identity_equal(&inode->remote.identity, &seen))
            return true;
    }
    return false;
}

bool names_doomed_version_locked(struct names *names, const char *key, struct identity *ret_identity)
{
    bool found = false;

    list_for_each (at, &names->doomed) { /* the last one stands there */
        struct inode *inode = container_of(at, struct inode, idle);
        LOCK_SCOPED(&inode->lock);
        if (strcmp(inode->remote.key, key) != 0)
            continue;
        *ret_identity = inode->remote.identity;
        found = true;
    }
    return found;
}

size_t names_doomed_below_locked(struct names *names, const char *prefix)
{
    size_t found = 0, length = strlen(prefix);

    list_for_each (at, &names->doomed) {
        struct inode *inode = container_of(at, struct inode, idle);
        LOCK_SCOPED(&inode->lock);
        found += strncmp(inode->remote.key, prefix, length) == 0;
    }
    return found;
}

void names_undoom_locked(struct names *names, const char *key, struct aftermath *aftermath)
{
    list_for_each_safe (at, after, &names->doomed) {
        struct inode *inode = container_of(at, struct inode, idle);
        lock_take(&inode->lock);
        bool same = strcmp(inode->remote.key, key) == 0;
        inode->delete_at_release = inode->delete_at_release && !same;
        lock_drop(&inode->lock);
        if (!same)
            continue;
        list_remove(&inode->idle);
        aftermath_unref(aftermath, inode);
    }
}

void names_inherit_locked(struct inode *inode, struct inode *old)
{
    struct identity identity;
    STRING_SCOPED *key = NULL;

    lock_take(&old->lock);
    if (old->remote.exists) {
        key = xstrdup(old->remote.key);
        identity = old->remote.identity;
    }
    lock_drop(&old->lock);
    LOCK_SCOPED(&inode->lock);
    if (!key || inode->remote.exists)
        return;
    inode->remote.exists = true;
    inode->remote.key = key;
    key = NULL;
    inode->remote.identity = identity;
    inode->remote.headers_known = false;
}

struct doomed_job {
    struct job job;
    struct inode *inode; /* a reference */
    struct names_deleting deleting;
    struct identity identity; /* of what is to go under deleting.key */
};

/* True while somebody works on that very name, or renames or removes a directory above it. */
static bool name_busy_locked(struct names *names, const char *key)
{
    list_for_each (at, &names->asking) {
        struct asking *asking = container_of(at, struct asking, link);
        BUF_SCOPED other = BUF_INIT;
        if (!*asking->name || *asking->name == '/' ||
            names_child_key_locked(asking->parent, asking->name, &other) < 0)
            continue;
        if (strncmp(key, other.bytes, other.length) != 0)
            continue;
        if (!key[other.length] || (key[other.length] == '/' && !asking->lookup))
            return true;
    }
    return false;
}

/* Whoever works on that very name is let end first; who comes later waits until we are done. The key follows the renames
 * of directories until then. True: there is something to delete. */
static bool begin_delete(struct names *names, struct doomed_job *doomed)
{
    struct inode *inode = doomed->inode;
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&names->lock);

    for (;;) {
        if (list_empty(&inode->idle))
            return false; /* overwritten meanwhile */
        lock_take(&inode->lock);
        free(doomed->deleting.key);
        doomed->deleting.key = xstrdup(inode->remote.key);
        doomed->identity = inode->remote.identity;
        lock_drop(&inode->lock);
        if (!name_busy_locked(names, doomed->deleting.key))
            break;
        gate_wait_locked(&names->turn, &names->lock, &waiter, CLOCK_NEVER);
    }
    list_append(&names->deleting, &doomed->deleting.link);
    /* The name is in use again: what stands under the key is, or soon will be, the new file's. */
    struct inode *user = names_find_path_locked(names, doomed->deleting.key + strlen(inode->cache->prefix));
    if (!user || user->type == S_IFDIR)
        return true;
    names_inherit_locked(user, inode);
    return false;
}

static void run_doomed(struct job *job)
{
    struct doomed_job *doomed = container_of(job, struct doomed_job, job);
    struct inode *inode = doomed->inode;
    struct cache *cache = inode->cache;
    struct names *names = &cache->names;
    int rc = 0;

    if (begin_delete(names, doomed)) {
        WAITER_SCOPED(waiter);
        rc = server_delete_seen(cache, "delete after the last close", doomed->deleting.key, &doomed->identity,
                                &waiter);
        if (rc == -ESTALE)
            rc = 0; /* replaced by another client meanwhile: a file of its own, that nobody here removed */
    }
    lock_take(&names->lock);
    list_remove(&doomed->deleting.link);
    /* After a failure the object stays, and stays hidden here: unmounting shows it again, as the log said. */
    bool settled = rc == 0 && !list_empty(&inode->idle);
    if (settled)
        list_remove(&inode->idle);
    gate_open(&names->turn);
    lock_drop(&names->lock);
    if (settled)
        inode_unref(inode); /* the list's */
    inode_unref(inode);
    free(doomed->deleting.key);
    free(doomed);
}

void names_delete_behind(struct inode *inode)
{
    struct names *names = &inode->cache->names;
    struct doomed_job *doomed = xcalloc(1, sizeof(*doomed));
    bool known;

    list_init(&doomed->deleting.link);
    lock_take(&names->lock);
    known = !inode->parent && !list_empty(&inode->idle);
    lock_take(&inode->lock);
    known = known && inode->remote.key && inode->delete_at_release;
    inode->delete_at_release = false; /* asked for once */
    lock_drop(&inode->lock);
    lock_drop(&names->lock);
    if (!known) {
        free(doomed);
        return;
    }
    doomed->inode = inode_ref(inode);
    doomed->job.run = run_doomed;
    if (pool_post(inode->cache->behind, &doomed->job) < 0)
        run_doomed(&doomed->job); /* 65 536 wait already: this close does it itself */
}
