#include "s3/endpoint.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

struct row {
    const char *endpoint, *bucket, *region; /* as configured */
    enum store_style style;
    const char *url;       /* of the key "k/ä b", or NULL: refused */
    const char *signed_as; /* region */
};

static const struct row rows[] = {
    /* AWS */
    {NULL, "bkt", NULL, STYLE_AUTO, "https://bkt.s3.amazonaws.com/k/%C3%A4%20b", "us-east-1"},
    {NULL, "bkt", "eu-west-1", STYLE_AUTO, "https://bkt.s3.eu-west-1.amazonaws.com/k/%C3%A4%20b",
     "eu-west-1"},
    {NULL, "bkt", "cn-north-1", STYLE_AUTO, "https://bkt.s3.cn-north-1.amazonaws.com.cn/k/%C3%A4%20b",
     "cn-north-1"},
    {NULL, "bkt", "eusc-de-east-1", STYLE_AUTO, "https://bkt.s3.eusc-de-east-1.amazonaws.eu/k/%C3%A4%20b",
     "eusc-de-east-1"},
    {NULL, "my.bucket", "eu-west-1", STYLE_AUTO, "https://s3.eu-west-1.amazonaws.com/my.bucket/k/%C3%A4%20b",
     "eu-west-1"},
    {NULL, "My_Bucket", NULL, STYLE_AUTO, "https://s3.amazonaws.com/My_Bucket/k/%C3%A4%20b", "us-east-1"},
    {NULL, "bkt", "eu-west-1", STYLE_PATH, "https://s3.eu-west-1.amazonaws.com/bkt/k/%C3%A4%20b",
     "eu-west-1"},
    {"https://s3.eu-west-1.amazonaws.com/", "bkt", NULL, STYLE_AUTO,
     "https://bkt.s3.eu-west-1.amazonaws.com/k/%C3%A4%20b", "eu-west-1"},
    {"https://s3-eu-west-1.amazonaws.com", "bkt", NULL, STYLE_AUTO,
     "https://bkt.s3-eu-west-1.amazonaws.com/k/%C3%A4%20b", "eu-west-1"},
    {"https://s3.dualstack.eu-west-1.amazonaws.com", "bkt", NULL, STYLE_AUTO,
     "https://bkt.s3.dualstack.eu-west-1.amazonaws.com/k/%C3%A4%20b", "eu-west-1"},
    {"https://bkt.s3.eu-west-1.amazonaws.com", "bkt", NULL, STYLE_AUTO,
     "https://bkt.s3.eu-west-1.amazonaws.com/k/%C3%A4%20b", "eu-west-1"},
    {"HTTPS://S3.AMAZONAWS.COM:443", "bkt", "eu-west-1", STYLE_AUTO,
     "https://bkt.s3.eu-west-1.amazonaws.com/k/%C3%A4%20b", "eu-west-1"},
    {"https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", "bkt", NULL, STYLE_AUTO,
     "https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com/bkt/k/%C3%A4%20b", "us-east-1"},
    /* Other providers */
    {"https://storage.googleapis.com", "bkt", NULL, STYLE_AUTO,
     "https://storage.googleapis.com/bkt/k/%C3%A4%20b", "auto"},
    {"https://acc.r2.cloudflarestorage.com/bkt", "bkt", NULL, STYLE_AUTO,
     "https://acc.r2.cloudflarestorage.com/bkt/k/%C3%A4%20b", "auto"},
    {"https://acc.eu.r2.cloudflarestorage.com", "bkt", NULL, STYLE_AUTO,
     "https://acc.eu.r2.cloudflarestorage.com/bkt/k/%C3%A4%20b", "auto"},
    {"https://s3.eu-central-1.wasabisys.com", "bkt", NULL, STYLE_AUTO,
     "https://bkt.s3.eu-central-1.wasabisys.com/k/%C3%A4%20b", "eu-central-1"},
    {"https://s3.wasabisys.com", "bkt", NULL, STYLE_AUTO, "https://bkt.s3.wasabisys.com/k/%C3%A4%20b",
     "us-east-1"},
    {"https://s3.us-west-004.backblazeb2.com", "bkt", NULL, STYLE_AUTO,
     "https://bkt.s3.us-west-004.backblazeb2.com/k/%C3%A4%20b", "us-west-004"},
    {"https://ca1.obj.nexgencloud.io", "bkt", NULL, STYLE_AUTO,
     "https://ca1.obj.nexgencloud.io/bkt/k/%C3%A4%20b", "us-east-1"},
    {"https://s3api-eu-ro-1.runpod.io/", "agv6w2qcg7", NULL, STYLE_AUTO,
     "https://s3api-eu-ro-1.runpod.io/agv6w2qcg7/k/%C3%A4%20b", "EU-RO-1"},
    /* One's own */
    {"http://127.0.0.1:9000", "bkt", NULL, STYLE_AUTO, "http://127.0.0.1:9000/bkt/k/%C3%A4%20b", "us-east-1"},
    {"http://localhost:9000", "bkt", "site-1", STYLE_AUTO, "http://localhost:9000/bkt/k/%C3%A4%20b",
     "site-1"},
    {"http://s3.localhost:9000", "bkt", NULL, STYLE_VIRTUAL, "http://bkt.s3.localhost:9000/k/%C3%A4%20b",
     "us-east-1"},
    {"http://[::1]:9000", "bkt", NULL, STYLE_AUTO, "http://[::1]:9000/bkt/k/%C3%A4%20b", "us-east-1"},
    {"https://minio.example.org:443", "bkt", NULL, STYLE_AUTO, "https://minio.example.org/bkt/k/%C3%A4%20b",
     "us-east-1"},
    {"https://[2001:db8::1]", "bkt", NULL, STYLE_AUTO, "https://[2001:db8::1]/bkt/k/%C3%A4%20b", "us-east-1"},
    /* Refused */
    {"http://minio.example.org", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"http://10.0.0.1:9000", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"http://127.0.0.1.example.org", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"http://[2001:db8::1]", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"minio.example.org", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"ftp://minio.example.org", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://host:port", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://host:", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://host:0", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://host:65536", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://[::1", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://ho st", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://ho%73t", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://host/other", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://host?x", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://user:pass@host", "bkt", NULL, STYLE_AUTO, NULL, NULL},
    {"https://127.0.0.1", "bkt", NULL, STYLE_VIRTUAL, NULL, NULL},
    {NULL, "b/../x", NULL, STYLE_AUTO, NULL, NULL},
    {NULL, "b..x", NULL, STYLE_AUTO, NULL, NULL},
    {NULL, "", NULL, STYLE_AUTO, NULL, NULL},
    {NULL, NULL, NULL, STYLE_AUTO, NULL, NULL},
    {NULL, "bkt--use1-az4--x-s3", NULL, STYLE_AUTO, NULL, NULL},
    {NULL, "bkt", "eu.evil.org/", STYLE_AUTO, NULL, NULL},
};

static void add_url(const struct endpoint *endpoint, const char *key, struct buf *out)
{
    BUF_SCOPED host = BUF_INIT, path = BUF_INIT;
    endpoint_locate(endpoint, key, &host, &path);
    endpoint_url(endpoint, host.bytes, path.bytes, "", out);
}

static struct endpoint *make(const char *url, const char *bucket, const char *region)
{
    struct store_config config = {.endpoint = url, .bucket = bucket, .region = region};
    struct endpoint *endpoint = NULL;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(endpoint_new(&config, &endpoint, &why), 0, "%s", why.bytes);
    return endpoint;
}

Test(endpoint, goes_where_style_region_and_provider_say)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        const struct row *row = &rows[i];
        struct store_config config = {
            .endpoint = row->endpoint, .bucket = row->bucket, .region = row->region, .style = row->style};
        struct endpoint *endpoint = NULL;
        BUF_SCOPED why = BUF_INIT, url = BUF_INIT;
        int rc = endpoint_new(&config, &endpoint, &why);
        cr_expect(rc == (row->url ? 0 : -EINVAL), "row %zu %s: %s", i, row->endpoint, why.bytes);
        cr_expect_eq(why.length == 0, rc == 0, "row %zu", i);
        cr_expect(!strstr(why.bytes, "pass"), "no password is repeated");
        if (rc < 0)
            continue;
        add_url(endpoint, "k/ä b", &url);
        cr_expect_str_eq(url.bytes, row->url, "row %zu: %s", i, url.bytes);
        cr_expect_str_eq(endpoint->region, row->signed_as, "row %zu", i);
        endpoint_unref(endpoint);
    }
}

Test(endpoint, plain_http_to_others_is_allowed_when_told)
{
    struct store_config config = {.endpoint = "http://10.0.0.1:9000", .bucket = "bkt", .allow_http = true};
    struct endpoint *endpoint = NULL;
    BUF_SCOPED why = BUF_INIT, out = BUF_INIT;
    cr_assert_eq(endpoint_new(&config, &endpoint, &why), 0);
    endpoint_describe(endpoint, &out);
    cr_expect_str_eq(out.bytes, "http://10.0.0.1:9000/bkt, region us-east-1");
    endpoint_unref(endpoint);
}

Test(endpoint, paths_are_encoded_once_and_never_normalised)
{
    struct endpoint *endpoint = make("http://127.0.0.1:9000", "bkt", NULL);
    static const char *const keys[][2] = {
        {"a//b/./c/../d", "/bkt/a//b/./c/../d"}, {"/lead", "/bkt//lead"},       {"dir/", "/bkt/dir/"},
        {"%41+b?c#d", "/bkt/%2541%2Bb%3Fc%23d"}, {"\xff\x01~", "/bkt/%FF%01~"}, {"soap", "/bkt/soap"},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        BUF_SCOPED host = BUF_INIT, path = BUF_INIT, source = BUF_INIT;
        endpoint_locate(endpoint, keys[i][0], &host, &path);
        endpoint_copy_source(endpoint, keys[i][0], &source);
        cr_expect_str_eq(host.bytes, "127.0.0.1:9000");
        cr_expect_str_eq(path.bytes, keys[i][1]);
        cr_expect_str_eq(source.bytes, keys[i][1]);
    }
    BUF_SCOPED host = BUF_INIT, path = BUF_INIT, url = BUF_INIT;
    endpoint_locate(endpoint, NULL, &host, &path);
    endpoint_url(endpoint, host.bytes, path.bytes, "list-type=2", &url);
    cr_expect_str_eq(url.bytes, "http://127.0.0.1:9000/bkt?list-type=2");
    endpoint_unref(endpoint);
}

Test(endpoint, virtual_hosts_name_the_bucket_but_for_the_key_soap)
{
    struct endpoint *endpoint = make(NULL, "bkt", "eu-west-1");
    BUF_SCOPED bucket = BUF_INIT, soap = BUF_INIT, source = BUF_INIT;
    add_url(endpoint, NULL, &bucket);
    add_url(endpoint, "soap", &soap);
    endpoint_copy_source(endpoint, "a b", &source);
    cr_expect_str_eq(bucket.bytes, "https://bkt.s3.eu-west-1.amazonaws.com/");
    cr_expect_str_eq(soap.bytes, "https://s3.eu-west-1.amazonaws.com/bkt/soap");
    cr_expect_str_eq(source.bytes, "/bkt/a%20b");
    endpoint_unref(endpoint);
}

Test(endpoint, another_region_rebuilds_hosts_from_the_template_only)
{
    static const char *const moves[][3] = {
        {NULL, "eu-west-1", "https://bkt.s3.eu-west-1.amazonaws.com/k"},
        {NULL, "cn-north-1", "https://bkt.s3.cn-north-1.amazonaws.com.cn/k"},
        {"https://s3.dualstack.us-west-2.amazonaws.com", "eu-west-1",
         "https://bkt.s3.dualstack.eu-west-1.amazonaws.com/k"},
        {"https://s3.wasabisys.com", "eu-central-1", "https://bkt.s3.eu-central-1.wasabisys.com/k"},
        {"http://127.0.0.1:9000", "site-2", "http://127.0.0.1:9000/bkt/k"},
    };
    for (size_t i = 0; i < sizeof(moves) / sizeof(*moves); i++) {
        struct endpoint *endpoint = make(moves[i][0], "bkt", NULL), *other = NULL;
        cr_assert_eq(endpoint_in_region(endpoint, moves[i][1], &other), 0);
        BUF_SCOPED url = BUF_INIT;
        add_url(other, "k", &url);
        cr_expect_str_eq(url.bytes, moves[i][2]);
        cr_expect_str_eq(other->region, moves[i][1]);
        endpoint_unref(endpoint);
        endpoint_unref(other);
    }
}

Test(endpoint, regions_from_outside_must_look_like_regions)
{
    struct endpoint *endpoint = make(NULL, "bkt", NULL), *other = NULL;
    static const char *const bad[] = {
        "",        "evil.org",  "a/b",
        "eu west", "-a",        "a-",
        "a\nb",    "us-east-1", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        cr_expect_eq(endpoint_in_region(endpoint, bad[i], &other), -EINVAL, "%s", bad[i]);
    cr_expect_null(other);
    cr_expect(endpoint_region_valid("EU-RO-1"));
    cr_expect(endpoint_region_valid("auto"));
    endpoint_unref(endpoint);
}

Test(endpoint, quirks_are_known_by_the_host)
{
    static const struct {
        const char *url;
        struct store_abilities
            abilities; /* checksum, delete_many, part_copy, conditional_put, equal_parts are compared */
    } quirks[] = {
        {"https://acc.r2.cloudflarestorage.com",
         {.checksum = ABILITY_NO,
          .delete_many = ABILITY_YES,
          .part_copy = ABILITY_YES,
          .conditional_put = ABILITY_YES,
          .equal_parts = true}},
        {"https://storage.googleapis.com",
         {.checksum = ABILITY_NO, .part_copy = ABILITY_NO, .conditional_put = ABILITY_NO}},
        {"https://s3.us-west-004.backblazeb2.com", {.checksum = ABILITY_NO, .conditional_put = ABILITY_NO}},
        {"https://s3api-us-ks-2.runpod.io", {.delete_many = ABILITY_NO, .part_copy = ABILITY_NO}},
        {"http://127.0.0.1:9000", {0}},
    };
    for (size_t i = 0; i < sizeof(quirks) / sizeof(*quirks); i++) {
        struct endpoint *endpoint = make(quirks[i].url, "bkt", NULL);
        struct store_abilities got;
        endpoint_abilities(endpoint, &got);
        const struct store_abilities *want = &quirks[i].abilities;
        cr_expect(got.checksum == want->checksum && got.delete_many == want->delete_many &&
                      got.part_copy == want->part_copy && got.conditional_put == want->conditional_put &&
                      got.equal_parts == want->equal_parts,
                  "%s", quirks[i].url);
        cr_expect(!endpoint_tells_region(endpoint));
        endpoint_unref(endpoint);
    }
    struct endpoint *aws = make(NULL, "bkt", NULL);
    cr_expect(endpoint_tells_region(aws));
    endpoint_unref(aws);
}
