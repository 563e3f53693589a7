/* recall: between the tree and the catalog (catalog.h): what the server said is noted there; what the tree forgot, or an earlier
 * mount knew, comes back from there.
 *
 *      observed, names_confirmed  --note-->  (directory, name) -> facts      inode->noted: as it stands here
 *      deleted, or seen to be gone  --gone-->  nothing
 *      listed whole  --recall_listed-->  what was not listed goes, then: listed
 *
 *      a child was forgotten here       directory->beyond    the catalog answers with the tree, while the listing is fresh
 *      looked at first, and an earlier  directory->warm_ms   what the catalog knows is an answer for who looks (LOOKUP_WARM), while
 *      mount had listed it whole                             the directory is listed behind; who opens or changes asks the server
 *
 * Names of a directory that was not listed whole are asked for, whatever is noted of them: facts of single names carry no generation, so
 * that one from before a kill, of which the catalog had not heard that it went, would come back. Where nothing changes (immutable) none
 * goes: each fact is an answer.
 *
 * The overlay is never noted: what is unsent stands in the journal. A directory that moves, or goes, takes what is noted below it away.
 *
 * Threads: `_locked` with the lock of names held; those that read the catalog drop it meanwhile.
 */
#ifndef CACHE_RECALL_H
#define CACHE_RECALL_H

#include "cache/aftermath.h"
#include "cache/catalog.h"

/* What is known of it stands in the catalog, or is on its way there. False: it cannot, nothing that can be told is known. */
bool recall_note_locked(struct inode *inode);
/* Of all that is known, before the tree goes: what came to be by our own doing, too. Nobody else is at work any more: the lock is dropped
 * now and then, to wait until the catalog has room for more. */
void recall_note_all_locked(struct cache *cache);
/* The bucket holds nothing of this name. */
void recall_gone_locked(const struct inode *parent, const char *name);
/* It gets another place, or none: what was noted of it and below is worth nothing. */
void recall_moved_locked(struct inode *directory);
/* All that is known of what is in it, and below, is worth nothing. */
void recall_forget_below_locked(struct inode *directory);
/* Names in it may be missing, or there: what it holds is the server's to say. */
void recall_doubt_locked(struct inode *directory);

/* Nobody can say what differs: the server has not answered yet, and the directory is as an earlier mount knew it, whole. */
bool recall_alone(const struct inode *directory);
/* The first look at a directory: was it known to an earlier mount? Then it is warm, and listed behind; where nothing changes
 * (immutable) it counts as listed. */
void recall_begin_locked(struct inode *directory);
/* What the catalog knows of a name that the tree does not have. 1: look again; 0: nothing that helps; -ENOENT: it is not in the bucket.
 * `asked_ms`: an answer that was true attr_ttl before that will do. `marked`: the caller holds the marker of the name. */
int recall_name_locked(struct inode *parent, const char *name, int64_t asked_ms, bool warm, bool marked,
                       struct aftermath *aftermath);

/* The same of a name that was listed a moment ago, by a listing that began then, and has been forgotten since. */
void recall_given_locked(struct inode *parent, const char *name, int64_t listed_ms,
                         struct aftermath *aftermath);

/* What is remembered of a name that the tree does not have; no lock is held. */
struct recalled {
    uint64_t number;    /* 0: that which follows from the name */
    uint64_t directory; /* 0: not known */
};
void recall_numbers(struct cache *cache, uint64_t directory, const char *name, struct recalled *ret_recalled);
/* The same of a page's objects and directories, before it is laid over the tree; no lock is held. An object that was
 * listed without metadata, and is the remembered one, gets them. */
void recall_objects(struct cache *cache, uint64_t directory, struct store_call *list,
                    struct recalled *ret_objects, struct recalled *ret_prefixes);

/* All names of the directory, sorted by their bytes: what else stands in the catalog goes, but for names that changed here since (watch),
 * and it counts as listed. False: it does not. The lock of names is dropped meanwhile. */
bool recall_listed_locked(struct inode *directory, const char *const *names, size_t count,
                          const struct names_watch *watch, int64_t wall_ns);
/* Each name that the catalog has in a directory that is fresh and `beyond`, or warm. -ENODATA: nothing can be told. The lock of names is
 * dropped meanwhile. */
int recall_walk_locked(struct inode *directory,
                       void (*each)(void *context, const char *name, uint32_t type, uint64_t number),
                       void *context);

#endif
