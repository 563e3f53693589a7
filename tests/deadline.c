/* Linked into every criterion program: `--timeout SECONDS` holds for each of its tests. Criterion 2.4.1 reads that option,
 * and minds only the deadlines that stand in the tests themselves: without this a test that hangs ends nothing and is not
 * named. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/options.h>
#include <stdbool.h>

/* The process that only waits for the tests, each of which is one of its own, allocates in criterion alone, which now and then loses 48
 * bytes: no finding. */
static bool waits;

int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return waits;
}

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
    waits = true;
    FOREACH_SET(struct criterion_suite_set * suite, set->suites)
    {
        FOREACH_SET(struct criterion_test * test, suite->tests)
        {
            if (test->data->timeout == 0)
                test->data->timeout = criterion_options.timeout;
        }
    }
}
