#include "cache/rename.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/copying.h"
#include "cache/keepsake.h"
#include "cache/lookup.h"
#include "cache/marker.h"
#include "cache/overlay.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/settling.h"
#include "cache/veil.h"

/* ---- The tree. ---- */

int rename_edge_locked(struct rename *rename, struct aftermath *aftermath)
{
    struct names *names = &rename->cache->names;
    struct inode *target = names_find_locked(names, rename->to_parent, rename->to_name);
    int rc = recording_moved_locked(rename->inode, rename->to_parent, rename->to_name, target);

    if (rc < 0)
        return rc;
    lock_take(&rename->inode->lock);
    rename->inode->exclusive = false; /* of an earlier mount in write-back: a rename overwrites */
    lock_drop(&rename->inode->lock);
    if (target && target->type == S_IFREG) {
        LOCK_SCOPED(&target->lock);
        if (target->opens && !target->keepsake && content_gaps_locked(target))
            log_warn("rename: %s was replaced while open: ranges that are not cached cannot be read any more",
                     rename->to_key.bytes);
    }
    if (target)
        names_orphan_locked(target, false, aftermath);
    names_move_locked(rename->inode, rename->to_parent, rename->to_name, aftermath);
    names_touched_locked(names, rename->from_parent, rename->from_name);
    names_touched_locked(names, rename->to_parent, rename->to_name);
    names_set_absent_locked(names, rename->from_parent, rename->from_name, clock_ms());
    marker_bump_locked(rename->from_parent);
    marker_bump_locked(rename->to_parent);
    return 0;
}

/* ---- What is no directory. ---- */

struct moved {
    char *from_key; /* goes at the end; NULL: nothing does */
    struct identity from, to;
    bool apart;    /* what stands under the old name is no part of what goes up under the new one */
    bool conflict; /* ... it is another client's, and stays */
    bool copied;
};

static int plan(struct rename *rename, struct moved *moved)
{
    struct inode *inode = rename->inode;
    struct remote *remote = &inode->remote;
    LOCK_SCOPED(&inode->lock);
    bool unsent = inode->wanted.content_version != remote->content_version;

    moved->conflict = inode_conflicts_locked(inode);
    /* An empty object is not worth to stand in another one's place until the bytes come. */
    moved->apart = remote->exists && (moved->conflict || (unsent && remote->identity.size == 0));
    if (moved->conflict && content_gaps_locked(inode)) {
        log_error("rename of %s: the object that it was made from is gone, and parts of it are not here: "
                  "returned ESTALE",
                  remote->key);
        return -ESTALE;
    }
    moved->from_key = remote->exists && !moved->conflict ? xstrdup(remote->key) : NULL;
    moved->from = remote->identity;
    return 0;
}

static void follow_copy(struct rename *rename, const struct moved *moved)
{
    struct inode *inode = rename->inode;
    LOCK_SCOPED(&inode->lock);

    free(inode->remote.key);
    inode->remote.key = xstrdup(rename->to_key.bytes);
    if (identity_equal(&inode->cached_identity, &inode->remote.identity))
        inode->cached_identity = moved->to; /* the kernel's pages are of the same content */
    inode->remote.identity = moved->to;
    inode->remote.confirmed_ms = clock_ms();
    recording_remote_locked(inode);
}

/* Its object has not followed it to the name that it is about to lose. */
static bool is_displaced(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->displaced;
}

static int move_file(struct rename *rename, const struct moved *moved)
{
    AFTERMATH_SCOPED(aftermath, rename->cache);
    LOCK_SCOPED(&rename->cache->names.lock);
    bool left = rename->target && is_displaced(rename->target);
    int rc = rename_edge_locked(rename, &aftermath);

    if (rc < 0) {
        names_doubt_locked(&rename->cache->names, rename->to_parent, rename->to_name);
        return rc;
    }
    if (moved->apart) {
        LOCK_SCOPED(&rename->inode->lock);
        content_forget_base_locked(rename->inode);
    }
    if (!moved->copied && rename->target)
        names_inherit_locked(rename->inode, rename->target);
    if (moved->copied) {
        if (left)
            names_leave_locked(rename->target, &aftermath);
        names_undoom_locked(&rename->cache->names, rename->to_key.bytes, NULL, &aftermath);
        follow_copy(rename, moved);
        veil_update_locked(rename->inode);
    }
    if (moved->conflict)
        names_doubt_locked(&rename->cache->names, rename->from_parent, rename->from_name);
    if (rename->target) {
        LOCK_SCOPED(&rename->target->lock);
        keepsake_follow_locked(rename->target);
    }
    return 0;
}

static int copy_file(struct rename *rename, struct moved *moved, struct waiter *waiter)
{
    struct inode *inode = rename->inode;
    struct copying copying = {.cache = rename->cache,
                              .what = "rename",
                              .source_key = moved->from_key,
                              .source = &moved->from,
                              .key = rename->to_key.bytes};

    if (!moved->from_key || moved->apart)
        return 0;
    int rc = copying_run(&copying, waiter);
    moved->to = copying.to;
    moved->copied = rc == 0;
    if (rc == 0)
        return 0;
    /* What stands under either name is the server's to say. */
    LOCK_SCOPED(&rename->cache->names.lock);
    names_doubt_locked(&rename->cache->names, rename->to_parent, rename->to_name);
    lock_take(&inode->lock);
    inode->remote.confirmed_ms = 0;
    lock_drop(&inode->lock);
    if (rename->target) {
        LOCK_SCOPED(&rename->target->lock);
        rename->target->remote.confirmed_ms = 0;
    }
    return rc;
}

static int delete_old(struct rename *rename, const struct moved *moved, struct waiter *waiter)
{
    int rc = server_delete(rename->cache, "rename", moved->from_key, &moved->from, waiter);

    LOCK_SCOPED(&rename->cache->names.lock);
    names_touched_locked(&rename->cache->names, rename->from_parent,
                         rename->from_name); /* lists told of it until here */
    if (rc == 0)
        return 0;
    names_doubt_locked(&rename->cache->names, rename->from_parent, rename->from_name);
    return rc == -ESTALE ? 0 : rc; /* -ESTALE: written by another client meanwhile, a file of its own now */
}

/* Who has open what is overwritten reads on. */
static int keep_open(struct rename *rename, const struct moved *moved, struct waiter *waiter)
{
    bool copies = moved->from_key && !moved->apart; /* else its upload sees to what was unlinked */
    int rc = copies ? keepsake_take_unlinked(rename->cache, rename->to_key.bytes, waiter) : 0;

    if (rc == 0 && rename->target)
        rc = keepsake_take(rename->target, waiter);
    return rc == -EINTR ? rc : 0;
}

static int rename_held(struct rename *rename, struct waiter *waiter)
{
    struct moved moved = {0};
    int rc = plan(rename, &moved);

    if (rc == 0 && rename->from_parent != rename->to_parent)
        rc = marker_keep(rename->from_parent, rename->inode, waiter);
    if (rc == 0)
        rc = keep_open(rename, &moved, waiter);
    if (rc == 0)
        rc = copy_file(rename, &moved, waiter);
    if (rc == 0)
        rc = move_file(rename, &moved);
    if (rc < 0 && rename->target)
        keepsake_forgo(rename->target);
    if (rc == 0 && moved.from_key)
        rc = delete_old(rename, &moved, waiter);
    free(moved.from_key);
    return rc;
}

static bool is_closed_unsent(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode_dirty_locked(inode) && !inode->write_opens;
}

static int rename_file(struct rename *rename, struct waiter *waiter)
{
    struct inode *inode = rename->inode;
    int rc = settling_hold(inode, "rename", waiter);

    if (rc < 0)
        return rc;
    if (rename->target)
        rc = settling_hold(rename->target, "rename", waiter);
    if (rc == 0) {
        rc = rename_held(rename, waiter);
        if (rename->target)
            upload_unhold(rename->target);
    }
    bool goes_up = rc == 0 && is_closed_unsent(inode);
    upload_unhold(inode);
    if (goes_up) /* what it has unsent, under the name it has now; else at its close */
        uploader_publish(inode);
    return rc;
}

/* ---- Rules. ---- */

static int check_target(const struct rename *rename, unsigned flags)
{
    bool from_directory = rename->inode->type == S_IFDIR;

    if (!rename->target)
        return 0;
    if (flags & RENAME_NOREPLACE)
        return -EEXIST;
    if (from_directory && rename->target->type != S_IFDIR)
        return -ENOTDIR;
    if (!from_directory && rename->target->type == S_IFDIR)
        return -EISDIR;
    return 0;
}

static bool goes_behind(const struct rename *rename)
{
    return change_goes_behind(rename->cache);
}

static void drop_marks_locked(struct rename *rename, struct aftermath *aftermath)
{
    for (int i = 0; i < 2; i++) {
        asking_drop_locked(&rename->cache->names, rename->marks[i], aftermath);
        rename->marks[i] = NULL;
    }
}

/* One key, one hand: what is at work on the new key for a file that lost this name ends first. 1: it may have by now. */
static int await_key_locked(struct rename *rename, struct waiter *waiter)
{
    struct names *names = &rename->cache->names;
    veil_ask_back_locked(names, rename->to_key.bytes, VEIL_AT);
    int rc = gate_wait_locked(&names->turn, &names->lock, waiter, rename->deadline_ms);
    return rc < 0 ? rc : 1;
}

static int check_marked_locked(struct rename *rename, struct inode **ret_target)
{
    struct names *names = &rename->cache->names;

    *ret_target = NULL;
    if (names_find_locked(names, rename->from_parent, rename->from_name) != rename->inode)
        return 1;
    if (rename->inode->type == S_IFDIR && names_below_locked(rename->to_parent, rename->inode))
        return -EINVAL;
    *ret_target = names_find_locked(names, rename->to_parent, rename->to_name);
    if (*ret_target && names_below_locked(rename->from_parent, *ret_target))
        return -ENOTEMPTY; /* "a/b/c" onto "a": to freeze both would wait for who removes "a/b", and he for us */
    return names_child_key_locked(rename->to_parent, rename->to_name, &rename->to_key);
}

/* Markers of both names at once, over the inode that was looked up; `moving` in the same hold. 1: it is another one
 * now, look again. */
static int mark(struct rename *rename, struct waiter *waiter)
{
    struct cache *cache = rename->cache;
    struct names *names = &cache->names;
    bool behind = goes_behind(rename);
    struct asking_place places[2] = {{rename->from_parent, rename->from_name, behind},
                                     {rename->to_parent, rename->to_name, behind}};
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&names->lock);
    struct inode *target;
    int rc = asking_take_locked(names, places, 2, waiter, rename->marks);

    if (rc < 0)
        return rc;
    rc = check_marked_locked(rename, &target);
    bool held = rc == 0 && !behind && veil_held_locked(names, rename->to_key.bytes, NULL);
    if (rc != 0 || held) {
        drop_marks_locked(rename, &aftermath);
        return held ? await_key_locked(rename, waiter) : rc;
    }
    rename->inode->moving = rename->inode->type == S_IFDIR;
    if (target && target->type == S_IFDIR && rename->inode->moving) {
        rename->frozen = inode_ref(target);
        target->moving = true;
    }
    return 0;
}

static void unmark(struct rename *rename)
{
    struct names *names = &rename->cache->names;
    AFTERMATH_SCOPED(aftermath, rename->cache);
    LOCK_SCOPED(&names->lock);

    rename->inode->moving = false;
    if (rename->frozen)
        rename->frozen->moving = false;
    aftermath_unref(&aftermath, rename->frozen);
    rename->frozen = NULL;
    gate_open(&names->turn);
    for (int i = 0; i < 2; i++)
        asking_drop_locked(names, rename->marks[i], &aftermath);
}

static int find_target(struct rename *rename, unsigned flags, struct waiter *waiter)
{
    struct cache *cache = rename->cache;
    struct inode *parent = rename->to_parent, **target = &rename->target;

    if ((flags & RENAME_NOREPLACE) || rename->inode->type == S_IFDIR)
        return lookup_ask(cache, parent, rename->to_name, waiter, target);
    return change_goes_behind(cache) ? lookup_resolve_made(cache, parent, rename->to_name, waiter, target)
                                     : lookup_resolve_marked(cache, parent, rename->to_name, waiter, target);
}

static int rename_marked(struct rename *rename, unsigned flags, struct waiter *waiter)
{
    int rc = find_target(rename, flags, waiter);

    if (rc == -ENOENT)
        rc = 0;
    if (rc == 0)
        rc = check_target(rename, flags);
    if (rc == 0 && rename->inode->type == S_IFDIR)
        rc = keepsake_make_way(rename->cache, rename->to_key.bytes, waiter);
    if (rc == 0)
        rc = rename->inode->type == S_IFDIR ? rename_directory(rename, waiter)
             : goes_behind(rename)          ? rename_file_behind(rename, waiter)
                                            : rename_file(rename, waiter);
    inode_unref(rename->target);
    rename->target = NULL;
    return rc;
}

/* The object of a file that had the directory's new name goes, or goes on, before "b/..." comes. */
static int await_place(struct rename *rename, struct waiter *waiter)
{
    struct names *names = &rename->cache->names;
    BUF_SCOPED key = BUF_INIT;
    int rc = change_await_deletes(rename->cache, rename->to_parent, rename->to_name, false, waiter);

    if (rc < 0)
        return rc;
    lock_take(&names->lock);
    rc = names_child_key_locked(rename->to_parent, rename->to_name, &key);
    lock_drop(&names->lock);
    return rc < 0 ? rc : veil_await_displaced(rename->cache, key.bytes, VEIL_AT, waiter);
}

static int rename_once(struct rename *rename, unsigned flags, struct waiter *waiter)
{
    int64_t valid_ms;
    int rc = lookup_resolve(rename->cache, rename->from_parent, rename->from_name, LOOKUP_FRESH, waiter,
                            &rename->inode, &valid_ms);

    if (rc < 0)
        return rc;
    bool same = rename->from_parent == rename->to_parent && strcmp(rename->from_name, rename->to_name) == 0;
    if (!same && rename->inode->type == S_IFDIR)
        rc = await_place(rename, waiter);
    if (same)
        rc = flags & RENAME_NOREPLACE ? -EEXIST : 0;
    else if (rc == 0 && (rc = mark(rename, waiter)) == 0) {
        rc = rename_marked(rename, flags, waiter);
        unmark(rename);
    }
    inode_unref(rename->inode);
    rename->inode = NULL;
    return rc;
}

int cache_rename(struct cache *cache, struct waiter *waiter, struct inode *from_parent, const char *from_name,
                 struct inode *to_parent, const char *to_name, unsigned flags)
{
    struct rename rename = {.cache = cache,
                            .from_parent = from_parent,
                            .to_parent = to_parent,
                            .from_name = from_name,
                            .to_name = to_name,
                            .to_key = BUF_INIT,
                            .deadline_ms = clock_ms() + cache->config.io_timeout_ms};
    int rc;

    if (flags & ~(unsigned)RENAME_NOREPLACE)
        return -EINVAL;
    if (cache->config.read_only)
        return -EROFS;
    if (from_parent->type != S_IFDIR || to_parent->type != S_IFDIR)
        return -ENOTDIR;
    rc = names_check(from_name);
    if (rc == 0)
        rc = names_check(to_name);
    if (rc < 0)
        return rc;
    if (!waiter)
        return -EAGAIN;
    rc = overlay_wait(cache->overlay, NULL, waiter);
    if (rc < 0)
        return rc;
    do {
        rc = rename_once(&rename, flags, waiter);
    } while (rc == 1);
    buf_release(&rename.to_key);
    if (rc == 0)
        rc = change_commit_gone(cache);
    return rc == -ETIMEDOUT ? -EIO : rc;
}
