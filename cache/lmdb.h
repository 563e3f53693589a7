/* lmdb: sorted keys and values in one mapped file. The home of LMDB; its errors leave as -errno.
 *
 *      read: begin -> get | seek, next ... -> end        any thread, a snapshot each; what they give is valid until end
 *      write: begin -> put | delete | first, delete_here ... -> commit | abort        one thread
 *
 * A page of the map that the disk cannot give raises SIGBUS, and damaged pages may make LMDB abort: between begin and end this thread
 * is inside, lmdb_inside() says so. Not caught: a page whose header says less than no keys (mp_lower < 16) and keys of one length
 * (P_LEAF2), which nobody writes here: LMDB 0.9 looks for a key in it for ever.
 *
 * Written without syncs: after a power cut the file is worth nothing, unless lmdb_flush() was the last that happened to it.
 * Never MDB_WRITEMAP: a stray pointer of ours cannot reach the file. Read-ahead stays on: what is read most is whole directories.
 *
 * Owns: lmdb_close() needs all reads to have ended.
 * Errors: -ENOENT; -EBADMSG: damaged, or of another kind; -ENOBUFS: the map is full (or readers hold what could be used again);
 *         -EAGAIN: more than LMDB_READS_MAX reads; -ENOSPC, -EIO ... of the disk. A write that failed can only be aborted.
 */
#ifndef CACHE_LMDB_H
#define CACHE_LMDB_H

#include <stddef.h>
#include <stdint.h>

#define LMDB_READS_MAX 100
#define LMDB_KEY_MAX   511

struct lmdb;
struct lmdb_read;

struct lmdb_bytes {
    const void *bytes;
    size_t length;
};

struct lmdb_usage {
    uint64_t bytes; /* of pages in use */
    uint64_t entries;
};

/* In a directory that is there. mark: what lmdb_inside() returns for it; kept by the caller until lmdb_close(). */
int lmdb_open(const char *directory, uint64_t bytes_max, const char *mark, struct lmdb **ret_lmdb);
void lmdb_close(struct lmdb *lmdb);
/* All that was committed survives a power cut, as long as nothing is committed after it. */
int lmdb_flush(struct lmdb *lmdb);
void lmdb_usage(struct lmdb *lmdb, struct lmdb_usage *ret_usage);
/* The mark of what this thread is inside of; NULL. Safe in a signal handler. */
const char *lmdb_inside(void);

int lmdb_read_begin(struct lmdb *lmdb, struct lmdb_read **ret_read);
void lmdb_read_end(struct lmdb_read *read);
int lmdb_get(struct lmdb_read *read, const void *key, size_t length, struct lmdb_bytes *ret_value);
/* The first key that is this one or behind it. */
int lmdb_seek(struct lmdb_read *read, const void *key, size_t length, struct lmdb_bytes *ret_key,
              struct lmdb_bytes *ret_value);
int lmdb_next(struct lmdb_read *read, struct lmdb_bytes *ret_key, struct lmdb_bytes *ret_value);

int lmdb_write_begin(struct lmdb *lmdb);
/* Nothing is written where it stands there already. */
int lmdb_write_put(struct lmdb *lmdb, const void *key, size_t length, const struct lmdb_bytes *value);
/* 0 also where there is none. */
int lmdb_write_delete(struct lmdb *lmdb, const void *key, size_t length);
/* The first key that begins so; -ENOENT. Valid until the next write. */
int lmdb_write_first(struct lmdb *lmdb, const void *prefix, size_t length, struct lmdb_bytes *ret_key,
                     struct lmdb_bytes *ret_value);
/* Deletes what lmdb_write_first() found. */
int lmdb_write_delete_here(struct lmdb *lmdb);
int lmdb_write_commit(struct lmdb *lmdb);
void lmdb_write_abort(struct lmdb *lmdb);

#endif
