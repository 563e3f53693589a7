#include "base/clock.h"

#include <criterion/criterion.h>
#include <errno.h>

#define NS INT64_C(1000000000)

static int told;

static void count_call(void)
{
    told++;
}

Test(clock, the_fake_one_stands_still_until_it_is_moved)
{
    clock_fake_begin(1000 * NS);
    int64_t start = clock_ms();
    cr_assert_eq(clock_wall_ns(), 1000 * NS);
    cr_assert_eq(clock_ms(), start);
    clock_fake_advance(1500);
    cr_assert_eq(clock_ms(), start + 1500);
    cr_assert_eq(clock_wall_ns(), 1001 * NS + NS / 2);
    clock_fake_end();
    cr_assert_not(clock_is_fake());
    cr_assert_gt(clock_wall_ns(), 1600000000 * NS);
}

Test(clock, monotonic_time_goes_on_from_the_real_one)
{
    int64_t before = clock_ms();
    clock_fake_begin(0);
    cr_assert_geq(clock_ms(), before);
    clock_fake_end();
}

Test(clock, listeners_hear_begin_advance_and_end)
{
    clock_fake_listen(count_call);
    clock_fake_begin(0);
    cr_assert_eq(told, 1);
    clock_fake_advance(1);
    cr_assert_eq(told, 2);
    clock_fake_end();
    cr_assert_eq(told, 3);
}

Test(clock, amz_date_is_that_of_the_documentation)
{
    char out[17];
    clock_amz_date(1369353600 * NS, out);
    cr_assert_str_eq(out, "20130524T000000Z");
    clock_amz_date(1369353600 * NS - 1, out);
    cr_assert_str_eq(out, "20130523T235959Z");
    clock_amz_date(-1, out);
    cr_assert_str_eq(out, "19691231T235959Z");
}

Test(clock, reads_the_three_http_dates)
{
    static const struct {
        const char *text;
        int64_t seconds;
    } rows[] = {
        {"Fri, 24 May 2013 00:00:00 GMT", 1369353600}, {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777}, {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Thu, 29 Feb 2024 23:59:60 GMT", 1709251199},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ns = 0;
        cr_assert_eq(clock_parse_http(rows[i].text, &ns), 0, "row %zu", i);
        cr_assert_eq(ns, rows[i].seconds * NS, "row %zu", i);
    }
}

Test(clock, reads_iso_dates)
{
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {
        {"2013-05-24T00:00:00Z", 1369353600 * NS},
        {"2013-05-24T00:00:00.000Z", 1369353600 * NS},
        {"2013-05-24T00:00:00.25Z", 1369353600 * NS + NS / 4},
        {"2013-05-24T00:00:00.123456789123Z", 1369353600 * NS + 123456789},
        {"2013-05-24T02:00:00+02:00", 1369353600 * NS},
        {"2013-05-23T18:30:00-05:30", 1369353600 * NS},
        {"2013-05-24T00:00:00UTC", 1369353600 * NS},
        {"1969-12-31T23:59:59.5Z", -NS / 2},
        {"9999-12-31T23:59:59Z", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ns = 0;
        cr_assert_eq(clock_parse_iso(rows[i].text, &ns), 0, "row %zu", i);
        cr_assert_eq(ns, rows[i].ns, "row %zu: %lld", i, (long long)ns);
    }
}

Test(clock, refuses_what_is_no_date)
{
    static const char *const bad[] = {"",
                                      "yesterday",
                                      "Fri, 24 Mai 2013 00:00:00 GMT",
                                      "Fri, 30 Feb 2013 00:00:00 GMT",
                                      "Fri, 24 May 2013 24:00:00 GMT",
                                      "Fri, 24 May 2013 00:00:00 GMT ",
                                      "Fri, 24 May 2013 00:00:00 CET",
                                      "Fri, 24 May 2013 00:-1:00 GMT",
                                      "2013-05-24",
                                      "2013-05-24T00:00:00",
                                      "2013-02-30T00:00:00Z",
                                      "2013-13-01T00:00:00Z",
                                      "2013-00-01T00:00:00Z",
                                      "2013-05-24T00:00:00Zx",
                                      "2013-05-24T00:00:00+2:00"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t ns = 7;
        cr_assert_eq(clock_parse_http(bad[i], &ns), -EINVAL, "row %zu", i);
        cr_assert_eq(clock_parse_iso(bad[i], &ns), -EINVAL, "row %zu", i);
        cr_assert_eq(ns, 7);
    }
}
