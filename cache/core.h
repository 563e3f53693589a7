/* core: struct cache itself, for the files of this room. */
#ifndef CACHE_CORE_H
#define CACHE_CORE_H

#include "base/pool.h"
#include "cache/block.h"
#include "cache/names.h"
#include "cache/upload.h"

struct catalog;
struct forest;
struct journal;
struct overlay;
struct pressure;
struct slabs;

struct cache {
    /* Set at birth. */
    struct cache_config config; /* its disk is that of `slabs` */
    char *prefix;
    int64_t started_ns; /* wall time: the times of directories that have no marker */
    struct slabs *slabs;
    struct journal *journal; /* NULL: nothing is changed here (a read-only mount) */
    struct catalog *catalog; /* NULL: nothing is remembered over mounts */
    struct names names;
    struct forest *forest;
    struct pressure *pressure;
    struct overlay *overlay;
    struct blocks *blocks;
    struct uploader *uploader;
    struct deleter *deleter;
    struct pool *refreshing; /* directories that are listed behind */
    struct pool *behind;     /* work that nobody waits for: notices to the kernel, answers after a flush */
    atomic_uint_fast64_t next_local; /* names of local files */
    atomic_bool unreached;           /* config.unreached, until the server answers */
    atomic_bool stopping;            /* cache_free has begun: no more notices */
    atomic_uint_fast64_t refreshes;  /* calls of cache_refresh(); changes under the lock of names */
    /* Under `probing`: what the endpoint honours is asked once (server.h). */
    struct lock probing;
    struct gate probe_ended;
    bool probe_runs, probed;
    atomic_int_fast64_t
        made_ms; /* when a file was last made: uploads hold back a little for who makes many */
    atomic_bool tags_unread_told, tags_unsent_told; /* the log says each once */
    /* Counters for status. */
    atomic_uint_fast64_t heads, lists, stale_reads, conflict_copies;
};

#endif
