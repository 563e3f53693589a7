#include <criterion/criterion.h>
#include <errno.h>

#include "mount/remount.h"

Test(remount, options_that_would_change_are_named)
{
    static const struct {
        char list[64], names[32];
    } rows[] = {
        {"", ""},
        {"ro", ""},
        {"rw,memory=64M,_netdev,noatime", ""},
        {"memory=65536K", ""},
        {"memory=96M", "memory"},
        {"ro,attr_ttl=5s,memory=96M", "memory, attr_ttl"},
        {"attr_ttl=1000ms,endpoint=http://h:1", ""},
        {"endpoint=http://h:2", "endpoint"},
        {"region=eu", "region"}, /* it has none */
    };
    struct json *present = json_object_new();
    json_set_string(present, "ro", "no");
    json_set_string(present, "memory", "67108864B");
    json_set_string(present, "attr_ttl", "1000ms");
    json_set_string(present, "endpoint", "http://h:1");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        BUF_SCOPED names = BUF_INIT;
        BUF_SCOPED why = BUF_INIT;
        cr_expect_eq(remount_compare(rows[i].list, present, &names, &why), 0, "%s", why.bytes);
        cr_expect_str_eq(names.bytes, rows[i].names);
    }
    json_free(present);
}

Test(remount, what_is_no_option_is_refused)
{
    struct json *present = json_object_new();
    BUF_SCOPED names = BUF_INIT;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(remount_compare("colour=red", present, &names, &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "colour"));
    json_free(present);
}
