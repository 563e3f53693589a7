#include "cache/window.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static void end(struct window *window, uint64_t ticket, bool slowed)
{
    if (slowed)
        window_slowed(window, ticket);
    else
        window_taken(window);
}

/* Letters: b one begins, t the oldest in flight was taken, s it was slowed. */
static uint32_t play(const char *script, uint32_t most)
{
    struct window window;
    uint64_t tickets[64];
    unsigned first = 0, last = 0;
    window_init(&window, most);
    for (; *script; script++) {
        if (*script == 'b')
            tickets[last++] = window_begin(&window);
        else
            end(&window, tickets[first++], *script == 's');
    }
    return window.size;
}

Test(window, is_cut_once_by_a_crowd_and_grows_by_one_for_each_windowful)
{
    static const struct {
        const char *script;
        uint32_t most, size;
    } rows[] = {
        {"", 16, 16},
        {"bt", 16, 16},
        {"bs", 16, 8},
        {"bs", 1, 1},
        {"bs", 3, 1},
        {"bbbbssss", 16, 8},      /* all in flight when it was cut */
        {"bbbbssssbs", 16, 4},    /* one that began afterwards */
        {"bsbsbsbsbsbs", 16, 1},  /* never below one */
        {"bbssbt", 4, 2},         /* one of two */
        {"bbssbtbt", 4, 3},       /* two of two */
        {"bbssbtbsbt", 4, 1 + 1}, /* cut to 1, then one of one */
        {"bbssbtbtbtbtbt", 4, 4}, /* 2 for the third, 3 for the fourth */
        {"bbssbtbtbtbtbtbtbtbtbtbt", 4, 4},
        {"bbbsbtst", 4, 2}, /* what was slowed before the cut ends the row, and is no cut */
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(play(rows[i].script, rows[i].most), rows[i].size, "%s: %u", rows[i].script,
                     play(rows[i].script, rows[i].most));
}

Test(window, those_that_wait_leave_their_place_to_others_up_to_the_most)
{
    struct window window;
    window_init(&window, 16);
    cr_assert(window_slowed(&window, window_begin(&window)));
    cr_assert_eq(window_room(&window), 8);
    for (uint32_t waiting = 1; waiting <= 12; waiting++) {
        window_wait(&window);
        cr_assert_eq(window_room(&window), waiting < 8 ? 8 + waiting : 16);
    }
    for (int i = 0; i < 12; i++)
        window_wait_end(&window);
    cr_assert_eq(window_room(&window), 8);
}

/* A server that takes `capacity` at once, and slows all above. */
static void serve(uint32_t capacity, uint32_t most, unsigned seed)
{
    struct window window;
    uint64_t tickets[64];
    bool slowed[64];
    uint32_t in_flight = 0, highest = 0;
    uint64_t served = 0, refused = 0;
    window_init(&window, most);
    for (int step = 0; step < 20000; step++) {
        while (in_flight < window.size) {
            slowed[in_flight] = in_flight >= capacity;
            tickets[in_flight++] = window_begin(&window);
        }
        uint32_t at = (uint32_t)rand_r(&seed) % in_flight;
        refused += slowed[at];
        served++;
        end(&window, tickets[at], slowed[at]);
        tickets[at] = tickets[--in_flight];
        slowed[at] = slowed[in_flight];
        cr_assert(window.size >= 1 && window.size <= most);
        if (step > 1000 && window.size > highest)
            highest = window.size;
    }
    cr_assert_leq(highest, capacity + 1 < most ? capacity + 2 : most);
    cr_assert_geq(highest, capacity < most ? capacity : most);
    /* Of one or two each try for one more is a large part. */
    cr_assert_leq(refused * 10, served * (capacity < 4 ? 6 : 3), "capacity %u: %lu of %lu refused", capacity,
                  refused, served);
}

Test(window, finds_what_a_server_takes_and_stays_near_it)
{
    for (uint32_t capacity = 1; capacity <= 40; capacity++)
        serve(capacity, 32, capacity);
}
