/* room: a whole cache over a memory_store and a directory of its own, for tests of the way up (and down).
 *
 * Use: ROOM_SCOPED(room, &(struct room_config){...}); files by room_create() or room_open(), bytes by patterns:
 *      byte i of pattern `seed` is the same wherever it stands, so that any range of a file can be checked alone.
 */
#ifndef TESTS_SUPPORT_ROOM_H
#define TESTS_SUPPORT_ROOM_H

#include "base/clock.h"
#include "cache/cache.h"
#include "tests/support/fault_disk.h"
#include "tests/support/memory_store.h"

struct room_config {
    struct memory_store_config bucket;
    size_t memory_bytes;     /* 0: 64 MiB */
    uint64_t part_bytes;     /* 0: 8 MiB */
    int64_t attr_ttl_ms;     /* 0: 1000 */
    int64_t negative_ttl_ms; /* 0: attr_ttl_ms */
    int64_t io_timeout_ms;   /* 0: 60 s */
    uint64_t early_bytes;    /* 0: never */
    uint64_t copy_bytes_max; /* 0: 1 GiB */
    uint64_t copy_step_min;  /* 0: 1 GiB */
    uint32_t uploads_max;
    uint64_t dirty_max;       /* 0: what the disk allows */
    int64_t publish_after_ms; /* 0: never */
    bool read_only, immutable;
    enum durability durability; /* sync */
    int64_t commit_ms;          /* 0: flushing begins at once */
    enum conflict_rule conflict;
    struct disk *disk; /* the test's; NULL: a directory of its own */
    const char *boot;  /* of the host; NULL: not known */
    bool catalog;      /* names are remembered over room_reopen(); needs `boot` */
};

struct room {
    struct room_config config;
    struct memory_store *bucket;
    struct store *store;
    struct memory *memory;
    struct disk *directory;
    struct fault_disk disk; /* over directory */
    struct cache *cache;
    struct inode *root;
    struct waiter waiter;    /* of the test's own thread */
    char path[64];           /* of the directory; "": the disk is the test's */
    struct disk *snapshot;   /* of a crash; NULL: none */
    struct fault next_fault; /* what room_reopen()'s cache meets from its beginning; kind 0: nothing */
    char snapshot_path[64];
    char catalog_path[64]; /* "": none */
};

void room_init(struct room *room, const struct room_config *config);
/* The cache goes: all handles must be released. The bucket, the disk and the rest stay until room_release. */
void room_close_cache(struct room *room);
void room_release(struct room *room);
/* What a kill -9 would leave on the disk is put aside, and nothing that is sent arrives from here on: the handles can be released.
 * Then room_reopen(): the cache of the next process finds that disk. Without a crash it finds what an orderly end left. */
void room_crash(struct room *room);
void room_reopen(struct room *room);
/* The next process finds this disk, the test's own, under another boot. */
void room_reopen_on(struct room *room, struct disk *disk, const char *boot);
#define ROOM_SCOPED(name, config)                                                                            \
    struct room name __attribute__((cleanup(room_release)));                                                 \
    room_init(&name, config)

/* The process that opens in tests is 1. */
#define ROOM_PROCESS 1

/* Nothing that changes the bucket is answered, until room_start_server(). */
void room_stop_server(struct room *room);
/* All faults end, what hangs goes on. */
void room_start_server(struct room *room);

/* 0 or the error. */
int room_create(struct room *room, const char *name, struct handle **ret_handle);
int room_open(struct room *room, const char *name, int flags, struct handle **ret_handle);
struct inode *room_inode(struct handle *handle);
/* Bytes of pattern `seed` at [offset, offset + size). */
int room_write(struct room *room, struct handle *handle, uint64_t offset, size_t size, unsigned seed);
char room_byte(unsigned seed, uint64_t at);
/* Blocking forms; cache_flush of the opener, cache_fsync. */
int room_flush(struct room *room, struct handle *handle);
int room_fsync(struct room *room, struct handle *handle);
int room_truncate(struct room *room, struct handle *handle, uint64_t size);
/* Flush, then release: the flush's answer. */
int room_close(struct room *room, struct handle *handle);

/* A sync that is under way. */
struct room_sync {
    struct cache_sync sync;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool done;
    int rc;
};
void room_sync_prepare(struct room_sync *sync);
void room_fsync_begin(struct room *room, struct handle *handle, struct room_sync *sync);
bool room_sync_done(struct room_sync *sync);
/* Waits up to 30 s of real time; -ETIME when it did not end. */
int room_sync_end(struct room_sync *sync);

/* Waits up to 10 s of real time until true. */
bool room_await(bool (*is_true)(void *context), void *context);

/* True when [start, end) of the object are these bytes of a pattern; seed 0: zeros. Says in stderr what differs. */
bool room_object_holds(struct room *room, const char *key, uint64_t start, uint64_t end, unsigned seed);
/* The size of the object; UINT64_MAX: none. */
uint64_t room_object_size(struct room *room, const char *key);
/* Local files that stand on the disk; they go when the journal has been flushed, so that may take a moment. */
size_t room_local_files(struct room *room);
bool room_await_no_local_file(struct room *room);
/* inode_check_locked() under its lock; also false when it is not clean. */
bool room_clean(struct handle *handle);

/* For tests with criterion: all that is unsent, or is to be deleted, has gone up within 10 s. */
#define assert_drained(room)                                                                                 \
    do {                                                                                                     \
        size_t unsent_now;                                                                                   \
        int drained_rc = cache_drain((room)->cache, &(room)->waiter, clock_ms() + 10000, &unsent_now);       \
        cr_assert(drained_rc == 0 && unsent_now == 0, "drain: %d, %zu left", drained_rc, unsent_now);        \
    } while (0)

#endif
