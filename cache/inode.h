/* inode: one file, directory, symlink or special file: what is wanted of it, and what the bucket is known to hold.
 *
 *      wanted {parent, name, attributes, size, version}          changed by operations, under `lock`
 *      remote {key, ETag, modified, size, version}               changed by listings, HEADs and confirmed uploads
 *      local  {file, extents present, dirty extents}             bytes that are not (only) in the bucket
 *
 *      content:  clean (wanted.content == remote.content)  <-> dirty   (write, truncate | confirmed upload)
 *
 *                .--------------.   write   .-------.  uploader   .-----------.
 *      open ---> | clean, maybe | --------> | dirty | ----------> | uploading | --confirmed--> clean
 *                | partly local |           '-------' <---------- '-----------'
 *                '--------------'              ^  write meanwhile, error, conflict (parked)
 *
 * A version is a number that grows with every change of content; bytes sent carry the version they were read at.
 * Renamed, it is dirty as well, until its object stands under the key of its name (displaced).
 * A foreign version found while the inode is open orphans it: the name gets a new inode (same number, fresh id), the
 * handles keep this one.
 *
 * Owns: references are counted: names hold one per entry, fs one per known node, each handle, upload and listing one.
 *       inode_unref by the last drops blocks and the local file.
 * Threads: fields by group, as marked. Order of locks: names before inode.
 */
#ifndef CACHE_INODE_H
#define CACHE_INODE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <uthash.h>

#include "base/disk.h"
#include "base/list.h"
#include "base/lock.h"
#include "base/waiter.h"
#include "cache/cache.h"
#include "cache/extent.h"

struct upload;  /* upload.h */
struct resumed; /* resuming.h */
struct keepsake;
struct clone;
struct block; /* block.h */

#define UPLOAD_ID_MAX 33 /* 128 random bits in hex, and NUL */

/* The version of an object as others can see it. */
struct identity {
    char etag[STORE_ETAG_MAX];
    int64_t modified_ns;
    uint64_t size;
};

/* Equal ETag and size, and LastModified equal in whole seconds where both are known. */
bool identity_equal(const struct identity *a, const struct identity *b);

struct wanted {
    struct attributes attributes; /* size stands here; number never changes */
    uint64_t content_version;     /* grows with every write and truncate */
    uint64_t attribute_version;   /* grows with every chmod, chown, utimens, setxattr */
    bool mtime_explicit;          /* set by the user: must reach the bucket also after a multipart upload */
    char *
        xattrs; /* changed here, and not known to be in the bucket: the field as it is to be (xattr.h), "" none;
                     NULL: as the metadata of the object have it */
};

/* Copies own their texts. */
void wanted_copy(struct wanted *to, const struct wanted *from);
/* `to` is what `from` was; what it was goes, and `from` owns nothing any more. */
void wanted_move(struct wanted *to, struct wanted *from);
void wanted_release(struct wanted *wanted);
#define WANTED_SCOPED __attribute__((cleanup(wanted_release))) struct wanted

struct remote {
    bool exists; /* an object is known under `key` */
    char *key;   /* whole key of that object; NULL when !exists. Directories: the marker's key "a/b/" */
    struct identity identity;
    struct store_fields meta; /* what a rewrite must keep; headers known only after a HEAD or GET */
    struct store_fields headers;
    bool headers_known;
    uint64_t content_version; /* the wanted version that this object holds */
    uint64_t attribute_version;
    int64_t confirmed_ms; /* clock_ms() when last seen on the server */
    int64_t marker_ms;    /* directories: ... when the server last told of the marker, or that there is none:
                             who lists the parent is told that it is there, and nothing of its attributes */
};

struct inode {
    /* Set at birth. */
    struct cache *cache;
    uint64_t id;     /* the kernel's node id; the root's is 1 */
    uint64_t number; /* st_ino */
    uint32_t type;   /* S_IFREG, S_IFDIR, S_IFLNK ...: never changes while the inode lives */
    atomic_int references;
    atomic_ullong taken_bytes; /* of bodies on their way: what is beyond the network (store.h: taken) */

    /* Under the lock of names (names.h). */
    struct inode *parent;     /* NULL: the root, or no name any more; holds a reference */
    char *name;               /* NULL: no name any more; points into name_key */
    char *name_key;           /* {parent's id, name}, the key of by_name */
    UT_hash_handle by_name;   /* in names->table */
    UT_hash_handle by_number; /* in names->numbers */
    struct list children;     /* directories: children by `sibling` */
    struct list sibling;
    size_t child_count;
    int64_t listed_ms; /* directories: when a listing ended that saw all; 0: never */
    bool renamed;      /* the number no longer follows from the name: never forgotten while mounted */
    bool numbered;     /* in names->numbers */
    bool refreshing;   /* directories: its listing is made anew, behind */
    bool moving;       /* directories: a rename or rmdir is at work: all below wait at names->turn */
    int misses;        /* directories: lookups that had to ask since misses_ms */
    int64_t misses_ms;
    int listed_pages; /* directories: pages of the last listing that saw all */
    int looks;        /* ... and questions that made it worth while to list a large one anew */
    uint64_t
        forgotten;  /* directories: children that were forgotten: what was listed is not complete any more */
    size_t charged; /* bytes of SHARE_NAMES; 0: not charged yet */
    bool noted;     /* the catalog has what is known of it (recall.h) */
    uint64_t catalogued; /* directories: its number in the catalog; 0: none */
    bool beyond;         /* directories: the catalog knows names in it that were forgotten here */
    int64_t listing_ms;  /* directories: how long the last listing took that saw all */
    int64_t read_ms; /* directories: when somebody who reads it last got a page from the server; 0: never */
    int64_t growing_ms;  /* directories: when a listing began that goes on page by page; 0: none does */
    int64_t grown_ms;    /* ... and how long it waited for its pages so far */
    int64_t looked_ms;   /* directories: when a name in it was last looked up */
    bool warmed;         /* directories: it was asked whether an earlier mount had listed it */
    int64_t warm_ms;     /* directories: given since then as an earlier mount left it; 0: it is not */
    int64_t walked_ms;   /* directories: when one in it was last asked for, */
    uint64_t walked_id;  /* ... which that was, */
    bool walked;         /* ... and others were a moment before (forest.h) */
    struct list idle;    /* in names->idle, least recently used first: may be forgotten */
    struct list doomed;  /* no name any more, in names->doomed: its object goes, not before the last close */
    struct list leaving; /* ... in a list of the deleter */
    const char *veiled[2]; /* the keys in names->veils that are this inode's (veil.h); NULL: none */
    bool leaving_now;      /* the deleter is at work on it */
    bool deleting;         /* ... and a DELETE of its object is under way */
    int delete_attempts;   /* that failed in a row, */
    int delete_rc;         /* the last one so, */
    bool delete_refused;   /* ... which was the server's last word */
    int64_t delete_due_ms; /* when the next one is due */
    int64_t leaving_since_ms;

    /* Under `lock`. */
    struct lock lock;
    struct gate changed; /* opened when a held writer may go on, an upload ended, a hold was dropped */
    struct wanted wanted;
    struct remote remote;
    char *target; /* of a symlink that was made here: the body of its object; NULL: the bucket has it */
    bool attributes_known; /* false: of a listing, and nobody has looked at its metadata: not given out yet */
    struct disk_file *local; /* NULL: no local bytes */
    char local_name[32];
    uint64_t reserved_end; /* of the blocks that `local` was given ahead of who appends to it; 0: none */
    bool local_read;       /* the uploader reads it without the lock: it may be put aside, not closed */
    struct disk_file *local_aside; /* replaced while it was read; NULL: none */
    char local_aside_name[32];
    struct extents present; /* ranges of `local` that hold bytes of this version */
    struct extents dirty;   /* ranges written since the last confirmed upload */
    uint64_t dirty_bytes;   /* of them, as pressure.h was told */
    struct extents unread;  /* ranges changed since the running upload read them */
    uint64_t upload_floor;  /* the least size since the running upload took its version */
    uint64_t
        left_behind; /* by a writer who appends, in whole parts: they may go up while it goes on (sending.c) */
    int64_t changed_ms; /* when contents or attributes last changed */
    uint64_t base_size; /* bytes of the remote object that are still part of this file (truncate lowers it) */
    uint32_t opens, write_opens;
    uint32_t mapping_opens; /* of write_opens: for reading too, so that a shared mapping may be stored into */
    uint32_t closing_opens; /* of write_opens: their close was answered, and nothing was written since */
    bool
        whole_replacement; /* created, O_TRUNC or truncate(0): nothing of the base remains, last writer wins */
    bool
        exclusive; /* made with O_EXCL, and nothing of it was sent: it overwrites nothing, until it has moved */
    bool
        displaced; /* its object stands under another key than its name's, and follows behind (veil.h); lock of names, too */
    bool
        rekeyed; /* it got another name while its upload was busy, or has to leave its birth key: it ends and begins anew */
    bool orphan;               /* its name is gone or belongs to another inode: nothing goes up any more */
    bool lost;                 /* ... by the word of the server: what is opened by its name is another one */
    struct keepsake *keepsake; /* keepsake.h; NULL: none */
    struct clone *clone;       /* whose copy its object was made as (clone.h); NULL: nobody's */
    bool delete_at_release;    /* its object, or what an upload may have left, goes when nobody has it open */
    struct upload *upload;     /* NULL: idle. The uploader's own */
    bool upload_busy;          /* a try is under way: who holds waits at `changed` until it rests */
    bool replacing;      /* ... and its PUT, COPY or COMPLETE may have replaced the object already: a foreign
                                  version that a read meets may be our own. Such reads wait for the outcome, */
    struct list rereads; /* in here (read.c) */
    char *busy_key;      /* ... under this key; NULL: it has not got one yet */
    bool busy_at_birth;  /* ... which is not its name's any more: its parts landed there (veil_claim) */
    bool birth_denied;   /* somebody needs that key: what landed there is given up */
    bool awaits_key;     /* somebody else is at work on its key: no try begins before veil_release() */
    char maybe_id[UPLOAD_ID_MAX]; /* a PUT, COPY or COMPLETE with this skyvol-id may have happened, */
    char *maybe_key;              /* under this key; NULL: all is known. See settling.h */
    bool maybe_inherited;         /* ... by an earlier process */
    uint64_t maybe_size, maybe_content_version, maybe_attribute_version; /* of what it carried */
    char late_id
        [UPLOAD_ID_MAX]; /* of a request that was given up, and may still arrive; "": none. See settling.h */
    bool late_asked;     /* somebody is about to find that out */

    /* The journal's (recording.h). A directory's account: under the lock of names. */
    uint64_t account;        /* 0: it never had one */
    bool recorded;           /* it is open */
    bool record_debt;        /* the journal has not heard all of it */
    char *told_upload;       /* id of the upload that it knows of; NULL: none */
    struct resumed *resumed; /* what an earlier process began to send; NULL: nothing */
    bool publish; /* asked for, and no try has begun since: goes up when nobody has it open for writing, */
    bool publish_open; /* ... or all the same */
    int holds;         /* > 0: no upload starts (rename, unlink at work); see upload_hold() */
    bool writers_held; /* the last round of an upload: writers wait at `changed` */
    bool damaged;      /* held for good: nothing of it goes up, whoever asks (restore.h) */
    int parked_rc;     /* why it stays here: 0, or the error of the last try, */
    bool
        parked_refused; /* ... which was the server's last word: the next try ends so, too, unless somebody mends something */
    char parked_why[160];
    struct list syncs;  /* struct cache_sync that wait for a version */
    struct list unsent; /* in uploader->unsent while dirty, under uploader's lock */
    struct list poked;  /* in uploader->poked: something to look at, under uploader's lock */
    int64_t unsent_since_ms;
    int64_t waited_ms;       /* before that, under earlier mounts */
    int64_t publication_ms;  /* how long the last one took */
    uint64_t cached_version; /* content version that the kernel's pages were filled from */
    struct identity cached_identity;

    /* Under the lock of blocks (block.h). */
    struct block *block_table;      /* uthash by index */
    struct identity block_identity; /* the version that they are of */
    bool blocks_stale;              /* ... which the bucket has no more: said in the log */
};

struct inode *inode_new(struct cache *cache, uint32_t type, uint64_t number);
/* The checks of the drawing above; aborts on a bug. Call with `lock` held. */
void inode_check_locked(const struct inode *inode);
/* What is unsent cannot go up: another client replaced or removed the object that it was made from. */
bool inode_conflicts_locked(const struct inode *inode);
/* NULL, NULL: nothing is in doubt. */
void inode_set_maybe_locked(struct inode *inode, const char *key, const char *id);
bool inode_dirty_locked(const struct inode *inode); /* content, attributes or place differ from remote */
/* The object holds the attributes of this version; where that is the wanted one, its metadata say all of them. */
void inode_attributes_sent_locked(struct inode *inode, uint64_t version);
/* The field of extended attributes as it is to be; NULL or "": there are none. */
const char *inode_xattrs_locked(const struct inode *inode);
/* Displaced, and what stands under the old key is of this very file: not what it took over from one that had its name before. */
bool inode_follows_locked(const struct inode *inode);
/* What its object holds: a file's bytes, a symlink's target, nothing of others. */
uint64_t inode_body_bytes_locked(const struct inode *inode);
/* The overlay: what is wanted here is the truth, whatever the server says: unsent, being sent, or open for writing. */
bool inode_overlays_locked(const struct inode *inode);
void inode_attributes_locked(const struct inode *inode, struct attributes *ret_attributes);
/* When all that is known of it was last seen on the server. */
int64_t inode_seen_ms_locked(const struct inode *inode);

#endif
