#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "mount/unsent.h"

static struct json *tell(const char *path, const struct cache_unsent *files, size_t count)
{
    struct unsent unsent;
    struct json *object = json_object_new();
    unsent_init(&unsent, path);
    for (size_t i = 0; i < count; i++)
        unsent_add(&unsent, &files[i]);
    unsent_print(&unsent, object);
    unsent_release(&unsent);
    return object;
}

static int64_t number(const struct json *object, const char *name)
{
    int64_t value = -1;
    json_get_integer(object, name, &value);
    return value;
}

static const struct cache_unsent files[] = {
    {.path = "a/b", .key = "p/a/b", .local = "", .bytes = 1, .why = "not sent yet"},
    {.path = "a/bc", .key = "p/a/bc", .local = "", .bytes = 10, .why = "EIO", .parked = true},
    {.path = "a/b/c",
     .key = "p/a/b/c",
     .local = "/x",
     .bytes = 100,
     .why = "ESTALE",
     .parked = true,
     .rc = -ESTALE,
     .refused = true,
     .lasting = true,
     .conflict = true},
    {.path = "", .key = "p/gone", .local = "", .bytes = 1000, .why = "not sent yet"},
};

Test(unsent, only_what_is_at_or_below_the_path_counts)
{
    static const struct {
        const char *path;
        int64_t files, bytes, parked, lasting, conflicts;
    } rows[] = {{"", 4, 1111, 2, 1, 1},
                {"a", 3, 111, 2, 1, 1},
                {"a/b", 2, 101, 1, 1, 1},
                {"a/bc", 1, 10, 1, 0, 0},
                {"b", 0, 0, 0, 0, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct json *told = tell(rows[i].path, files, 4);
        cr_assert_eq(number(told, "unsent_files"), rows[i].files, "row %zu", i);
        cr_assert_eq(number(told, "unsent_bytes"), rows[i].bytes, "row %zu", i);
        cr_assert_eq(number(told, "parked"), rows[i].parked, "row %zu", i);
        cr_assert_eq(number(told, "lasting"), rows[i].lasting, "row %zu", i);
        cr_assert_eq(number(told, "conflicts"), rows[i].conflicts, "row %zu", i);
        json_free(told);
    }
}

Test(unsent, what_failed_is_listed_first)
{
    struct json *told = tell("a", files, 4);
    const struct json *list = json_get(told, "unsent");
    static const char *const order[] = {"a/bc", "a/b/c", "a/b"};
    cr_assert_eq(json_count(list), 3);
    for (size_t i = 0; i < 3; i++)
        cr_assert_str_eq(json_get_string(json_at(list, i), "file"), order[i]);
    json_free(told);
}

Test(unsent, the_list_ends_and_the_count_does_not)
{
    static struct cache_unsent many[UNSENT_LISTED + 10];
    for (size_t i = 0; i < UNSENT_LISTED + 10; i++)
        many[i] = files[0];
    struct json *told = tell("", many, UNSENT_LISTED + 10);
    cr_assert_eq(number(told, "unsent_files"), UNSENT_LISTED + 10);
    cr_assert_eq(json_count(json_get(told, "unsent")), UNSENT_LISTED);
    json_free(told);
}

Test(unsent, what_is_refused_is_counted_and_told_with_a_remedy)
{
    struct json *told = tell("", files, 4);
    const struct json *list = json_get(told, "unsent");
    cr_assert_eq(number(told, "refused"), 1);
    for (size_t i = 0; i < json_count(list); i++) {
        const struct json *file = json_at(list, i);
        bool refused = strcmp(json_get_string(file, "file"), "a/b/c") == 0;
        cr_assert_eq(json_get_string(file, "remedy") != NULL, refused, "%s", json_get_string(file, "file"));
    }
    cr_assert_str_neq(unsent_remedy(-EACCES), unsent_remedy(-ESTALE));
    cr_assert_str_eq(unsent_remedy(-EIO), unsent_remedy(-E2BIG));
    json_free(told);
}
