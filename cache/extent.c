#include "cache/extent.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

/* The index of the first range that ends at or after `at` (touching counts); count when there is none. */
static size_t find_from(const struct extents *extents, uint64_t at)
{
    size_t low = 0, high = extents->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (extents->all[middle].end < at)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The index of the first range that ends after `at`. */
static size_t find_after(const struct extents *extents, uint64_t at)
{
    return at == UINT64_MAX ? extents->count : find_from(extents, at + 1);
}

/* Puts `with` (0, 1 or 2 ranges) in place of the ranges [first, last). */
static void replace_ranges(struct extents *extents, size_t first, size_t last, const struct extent *with,
                           size_t with_count)
{
    size_t count = extents->count - (last - first) + with_count;
    if (count > extents->room) {
        size_t room = extents->room ? extents->room * 2 : 8;
        extents->room = room < count ? count : room;
        extents->all = xrealloc(extents->all, extents->room * sizeof extents->all[0]);
    }
    if (extents->count > last)
        memmove(extents->all + first + with_count, extents->all + last,
                (extents->count - last) * sizeof extents->all[0]);
    for (size_t i = 0; i < with_count; i++)
        extents->all[first + i] = with[i];
    extents->count = count;
}

int extents_add(struct extents *extents, uint64_t start, uint64_t end)
{
    assert(start <= end);
    if (start == end)
        return 0;
    size_t first = find_from(extents, start), last = first;
    struct extent joined = {start, end};
    while (last < extents->count && extents->all[last].start <= end) {
        if (extents->all[last].start < joined.start)
            joined.start = extents->all[last].start;
        if (extents->all[last].end > joined.end)
            joined.end = extents->all[last].end;
        last++;
    }
    if (first == last && extents->count == EXTENTS_MAX)
        return -ENOSPC;
    replace_ranges(extents, first, last, &joined, 1);
    return 0;
}

void extents_remove(struct extents *extents, uint64_t start, uint64_t end)
{
    assert(start <= end);
    if (start == end)
        return;
    size_t first = find_after(extents, start), last = first;
    struct extent rest[2];
    size_t rest_count = 0;
    while (last < extents->count && extents->all[last].start < end) {
        const struct extent *at = &extents->all[last++];
        if (at->start < start)
            rest[rest_count++] = (struct extent){at->start, start};
        if (at->end > end)
            rest[rest_count++] = (struct extent){end, at->end};
    }
    if (first != last)
        replace_ranges(extents, first, last, rest, rest_count);
}

bool extents_cover(const struct extents *extents, uint64_t start, uint64_t end)
{
    if (start >= end)
        return true;
    size_t at = find_after(extents, start);
    return at < extents->count && extents->all[at].start <= start && extents->all[at].end >= end;
}

bool extents_touch(const struct extents *extents, uint64_t start, uint64_t end)
{
    if (start >= end)
        return false;
    size_t at = find_after(extents, start);
    return at < extents->count && extents->all[at].start < end;
}

bool extents_next(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *ret_extent)
{
    size_t at = find_after(extents, from);
    if (at == extents->count || extents->all[at].start >= limit || from >= limit)
        return false;
    struct extent found = extents->all[at];
    ret_extent->start = found.start > from ? found.start : from;
    ret_extent->end = found.end < limit ? found.end : limit;
    return true;
}

bool extents_next_gap(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *ret_gap)
{
    size_t at = find_after(extents, from);
    if (at < extents->count && extents->all[at].start <= from)
        from = extents->all[at++].end;
    if (from >= limit)
        return false;
    ret_gap->start = from;
    ret_gap->end = at < extents->count && extents->all[at].start < limit ? extents->all[at].start : limit;
    return true;
}

uint64_t extents_bytes(const struct extents *extents)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < extents->count; i++)
        bytes += extents->all[i].end - extents->all[i].start;
    return bytes;
}

void extents_copy(struct extents *to, const struct extents *from)
{
    extents_clear(to);
    if (from->count)
        replace_ranges(to, 0, 0, from->all, from->count);
}

void extents_clear(struct extents *extents)
{
    extents->count = 0;
}

void extents_release(struct extents *extents)
{
    free(extents->all);
    *extents = (struct extents){0};
}
