/* aws: IAM and STS as their Query API speaks: a form is sent, signed; XML comes back. Repeats what is throttled.
 *
 *      POST https://iam.amazonaws.com/   Action=CreateRole&Version=2010-05-08&RoleName=...   -->   <CreateRoleResponse><CreateRoleResult>...
 *                                                                                            <ErrorResponse><Error><Code>EntityAlreadyExists
 * Errors: -ENOENT (NoSuchEntity), -EEXIST (EntityAlreadyExists), -EACCES (AccessDenied, keys that are not known), -EINVAL, -EBUSY (DeleteConflict,
 * throttled to the end), others as api.h.
 */
#ifndef MOUNT_AWS_H
#define MOUNT_AWS_H

#include "base/xml.h"
#include "mount/provider.h"
#include "s3/store.h"

struct aws;

enum aws_service { AWS_IAM, AWS_STS };

struct aws_answer {
    struct xml *xml;
    const struct xml_node *result; /* of ACTIONResult; NULL: the action has none */
    char code[64];                 /* of an error */
};

/* The keys are looked for when first needed. */
int aws_new(const struct provider_job *job, struct aws **ret_aws, struct buf *why);
void aws_free(struct aws *aws);
/* `fields`: Action's parameters; Action and Version are added. */
int aws_call(struct aws *aws, enum aws_service service, const char *action, struct store_fields *fields,
             struct aws_answer *ret_answer, struct buf *why);
void aws_answer_release(struct aws_answer *answer);
int aws_pause(struct aws *aws, int64_t ms);

/* Of the settings, else AWS_REGION, AWS_DEFAULT_REGION, else us-east-1. */
const char *aws_region(const struct provider_job *job);
/* "aws", "aws-cn", "aws-us-gov". */
const char *aws_partition(const char *region);
/* Malloc'ed: "https://s3.eu-west-1.amazonaws.com"; AWS_ENDPOINT_URL_S3 instead where it is set. */
char *aws_s3_endpoint(const char *region, const char **ret_where);
/* Where the bucket is: HEAD, unsigned, and what x-amz-bucket-region says, also of a 403 or a redirect; where nobody says it, GetBucketLocation
 * with the keys that there are, else `region`. -ENOENT: there is no such bucket. */
int aws_bucket_region(const struct provider_job *job, const char *region, const char *bucket,
                      char **ret_region, struct buf *why);
/* The policy that lets a role use the volumes: their prefixes, read or read and write. Pure. */
void aws_policy(const struct volume *const *volumes, size_t count, const char *partition, struct buf *out);
/* Who may take the role: machines of EC2. */
void aws_trust(const char *partition, struct buf *out);

#endif
