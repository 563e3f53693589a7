#include "base/json.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <math.h>
#include <string.h>

static void check_print(const struct json *json, const char *wanted)
{
    BUF_SCOPED out = BUF_INIT;
    json_print(json, &out, false);
    cr_assert_str_eq(out.bytes, wanted);
}

Test(json, prints_what_was_set_in_that_order)
{
    struct json *object = json_object_new();
    struct json *array = json_array_new();
    struct json *inner = json_object_new();
    json_set_integer(inner, "n", INT64_MIN);
    json_append(array, &inner);
    cr_assert_null(inner);
    json_append_string(array, "x");
    json_set_string(object, "z", "a\"\\\n");
    json_set_string(object, "none", NULL);
    json_set_bool(object, "b", true);
    json_set_real(object, "r", 0.1);
    json_set_real(object, "nan", (double)NAN);
    json_set(object, "a", &array);
    check_print(object, "{\"z\":\"a\\\"\\\\\\n\",\"none\":null,\"b\":true,\"r\":0.1,\"nan\":null,"
                        "\"a\":[{\"n\":-9223372036854775808},\"x\"]}");
    json_free(object);
    json_free(NULL);
}

Test(json, never_fails_on_a_file_name)
{
    struct json *object = json_object_new();
    json_set_string(object, "k\xff", "a\xffz\xc3\xbc\xc3");
    check_print(object, "{\"k\xef\xbf\xbd\":\"a\xef\xbf\xbdz\xc3\xbc\xef\xbf\xbd\"}");
    json_free(object);
}

Test(json, pretty_is_the_same_in_more_lines)
{
    struct json *object = json_object_new();
    json_set_integer(object, "a", 1);
    BUF_SCOPED out = BUF_INIT;
    json_print(object, &out, true);
    cr_assert_str_eq(out.bytes, "{\n  \"a\": 1\n}");
    json_free(object);
}

Test(json, reads_values_by_name_and_kind)
{
    const char *text = "{\"s\":\"t\",\"i\":-5,\"b\":false,\"l\":[1,{\"x\":\"y\"}],\"n\":null}";
    struct json *json;
    cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0);
    int64_t integer;
    bool boolean = true;
    cr_assert_str_eq(json_get_string(json, "s"), "t");
    cr_assert(json_get_integer(json, "i", &integer) && integer == -5);
    cr_assert(json_get_bool(json, "b", &boolean) && !boolean);
    cr_assert_null(json_get_string(json, "i"));
    cr_assert_null(json_get_string(json, "missing"));
    cr_assert_not(json_get_integer(json, "s", &integer));
    cr_assert_not(json_get_bool(json, "n", &boolean));
    const struct json *list = json_get(json, "l");
    cr_assert_eq(json_count(list), 2);
    cr_assert_str_eq(json_get_string(json_at(list, 1), "x"), "y");
    cr_assert_null(json_at(list, 2));
    cr_assert_null(json_get(list, "x"));
    cr_assert_eq(json_count(json), 0, "not an array");
    cr_assert_null(json_get(NULL, "x"));
    json_free(json);
}

Test(json, extending_takes_all_of_the_other_array)
{
    struct json *list = json_array_new(), *more = json_array_new();
    BUF_SCOPED text = BUF_INIT;
    json_append_string(list, "a");
    json_append_string(more, "b");
    json_append_string(more, "c");
    json_extend(list, &more);
    cr_assert_null(more);
    json_print(list, &text, false);
    cr_assert_str_eq(text.bytes, "[\"a\",\"b\",\"c\"]");
    json_free(list);
}

Test(json, refuses_bad_text_and_says_where_but_not_what)
{
    static const char *const bad[] = {"",     "{",        "{\"a\":}", "[1,]", "{\"Secret\": sk-12345 }",
                                      "{} x", "\"\xff\"", "nul"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct json *json;
        BUF_SCOPED why = BUF_INIT;
        cr_assert_eq(json_parse(bad[i], strlen(bad[i]), &json, &why), -EBADMSG, "row %zu", i);
        cr_assert(strstr(why.bytes, "line 1"), "%s", why.bytes);
        cr_assert_null(strstr(why.bytes, "sk"), "%s", why.bytes);
    }
}

Test(json, depth_and_size_have_an_end)
{
    struct json *json = NULL;
    BUF_SCOPED text = BUF_INIT;
    for (int i = 0; i < 64; i++)
        buf_add_char(&text, '[');
    for (int i = 0; i < 64; i++)
        buf_add_char(&text, ']');
    cr_assert_eq(json_parse(text.bytes, text.length, &json, NULL), 0);
    json_free(json);
    buf_reset(&text);
    for (int i = 0; i < 100000; i++)
        buf_add_char(&text, '[');
    cr_assert_eq(json_parse(text.bytes, text.length, &json, NULL), -EBADMSG);
    BUF_SCOPED quoted = BUF_INIT;
    buf_add_string(&quoted, "[\"\\\"");
    for (int i = 0; i < 100; i++)
        buf_add_char(&quoted, '[');
    buf_add_string(&quoted, "\"]");
    cr_assert_eq(json_parse(quoted.bytes, quoted.length, &json, NULL), 0, "brackets in a text");
    json_free(json);
    buf_reset(&text);
    buf_add_string(&text, "[]");
    for (int i = 0; i < (16 << 20) / 16; i++)
        buf_add(&text, "                ", 16);
    cr_assert_eq(json_parse(text.bytes, text.length, &json, NULL), -EBADMSG);
}

static void note_string(void *context, const char *name, const char *value)
{
    buf_printf(context, "%s=%s ", name, value);
}

Test(json, tells_each_text_of_an_object)
{
    const char *text = "{\"b\":\"1\",\"n\":5,\"\":\"2\",\"o\":{\"x\":\"y\"},\"a\":\"\",\"b\":\"3\"}";
    struct json *json;
    BUF_SCOPED told = BUF_INIT;
    cr_assert_eq(json_parse(text, strlen(text), &json, NULL), 0);
    json_each_string(json, note_string, &told);
    cr_assert_str_eq(told.bytes, "b=3 =2 a= ");
    json_each_string(json_get(json, "o"), note_string, &told);
    json_each_string(json_get(json, "n"), note_string, &told);
    cr_assert_str_eq(told.bytes, "b=3 =2 a= x=y ");
    json_free(json);
}
