#include "cache/prefetch.h"

#include <string.h>

void prefetch_init(struct prefetch *prefetch)
{
    memset(prefetch, 0, sizeof(*prefetch));
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool stream_continues(const struct prefetch_stream *stream, uint64_t offset)
{
    uint64_t lowest = stream->head > PREFETCH_SLACK ? stream->head - PREFETCH_SLACK : 0;
    /* A forward skip stays within what is on its way, or close behind the head. */
    uint64_t highest = larger(stream->head + PREFETCH_SLACK, stream->ahead);
    return stream->used > 0 && offset >= lowest && offset <= highest;
}

/* The stream that this read continues, or the one least recently used, made new. */
static struct prefetch_stream *find_stream(struct prefetch *prefetch, uint64_t offset, bool *ret_continues)
{
    struct prefetch_stream *oldest = &prefetch->streams[0], *found = NULL;
    for (int i = 0; i < PREFETCH_STREAMS; i++) {
        struct prefetch_stream *stream = &prefetch->streams[i];
        if (stream_continues(stream, offset) && (!found || stream->used > found->used))
            found = stream;
        if (stream->used < oldest->used)
            oldest = stream;
    }
    *ret_continues = found != NULL;
    if (found)
        return found;
    *oldest = (struct prefetch_stream){.head = offset, .ahead = offset};
    return oldest;
}

static void grow(struct prefetch_stream *stream, uint64_t window_max)
{
    stream->window = stream->window ? stream->window * 2 : PREFETCH_FIRST;
    stream->window = smaller(stream->window, window_max);
}

void prefetch_read(struct prefetch *prefetch, uint64_t offset, uint64_t size, uint64_t file_size,
                   uint64_t window_max, bool stalled, struct prefetch_plan *ret_plan)
{
    bool continues;
    struct prefetch_stream *stream = find_stream(prefetch, offset, &continues);
    uint64_t end = smaller(offset + size, file_size);
    uint64_t advanced = end > stream->head ? end - stream->head : 0;
    stream->used = ++prefetch->tick;
    stream->run += continues ? advanced : size;
    stream->head = larger(stream->head, end);
    stream->ahead = larger(stream->ahead, stream->head);
    *ret_plan = (struct prefetch_plan){stream->ahead, stream->ahead, continues || offset == 0};
    /* Proof of sequence: a read at the start of a file, or one that follows another. */
    if (!continues && offset != 0)
        return;
    bool low = stream->ahead - stream->head < (stream->window + 1) / 2;
    if (stream->window == 0 || (low && stalled) || (low && advanced > 0))
        grow(stream, window_max);
    else if (!low)
        return;
    uint64_t until = stream->head + stream->window;
    /* Whole steps, so that a few large requests are sent, not many small ones. */
    until = smaller(until / PREFETCH_FIRST * PREFETCH_FIRST, file_size);
    if (stream->head + stream->window >= file_size)
        until = file_size;
    if (until <= stream->ahead)
        return;
    ret_plan->ahead_end = until;
    stream->ahead = until;
}
