#include "cache/settling.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/server.h"

static void take_ours_locked(struct inode *inode, const struct store_object *object)
{
    struct remote *remote = &inode->remote;

    free(remote->key);
    remote->key = xstrdup(inode->maybe_key);
    remote->exists = true;
    server_identity(object, &remote->identity);
    store_fields_copy(&remote->meta, &object->meta);
    store_fields_copy(&remote->headers, &object->headers);
    remote->headers_known = true;
    remote->confirmed_ms = clock_ms();
    /* Which versions it holds is not said: what is wanted goes up again, over it. Until then all that is read of the old
     * base is here: it was brought in before anything was sent. */
}

static void record(struct inode *inode, const struct store_object *object)
{
    LOCK_SCOPED(&inode->lock);
    const char *id = object ? store_fields_get(&object->meta, SERVER_ID_FIELD) : NULL;

    if (id && strcmp(id, inode->maybe_id) == 0)
        take_ours_locked(inode, object);
    inode_set_maybe_locked(inode, NULL, NULL);
}

static int ask(struct inode *inode, const char *what, struct waiter *waiter)
{
    STRING_SCOPED *key = NULL;

    lock_take(&inode->lock);
    key = inode->maybe_key ? xstrdup(inode->maybe_key) : NULL;
    lock_drop(&inode->lock);
    if (!key)
        return 0;
    struct store_call head = server_call(inode->cache, STORE_HEAD, key);
    int rc = server_wait(inode->cache, what, &head, -ENOENT, waiter);
    if (rc == 0 || rc == -ENOENT)
        record(inode, rc == 0 ? &head.object : NULL);
    store_call_release(&head);
    return rc == -ENOENT ? 0 : rc;
}

int settling_hold(struct inode *inode, const char *what, struct waiter *waiter)
{
    int rc = upload_hold(inode, waiter);

    if (rc < 0)
        return rc;
    rc = ask(inode, what, waiter);
    if (rc < 0)
        upload_unhold(inode);
    return rc;
}
