/* prefetch: what to fetch for a read, from the reads before it. Pure: no clock, no memory, no network.
 *
 * One struct per handle watches up to PREFETCH_STREAMS interleaved sequential readers. A read continues a stream when it
 * starts within PREFETCH_SLACK of its head (the kernel's read-ahead arrives out of order), else it is a random read
 * and takes over the stream least recently used.
 *
 *      window: 0 --first read at 0, or 2 in sequence--> 1 MiB --each top-up--> x2 ... --> max
 *              ^-- random read: fetch just what is asked, rounded to pages
 *
 * Use: prefetch_read() per read; it says the range to fetch now (demand) and the range to have in flight (ahead).
 */
#ifndef CACHE_PREFETCH_H
#define CACHE_PREFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PREFETCH_STREAMS 4
#define PREFETCH_SLACK   ((uint64_t)2 << 20)
#define PREFETCH_FIRST   ((uint64_t)1 << 20)

struct prefetch_stream {
    uint64_t head;   /* the furthest byte asked for */
    uint64_t ahead;  /* the furthest byte asked to be fetched */
    uint64_t window; /* how far ahead of head to be */
    uint64_t run;    /* bytes read in sequence */
    uint64_t used;   /* tick of the last read */
};

struct prefetch {
    struct prefetch_stream streams[PREFETCH_STREAMS];
    uint64_t tick;
};

struct prefetch_plan {
    uint64_t ahead_start, ahead_end; /* equal: nothing */
    bool sequential;                 /* part of a stream: nobody is expected to come back */
};

void prefetch_init(struct prefetch *prefetch);
void prefetch_read(struct prefetch *prefetch, uint64_t offset, uint64_t size, uint64_t file_size,
                   uint64_t window_max, bool stalled, struct prefetch_plan *ret_plan);

#endif
