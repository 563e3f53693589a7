#include "cache/extent.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPACE 96 /* bytes of the bitmap that the set is compared with */

static void check_form(const struct extents *extents)
{
    for (size_t i = 0; i < extents->count; i++) {
        cr_assert_lt(extents->all[i].start, extents->all[i].end);
        if (i > 0)
            cr_assert_lt(extents->all[i - 1].end, extents->all[i].start, "ranges touch");
    }
}

static void check_same(const struct extents *extents, const bool *bitmap)
{
    uint64_t bytes = 0;
    for (uint64_t at = 0; at < SPACE; at++) {
        cr_assert_eq(extents_cover(extents, at, at + 1), bitmap[at], "byte %lu", (unsigned long)at);
        cr_assert_eq(extents_touch(extents, at, at + 1), bitmap[at]);
        bytes += bitmap[at];
    }
    cr_assert_eq(extents_bytes(extents), bytes);
}

static void check_range(const struct extents *extents, const bool *bitmap, uint64_t start, uint64_t end)
{
    bool all = true, any = false;
    for (uint64_t at = start; at < end; at++) {
        all = all && bitmap[at];
        any = any || bitmap[at];
    }
    cr_assert_eq(extents_cover(extents, start, end), all);
    cr_assert_eq(extents_touch(extents, start, end), any);
}

/* Walking by next and next_gap tells every byte of [start, end) exactly once, in runs as long as they can be. */
static void check_walk(const struct extents *extents, const bool *bitmap, uint64_t start, uint64_t end)
{
    for (int gaps = 0; gaps < 2; gaps++) {
        uint64_t at = start;
        struct extent run;
        while (gaps ? extents_next_gap(extents, at, end, &run) : extents_next(extents, at, end, &run)) {
            cr_assert(run.start >= at && run.start < run.end && run.end <= end);
            for (uint64_t i = at; i < run.start; i++)
                cr_assert_eq(bitmap[i], gaps);
            for (uint64_t i = run.start; i < run.end; i++)
                cr_assert_neq(bitmap[i], gaps);
            cr_assert(run.end == end || bitmap[run.end] == gaps, "a run ends early");
            at = run.end;
        }
        for (uint64_t i = at; i < end; i++)
            cr_assert_eq(bitmap[i], gaps);
    }
}

Test(extent, agrees_with_a_bitmap_after_any_adds_and_removes)
{
    srand(7);
    for (int round = 0; round < 400; round++) {
        struct extents extents = {0};
        bool bitmap[SPACE + 1] = {false};
        for (int step = 0; step < 40; step++) {
            uint64_t start = (uint64_t)rand() % SPACE, end = start + (uint64_t)rand() % (SPACE - start + 1);
            if (rand() % 4)
                end = start + (end - start) / 8;
            bool adding = rand() % 3 != 0;
            if (adding)
                cr_assert_eq(extents_add(&extents, start, end), 0);
            else
                extents_remove(&extents, start, end);
            memset(bitmap + start, adding, end - start);
            check_form(&extents);
            check_same(&extents, bitmap);
            uint64_t from = (uint64_t)rand() % SPACE, to = from + (uint64_t)rand() % (SPACE - from + 1);
            check_range(&extents, bitmap, from, to);
            check_walk(&extents, bitmap, from, to);
        }
        extents_release(&extents);
    }
}

Test(extent, a_full_set_refuses_one_range_more_and_stays_as_it_is)
{
    struct extents extents = {0};
    for (uint64_t i = 0; i < EXTENTS_MAX; i++)
        cr_assert_eq(extents_add(&extents, i * 4, i * 4 + 1), 0);
    cr_assert_eq(extents_add(&extents, (uint64_t)EXTENTS_MAX * 4, (uint64_t)EXTENTS_MAX * 4 + 1), -ENOSPC);
    cr_assert_eq(extents.count, EXTENTS_MAX);
    cr_assert_eq(extents_bytes(&extents), EXTENTS_MAX);
    /* What joins its neighbours needs no range of its own. */
    cr_assert_eq(extents_add(&extents, 1, 4), 0);
    cr_assert_eq(extents.count, EXTENTS_MAX - 1);
    cr_assert_eq(extents_add(&extents, 0, (uint64_t)EXTENTS_MAX * 4), 0);
    cr_assert_eq(extents.count, 1);
    extents_release(&extents);
}

Test(extent, reaches_to_the_last_offset)
{
    struct extents extents = {0};
    struct extent found;
    cr_assert_eq(extents_add(&extents, UINT64_MAX - 8, UINT64_MAX), 0);
    cr_assert(extents_cover(&extents, UINT64_MAX - 8, UINT64_MAX));
    cr_assert(extents_next(&extents, 0, UINT64_MAX, &found));
    cr_assert_eq(found.start, UINT64_MAX - 8);
    cr_assert_not(extents_next(&extents, UINT64_MAX, UINT64_MAX, &found));
    extents_remove(&extents, 0, UINT64_MAX);
    cr_assert_eq(extents.count, 0);
    extents_release(&extents);
}
