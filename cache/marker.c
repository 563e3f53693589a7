#include "cache/marker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/attr.h"
#include "cache/change.h"
#include "cache/observed.h"
#include "cache/recall.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/tagging.h"
#include "cache/veil.h"
#include "cache/xattr.h"

static void record(struct inode *directory, const char *key, const struct identity *identity,
                   const struct store_fields *meta, const struct store_fields *headers,
                   uint64_t attribute_version)
{
    struct names *names = &directory->cache->names;
    LOCK_SCOPED(&names->lock);

    lock_take(&directory->lock);
    free(directory->remote.key);
    directory->remote.key = xstrdup(key);
    directory->remote.exists = true;
    directory->remote.identity = *identity;
    store_fields_copy(&directory->remote.meta, meta);
    store_fields_copy(&directory->remote.headers, headers);
    directory->remote.headers_known = true;
    inode_attributes_sent_locked(directory, attribute_version);
    directory->remote.confirmed_ms = directory->remote.marker_ms = clock_ms();
    directory->attributes_known = true;
    directory->noted = false;
    lock_drop(&directory->lock);
    recall_note_locked(directory);
    if (directory->parent)
        names_touched_locked(names, directory->parent, directory->name);
}

/* Foreign metadata and headers of the marker, where they are not known yet. */
static int learn(struct inode *directory, const char *what, const char *key, struct store_fields *meta,
                 struct store_fields *headers, struct waiter *waiter)
{
    struct store_call head = server_call(directory->cache, STORE_HEAD, key);
    bool known;
    int rc;

    lock_take(&directory->lock);
    known = directory->attributes_known && (!directory->remote.exists || directory->remote.headers_known);
    store_fields_copy(meta, &directory->remote.meta);
    store_fields_copy(headers, &directory->remote.headers);
    lock_drop(&directory->lock);
    if (known)
        return 0;
    rc = server_wait(directory->cache, what, &head, -ENOENT, waiter);
    if (rc == 0) {
        store_fields_copy(meta, &head.object.meta);
        store_fields_copy(headers, &head.object.headers);
    }
    store_call_release(&head);
    return rc == -ENOENT ? 0 : rc;
}

int marker_write(struct inode *directory, const char *what, struct waiter *waiter)
{
    struct cache *cache = directory->cache;
    struct store_fields meta = {0}, headers = {0}, tags = {0};
    struct attributes attributes;
    struct identity identity;
    BUF_SCOPED key = BUF_INIT;
    STRING_SCOPED *xattrs = NULL;
    int rc = names_key(directory, &key);

    if (rc == 0 && !key.length)
        return 0; /* the root of a whole bucket has no key */
    if (rc == 0)
        rc = veil_await_displaced(cache, key.bytes, VEIL_AT, waiter);
    if (rc == 0)
        rc = learn(directory, what, key.bytes, &meta, &headers, waiter);
    if (rc == 0)
        rc = tagging_ask(cache, what, key.bytes, &headers, &tags, waiter);
    lock_take(&directory->lock);
    inode_attributes_locked(directory, &attributes);
    uint64_t version = directory->wanted.attribute_version;
    xattrs = directory->wanted.xattrs ? xstrdup(directory->wanted.xattrs) : NULL;
    lock_drop(&directory->lock);
    attr_to_meta(&attributes, true, &meta);
    xattr_to_meta(xattrs, &meta);
    struct server_small small = {
        .key = key.bytes, .bytes = "", .meta = &meta, .headers = &headers, .tags = &tags};
    if (rc == 0)
        rc = server_put_small(cache, what, &small, &identity, waiter);
    if (rc == 0)
        record(directory, key.bytes, &identity, &meta, &headers, version);
    store_fields_release(&meta);
    store_fields_release(&headers);
    store_fields_release(&tags);
    return rc;
}

int marker_want_locked(struct inode *directory)
{
    LOCK_SCOPED(&directory->lock);
    int rc = recording_open_locked(directory);

    if (rc < 0)
        return rc;
    directory->wanted.content_version++;
    uploader_note_dirty_locked(directory);
    rc = recording_remote_locked(directory);
    if (rc < 0)
        directory->wanted.content_version--;
    return rc;
}

static bool settled_locked(struct names *names, struct inode *child)
{
    if (asking_taken_locked(names, child->parent, child->name))
        return false; /* somebody may be removing it */
    LOCK_SCOPED(&child->lock);
    return child->remote.exists || (child->type == S_IFDIR && child->remote.confirmed_ms);
}

/* The directory stands without `child`: also by a marker that is on its way. */
static bool stands_locked(struct inode *directory, const struct inode *child, bool *ret_known)
{
    struct names *names = &directory->cache->names;

    lock_take(&directory->lock);
    bool marked = directory->remote.exists || inode_dirty_locked(directory);
    *ret_known = directory->attributes_known;
    lock_drop(&directory->lock);
    if (marked || directory == names->root || !directory->parent)
        return true;
    list_for_each (at, &directory->children) {
        struct inode *other = container_of(at, struct inode, sibling);
        if (other != child && settled_locked(names, other))
            return true;
    }
    return false;
}

static bool stands(struct inode *directory, const struct inode *child, bool *ret_known)
{
    LOCK_SCOPED(&directory->cache->names.lock);
    return stands_locked(directory, child, ret_known);
}

void marker_keep_behind_locked(struct inode *directory, const struct inode *child)
{
    bool known;

    if (!stands_locked(directory, child, &known) && known)
        marker_want_locked(directory);
}

static int look_for_marker(struct inode *directory, struct waiter *waiter)
{
    struct cache *cache = directory->cache;
    BUF_SCOPED key = BUF_INIT;
    int64_t started_ms = clock_ms();
    int rc = names_key(directory, &key);

    if (rc < 0)
        return rc;
    struct store_call head = server_call(cache, STORE_HEAD, key.bytes);
    rc = server_wait(cache, "look for a marker", &head, -ENOENT, waiter);
    if (rc == 0 || rc == -ENOENT) {
        AFTERMATH_SCOPED(aftermath, cache);
        LOCK_SCOPED(&cache->names.lock);
        struct observed observed = {.type = S_IFDIR,
                                    .object = rc == 0 ? &head.object : NULL,
                                    .attributes_known = true,
                                    .started_ms = started_ms};
        if (directory->parent)
            observed_apply_locked(cache, directory->parent, directory->name, &observed, &aftermath);
        rc = 0;
    }
    store_call_release(&head);
    return rc;
}

int marker_keep(struct inode *directory, const struct inode *child, struct waiter *waiter)
{
    bool known;
    int rc;

    if (change_goes_behind(directory->cache))
        uploader_publish(directory); /* where its marker is wanted already */
    if (stands(directory, child, &known))
        return 0;
    if (!known) {
        rc = look_for_marker(directory, waiter);
        if (rc < 0 || stands(directory, child, &known))
            return rc;
    }
    return marker_write(directory, "keep the directory", waiter);
}

void marker_bump_locked(struct inode *directory)
{
    LOCK_SCOPED(&directory->lock);
    directory->wanted.attributes.mtime_ns = directory->wanted.attributes.ctime_ns = clock_wall_ns();
}
