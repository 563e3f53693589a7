#include "cache/clone.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/asking.h"
#include "cache/content.h"
#include "cache/journal.h"
#include "cache/keepsake.h"
#include "cache/overlay.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/settling.h"
#include "cache/uploader.h"
#include "cache/veil.h"

struct cloning { /* one call */
    struct cache *cache;
    struct inode *source, *inode;
    uint64_t start, length;

    uint64_t end; /* of what is copied */
    char *source_key;
    struct clone clone;
    uint64_t version;                  /* of the destination, when it was looked at */
    struct keepsake *copy;             /* NULL: not made yet, or given away */
    struct store_fields meta, headers; /* that a rewrite of the destination keeps */
};

/* ---- May it be? ---- */

/* Nobody writes it, and its object is what it is, wherever that stands, and whatever attributes it has. */
static bool is_whole_locked(const struct inode *source)
{
    const struct remote *remote = &source->remote;
    uint64_t size = source->wanted.attributes.size;
    bool whole = remote->exists && remote->identity.size == size && source->base_size == size;

    return whole && !source->dirty.count && !source->write_opens && !source->damaged;
}

static bool find_source(struct cloning *cloning)
{
    const struct cache_config *config = &cloning->cache->config;
    struct inode *source = cloning->source;
    uint64_t length = cloning->length;
    LOCK_SCOPED(&source->lock);
    uint64_t size = source->wanted.attributes.size;

    if (!is_whole_locked(source) || size <= config->part_bytes || cloning->start >= size)
        return false;
    if (length < size - cloning->start && length < config->copy_step_min)
        return false;
    cloning->end = length < size - cloning->start ? cloning->start + length : size;
    free(cloning->source_key);
    cloning->source_key = xstrdup(source->remote.key);
    cloning->clone = (struct clone){.source = source->id, .from = source->remote.identity};
    return true;
}

static bool may_take_locked(const struct inode *inode)
{
    return !inode->orphan && !inode->lost && !inode->damaged && !inode->keepsake;
}

static bool is_empty_locked(const struct cloning *cloning)
{
    const struct inode *inode = cloning->inode;
    return may_take_locked(inode) && inode->wanted.attributes.size == 0 &&
           inode->wanted.content_version == cloning->version;
}

/* What is behind the end of the destination, its object has of the same version of the same source. */
static bool goes_on_locked(const struct cloning *cloning)
{
    const struct inode *inode = cloning->inode;
    const struct clone *clone = inode->clone;

    if (!may_take_locked(inode) || !clone || !inode->remote.exists ||
        inode->wanted.attributes.size != cloning->start || inode->base_size != cloning->start)
        return false;
    return clone->source == cloning->clone.source && identity_equal(&clone->from, &cloning->clone.from) &&
           identity_equal(&clone->to, &inode->remote.identity) &&
           keepsake_is_key(cloning->cache, inode->remote.key);
}

static bool find_destination(struct cloning *cloning)
{
    struct inode *inode = cloning->inode;
    LOCK_SCOPED(&inode->lock);

    cloning->version = inode->wanted.content_version;
    return cloning->start ? goes_on_locked(cloning) : is_empty_locked(cloning);
}

/* What it would go up by. */
static bool is_served(const struct cache *cache)
{
    return cache->config.part_bytes >= PART_BYTES_MIN && uploader_copies_parts(cache->uploader);
}

/* ---- Taking over. ---- */

/* What a rewrite of the destination's object keeps (upload.h: asking). */
static int ask_fields(struct cloning *cloning, struct waiter *waiter)
{
    struct inode *inode = cloning->inode;

    lock_take(&inode->lock);
    bool asks = inode->remote.exists && !inode->remote.headers_known;
    STRING_SCOPED *key = asks ? xstrdup(inode->remote.key) : NULL;
    lock_drop(&inode->lock);
    if (!key)
        return 0;
    struct store_call head = server_call(cloning->cache, STORE_HEAD, key);
    int rc = server_wait(cloning->cache, "copy", &head, -ENOENT, waiter);
    if (rc == 0) {
        store_fields_copy(&cloning->meta, &head.object.meta);
        store_fields_copy(&cloning->headers, &head.object.headers);
    }
    store_call_release(&head);
    return rc == -ENOENT ? 0 : rc;
}

static void set_object_locked(struct cloning *cloning)
{
    struct remote *remote = &cloning->inode->remote;

    free(remote->key);
    remote->key = xstrdup(cloning->copy->key);
    remote->exists = true;
    remote->identity = cloning->copy->identity;
    if (!remote->headers_known) {
        store_fields_copy(&remote->meta, &cloning->meta);
        store_fields_copy(&remote->headers, &cloning->headers);
    }
    remote->headers_known = true;
    remote->content_version = 0;
    remote->confirmed_ms = clock_ms();
    cloning->inode->cached_identity = (struct identity){0}; /* the kernel drops the pages of what it copies */
    cloning->inode->clone = xrealloc(cloning->inode->clone, sizeof(struct clone));
    *cloning->inode->clone = cloning->clone;
}

/* First that it has this object, of which nothing is part of the file yet, then its size: a crash in between leaves it empty. */
static int adopt_locked(struct cloning *cloning, bool replaces)
{
    struct inode *inode = cloning->inode;
    bool patches = replaces && !inode->whole_replacement && !inode->exclusive;

    set_object_locked(cloning);
    int rc = recording_remote_locked(inode);
    if (rc == 0 && patches)
        rc = recording_exclusive_locked(inode);
    inode->exclusive = inode->exclusive || patches;
    return rc < 0 ? rc : content_grow_locked(inode, cloning->end);
}

/* Whether it has an object that is to be left: it, or one of a version that nobody knows, is recorded then. */
static int open_account_locked(const struct cloning *cloning, bool *ret_replaces)
{
    struct inode *inode = cloning->inode;
    LOCK_SCOPED(&inode->lock);
    *ret_replaces = inode->remote.exists;
    return is_empty_locked(cloning) ? recording_open_locked(inode) : -EOPNOTSUPP;
}

/* Its name is marked, its uploads are held. What stood under its name is doomed, and waits for what comes over it (deleter.c). */
static int take_over_locked(struct cloning *cloning, struct aftermath *aftermath)
{
    struct inode *inode = cloning->inode;
    bool replaces;
    int rc = open_account_locked(cloning, &replaces);

    if (rc < 0)
        return rc;
    struct inode *left = replaces ? names_leave_locked(inode, aftermath) : NULL;
    lock_take(&inode->lock);
    bool empty = is_empty_locked(cloning);
    rc = empty ? adopt_locked(cloning, replaces) : -EOPNOTSUPP;
    lock_drop(&inode->lock);
    if (!empty && left)
        names_take_back_locked(left, aftermath); /* its next upload asks that object what a rewrite keeps */
    if (!empty)
        return rc;
    veil_update_locked(inode);
    keepsake_give_locked(cloning->copy, aftermath);
    cloning->copy = NULL;
    return rc;
}

static int take_over(struct cloning *cloning, struct waiter *waiter)
{
    struct names *names = &cloning->cache->names;
    struct asking *asking = NULL;
    AFTERMATH_SCOPED(aftermath, cloning->cache);
    LOCK_SCOPED(&names->lock);
    int rc = asking_take_own_locked(names, cloning->inode, waiter, &aftermath, &asking);

    if (rc < 0)
        return rc;
    rc = take_over_locked(cloning, &aftermath);
    asking_drop_locked(names, asking, &aftermath);
    return rc;
}

void clone_end_locked(struct inode *inode)
{
    free(inode->clone);
    inode->clone = NULL;
}

/* ---- One call. ---- */

static int copy_object(struct cloning *cloning, struct waiter *waiter)
{
    struct copying copying = {.cache = cloning->cache,
                              .what = "copy",
                              .source_key = cloning->source_key,
                              .source = &cloning->clone.from,
                              .by_parts = true};
    int rc = keepsake_copy(&copying, waiter, &cloning->copy);

    if (rc < 0)
        return rc;
    cloning->clone.to = copying.to;
    uploader_count_copied(cloning->cache->uploader, cloning->clone.from.size);
    return 0;
}

/* Once more, where the object of the source has moved meanwhile: after its name, or what was hidden has gone up. */
static int copy_latest(struct cloning *cloning, struct waiter *waiter)
{
    STRING_SCOPED *key = xstrdup(cloning->source_key);
    struct identity identity = cloning->clone.from;
    int rc = copy_object(cloning, waiter);

    if ((rc != -ENOENT && rc != -ESTALE) || !find_source(cloning))
        return rc;
    bool moved = strcmp(key, cloning->source_key) != 0 || !identity_equal(&identity, &cloning->clone.from);
    return moved ? copy_object(cloning, waiter) : rc;
}

static int begin(struct cloning *cloning, struct waiter *waiter)
{
    struct inode *inode = cloning->inode;
    int rc = copy_latest(cloning, waiter);

    if (rc == 0)
        rc = settling_hold(inode, "copy", waiter);
    if (rc < 0)
        return rc;
    rc = ask_fields(cloning, waiter);
    if (rc == 0)
        rc = take_over(cloning, waiter);
    upload_unhold(inode);
    return rc;
}

static int go_on(struct cloning *cloning, struct waiter *waiter)
{
    struct inode *inode = cloning->inode;
    int rc = settling_hold(inode, "copy", waiter);

    if (rc < 0)
        return rc;
    rc = recording_take(inode);
    if (rc == 0) {
        rc = goes_on_locked(cloning) ? content_grow_locked(inode, cloning->end) : -EOPNOTSUPP;
        lock_drop(&inode->lock);
    }
    upload_unhold(inode);
    return rc;
}

static void release(struct cloning *cloning)
{
    keepsake_drop(cloning->copy);
    free(cloning->source_key);
    store_fields_release(&cloning->meta);
    store_fields_release(&cloning->headers);
}

static int run(struct cloning *cloning, struct handle *to, struct waiter *waiter)
{
    int rc = journal_throttle(cloning->cache->journal, waiter);
    if (rc == 0)
        rc = overlay_wait(cloning->cache->overlay, cloning->inode, waiter);
    if (rc == 0 && to->closing)
        content_set_closing(to, false);
    if (rc == 0)
        rc = cloning->start ? go_on(cloning, waiter) : begin(cloning, waiter);
    if (rc == 0 || rc == -EINTR || rc == -EOPNOTSUPP)
        return rc;
    log_info("copy of %s: %s: its bytes are read and written instead", cloning->source_key, err_name(rc));
    return -EOPNOTSUPP;
}

int cache_copy_range(struct cache *cache, struct waiter *waiter, struct handle *from, uint64_t from_offset,
                     struct handle *to, uint64_t to_offset, uint64_t length, uint64_t *ret_length)
{
    struct cloning cloning = {
        .cache = cache, .source = from->inode, .inode = to->inode, .start = to_offset, .length = length};

    if (cache->config.read_only)
        return -EROFS;
    if ((to->flags & O_ACCMODE) == O_RDONLY || (from->flags & O_ACCMODE) == O_WRONLY)
        return -EBADF;
    if (from_offset != to_offset || from->inode == to->inode || to->flags & (O_SYNC | O_DSYNC) ||
        !is_served(cache))
        return -EOPNOTSUPP;
    bool may = find_source(&cloning) && find_destination(&cloning);
    int rc = !may ? -EOPNOTSUPP : !waiter ? -EAGAIN : run(&cloning, to, waiter);
    release(&cloning);
    if (rc == 0)
        *ret_length = cloning.end - cloning.start;
    return rc;
}
