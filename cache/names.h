/* names: the tree: (directory, name) -> inode, what listings and HEADs told of it, and its changes.
 *
 *      root(1) --"data"--> dir --"train.bin"--> file          hash {parent id, name} -> inode, plus a list of children
 *
 * What is known of a name, and since when, decides who answers:
 *      unsent or open for writing here  -> the inode, without a request (the overlay wins)
 *      confirmed within attr_ttl        -> the inode
 *      directory listed within attr_ttl -> the inode; within negative_ttl -> "no such file"
 *      else                             -> HEAD key and LIST key/ (one key), or, after a few misses, the directory's LIST
 * One in-flight marker per (directory, name), see asking.h: a second asker waits for the first one's answer.
 * An answer of the server is laid over the tree by observed.h, but for names that changed here since it was asked.
 *
 * A number (st_ino) follows from (parent's number, name) by a hash, so that it stays over forgets; an inode that was
 * renamed is forgotten only when nothing else is left to forget.
 *
 * Threads: `lock` (LOCK_NAMES) is never held across the network. Whoever changes a name takes its marker,
 * drops the lock, works, takes it again, changes the tree, drops the marker. Below a moving directory all wait. Nobody
 * who holds a marker waits for another one, but for a mover, who waits for those that were below it before: no circle.
 */
#ifndef CACHE_NAMES_H
#define CACHE_NAMES_H

#include "cache/inode.h"

#define NAMES_NAME_MAX 255
#define NAMES_ABSENT   256 /* slots of names known to be missing */

struct aftermath; /* aftermath.h */
struct veil_key;  /* veil.h */

struct names_absent {
    uint64_t parent_id; /* 0: empty */
    uint64_t hash;      /* of the name */
    int64_t seen_ms;
};

struct names_deleting { /* in names->deleting */
    struct list link;
    char *key;
};

/* A look at the server in flight. Own changes of names that it may not have seen yet are noted here, so that its
 * answer does not undo them. */
struct names_watch {
    struct list link;
    uint64_t parent_id;
    const char *only;          /* NULL: all names of the directory */
    const struct inode *below; /* all names below this one, instead; NULL */
    bool all;                  /* more than WATCH_MAX changed: count all as touched */
    char **touched;
    size_t count, room;
};

struct names {
    struct lock lock;
    struct gate turn; /* opened when a marker or `moving` goes */
    struct inode *root;
    struct inode *table;   /* by_name */
    struct inode *numbers; /* by_number */
    struct list asking;    /* struct asking: few, as many as there are threads at work */
    struct list watches;
    struct list idle;
    struct list refreshes;  /* listings behind that are under way (lookup.h) */
    struct list doomed;     /* without a name: their objects are to go, not before the last close */
    struct veil_key *veils; /* by_key: what is hidden */
    struct list deleting;   /* keys that a worker deletes behind: nobody takes a marker on them */
    size_t count;
    uint64_t next_id;
    uint64_t hidden; /* keys seen that are no file names */
    char hidden_example[256];
    struct names_absent absent[NAMES_ABSENT];
};

int names_init(struct cache *cache);
/* Drops all names, and with them all inodes that nobody else holds. */
void names_release(struct cache *cache);
/* After names_release and the last inode_unref. */
void names_end(struct cache *cache);

/* The whole key of an inode by its wanted name ("p/a/b", directories "p/a/b/"). -ENOENT when it, or a directory above it,
 * has no name any more, -ENAMETOOLONG over 1024 bytes. Takes the lock of names. */
int names_key(struct inode *inode, struct buf *ret_key);
/* The uploader's word: this stands in the bucket, holding these versions. */
struct confirmed {
    const char *key;
    struct identity identity;
    const struct store_fields *meta, *headers;
    uint64_t content_version, attribute_version;
    bool copied; /* from its object under whatever key: what differs here differs still */
};
/* What it had under another key goes, behind. Takes names, inode. */
void names_confirmed(struct inode *inode, const struct confirmed *confirmed);
/* Asks the server what is under this inode's name, if that was longer than attr_ttl ago: 0 (the same, or no
 * answer needed), -ESTALE (another version: the name now has another inode), -ENOENT, -EINTR, -ETIMEDOUT ... */
int names_revalidate(struct inode *inode, struct waiter *waiter);
/* The same for who only looks: what an earlier mount knew will do while its directory is listed behind (recall.h). */
int names_look_again(struct inode *inode, struct waiter *waiter);
/* Something ended (the last close, an upload) of an inode whose name is gone: if nothing is at work any more its object is
 * deleted, behind. */
void names_delete_behind(struct inode *inode);

/* For the files of names (lookup, list, change, rename, attributes). All `_locked`: the lock of names is held. */

/* 0; -EINVAL (empty, ".", "..", a slash), -ENAMETOOLONG, -EILSEQ, -EPERM (our own hidden ones, keepsake.h). */
int names_check(const char *name);
/* A key of the bucket that is no name here: counted, the first one named. */
void names_hide_locked(struct names *names, const char *key);
struct inode *names_find_locked(struct names *names, const struct inode *parent, const char *name);
/* The inode of a path below the prefix ("a/b", "a/b/"); NULL. */
struct inode *names_find_path_locked(struct names *names, const char *path);
/* The number that (parent, name) has while no other live inode took it. */
uint64_t names_number(const struct inode *parent, const char *name);
/* No live inode has it (0 is nobody's). */
bool names_number_free_locked(struct names *names, uint64_t number);
/* A new inode under a free name. `number` 0: its own. The reference is the tree's. */
struct inode *names_make_locked(struct cache *cache, struct inode *parent, const char *name, uint32_t type,
                                uint64_t number, struct aftermath *aftermath);
/* The inode, and all below it, loses its name; the reference of the tree goes to the aftermath. */
void names_detach_locked(struct inode *inode, struct aftermath *aftermath);
/* The same for good: none of them goes up any more. `lost`: by the word of the server, and none is opened any more. */
void names_orphan_locked(struct inode *inode, bool lost, struct aftermath *aftermath);
void names_move_locked(struct inode *inode, struct inode *to_parent, const char *to_name,
                       struct aftermath *aftermath);
/* Another inode takes this number (a new version under the old name). */
void names_forget_number_locked(struct names *names, struct inode *inode);
/* "p/a/b" of a name, "p/a/" of a directory (the root: the prefix). -ENAMETOOLONG, -ENOENT (no name any more). */
int names_child_key_locked(const struct inode *parent, const char *name, struct buf *ret_key);
int names_key_locked(const struct inode *inode, struct buf *ret_key);
bool names_below_locked(const struct inode *inode,
                        const struct inode *directory); /* or the directory itself */
/* A symlink's target is this from here on, NULL: what the bucket has; its memory is charged with the name's. Both locks. */
void names_set_target_locked(struct inode *inode, const char *target);
/* The inode was used: it will be forgotten later than others. False: the share of names has no room for it, so nobody should be told
 * of it who holds on to it (names_make_locked still makes it: what waits for it goes on). */
bool names_used_locked(struct inode *inode);
/* Of so many names, made in a hold that has ended, which found no room while their share has it: clean blocks give way to them; for each
 * that finds none all the same, others are forgotten. No lock is held (aftermath_settle). */
void names_find_room(struct cache *cache, size_t count, size_t bytes);
void names_watch_locked(struct names *names, struct names_watch *watch, const struct inode *parent,
                        const char *only);
/* ... all that is below; only whether anything changed is told: watch->all. */
void names_watch_below_locked(struct names *names, struct names_watch *watch, const struct inode *directory);
void names_unwatch_locked(struct names_watch *watch);
bool names_watch_touched(const struct names_watch *watch, const char *name);
/* This name was changed here: looks at the server that are in flight do not know it. */
void names_touched_locked(struct names *names, const struct inode *parent, const char *name);
/* The place of a whole key ("p/a/b", "p/a/b/"): the directory (borrowed), NULL when it is not known here. ret_name is malloc'ed. */
struct inode *names_place_locked(struct names *names, const char *key, char **ret_name);
/* The same of a whole key, and of all names above it, down to the first that is not known here: looks that are in flight may have
 * seen it below them. That one may well be there: they look again. */
void names_touched_key_locked(struct names *names, const char *key);
/* What stands under this name is the server's to say: nothing that is known of it, or that a listing in flight will tell
 * without it, is believed. */
void names_doubt_locked(struct names *names, struct inode *parent, const char *name);
bool names_absent_locked(struct names *names, const struct inode *parent, const char *name,
                         int64_t *ret_valid_ms);
/* Whoever found it to be missing last asked later than that. */
bool names_absent_since_locked(struct names *names, const struct inode *parent, const char *name,
                               int64_t asked_ms);
void names_set_absent_locked(struct names *names, const struct inode *parent, const char *name,
                             int64_t seen_ms);
/* This version of the object is of an unlinked file: hidden from listings and lookups. */
bool names_doomed_locked(struct names *names, const struct store_object *object);
/* How many may be hidden below; 1000 is the most that is counted. */
size_t names_doomed_below_locked(struct names *names, const char *prefix);
/* The version that is doomed under this very key; false: none is. */
bool names_doomed_version_locked(struct names *names, const char *key, struct identity *ret_identity);
void names_doom_locked(struct inode *inode);
/* Nothing of it is left to delete. */
void names_acquit_locked(struct inode *inode, struct aftermath *aftermath);
/* An object of ours stands under the key now, in the place of what was doomed there: nothing of that is left to hide or
 * to delete. `but`: whose object that is; may be NULL. */
void names_undoom_locked(struct names *names, const char *key, const struct inode *but,
                         struct aftermath *aftermath);
/* The object that stands under inode->remote.key is to go, behind: this inode has another one. Returns who takes it along (borrowed, for
 * as long as the lock is held). */
struct inode *names_leave_locked(struct inode *inode, struct aftermath *aftermath);
/* In the same hold: it has that object still, and it stays. */
void names_take_back_locked(struct inode *left, struct aftermath *aftermath);
/* This object stands under the name that `inode` has, which knew of none. */
void names_take_object_locked(struct inode *inode, const char *key, const struct identity *identity);
/* `inode`, never sent, has the name of `old` now: the object of `old` stands under it until the data come, and goes if
 * the name goes. Nothing happens when `inode` has an object of its own, or `old` has none. */
void names_inherit_locked(struct inode *inode, struct inode *old);

#endif
