#include "cache/part.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "base/memory.h"
#include "s3/store.h"

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

Test(part, small_files_take_parts_of_8_mib)
{
    struct part_plan plan;
    cr_assert_eq(part_plan(20 * MIB, 0, 256 * MIB, false, &plan), 0);
    cr_assert_eq(plan.bytes, 8 * MIB);
    cr_assert_eq(part_count(&plan, 20 * MIB), 3);
    cr_assert_eq(part_count(&plan, 16 * MIB), 2);
    cr_assert_eq(part_count(&plan, 16 * MIB + 1), 3);
    cr_assert_eq(part_count(&plan, 0), 0);
}

Test(part, ranges_join_and_the_count_fits_them_for_every_size)
{
    uint64_t limits[] = {1 * MIB, 256 * MIB, 64 * GIB}, bases[] = {0, PAGE_BYTES, 5 * MIB, 64 * MIB};
    for (int limit = 0; limit < 3; limit++)
        for (int base = 0; base < 4; base++)
            for (int equal = 0; equal < 2; equal++) {
                struct part_plan plan;
                uint64_t end_before = 0;
                cr_assert_eq(part_plan(MIB, bases[base], limits[limit], equal, &plan), 0);
                for (size_t i = 0; i < STORE_PARTS_MAX; i++) {
                    uint64_t start, end;
                    part_range(&plan, i, &start, &end);
                    cr_assert_eq(start, end_before);
                    cr_assert_leq(end - start, plan.bytes_max);
                    cr_assert(!equal || end - start == plan.bytes);
                    cr_assert_eq((end - start) % PAGE_BYTES, 0);
                    cr_assert_eq(part_count(&plan, end), i + 1);
                    cr_assert_eq(part_count(&plan, start + 1), i + 1);
                    end_before = end;
                }
                cr_assert_gt(part_count(&plan, end_before + 1), STORE_PARTS_MAX);
            }
}

Test(part, five_tib_fit_where_memory_allows_and_not_one_byte_more)
{
    struct part_plan plan;
    cr_assert_eq(part_plan(OBJECT_BYTES_MAX, 0, 8 * GIB, false, &plan), 0);
    cr_assert_leq(part_count(&plan, OBJECT_BYTES_MAX), STORE_PARTS_MAX);
    cr_assert_eq(part_plan(OBJECT_BYTES_MAX + 1, 0, 8 * GIB, false, &plan), -EFBIG);
    cr_assert_eq(part_plan(OBJECT_BYTES_MAX, 0, 8 * GIB, true, &plan), 0);
    cr_assert_leq(part_count(&plan, OBJECT_BYTES_MAX), STORE_PARTS_MAX);
}

Test(part, a_small_budget_bounds_the_parts_and_so_the_file)
{
    struct part_plan plan;
    cr_assert_eq(part_plan(490 * GIB, 0, 256 * MIB, false, &plan), 0);
    cr_assert_eq(plan.bytes_max, 64 * MIB);
    cr_assert_eq(part_plan(600 * GIB, 0, 256 * MIB, false, &plan), -EFBIG);
    cr_assert_eq(part_plan(MIB, 0, 8 * MIB, false, &plan), 0);
    cr_assert_eq(plan.bytes, PART_BYTES_MIN);
}
