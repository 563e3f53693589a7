/* clone: a file copied inside the mount (copy_file_range), by the server: its bytes do not come here.
 *
 *      the source's object  --copying, If-Match--> PREFIX.skyvol-kept-HEX     keepsake.h: journaled, before, as one that is to go
 *      the destination      --takes it over------> its object, elsewhere than under its name; its size: as far as was copied
 *         its way up        --UploadPartCopy-----> its own key (mosaic.h), and what was hidden goes
 *
 * So the copy is ours alone from the moment of the call: whatever becomes of the source, the destination is what the source was, also
 * after a kill; it is read, changed, cut, renamed and removed like any large file of which little changed; and like them
 * it is shown to nobody before somebody asks for it, by a close say. For that the server copies twice. (Once, under the destination's own key, it would have to be at the call: others
 * would see half of a file whose copying goes on. Parts of an upload can neither be read nor be relied on.)
 *
 * One call of the kernel is 2 GiB at most. The whole object is copied at the first one; those that go on where the last one ended
 * give the destination more of what it has already (inode->clone says whose copy that is, as long as it is open).
 *
 * The destination overwrites what any new content of it would: what stood there if it was made whole, nothing if O_EXCL made it, and, if
 * it was empty and not cut off here, nothing but that very version (as an exclusive one: condition.h).
 *
 * Not: what goes up in one PUT (part_bytes), which is cheaper sent than by eight requests; steps below copy_step_min that do not reach
 * the end of the source, since all of it is copied for the first one; a source that is not what its object is, or is open for writing;
 * a destination that holds anything else, has no name or writes through (O_SYNC); an endpoint that copies no parts. Nor where the server
 * will not: whatever it answers, the bytes can be read and written.
 *
 * Threads: blocking. No lock is held over the copy; the uploads of the destination, and the marker of its name, for the moment of taking
 * over.
 */
#ifndef CACHE_CLONE_H
#define CACHE_CLONE_H

#include "cache/inode.h"

struct clone {
    uint64_t source; /* the id of its inode */
    struct identity from, to;
};

/* Nobody writes it any more: no call goes on. */
void clone_end_locked(struct inode *inode);

#endif
