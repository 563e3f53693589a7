#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "mount/source.h"

static void expect(const char *text, const char *bucket, const char *prefix)
{
    STRING_SCOPED *got_bucket = NULL;
    STRING_SCOPED *got_prefix = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(source_parse(text, &got_bucket, &got_prefix, &why), 0, "%s: %s", text, why.bytes);
    cr_assert_str_eq(got_bucket, bucket);
    cr_assert_str_eq(got_prefix, prefix);
    cr_assert_eq(why.length, 0);
}

static void refuse(const char *text, const char *word)
{
    STRING_SCOPED *bucket = NULL;
    STRING_SCOPED *prefix = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(source_parse(text, &bucket, &prefix, &why), -EINVAL, "%s was taken", text);
    cr_assert_not_null(strstr(why.bytes, word), "%s: '%s' does not say '%s'", text, why.bytes, word);
    cr_assert_null(strchr(why.bytes, '\n'));
    cr_assert_null(bucket);
}

Test(source, all_three_forms_name_the_same_place)
{
    expect("data", "data", "");
    expect("data:", "data", "");
    expect("data:a/b", "data", "a/b/");
    expect("s3://data", "data", "");
    expect("s3://data/", "data", "");
    expect("s3://data/a/b/", "data", "a/b/");
}

Test(source, slashes_are_folded)
{
    expect("data:/a//b///", "data", "a/b/");
    expect("s3://data//a", "data", "a/");
}

Test(source, a_colon_in_a_url_belongs_to_the_prefix)
{
    expect("s3://data/a:b", "data", "a:b/");
}

Test(source, what_is_no_bucket_or_prefix_is_refused_by_name)
{
    refuse("", "3 to 63");
    refuse("ab", "3 to 63");
    refuse("da ta", "position 3");
    refuse("data/x", "say bucket");
    refuse("data:a/../b", "'..'");
    refuse("data:./b", "'.'");
    refuse("data:a\nb", "control character");
}

Test(source, a_prefix_that_leaves_no_room_for_names_is_refused)
{
    BUF_SCOPED text = BUF_INIT;
    buf_add_string(&text, "data:");
    for (int i = 0; i < 1001; i++)
        buf_add_char(&text, 'x');
    refuse(text.bytes, "too long");
}
