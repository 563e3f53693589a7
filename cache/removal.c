/* Names removed: unlink, rmdir (change.h). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/change.h"
#include "cache/deleter.h"
#include "cache/journal.h"
#include "cache/lookup.h"
#include "cache/marker.h"
#include "cache/observed.h"
#include "cache/server.h"
#include "cache/settling.h"

#define REMOVE_TRIES  3
#define REMOVE_LOOKS  100 /* each while another object below goes */
#define FOREIGN_STAYS 1

/* ---- unlink. ---- */

/* Another client put its own there in the place of what was changed here: ours goes, theirs stays, and has the name. */
static int spare_foreign(const struct change *change)
{
    log_warn(
        "unlink of %s: another client's object stands there: what was changed here is given up, theirs stays",
        change->key.bytes);
    return FOREIGN_STAYS;
}

static bool has_conflict(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode_conflicts_locked(inode);
}

/* The object that stands under the name goes. FOREIGN_STAYS; -ESTALE: another client put another one there. */
static int delete_object(struct change *change, struct inode *inode, struct waiter *waiter)
{
    STRING_SCOPED *key = NULL;
    struct identity identity;

    if (has_conflict(inode))
        return spare_foreign(change);
    lock_take(&inode->lock);
    key = inode->remote.exists ? xstrdup(inode->remote.key) : NULL;
    identity = inode->remote.identity;
    bool overlays = inode_overlays_locked(inode); /* then a second look would not show what stands there */
    lock_drop(&inode->lock);
    if (!key)
        return 0;
    /* What the disk holds unsent of it is known as sent first: no power cut leaves a patch whose base is gone. */
    int rc = change->cache->journal ? journal_flush(change->cache->journal, waiter) : 0;
    if (rc == 0)
        rc = server_delete(change->cache, "unlink", key, &identity, waiter);
    return rc == -ESTALE && overlays ? spare_foreign(change) : rc;
}

/* 1: it is open, so its name went at once and its object goes at the last close. */
static int detach_open(struct change *change, struct inode *inode)
{
    struct names *names = &change->cache->names;
    AFTERMATH_SCOPED(aftermath, change->cache);
    LOCK_SCOPED(&names->lock);

    int rc = inode->parent ? change_doom_locked(inode, false, &aftermath) : 0;
    if (rc <= 0)
        return rc;
    names_touched_locked(names, change->parent, change->name);
    marker_bump_locked(change->parent);
    return 1;
}

static void detach_deleted(struct change *change, struct inode *inode, bool absent)
{
    struct names *names = &change->cache->names;
    AFTERMATH_SCOPED(aftermath, change->cache);
    LOCK_SCOPED(&names->lock);

    if (inode->parent)
        names_orphan_locked(inode, false, &aftermath);
    names_touched_locked(names, change->parent, change->name);
    if (absent)
        names_set_absent_locked(names, change->parent, change->name, clock_ms());
    else
        names_doubt_locked(names, change->parent, change->name);
    marker_bump_locked(change->parent);
}

static void doubt(struct change *change, struct inode *inode)
{
    LOCK_SCOPED(&change->cache->names.lock);
    names_touched_locked(&change->cache->names, change->parent, change->name);
    LOCK_SCOPED(&inode->lock);
    inode->remote.confirmed_ms = 0; /* it may be gone: whoever asks next asks the server */
}

static int remove_file(struct change *change, struct inode *inode, struct waiter *waiter)
{
    int rc = settling_hold(inode, "unlink", waiter);

    if (rc < 0)
        return rc == -ETIMEDOUT ? -EIO : rc;
    rc = marker_keep(change->parent, inode, waiter);
    /* The object of a conflict is not what its openers read: it need not wait for them. */
    if (rc == 0 && !has_conflict(inode))
        rc = detach_open(change, inode);
    if (rc == 0) {
        rc = delete_object(change, inode, waiter);
        if (rc >= 0)
            detach_deleted(change, inode, rc == 0);
        else
            doubt(change, inode);
    }
    upload_unhold(inode);
    return rc > 0 ? 0 : rc;
}

/* Its name goes now, its object behind; nothing is waited for. */
static int remove_behind(struct change *change, struct inode *inode)
{
    struct names *names = &change->cache->names;
    bool conflict = has_conflict(inode);
    int rc = 1;

    {
        AFTERMATH_SCOPED(aftermath, change->cache);
        LOCK_SCOPED(&names->lock);
        if (inode->parent && !conflict)
            marker_keep_behind_locked(change->parent, inode);
        if (inode->parent && conflict)
            names_orphan_locked(inode, false, &aftermath);
        else if (inode->parent)
            rc = change_doom_locked(inode, true, &aftermath);
        if (rc < 0)
            return rc;
        names_touched_locked(names, change->parent, change->name);
        if (conflict)
            names_doubt_locked(names, change->parent, change->name);
        else
            names_set_absent_locked(names, change->parent, change->name, clock_ms());
        marker_bump_locked(change->parent);
    }
    uploader_end(inode);
    if (conflict)
        spare_foreign(change);
    return 0;
}

int cache_unlink(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name)
{
    struct change change;
    bool behind = change_goes_behind(cache);
    int rc;

    if (!waiter && (!behind || change_must_wait(cache, waiter)))
        return cache->config.read_only ? -EROFS : -EAGAIN;
    rc = behind ? deleter_throttle(cache->deleter, waiter) : 0;
    if (rc < 0)
        return rc;
    rc = change_begin(&change, cache, parent, name, behind, waiter);
    for (int tries = 0; rc == 0; tries++) {
        struct inode *inode;
        rc = tries ? lookup_ask(cache, parent, name, waiter, &inode)
                   : lookup_resolve_marked(cache, parent, name, waiter, &inode);
        if (rc < 0)
            break;
        rc = inode->type == S_IFDIR ? -EISDIR
             : behind               ? remove_behind(&change, inode)
                                    : remove_file(&change, inode, waiter);
        inode_unref(inode);
        if (rc != -ESTALE || tries == REMOVE_TRIES)
            break;
        rc = 0;
    }
    change_end(&change);
    return rc == 0 ? change_commit_gone(cache) : rc;
}

/* ---- rmdir. ---- */

/* Holds everybody off the directory: nobody begins anything below, and who was at work there has ended. */
static int freeze(struct change *change, struct inode *directory, struct waiter *waiter)
{
    struct names *names = &change->cache->names;
    LOCK_SCOPED(&names->lock);

    directory->moving = true;
    return asking_wait_below_locked(names, directory, &change->asking, 1, waiter);
}

static void thaw(struct change *change, struct inode *directory)
{
    LOCK_SCOPED(&change->cache->names.lock);
    directory->moving = false;
    gate_open(&change->cache->names.turn);
}

static size_t count_doomed(struct inode *directory, const char *key)
{
    LOCK_SCOPED(&directory->cache->names.lock);
    return names_doomed_below_locked(&directory->cache->names, key);
}

static bool has_unsent_child(struct inode *directory)
{
    LOCK_SCOPED(&directory->cache->names.lock);

    list_for_each (at, &directory->children) {
        if (observed_unsent_below_locked(container_of(at, struct inode, sibling)))
            return true;
    }
    return false;
}

/* It was made here, the server has not heard of it, and there is nothing in it. */
static bool was_made_here(struct inode *directory)
{
    struct cache *cache = directory->cache;
    LOCK_SCOPED(&cache->names.lock);
    bool listed = lookup_listed_locked(directory, clock_ms());

    if (!change_goes_behind(cache) || !listed || directory->beyond || !list_empty(&directory->children))
        return false;
    LOCK_SCOPED(&directory->lock);
    return !directory->remote.exists && inode_dirty_locked(directory);
}

/* 1: something below went while the server was asked: it may have been seen, and is hidden no more. */
static int look_below(struct inode *directory, const char *what, const char *key, bool *ret_marker,
                      struct waiter *waiter)
{
    struct cache *cache = directory->cache;
    struct store_call list = server_call(cache, STORE_LIST, NULL);
    size_t doomed = count_doomed(directory, key);
    struct names_watch watch;

    list.prefix = key;
    list.max_keys = 2 + (int)(doomed < STORE_LIST_MAX - 2 ? doomed : STORE_LIST_MAX - 2);
    lock_take(&cache->names.lock);
    names_watch_below_locked(&cache->names, &watch, directory);
    lock_drop(&cache->names.lock);
    int rc = server_wait(cache, what, &list, 0, waiter);
    lock_take(&cache->names.lock);
    *ret_marker = false;
    for (size_t i = 0; rc == 0 && i < list.object_count; i++) {
        if (strcmp(list.objects[i].key, key) == 0)
            *ret_marker = true;
        else if (!names_doomed_locked(&cache->names, &list.objects[i]))
            rc = watch.all ? 1 : -ENOTEMPTY;
    }
    names_unwatch_locked(&watch);
    lock_drop(&cache->names.lock);
    store_call_release(&list);
    return rc;
}

int change_check_empty(struct inode *directory, const char *what, const char *key, bool *ret_marker,
                       struct waiter *waiter)
{
    int rc = 1;

    *ret_marker = false;
    for (int tries = 0; rc == 1 && tries < REMOVE_LOOKS; tries++)
        rc = has_unsent_child(directory) ? -ENOTEMPTY : look_below(directory, what, key, ret_marker, waiter);
    return rc == 1 ? -ENOTEMPTY : rc;
}

/* Its name goes now, its marker, if it has one, behind. */
static int remove_directory_behind(struct change *change, struct inode *directory, const char *marker)
{
    struct names *names = &change->cache->names;
    const struct identity any = {0}; /* markers go whatever their version */

    if (marker)
        names_take_object_locked(directory, marker, &any);
    {
        AFTERMATH_SCOPED(aftermath, change->cache);
        LOCK_SCOPED(&names->lock);
        marker_keep_behind_locked(change->parent, directory);
        int rc = directory->parent ? change_doom_locked(directory, true, &aftermath) : 1;
        if (rc < 0)
            return rc;
        names_touched_locked(names, change->parent, change->name);
        names_set_absent_locked(names, change->parent, change->name, clock_ms());
        marker_bump_locked(change->parent);
    }
    uploader_poke(directory);
    return 0;
}

static int remove_directory(struct change *change, struct inode *directory, struct waiter *waiter)
{
    BUF_SCOPED key = BUF_INIT;
    bool marker = false;
    int rc = names_key(directory, &key);

    if (rc == 0)
        rc = freeze(change, directory, waiter);
    if (rc == 0 && !was_made_here(directory)) /* else all that can be in it is known, and nothing is */
        rc = change_check_empty(directory, "rmdir", key.bytes, &marker, waiter);
    if (rc == 0 && change_goes_behind(change->cache)) {
        rc = remove_directory_behind(change, directory, marker ? key.bytes : NULL);
        thaw(change, directory);
        return rc;
    }
    if (rc == 0)
        rc = marker_keep(change->parent, directory, waiter);
    if (rc == 0 && marker) {
        rc = server_delete(change->cache, "rmdir", key.bytes, NULL, waiter);
        if (rc < 0)
            doubt(change, directory);
    }
    if (rc == 0)
        detach_deleted(change, directory, true);
    thaw(change, directory);
    return rc;
}

int cache_rmdir(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name)
{
    struct change change;
    struct inode *inode;
    int rc;

    if (!waiter)
        return cache->config.read_only ? -EROFS : -EAGAIN;
    rc = change_begin(&change, cache, parent, name, change_goes_behind(cache), waiter);
    if (rc == 0) {
        rc = lookup_resolve_marked(cache, parent, name, waiter, &inode);
        if (rc == 0) {
            rc = inode->type == S_IFDIR ? remove_directory(&change, inode, waiter) : -ENOTDIR;
            inode_unref(inode);
        }
    }
    change_end(&change);
    return rc == 0 ? change_commit(cache) : rc;
}
