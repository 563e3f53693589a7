/* Attributes asked for and set (cache.h). */
#include "cache/attributes.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "cache/attr.h"
#include "cache/change.h"
#include "cache/content.h"
#include "cache/lookup.h"
#include "cache/marker.h"
#include "cache/overlay.h"
#include "cache/recording.h"

static void read_out(struct inode *inode, struct attributes *ret_attributes, int64_t *ret_valid_ms)
{
    LOCK_SCOPED(&inode->cache->names.lock);
    names_used_locked(inode);
    LOCK_SCOPED(&inode->lock);
    inode_attributes_locked(inode, ret_attributes);
    *ret_valid_ms = lookup_valid_ms(inode);
}

static bool is_open(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->opens > 0;
}

int cache_attributes(struct cache *cache, struct waiter *waiter, struct inode *inode,
                     struct attributes *ret_attributes, int64_t *ret_valid_ms)
{
    int rc = names_look_again(inode, waiter);

    (void)cache;
    /* An open file outlives its name and its version: fstat goes on. */
    if ((rc == -ENOENT || rc == -ESTALE) && is_open(inode))
        rc = 0;
    if (rc == 0)
        read_out(inode, ret_attributes, ret_valid_ms);
    return rc;
}

/* ---- Setting. ---- */

#define SET_TRIES 3
#define SET_TIMES (SET_MTIME | SET_MTIME_NOW | SET_CTIME)
#define SET_SENT                                                                                             \
    (SET_MODE | SET_UID | SET_GID | SET_TIMES |                                                              \
     SET_CLEAR_SETID) /* what rides in the metadata: access times do not */

/* Without the group's right to execute, set-group-id means a lock, and stays. */
static uint32_t setid_bits(uint32_t mode)
{
    if ((mode & S_IFMT) != S_IFREG)
        return 0;
    return mode & (S_ISUID | (mode & S_IXGRP ? S_ISGID : 0u));
}

struct setting { /* one cache_set_attributes() */
    const struct handle *handle;
    unsigned mask;
    const struct attributes *wanted;
};

static int apply_setting(void *context, const struct inode *inode, struct wanted *next)
{
    const struct setting *setting = context;
    unsigned mask = setting->mask;
    const struct attributes *wanted = setting->wanted;
    struct attributes *now = &next->attributes;
    int64_t now_ns = clock_wall_ns();

    if (mask & SET_MODE)
        now->mode = (now->mode & S_IFMT) | (wanted->mode & 07777);
    if (mask & SET_CLEAR_SETID)
        now->mode &= ~setid_bits(inode->type | now->mode);
    if (mask & SET_UID)
        now->uid = wanted->uid;
    if (mask & SET_GID)
        now->gid = wanted->gid;
    if (mask & SET_ATIME)
        now->atime_ns = attr_clamp_time(wanted->atime_ns);
    if (mask & SET_ATIME_NOW)
        now->atime_ns = now_ns;
    if (mask & SET_MTIME)
        now->mtime_ns = attr_clamp_time(wanted->mtime_ns);
    if (mask & SET_MTIME_NOW)
        now->mtime_ns = now_ns;
    if (mask & (SET_MTIME | SET_MTIME_NOW))
        next->mtime_explicit = true;
    now->ctime_ns = mask & SET_CTIME ? wanted->ctime_ns : now_ns;
    return 0;
}

static int prepare(const struct inode *inode, attributes_apply *apply, void *context, struct wanted *next)
{
    wanted_copy(next, &inode->wanted);
    next->attribute_version++;
    return apply(context, inode, next);
}

/* A directory's attributes ride on its marker. The root's stay in memory where it has no key. After a failure they are
 * what they were. */
static int change_directory(struct inode *inode, struct waiter *waiter, attributes_apply *apply,
                            void *context)
{
    struct cache *cache = inode->cache;
    struct asking *asking = NULL;
    WANTED_SCOPED before = {0};
    WANTED_SCOPED next = {0};
    AFTERMATH_SCOPED(aftermath, cache);
    int rc = 0;

    lock_take(&cache->names.lock);
    if (inode->parent)
        rc = asking_take_own_locked(&cache->names, inode, waiter, &aftermath, &asking);
    lock_drop(&cache->names.lock);
    if (rc < 0)
        return rc;
    lock_take(&inode->lock);
    rc = prepare(inode, apply, context, &next);
    bool changed = rc == 0;
    if (changed) {
        wanted_copy(&before, &inode->wanted);
        wanted_move(&inode->wanted, &next);
    }
    lock_drop(&inode->lock);
    if (changed && inode != cache->names.root)
        rc = marker_write(inode, "set attributes", waiter);
    lock_take(&inode->lock);
    if (changed && rc < 0)
        wanted_move(&inode->wanted, &before);
    else if (changed)
        inode_attributes_sent_locked(inode, inode->wanted.attribute_version);
    lock_drop(&inode->lock);
    lock_take(&cache->names.lock);
    asking_drop_locked(&cache->names, asking, &aftermath);
    lock_drop(&cache->names.lock);
    return rc;
}

/* Its marker goes up behind. */
static int change_directory_behind(struct inode *inode, attributes_apply *apply, void *context)
{
    {
        WANTED_SCOPED next = {0};
        LOCK_SCOPED(&inode->cache->names.lock);
        LOCK_SCOPED(&inode->lock);
        int rc = recording_open_locked(inode);
        if (rc == 0)
            rc = prepare(inode, apply, context, &next);
        if (rc == 0)
            rc = recording_attributes_locked(inode, &next);
        if (rc < 0)
            return rc;
        wanted_move(&inode->wanted, &next);
        if (!inode->orphan)
            uploader_note_dirty_locked(inode);
    }
    uploader_publish(inode);
    return change_commit(inode->cache);
}

static bool sent_later(const struct inode *inode)
{
    return inode->orphan || inode->wanted.content_version != inode->remote.content_version;
}

/* Nobody else is going to ask for it: now, or behind. */
static int send(struct inode *inode, struct waiter *waiter)
{
    if (inode->cache->config.durability == DURABILITY_SYNC)
        return uploader_sync_wait(inode, waiter);
    uploader_publish(inode);
    return 0;
}

/* Recorded, and sent when somebody asks. */
static int change_here(struct inode *inode, attributes_apply *apply, void *context, bool *ret_sent_later)
{
    WANTED_SCOPED next = {0};
    int rc = recording_take(inode);

    if (rc < 0)
        return rc;
    rc = prepare(inode, apply, context, &next);
    if (rc == 0)
        rc = recording_attributes_locked(inode, &next);
    if (rc == 0) {
        wanted_move(&inode->wanted, &next);
        inode->changed_ms = clock_ms();
        if (!inode->orphan)
            uploader_note_dirty_locked(inode);
    }
    *ret_sent_later = sent_later(inode);
    lock_drop(&inode->lock);
    return rc;
}

static int change_file(struct inode *inode, struct waiter *waiter, attributes_apply *apply, void *context)
{
    bool later;
    int rc = change_here(inode, apply, context, &later);

    return rc == 0 && !later ? send(inode, waiter) : rc;
}

static bool has_size(struct inode *inode, uint64_t size)
{
    LOCK_SCOPED(&inode->lock);
    return inode->wanted.attributes.size == size;
}

/* ftruncate changes the times also where it changes nothing else (truncate need not); what is unsent has got them already. They go up
 * at the close. */
static int touch_clean(struct inode *inode)
{
    lock_take(&inode->lock);
    bool clean = inode->wanted.content_version == inode->remote.content_version;
    lock_drop(&inode->lock);
    struct setting setting = {.mask = SET_MTIME_NOW};
    return clean ? change_here(inode, apply_setting, &setting, &clean) : 0;
}

int attributes_change(struct inode *inode, struct waiter *waiter, attributes_apply *apply, void *context)
{
    if (inode->type != S_IFDIR)
        return change_file(inode, waiter, apply, context);
    if (change_goes_behind(inode->cache) && inode != inode->cache->names.root)
        return change_directory_behind(inode, apply, context);
    return change_directory(inode, waiter, apply, context);
}

static int set_size(struct inode *inode, const struct handle *handle, uint64_t size, struct waiter *waiter)
{
    bool wait;
    int rc;

    if (inode->type != S_IFREG)
        return inode->type == S_IFDIR ? -EISDIR : -EINVAL;
    bool same = handle && size > 0 && has_size(inode, size);
    rc = content_truncate(inode, waiter, size);
    if (rc == 0 && same)
        rc = touch_clean(inode);
    if (rc < 0 || handle)
        return rc;
    lock_take(&inode->lock);
    wait = !inode->orphan && inode->write_opens == inode->closing_opens;
    lock_drop(&inode->lock);
    return wait ? send(inode, waiter) : 0;
}

static bool only_here(const struct inode *inode, unsigned mask)
{
    return !(mask & SET_SENT) && !(mask & SET_SIZE) && inode;
}

static void set_access_time(struct inode *inode, unsigned mask, const struct attributes *wanted)
{
    LOCK_SCOPED(&inode->lock);
    struct attributes *now = &inode->wanted.attributes;
    now->ctime_ns = clock_wall_ns();
    now->atime_ns = mask & SET_ATIME_NOW ? now->ctime_ns : attr_clamp_time(wanted->atime_ns);
}

/* Without a waiter only what needs no request: a file that is sent later anyway. */
bool attributes_must_wait(struct inode *inode, unsigned mask, const struct handle *handle)
{
    if (inode->type == S_IFDIR)
        return inode != inode->cache->names.root &&
               (!change_goes_behind(inode->cache) || change_must_wait(inode->cache, NULL));
    if (inode->cache->config.durability != DURABILITY_SYNC)
        return false;
    LOCK_SCOPED(&inode->lock);
    if (mask & SET_SIZE &&
        (inode->writers_held || (!handle && inode->write_opens == inode->closing_opens && !inode->orphan)))
        return true;
    return (mask & SET_SENT) && !sent_later(inode);
}

static int set_once(void *context, struct inode *inode, struct waiter *waiter)
{
    struct setting *setting = context;
    unsigned mask = setting->mask;
    int rc = mask & SET_SIZE ? set_size(inode, setting->handle, setting->wanted->size, waiter) : 0;

    if (rc == 0 && mask & SET_SENT)
        rc = attributes_change(inode, waiter, apply_setting, setting);
    else if (rc == 0 && mask & (SET_ATIME | SET_ATIME_NOW))
        set_access_time(inode, mask, setting->wanted);
    return rc;
}

/* Unlinked by us and still open: what is set stays here. */
static bool outlives_name(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->opens > 0 && !inode->lost;
}

int attributes_try(struct inode *inode, struct waiter *waiter, attributes_once *once, void *context)
{
    int rc = 0;

    for (int tries = 0; tries < SET_TRIES; tries++) {
        rc = names_revalidate(inode, waiter); /* on top of what stands there now */
        if ((rc == -ENOENT || rc == -ESTALE) && outlives_name(inode))
            rc = 0;
        if (rc == 0)
            rc = once(context, inode, waiter);
        if (rc != -ESTALE || !waiter)
            break;
        if (upload_await_end(inode, waiter) < 0)
            return -EINTR;
    }
    return rc == -ETIMEDOUT ? -EIO : rc;
}

int cache_set_attributes(struct cache *cache, struct waiter *waiter, struct inode *inode,
                         struct handle *handle, unsigned mask, const struct attributes *wanted,
                         struct attributes *ret_attributes)
{
    struct setting setting = {handle, mask, wanted};
    int64_t valid_ms;

    if (cache->config.read_only)
        return -EROFS;
    if (!waiter && !only_here(inode, mask) && attributes_must_wait(inode, mask, handle))
        return -EAGAIN;
    int rc = overlay_wait(cache->overlay, inode, waiter);
    if (rc == 0)
        rc = attributes_try(inode, waiter, set_once, &setting);
    if (rc == 0)
        read_out(inode, ret_attributes, &valid_ms);
    return rc;
}

int cache_clear_setid(struct cache *cache, struct waiter *waiter, struct inode *inode, struct handle *handle)
{
    struct attributes none = {0}, now;

    inode = inode ? inode : handle->inode;
    lock_take(&inode->lock);
    bool any = setid_bits(inode->type | inode->wanted.attributes.mode);
    lock_drop(&inode->lock);
    return any ? cache_set_attributes(cache, waiter, inode, handle, SET_CLEAR_SETID, &none, &now) : 0;
}
