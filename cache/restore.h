/* restore: what the journal found, put back into the tree: the overlay of an earlier process goes on where it ended.
 *
 *      account with a name, unsent  --> inode, recorded, listed as unsent, published
 *      directory                    --> a place; what it is like the server says
 *      account without a name       --> doomed: its object goes, its upload is aborted
 *      nothing unsent               --> forgotten
 *      local file that no account names --> removed, unless there was no journal: then it is named and kept
 *
 * A local file that is missing is damage: its name is kept here, held, and said by `status`; nothing of it goes up.
 *
 * Threads: cache_new() only, before anybody asks for anything.
 */
#ifndef CACHE_RESTORE_H
#define CACHE_RESTORE_H

#include "cache/core.h"

void restore_all(struct cache *cache);

#endif
