#include "base/memory.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define LIMIT ((size_t)8 << 20)

struct asked {
    struct memory_request request;
    int order; /* the how many-th grant of this test; 0: not yet */
};

static int grants;

static void note_grant(struct memory_request *request)
{
    struct asked *asked = container_of(request, struct asked, request);
    cr_assert_eq(asked->order, 0, "granted twice");
    asked->order = ++grants;
}

static struct asked make_asked(size_t bytes, enum memory_share share)
{
    return (struct asked){.request = {.bytes = bytes, .share = share, .granted = note_grant}};
}

static struct memory_report read_report(struct memory *memory)
{
    struct memory_report report;
    memory_report(memory, &report);
    return report;
}

static size_t read_rss_anon(void)
{
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    size_t kib = 0;
    while (fgets(line, sizeof(line), file))
        if (sscanf(line, "RssAnon: %zu", &kib) == 1)
            break;
    fclose(file);
    return kib * 1024;
}

Test(memory, what_is_left_of_a_share_has_nothing_to_do_with_the_limit)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT - 1000, SHARE_DEMAND));
    cr_assert_eq(memory_left(memory, SHARE_DEMAND), 1000);
    cr_assert_eq(memory_left(memory, SHARE_NAMES), LIMIT / 8);
    cr_assert(memory_try(memory, 600, SHARE_NAMES));
    cr_assert_eq(memory_left(memory, SHARE_NAMES), LIMIT / 8 - 600);
    cr_assert_not(memory_try(memory, 600, SHARE_NAMES));
    memory_give(memory, 600, SHARE_NAMES);
    memory_give(memory, LIMIT - 1000, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, the_limit_cannot_be_passed)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    cr_assert_not(memory_try(memory, 1, SHARE_UPLOAD));
    memory_give(memory, LIMIT, SHARE_DEMAND);
    cr_assert_not(memory_try(memory, LIMIT + 1, SHARE_DEMAND));
    cr_assert(memory_try(memory, LIMIT, SHARE_UPLOAD));
    memory_give(memory, LIMIT, SHARE_UPLOAD);
    memory_free(memory);
}

Test(memory, no_share_passes_its_part)
{
    static const size_t parts[SHARE_COUNT] = {[SHARE_DEMAND] = LIMIT,
                                              [SHARE_UPLOAD] = LIMIT,
                                              [SHARE_AHEAD] = LIMIT / 2,
                                              [SHARE_NAMES] = LIMIT / 8,
                                              [SHARE_OVERLAY] = LIMIT / 2};
    for (enum memory_share share = 0; share < SHARE_COUNT; share++) {
        struct memory *memory = memory_new(LIMIT);
        struct asked whole = make_asked(parts[share] + 1, share);
        cr_assert_eq(memory_ask(memory, &whole.request), -EFBIG);
        cr_assert_eq(memory_take(memory, parts[share] + 1, share, NULL, CLOCK_NEVER), -EFBIG);
        cr_assert(memory_try(memory, parts[share], share));
        cr_assert_not(memory_try(memory, 1, share));
        memory_give(memory, parts[share], share);
        memory_free(memory);
    }
}

Test(memory, a_request_that_fits_is_granted_at_once)
{
    struct memory *memory = memory_new(LIMIT);
    struct asked asked = make_asked(LIMIT, SHARE_DEMAND);
    struct asked none = make_asked(0, SHARE_DEMAND);
    cr_assert_eq(memory_ask(memory, &asked.request), 0);
    cr_assert_eq(asked.order, 1);
    cr_assert_eq(memory_ask(memory, &none.request), 0);
    cr_assert_eq(none.order, 2);
    memory_give(memory, LIMIT, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, a_large_request_is_not_starved_by_small_ones)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT - 100, SHARE_DEMAND));
    struct asked large = make_asked(LIMIT / 2, SHARE_DEMAND);
    struct asked small = make_asked(10, SHARE_UPLOAD);
    memory_ask(memory, &large.request);
    memory_ask(memory, &small.request);
    cr_assert_eq(small.order, 0, "it fits, but the large one was first");
    cr_assert_not(memory_try(memory, 1, SHARE_NAMES));
    cr_assert_eq(read_report(memory).waiting, 2);
    memory_give(memory, LIMIT - 100, SHARE_DEMAND);
    cr_assert_eq(large.order, 1);
    cr_assert_eq(small.order, 2);
    memory_give(memory, LIMIT / 2, SHARE_DEMAND);
    memory_give(memory, 10, SHARE_UPLOAD);
    memory_free(memory);
}

Test(memory, read_ahead_at_its_part_holds_up_nobody_else)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT / 2 - 10, SHARE_AHEAD));
    struct asked ahead = make_asked(1000, SHARE_AHEAD);
    struct asked second = make_asked(1, SHARE_AHEAD);
    struct asked demand = make_asked(1000, SHARE_DEMAND);
    memory_ask(memory, &ahead.request);
    memory_ask(memory, &second.request);
    memory_ask(memory, &demand.request);
    cr_assert_eq(demand.order, 1);
    cr_assert(memory_try(memory, 1000, SHARE_UPLOAD));
    memory_give(memory, 980, SHARE_AHEAD);
    cr_assert_eq(second.order, 0, "it fits, but another one of its share was first");
    cr_assert_not(memory_try(memory, 1, SHARE_AHEAD), "neither may a newcomer pass");
    memory_give(memory, 10, SHARE_AHEAD);
    cr_assert_eq(ahead.order, 2);
    cr_assert_eq(second.order, 0);
    memory_give(memory, 1, SHARE_AHEAD);
    cr_assert_eq(second.order, 3);
    memory_give(memory, LIMIT / 2, SHARE_AHEAD);
    memory_give(memory, 1000, SHARE_DEMAND);
    memory_give(memory, 1000, SHARE_UPLOAD);
    memory_free(memory);
}

Test(memory, withdrawing_the_first_lets_the_next_go)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT - 100, SHARE_DEMAND));
    struct asked large = make_asked(LIMIT, SHARE_DEMAND);
    struct asked small = make_asked(50, SHARE_DEMAND);
    memory_ask(memory, &large.request);
    memory_ask(memory, &small.request);
    cr_assert(memory_withdraw(memory, &large.request));
    cr_assert_eq(small.order, 1);
    cr_assert_not(memory_withdraw(memory, &small.request), "granted already");
    cr_assert_not(memory_withdraw(memory, &large.request), "withdrawn already");
    cr_assert_eq(large.order, 0);
    memory_give(memory, LIMIT - 50, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, a_moved_charge_makes_room_in_its_share)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT / 2, SHARE_AHEAD));
    struct asked ahead = make_asked(1000, SHARE_AHEAD);
    memory_ask(memory, &ahead.request);
    cr_assert(memory_move(memory, 1000, SHARE_AHEAD, SHARE_DEMAND));
    cr_assert_eq(ahead.order, 1);
    cr_assert_not(memory_move(memory, 1000, SHARE_DEMAND, SHARE_AHEAD), "no room in that part");
    memory_give(memory, LIMIT / 2, SHARE_AHEAD);
    memory_give(memory, 1000, SHARE_DEMAND);
    memory_free(memory);
}

struct giving { /* gives back what it is granted, at once */
    struct memory_request request;
    struct memory *memory;
};

static int nested, nested_most;

static void give_at_once(struct memory_request *request)
{
    struct giving *giving = container_of(request, struct giving, request);
    nested++;
    nested_most = nested > nested_most ? nested : nested_most;
    memory_give(giving->memory, request->bytes, request->share);
    grants++;
    nested--;
}

Test(memory, grants_that_give_back_at_once_do_not_nest)
{
    struct memory *memory = memory_new(LIMIT);
    struct giving *all = calloc(5000, sizeof(*all));
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    for (int i = 0; i < 5000; i++) {
        all[i] = (struct giving){{.bytes = LIMIT, .share = SHARE_DEMAND, .granted = give_at_once}, memory};
        cr_assert_eq(memory_ask(memory, &all[i].request), 0);
    }
    memory_give(memory, LIMIT, SHARE_DEMAND);
    cr_assert_eq(grants, 5000);
    cr_assert_eq(nested_most, 1);
    free(all);
    memory_free(memory);
}

/* ---- reclaim ---- */

struct hoard { /* holds clean memory that it gives back when asked */
    struct memory *memory;
    size_t held, asked_for;
    int calls;
};

static void give_from_hoard(void *context, size_t bytes)
{
    struct hoard *hoard = context;
    hoard->calls++;
    hoard->asked_for = bytes;
    size_t part = bytes < hoard->held ? bytes : hoard->held;
    hoard->held -= part;
    if (part)
        memory_give(hoard->memory, part, SHARE_DEMAND);
}

Test(memory, reclaimers_are_asked_in_order_for_what_lacks)
{
    struct memory *memory = memory_new(LIMIT);
    struct hoard first = {.memory = memory, .held = 300}, second = {.memory = memory, .held = LIMIT - 300};
    memory_add_reclaimer(memory, give_from_hoard, &first);
    memory_add_reclaimer(memory, give_from_hoard, &second);
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    struct asked asked = make_asked(1000, SHARE_UPLOAD);
    memory_ask(memory, &asked.request);
    cr_assert_eq(asked.order, 1);
    cr_assert_eq(first.asked_for, 1000);
    cr_assert_eq(second.asked_for, 700);
    cr_assert_eq(second.held, LIMIT - 1000, "no more than needed");
    memory_give(memory, LIMIT - 1000, SHARE_DEMAND);
    memory_give(memory, 1000, SHARE_UPLOAD);
    memory_free(memory);
}

Test(memory, who_has_gone_is_asked_no_more)
{
    struct memory *memory = memory_new(LIMIT);
    struct hoard gone = {.memory = memory, .held = LIMIT}, second = {.memory = memory, .held = LIMIT};
    memory_add_reclaimer(memory, give_from_hoard, &gone);
    memory_add_reclaimer(memory, give_from_hoard, &second);
    memory_remove_reclaimer(memory, &gone);
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    struct asked asked = make_asked(1000, SHARE_DEMAND);
    memory_ask(memory, &asked.request);
    cr_assert_eq(asked.order, 1);
    cr_assert_eq(gone.calls, 0);
    cr_assert_eq(second.calls, 1);
    memory_give(memory, LIMIT, SHARE_DEMAND);
    memory_free(memory);
}

struct slow_hoard {
    struct hoard hoard;
    atomic_bool asked, ended;
};

static void give_slowly(void *context, size_t bytes)
{
    struct slow_hoard *slow = context;
    atomic_store(&slow->asked, true);
    usleep(50000);
    give_from_hoard(&slow->hoard, bytes);
    atomic_store(&slow->ended, true);
}

static void *take_some(void *context)
{
    WAITER_SCOPED(waiter);
    return (void *)(intptr_t)memory_take(context, 1000, SHARE_DEMAND, &waiter, CLOCK_NEVER);
}

Test(memory, who_goes_waits_until_it_is_asked_no_more)
{
    struct memory *memory = memory_new(LIMIT);
    struct slow_hoard slow = {.hoard = {.memory = memory, .held = LIMIT}};
    pthread_t thread;
    memory_add_reclaimer(memory, give_slowly, &slow);
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    cr_assert_eq(pthread_create(&thread, NULL, take_some, memory), 0);
    while (!atomic_load(&slow.asked))
        usleep(1000);
    memory_remove_reclaimer(memory, &slow);
    cr_assert(atomic_load(&slow.ended));
    cr_assert_eq(pthread_join(thread, NULL), 0);
    memory_give(memory, read_report(memory).used, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, what_becomes_reclaimable_later_is_found_by_press)
{
    struct memory *memory = memory_new(LIMIT);
    struct hoard hoard = {.memory = memory};
    memory_add_reclaimer(memory, give_from_hoard, &hoard);
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    struct asked asked = make_asked(1000, SHARE_DEMAND);
    memory_ask(memory, &asked.request);
    cr_assert_eq(asked.order, 0);
    hoard.held = LIMIT; /* it was pinned before */
    memory_press(memory);
    cr_assert_eq(asked.order, 1);
    int calls = hoard.calls;
    memory_press(memory);
    cr_assert_eq(hoard.calls, calls, "nobody waits, nobody is asked");
    memory_give(memory, LIMIT, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, a_waiting_read_ahead_does_not_empty_the_reclaimers)
{
    struct memory *memory = memory_new(LIMIT);
    struct hoard hoard = {.memory = memory, .held = 100000};
    memory_add_reclaimer(memory, give_from_hoard, &hoard);
    cr_assert(memory_try(memory, 100000, SHARE_DEMAND));
    cr_assert(memory_try(memory, LIMIT / 2, SHARE_AHEAD));
    struct asked ahead = make_asked(1000, SHARE_AHEAD);
    memory_ask(memory, &ahead.request);
    cr_assert_eq(hoard.held, 99000, "asked once");
    for (int i = 0; i < 10; i++)
        memory_press(memory);
    cr_assert_eq(hoard.held, 99000);
    cr_assert(memory_withdraw(memory, &ahead.request));
    memory_give(memory, 99000, SHARE_DEMAND);
    memory_give(memory, LIMIT / 2, SHARE_AHEAD);
    memory_free(memory);
}

/* ---- the blocking form ---- */

static struct asked named;
static int name_calls;

/* Its first call finds what a demand lacks; meanwhile names ask, whose share is full of what the second call finds. */
static void reclaim_for_two(void *context, size_t bytes)
{
    struct memory *memory = context;
    if (++name_calls == 1) {
        memory_give(memory, bytes, SHARE_DEMAND);
        named = make_asked(PAGE_BYTES, SHARE_NAMES);
        cr_assert_eq(memory_ask(memory, &named.request), 0);
    } else {
        cr_assert_eq(bytes, PAGE_BYTES);
        memory_give(memory, bytes, SHARE_NAMES);
    }
}

Test(memory, a_share_that_fills_while_others_reclaim_is_reclaimed_for)
{
    struct memory *memory = memory_new(LIMIT);
    memory_add_reclaimer(memory, reclaim_for_two, memory);
    cr_assert(memory_try(memory, LIMIT / 8, SHARE_NAMES));
    cr_assert(memory_try(memory, LIMIT - LIMIT / 8, SHARE_DEMAND));
    struct asked demand = make_asked(LIMIT / 8, SHARE_DEMAND);
    cr_assert_eq(memory_ask(memory, &demand.request), 0);
    cr_expect_eq(demand.order, 1);
    cr_expect_eq(named.order, 2, "nobody was asked for it");
    cr_assert_eq(name_calls, 2);
    memory_give(memory, LIMIT / 8, SHARE_NAMES);
    memory_give(memory, LIMIT - LIMIT / 8, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, take_without_a_waiter_does_not_wait)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert_eq(memory_take(memory, LIMIT, SHARE_DEMAND, NULL, CLOCK_NEVER), 0);
    cr_assert_eq(memory_take(memory, 1, SHARE_DEMAND, NULL, CLOCK_NEVER), -EAGAIN);
    cr_assert_eq(read_report(memory).waiting, 0);
    memory_give(memory, LIMIT, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, take_ends_at_interrupt_and_deadline_and_leaves_nothing_behind)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    WAITER_SCOPED(waiter);
    cr_assert_eq(memory_take(memory, 1, SHARE_DEMAND, &waiter, clock_ms() + 5), -ETIMEDOUT);
    waiter_interrupt(&waiter);
    cr_assert_eq(memory_take(memory, 1, SHARE_DEMAND, &waiter, CLOCK_NEVER), -EINTR);
    cr_assert_eq(read_report(memory).waiting, 0);
    memory_give(memory, LIMIT, SHARE_DEMAND);
    memory_free(memory);
}

static void *give_all(void *argument)
{
    struct memory *memory = argument;
    while (read_report(memory).waiting == 0)
        usleep(1000);
    memory_give(memory, LIMIT, SHARE_DEMAND);
    return NULL;
}

Test(memory, take_waits_until_somebody_gives)
{
    struct memory *memory = memory_new(LIMIT);
    cr_assert(memory_try(memory, LIMIT, SHARE_DEMAND));
    pthread_t giver;
    pthread_create(&giver, NULL, give_all, memory);
    WAITER_SCOPED(waiter);
    cr_assert_eq(memory_take(memory, 1000, SHARE_UPLOAD, &waiter, CLOCK_NEVER), 0);
    pthread_join(giver, NULL);
    cr_assert_eq(read_report(memory).used, 1000);
    memory_give(memory, 1000, SHARE_UPLOAD);
    memory_free(memory);
}

/* ---- pages ---- */

Test(memory, pages_are_apart_and_as_many_as_the_limit_holds)
{
    struct memory *memory = memory_new(LIMIT);
    void *pages[LIMIT / PAGE_BYTES];
    for (size_t i = 0; i < LIMIT / PAGE_BYTES; i++) {
        pages[i] = page_try(memory, SHARE_DEMAND);
        cr_assert_not_null(pages[i]);
        cr_assert_eq((uintptr_t)pages[i] % PAGE_BYTES, 0);
        memset(pages[i], (int)i, PAGE_BYTES);
    }
    cr_assert_null(page_try(memory, SHARE_DEMAND));
    for (size_t i = 0; i < LIMIT / PAGE_BYTES; i++) {
        cr_assert_eq(((unsigned char *)pages[i])[0], i);
        cr_assert_eq(((unsigned char *)pages[i])[PAGE_BYTES - 1], i);
    }
    page_put_many(memory, pages, LIMIT / PAGE_BYTES, SHARE_DEMAND);
    cr_assert_eq(read_report(memory).used, 0);
    cr_assert_eq(read_report(memory).idle, LIMIT);
    memory_free(memory);
}

Test(memory, idle_pages_give_way_to_whatever_needs_their_bytes)
{
    struct memory *memory = memory_new(LIMIT);
    void *page = page_try(memory, SHARE_AHEAD);
    page_put(memory, page, SHARE_AHEAD);
    cr_assert_eq(read_report(memory).idle, PAGE_BYTES);
    cr_assert(memory_try(memory, LIMIT - PAGE_BYTES, SHARE_DEMAND));
    cr_assert_eq(read_report(memory).idle, PAGE_BYTES, "they fit beside it");
    cr_assert(memory_try(memory, 1, SHARE_DEMAND));
    cr_assert_eq(read_report(memory).idle, 0);
    memory_give(memory, LIMIT - PAGE_BYTES + 1, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, a_grant_of_pages_sets_idle_ones_aside)
{
    struct memory *memory = memory_new(LIMIT);
    void *pages[LIMIT / PAGE_BYTES];
    for (size_t i = 0; i < LIMIT / PAGE_BYTES; i++) {
        pages[i] = page_try(memory, SHARE_DEMAND);
        memset(pages[i], 7, PAGE_BYTES);
    }
    page_put_many(memory, pages, 4, SHARE_DEMAND);
    struct asked asked = make_asked(3 * PAGE_BYTES, SHARE_UPLOAD);
    asked.request.pages = true;
    memory_ask(memory, &asked.request);
    cr_assert_eq(asked.order, 1);
    cr_assert_eq(read_report(memory).idle, PAGE_BYTES);
    cr_assert_eq(read_report(memory).used, LIMIT - PAGE_BYTES);
    cr_assert(memory_try(memory, PAGE_BYTES, SHARE_DEMAND), "takes the last idle page, not one set aside");
    for (int i = 0; i < 3; i++) {
        pages[i] = page_claim(memory, SHARE_UPLOAD);
        cr_assert_eq(((char *)pages[i])[5], 7, "was resident all the time");
    }
    memory_give(memory, PAGE_BYTES, SHARE_DEMAND);
    page_put_many(memory, pages, 3, SHARE_UPLOAD);
    page_put_many(memory, pages + 4, LIMIT / PAGE_BYTES - 4, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, pages_are_taken_all_or_none)
{
    struct memory *memory = memory_new(LIMIT);
    void *pages[LIMIT / PAGE_BYTES];
    cr_assert_eq(page_take_many(memory, pages, LIMIT / PAGE_BYTES, SHARE_UPLOAD, NULL, CLOCK_NEVER), 0);
    memset(pages[3], 7, PAGE_BYTES);
    void *more[4];
    cr_assert_eq(page_take_many(memory, more, 1, SHARE_UPLOAD, NULL, CLOCK_NEVER), -EAGAIN);
    cr_assert_eq(page_take_many(memory, more, LIMIT, SHARE_UPLOAD, NULL, CLOCK_NEVER), -EFBIG);
    page_put_many(memory, pages, 4, SHARE_UPLOAD);
    WAITER_SCOPED(waiter);
    cr_assert_eq(page_take_many(memory, more, 5, SHARE_DEMAND, &waiter, clock_ms() + 5), -ETIMEDOUT);
    cr_assert_eq(page_take_many(memory, more, 4, SHARE_DEMAND, &waiter, CLOCK_NEVER), 0);
    cr_assert_eq(read_report(memory).used, LIMIT);
    cr_assert_eq(read_report(memory).idle, 0);
    page_put_many(memory, more, 4, SHARE_DEMAND);
    page_put_many(memory, pages + 4, LIMIT / PAGE_BYTES - 4, SHARE_UPLOAD);
    memory_free(memory);
}

/* What the kernel counts stays below the limit, however pages and other bytes take turns. */
Test(memory, resident_memory_stays_below_the_limit)
{
    const size_t limit = (size_t)64 << 20, count = limit / PAGE_BYTES;
    struct memory *memory = memory_new(limit);
    void **pages = calloc(count, sizeof(*pages));
    memset(pages, 0, count * sizeof(*pages));
    size_t before = read_rss_anon(), slack = (size_t)1 << 20;
    srandom(3);
    for (int round = 0; round < 6; round++) {
        for (size_t i = 0; i < count; i++) {
            pages[i] = page_try(memory, SHARE_DEMAND);
            ((char *)pages[i])[random() % PAGE_BYTES] = 1; /* one byte, as a hugepage would be noticed */
            if (round > 1)
                memset(pages[i], 1, PAGE_BYTES);
        }
        cr_assert_leq(read_rss_anon(), before + limit + slack);
        for (size_t i = 0; i < count; i += 2) /* every other one: no arena is ever empty */
            page_put(memory, pages[i], SHARE_DEMAND);
        cr_assert(memory_try(memory, limit / 2, SHARE_DEMAND));
        cr_assert_leq(read_rss_anon(), before + limit / 2 + slack,
                      "the bytes were granted, so they must be free");
        memory_give(memory, limit / 2, SHARE_DEMAND);
        for (size_t i = 1; i < count; i += 2)
            page_put(memory, pages[i], SHARE_DEMAND);
    }
    cr_assert(memory_try(memory, limit, SHARE_UPLOAD));
    cr_assert_leq(read_rss_anon(), before + slack);
    memory_give(memory, limit, SHARE_UPLOAD);
    free(pages);
    memory_free(memory);
}

/* A hugepage would make 2 MiB of it. */
Test(memory, one_touched_page_makes_nothing_else_resident)
{
    struct memory *memory = memory_new((size_t)64 << 20);
    char *page = page_try(memory, SHARE_DEMAND);
    size_t before = read_rss_anon();
    memset(page, 1, PAGE_BYTES);
    cr_assert_leq(read_rss_anon(), before + ((size_t)1 << 20));
    page_put(memory, page, SHARE_DEMAND);
    memory_free(memory);
}

Test(memory, the_default_is_a_quarter_of_a_small_machine)
{
    size_t limit = memory_default_limit();
    cr_assert_leq(limit, (size_t)256 << 20);
    cr_assert_geq(limit, (size_t)16 << 20);
}
