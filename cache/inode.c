#include "cache/inode.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/content.h"
#include "cache/hole.h"
#include "cache/resuming.h"
#include "cache/xattr.h"

#define SECOND_NS  INT64_C(1000000000)
#define UNIT_BYTES 512 /* of st_blocks */

bool identity_equal(const struct identity *a, const struct identity *b)
{
    if (a->size != b->size || strcmp(a->etag, b->etag) != 0)
        return false;
    if (a->modified_ns == 0 || b->modified_ns == 0)
        return true;
    return a->modified_ns / SECOND_NS == b->modified_ns / SECOND_NS;
}

struct inode *inode_new(struct cache *cache, uint32_t type, uint64_t number)
{
    struct names *names = &cache->names;
    struct inode *inode = xcalloc(1, sizeof(*inode));

    assert(lock_held(&names->lock));
    assert((type & ~(uint32_t)S_IFMT) == 0 && type != 0);
    inode->cache = cache;
    inode->id = names->next_id++;
    inode->number = number;
    inode->type = type;
    atomic_init(&inode->references, 1);
    list_init(&inode->children);
    list_init(&inode->sibling);
    list_init(&inode->idle);
    list_init(&inode->doomed);
    list_init(&inode->leaving);
    lock_init(&inode->lock, LOCK_INODE, "inode");
    gate_init(&inode->changed);
    inode->wanted.attributes.number = number;
    inode->wanted.attributes.mode = type;
    inode->wanted.attributes.nlink = 1;
    list_init(&inode->syncs);
    list_init(&inode->rereads);
    list_init(&inode->unsent);
    list_init(&inode->poked);
    return inode;
}

void wanted_copy(struct wanted *to, const struct wanted *from)
{
    *to = *from;
    to->xattrs = from->xattrs ? xstrdup(from->xattrs) : NULL;
}

void wanted_move(struct wanted *to, struct wanted *from)
{
    free(to->xattrs);
    *to = *from;
    from->xattrs = NULL;
}

void wanted_release(struct wanted *wanted)
{
    free(wanted->xattrs);
    wanted->xattrs = NULL;
}

struct inode *inode_ref(struct inode *inode)
{
    atomic_fetch_add(&inode->references, 1);
    return inode;
}

static void free_inode(struct inode *inode)
{
    struct names *names = &inode->cache->names;

    content_release(inode);
    assert(list_empty(&inode->children) && list_empty(&inode->idle) && !inode->parent);
    assert(list_empty(&inode->doomed) && list_empty(&inode->leaving) && !inode->local_aside);
    assert(!inode->veiled[0] && !inode->veiled[1] && !inode->busy_key && !inode->keepsake);
    lock_take(&names->lock);
    names_forget_number_locked(names, inode);
    lock_drop(&names->lock);
    if (inode->charged)
        memory_give(inode->cache->config.memory, inode->charged, SHARE_NAMES);
    free(inode->name);
    free(inode->target);
    free(inode->remote.key);
    free(inode->maybe_key);
    free(inode->told_upload);
    free(inode->clone);
    wanted_release(&inode->wanted);
    resuming_free(inode->resumed);
    store_fields_release(&inode->remote.meta);
    store_fields_release(&inode->remote.headers);
    extents_release(&inode->present);
    extents_release(&inode->dirty);
    gate_release(&inode->changed);
    lock_release(&inode->lock);
    free(inode);
}

void inode_unref(struct inode *inode)
{
    if (!inode)
        return;
    int before = atomic_fetch_sub(&inode->references, 1);
    assert(before > 0);
    if (before > 1)
        return;
    lock_assert_none();
    free_inode(inode);
}

uint64_t inode_id(const struct inode *inode)
{
    return inode->id;
}

void inode_set_maybe_locked(struct inode *inode, const char *key, const char *id)
{
    free(inode->maybe_key);
    inode->maybe_key = key ? xstrdup(key) : NULL;
    snprintf(inode->maybe_id, sizeof inode->maybe_id, "%s", id ? id : "");
    inode->maybe_inherited = false;
    inode->maybe_size = inode->maybe_content_version = inode->maybe_attribute_version = 0;
}

bool inode_dirty_locked(const struct inode *inode)
{
    return inode->wanted.content_version != inode->remote.content_version ||
           inode->wanted.attribute_version != inode->remote.attribute_version || inode->displaced;
}

uint64_t inode_body_bytes_locked(const struct inode *inode)
{
    if (inode->type == S_IFREG)
        return inode->wanted.attributes.size;
    return inode->target ? strlen(inode->target) : 0;
}

void inode_attributes_sent_locked(struct inode *inode, uint64_t version)
{
    inode->remote.attribute_version = version;
    if (version == inode->wanted.attribute_version)
        wanted_release(&inode->wanted);
}

const char *inode_xattrs_locked(const struct inode *inode)
{
    return inode->wanted.xattrs ? inode->wanted.xattrs : store_fields_get(&inode->remote.meta, XATTR_FIELD);
}

bool inode_follows_locked(const struct inode *inode)
{
    bool own =
        inode->remote.content_version > 0 || inode->remote.content_version == inode->wanted.content_version;
    return inode->displaced && own;
}

bool inode_overlays_locked(const struct inode *inode)
{
    return inode_dirty_locked(inode) || inode->upload || inode->write_opens;
}

bool inode_conflicts_locked(const struct inode *inode)
{
    bool differs = inode->wanted.content_version != inode->remote.content_version || inode->displaced;
    return differs && inode->parked_rc == -ESTALE;
}

/* Never none where there are bytes: programs take that for a file that is one hole, and do not look. */
static uint64_t count_blocks_locked(const struct inode *inode)
{
    uint64_t bytes = hole_data_bytes_locked(inode);
    if (bytes == 0 && inode->wanted.attributes.size > 0)
        bytes = 1;
    return (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
}

void inode_attributes_locked(const struct inode *inode, struct attributes *ret_attributes)
{
    *ret_attributes = inode->wanted.attributes;
    ret_attributes->number = inode->number;
    ret_attributes->mode = inode->type | (inode->wanted.attributes.mode & 07777);
    ret_attributes->nlink = inode->orphan ? 0 : 1;
    ret_attributes->blocks = (ret_attributes->size + UNIT_BYTES - 1) / UNIT_BYTES;
    if (inode->type == S_IFREG)
        ret_attributes->blocks = count_blocks_locked(inode);
}

void inode_check_locked(const struct inode *inode)
{
    uint64_t size = inode->wanted.attributes.size;

    assert(lock_held(&inode->lock));
    assert(atomic_load(&inode->references) > 0);
    assert((inode->wanted.attributes.mode & S_IFMT) == inode->type);
    assert(inode->wanted.content_version >= inode->remote.content_version);
    assert(inode->wanted.attribute_version >= inode->remote.attribute_version);
    assert(!inode->wanted.xattrs || inode->wanted.attribute_version != inode->remote.attribute_version);
    assert(inode->remote.exists == (inode->remote.key != NULL));
    assert(inode->write_opens <= inode->opens && inode->closing_opens <= inode->write_opens);
    assert(inode->holds >= 0);
    assert(!inode->whole_replacement || inode->base_size == 0);
    assert(!inode->target || inode->type == S_IFLNK);
    if (inode->type != S_IFREG)
        return;
    assert(inode->base_size <= size);
    assert(inode->present.count == 0 || inode->local);
    for (size_t i = 0; i < inode->dirty.count; i++)
        assert(inode->dirty.all[i].end <= size &&
               extents_cover(&inode->present, inode->dirty.all[i].start, inode->dirty.all[i].end));
}

int64_t inode_seen_ms_locked(const struct inode *inode)
{
    const struct remote *remote = &inode->remote;
    bool marker_older = inode->type == S_IFDIR && remote->marker_ms < remote->confirmed_ms;
    return marker_older ? remote->marker_ms : remote->confirmed_ms;
}
