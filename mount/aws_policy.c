/* What a role may do with the volumes of a pool. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "mount/aws.h"

#define HIDDEN                                                                                               \
    ".skyvol-*" /* probes, and versions that are kept for their readers, at the root of the mount */

static const char *const reading[] = {"s3:ListBucket", "s3:GetBucketLocation", NULL};
static const char *const listing_uploads[] = {"s3:ListBucket", "s3:GetBucketLocation",
                                              "s3:ListBucketMultipartUploads", NULL};
static const char *const getting[] = {"s3:GetObject", NULL};
static const char *const changing[] = {"s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
                                       "s3:ListMultipartUploadParts", NULL};
static const char *const making[] = {"s3:PutObject", NULL};

struct policy {
    const struct volume *const *volumes;
    size_t count;
    const char *partition;
    struct json *statements;
};

/* A key may hold what IAM reads as a wildcard or a variable. */
static void add_literal(const char *text, size_t length, struct buf *out)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '*' || text[i] == '?' || text[i] == '$')
            buf_printf(out, "${%c}", text[i]);
        else
            buf_add_char(out, text[i]);
    }
}

static void add_resource(const struct policy *policy, const char *bucket, const char *key, size_t length,
                         const char *rest, struct json *list)
{
    BUF_SCOPED text = BUF_INIT;
    buf_printf(&text, "arn:%s:s3:::%s/", policy->partition, bucket);
    add_literal(key, length, &text);
    buf_add_string(&text, rest);
    for (size_t i = 0; i < json_count(list); i++)
        if (strcmp(json_text(json_at(list, i)), text.bytes) == 0)
            return;
    json_append_string(list, text.bytes);
}

/* What is below the prefix, and the markers of the directories on the way there. */
static void add_volume(const struct policy *policy, const struct volume *volume, struct json *list)
{
    const char *prefix = volume->prefix;
    for (const char *slash = strchr(prefix, '/'); slash && slash[1]; slash = strchr(slash + 1, '/'))
        add_resource(policy, volume->bucket, prefix, (size_t)(slash + 1 - prefix), "", list);
    add_resource(policy, volume->bucket, prefix, strlen(prefix), "*", list);
}

/* Who looks for a directory asks first whether its name is a file's: refused, that would be EACCES where nothing is there. */
static void add_names(const struct policy *policy, const struct volume *volume, struct json *list)
{
    const char *prefix = volume->prefix;
    for (const char *slash = strchr(prefix, '/'); slash; slash = strchr(slash + 1, '/'))
        add_resource(policy, volume->bucket, prefix, (size_t)(slash - prefix), "", list);
}

/* The marker of that key lies below what a volume of the bucket writes, or on the way there. */
static bool is_written(const struct policy *policy, const char *bucket, const char *key, size_t length)
{
    for (size_t i = 0; i < policy->count; i++) {
        const struct volume *volume = policy->volumes[i];
        size_t whole = strlen(volume->prefix);
        if (!volume->read_only && strcmp(volume->bucket, bucket) == 0 &&
            strncmp(volume->prefix, key, whole < length ? whole : length) == 0)
            return true;
    }
    return false;
}

/* Where the bucket is mounted writable, `up` and the script make the directory that a read-only volume leads to (raised.c): the markers of its
 * prefix and of those on the way there, and nothing in them. */
static void add_markers(const struct policy *policy, const struct volume *volume, struct json *list)
{
    const char *prefix = volume->prefix;
    for (const char *slash = strchr(prefix, '/'); slash; slash = strchr(slash + 1, '/')) {
        size_t length = (size_t)(slash + 1 - prefix);
        if (!is_written(policy, volume->bucket, prefix, length))
            add_resource(policy, volume->bucket, prefix, length, "", list);
    }
}

static void add_statement(struct policy *policy, const char *const *actions, struct json **resources)
{
    struct json *statement = json_object_new(), *list = json_array_new();
    for (; *actions; actions++)
        json_append_string(list, *actions);
    json_set_string(statement, "Effect", "Allow");
    json_set(statement, "Action", &list);
    json_set(statement, "Resource", resources);
    json_append(policy->statements, &statement);
}

static void add_bucket(struct policy *policy, const char *bucket)
{
    struct json *whole = json_array_new(), *read = json_array_new(), *write = json_array_new();
    struct json *make = json_array_new();
    STRING_SCOPED *arn = xprintf("arn:%s:s3:::%s", policy->partition, bucket);
    json_append_string(whole, arn);
    for (size_t i = 0; i < policy->count; i++) {
        const struct volume *volume = policy->volumes[i];
        if (strcmp(volume->bucket, bucket) != 0)
            continue;
        add_names(policy, volume, read);
        add_volume(policy, volume, read);
        if (volume->read_only)
            add_markers(policy, volume, make);
        else
            add_volume(policy, volume, write);
    }
    bool writes = json_count(write) > 0;
    if (writes) {
        add_resource(policy, bucket, "", 0, HIDDEN, read);
        add_resource(policy, bucket, "", 0, HIDDEN, write);
    }
    add_statement(policy, writes ? listing_uploads : reading, &whole);
    add_statement(policy, getting, &read);
    if (writes)
        add_statement(policy, changing, &write);
    if (writes && json_count(make) > 0)
        add_statement(policy, making, &make);
    json_free(write);
    json_free(make);
}

void aws_policy(const struct volume *const *volumes, size_t count, const char *partition, struct buf *out)
{
    struct policy policy = {volumes, count, partition, json_array_new()};
    struct json *document = json_object_new();
    for (size_t i = 0; i < count; i++) {
        bool first = true;
        for (size_t j = 0; j < i; j++)
            first = first && strcmp(volumes[i]->bucket, volumes[j]->bucket) != 0;
        if (first)
            add_bucket(&policy, volumes[i]->bucket);
    }
    json_set_string(document, "Version", "2012-10-17");
    json_set(document, "Statement", &policy.statements);
    json_print(document, out, false);
    json_free(document);
}

void aws_trust(const char *partition, struct buf *out)
{
    buf_printf(out,
               "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":{\"Service\":"
               "\"ec2.amazonaws.com%s\"},"
               "\"Action\":\"sts:AssumeRole\"}]}",
               strcmp(partition, "aws-cn") == 0 ? ".cn" : "");
}
