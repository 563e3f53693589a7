#include "mount/aws.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "mount/adapter.h"
#include "s3/credentials.h"
#include "s3/signed.h"

#define IAM_VERSION  "2010-05-08"
#define STS_VERSION  "2011-06-15"
#define FORM         "application/x-www-form-urlencoded; charset=utf-8"
#define THROTTLED_MS 30000
#define AGAIN_MS     500

struct aws {
    const struct provider_job *job;
    struct credentials *credentials;
    struct keys *keys;
    char *region;
    struct api *api[2]; /* by enum aws_service */
};

/* ---- Regions and addresses. ---- */

const char *aws_region(const struct provider_job *job)
{
    const char *region = adapter_text(job, "region");
    if (!region || !*region)
        region = getenv("AWS_REGION");
    if (!region || !*region)
        region = getenv("AWS_DEFAULT_REGION");
    return region && *region ? region : "us-east-1";
}

const char *aws_partition(const char *region)
{
    if (strncmp(region, "cn-", 3) == 0)
        return "aws-cn";
    return strncmp(region, "us-gov-", 7) == 0 ? "aws-us-gov" : "aws";
}

char *aws_s3_endpoint(const char *region, const char **ret_where)
{
    const char *said = getenv("AWS_ENDPOINT_URL_S3");
    *ret_where = "AWS_ENDPOINT_URL_S3";
    if (said && *said)
        return xstrdup(said);
    *ret_where = "region";
    return xprintf("https://s3.%s.amazonaws.com%s", region,
                   strcmp(aws_partition(region), "aws-cn") == 0 ? ".cn" : "");
}

/* IAM is one for a partition, and signs with one of its regions. */
static const char *iam_region(const char *region)
{
    const char *partition = aws_partition(region);
    if (strcmp(partition, "aws-cn") == 0)
        return "cn-north-1";
    return strcmp(partition, "aws-us-gov") == 0 ? "us-gov-west-1" : "us-east-1";
}

static char *iam_address(const char *region)
{
    const char *partition = aws_partition(region);
    if (strcmp(partition, "aws-cn") == 0)
        return xstrdup("https://iam.cn-north-1.amazonaws.com.cn");
    return xstrdup(strcmp(partition, "aws-us-gov") == 0 ? "https://iam.us-gov.amazonaws.com"
                                                        : "https://iam.amazonaws.com");
}

static int open_api(struct aws *aws, enum aws_service service, struct buf *why)
{
    const char *variable = service == AWS_IAM ? "AWS_ENDPOINT_URL_IAM" : "AWS_ENDPOINT_URL_STS";
    STRING_SCOPED *usual = service == AWS_IAM
                               ? iam_address(aws->region)
                               : xprintf("https://sts.%s.amazonaws.com%s", aws->region,
                                         strcmp(aws_partition(aws->region), "aws-cn") == 0 ? ".cn" : "");
    return adapter_api(aws->job, service == AWS_IAM ? "IAM" : "STS", variable, usual, &aws->api[service],
                       why);
}

int aws_new(const struct provider_job *job, struct aws **ret_aws, struct buf *why)
{
    struct credentials_config source = {.profile = adapter_text(job, "profile")};
    struct aws *aws = xcalloc(1, sizeof(*aws));
    aws->job = job;
    aws->region = xstrdup(aws_region(job));
    aws->credentials = credentials_new(&source);
    int rc = open_api(aws, AWS_IAM, why);
    if (rc == 0)
        rc = open_api(aws, AWS_STS, why);
    if (rc < 0) {
        aws_free(aws);
        return rc;
    }
    *ret_aws = aws;
    return 0;
}

void aws_free(struct aws *aws)
{
    if (!aws)
        return;
    api_free(aws->api[AWS_IAM]);
    api_free(aws->api[AWS_STS]);
    keys_unref(aws->keys);
    credentials_unref(aws->credentials);
    free(aws->region);
    free(aws);
}

int aws_pause(struct aws *aws, int64_t ms)
{
    return api_pause(aws->api[AWS_IAM], ms);
}

/* ---- Answers. ---- */

void aws_answer_release(struct aws_answer *answer)
{
    xml_free(answer->xml);
    *answer = (struct aws_answer){0};
}

static int name_code(const char *code, int status)
{
    static const struct {
        const char *code;
        int rc;
    } codes[] = {
        {"NoSuchEntity", -ENOENT},
        {"EntityAlreadyExists", -EEXIST},
        {"DeleteConflict", -EBUSY},
        {"Throttling", -EAGAIN},
        {"ThrottlingException", -EAGAIN},
        {"RequestLimitExceeded", -EAGAIN},
        {"ConcurrentModification", -EAGAIN},
        {"LimitExceeded", -EDQUOT},
        {"AccessDenied", -EACCES},
        {"InvalidClientTokenId", -EACCES},
        {"SignatureDoesNotMatch", -EACCES},
        {"ExpiredToken", -EACCES},
        {"UnrecognizedClientException", -EACCES},
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(codes[i].code, code) == 0)
            return codes[i].rc;
    return status == 403 ? -EACCES : -EINVAL;
}

/* -EAGAIN: throttled. */
static int read_error(struct aws_answer *answer, const char *action, const char *service, int status,
                      struct buf *why)
{
    const struct xml_node *root = answer->xml ? xml_root(answer->xml) : NULL;
    const struct xml_node *error = root ? xml_child(root, "Error") : NULL;
    const char *code = error ? xml_child_text(answer->xml, error, "Code") : "";
    const char *words = error ? xml_child_text(answer->xml, error, "Message") : "";
    snprintf(answer->code, sizeof(answer->code), "%s", code);
    buf_printf(why, "%s answers %d %s to %s%s%.300s", service, status, *code ? code : "without a code",
               action, *words ? ": " : "", words);
    return name_code(code, status);
}

static int read_answer(const struct api_answer *from, const char *action, const char *service,
                       struct aws_answer *answer, struct buf *why)
{
    STRING_SCOPED *wanted = xprintf("%sResult", action);
    int rc =
        from->text ? xml_parse(secret_reveal(from->text), secret_length(from->text), &answer->xml) : -EBADMSG;
    if (from->status / 100 != 2)
        return read_error(answer, action, service, from->status, why);
    if (rc < 0) {
        buf_printf(why, "%s answers to %s with what is no XML", service, action);
        return -EBADMSG;
    }
    answer->result = xml_child(xml_root(answer->xml), wanted);
    return 0;
}

/* ---- Calls. ---- */

static int find_keys(struct aws *aws, struct buf *why)
{
    return aws->keys ? 0 : credentials_get(aws->credentials, &aws->keys, why);
}

static int call_once(struct aws *aws, enum aws_service service, const char *action, const char *body,
                     struct aws_answer *ret_answer, struct buf *why)
{
    struct api *api = aws->api[service];
    const char *host = strstr(api_url(api), "://") + 3;
    STRING_SCOPED *name = xstrndup(host, strcspn(host, "/"));
    struct signed_input input = {
        .method = "POST", .host = name, .path = "/", .body = body, .content_type = FORM};
    struct api_answer answer;
    input.service = service == AWS_IAM ? "iam" : "sts";
    input.region = service == AWS_IAM ? iam_region(aws->region) : aws->region;
    input.keys = aws->keys;
    input.wall_ns = clock_wall_ns();
    char **lines = signed_lines(&input);
    struct api_request request = {
        .method = "POST", .path = "/", .lines = lines, .body = body, .plain = true, .accept = API_ANY};
    int rc = api_send(api, &request, &answer, why);
    if (rc == 0)
        rc = read_answer(&answer, action, service == AWS_IAM ? "IAM" : "STS", ret_answer, why);
    signed_release(lines);
    api_answer_release(&answer);
    return rc;
}

int aws_call(struct aws *aws, enum aws_service service, const char *action, struct store_fields *fields,
             struct aws_answer *ret_answer, struct buf *why)
{
    BUF_SCOPED body = BUF_INIT;
    int64_t deadline = clock_ms() + THROTTLED_MS, delay = AGAIN_MS;
    *ret_answer = (struct aws_answer){0};
    store_fields_set(fields, "Action", action);
    store_fields_set(fields, "Version", service == AWS_IAM ? IAM_VERSION : STS_VERSION);
    signed_query(fields, &body);
    int rc = find_keys(aws, why);
    while (rc == 0) {
        BUF_SCOPED words = BUF_INIT;
        aws_answer_release(ret_answer);
        rc = call_once(aws, service, action, body.bytes, ret_answer, &words);
        if (rc != -EAGAIN || clock_ms() + delay > deadline) {
            buf_add_string(why, words.bytes);
            return rc == -EAGAIN ? -EBUSY : rc;
        }
        rc = aws_pause(aws, delay);
        delay *= 2;
    }
    return rc;
}

/* ---- Buckets. ---- */

static bool is_region(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length < 64 && strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == length;
}

/* "": us-east-1; "EU": as it was called first. NULL: it is no answer. Malloc'ed. */
static char *read_location(const struct api_answer *answer)
{
    struct xml *xml = NULL;
    char *region = NULL;
    if (answer->status == 200 && answer->text &&
        xml_parse(secret_reveal(answer->text), secret_length(answer->text), &xml) == 0 &&
        strcmp(xml_name(xml_root(xml)), "LocationConstraint") == 0) {
        const char *text = xml_text(xml, xml_root(xml));
        text = !*text ? "us-east-1" : strcmp(text, "EU") == 0 ? "eu-west-1" : text;
        region = is_region(text) ? xstrdup(text) : NULL;
    }
    xml_free(xml);
    return region;
}

/* *ret_region stays NULL when it cannot be told. 0, or -EINTR. */
static int ask_location(const struct provider_job *job, struct api *api, const char *bucket,
                        const char *region, char **ret_region)
{
    struct credentials_config source = {.profile = adapter_text(job, "profile")};
    struct credentials *credentials = credentials_new(&source);
    struct keys *keys = NULL;
    struct store_fields query = {0};
    struct api_answer answer = {0};
    BUF_SCOPED why = BUF_INIT;
    const char *host = strstr(api_url(api), "://") + 3;
    STRING_SCOPED *name = xstrndup(host, strcspn(host, "/"));
    STRING_SCOPED *path = xprintf("/%s", bucket);
    STRING_SCOPED *whole = xprintf("%s?location=", path);
    int rc = credentials_get(credentials, &keys, &why);
    store_fields_add(&query, "location", "");
    struct signed_input input = {.method = "GET",
                                 .host = name,
                                 .path = path,
                                 .query = &query,
                                 .service = "s3",
                                 .region = region,
                                 .keys = keys,
                                 .wall_ns = clock_wall_ns()};
    char **lines = rc == 0 ? signed_lines(&input) : NULL;
    struct api_request request = {
        .method = "GET", .path = whole, .lines = lines, .plain = true, .accept = API_ANY};
    if (rc == 0)
        rc = api_send(api, &request, &answer, &why);
    if (rc == 0)
        *ret_region = read_location(&answer);
    api_answer_release(&answer);
    signed_release(lines);
    store_fields_release(&query);
    keys_unref(keys);
    credentials_unref(credentials);
    return rc == -EINTR ? rc : 0;
}

int aws_bucket_region(const struct provider_job *job, const char *region, const char *bucket,
                      char **ret_region, struct buf *why)
{
    struct api_config config = {.name = "S3", .waiter = job->waiter};
    STRING_SCOPED *url = aws_s3_endpoint(region, &config.where);
    STRING_SCOPED *path = xprintf("/%s", bucket);
    struct api *api = NULL;
    struct api_answer answer = {0};
    config.url = url;
    int rc = api_new(&config, &api, why);
    struct api_request request = {
        .method = "HEAD", .path = path, .plain = true, .accept = API_ANY, .wanted = "x-amz-bucket-region"};
    if (rc == 0)
        rc = api_send(api, &request, &answer, why);
    if (rc == 0 && answer.status == 404) {
        buf_printf(why, "there is no bucket %s at %s; look at its name, or make it", bucket, url);
        rc = -ENOENT;
    } else if (rc == 0 && answer.wanted && !is_region(answer.wanted)) {
        buf_printf(why, "S3 tells of bucket %s a region that is no name of one", bucket);
        rc = -EBADMSG;
    } else if (rc == 0 && answer.wanted) {
        *ret_region = xstrdup(answer.wanted);
    } else if (rc == 0 && (rc = ask_location(job, api, bucket, region, ret_region)) == 0 && !*ret_region) {
        *ret_region = xstrdup(region);
    }
    api_answer_release(&answer);
    api_free(api);
    return rc;
}
