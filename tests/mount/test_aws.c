#include <criterion/criterion.h>
#include <string.h>

#include "base/json.h"
#include "mount/aws.h"

#define BUCKET "arn:aws:s3:::b"

static char text[] = "";

static struct volume make_volume(const char *bucket, const char *prefix, bool read_only)
{
    return (struct volume){.bucket = (char *)(uintptr_t)bucket,
                           .prefix = (char *)(uintptr_t)prefix,
                           .mount = text,
                           .where = text,
                           .read_only = read_only};
}

static void expect_policy(struct volume *volumes, size_t count, const char *partition, const char *wanted)
{
    const struct volume *list[4];
    struct json *json = NULL;
    BUF_SCOPED out = BUF_INIT;
    for (size_t i = 0; i < count; i++)
        list[i] = &volumes[i];
    aws_policy(list, count, partition, &out);
    cr_assert_eq(json_parse(out.bytes, out.length, &json, NULL), 0);
    json_free(json);
    cr_assert_str_eq(out.bytes, wanted);
}

#define START       "{\"Version\":\"2012-10-17\",\"Statement\":["
#define ALLOW(what) "{\"Effect\":\"Allow\",\"Action\":[" what "],\"Resource\":["
#define READ        ALLOW("\"s3:ListBucket\",\"s3:GetBucketLocation\"")
#define READ_WRITE  ALLOW("\"s3:ListBucket\",\"s3:GetBucketLocation\",\"s3:ListBucketMultipartUploads\"")
#define GET         ALLOW("\"s3:GetObject\"")
#define CHANGE                                                                                               \
    ALLOW("\"s3:PutObject\",\"s3:DeleteObject\",\"s3:AbortMultipartUpload\",\"s3:"                           \
          "ListMultipartUploadParts\"")
#define MAKE ALLOW("\"s3:PutObject\"")

Test(aws, a_policy_lets_read_what_is_read_and_no_more)
{
    struct volume whole = make_volume("b", "", true), part = make_volume("b", "x/y/", true);
    expect_policy(&whole, 1, "aws", START READ "\"" BUCKET "\"]}," GET "\"" BUCKET "/*\"]}]}");
    expect_policy(&part, 1, "aws",
                  START READ "\"" BUCKET "\"]}," GET "\"" BUCKET "/x\",\"" BUCKET "/x/y\",\"" BUCKET
                             "/x/\",\"" BUCKET "/x/y/*\"]}]}");
    expect_policy(&part, 1, "aws-cn",
                  START READ "\"arn:aws-cn:s3:::b\"]}," GET
                             "\"arn:aws-cn:s3:::b/x\",\"arn:aws-cn:s3:::b/x/y\",\"arn:aws-cn:s3:::b/x/"
                             "\",\"arn:aws-cn:s3:::b/x/y/*\"]}]}");
}

Test(aws, a_writable_prefix_does_not_make_its_neighbour_writable)
{
    struct volume volumes[] = {make_volume("b", "in/", true), make_volume("b", "out/", false),
                               make_volume("b", "out/", true)};
    expect_policy(volumes, 3, "aws",
                  START READ_WRITE "\"" BUCKET "\"]}," GET "\"" BUCKET "/in\",\"" BUCKET "/in/*\",\"" BUCKET
                                   "/out\",\"" BUCKET "/out/*\",\"" BUCKET "/.skyvol-*\"]}," CHANGE
                                   "\"" BUCKET "/out/*\",\"" BUCKET "/.skyvol-*\"]}," MAKE "\"" BUCKET
                                   "/in/\"]}]}");
}

/* What is mounted writable makes the directories that its read-only volumes lead to. */
Test(aws, beside_a_writable_volume_the_directories_of_read_only_ones_can_be_made_and_nothing_in_them)
{
    struct volume volumes[] = {make_volume("b", "a/*/in/", true), make_volume("b", "a/out/x/", false),
                               make_volume("b", "a/out/x/y/", true), make_volume("b", "a/out/", true)};
    expect_policy(volumes, 4, "aws",
                  START READ_WRITE
                  "\"" BUCKET "\"]}," GET "\"" BUCKET "/a\",\"" BUCKET "/a/${*}\",\"" BUCKET
                  "/a/${*}/in\",\"" BUCKET "/a/\",\"" BUCKET "/a/${*}/\",\"" BUCKET "/a/${*}/in/*\",\"" BUCKET
                  "/a/out\",\"" BUCKET "/a/out/x\",\"" BUCKET "/a/out/\",\"" BUCKET "/a/out/x/*\",\"" BUCKET
                  "/a/out/x/y\",\"" BUCKET "/a/out/x/\",\"" BUCKET "/a/out/x/y/*\",\"" BUCKET
                  "/a/out/*\",\"" BUCKET "/.skyvol-*\"]}," CHANGE "\"" BUCKET "/a/\",\"" BUCKET
                  "/a/out/\",\"" BUCKET "/a/out/x/*\",\"" BUCKET "/.skyvol-*\"]}," MAKE "\"" BUCKET
                  "/a/${*}/\",\"" BUCKET "/a/${*}/in/\"]}]}");
    struct volume whole[] = {make_volume("b", "", false), make_volume("b", "in/", true)};
    expect_policy(whole, 2, "aws",
                  START READ_WRITE "\"" BUCKET "\"]}," GET "\"" BUCKET "/*\",\"" BUCKET "/in\",\"" BUCKET
                                   "/in/*\",\"" BUCKET "/.skyvol-*\"]}," CHANGE "\"" BUCKET "/*\",\"" BUCKET
                                   "/.skyvol-*\"]}]}");
    struct volume other[] = {make_volume("b", "", true), make_volume("b", "out/", false),
                             make_volume("c", "in/", true)};
    expect_policy(other, 3, "aws",
                  START READ_WRITE "\"" BUCKET "\"]}," GET "\"" BUCKET "/*\",\"" BUCKET "/out\",\"" BUCKET
                                   "/out/*\",\"" BUCKET "/.skyvol-*\"]}," CHANGE "\"" BUCKET
                                   "/out/*\",\"" BUCKET "/.skyvol-*\"]}," READ "\"arn:aws:s3:::c\"]}," GET
                                   "\"arn:aws:s3:::c/in\",\"arn:aws:s3:::c/in/*\"]}]}");
}

Test(aws, what_iam_reads_as_a_wildcard_is_taken_literally)
{
    struct volume volume = make_volume("b", "a*?${x}/", true);
    expect_policy(&volume, 1, "aws",
                  START READ "\"" BUCKET "\"]}," GET "\"" BUCKET "/a${*}${?}${$}{x}\",\"" BUCKET
                             "/a${*}${?}${$}{x}/*\"]}]}");
}

Test(aws, each_bucket_has_its_own_rights)
{
    struct volume volumes[] = {make_volume("b", "", true), make_volume("c", "", false)};
    expect_policy(volumes, 2, "aws",
                  START READ "\"" BUCKET "\"]}," GET "\"" BUCKET "/*\"]}," READ_WRITE
                             "\"arn:aws:s3:::c\"]}," GET
                             "\"arn:aws:s3:::c/*\",\"arn:aws:s3:::c/.skyvol-*\"]}," CHANGE
                             "\"arn:aws:s3:::c/*\",\"arn:aws:s3:::c/.skyvol-*\"]}]}");
}

Test(aws, a_region_tells_its_partition)
{
    cr_assert_str_eq(aws_partition("eu-west-1"), "aws");
    cr_assert_str_eq(aws_partition("cn-north-1"), "aws-cn");
    cr_assert_str_eq(aws_partition("us-gov-west-1"), "aws-us-gov");
}
