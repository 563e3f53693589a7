/* listing: an open directory: a snapshot of names that grows page by page, so that offsets stay what they are.
 *
 *      offset   0   1    2          3        4
 *               .   ..   a.txt      b/       c.txt      | next page: LIST from the token
 *
 * A page is one LIST with delimiter "/" laid over the tree (observed.h), in the order of keys ("b-1" < "b/"); names of its
 * range that the server does not have stay when they are unsent, or changed since the LIST began, and go otherwise.
 * Whose attributes were asked for in vain (a HEAD failed) is given as a name alone: an error is no absence.
 * A directory that was listed whole within attr_ttl is listed from memory. One that is walked over with others beside it shares a LIST
 * with them (forest.h): its listing counts from when that was asked.
 *
 * Attributes, where they are asked for, come with what a listing has just brought. What is listed from memory or the catalog brings them
 * for its first LISTING_FULL names only, unless somebody looked names up in that directory within LISTING_LOOKED_MS: who wants
 * names alone (ls, glob) gets them at the speed of the catalog, who stats them all asks for each once, and the next time not.
 *
 * Where memory has no room for more names (SHARE_NAMES), the rest comes as names alone: the kernel would hold on to each.
 *
 * Bounds: a snapshot costs about 40 bytes a name, until release, outside the budget.
 * Threads: cache_list on one listing by one thread at a time, others wait; no lock is held across the network.
 */
#ifndef CACHE_LISTING_H
#define CACHE_LISTING_H

#include "cache/asking.h"

#define LISTING_HEADS_MAX 64 /* entries whose attributes are asked for at once */
#define LISTING_FULL      128
#define LISTING_LOOKED_MS 60000

/* Lists up to `pages` pages, for what the tree learns from it (listed_ms when that was all). The caller holds the marker
 * of the directory's listing (the name ""). */
int listing_look(struct cache *cache, struct inode *directory, int pages, struct waiter *waiter);

#endif
