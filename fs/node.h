/* node: what the kernel remembers: node id -> inode, and how often it was told of it.
 *
 *      (unknown) --nodes_add--> known, lookups 1, 2, ... --nodes_forget (down to 0)--> (unknown)
 *
 * Each entry that the kernel took (LOOKUP, CREATE, MKDIR, SYMLINK, MKNOD, one line of READDIRPLUS) counts one lookup; FORGET
 * takes them back. The root is FUSE_ROOT_ID, counts nothing and is known until the end.
 *
 * Use: nodes_add() before the reply that tells the kernel, because the next request on that id may come before the reply
 *      has returned; nodes_forget() if the kernel refused that reply.
 * Owns: one reference to the inode of each known node.
 * Threads: any. The lock is not held while references are dropped.
 */
#ifndef FS_NODE_H
#define FS_NODE_H

#include <stdint.h>

#include "base/lock.h"
#include "cache/cache.h"

struct node;

struct nodes {
    struct lock lock;
    struct node *table; /* by id; under lock */
    uint64_t lookups;   /* of all nodes together; under lock */
    struct inode *root; /* set by nodes_set_root, before the first request */
};

void nodes_init(struct nodes *nodes);
/* Forgets everything. */
void nodes_release(struct nodes *nodes);
/* Takes the reference. */
void nodes_set_root(struct nodes *nodes, struct inode **root);
/* Counts one lookup of entry->inode and takes that reference (entry->inode is NULL afterwards). */
void nodes_add(struct nodes *nodes, struct entry *entry);
/* A reference to the inode of a node, or NULL: the kernel may not ask for what it forgot. */
struct inode *nodes_find(struct nodes *nodes, uint64_t id);
bool nodes_known(struct nodes *nodes, uint64_t id);
/* Takes `lookups` back; the last one drops the inode: true. More than were given are a bug of the kernel: logged, dropped. */
bool nodes_forget(struct nodes *nodes, uint64_t id, uint64_t lookups);
size_t nodes_count(struct nodes *nodes);

#endif
