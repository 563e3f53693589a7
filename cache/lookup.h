/* lookup: what stands under a name, from memory while that may be believed (names.h), else from the server.
 *
 *      nothing known     HEAD "p/a" and LIST "p/a/" (one key), side by side; a marker that was listed without metadata: HEAD it
 *      a file known      HEAD "p/a"; if it is gone, LIST "p/a/"
 *      a directory known LIST "p/a/"; if it is empty, HEAD "p/a"; one whose marker nobody has seen, beside others: forest.h
 *      LOOKUP_MISSES in one directory within attr_ttl: its listing (at most LOOKUP_PAGES, and what is known to stand in it)
 *                        answers for all names at once
 *      a larger one      name by name; where it was listed whole, its listing behind when as many were asked as that took pages
 *      a whole listing that is about to expire, and was asked: listed anew behind, so that who makes many files waits for none
 *
 * Before the server is asked, the catalog is (recall.h). Of a directory that an earlier mount knew, and that is being listed behind, what
 * was known then is an answer for who asks in trust (LOOKUP_WARM); who opens, or changes, wants to know (LOOKUP_FRESH).
 *
 * A directory that takes longer to list than attr_ttl is believed LOOKUP_STRETCH times as long as that took, its names by who only looks.
 *
 * What was true attr_ttl (that there is no such name: negative_ttl) before the question was asked is an answer, however long it took to
 * find it.
 */
#ifndef CACHE_LOOKUP_H
#define CACHE_LOOKUP_H

#include "cache/asking.h"

enum lookup_trust { LOOKUP_FRESH, LOOKUP_WARM };

#define LOOKUP_MISSES         1
#define LOOKUP_PAGES          2
#define LOOKUP_STRETCH_MS_MAX 60000 /* of a listing's time */
#define LOOKUP_STRETCH        3
#define LOOKUP_LARGE          64 /* pages: nobody waits for more */

/* Asks the server, whatever is known. The caller holds the marker of the name and no lock. 0 with a reference, -ENOENT ... */
int lookup_ask(struct cache *cache, struct inode *parent, const char *name, struct waiter *waiter,
               struct inode **ret_inode);
/* From memory if possible, else asks; takes and drops the marker. -EAGAIN: waiter NULL. */
int lookup_resolve(struct cache *cache, struct inode *parent, const char *name, enum lookup_trust trust,
                   struct waiter *waiter, struct inode **ret_inode, int64_t *ret_valid_ms);
/* The same for who holds the marker. */
int lookup_resolve_marked(struct cache *cache, struct inode *parent, const char *name, struct waiter *waiter,
                          struct inode **ret_inode);
/* The same for who makes the name, and was told a moment ago that there is none: what was known then is good. */
int lookup_resolve_made(struct cache *cache, struct inode *parent, const char *name, struct waiter *waiter,
                        struct inode **ret_inode);
/* True when memory answers a question asked at `asked_ms`: then *ret_inode is the inode (borrowed) or NULL: no such name. */
bool lookup_known_locked(struct inode *parent, const char *name, int64_t asked_ms, enum lookup_trust trust,
                         struct inode **ret_inode, int64_t *ret_valid_ms);
void lookup_fill_locked(struct inode *inode, struct entry *ret_entry); /* takes a reference */
/* All names in it were listed, no longer than attr_ttl before. */
bool lookup_listed_locked(const struct inode *directory, int64_t asked_ms);
/* ... than negative_ttl: what was not listed is not there. */
bool lookup_denies_locked(const struct inode *directory, int64_t asked_ms, enum lookup_trust trust);
/* Both locks. */
int64_t lookup_valid_ms(const struct inode *inode);
/* The directory is listed anew, behind; all of a warm one, which ends to be so. The caller has a reference. */
void lookup_refresh_locked(struct inode *directory);
/* cache->stopping is set: what is listed behind ends. */
void lookup_stop(struct cache *cache);

#endif
