#include "cache/prefetch.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/memory.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

static const struct prefetch_limits large = {.file_size = GIB, .window_max = 64 * MIB, .room = GIB};

/* Bytes that the plan adds. */
static uint64_t added(const struct prefetch_plan *plan)
{
    return plan->ahead_end - plan->ahead_start;
}

static struct prefetch_plan feed(struct prefetch *prefetch, uint64_t offset, uint64_t size)
{
    struct prefetch_plan plan;
    prefetch_read(prefetch, offset, size, &large, &plan);
    return plan;
}

Test(prefetch, the_first_reads_of_a_file_say_what_follows)
{
    static const struct {
        const char *what;
        uint64_t offsets[3]; /* of reads of 128 KiB; the last one's plan is looked at */
        int reads;
        uint64_t added; /* at least; 0: nothing at all */
        bool sequential;
    } rows[] = {
        {"at 0", {0}, 1, 512 * KIB, true},
        {"in the middle", {500 * MIB}, 1, 0, false},
        {"two in sequence", {500 * MIB, 500 * MIB + 128 * KIB}, 2, 256 * KIB, true},
        {"two out of order", {500 * MIB + 128 * KIB, 500 * MIB}, 2, 256 * KIB, true},
        {"two near each other", {500 * MIB, 501 * MIB}, 2, 0, false},
        {"two far from each other", {500 * MIB, 100 * MIB}, 2, 0, false},
        {"the second of a small gap", {500 * MIB, 500 * MIB + 200 * KIB}, 2, 256 * KIB, true},
        {"backwards, one by one", {500 * MIB, 500 * MIB - 128 * KIB, 500 * MIB - 256 * KIB}, 3, 0, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct prefetch prefetch;
        struct prefetch_stream streams[PREFETCH_STREAMS];
        struct prefetch_plan plan = {0};
        prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
        for (int n = 0; n < rows[i].reads; n++)
            plan = feed(&prefetch, rows[i].offsets[n], 128 * KIB);
        cr_expect(rows[i].added ? added(&plan) >= rows[i].added : added(&plan) == 0, "%s: %zu bytes",
                  rows[i].what, (size_t)added(&plan));
        cr_expect_eq(plan.sequential, rows[i].sequential, "%s", rows[i].what);
    }
}

Test(prefetch, a_sequence_is_planned_once_each_byte_in_order_and_ahead_of_its_reader)
{
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS];
    uint64_t planned = 0;
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
    for (uint64_t at = 0; at < GIB; at += 128 * KIB) {
        struct prefetch_plan plan = feed(&prefetch, at, 128 * KIB);
        uint64_t end = at + 128 * KIB;
        if (plan.ahead_start > planned)
            planned = plan.ahead_start; /* demand */
        cr_assert_eq(plan.ahead_start, planned);
        planned = plan.ahead_end;
        cr_assert(planned >= end && planned <= end + 64 * MIB && planned <= GIB);
        if (at > 128 * MIB && planned < GIB)
            cr_assert(planned - end >= 48 * MIB, "only %zu MiB ahead", (size_t)((planned - end) / MIB));
    }
    cr_assert_eq(planned, GIB);
}

Test(prefetch, the_window_doubles_with_what_was_read_up_to_its_most)
{
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS];
    uint64_t ahead = 0, most = 0;
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
    for (uint64_t at = 0; at < 256 * MIB; at += MIB) {
        struct prefetch_plan plan = feed(&prefetch, at, MIB);
        uint64_t read = at + MIB;
        ahead = plan.ahead_end > ahead ? plan.ahead_end : ahead;
        cr_assert(ahead <= read + 2 * read, "after %zu MiB: %zu MiB ahead", (size_t)(read / MIB),
                  (size_t)((ahead - read) / MIB));
        most = ahead - read > most ? ahead - read : most;
    }
    cr_assert_eq(most, 64 * MIB);
}

Test(prefetch, the_window_is_filled_by_eight_requests_or_four_where_each_is_fast)
{
    static const struct {
        uint64_t window;
        bool few;
        uint64_t step;
    } rows[] = {{64 * MIB, false, 8 * MIB},  {64 * MIB, true, 16 * MIB}, {256 * MIB, false, 16 * MIB},
                {256 * MIB, true, 16 * MIB}, {16 * MIB, false, 2 * MIB}, {16 * MIB, true, 4 * MIB},
                {3 * MIB, true, MIB},        {MIB, false, MIB},          {300 * KIB, false, 256 * KIB}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct prefetch_limits limits = {
            .file_size = GIB, .window_max = rows[i].window, .room = GIB, .few = rows[i].few};
        struct prefetch prefetch;
        struct prefetch_stream streams[PREFETCH_STREAMS];
        uint64_t requests = 0, step = 0;
        prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
        for (uint64_t at = 0; at < GIB; at += 128 * KIB) {
            struct prefetch_plan plan;
            prefetch_read(&prefetch, at, 128 * KIB, &limits, &plan);
            if (added(&plan))
                step = plan.step;
            for (uint64_t from = plan.ahead_start; from < plan.ahead_end; requests++)
                from = (from / plan.step + 1) * plan.step;
        }
        cr_expect_eq(step, rows[i].step, "row %zu: steps of %zu KiB", i, (size_t)(step / KIB));
        cr_expect(requests <= GIB / step + 64, "row %zu: %zu requests", i, (size_t)requests);
    }
}

Test(prefetch, four_interleaved_sequences_all_grow)
{
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS];
    uint64_t ends[PREFETCH_STREAMS] = {0};
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
    for (uint64_t at = 0; at < 64 * MIB; at += 128 * KIB)
        for (uint64_t stream = 0; stream < PREFETCH_STREAMS; stream++) {
            struct prefetch_plan plan = feed(&prefetch, stream * 200 * MIB + at, 128 * KIB);
            cr_assert(plan.sequential || at == 0);
            if (added(&plan))
                ends[stream] = plan.ahead_end;
        }
    for (uint64_t stream = 0; stream < PREFETCH_STREAMS; stream++)
        cr_assert(ends[stream] >= stream * 200 * MIB + 64 * MIB + 32 * MIB);
}

Test(prefetch, reads_of_1_mib_in_any_order_of_the_kernel_are_one_sequence)
{
    static const uint64_t order[] = {1, 0, 3, 2, 4, 6, 5, 7};
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS];
    uint64_t planned = 0;
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
    for (uint64_t group = 0; group < 16; group++)
        for (int i = 0; i < 8; i++) {
            uint64_t at = 300 * MIB + (group * 8 + order[i]) * MIB;
            struct prefetch_plan plan = feed(&prefetch, at, MIB);
            cr_assert(plan.sequential || (group == 0 && i == 0));
            planned = plan.ahead_end > planned ? plan.ahead_end : planned;
        }
    cr_assert(planned >= 428 * MIB + 32 * MIB);
}

static uint64_t add_random(size_t stream_count)
{
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS_SHARED];
    uint64_t total = 0;
    prefetch_init(&prefetch, streams, stream_count);
    srand(7);
    for (int i = 0; i < 10000; i++) {
        uint64_t at = ((uint64_t)rand() * 4096 + (1 << 20)) % (GIB - MIB);
        struct prefetch_plan plan = feed(&prefetch, at, 4 * KIB);
        total += added(&plan);
    }
    return total;
}

Test(prefetch, random_reads_plan_next_to_nothing)
{
    static const size_t counts[] = {PREFETCH_STREAMS, PREFETCH_STREAMS_SHARED};
    for (int i = 0; i < 2; i++) {
        uint64_t total = add_random(counts[i]);
        cr_assert(total < (uint64_t)10000 * 16 * KIB, "%zu streams: %zu KiB for each read", counts[i],
                  (size_t)(total / 10000 / KIB));
    }
}

Test(prefetch, skips_and_small_steps_back_keep_a_stream_and_count_only_what_was_read)
{
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS];
    struct prefetch_plan plan;
    uint64_t furthest = 0;
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
    for (uint64_t at = 0; at < 200 * MIB; at += MIB) { /* 4 KiB of each MiB */
        plan = feed(&prefetch, at, 4 * KIB);
        cr_assert(plan.sequential);
        furthest = plan.ahead_end > furthest ? plan.ahead_end : furthest;
        cr_assert(furthest <= at + 4 * KIB + 2 * MIB);
    }
    plan = feed(&prefetch, 198 * MIB, 4 * KIB);
    cr_assert(plan.sequential && added(&plan) == 0);
}

Test(prefetch, a_small_file_is_fetched_whole_at_its_first_read_and_asked_for_once)
{
    static const uint64_t firsts[] = {0, 1 * MIB, 2 * MIB - 1};
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        struct prefetch prefetch;
        struct prefetch_stream streams[PREFETCH_STREAMS];
        struct prefetch_limits limits = {.file_size = 2 * MIB, .window_max = 64 * MIB, .room = GIB};
        struct prefetch_plan plan;
        prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
        prefetch_read(&prefetch, firsts[i], 4 * KIB, &limits, &plan);
        cr_assert(plan.ahead_start == 0 && plan.ahead_end == 2 * MIB);
        prefetch_read(&prefetch, 100 * KIB, 4 * KIB, &limits, &plan);
        cr_assert_eq(added(&plan), 0);
    }
}

Test(prefetch, never_plans_beyond_the_room_or_the_end)
{
    srand(3);
    for (int round = 0; round < 200; round++) {
        struct prefetch prefetch;
        struct prefetch_stream streams[PREFETCH_STREAMS];
        prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
        struct prefetch_limits limits = {.file_size = (uint64_t)rand() % (100 * MIB),
                                         .window_max = (uint64_t)rand() % (64 * MIB) + PAGE_BYTES};
        uint64_t at = 0;
        for (int i = 0; i < 200; i++) {
            struct prefetch_plan plan;
            limits.room = (uint64_t)rand() % (4 * MIB);
            uint64_t size = (uint64_t)rand() % MIB + 1;
            at = rand() % 5 ? at + size : (uint64_t)rand() % (limits.file_size + 1);
            at = at < limits.file_size ? at : 0;
            prefetch_read(&prefetch, at, size, &limits, &plan);
            cr_assert(plan.ahead_start <= plan.ahead_end);
            cr_assert(added(&plan) <= limits.room);
            cr_assert(added(&plan) == 0 || plan.ahead_end <= limits.file_size);
            cr_assert(plan.step >= PAGE_BYTES && plan.step <= PREFETCH_STEP_MAX &&
                      plan.step % PAGE_BYTES == 0);
        }
    }
}

Test(prefetch, streams_that_share_little_room_still_send_large_requests)
{
    enum { STREAMS = 4 };
    struct prefetch readers[STREAMS];
    struct prefetch_stream streams[STREAMS][PREFETCH_STREAMS];
    uint64_t heads[STREAMS] = {0}, aheads[STREAMS] = {0}, requests = 0, bytes = 0, shared = 32 * MIB;
    for (int i = 0; i < STREAMS; i++)
        prefetch_init(&readers[i], streams[i], PREFETCH_STREAMS);
    for (int turn = 0; turn < 512 * STREAMS; turn++) {
        int i = turn % STREAMS;
        uint64_t unread = 0;
        for (int j = 0; j < STREAMS; j++)
            unread += aheads[j] - heads[j];
        cr_assert(unread <= shared);
        struct prefetch_limits limits = {
            .file_size = GIB, .window_max = 16 * MIB, .room = (shared - unread) / 2};
        struct prefetch_plan plan;
        prefetch_read(&readers[i], heads[i], MIB, &limits, &plan);
        heads[i] += MIB;
        aheads[i] = plan.ahead_end > heads[i] ? plan.ahead_end : heads[i];
        if (turn < 100)
            continue;
        requests += added(&plan) > 0;
        bytes += added(&plan);
    }
    cr_assert(bytes / requests >= 3 * MIB / 2, "%zu KiB each", (size_t)(bytes / requests / KIB));
}

Test(prefetch, what_found_no_memory_is_planned_again)
{
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS];
    struct prefetch_plan plan, again;
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS);
    for (uint64_t at = 0; at < 8 * MIB; at += MIB)
        plan = feed(&prefetch, at, MIB);
    cr_assert(added(&plan) > 0);
    prefetch_cut(&prefetch, &plan, plan.ahead_start);
    again = feed(&prefetch, 8 * MIB, 128 * KIB);
    cr_assert(again.ahead_start == plan.ahead_start && again.ahead_end >= plan.ahead_end);
}

Test(prefetch, of_one_that_is_shared_16_interleaved_sequences_all_grow)
{
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS_SHARED];
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS_SHARED);
    for (uint64_t at = 0; at < 16 * MIB; at += 128 * KIB)
        for (uint64_t stream = 0; stream < PREFETCH_STREAMS_SHARED; stream++) {
            struct prefetch_plan plan = feed(&prefetch, stream * 30 * MIB + at, 128 * KIB);
            cr_assert(plan.sequential || at == 0);
        }
}

Test(prefetch, a_small_file_that_is_shared_is_asked_for_whole_by_each_who_begins)
{
    static const struct prefetch_limits small = {.file_size = MIB, .window_max = 64 * MIB, .room = GIB};
    struct prefetch prefetch;
    struct prefetch_stream streams[PREFETCH_STREAMS_SHARED];
    prefetch_init(&prefetch, streams, PREFETCH_STREAMS_SHARED);
    for (int reader = 0; reader < 40; reader++) {
        struct prefetch_plan plan;
        prefetch_read(&prefetch, 0, 128 * KIB, &small, &plan);
        cr_assert(plan.ahead_start == 0 && plan.ahead_end == MIB && plan.sequential, "reader %d", reader);
        prefetch_read(&prefetch, 128 * KIB, 128 * KIB, &small, &plan);
        cr_assert_eq(added(&plan), 0);
    }
}
