/* hole: the ranges of a file that nobody wrote: behind what is left of the base, where no local bytes are. Pure, of an inode.
 *
 *      file   |==== base ====|----|== local ==|--------|         == data, -- hole
 *             0          base_size                    size
 *
 * An object has none: what has gone up is data throughout, the zeros of its holes too. Nor has a file that somebody has open for
 * reading and writing: he may have stored into a mapping of it, and the kernel does not write such pages back before it asks where
 * the data are, so that who copies what is data would lose them.
 *
 * Threads: the lock of the inode is held.
 */
#ifndef CACHE_HOLE_H
#define CACHE_HOLE_H

#include "cache/inode.h"

/* As lseek(2) with SEEK_DATA, SEEK_HOLE (the end of the file is one): the offset, or -ENXIO: none from here on, or behind the end. */
int64_t hole_next_data_locked(const struct inode *inode, uint64_t from);
int64_t hole_next_locked(const struct inode *inode, uint64_t from);
/* Of the file, without its holes. */
uint64_t hole_data_bytes_locked(const struct inode *inode);

#endif
