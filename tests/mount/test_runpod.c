#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mount/runpod.h"

static const char list[] =
    "[{\"id\":\"agv6w2qcg7\",\"name\":\"data\",\"size\":50,\"dataCenterId\":\"EU-RO-1\"},"
    "{\"id\":\"data\",\"name\":\"other\",\"dataCenterId\":\"US-KS-2\"},"
    "{\"id\":\"twin1\",\"name\":\"twin\",\"dataCenterId\":\"US-KS-2\"},"
    "{\"id\":\"twin2\",\"name\":\"twin\",\"dataCenterId\":\"EU-CZ-1\"},"
    "{\"id\":\"bad id\",\"name\":\"odd\",\"dataCenterId\":\"EU-CZ-1\"},"
    "{\"id\":\"nowhere\",\"name\":\"lost\"},7,null,[]]";

static struct json *read_list(const char *text)
{
    struct json *json = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(json_parse(text, strlen(text), &json, &why), 0, "%s", why.bytes);
    return json;
}

static int match(const char *text, const char *bucket, char *ret_id, size_t room, struct buf *why)
{
    struct json *json = read_list(text);
    struct runpod_volume volume = {0};
    int rc = runpod_match(json, bucket, &volume, why);
    snprintf(ret_id, room, "%s", rc == 0 ? volume.id : "");
    json_free(json);
    return rc;
}

Test(runpod, an_id_wins_over_a_name)
{
    static const struct {
        char bucket[16], id[16], word[40];
        int rc;
    } rows[] = {
        {"agv6w2qcg7", "agv6w2qcg7", "", 0},
        {"data", "data", "", 0}, /* the id of one, the name of another */
        {"other", "data", "", 0},
        {"twin1", "twin1", "", 0},
        {"twin", "", "twin1 (in US-KS-2), twin2 (in EU-CZ-1)", -EEXIST},
        {"nothing", "", "data (id agv6w2qcg7, in EU-RO-1)", -ENOENT},
        {"odd", "", "proper id", -EBADMSG},
        {"lost", "", "proper id", -EBADMSG},
        {"DATA", "", "no network volume", -ENOENT},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char id[64];
        BUF_SCOPED why = BUF_INIT;
        cr_assert_eq(match(list, rows[i].bucket, id, sizeof(id), &why), rows[i].rc, "%s: %s", rows[i].bucket,
                     why.bytes);
        cr_assert_str_eq(id, rows[i].id);
        cr_assert_not_null(strstr(why.bytes, rows[i].word), "%s: %s", rows[i].bucket, why.bytes);
    }
}

Test(runpod, an_empty_account_and_no_list_are_told_apart)
{
    char id[64];
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(match("[]", "x", id, sizeof(id), &why), -ENOENT);
    cr_assert_not_null(strstr(why.bytes, "this account has none"));
    cr_assert_eq(match("{\"networkVolumes\":[]}", "x", id, sizeof(id), &why), -EBADMSG);
    cr_assert_eq(runpod_match(NULL, "x", &(struct runpod_volume){0}, &why), -EBADMSG);
}

Test(runpod, a_pod_stands_where_its_volume_stands)
{
    struct runpod_volume volume = {"v1", "data", "EU-RO-1"};
    const char *const same[] = {"US-KS-2", "EU-RO-1", NULL}, *const other[] = {"US-KS-2", "US-GA-1", NULL};
    const char *const global[] = {"global", NULL}, *const none[] = {NULL}, *const small[] = {"eu-ro-1", NULL};
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(runpod_place(&volume, NULL, &why), 0);
    cr_assert_eq(runpod_place(&volume, none, &why), 0);
    cr_assert_eq(runpod_place(&volume, global, &why), 0);
    cr_assert_eq(runpod_place(&volume, same, &why), 0);
    cr_assert_eq(runpod_place(&volume, small, &why), 0);
    cr_assert_eq(why.length, 0);
    cr_assert_eq(runpod_place(&volume, other, &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "EU-RO-1"));
    cr_assert_not_null(strstr(why.bytes, "US-KS-2, US-GA-1"));
}

static void expect_print(struct json *json, const char *text)
{
    BUF_SCOPED out = BUF_INIT;
    json_print(json, &out, false);
    cr_assert_str_eq(out.bytes, text);
    json_free(json);
}

Test(runpod, each_call_takes_the_hints_in_its_own_form)
{
    struct runpod_volume volume = {"v1", "data", "EU-RO-1"};
    expect_print(runpod_hints(&volume, "/workspace"),
                 "{\"networkVolumeId\":\"v1\",\"volumeMountPath\":\"/"
                 "workspace\",\"cloudType\":\"SECURE\",\"dataCenterId\":\"EU-RO-1\","
                 "\"dataCenterIds\":[\"EU-RO-1\"]}");
    expect_print(runpod_forms(&volume, "/workspace"),
                 "{\"rest\":{\"networkVolumeId\":\"v1\",\"volumeMountPath\":\"/"
                 "workspace\",\"cloudType\":\"SECURE\",\"dataCenterIds\":[\"EU-RO-1\"]},"
                 "\"graphql\":{\"networkVolumeId\":\"v1\",\"volumeMountPath\":\"/"
                 "workspace\",\"cloudType\":\"SECURE\",\"dataCenterId\":\"EU-RO-1\"}}");
}
