/* Extended attributes asked for and set (cache.h). */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "cache/attributes.h"
#include "cache/overlay.h"
#include "cache/server.h"
#include "cache/xattr.h"

#define SECURITY      "security."
#define STORAGE_CLASS "x-amz-storage-class"
#define VERSION_ID    "x-amz-version-id"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* ---- What is known of the object. ---- */

/* Listings without metadata, where nobody is to ask further (attributes=listing). */
static bool knows_meta_locked(const struct inode *inode)
{
    return !inode->remote.exists || inode->remote.headers_known ||
           (inode->attributes_known && !inode->cache->config.list_attributes_only);
}

static bool knows_headers_locked(const struct inode *inode)
{
    return !inode->remote.exists || inode->remote.headers_known;
}

static int take_object(struct inode *inode, const struct store_object *object)
{
    LOCK_SCOPED(&inode->cache->names.lock);
    LOCK_SCOPED(&inode->lock);
    struct remote *remote = &inode->remote;
    const char *id = store_fields_get(&remote->meta, SERVER_ID_FIELD);

    if (!remote->exists || strcmp(remote->key, object->key) != 0 ||
        !server_is_version(object, &remote->identity, id))
        return -ESTALE;
    store_fields_copy(&remote->meta, &object->meta);
    store_fields_copy(&remote->headers, &object->headers);
    remote->headers_known = true;
    inode->noted = false; /* the catalog, where it has no metadata yet */
    return 0;
}

/* Asks the server, unless that is known already. -ESTALE: another version stands there. */
static int learn(struct inode *inode, bool (*knows_locked)(const struct inode *inode), struct waiter *waiter)
{
    STRING_SCOPED *key = NULL;

    lock_take(&inode->lock);
    if (!knows_locked(inode))
        key = xstrdup(inode->remote.key);
    lock_drop(&inode->lock);
    if (!key)
        return 0;
    if (!waiter)
        return -EAGAIN;
    struct store_call head = server_call(inode->cache, STORE_HEAD, key);
    int rc = server_wait(inode->cache, "look for metadata", &head, -ENOENT, waiter);
    if (rc == 0)
        rc = take_object(inode, &head.object);
    store_call_release(&head);
    return rc == -ENOENT ? -ESTALE : rc;
}

/* What nobody has looked at yet is looked at; what is known is not looked at again: that names are true still is asked by who
 * looks them up. */
static int become_known(struct inode *inode, struct waiter *waiter)
{
    lock_take(&inode->lock);
    bool known = inode->attributes_known || inode->orphan || inode == inode->cache->names.root;
    lock_drop(&inode->lock);
    return known ? 0 : names_look_again(inode, waiter);
}

/* ---- What is virtual. ---- */

static int tell_etag(const struct inode *inode, struct buf *out)
{
    const char *etag = inode->remote.identity.etag;
    size_t length = strlen(etag);
    bool quoted = length > 1 && etag[0] == '"' && etag[length - 1] == '"';

    if (!inode->remote.exists || !length)
        return -ENODATA;
    buf_add(out, etag + quoted, length - 2 * quoted);
    return 0;
}

static int tell_header(const struct inode *inode, const char *name, const char *otherwise, struct buf *out)
{
    const char *value = store_fields_get(&inode->remote.headers, name);

    value = value ? value : otherwise;
    if (!inode->remote.exists || !value)
        return -ENODATA;
    buf_add_string(out, value);
    return 0;
}

static int tell_storage_class(const struct inode *inode, struct buf *out)
{
    return tell_header(inode, STORAGE_CLASS, "STANDARD", out); /* the one that S3 does not name */
}

static int tell_version_id(const struct inode *inode, struct buf *out)
{
    return tell_header(inode, VERSION_ID, NULL, out);
}

static int tell_state(const struct inode *inode, struct buf *out)
{
    if (inode->orphan)
        buf_add_string(out, "removed");
    else if (!inode_dirty_locked(inode))
        buf_add_string(out, "clean");
    else if (inode->upload_busy)
        buf_add_string(out, "sending");
    else if (inode->parked_rc)
        buf_printf(out, "parked: %s", inode->parked_why);
    else
        buf_add_string(out, "unsent");
    return 0;
}

/* Where its object stands, or is to stand. */
static int tell_key(struct inode *inode, struct buf *out)
{
    lock_take(&inode->lock);
    bool exists = inode->remote.exists;
    if (exists)
        buf_add_string(out, inode->remote.key);
    lock_drop(&inode->lock);
    if (exists)
        return 0;
    int rc = names_key(inode, out);
    return rc < 0 || !out->length ? -ENODATA : 0;
}

static const struct {
    const char *name;
    bool of_headers;
    int (*tell_locked)(const struct inode *inode, struct buf *out); /* NULL: tell_key */
} virtuals[] = {
    {XATTR_VIRTUAL "etag", false, tell_etag},
    {XATTR_VIRTUAL "key", false, NULL},
    {XATTR_VIRTUAL "state", false, tell_state},
    {XATTR_VIRTUAL "storage-class", true, tell_storage_class},
    {XATTR_VIRTUAL "version-id", true, tell_version_id},
};

static int get_virtual(struct inode *inode, const char *name, struct waiter *waiter, struct buf *ret_value)
{
    size_t i = 0, count = sizeof virtuals / sizeof virtuals[0];

    while (i < count && strcmp(virtuals[i].name, name) != 0)
        i++;
    if (i == count)
        return -ENODATA;
    if (!virtuals[i].tell_locked)
        return tell_key(inode, ret_value);
    int rc = virtuals[i].of_headers ? learn(inode, knows_headers_locked, waiter) : 0;
    if (rc < 0)
        return rc;
    LOCK_SCOPED(&inode->lock);
    return virtuals[i].tell_locked(inode, ret_value);
}

/* ---- Asked for. ---- */

/* What others wrote may be long: read without the lock. */
static void read_own(struct inode *inode, struct xattrs *ret_xattrs)
{
    lock_take(&inode->lock);
    const char *field = inode_xattrs_locked(inode);
    STRING_SCOPED *copy = field ? xstrdup(field) : NULL;
    lock_drop(&inode->lock);
    xattrs_read(copy, ret_xattrs);
}

static int get_own(struct inode *inode, const char *name, struct buf *ret_value)
{
    XATTRS_SCOPED xattrs = {0};

    read_own(inode, &xattrs);
    const struct xattr *found = xattrs_find(&xattrs, name);
    if (!found)
        return -ENODATA;
    buf_add(ret_value, found->value, found->length);
    return 0;
}

int cache_xattr_get(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name,
                    struct buf *ret_value)
{
    (void)cache;
    if (begins(name, SECURITY))
        return -ENODATA; /* the kernel asks for capabilities at writes: they must not wait for us */
    if (!begins(name, XATTR_USER))
        return -EOPNOTSUPP;
    int rc = become_known(inode, waiter);
    if (rc < 0)
        return rc;
    return xattr_is_virtual(name) ? get_virtual(inode, name, waiter, ret_value)
                                  : get_own(inode, name, ret_value);
}

int cache_xattr_list(struct cache *cache, struct waiter *waiter, struct inode *inode, struct buf *ret_names)
{
    XATTRS_SCOPED xattrs = {0};
    int rc = become_known(inode, waiter);

    (void)cache;
    if (rc < 0)
        return rc;
    read_own(inode, &xattrs);
    for (size_t i = 0; i < xattrs.count; i++)
        if (xattr_is_shown(xattrs.all[i].name))
            buf_add(ret_names, xattrs.all[i].name, strlen(xattrs.all[i].name) + 1);
    return 0;
}

/* ---- Set. ---- */

struct setting { /* one call */
    const char *name;
    const void *value; /* NULL: it is removed */
    size_t size;
    int flags;
};

/* On top of what there is; what of that cannot be read goes. */
static int apply(void *context, const struct inode *inode, struct wanted *next)
{
    const struct setting *setting = context;
    XATTRS_SCOPED xattrs = {0};

    xattrs_read(inode_xattrs_locked(inode), &xattrs);
    int rc = setting->value
                 ? xattrs_set(&xattrs, setting->name, setting->value, setting->size, setting->flags)
                 : xattrs_remove(&xattrs, setting->name);
    if (rc < 0)
        return rc;
    STRING_SCOPED *field = xattrs_field(&xattrs);
    if (setting->value && !xattr_fits(&inode->remote.meta, field))
        return -ENOSPC;
    char *before = next->xattrs;
    next->xattrs = field;
    field = before;
    next->attributes.ctime_ns = clock_wall_ns();
    return 0;
}

static int set_once(void *context, struct inode *inode, struct waiter *waiter)
{
    int rc = learn(inode, knows_meta_locked, waiter);

    return rc < 0 ? rc : attributes_change(inode, waiter, apply, context);
}

static int change(struct cache *cache, struct waiter *waiter, struct inode *inode, struct setting *setting)
{
    if (cache->config.read_only)
        return -EROFS;
    if (!begins(setting->name, XATTR_USER) || inode == cache->names.root)
        return -EOPNOTSUPP;
    if (xattr_is_virtual(setting->name) || (inode->type != S_IFREG && inode->type != S_IFDIR))
        return -EPERM;
    if (!waiter && attributes_must_wait(inode, SET_CTIME, NULL))
        return -EAGAIN;
    int rc = overlay_wait(cache->overlay, inode, waiter);
    return rc < 0 ? rc : attributes_try(inode, waiter, set_once, setting);
}

int cache_xattr_set(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name,
                    const void *value, size_t size, int flags)
{
    struct setting setting = {name, value ? value : "", size, flags};

    return change(cache, waiter, inode, &setting);
}

int cache_xattr_remove(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name)
{
    struct setting setting = {.name = name};

    return change(cache, waiter, inode, &setting);
}
