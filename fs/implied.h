/* implied: the handle of a file, or the listing of a directory, that is read though nobody asked us to open it.
 *
 * Where nothing changes (immutable) OPEN, OPENDIR and FLUSH are answered ENOSYS: the kernel remembers that, opens by itself, keeps pages
 * and listings, and sends no RELEASE. What it then has to read comes with fh 0: the node alone says what of.
 *
 *      (none) --first READ, READDIR, LSEEK--> known, least recently used first --the node is forgotten; the end of a listing was
 *         ^                                   |    |                             given; too many others--> unknown
 *         |                                   '-uses: requests at work                                       |
 *         '------------------------------- handle or listing ended <-- with the last use -------------------'
 *
 * A handle serves all who read the file: its streams are many (PREFETCH_STREAMS_SHARED). When it had to go the next read makes another,
 * and only what was known of sequences is lost.
 *
 * A listing serves all who read the directory at once. Offsets are places in it, and each listing of a directory that does not change
 * has the same places, so that telldir(), a reader in the middle, and the kernel's own copy of the listing go on in another one. (Who
 * is in the middle of a directory that does change and is refreshed meanwhile may miss a name or meet one twice; so may who is in the
 * middle of one that had to go, where "a" stands beside "a/b" and keys lie between.) The end that was given ends it: the kernel has
 * the whole then.
 *
 * Bounds: IMPLIED_MAX of each kind; those least recently used go. Listings of more than IMPLIED_LISTED_MAX bytes together are those in
 * the middle of which somebody was within IMPLIED_IDLE_MS: whoever goes on in one that went would have it listed from its beginning.
 * Threads: any. No lock is held while a handle or a listing is made or ended.
 */
#ifndef FS_IMPLIED_H
#define FS_IMPLIED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"
#include "cache/cache.h"

#define IMPLIED_MAX        1024
#define IMPLIED_LISTED_MAX ((size_t)16 << 20)
#define IMPLIED_IDLE_MS    60000

struct implied;

struct implied_shelf {
    struct list recent; /* least recently used first */
    size_t count;
};

struct implied_set {
    struct cache *cache; /* set before the first request */
    struct lock lock;
    struct implied *table; /* those known, by node; under lock, as all below */
    struct implied_shelf handles, listings;
    size_t listed_bytes;
};

void implied_init(struct implied_set *set);
/* Ends all; no request is alive any more. */
void implied_end_all(struct implied_set *set);
void implied_release(struct implied_set *set);

/* A use of what the node has, made where there is none. -ESTALE: a lost version; -EISDIR, -ENOTDIR, -ELOOP, -ENXIO. Never waits. */
int implied_take(struct implied_set *set, uint64_t id, struct inode *inode, struct implied **ret_implied);
/* The same, where it is known: NULL: it is not. */
struct implied *implied_find(struct implied_set *set, uint64_t id);
/* The one that is not NULL: of a file, of a directory. */
struct handle *implied_handle(const struct implied *implied);
struct listing *implied_listing(const struct implied *implied);
/* Ends the use; `over`: its last entry was given, nobody needs it any more. */
void implied_drop(struct implied_set *set, struct implied *implied, bool over);
/* The kernel has forgotten the node. */
void implied_forget(struct implied_set *set, uint64_t id);
size_t implied_count(struct implied_set *set);

#endif
