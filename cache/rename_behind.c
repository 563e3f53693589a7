/* Renaming at once: the tree changes, what stands in the bucket follows (rename.h). */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/marker.h"
#include "cache/recording.h"
#include "cache/rename.h"
#include "cache/uploader.h"
#include "cache/veil.h"

#define CHAIN_MAX 1000 /* who waits for whom; longer ones count as circles */

/* ---- Circles. ---- */

/* Its object, or what is being sent of it. */
static bool stands_at_locked(struct inode *inode, const char *key)
{
    LOCK_SCOPED(&inode->lock);
    const char *keys[] = {inode->remote.exists ? inode->remote.key : NULL, inode->busy_key, inode->maybe_key};
    bool there = false;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        there = there || (keys[i] && strcmp(keys[i], key) == 0);
    return there;
}

/* Our object goes to `key` when what stands there has gone on, to where something stands that has to go on first ... Does that come
 * back to where ours is? */
static bool goes_round_locked(struct names *names, struct inode *inode, const char *key)
{
    BUF_SCOPED at = BUF_INIT;

    buf_add_string(&at, key);
    for (int i = 0; i < CHAIN_MAX; i++) {
        struct inode *other = veil_displaced_locked(names, at.bytes, inode);
        if (!other || names_key_locked(other, &at) < 0)
            return false;
        if (stands_at_locked(inode, at.bytes))
            return true;
    }
    return true;
}

static int await_circle(struct rename *rename, struct waiter *waiter)
{
    struct names *names = &rename->cache->names;
    int64_t deadline_ms = clock_ms() + rename->cache->config.io_timeout_ms;
    LOCK_SCOPED(&names->lock);
    int rc = 0;

    while (rc == 0 && goes_round_locked(names, rename->inode, rename->to_key.bytes)) {
        veil_ask_back_locked(names, rename->to_key.bytes, VEIL_AT);
        rc = gate_wait_locked(&names->turn, &names->lock, waiter, deadline_ms);
    }
    return rc == -ETIMEDOUT ? -EIO : rc;
}

/* ---- What is no directory. ---- */

/* Another client's object is in the place of what it was made from. 1: it is; -ESTALE: and parts of ours are nowhere else. */
static int find_conflict_locked(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    bool whole = !content_gaps_locked(inode);

    if (!inode_conflicts_locked(inode))
        return 0;
    if (whole)
        return 1;
    log_error("rename of %s: the object that it was made from is gone, and parts of it are not here: "
              "returned ESTALE",
              inode->remote.key ? inode->remote.key : inode->name);
    return -ESTALE;
}

int rename_open_account_locked(struct inode *inode)
{
    if (!inode)
        return 0;
    LOCK_SCOPED(&inode->lock);
    return recording_open_locked(inode);
}

static int record_locked(struct rename *rename, struct inode *target)
{
    int rc = rename_open_account_locked(rename->inode);

    if (rc == 0)
        rc = rename_open_account_locked(target);
    if (rc < 0)
        return rc;
    LOCK_SCOPED(&rename->inode->lock);
    rc = recording_moved_locked(rename->inode, rename->to_parent, rename->to_name, target);
    if (rc == 0)
        rename->inode->exclusive = false; /* a rename overwrites */
    return rc;
}

void rename_displace_locked(struct inode *inode)
{
    veil_update_locked(inode);
    LOCK_SCOPED(&inode->lock);
    inode->rekeyed = inode->upload_busy;
    inode->awaits_key = false;
    if (inode_dirty_locked(inode))
        uploader_note_dirty_locked(inode);
}

void rename_touch_locked(struct rename *rename)
{
    struct names *names = &rename->cache->names;

    names_touched_locked(names, rename->from_parent, rename->from_name);
    names_touched_locked(names, rename->to_parent, rename->to_name);
    marker_bump_locked(rename->from_parent);
    marker_bump_locked(rename->to_parent);
}

static int move_file(struct rename *rename)
{
    struct names *names = &rename->cache->names;
    struct inode *inode = rename->inode;
    AFTERMATH_SCOPED(aftermath, rename->cache);
    LOCK_SCOPED(&names->lock);
    struct inode *target = names_find_locked(names, rename->to_parent, rename->to_name);
    int conflict = find_conflict_locked(inode);
    int rc = conflict < 0 ? conflict : record_locked(rename, target);

    if (rc < 0)
        return rc;
    if (conflict) {
        LOCK_SCOPED(&inode->lock);
        content_part_locked(inode);
    }
    if (rename->from_parent != rename->to_parent)
        marker_keep_behind_locked(rename->from_parent, inode);
    if (target && change_doom_locked(target, true, &aftermath) < 0)
        names_orphan_locked(target, false, &aftermath); /* the journal has said it already */
    names_move_locked(inode, rename->to_parent, rename->to_name, &aftermath);
    rename_displace_locked(inode);
    rename_touch_locked(rename);
    if (conflict)
        names_doubt_locked(names, rename->from_parent, rename->from_name);
    else
        names_set_absent_locked(names, rename->from_parent, rename->from_name, clock_ms());
    return 0;
}

int rename_file_behind(struct rename *rename, struct waiter *waiter)
{
    struct inode *inode = rename->inode;
    int rc = await_circle(rename, waiter);

    if (rc == 0)
        rc = move_file(rename);
    if (rc < 0)
        return rc;
    lock_take(&inode->lock);
    bool closed = !inode->write_opens;
    lock_drop(&inode->lock);
    if (closed)
        uploader_publish(inode);
    else
        uploader_poke(inode);
    if (rename->target)
        uploader_poke(rename->target); /* its upload ends */
    return 0;
}
