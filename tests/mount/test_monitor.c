#include <criterion/criterion.h>

#include "mount/monitor.h"

#define WINDOW MONITOR_WINDOW_MS

Test(monitor, it_starts_soon_until_it_was_started_so_often_within_the_window)
{
    static const struct {
        int64_t starts[MONITOR_STARTS], now, wanted;
    } rows[] = {
        {{0, 0, 0}, 1000, 1100},
        {{1000, 0, 0}, 2000, 2100},
        {{1000, 2000, 0}, 3000, 3100},
        {{1000, 2000, 3000}, 4000, 1000 + WINDOW},
        {{4000, 2000, 3000}, 5000, 2000 + WINDOW}, /* a ring: any may be the oldest */
        {{1000, 2000, 3000}, 1000 + WINDOW - 50, 1000 + WINDOW + 50},
        {{1000, 2000, 3000}, 1000 + WINDOW, 1100 + WINDOW},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_assert_eq(monitor_next(rows[i].starts, rows[i].now, 100), rows[i].wanted, "row %zu", i);
}
