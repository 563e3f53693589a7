/* What is known of the bucket is forgotten, and asked for anew when it is looked at (cache.h). */
#include <string.h>

#include "cache/core.h"
#include "cache/forest.h"
#include "cache/recall.h"

static void doubt_locked(struct inode *inode, struct aftermath *aftermath)
{
    lock_take(&inode->lock);
    inode->remote.confirmed_ms = inode->remote.marker_ms = 0;
    bool overlays = inode_overlays_locked(inode);
    lock_drop(&inode->lock);
    if (!overlays)
        aftermath_notify(aftermath, inode->id, NULL);
    if (inode->parent)
        aftermath_notify(aftermath, inode->parent->id, inode->name);
    inode->listed_ms = 0;
    list_for_each (at, &inode->children)
        doubt_locked(container_of(at, struct inode, sibling), aftermath);
}

/* What the catalog has of a file would come back when the tree forgets that it is doubted. */
static void forget_file_locked(struct inode *file)
{
    struct inode *parent = file->parent;

    recall_gone_locked(parent, file->name);
    recall_doubt_locked(parent); /* a name that the catalog lacks does not exist where all was listed */
    parent->listed_ms = 0;
    LOCK_SCOPED(&file->lock);
    file->noted = false;
}

/* As far down the path as it is known here; *ret_rest is what is left of it. */
static struct inode *find_deepest_locked(struct names *names, const char *path, const char **ret_rest)
{
    struct inode *inode = names->root;

    for (*ret_rest = path; **ret_rest; *ret_rest += **ret_rest == '/') {
        size_t length = strcspn(*ret_rest, "/");
        STRING_SCOPED *name = xstrndup(*ret_rest, length);
        struct inode *child = *name ? names_find_locked(names, inode, name) : inode;
        if (!child)
            break;
        inode = child;
        *ret_rest += length;
    }
    return inode;
}

void cache_refresh(struct cache *cache, const char *path)
{
    struct names *names = &cache->names;
    const char *rest;
    AFTERMATH_SCOPED(aftermath, cache);
    LOCK_SCOPED(&names->lock);
    struct inode *inode = find_deepest_locked(names, path, &rest);

    cache->refreshes++;
    forest_clear_locked(cache);
    for (size_t i = 0; i < NAMES_ABSENT; i++)
        names->absent[i].parent_id = 0;
    if (inode->type == S_IFDIR)
        recall_forget_below_locked(inode);
    else if (inode->parent)
        forget_file_locked(inode);
    if (*rest) {
        STRING_SCOPED *name = xstrndup(rest, strcspn(rest, "/"));
        aftermath_notify(&aftermath, inode->id, name); /* it may be known to the kernel as missing */
    } else {
        doubt_locked(inode, &aftermath);
    }
}
