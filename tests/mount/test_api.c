#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "mount/api.h"

static int try_url(const char *url, bool metadata, struct buf *why)
{
    WAITER_SCOPED(waiter);
    struct api_config config = {
        .name = "the service", .url = url, .where = "SOME_URL", .metadata = metadata, .waiter = &waiter};
    struct api *api = NULL;
    int rc = api_new(&config, &api, why);
    api_free(api);
    return rc;
}

Test(api, keys_go_over_tls_or_stay_on_this_host)
{
    static const struct {
        char url[48];
        bool plain, metadata;
    } rows[] = {
        {"https://rest.runpod.io/v1", true, true},
        {"https://h:8443/", true, true},
        {"http://127.0.0.1:1", true, true},
        {"http://localhost:1/x", true, true},
        {"http://[::1]:1", true, true},
        {"http://rest.runpod.io/v1", false, false},
        {"http://169.254.169.254", false, true},
        {"http://metadata.google.internal", false, true},
        {"http://[fd20:ce::254]:80", false, true},
        {"http://169.254.169.254.evil.com", false, false},
        {"http://metadata.evil.com", false, false},
        {"ftp://h", false, false},
        {"h:1", false, false},
        {"", false, false},
        {"https://", false, false},
        {"https://user@h", false, false},
        {"http://127.0.0.1@evil.com", false, false},
        {"https://h/?a=b", false, false},
        {"https://h/#x", false, false},
        {"https://h/a b", false, false},
        {"https://h\r\nX: y", false, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        BUF_SCOPED why = BUF_INIT;
        cr_assert_eq(try_url(rows[i].url, false, &why), rows[i].plain ? 0 : -EINVAL, "%s", rows[i].url);
        cr_assert(rows[i].plain || strstr(why.bytes, "SOME_URL"));
        cr_assert_eq(try_url(rows[i].url, true, &why), rows[i].metadata ? 0 : -EINVAL, "%s", rows[i].url);
    }
}

Test(api, the_words_of_an_error_are_found_where_services_put_them)
{
    static const struct {
        char json[96], words[32];
    } rows[] = {
        {"{\"message\":\"a\"}", "a"},
        {"{\"status\":false,\"error_reason\":\"r\",\"message\":\"m\"}", "m"},
        {"{\"error\":{\"code\":400,\"message\":\"g\"}}", "g"},
        {"{\"error\":\"invalid_grant\",\"error_description\":\"d\"}", "d"},
        {"{\"errors\":[{\"message\":\"q\"}]}", "q"},
        {"{\"title\":\"t\",\"detail\":\"d\"}", "d"},
        {"{\"error\":\"e\"}", "e"},
        {"{\"message\":\"\"}", ""},
        {"{\"message\":7}", ""},
        {"[]", ""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct json *json = NULL;
        cr_assert_eq(json_parse(rows[i].json, strlen(rows[i].json), &json, NULL), 0);
        const char *words = api_error_words(json);
        cr_assert_str_eq(words ? words : "", rows[i].words, "%s", rows[i].json);
        json_free(json);
    }
}
