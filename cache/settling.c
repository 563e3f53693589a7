#include "cache/settling.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/recording.h"
#include "cache/server.h"
#include "cache/uploader.h"
#include "cache/veil.h"

static void take_ours_locked(struct inode *inode, const struct store_object *object)
{
    struct remote *remote = &inode->remote;

    free(remote->key);
    remote->key = xstrdup(inode->maybe_key);
    remote->exists = true;
    inode->exclusive = false;
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
    AFTERMATH_SCOPED(aftermath, inode->cache);
    LOCK_SCOPED(&inode->cache->names.lock);
    const char *id = object ? store_fields_get(&object->meta, SERVER_ID_FIELD) : NULL;

    lock_take(&inode->lock);
    bool ours = id && strcmp(id, inode->maybe_id) == 0;
    bool elsewhere = ours && inode->remote.exists && strcmp(inode->remote.key, inode->maybe_key) != 0;
    lock_drop(&inode->lock);
    if (elsewhere)
        names_leave_locked(inode, &aftermath); /* what it had under another name goes too */
    if (ours) /* what stood there before is no more, and nobody's to take over */
        names_undoom_locked(&inode->cache->names, object->key, inode, &aftermath);
    lock_take(&inode->lock);
    if (ours)
        take_ours_locked(inode, object);
    inode_set_maybe_locked(inode, NULL, NULL);
    recording_settled_locked(inode);
    lock_drop(&inode->lock);
    veil_update_locked(inode);
}

int settling_ask(struct inode *inode, const char *what, struct waiter *waiter)
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

int settling_take_late(struct inode *inode, const char *what, struct waiter *waiter)
{
    char id[UPLOAD_ID_MAX];
    BUF_SCOPED key = BUF_INIT;
    struct identity before;
    bool placed = names_key(inode, &key) == 0;
    int rc = 0;

    lock_take(&inode->lock);
    before = inode->remote.identity;
    memcpy(id, inode->late_id, sizeof id);
    bool may_be = id[0] && (inode->remote.exists || (inode->exclusive && placed)) && !inode->maybe_key;
    if (may_be)
        inode_set_maybe_locked(inode, inode->remote.exists ? inode->remote.key : key.bytes, id);
    lock_drop(&inode->lock);
    if (may_be)
        rc = settling_ask(inode, what, waiter);
    LOCK_SCOPED(&inode->lock);
    if (rc < 0) {
        inode_set_maybe_locked(inode, NULL, NULL);
        return rc;
    }
    if (!may_be)
        return 0;
    inode->late_id[0] = '\0';
    bool ours = !identity_equal(&before, &inode->remote.identity);
    if (ours)
        log_info("%s: a request that was given up has arrived after all: ours goes on from there",
                 inode->remote.key);
    return ours;
}

struct late { /* a read has met another version */
    struct job job;
    struct inode *inode; /* a reference */
};

static void run_late(struct job *job)
{
    struct late *late = container_of(job, struct late, job);
    struct inode *inode = late->inode;
    WAITER_SCOPED(waiter);
    int rc = 0;

    if (upload_hold(inode, NULL) == 0) { /* one that runs asks by itself, and the reads go on when it rests */
        rc = settling_take_late(inode, "read", &waiter);
        upload_unhold(inode);
    }
    lock_take(&inode->lock);
    inode->late_asked = false;
    lock_drop(&inode->lock);
    reads_go_on(inode, rc < 0 ? -EIO : 0);
    inode_unref(inode);
    free(late);
}

bool settling_ask_late_locked(struct inode *inode)
{
    struct cache *cache = inode->cache;

    if (!inode->late_id[0] || inode->late_asked || atomic_load(&cache->stopping))
        return inode->late_asked;
    if (inode->upload_busy)
        return true;
    struct late *late = xcalloc(1, sizeof *late);
    late->job.run = run_late;
    late->inode = inode_ref(inode);
    inode->late_asked = pool_post(cache->uploader->jobs, &late->job) == 0; /* ends before the uploader does */
    if (inode->late_asked)
        return true;
    atomic_fetch_sub(&inode->references, 1); /* the caller has one */
    free(late);
    return false;
}

int settling_hold(struct inode *inode, const char *what, struct waiter *waiter)
{
    int rc = upload_hold(inode, waiter);

    if (rc < 0)
        return rc;
    rc = settling_ask(inode, what, waiter);
    if (rc < 0)
        upload_unhold(inode);
    return rc;
}
