/* Where a symlink points to (cache.h: readlink): told from memory where the link was made here, else the body of its object. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/core.h"
#include "cache/server.h"

static int refuse(const char *key, const char *words)
{
    log_warn("readlink of %s: it says that it is a symlink, and %s: returned EIO", key, words);
    return -EIO;
}

/* At most PATH_MAX bytes are asked for, whatever there is. */
static int fetch(struct inode *inode, const char *key, const struct identity *identity, struct waiter *waiter,
                 char *into)
{
    struct store_call call = server_call(inode->cache, STORE_GET, key);
    struct iovec piece = {into, identity->size};

    call.if_match = identity->etag;
    call.length = identity->size;
    call.into = &piece;
    call.into_count = 1;
    int rc = server_wait(inode->cache, "readlink", &call, -ESTALE, waiter);
    if (rc == 0 && call.received != identity->size)
        rc = refuse(key, "less came than it has");
    else if (rc == 0 && strlen(into) != identity->size)
        rc = refuse(key, "has a NUL in its target");
    store_call_release(&call);
    if (rc == -ESTALE) { /* replaced by another client: asked anew at the next lookup */
        LOCK_SCOPED(&inode->lock);
        inode->remote.confirmed_ms = 0;
    }
    return rc;
}

static int fetch_target(struct inode *inode, const char *key, const struct identity *identity,
                        struct waiter *waiter, char **ret_target)
{
    if (!key)
        return -ENOENT;
    if (identity->size == 0)
        return refuse(key, "is empty");
    if (identity->size >= PATH_MAX)
        return refuse(key, "is longer than a path can be");
    char *target = xcalloc(1, identity->size + 1);
    int rc = fetch(inode, key, identity, waiter, target);
    if (rc == 0)
        *ret_target = target;
    else
        free(target);
    return rc;
}

int cache_readlink(struct cache *cache, struct waiter *waiter, struct inode *inode, char **ret_target)
{
    int rc;

    (void)cache;
    if (inode->type != S_IFLNK)
        return -EINVAL;
    rc = names_revalidate(inode, waiter);
    if (rc < 0)
        return rc;
    lock_take(&inode->lock);
    STRING_SCOPED *key = inode->remote.key ? xstrdup(inode->remote.key) : NULL;
    struct identity identity = inode->remote.identity;
    if (inode->target)
        *ret_target = xstrdup(inode->target);
    bool known = inode->target;
    lock_drop(&inode->lock);
    if (known)
        return 0;
    return waiter ? fetch_target(inode, key, &identity, waiter, ret_target) : -EAGAIN;
}
