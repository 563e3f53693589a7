#include "fs/node.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include <uthash.h>

#include "base/buf.h"
#include "base/log.h"
#include "fs/libfuse.h"

struct node {
    uint64_t id;
    struct inode *inode;
    uint64_t lookups;
    UT_hash_handle by_id;
};

void nodes_init(struct nodes *nodes)
{
    *nodes = (struct nodes){0};
    lock_init(&nodes->lock, LOCK_LEAF, "nodes");
}

void nodes_release(struct nodes *nodes)
{
    struct node *node, *next;
    /* uthash frees its table with the last element; no request is alive any more, so no lock is needed. */
    HASH_ITER (by_id, nodes->table, node, next) {
        HASH_DELETE(by_id, nodes->table, node);
        inode_unref(node->inode);
        free(node);
    }
    inode_unref(nodes->root);
    nodes->root = NULL;
    lock_release(&nodes->lock);
}

void nodes_set_root(struct nodes *nodes, struct inode **root)
{
    assert(!nodes->root);
    nodes->root = *root;
    *root = NULL;
}

static struct node *find_node_locked(struct nodes *nodes, uint64_t id)
{
    struct node *node = NULL;
    HASH_FIND(by_id, nodes->table, &id, sizeof id, node);
    return node;
}

void nodes_add(struct nodes *nodes, struct entry *entry)
{
    struct inode *inode = entry->inode;
    struct inode *surplus = inode;
    entry->inode = NULL;
    if (entry->id == FUSE_ROOT_ID) {
        inode_unref(inode);
        return;
    }
    lock_take(&nodes->lock);
    struct node *node = find_node_locked(nodes, entry->id);
    if (!node) {
        node = xcalloc(1, sizeof *node);
        node->id = entry->id;
        node->inode = inode;
        surplus = NULL;
        HASH_ADD(by_id, nodes->table, id, sizeof node->id, node);
    }
    assert(node->inode == inode); /* an id is never used twice */
    node->lookups++;
    nodes->lookups++;
    lock_drop(&nodes->lock);
    if (surplus)
        inode_unref(surplus);
}

struct inode *nodes_find(struct nodes *nodes, uint64_t id)
{
    if (id == FUSE_ROOT_ID)
        return inode_ref(nodes->root);
    LOCK_SCOPED(&nodes->lock);
    struct node *node = find_node_locked(nodes, id);
    return node ? inode_ref(node->inode) : NULL;
}

bool nodes_known(struct nodes *nodes, uint64_t id)
{
    if (id == FUSE_ROOT_ID)
        return true;
    LOCK_SCOPED(&nodes->lock);
    return find_node_locked(nodes, id) != NULL;
}

bool nodes_forget(struct nodes *nodes, uint64_t id, uint64_t lookups)
{
    if (id == FUSE_ROOT_ID)
        return false;
    lock_take(&nodes->lock);
    struct node *node = find_node_locked(nodes, id);
    uint64_t had = node ? node->lookups : 0;
    uint64_t taken = lookups < had ? lookups : had;
    nodes->lookups -= taken;
    if (node)
        node->lookups -= taken;
    if (node && node->lookups == 0)
        HASH_DELETE(by_id, nodes->table, node);
    else
        node = NULL;
    lock_drop(&nodes->lock);
    if (lookups > had)
        log_warn("FORGET: node %" PRIu64 " was told %" PRIu64 " times, %" PRIu64 " are taken back", id, had,
                 lookups);
    if (!node)
        return false;
    inode_unref(node->inode);
    free(node);
    return true;
}

size_t nodes_count(struct nodes *nodes)
{
    LOCK_SCOPED(&nodes->lock);
    return HASH_CNT(by_id, nodes->table);
}
