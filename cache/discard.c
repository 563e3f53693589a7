#include "cache/discard.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/log.h"
#include "cache/asking.h"
#include "cache/keepsake.h"
#include "cache/settling.h"

static bool has_hidden(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->remote.exists && keepsake_is_key(inode->cache, inode->remote.key);
}

void discard_locked(struct inode *inode, struct aftermath *aftermath)
{
    struct names *names = &inode->cache->names;
    struct inode *parent = inode->parent;
    STRING_SCOPED *name = xstrdup(inode->name);

    if (has_hidden(inode)) /* nobody will look for it there */
        names_leave_locked(inode, aftermath);
    names_doubt_locked(names, parent, name);
    aftermath_notify(aftermath, parent->id, name);
    names_forget_number_locked(names, inode); /* it stays the name's, whatever stands there next */
    names_orphan_locked(inode, true, aftermath);
}

/* ---- cache_discard: by its path. ---- */

static int say_nothing(const char *path, struct buf *why)
{
    buf_printf(why, "%s: nothing of that name is unsent", path);
    return -ENOENT;
}

/* `give_up`: in the hold that saw no writer, nobody opens it any more. */
static int check(struct inode *inode, const char *path, bool give_up, struct buf *why)
{
    LOCK_SCOPED(&inode->lock);

    if (inode->orphan || !inode_dirty_locked(inode))
        return say_nothing(path, why);
    if (inode->write_opens) {
        buf_printf(why, "%s: it is open for writing: close it first", path);
        return -EBUSY;
    }
    inode->lost = inode->lost || give_up;
    return 0;
}

static int give_up(struct inode *inode, const char *path, struct buf *why)
{
    struct cache *cache = inode->cache;
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&cache->names.lock);
    int rc = inode->parent ? check(inode, path, true, why) : say_nothing(path, why);

    if (rc < 0)
        return rc;
    discard_locked(inode, &aftermath);
    log_warn("discard of %s: its unsent changes were given up", path);
    return 0;
}

static int hold_and_give_up(struct inode *inode, struct waiter *waiter, const char *path, struct buf *why)
{
    int rc = settling_hold(inode, "discard", waiter);

    if (rc < 0) {
        rc = rc == -ETIMEDOUT ? -EIO : rc;
        buf_printf(why, "%s: whether it was sent could not be found out: %s", path, err_name(rc));
        return rc;
    }
    rc = give_up(inode, path, why);
    upload_unhold(inode); /* the uploader sees the orphan, aborts its upload, drops its local file */
    return rc;
}

static struct inode *find(struct cache *cache, const char *path)
{
    LOCK_SCOPED(&cache->names.lock);
    struct inode *inode = names_find_path_locked(&cache->names, path);
    bool file = inode && inode->type != S_IFDIR;

    return file ? inode_ref(inode) : NULL;
}

/* With the marker of its name: renames and removals wait. */
static int discard_marked(struct inode *inode, struct waiter *waiter, const char *path, struct buf *why)
{
    struct names *names = &inode->cache->names;
    struct asking *asking = NULL;
    AFTERMATH_SCOPED(aftermath, inode->cache);

    lock_take(&names->lock);
    int rc = asking_take_own_locked(names, inode, waiter, &aftermath, &asking);
    lock_drop(&names->lock);
    if (rc < 0)
        return rc == -ENOENT ? say_nothing(path, why) : rc;
    rc = hold_and_give_up(inode, waiter, path, why);
    lock_take(&names->lock);
    asking_drop_locked(names, asking, &aftermath);
    lock_drop(&names->lock);
    return rc;
}

int cache_discard(struct cache *cache, struct waiter *waiter, const char *path, struct buf *why)
{
    struct inode *inode = find(cache, path);

    if (!inode)
        return say_nothing(path, why);
    int rc = check(inode, path, false, why);
    if (rc == 0)
        rc = discard_marked(inode, waiter, path, why);
    inode_unref(inode);
    return rc;
}
