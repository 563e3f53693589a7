/* core: struct cache itself, for the files of this room. */
#ifndef CACHE_CORE_H
#define CACHE_CORE_H

#include "base/pool.h"
#include "cache/block.h"
#include "cache/names.h"
#include "cache/upload.h"

struct cache {
    /* Set at birth. */
    struct cache_config config;
    char *prefix;
    int64_t started_ns; /* wall time: the times of directories that have no marker */
    struct names names;
    struct blocks *blocks;
    struct uploader *uploader;
    struct pool *behind; /* work that nobody waits for: deletes after the last close, notices to the kernel */
    atomic_uint_fast64_t next_local; /* names of local files */
    atomic_bool stopping;            /* cache_free has begun: no more notices */
    /* Under `probing`: what the endpoint honours is asked once (server.h). */
    struct lock probing;
    struct gate probe_ended;
    bool probe_runs, probed;
    /* Counters for status. */
    atomic_uint_fast64_t heads, lists, stale_reads;
};

#endif
