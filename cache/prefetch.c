#include "cache/prefetch.h"

#include <string.h>

#include "base/memory.h"

void prefetch_init(struct prefetch *prefetch, struct prefetch_stream *streams, size_t count)
{
    memset(streams, 0, count * sizeof(*streams));
    *prefetch = (struct prefetch){.streams = streams, .stream_count = count};
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static bool stream_continues(const struct prefetch_stream *stream, uint64_t offset, uint64_t end)
{
    if (stream->used == 0)
        return false;
    if (stream->window == 0)
        return offset <= stream->head + PAGE_BYTES && end + PAGE_BYTES >= stream->start;
    uint64_t lowest = stream->head > PREFETCH_SLACK ? stream->head - PREFETCH_SLACK : 0;
    return offset >= lowest && offset <= larger(stream->head + PREFETCH_SLACK, stream->ahead);
}

/* Somebody begins who shares it with others; what they had fetched may be gone by now. */
static bool comes_anew(const struct prefetch *prefetch, uint64_t offset)
{
    return offset == 0 && prefetch->stream_count > PREFETCH_STREAMS;
}

/* The stream that this read continues, or the one least recently used, made new. */
static struct prefetch_stream *find_stream(struct prefetch *prefetch, uint64_t offset, uint64_t end,
                                           bool *ret_continues)
{
    struct prefetch_stream *oldest = &prefetch->streams[0], *found = NULL;
    bool anew = comes_anew(prefetch, offset);
    for (size_t i = 0; i < prefetch->stream_count; i++) {
        struct prefetch_stream *stream = &prefetch->streams[i];
        if (!anew && stream_continues(stream, offset, end) && (!found || stream->used > found->used))
            found = stream;
        if (stream->used < oldest->used)
            oldest = stream;
    }
    *ret_continues = found != NULL;
    if (found)
        return found;
    *oldest = (struct prefetch_stream){.start = offset, .head = offset, .ahead = offset};
    return oldest;
}

static void note_read(struct prefetch_stream *stream, uint64_t tick, uint64_t end, uint64_t size)
{
    uint64_t advanced = end > stream->head ? end - stream->head : 0;
    stream->used = tick;
    stream->run += smaller(advanced, size); /* bytes that were skipped prove nothing */
    stream->head = larger(stream->head, end);
    stream->ahead = larger(stream->ahead, stream->head);
}

static void grow(struct prefetch_stream *stream, uint64_t window_max)
{
    if (stream->window == 0)
        stream->window = PREFETCH_FIRST;
    else if (stream->run >= stream->window)
        stream->window *= 2;
    stream->window = smaller(stream->window, window_max);
}

/* A power of two, so that the GETs of all sizes end at each other's borders. */
static uint64_t step_of(uint64_t window, bool few)
{
    uint64_t step = PREFETCH_FIRST, in_flight = few ? 4 : 8;
    while (step < PREFETCH_STEP_MAX && step * 2 * in_flight <= window)
        step *= 2;
    return larger(smaller(step, window / PAGE_BYTES * PAGE_BYTES), PAGE_BYTES);
}

static uint64_t find_end(const struct prefetch_stream *stream, uint64_t step,
                         const struct prefetch_limits *limits)
{
    uint64_t until = stream->head + stream->window;
    until = until >= limits->file_size ? limits->file_size : until / step * step;
    if (until <= stream->ahead)
        return stream->ahead;
    if (until - stream->ahead <= limits->room)
        return until;
    /* Who has some way to go leaves what little there is to others, and comes back for a whole step. */
    if (limits->room < step && stream->ahead - stream->head >= step)
        return stream->ahead;
    return larger((stream->ahead + limits->room) / PAGE_BYTES * PAGE_BYTES, stream->ahead);
}

void prefetch_read(struct prefetch *prefetch, uint64_t offset, uint64_t size,
                   const struct prefetch_limits *limits, struct prefetch_plan *ret_plan)
{
    bool continues;
    uint64_t end = smaller(offset + size, limits->file_size);
    struct prefetch_stream *stream = find_stream(prefetch, offset, end, &continues);
    note_read(stream, ++prefetch->tick, end, size);
    *ret_plan = (struct prefetch_plan){
        .ahead_start = stream->ahead, .ahead_end = stream->ahead, .step = PREFETCH_FIRST};
    bool first = !prefetch->whole || comes_anew(prefetch, offset);
    if (first && limits->file_size <= smaller(PREFETCH_WHOLE, limits->room)) {
        prefetch->whole = true;
        *ret_plan = (struct prefetch_plan){0, limits->file_size, PREFETCH_WHOLE, offset == 0};
        stream->ahead = limits->file_size;
    }
    if (!continues && offset != 0)
        return;
    ret_plan->sequential = true;
    grow(stream, limits->window_max);
    uint64_t step = step_of(stream->window, limits->few);
    if (stream->ahead - stream->head + smaller(step, stream->window / 2) > stream->window)
        return;
    uint64_t until = find_end(stream, step, limits);
    if (until == stream->ahead)
        return;
    ret_plan->step = step;
    ret_plan->ahead_end = stream->ahead = until;
}

void prefetch_cut(struct prefetch *prefetch, const struct prefetch_plan *plan, uint64_t reached)
{
    for (size_t i = 0; i < prefetch->stream_count; i++) {
        struct prefetch_stream *stream = &prefetch->streams[i];
        if (stream->used > 0 && stream->ahead == plan->ahead_end && plan->ahead_end > plan->ahead_start)
            stream->ahead = larger(smaller(reached, stream->ahead), stream->head);
    }
}
