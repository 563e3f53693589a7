#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "mount/plan.h"

#define S3(host)     ",endpoint=https://" host
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

struct made {
    struct configuration configuration;
    struct plan plan;
};

static int make(const char *const *volumes, size_t count, struct made *made, struct buf *why)
{
    const struct configuration_request request = {
        .state = "/nowhere", .base = "/mnt/skyvol", .volumes = volumes, .volume_count = count};
    cr_assert_eq(configuration_read(&request, &made->configuration, why), 0, "%s", why->bytes);
    const struct plan_request wanted = {
        .configuration = &made->configuration, .keys = PLAN_KEYS, .shared = true};
    int rc = plan_make(&wanted, &made->plan, why);
    if (rc < 0)
        configuration_release(&made->configuration);
    return rc;
}

static void unmake(struct made *made)
{
    plan_release(&made->plan);
    configuration_release(&made->configuration);
}

Test(plan, volumes_of_one_bucket_share_a_mount_that_is_writable_if_one_of_them_is)
{
    static const char *const volumes[] = {"bucket=my-data,mount=/train,prefix=train/" S3("a.example"),
                                          "bucket=my-data,mount=/out,prefix=results,rw" S3("a.example")};
    struct made made;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(make(volumes, COUNT(volumes), &made, &why), 0, "%s", why.bytes);
    cr_assert_eq(made.plan.mount_count, 1);
    cr_expect(!made.plan.mounts[0].read_only);
    cr_expect(strstr(made.plan.mounts[0].options, "durability=sync"));
    cr_expect_str_eq(made.plan.links[0].target, "/mnt/skyvol/my-data/train");
    cr_expect_str_eq(made.plan.links[0].bind, "/mnt/skyvol/.read-only/train");
    cr_expect_null(made.plan.links[1].bind);
    cr_assert_not_null(made.plan.notes);
    cr_expect(strstr(made.plan.notes[0], "read-write"));
    unmake(&made);
}

Test(plan, buckets_of_one_name_stand_beside_one_another)
{
    static const char *const volumes[] = {
        "bucket=data,mount=/a" S3("a.example"), "bucket=data,mount=/b" S3("b.example"),
        "bucket=data,mount=/c,no_sign_request=true" S3("b.example"), "bucket=data,mount=/d" S3("a.example")};
    static const char *const dirs[] = {"/mnt/skyvol/data", "/mnt/skyvol/data@b.example",
                                       "/mnt/skyvol/data@b.example-2"};
    struct made made;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(make(volumes, COUNT(volumes), &made, &why), 0, "%s", why.bytes);
    cr_assert_eq(made.plan.mount_count, COUNT(dirs));
    for (size_t i = 0; i < COUNT(dirs); i++)
        cr_expect_str_eq(made.plan.mounts[i].dir, dirs[i]);
    cr_expect_str_eq(made.plan.links[3].target, dirs[0]);
    unmake(&made);
}

Test(plan, what_a_volume_says_of_durability_wins_and_a_contradiction_is_refused)
{
    static const char *const one[] = {"bucket=data,mount=/a,rw,options=durability=writeback" S3("a.example")};
    static const char *const two[] = {"bucket=data,mount=/a,rw,options=durability=writeback" S3("a.example"),
                                      "bucket=data,mount=/b,rw,options=durability=sync" S3("a.example")};
    struct made made;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(make(one, 1, &made, &why), 0, "%s", why.bytes);
    const char *options = made.plan.mounts[0].options;
    cr_expect(strstr(options, "durability=writeback") > strstr(options, "durability=sync"));
    unmake(&made);
    cr_assert_eq(make(two, 2, &made, &why), -EINVAL);
    cr_expect(strstr(why.bytes, "--volume 2") && strstr(why.bytes, "--volume 1"), "%s", why.bytes);
}

Test(plan, a_hash_is_compared_in_the_case_that_sha256sum_prints)
{
    static const char *const volumes[] = {"bucket=data,mount=/a" S3("a.example")};
    const struct plan_package package = {"/skyvol",
                                         "ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789"};
    struct made made;
    BUF_SCOPED why = BUF_INIT, script = BUF_INIT;
    cr_assert_eq(make(volumes, 1, &made, &why), 0, "%s", why.bytes);
    plan_script(&made.plan, &package, &script);
    cr_expect(
        strstr(script.bytes, "sha256='abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789'"));
    unmake(&made);
}

Test(plan, what_no_mount_would_take_is_refused_before_any_machine_tries)
{
    static const char *const rows[][2] = {
        {"endpoint=ftp://x", "--volume 1: endpoint ftp://x does not begin"},
        {"endpoint=https://me:secret@h", "--volume 1: the endpoint has a user name"},
        {"endpoint=http://minio.lan:9000", "allow_http"},
        {"endpoint=http://minio.lan:9000,options=allow_http", NULL},
        {"endpoint=http://minio.lan:9000,allow_http=true", NULL},
        {"endpoint=https://h,options=ro\\,attr_ttl=5s,rw",
         "--volume 1: options: they make the mount read-only"},
        {"endpoint=https://h,options=immutable,rw", "--volume 1: options: they make the mount read-only"},
        {"endpoint=https://h,options=rw", "read_only = false, which is missing"},
        {"endpoint=https://h,options=endpoint=https://other", "endpoint belongs into the storage"},
        {"endpoint=https://h,no_sign_request=true,options=requester_pays", "requester_pays needs"},
        {"endpoint=https://h,options=sse=aws:kms\\,sse_kms_key_id=k\\,storage_class=STANDARD_IA,rw", NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct made made;
        BUF_SCOPED why = BUF_INIT;
        STRING_SCOPED *volume = xprintf("bucket=my-data,mount=/data,%s", rows[i][0]);
        const char *volumes[] = {volume};
        int rc = make(volumes, 1, &made, &why);
        if (rc == 0)
            unmake(&made);
        cr_expect_eq(rc, rows[i][1] ? -EINVAL : 0, "%s: %s", rows[i][0], why.bytes);
        cr_expect(!rows[i][1] || strstr(why.bytes, rows[i][1]), "%s: %s", rows[i][0], why.bytes);
        cr_expect(!strstr(why.bytes, "secret"), "%s", why.bytes);
    }
}
