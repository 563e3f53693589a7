#include "cache/observed.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/asking.h"
#include "cache/content.h"
#include "cache/recall.h"
#include "cache/server.h"

static struct attr_defaults get_defaults(const struct cache *cache)
{
    const struct cache_config *config = &cache->config;
    return (struct attr_defaults){config->uid, config->gid, config->file_mode, config->dir_mode};
}

static void read_attributes(const struct cache *cache, const struct store_object *object,
                            struct attributes *ret_attributes)
{
    struct attr_defaults defaults = get_defaults(cache);
    struct store_object bare = {.key = object->key, .size = object->size, .modified_ns = object->modified_ns};

    attr_from_object(cache->config.list_attributes_only ? &bare : object, &defaults, ret_attributes);
}

struct observed observed_file(struct cache *cache, const struct store_object *object, int64_t started_ms)
{
    struct attributes attributes;

    read_attributes(cache, object, &attributes);
    return (struct observed){.type = attributes.mode & S_IFMT,
                             .object = object,
                             .attributes_known = true,
                             .started_ms = started_ms};
}

/* ---- One inode takes what was seen. ---- */

static bool same_fields(const struct store_fields *a, const struct store_fields *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++) {
        const char *value = store_fields_get(b, a->all[i].name);
        same = value && strcmp(value, a->all[i].value) == 0;
    }
    return same;
}

/* An object of the same bytes and id, but of another time, or of one that is not known yet: what we wrote says no time. */
static bool is_rewritten_locked(const struct inode *inode, const struct store_object *object)
{
    const struct remote *remote = &inode->remote;
    struct identity identity;

    server_identity(object, &identity);
    bool timed = remote->identity.modified_ns && identity_equal(&identity, &remote->identity);
    return !timed && object->meta_known && !inode->cache->config.list_attributes_only &&
           !same_fields(&object->meta, &remote->meta);
}

static void take_remote_locked(struct inode *inode, const struct store_object *object)
{
    struct remote *remote = &inode->remote;

    if (!remote->key || strcmp(remote->key, object->key) != 0) {
        free(remote->key);
        remote->key = xstrdup(object->key);
    }
    remote->exists = true;
    inode->noted = false;
    server_identity(object, &remote->identity);
    store_fields_copy(&remote->meta, &object->meta);
    remote->headers_known = object->headers.count > 0;
    store_fields_copy(&remote->headers, &object->headers);
}

static void take_file_locked(struct inode *inode, const struct observed *observed)
{
    read_attributes(inode->cache, observed->object, &inode->wanted.attributes);
    take_remote_locked(inode, observed->object);
    names_set_target_locked(inode, NULL);
    inode->wanted.content_version++;
    inode->remote.content_version = inode->wanted.content_version;
    inode_attributes_sent_locked(inode, inode->wanted.attribute_version);
    inode->wanted.mtime_explicit = false;
    inode->whole_replacement = false;
    inode->attributes_known = observed->attributes_known;
    inode->remote.confirmed_ms = observed->started_ms;
    inode->record_debt = inode->recorded; /* an account that is about to end, or to be told anew */
}

void observed_default_directory_locked(struct inode *inode)
{
    const struct cache *cache = inode->cache;
    struct attributes *attributes = &inode->wanted.attributes;

    attributes->mode = S_IFDIR | (cache->config.dir_mode & 07777);
    attributes->uid = cache->config.uid;
    attributes->gid = cache->config.gid;
    attributes->size = 4096;
    attributes->atime_ns = attributes->mtime_ns = attributes->ctime_ns = cache->started_ns;
}

static void drop_marker_locked(struct inode *inode)
{
    free(inode->remote.key);
    inode->remote.key = NULL;
    inode->remote.exists = false;
    inode->noted = false;
    inode->remote.identity = (struct identity){0};
}

/* Somebody has asked since. */
static bool is_outdated_locked(const struct inode *inode, const struct observed *observed)
{
    return observed->started_ms < inode->remote.confirmed_ms;
}

static bool says_attributes(const struct cache *cache, const struct store_object *object)
{
    return object->meta_known || cache->config.list_attributes_only;
}

static bool is_known_marker_locked(const struct inode *inode, const struct store_object *object)
{
    struct identity identity;

    server_identity(object, &identity);
    return inode->remote.exists && identity_equal(&identity, &inode->remote.identity) &&
           !is_rewritten_locked(inode, object);
}

/* A directory: its marker only carries attributes. Our own time of the last change of an entry outlives a look at an
 * unchanged marker. */
static void take_directory_locked(struct inode *inode, const struct observed *observed)
{
    const struct store_object *object = observed->object;
    bool fresh = !inode->attributes_known;
    bool tells = observed->attributes_known && (fresh || observed->started_ms >= inode->remote.marker_ms);

    if (!is_outdated_locked(inode, observed))
        inode->remote.confirmed_ms = observed->started_ms;
    if (!tells || inode_dirty_locked(inode))
        return;
    bool same = !fresh && object && is_known_marker_locked(inode, object);
    if (object && !same && !says_attributes(inode->cache, object)) {
        inode->remote.marker_ms = 0; /* whoever looks next asks */
        return;
    }
    /* Of which time they are, the catalog does not say. */
    bool timeless = observed->recalled && !inode->cache->config.immutable;
    inode->remote.marker_ms = timeless ? 0 : observed->started_ms;
    inode->noted = inode->noted && inode->attributes_known;
    inode->attributes_known = true;
    if (!object) {
        if (inode->remote.exists)
            drop_marker_locked(inode); /* its attributes stay: they are as good as any */
        return;
    }
    if (same) {
        struct identity identity;
        server_identity(object, &identity);
        inode->noted = inode->noted && inode->remote.identity.modified_ns;
        inode->remote.identity.modified_ns = identity.modified_ns;
        return;
    }
    read_attributes(inode->cache, object, &inode->wanted.attributes);
    take_remote_locked(inode, object);
}

static struct inode *make_inode_locked(struct cache *cache, struct inode *parent, const char *name,
                                       const struct observed *observed, uint64_t number,
                                       struct aftermath *aftermath)
{
    struct inode *inode = names_make_locked(cache, parent, name, observed->type, number, aftermath);
    LOCK_SCOPED(&inode->lock);

    if (observed->type == S_IFDIR) {
        observed_default_directory_locked(inode);
        take_directory_locked(inode, observed);
    } else {
        take_file_locked(inode, observed);
        inode->base_size = observed->type == S_IFREG ? observed->object->size : 0;
    }
    return inode;
}

/* ---- Over what is known. ---- */

bool observed_unsent_below_locked(struct inode *inode)
{
    lock_take(&inode->lock);
    bool unsent = inode_overlays_locked(inode);
    lock_drop(&inode->lock);
    if (unsent)
        return true;
    list_for_each (at, &inode->children) {
        if (observed_unsent_below_locked(container_of(at, struct inode, sibling)))
            return true;
    }
    return false;
}

static void lose_name_locked(struct inode *inode, struct aftermath *aftermath)
{
    aftermath_notify(aftermath, inode->parent->id, inode->name);
    names_orphan_locked(inode, true, aftermath);
}

static struct inode *replace_locked(struct cache *cache, struct inode *old, const struct observed *observed,
                                    struct aftermath *aftermath)
{
    struct inode *parent = old->parent;
    STRING_SCOPED *name = xstrdup(old->name);
    uint64_t number = old->number;
    bool renamed = old->renamed;
    struct inode *inode;

    lose_name_locked(old, aftermath);
    names_forget_number_locked(&cache->names, old);
    inode = make_inode_locked(cache, parent, name, observed, number, aftermath);
    inode->renamed = renamed;
    return inode;
}

/* A directory does not go under those who work in it. */
static bool in_use_locked(struct inode *inode)
{
    return observed_unsent_below_locked(inode) ||
           (inode->type == S_IFDIR && asking_below_locked(&inode->cache->names, inode));
}

/* What is known of it is newer than what was seen. `known`: if that is more than that there is something. */
static bool is_newer(struct inode *inode, const struct observed *observed, bool known)
{
    LOCK_SCOPED(&inode->lock);
    return is_outdated_locked(inode, observed) && (inode->attributes_known || !known);
}

enum verdict { CONFIRMED, CHANGED, REPLACED, STAYS };

/* The kernel's pages are of the same content. */
static void take_time_locked(struct inode *inode, const struct identity *seen)
{
    if (inode->remote.identity.modified_ns && identity_equal(seen, &inode->remote.identity))
        return;
    if (identity_equal(&inode->cached_identity, &inode->remote.identity))
        inode->cached_identity.modified_ns = seen->modified_ns;
    inode->noted = false;
    inode->remote.identity.modified_ns = seen->modified_ns;
}

/* Another program changed the metadata alone: a copy onto itself, as s3fs makes it, keeps our id. */
static void take_metadata_locked(struct inode *inode, const struct store_object *object)
{
    read_attributes(inode->cache, object, &inode->wanted.attributes);
    store_fields_copy(&inode->remote.meta, &object->meta);
    inode->wanted.mtime_explicit = false;
    inode->record_debt = inode->recorded;
    inode->noted = false;
}

/* Of a version that is the known one. */
static void confirm_file_locked(struct inode *inode, const struct observed *observed)
{
    const struct store_object *object = observed->object;
    struct identity identity;

    server_identity(object, &identity);
    if (is_rewritten_locked(inode, object))
        take_metadata_locked(inode, object);
    take_time_locked(inode, &identity);
    if (!inode->remote.headers_known && object->headers.count)
        store_fields_copy(&inode->remote.meta, &object->meta);
    /* Also anew: tags come and go, and it stays the same version. */
    if (object->headers.count) {
        store_fields_copy(&inode->remote.headers, &object->headers);
        inode->remote.headers_known = true;
    }
    if (!is_outdated_locked(inode, observed))
        inode->remote.confirmed_ms = observed->started_ms;
}

/* Which listings do not. */
static bool tells_headers_locked(const struct inode *inode, const struct store_object *object)
{
    return !inode->remote.headers_known && object->headers.count && !is_rewritten_locked(inode, object);
}

static enum verdict judge_file_locked(struct inode *inode, const struct observed *observed)
{
    bool known = inode->attributes_known, outdated = is_outdated_locked(inode, observed);

    if (inode_overlays_locked(inode))
        return STAYS;
    if (observed->type != inode->type)
        return known && outdated ? STAYS : REPLACED;
    if (!known) { /* nobody has seen it yet */
        take_file_locked(inode, observed);
        content_forget_locked(inode);
        return CONFIRMED;
    }
    const char *id = store_fields_get(&inode->remote.meta, SERVER_ID_FIELD);
    bool same = inode->remote.exists && server_is_version(observed->object, &inode->remote.identity, id);
    if (same && (!outdated || tells_headers_locked(inode, observed->object))) {
        confirm_file_locked(inode, observed);
        return CONFIRMED;
    }
    if (same || outdated)
        return STAYS;
    if (inode->opens || inode->cache->config.immutable) /* there the kernel opens without a word to us */
        return REPLACED;
    take_file_locked(inode, observed);
    content_forget_locked(inode);
    return CHANGED;
}

static struct inode *apply_file_locked(struct cache *cache, struct inode *inode,
                                       const struct observed *observed, struct aftermath *aftermath)
{
    if (inode->type == S_IFDIR)
        return in_use_locked(inode) || is_newer(inode, observed, true)
                   ? inode
                   : replace_locked(cache, inode, observed, aftermath);
    lock_take(&inode->lock);
    enum verdict verdict = judge_file_locked(inode, observed);
    if (verdict == REPLACED)
        inode->lost = true; /* in the hold that saw no writer: nobody opens it any more */
    lock_drop(&inode->lock);
    if (verdict == REPLACED)
        return replace_locked(cache, inode, observed, aftermath);
    if (verdict == CHANGED)
        aftermath_notify(aftermath, inode->id, NULL);
    return inode;
}

static struct inode *apply_directory_locked(struct cache *cache, struct inode *inode,
                                            const struct observed *observed, struct aftermath *aftermath)
{
    if (inode->type != S_IFDIR)
        return observed_unsent_below_locked(inode) || is_newer(inode, observed, true)
                   ? inode
                   : replace_locked(cache, inode, observed, aftermath);
    LOCK_SCOPED(&inode->lock);
    take_directory_locked(inode, observed);
    return inode;
}

static struct inode *lay_over_locked(struct cache *cache, struct inode *parent, const char *name,
                                     struct inode *inode, const struct observed *observed,
                                     struct aftermath *aftermath)
{
    struct names *names = &cache->names;

    if (!observed->type) {
        STRING_SCOPED *kept = xstrdup(name); /* may be the inode's own */
        if (inode && !in_use_locked(inode) && !is_newer(inode, observed, false)) {
            lose_name_locked(inode, aftermath);
            inode = NULL;
        }
        if (inode)
            return inode;
        names_set_absent_locked(names, parent, kept, observed->started_ms);
        recall_gone_locked(parent, kept);
        return NULL;
    }
    if (!inode) {
        bool free = names_number_free_locked(names, observed->number);
        return make_inode_locked(cache, parent, name, observed, free ? observed->number : 0, aftermath);
    }
    if (observed->type == S_IFDIR)
        return apply_directory_locked(cache, inode, observed, aftermath);
    return apply_file_locked(cache, inode, observed, aftermath);
}

struct inode *observed_apply_locked(struct cache *cache, struct inode *parent, const char *name,
                                    const struct observed *observed, struct aftermath *aftermath)
{
    struct inode *known = names_find_locked(&cache->names, parent, name);

    assert(parent == cache->names.root || parent->parent);
    struct inode *inode = lay_over_locked(cache, parent, name, known, observed, aftermath);
    if (!inode)
        return NULL;
    if (inode->type == S_IFDIR && !inode->catalogued)
        inode->catalogued = observed->directory;
    if (observed->recalled && !known)
        inode->noted = true;
    else
        recall_note_locked(inode);
    return inode;
}
