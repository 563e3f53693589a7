#include "cache/publishing.h"

#include <stdlib.h>

#include "base/clock.h"

static int64_t due_locked(const struct inode *inode)
{
    int64_t patience_ms = PUBLISHING_TIMES * inode->publication_ms;
    if (patience_ms < PUBLISHING_BUSY_MS)
        patience_ms = PUBLISHING_BUSY_MS;
    int64_t quiet_ms = inode->changed_ms + inode->cache->config.publish_after_ms;
    int64_t busy_ms = inode->unsent_since_ms + patience_ms;
    return quiet_ms < busy_ms ? quiet_ms : busy_ms;
}

/* CLOCK_NEVER: not by time, or asked for already. */
static int64_t look_at(struct inode *inode, bool large, int64_t now)
{
    lock_take(&inode->lock);
    bool open = inode->write_opens && inode_dirty_locked(inode) &&
                !inode->orphan; /* however often it is closed between */
    bool may = large || inode->wanted.attributes.size <= PUBLISHING_BYTES_MAX;
    bool waits = open && may && !inode->publish_open && !inode->parked_rc && !inode->upload_busy;
    int64_t due_ms = waits ? due_locked(inode) : CLOCK_NEVER;
    lock_drop(&inode->lock);
    if (due_ms > now)
        return due_ms;
    uploader_publish_open(inode);
    return CLOCK_NEVER;
}

int64_t publishing_ring(struct uploader *uploader)
{
    int64_t now = clock_ms(), after_ms = uploader->cache->config.publish_after_ms;
    struct inode **inodes;
    size_t count;
    if (after_ms <= 0)
        return CLOCK_NEVER;
    if (now < uploader->publish_ms)
        return uploader->publish_ms;
    /* What is opened or changed from here on is due no sooner. */
    uploader->publish_ms = now + after_ms;
    bool large = uploader_copies_parts(uploader);
    uploader_list_unsent(uploader, &inodes, &count);
    for (size_t i = 0; i < count; i++) {
        int64_t due_ms = look_at(inodes[i], large, now);
        if (due_ms < uploader->publish_ms)
            uploader->publish_ms = due_ms;
        inode_unref(inodes[i]);
    }
    free(inodes);
    return uploader->publish_ms;
}
