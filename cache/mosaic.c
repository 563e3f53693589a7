#include "cache/mosaic.h"

#include <assert.h>
#include <stdlib.h>

#include "base/buf.h"
#include "s3/store.h"

struct cut {
    struct part_plan *plan;
    const struct extents *changed;
    uint64_t base_size;
    uint64_t least;     /* of what is copied */
    uint64_t copy_most; /* of one copied piece */
    size_t room;
    bool full; /* more pieces than there may be */
};

/* A sent run that grows to the right: where its last piece begins, and the number of that. */
struct run {
    uint64_t last;
    size_t index;
};

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void add_piece(struct cut *cut, uint64_t end, bool copied)
{
    struct part_plan *plan = cut->plan;
    cut->full = cut->full || plan->piece_count == MOSAIC_PARTS_MAX;
    if (cut->full)
        return;
    if (plan->piece_count == cut->room) {
        cut->room = cut->room ? cut->room * 2 : 8;
        plan->pieces = xrealloc(plan->pieces, cut->room * sizeof plan->pieces[0]);
    }
    plan->pieces[plan->piece_count++] = (struct part_piece){end, copied};
}

/* In equal pieces, so that none is short. */
static void add_copied(struct cut *cut, uint64_t start, uint64_t end)
{
    uint64_t length = end - start, count = (length + cut->copy_most - 1) / cut->copy_most;
    for (uint64_t i = 1; i <= count && !cut->full; i++)
        add_piece(cut, start + length / count * i + length % count * i / count, true);
}

static void add_sent(struct cut *cut, uint64_t start, uint64_t end)
{
    while (start < end && !cut->full) {
        uint64_t bytes = part_bytes(cut->plan, cut->plan->piece_count);
        start = end - start < bytes ? end : start + bytes;
        add_piece(cut, start, false);
    }
}

/* The least end of the run at or behind `end` with which its last piece is not too short. */
static uint64_t stretch(const struct cut *cut, struct run *run, uint64_t end)
{
    for (uint64_t bytes; end - run->last > (bytes = part_bytes(cut->plan, run->index)); run->index++)
        run->last += bytes;
    return larger(end, run->last + PART_BYTES_MIN);
}

/* Where the sent run that begins at `start` ends: before the first range that is worth a copy. base_size: there is none. */
static uint64_t find_sent_end(const struct cut *cut, uint64_t start)
{
    struct run run = {start, cut->plan->piece_count};
    struct extent change;
    for (uint64_t end = start;; end = change.end) {
        uint64_t limit = cut->base_size, stretched = stretch(cut, &run, end);
        bool more = extents_next(cut->changed, end, limit, &change);
        if (more)
            limit = change.start;
        if (stretched <= limit && limit - stretched >= cut->least)
            return stretched;
        if (!more)
            return cut->base_size;
    }
}

static void cut_once(struct cut *cut)
{
    uint64_t at = 0, end;
    struct extent change;
    while (at < cut->base_size && !cut->full) {
        end = extents_next(cut->changed, at, cut->base_size, &change) ? change.start : cut->base_size;
        if (end - at >= cut->least) {
            add_copied(cut, at, end);
        } else {
            end = find_sent_end(cut, at);
            if (end == cut->base_size) /* by number, as what follows */
                return;
            add_sent(cut, at, end);
        }
        at = end;
    }
}

bool mosaic_cut(struct part_plan *plan, const struct extents *changed, uint64_t base_size, uint64_t size)
{
    part_plan_release(plan);
    if (plan->equal || plan->bytes < PART_BYTES_MIN || size <= plan->bytes)
        return false;
    assert(base_size <= size);
    struct cut cut = {.plan = plan, .changed = changed, .base_size = base_size};
    cut.copy_most = larger(MOSAIC_COPY_BYTES, base_size / MOSAIC_COPIES);
    for (cut.least = PART_BYTES_MIN; cut.least <= base_size; cut.least *= 2) {
        part_plan_release(plan);
        cut.full = false;
        cut.room = 0;
        cut_once(&cut);
        if (!cut.full && part_count(plan, size) <= MOSAIC_PARTS_MAX)
            return plan->piece_count > 0;
    }
    part_plan_release(plan);
    return false;
}

bool mosaic_holds(const struct part_plan *plan, const struct extents *changed, uint64_t base_size)
{
    for (size_t i = 0; i < plan->piece_count; i++) {
        uint64_t start, end;
        part_range(plan, i, &start, &end);
        if (plan->pieces[i].copied && (end > base_size || extents_touch(changed, start, end)))
            return false;
    }
    return true;
}

void mosaic_copied(const struct part_plan *plan, struct extents *ret_copied)
{
    extents_clear(ret_copied);
    for (size_t i = 0; i < plan->piece_count; i++) {
        uint64_t start, end;
        part_range(plan, i, &start, &end);
        if (plan->pieces[i].copied && extents_add(ret_copied, start, end) < 0)
            return; /* fetched in vain, no worse */
    }
}
