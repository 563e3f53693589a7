/* invalidate: tells the kernel what to forget, from a thread of its own.
 *
 * The kernel may make the teller wait (a page that is being read, a directory that is being looked up in), so neither a FUSE
 * thread nor one that holds a lock, nor a network thread, may tell it: they leave a note here and go on.
 *
 *      invalidator_inode, invalidator_name -> notes (a hash: the same note twice is one; in order) -> thread -> kernel
 *
 * At most INVALIDATE_MAX notes; beyond, they are dropped and counted: what the kernel knows is then believed until its time
 * (entry.valid_ms) is over, and pages until the next open, which says keep_cache = false.
 * Nodes that the kernel does not know are not worth a note.
 */
#ifndef FS_INVALIDATE_H
#define FS_INVALIDATE_H

#include <stdint.h>

#include "base/json.h"

#define INVALIDATE_MAX 16384

struct fs;
struct invalidator;

struct invalidator *invalidator_new(struct fs *fs);
/* From now on notes are told; before, they are dropped (the kernel knows nothing yet). 0 or -errno. */
int invalidator_start(struct invalidator *invalidator);
/* Ends the thread; notes are dropped from now on. FUSE threads must still be serving: the kernel may be waiting for them. */
void invalidator_stop(struct invalidator *invalidator);
void invalidator_free(struct invalidator *invalidator);

/* Any thread, never blocks. */
void invalidator_inode(struct invalidator *invalidator, uint64_t id);
void invalidator_name(struct invalidator *invalidator, uint64_t parent_id, const char *name);

void invalidator_report(struct invalidator *invalidator, struct json *object);

#endif
