#include "cache/change.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/attr.h"
#include "cache/content.h"
#include "cache/deleter.h"
#include "cache/keepsake.h"
#include "cache/lookup.h"
#include "cache/marker.h"
#include "cache/overlay.h"
#include "cache/recall.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/veil.h"

int change_begin(struct change *change, struct cache *cache, struct inode *parent, const char *name,
                 bool behind, struct waiter *waiter)
{
    struct asking_place place = {parent, name, behind};
    int rc;

    *change = (struct change){.cache = cache, .parent = parent, .name = name, .key = BUF_INIT};
    if (cache->config.read_only)
        return -EROFS;
    if (parent->type != S_IFDIR)
        return -ENOTDIR;
    rc = names_check(name);
    if (rc < 0)
        return rc;
    LOCK_SCOPED(&cache->names.lock);
    rc = asking_take_locked(&cache->names, &place, 1, waiter, &change->asking);
    if (rc < 0)
        return rc;
    return names_child_key_locked(parent, name, &change->key);
}

void change_end(struct change *change)
{
    AFTERMATH_SCOPED(aftermath, change->cache);

    lock_take(&change->cache->names.lock);
    asking_drop_locked(&change->cache->names, change->asking, &aftermath);
    lock_drop(&change->cache->names.lock);
    buf_release(&change->key);
}

int change_doom_locked(struct inode *inode, bool behind, struct aftermath *aftermath)
{
    lock_take(&inode->lock);
    bool goes = inode->opens > 0 || behind;
    bool doomed = goes && (inode->remote.exists || inode->maybe_key || inode->upload_busy);
    int rc = goes ? recording_doomed_locked(inode) : 0;
    if (rc < 0) {
        lock_drop(&inode->lock);
        return rc;
    }
    inode->orphan = inode->orphan || goes;
    inode->delete_at_release = doomed; /* in the hold in which it is open: the last close sees it */
    lock_drop(&inode->lock);
    if (goes) {
        recall_moved_locked(inode);
        names_detach_locked(inode, aftermath);
    }
    if (!doomed)
        return goes;
    names_doom_locked(inode);
    deleter_add_locked(inode);
    return goes;
}

int change_await_deletes(struct cache *cache, struct inode *parent, const char *name, bool below,
                         struct waiter *waiter)
{
    BUF_SCOPED key = BUF_INIT;

    lock_take(&cache->names.lock);
    int rc = parent->type == S_IFDIR ? names_child_key_locked(parent, name, &key) : -ENOTDIR;
    lock_drop(&cache->names.lock);
    if (rc < 0 || !change_goes_behind(cache))
        return 0; /* the error is found again where it is told */
    if (below)
        buf_add_char(&key, '/');
    rc = deleter_await(cache->deleter, key.bytes, waiter, clock_ms() + cache->config.io_timeout_ms);
    return rc == -ETIMEDOUT ? -EIO : rc;
}

bool change_must_wait(const struct cache *cache, const struct waiter *waiter)
{
    return !waiter && cache->config.commit_ms == 0 && change_goes_behind(cache);
}

int change_commit(struct cache *cache)
{
    WAITER_SCOPED(waiter); /* it has happened, -EINTR would say that it had not */
    return change_goes_behind(cache) ? journal_commit(cache->journal, &waiter) : 0;
}

int change_commit_gone(struct cache *cache)
{
    WAITER_SCOPED(waiter);
    if (cache->config.durability == DURABILITY_SYNC && cache->journal)
        return journal_flush(cache->journal, &waiter);
    return change_commit(cache);
}

/* ---- Making. ---- */

/* In a setgid directory all belongs to its group, and directories hand that on. A program that runs as that group is not made by who is
 * not in it: kernels before 6.0 leave that to us. Who else is in the group the kernel knows, not we. */
static struct maker inherit(struct inode *parent, uint32_t type, const struct maker *maker)
{
    const uint32_t runs_as_group = S_ISGID | S_IXGRP;
    struct maker heir = *maker;

    lock_take(&parent->lock);
    struct attributes above = parent->wanted.attributes;
    lock_drop(&parent->lock);
    if (!(above.mode & S_ISGID))
        return heir;
    heir.gid = above.gid;
    if (type == S_IFDIR)
        heir.mode |= S_ISGID;
    else if ((maker->mode & runs_as_group) == runs_as_group && maker->uid && maker->gid != above.gid)
        heir.mode &= ~(uint32_t)S_ISGID;
    return heir;
}

static void set_maker(const struct change *change, struct inode *inode, const struct maker *maker,
                      uint64_t size)
{
    struct attributes *attributes = &inode->wanted.attributes;

    attributes->mode = inode->type | (maker->mode & 07777);
    attributes->uid = maker->uid;
    attributes->gid = maker->gid;
    attributes->size = size;
    attributes->device = change->device;
    attributes->atime_ns = attributes->mtime_ns = attributes->ctime_ns = clock_wall_ns();
}

/* Into the tree: what stands on the server already, or what is new and nobody has sent yet (identity NULL). */
static int plant(struct change *change, uint32_t type, const struct maker *maker, uint64_t size,
                 const char *key, const struct identity *identity, const struct store_fields *meta,
                 struct entry *ret_entry)
{
    struct names *names = &change->cache->names;
    AFTERMATH_SCOPED(aftermath, change->cache);
    LOCK_SCOPED(&names->lock);
    struct inode *inode = names_make_locked(change->cache, change->parent, change->name, type, 0, &aftermath);
    const struct maker heir = inherit(change->parent, type, maker);
    int rc = 0;

    lock_take(&inode->lock);
    set_maker(change, inode, &heir, size);
    names_set_target_locked(inode, change->target);
    inode->attributes_known = true;
    if (identity) {
        inode->remote.exists = true;
        inode->remote.key = xstrdup(key);
        inode->remote.identity = *identity;
        inode->remote.confirmed_ms = inode->remote.marker_ms = clock_ms();
        inode->remote.headers_known = true;
        store_fields_copy(&inode->remote.meta, meta);
    } else {
        inode->wanted.content_version = inode->wanted.attribute_version = 1;
        inode->whole_replacement = true;
        inode->exclusive = change->exclusive;
        inode->changed_ms = clock_ms();
        atomic_store(&change->cache->made_ms, clock_ms());
        rc = recording_born_locked(inode);
        if (rc == 0)
            uploader_note_dirty_locked(inode);
    }
    lock_drop(&inode->lock);
    if (rc < 0) {
        names_orphan_locked(inode, false, &aftermath);
        return rc;
    }
    if (identity)
        names_undoom_locked(names, key, NULL, &aftermath);
    if (type == S_IFDIR) {
        BUF_SCOPED taken = BUF_INIT;
        names_child_key_locked(change->parent, change->name, &taken);
        veil_ask_back_locked(names, taken.bytes, VEIL_AT); /* who claimed it since it was looked at */
        inode->listed_ms = clock_ms();                     /* it is empty, we made it */
    }
    names_touched_locked(names, change->parent, change->name);
    marker_bump_locked(change->parent);
    lookup_fill_locked(inode, ret_entry);
    return 0;
}

/* Over nothing but the object, if any, of a file that was removed here and is open still: hidden, but there. -EEXIST. */
static int put_exclusive(struct change *change, const char *what, struct server_small *small,
                         struct identity *ret_identity, struct waiter *waiter)
{
    struct names *names = &change->cache->names;
    struct identity doomed;

    lock_take(&names->lock);
    bool over = names_doomed_version_locked(names, small->key, &doomed);
    lock_drop(&names->lock);
    if (over) {
        small->if_match = doomed.etag;
        int rc = server_put_small(change->cache, what, small, ret_identity, waiter);
        small->if_match = NULL;
        if (rc != -ESTALE)
            return rc;
    }
    small->if_absent = true;
    return server_put_small(change->cache, what, small, ret_identity, waiter);
}

/* A small object that carries everything: a directory's marker, a symlink, a special file, a file that is to be ours alone. exclusive: it
 * overwrites nothing, by a condition that the endpoint honours. */
static int make_object(struct change *change, const char *what, uint32_t type, const struct maker *maker,
                       bool exclusive, struct waiter *waiter, struct entry *ret_entry)
{
    const char *bytes = change->target ? change->target : "";
    struct store_fields meta = {0};
    int64_t now_ns = clock_wall_ns();
    const struct maker heir = inherit(change->parent, type, maker);
    struct attributes attributes = {.mode = type | (heir.mode & 07777),
                                    .uid = heir.uid,
                                    .gid = heir.gid,
                                    .device = change->device,
                                    .mtime_ns = now_ns,
                                    .ctime_ns = now_ns};
    struct identity identity;
    int rc;

    if (type == S_IFDIR)
        buf_add_char(&change->key, '/');
    if (change->key.length > STORE_KEY_MAX)
        return -ENAMETOOLONG;
    attr_to_meta(&attributes, true, &meta);
    rc = veil_await_displaced(change->cache, change->key.bytes, VEIL_AT, waiter);
    struct server_small small = {.key = change->key.bytes, .bytes = bytes, .meta = &meta};
    if (rc == 0)
        rc = keepsake_take_unlinked(change->cache, small.key, waiter);
    if (rc == 0)
        rc = exclusive ? put_exclusive(change, what, &small, &identity, waiter)
                       : server_put_small(change->cache, what, &small, &identity, waiter);
    if (rc == 0) {
        uint64_t size = type == S_IFDIR ? 4096 : strlen(bytes);
        rc = plant(change, type, &heir, size, change->key.bytes, &identity, &meta, ret_entry);
    } else { /* it may stand there all the same, or another one: whoever asks next asks the server */
        LOCK_SCOPED(&change->cache->names.lock);
        names_doubt_locked(&change->cache->names, change->parent, change->name);
    }
    store_fields_release(&meta);
    return rc;
}

/* ---- create. ---- */

/* What stands there: with O_EXCL the server's word of this moment, unless the name is known to be taken; behind, it is said by the
 * condition of the upload. */
static int find_existing(struct change *change, bool exclusive, struct waiter *waiter,
                         struct inode **ret_inode)
{
    if (exclusive && change_goes_behind(change->cache))
        return lookup_resolve_marked(change->cache, change->parent, change->name, waiter, ret_inode);
    int rc = exclusive ? lookup_resolve_marked(change->cache, change->parent, change->name, NULL, ret_inode)
                       : lookup_resolve_made(change->cache, change->parent, change->name, waiter, ret_inode);

    if (!exclusive)
        return rc;
    if (rc == 0)
        return 0;
    return lookup_ask(change->cache, change->parent, change->name, waiter, ret_inode);
}

static int open_existing(struct change *change, struct inode *inode, int flags, const struct maker *maker,
                         struct waiter *waiter, struct entry *ret_entry, struct handle **ret_handle)
{
    struct opened opened;
    int rc;

    if (flags & O_EXCL)
        return -EEXIST;
    if (inode->type == S_IFDIR)
        return -EISDIR;
    if (inode->type != S_IFREG)
        return -ESTALE; /* a symlink or fifo that the kernel has not seen: it looks again, and does it itself */
    rc = flags & O_TRUNC ? content_truncate(inode, waiter, 0) : 0;
    if (rc == 0)
        rc = content_open(inode, flags & ~O_TRUNC, maker->process, ret_handle, &opened);
    if (rc < 0)
        return rc;
    LOCK_SCOPED(&change->cache->names.lock);
    lookup_fill_locked(inode, ret_entry);
    return 0;
}

/* A new file that was opened by nobody yet: one that goes up at its close; in sync an empty object that no other client can make
 * as well, where O_EXCL asks for that. */
static int make_file(struct change *change, bool exclusive, const struct maker *maker, struct waiter *waiter,
                     struct entry *ret_entry)
{
    change->exclusive = exclusive && change_goes_behind(change->cache);
    if (!exclusive || change->exclusive)
        return plant(change, S_IFREG, maker, 0, NULL, NULL, NULL, ret_entry);
    int honoured = server_conditions(change->cache, waiter); /* else find_existing() has just asked */
    if (honoured < 0)
        return honoured;
    return make_object(change, "create", S_IFREG, maker, honoured, waiter, ret_entry);
}

int cache_create(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                 int flags, const struct maker *maker, struct entry *ret_entry, struct handle **ret_handle)
{
    struct change change;
    struct inode *inode = NULL;
    struct opened opened;
    bool behind = change_goes_behind(cache);
    int rc = change_must_wait(cache, waiter) ? -EAGAIN : 0;

    change = (struct change){.cache = cache, .key = BUF_INIT};
    if (rc == 0)
        rc = overlay_wait(cache->overlay, NULL, waiter);
    if (rc == 0 && flags & O_EXCL && !behind)
        rc = change_await_deletes(cache, parent, name, false, waiter);
    if (rc == 0)
        rc = change_begin(&change, cache, parent, name, behind, waiter);
    *ret_entry = (struct entry){0};
    *ret_handle = NULL;
    if (rc == 0)
        rc = find_existing(&change, flags & O_EXCL, waiter, &inode);
    if (rc == 0) {
        rc = open_existing(&change, inode, flags, maker, waiter, ret_entry, ret_handle);
        inode_unref(inode);
    } else if (rc == -ENOENT && change.asking && change.key.length) {
        rc = make_file(&change, flags & O_EXCL, maker, waiter, ret_entry);
        if (rc == 0)
            rc = content_open(ret_entry->inode, flags & ~O_TRUNC, maker->process, ret_handle, &opened);
    }
    change_end(&change);
    if (rc == 0)
        rc = change_commit(cache);
    if (rc < 0) {
        if (*ret_handle)
            cache_release(cache, *ret_handle);
        inode_unref(ret_entry->inode);
        *ret_entry = (struct entry){0};
        *ret_handle = NULL;
    }
    return rc;
}

/* ---- mkdir. ---- */

/* `now`: by the server's word of this moment. */
static int check_free(struct change *change, bool now, struct waiter *waiter)
{
    struct inode *inode;
    int rc = now ? lookup_ask(change->cache, change->parent, change->name, waiter, &inode)
                 : lookup_resolve_marked(change->cache, change->parent, change->name, waiter, &inode);

    if (rc == 0)
        inode_unref(inode);
    return rc == 0 ? -EEXIST : rc == -ENOENT ? 0 : rc;
}

/* A file that had this name, and has not taken its object along yet: below it nothing can stand. */
static int await_displaced(const struct change *change, struct waiter *waiter)
{
    return veil_await_displaced(change->cache, change->key.bytes, VEIL_AT, waiter);
}

/* Its marker goes up behind. */
static int make_directory(struct change *change, const struct maker *maker, struct entry *ret_entry)
{
    if (change->key.length >= STORE_KEY_MAX)
        return -ENAMETOOLONG;
    int rc = plant(change, S_IFDIR, maker, 4096, NULL, NULL, NULL, ret_entry);
    if (rc == 0)
        uploader_publish(ret_entry->inode);
    return rc;
}

int cache_mkdir(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                const struct maker *maker, struct entry *ret_entry)
{
    struct change change;
    bool behind = change_goes_behind(cache);
    int rc;

    *ret_entry = (struct entry){0};
    if (!waiter && (!behind || change_must_wait(cache, waiter)))
        return cache->config.read_only ? -EROFS : -EAGAIN;
    rc = overlay_wait(cache->overlay, NULL, waiter);
    if (rc == 0)
        rc = change_await_deletes(cache, parent, name, false, waiter);
    if (rc < 0)
        return rc;
    rc = change_begin(&change, cache, parent, name, behind, waiter);
    if (rc == 0)
        rc = await_displaced(&change, waiter);
    if (rc == 0)
        rc = check_free(&change, false, waiter);
    if (rc == 0)
        rc = keepsake_make_way(cache, change.key.bytes, waiter);
    if (rc == 0)
        rc = behind ? make_directory(&change, maker, ret_entry)
                    : make_object(&change, "mkdir", S_IFDIR, maker, false, waiter, ret_entry);
    change_end(&change);
    if (rc == 0)
        rc = change_commit(cache);
    if (rc < 0) {
        inode_unref(ret_entry->inode);
        *ret_entry = (struct entry){0};
    }
    return rc;
}

/* ---- symlink, mknod. ---- */

struct special { /* what has no bytes that can be written */
    const char *what;
    uint32_t type;
    const char *target;
    uint64_t device;
};

/* Its object goes up behind. */
static int make_behind(struct change *change, const struct special *special, const struct maker *maker,
                       struct entry *ret_entry)
{
    uint64_t size = special->target ? strlen(special->target) : 0;
    int rc = plant(change, special->type, maker, size, NULL, NULL, NULL, ret_entry);
    if (rc == 0)
        uploader_publish(ret_entry->inode);
    return rc;
}

static int make_special(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                        const struct special *special, const struct maker *maker, struct entry *ret_entry)
{
    struct change change;
    bool behind = change_goes_behind(cache);
    int rc, honoured = 0;

    *ret_entry = (struct entry){0};
    if (!waiter && (!behind || change_must_wait(cache, waiter)))
        return cache->config.read_only ? -EROFS : -EAGAIN;
    rc = overlay_wait(cache->overlay, NULL, waiter);
    if (rc < 0)
        return rc;
    rc = change_begin(&change, cache, parent, name, behind, waiter);
    change.target = special->target;
    change.device = special->device;
    change.exclusive = behind;
    if (rc == 0 && !behind)
        honoured = rc = server_conditions(cache, waiter);
    if (rc >= 0)
        rc = check_free(&change, !behind && !honoured, waiter);
    if (rc == 0)
        rc = behind ? make_behind(&change, special, maker, ret_entry)
                    : make_object(&change, special->what, special->type, maker, honoured, waiter, ret_entry);
    change_end(&change);
    if (rc == 0)
        rc = change_commit(cache);
    if (rc < 0) {
        inode_unref(ret_entry->inode);
        *ret_entry = (struct entry){0};
    }
    return rc;
}

int cache_symlink(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                  const char *target, const struct maker *maker, struct entry *ret_entry)
{
    struct special special = {.what = "symlink", .type = S_IFLNK, .target = target};
    struct maker open_maker = *maker;

    *ret_entry = (struct entry){0};
    if (!*target)
        return -ENOENT;
    if (strlen(target) >= PATH_MAX)
        return -ENAMETOOLONG;
    open_maker.mode = 0777;
    return make_special(cache, waiter, parent, name, &special, &open_maker, ret_entry);
}

int cache_mknod(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                uint32_t type, uint64_t device, const struct maker *maker, struct entry *ret_entry)
{
    struct special special = {.what = "mknod", .type = type, .device = attr_is_device(type) ? device : 0};

    *ret_entry = (struct entry){0};
    if (!attr_is_special(type))
        return -EINVAL;
    return make_special(cache, waiter, parent, name, &special, maker, ret_entry);
}
