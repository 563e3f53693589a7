/* prefetch: what to fetch for a read, from the reads before it. Pure: no clock, no memory, no network.
 *
 * One struct per handle watches some interleaved sequential readers (PREFETCH_STREAMS; one that serves many at once
 * PREFETCH_STREAMS_SHARED). A read that continues no stream is a random read; it takes over the stream least recently used.
 *
 *      unproven: one read so far, not at 0 --a read that touches it (the kernel's arrive out of order)--> proven
 *                  fetch just what is asked, rounded to pages
 *      proven:   a read at 0, or as above; goes on with reads up to PREFETCH_SLACK behind its head, or before it, or in
 *                what was fetched ahead
 *                  window: PREFETCH_FIRST, doubled whenever as much has been read in sequence, ... max
 *
 *            behind    head         ahead           head + window
 *      --------|--------|-------------|------step------|-------      topped up by whole steps as soon as one fits: a few
 *              read     '- on its way -'                             large GETs in flight, not many small ones
 *
 * A file of up to PREFETCH_WHOLE is fetched whole at its first read. Of one that many share, who reads at 0 has just come: that is the
 * first read of a stream of its own, whatever was read before.
 * Use: prefetch_read() per read says what to have in flight; prefetch_cut() when there was no memory for all of that.
 */
#ifndef CACHE_PREFETCH_H
#define CACHE_PREFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PREFETCH_STREAMS        4
#define PREFETCH_STREAMS_SHARED 16
#define PREFETCH_SLACK          ((uint64_t)2 << 20)
#define PREFETCH_FIRST          ((uint64_t)1 << 20)
#define PREFETCH_STEP_MAX       ((uint64_t)16 << 20)
#define PREFETCH_WHOLE          ((uint64_t)2 << 20)

struct prefetch_stream {
    uint64_t start;  /* of its first read */
    uint64_t head;   /* the furthest byte asked for */
    uint64_t ahead;  /* the furthest byte asked to be fetched */
    uint64_t window; /* how far ahead of head to be; 0: unproven */
    uint64_t run;    /* bytes read in sequence */
    uint64_t used;   /* tick of the last read; 0: never */
};

struct prefetch {
    struct prefetch_stream *streams; /* the caller's */
    size_t stream_count;
    uint64_t tick;
    bool whole; /* a small file, asked for whole */
};

struct prefetch_limits {
    uint64_t file_size;
    uint64_t window_max; /* of one stream */
    uint64_t room;       /* bytes that may be read ahead now: the memory that is left, shared among streams */
    bool few; /* one GET alone is fast: four fill the window, else eight (S3 gives each some 80 MB/s) */
};

struct prefetch_plan {
    uint64_t ahead_start, ahead_end; /* equal: nothing */
    uint64_t step;                   /* bytes of one GET at most; they end at multiples of it */
    bool sequential;                 /* part of a stream: nobody is expected to come back */
};

/* The streams are the caller's, and outlive it. */
void prefetch_init(struct prefetch *prefetch, struct prefetch_stream *streams, size_t count);
void prefetch_read(struct prefetch *prefetch, uint64_t offset, uint64_t size,
                   const struct prefetch_limits *limits, struct prefetch_plan *ret_plan);
/* Of what this plan said, only bytes before `reached` are on their way: the rest is planned again. */
void prefetch_cut(struct prefetch *prefetch, const struct prefetch_plan *plan, uint64_t reached);

#endif
