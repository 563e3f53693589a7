/* cache: the door to files: what is here, what must go up, what the bucket looked like.
 *
 * Above it are names and numbers (fs/), below it objects (s3/). One struct cache is one mounted bucket:prefix.
 *
 *      names: (directory, name) -> inode           overlay of local changes over what listings told
 *      inode: wanted {place, attributes, size, extents, version}  -- uploader -->  remote {key, ETag, time, version}
 *      blocks: ranges of remote objects in memory, under the one budget
 *
 * Use: each operation takes the waiter of its request. With waiter NULL it answers from memory or returns -EAGAIN
 *      without side effect: the caller then runs the same call again on a thread that may block, with a waiter.
 *      -EINTR means that the user interrupted; what was asked has not been done, or goes on behind (said per call).
 * Owns: an inode returned is a reference (inode_unref); a handle or listing is the caller's until its release.
 * Threads: any, side by side. done() callbacks come from network or uploader threads, hold no lock, must not block.
 * Errors: -errno as the system calls have them; S3's words are in the log line of the operation.
 */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/disk.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/waiter.h"
#include "s3/store.h"

struct cache;
struct inode;
struct handle;  /* an open file */
struct listing; /* an open directory */

/* What the kernel knows and must be told to forget. Called without locks, from any thread but a FUSE thread's own
 * operation on that inode. */
struct cache_notify {
    void (*inode_changed)(void *context, uint64_t id); /* pages and attributes of this node are stale */
    void (*name_changed)(void *context, uint64_t parent_id, const char *name);
    void *context;
};

/* What close and changes of names wait for: DESIGN section 3. */
enum durability { DURABILITY_SYNC, DURABILITY_WRITEBACK, DURABILITY_LOCAL };

/* A file was patched here, and another client replaced or removed the object meanwhile: conflict.h. */
enum conflict_rule { CONFLICT_KEEP_BOTH, CONFLICT_REMOTE_WINS, CONFLICT_LOCAL_WINS };

struct cache_config {
    struct store *store;   /* the caller's; outlives the cache */
    struct memory *memory; /* the caller's; outlives the cache */
    struct disk *disk;     /* a directory of this cache alone: journal and local files; the caller's */
    const char
        *source;      /* endpoint, bucket and prefix in one line: whose changes the journal holds; NULL: "" */
    const char *boot; /* /proc/sys/kernel/random/boot_id; NULL: not known */
    const char *catalog; /* a directory for what is remembered of the bucket (catalog.h); NULL: nothing is */
    uint64_t catalog_bytes; /* 0: 1 GiB */
    enum durability durability;
    enum conflict_rule conflict;
    int64_t commit_ms;      /* flushing begins so long after a change; 0: who changes waits for it */
    uint64_t unflushed_max; /* bytes; writers wait beyond it; 0: 256 MiB */
    uint64_t dirty_max;     /* unsent bytes; writers wait beyond it; 0: what the disk allows less a reserve */
    int64_t publish_after_ms; /* 60 000: a dirty open file that is quiet so long goes up */
    const char *prefix;       /* "" or "a/b/": with the slash at its end, none at its start */
    bool read_only;
    bool
        immutable; /* what is in the bucket never changes (and read_only): what is known is never asked for again, a handle serves all who
                       read an inode at once (fs/implied.h), and cache_open() never waits. What changes all the same: -ESTALE at read */
    bool
        unreached; /* the server has not answered yet: until it does, names are believed as an earlier mount left them (catalog) */
    bool list_attributes_only;    /* attributes=listing: no HEADs for attributes */
    int64_t attr_ttl_ms;          /* 1000 */
    int64_t negative_ttl_ms;      /* of the word that a name is not there; below 0: attr_ttl_ms */
    int64_t io_timeout_ms;        /* 60 000 */
    uint32_t uid, gid;            /* of foreign objects */
    uint32_t file_mode, dir_mode; /* permission bits of foreign objects: 0644, 0755 */
    uint64_t read_ahead_max;      /* bytes of one stream; 0: by the budget */
    uint32_t uploads_max;         /* requests in flight that carry data up; 0: 16 */
    uint64_t part_bytes;          /* 0: 8 MiB; grows with the file (10 000 parts) */
    uint64_t
        early_bytes; /* a new file that has grown so large goes up, part by part, while it is written; 0: never */
    uint64_t copy_bytes_max; /* larger objects are copied by parts of a quarter; 0: 1 GiB */
    uint64_t copy_step_min;  /* cache_copy_range() of less ends where the source does; 0: 1 GiB */
    struct cache_notify notify;
};

/* Opens the journal of the disk; what it holds unsent goes on going up (cache_backlog() says how much there is). -EXDEV:
 * it holds changes of another source, -EPROTO: a newer skyvol wrote it, -EBADMSG: it is damaged; `why` has a line. */
int cache_new(const struct cache_config *config, struct cache **ret_cache, struct buf *why);
/* The process dies by a signal: where what is remembered of the bucket is to blame (a mapped file that the disk cannot give), a mark is
 * left, and the next cache_new() begins anew with that. Safe in a signal handler. */
void cache_dying(void);
/* Everything must be released; uploads are stopped, unsent changes stay in the disk. */
void cache_free(struct cache *cache);

struct attributes {
    uint64_t number; /* st_ino: stays while mounted, also over renames and forgets */
    uint32_t mode;   /* with type */
    uint32_t uid, gid;
    uint32_t nlink;
    uint64_t size;
    uint64_t blocks; /* of 512 bytes */
    uint64_t device; /* st_rdev, of a device node */
    int64_t atime_ns, mtime_ns, ctime_ns;
};

/* A node as the kernel will know it. */
struct entry {
    struct inode *inode; /* a reference; NULL in a negative entry */
    uint64_t id; /* the node's id: never used twice; differs from number when a foreign version replaced it */
    struct attributes attributes;
    int64_t valid_ms; /* how long name and attributes may be believed */
};

struct inode *inode_ref(struct inode *inode);
void inode_unref(struct inode *inode);
uint64_t inode_id(const struct inode *inode);

/* The root directory; a reference. */
struct inode *cache_root(struct cache *cache);

/* Names. -ENOENT with ret_entry->valid_ms set may be remembered as a negative entry that long. */
int cache_lookup(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                 struct entry *ret_entry);
int cache_attributes(struct cache *cache, struct waiter *waiter, struct inode *inode,
                     struct attributes *ret_attributes, int64_t *ret_valid_ms);

enum attribute_mask {
    SET_MODE = 1,
    SET_UID = 2,
    SET_GID = 4,
    SET_SIZE = 8,
    SET_ATIME = 16,
    SET_MTIME = 32,
    SET_CTIME = 64,
    SET_MTIME_NOW = 128,
    SET_ATIME_NOW = 256,
    SET_CLEAR_SETID = 512, /* of a file: set-user-id goes, and set-group-id where the group may execute */
};

/* handle may be NULL (by path). durability=sync: the change is in S3 when this returns 0, or rides on the next upload
 * of a file that has unsent data anyway. */
int cache_set_attributes(struct cache *cache, struct waiter *waiter, struct inode *inode,
                         struct handle *handle, unsigned mask, const struct attributes *wanted,
                         struct attributes *ret_attributes);

/* SET_CLEAR_SETID of the inode, or of the handle's (the other one is NULL), where there is anything to clear: before a write by
 * who has no right to keep it. */
int cache_clear_setid(struct cache *cache, struct waiter *waiter, struct inode *inode, struct handle *handle);

/* Extended attributes. user.* of files and directories ride in the metadata (xattr.h); user.skyvol.* is told of what has an object:
 * etag, key, storage-class, version-id, state: read only (-EPERM), and not listed, so that nobody copies it. Of other classes there
 * are none: -ENODATA (security.*), -EOPNOTSUPP. What is asked is answered without a look at the server, where the inode is
 * known; storage-class and version-id ask it once. */
int cache_xattr_get(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name,
                    struct buf *ret_value);
/* Appends each name and its NUL. */
int cache_xattr_list(struct cache *cache, struct waiter *waiter, struct inode *inode, struct buf *ret_names);
/* flags: 0, XATTR_CREATE (-EEXIST) or XATTR_REPLACE (-ENODATA). -ENOSPC: more metadata than S3 takes; -EILSEQ: the name is not
 * UTF-8; -EOPNOTSUPP: also of the root of the mount. Durable as cache_set_attributes(). */
int cache_xattr_set(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name,
                    const void *value, size_t size, int flags);
int cache_xattr_remove(struct cache *cache, struct waiter *waiter, struct inode *inode, const char *name);

struct maker { /* who creates */
    uint32_t uid, gid;
    uint32_t mode; /* permission bits, umask applied */
    pid_t process; /* thread group */
};

/* With O_EXCL in sync the object stands in S3 when this returns 0, empty, and no other client made it too: -EEXIST for all but the
 * first. (After -EINTR it may stand there.) Else it is made here, and goes up over nothing: see conflict.h. */
int cache_create(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                 int flags, const struct maker *maker, struct entry *ret_entry, struct handle **ret_handle);
/* durability=writeback, local: at once; its marker goes up behind, and so do changes of its attributes. */
int cache_mkdir(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                const struct maker *maker, struct entry *ret_entry);
/* durability=writeback, local: at once, and over nothing; its object goes up behind. */
int cache_symlink(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                  const char *target, const struct maker *maker, struct entry *ret_entry);
/* The same of a fifo, a socket or a device node (type: S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK; else -EINVAL). */
int cache_mknod(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name,
                uint32_t type, uint64_t device, const struct maker *maker, struct entry *ret_entry);
/* Malloc'ed. -EIO: what another client stored there is no target: nothing, over PATH_MAX, or with a NUL in it. */
int cache_readlink(struct cache *cache, struct waiter *waiter, struct inode *inode, char **ret_target);
/* durability=writeback, local: the name goes at once, the object is deleted behind (cache_drain() waits for that), also after a
 * crash; one that another client put there meanwhile stays. */
int cache_unlink(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name);
/* The same, but that the server is asked whether it is empty, unless it was made here and has not gone up. */
int cache_rmdir(struct cache *cache, struct waiter *waiter, struct inode *parent, const char *name);
/* Behind as unlink: the names change at once, and survive a crash; the objects follow. flags: 0 or RENAME_NOREPLACE; others -EINVAL. */
int cache_rename(struct cache *cache, struct waiter *waiter, struct inode *from_parent, const char *from_name,
                 struct inode *to_parent, const char *to_name, unsigned flags);

/* Directories. Offsets: 0 is the start; each entry carries the offset to go on after it; they stay valid, and mean
 * the same place, until release. Listing from 0 again looks anew; where nothing changes (immutable), only after cache_refresh(). */
int cache_list_open(struct cache *cache, struct inode *directory, struct listing **ret_listing);
struct listed {
    const char *name;
    uint64_t next_offset;
    uint32_t type; /* S_IFMT bits */
    uint64_t number;
    struct entry entry; /* with_entries: inode is a reference when the sink takes it; NULL: not known now */
};
/* sink returns false when it has no room: that entry was not taken. with_entries: attributes too (readdirplus). */
int cache_list(struct cache *cache, struct waiter *waiter, struct listing *listing, uint64_t offset,
               bool with_entries, bool (*sink)(void *context, struct listed *listed), void *context);
void cache_list_release(struct listing *listing);
/* Memory of its names, outside the budget. */
size_t cache_list_bytes(const struct listing *listing);

/* Files. */
struct opened {
    bool keep_cache; /* the kernel's pages of this node are still of this version */
};
int cache_open(struct cache *cache, struct waiter *waiter, struct inode *inode, int flags, pid_t process,
               struct handle **ret_handle, struct opened *ret_opened);

/* A read ends by done(), which may be called before cache_read() returns. pieces point into pinned memory, valid until
 * cache_read_release(), which the caller calls exactly once after done(). The struct is the caller's. */
struct cache_read {
    struct handle *handle;
    uint64_t offset;
    size_t size;
    void (*done)(struct cache_read *read);
    void *owner;
    /* Results. */
    int rc; /* 0 or -errno */
    const struct iovec *pieces;
    size_t piece_count;
    size_t length; /* short only at the end of the file */
    /* The cache's own. */
    struct list link;
    void *state;
};
void cache_read(struct cache *cache, struct cache_read *read);
/* The user interrupted: done() comes soon with -EINTR, unless it came already or is coming. Safe until release. */
void cache_read_interrupt(struct cache *cache, struct cache_read *read);
void cache_read_release(struct cache *cache, struct cache_read *read);

/* All or nothing: 0 means all `size` bytes are taken. As the handle's flags say: at the end of the file (O_APPEND), and with O_SYNC or
 * O_DSYNC as by cache_fsync(). -EFBIG: it would be larger than an object may be. */
int cache_write(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                size_t size, uint64_t offset);
/* The same of what was stored into a mapping: it stands where it stands, whatever handle the kernel chose for it. */
int cache_write_back(struct cache *cache, struct waiter *waiter, struct handle *handle, const void *bytes,
                     size_t size, uint64_t offset);
/* O_APPEND, O_SYNC and O_DSYNC as they are now (fcntl). */
void cache_set_flags(struct handle *handle, int flags);
/* mode as fallocate(2): 0 or FALLOC_FL_KEEP_SIZE, with FALLOC_FL_ZERO_RANGE too; PUNCH_HOLE | KEEP_SIZE. Others: -EOPNOTSUPP. What is
 * allocated (not: zeroed) can be written though the local disk fills up, until it has gone up; -ENOSPC: that cannot be promised. */
int cache_allocate(struct cache *cache, struct waiter *waiter, struct handle *handle, int mode,
                   uint64_t offset, uint64_t length);
/* copy_file_range(2) of a large file, by the server (clone.h): *ret_length bytes of `length` stand in `to` as in `from`, and survive as by
 * cache_write(). -EOPNOTSUPP: nothing has changed, the bytes are to be read and written; also when the server would not. -EINTR: nothing
 * has changed. */
int cache_copy_range(struct cache *cache, struct waiter *waiter, struct handle *from, uint64_t from_offset,
                     struct handle *to, uint64_t to_offset, uint64_t length, uint64_t *ret_length);
/* lseek(2) with SEEK_DATA or SEEK_HOLE: hole.h. -ENXIO. */
int cache_seek(struct cache *cache, struct handle *handle, int whence, uint64_t offset, uint64_t *ret_offset);

/* flush (close) and fsync end by done(), possibly before the call returns. */
struct cache_sync {
    struct inode *inode;
    void (*done)(struct cache_sync *sync, int rc);
    void *owner;
    /* The cache's own. */
    struct list link;
    uint64_t version, attribute_version;
    uint64_t recorded; /* in the journal when it was asked: to be on the disk when it is answered */
    bool answered;
};
/* False: close is answered at once, so nobody need ask, and whose it is (`process`) matters not. */
bool cache_close_waits(const struct cache *cache);
/* Answered at once when nothing is unsent, or when `process` is not the one that opened the handle (a forked child's
 * exit publishes nothing). */
void cache_flush(struct cache *cache, struct handle *handle, pid_t process, struct cache_sync *sync);
void cache_fsync(struct cache *cache, struct inode *inode, struct cache_sync *sync);
/* The directory's entries as they stand now are in the bucket when this returns 0: itself, what is closed, and names that went or
 * were renamed away; not what is open, nor what is in directories below. The errors of cache_fsync(), of the first file that has one; -EIO when a delete fails for io_timeout;
 * -EINTR: it goes on behind; -EAGAIN without a waiter. */
int cache_fsync_directory(struct cache *cache, struct waiter *waiter, struct inode *directory);
/* True: unlinked, done() will not be called. False: it has been called or is being called. The upload goes on. */
bool cache_sync_interrupt(struct cache *cache, struct cache_sync *sync);
/* The handle is gone; unsent data goes up by itself. */
void cache_release(struct cache *cache, struct handle *handle);

struct cache_space {
    uint64_t total_bytes, free_bytes;
};
void cache_statfs(struct cache *cache, struct cache_space *ret_space);

/* Publishes everything unsent and waits; 0, -EINTR, -ETIMEDOUT (deadline), or the error of a file that cannot go up.
 * ret_unsent: files left. progressed (may be NULL) is called about once a second. */
int cache_drain(struct cache *cache, struct waiter *waiter, int64_t deadline_ms, size_t *ret_unsent);

struct cache_backlog {
    uint64_t files, bytes; /* unsent */
    uint64_t parked,
        conflicts; /* of the files: cannot go up as things stand; of these: another client's version is there */
    uint64_t sent_files, sent_bytes; /* since the cache was made: for rates */
    int64_t oldest_unsent_ms;        /* age; 0: nothing is unsent */
    uint64_t unflushed_bytes;
    int64_t oldest_unflushed_ms; /* age of the oldest change that is not on the disk; 0: all is */
};
void cache_backlog(struct cache *cache, struct cache_backlog *ret_backlog);

/* One with unsent changes. Texts are valid during the call. */
struct cache_unsent {
    const char *path;      /* below the mount: "a/b"; "" when it has no name any more (its object is to go) */
    const char *key;       /* whole */
    const char *local;     /* path of the local file with its bytes, or "" */
    uint64_t local_offset; /* ... where they begin in it: that of a small one is shared (slab.h) */
    uint64_t bytes;        /* dirty */
    uint64_t taken;        /* of these: in requests that are not answered yet, and beyond the network */
    bool parked, conflict;
    bool leaving; /* what is unsent is a delete */
    bool waits;   /* not tried: another file, or its delete, has the key first, and has not got anywhere */
    int rc;       /* of the try that failed; 0: none did */
    bool
        refused; /* parked, nothing of it is on its way, and no server that comes back or calms down will mend it. What is asked for
                     (cache_publish) is not refused before it has been tried again */
    bool lasting; /* parked, and no further try is made unless somebody asks (cache_publish) or changes it */
    const char *why; /* "not sent yet", or what went wrong */
};
typedef void cache_unsent_each(void *context, const struct cache_unsent *unsent);
void cache_unsent(struct cache *cache, cache_unsent_each *each, void *context);
/* All unsent at or below `path` ("a/b"; "": everything) is to go up now: also what is open, and what is parked, or failed to be
 * deleted, is tried again at once.
 * -ENOENT: no such name here. Does not wait: cache_drain(), or look at cache_unsent(). */
int cache_publish(struct cache *cache, const char *path);
/* What is known of the bucket at and below `path` ("a/b"; "": everything) is forgotten, here and by the kernel: whoever looks next
 * sees what is there. What is unsent stays. */
void cache_refresh(struct cache *cache, const char *path);
/* The unsent changes of one file are given up: it is again what the bucket holds, or nothing. -ENOENT: nothing of that name is
 * unsent; -EBUSY: it is open for writing; `why` has a line. */
int cache_discard(struct cache *cache, struct waiter *waiter, const char *path, struct buf *why);

/* The same for a disk that no cache has open; it is not changed. ret_source is malloc'ed; NULL: there is no journal. Errors as
 * cache_new(). */
int cache_look(struct disk *disk, cache_unsent_each *each, void *context, char **ret_source, struct buf *why);
/* Adds counts and facts of the cache to a JSON object (status). */
void cache_report(struct cache *cache, struct json *object);

/* description.c: for who moves files and objects without a mount, in the forms that mounts use.
 * A file as metadata and headers of the object `key`, both empty before. */
void cache_describe(const struct attributes *attributes, const char *key, struct store_fields *meta,
                    struct store_fields *headers);
/* What an object says of its file; who says nothing is ours, 0644. */
void cache_attributes_of(const struct store_object *object, struct attributes *ret_attributes);

#endif
