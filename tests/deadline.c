/* Linked into every criterion program: `--timeout SECONDS` holds for each of its tests. Criterion 2.4.1 reads that option,
 * and minds only the deadlines that stand in the tests themselves: without this a test that hangs ends nothing and is not
 * named. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <criterion/options.h>

ReportHook(PRE_ALL)(struct criterion_test_set *set)
{
    FOREACH_SET(struct criterion_suite_set * suite, set->suites)
    {
        FOREACH_SET(struct criterion_test * test, suite->tests)
        {
            if (test->data->timeout == 0)
                test->data->timeout = criterion_options.timeout;
        }
    }
}
