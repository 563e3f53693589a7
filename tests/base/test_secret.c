#include "base/secret.h"

#include <criterion/criterion.h>
#include <string.h>

Test(secret, reveals_its_bytes_terminated)
{
    struct secret *secret = secret_new("key/with\0nul", 12);
    cr_assert_eq(secret_length(secret), 12);
    cr_assert_eq(memcmp(secret_reveal(secret), "key/with\0nul", 13), 0);
    secret_unref(secret);
}

Test(secret, lives_until_the_last_reference_goes)
{
    struct secret *secret = secret_new("s", 1);
    struct secret *other = secret_ref(secret);
    secret_unref(secret);
    cr_assert_str_eq(secret_reveal(other), "s");
    secret_unref(other);
}

Test(secret, null_is_no_secret)
{
    secret_unref(NULL);
    cr_assert_null(secret_ref(NULL));
    struct secret *empty = secret_new(NULL, 0);
    cr_assert_str_eq(secret_reveal(empty), "");
    secret_unref(empty);
}

Test(secret, wipe_zeroes_all)
{
    char bytes[33];
    memset(bytes, 'x', sizeof(bytes));
    secret_wipe(bytes, 32);
    for (int i = 0; i < 32; i++)
        cr_assert_eq(bytes[i], 0);
    cr_assert_eq(bytes[32], 'x');
}
