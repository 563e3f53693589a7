/* catalog: what the bucket was last known to hold, kept over mounts in LMDB. It may be thrown away at any time: nothing that is
 * unsent stands in it, and the server can always be asked.
 *
 *      (directory, name)  -> facts.h                     directory: a number that the catalog gave; 1 is the root of the mount
 *      (directory, "")    -> listed whole, and when      while this stands, a name that is not there is not in the bucket
 *
 *      put, remove ---> waiting ---> being written ---> LMDB       one writer thread, a transaction for what has come together
 *      find, walk  <--- waiting over being written over LMDB       what was put is found at once
 *
 * What it is worth after the process before:
 *      closed                      all of it
 *      killed, same boot           facts of single names; no directory counts as listed whole (`doubtful`)
 *      no clean end, another boot  nothing: LMDB is written without syncs, so it is thrown away
 *      died inside it (the mark)   nothing: a disk error or a full disk under a mapped file raises SIGBUS
 *      another format or source    nothing
 *      damaged, unreadable         it is moved aside (one of them is kept), a new one is made
 * Where none can be made, and after an error while it is in use (full, unwritable, damaged), it is bypassed: one line in the log,
 * finds and walks answer -ENODATA, what is put is dropped.
 *
 * Room: the map has a fixed size, sparse on the disk. Beyond 9/10 of it whole directories go, those first that were listed
 * longest ago; what waits in memory is bounded by those who put much: catalog_wait_room().
 *
 * Owns: copies all it is given. NULL is a catalog that is always bypassed.
 * Threads: any. find and walk read the map, which may read the disk as any buffered read does: not under the lock of names. put,
 *          remove and set_listed copy into memory: under any lock but a leaf.
 */
#ifndef CACHE_CATALOG_H
#define CACHE_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/waiter.h"

#define CATALOG_ROOT        UINT64_C(1)
#define CATALOG_FORMAT      1
#define CATALOG_WAITING_MAX ((size_t)8 << 20)   /* bytes that wait in memory before those who put much wait */
#define CATALOG_BYTES       ((uint64_t)1 << 30) /* the map, where nothing else is said */

struct catalog;

struct catalog_config {
    const char *path;   /* a directory for it alone: made 0700 when missing; owned by this user, no symlink */
    const char *source; /* endpoint, bucket and prefix in one line */
    const char *boot;   /* /proc/sys/kernel/random/boot_id; NULL: not known, as another boot */
    uint64_t bytes_max; /* of the map; 0: CATALOG_BYTES */
};

/* NULL: none can be used here, `why` says so in a line. */
struct catalog *catalog_new(const struct catalog_config *config, struct buf *why);
/* Writes what waits, and notes that it was closed. */
void catalog_free(struct catalog *catalog);

/* A number that no directory has or had. */
uint64_t catalog_new_directory(struct catalog *catalog);
void catalog_put(struct catalog *catalog, uint64_t directory, const char *name, const void *facts,
                 size_t length);
void catalog_remove(struct catalog *catalog, uint64_t directory, const char *name);
/* All names in it and below, and that it was listed; behind. The number is not used again. */
void catalog_remove_below(struct catalog *catalog, uint64_t directory);
/* All that was put before belongs to it. wall_ns: when the listing began; 0: it is not known whole any more. */
void catalog_set_listed(struct catalog *catalog, uint64_t directory, int64_t wall_ns);

/* 0: ret_facts has the bytes. -ENOENT: the directory was listed whole, and has no such name. -ENODATA: nothing is known. */
int catalog_find(struct catalog *catalog, uint64_t directory, const char *name, struct buf *ret_facts);
/* When it was listed whole; 0: it was not, or not all of it is here any more. */
int64_t catalog_listed(struct catalog *catalog, uint64_t directory);
/* All names in it that are known, in the order of their bytes; the texts are valid during the call, which may not call the catalog.
 * `each` returns false to end it. 0, or -ENODATA: it is bypassed (then what was given is worth nothing). All that the bucket has
 * they are where catalog_listed() says so before and after. */
typedef bool catalog_each(void *context, const char *name, const void *facts, size_t length);
int catalog_walk(struct catalog *catalog, uint64_t directory, catalog_each *each, void *context);

/* Waits while more than CATALOG_WAITING_MAX is to be written. 0, -EINTR. Hold no lock. */
int catalog_wait_room(struct catalog *catalog, struct waiter *waiter);
/* Returns when all that was put before stands in LMDB, or it is bypassed. For tests, and before a process goes. */
void catalog_settle(struct catalog *catalog);
/* bytes, entries, waiting, bypassed: of it, for status. */
void catalog_report(struct catalog *catalog, struct json *object);
/* This thread is inside LMDB: what kills it is the catalog's fault. Safe in a signal handler; leaves the mark. */
void catalog_dying(void);

#endif
