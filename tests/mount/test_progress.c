#include <criterion/criterion.h>

#include "mount/progress.h"

#define MIB ((int64_t)1 << 20)

static void expect(const struct progress *progress, int64_t files, int64_t bytes, bool bar,
                   const char *wanted)
{
    BUF_SCOPED line = BUF_INIT;
    progress_print(progress, files, bytes, bar, &line);
    cr_assert_str_eq(line.bytes, wanted);
}

Test(progress, what_is_gone_counts_as_done_and_the_rate_tells_what_is_left)
{
    struct progress progress;
    progress_init(&progress, "/d", false);
    progress_look(&progress, 0, 4, 8 * MIB, 100, 0);
    expect(&progress, 4, 8 * MIB, false, "/d: 0 of 4 files, 0.0 of 8.0 MiB");
    progress_look(&progress, 2000, 2, 4 * MIB, 100 + 4 * MIB, 0);
    expect(&progress, 2, 4 * MIB, false, "/d: 2 of 4 files, 4.0 of 8.0 MiB, 2.0 MiB/s, 2 s left");
    expect(&progress, 2, 4 * MIB, true,
           "/d  [############............]  2 of 4 files, 4.0 of 8.0 MiB, 2.0 MiB/s, 2 s left");
}

Test(progress, parts_of_one_big_file_are_seen_before_it_is_whole)
{
    struct progress progress;
    progress_init(&progress, "/d", false);
    progress_look(&progress, 0, 1, 8 * MIB, 0, 0);
    progress_look(&progress, 1000, 1, 8 * MIB, 6 * MIB, 0);
    expect(&progress, 1, 8 * MIB, false, "/d: 0 of 1 files, 6.0 of 8.0 MiB, 6.0 MiB/s, 0 s left");
}

Test(progress, it_never_goes_back_and_what_comes_new_makes_it_longer)
{
    struct progress progress;
    progress_init(&progress, "/d", false);
    progress_look(&progress, 0, 2, 4 * MIB, 0, 0);
    progress_look(&progress, 100, 1, 2 * MIB, 2 * MIB, 0);
    progress_look(&progress, 200, 3, 8 * MIB, 2 * MIB, 0);
    expect(&progress, 3, 8 * MIB, false, "/d: 0 of 3 files, 2.0 of 8.0 MiB");
}

Test(progress, files_without_bytes_move_the_bar_too)
{
    struct progress progress;
    progress_init(&progress, "/d", false);
    progress_look(&progress, 0, 4, 0, 0, 0);
    progress_look(&progress, 100, 1, 0, 0, 0);
    expect(&progress, 1, 0, true, "/d  [##################......]  3 of 4 files, 0.0 of 0.0 MiB");
}

Test(progress, what_is_on_its_way_counts_and_a_repeated_request_takes_nothing_back)
{
    struct progress progress;
    progress_init(&progress, "/d", false);
    progress_look(&progress, 0, 1, 32 * MIB, 100, 0);
    progress_look(&progress, 100, 1, 32 * MIB, 100, 12 * MIB);
    expect(&progress, 1, 32 * MIB, false, "/d: 0 of 1 files, 12.0 of 32.0 MiB");
    progress_look(&progress, 200, 1, 32 * MIB, 100, 0);
    expect(&progress, 1, 32 * MIB, false, "/d: 0 of 1 files, 12.0 of 32.0 MiB");
    progress_look(&progress, 300, 1, 32 * MIB, 100 + 8 * MIB, 8 * MIB);
    expect(&progress, 1, 32 * MIB, false, "/d: 0 of 1 files, 16.0 of 32.0 MiB");
    progress_look(&progress, 400, 1, 32 * MIB, 100 + 24 * MIB, 16 * MIB);
    expect(&progress, 1, 32 * MIB, false, "/d: 0 of 1 files, 32.0 of 32.0 MiB");
}

Test(progress, the_bar_is_full_only_when_all_has_been_answered)
{
    struct progress progress;
    progress_init(&progress, "/d", false);
    progress_look(&progress, 0, 1, 8 * MIB, 0, 8 * MIB);
    expect(&progress, 1, 8 * MIB, true, "/d  [#######################.]  0 of 1 files, 8.0 of 8.0 MiB");
    progress_look(&progress, 100, 0, 0, 8 * MIB, 0);
    expect(&progress, 0, 0, true, "/d  [########################]  1 of 1 files, 8.0 of 8.0 MiB");
}

Test(progress, a_rate_is_never_below_zero)
{
    struct progress progress;
    progress_init(&progress, "/d", false);
    progress_look(&progress, 0, 1, 32 * MIB, 0, 12 * MIB);
    progress_look(&progress, 2000, 1, 32 * MIB, 0, 0);
    expect(&progress, 1, 32 * MIB, false, "/d: 0 of 1 files, 12.0 of 32.0 MiB");
}
