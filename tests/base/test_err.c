#include "base/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>

Test(err, knows_names_and_words_of_either_sign)
{
    cr_assert_str_eq(err_name(ENOENT), "ENOENT");
    cr_assert_str_eq(err_name(-ENOENT), "ENOENT");
    cr_assert_str_eq(err_name(-ESTALE), "ESTALE");
    cr_assert_str_eq(err_text(-ENOENT), "No such file or directory");
    cr_assert_str_eq(err_text(ENOENT), "No such file or directory");
}

Test(err, names_numbers_that_have_no_name)
{
    cr_assert_str_eq(err_name(-4321), "E4321");
    cr_assert_str_eq(err_text(4321), "Unknown error 4321");
    const char *one = err_name(5001), *two = err_name(5002);
    cr_assert_str_eq(one, "E5001", "both in one log line");
    cr_assert_str_eq(two, "E5002");
    cr_assert_not_null(err_name(INT_MIN));
}
