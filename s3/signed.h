/* signed: the door to Signature Version 4 for single requests that are no objects: IAM, STS, a bucket itself. Pure: the caller sends them.
 *
 *      method, url, query, body, keys, service, region --signed_request--> url with its query, and the lines of the head
 */
#ifndef S3_SIGNED_H
#define S3_SIGNED_H

#include <stdint.h>

#include "base/buf.h"
#include "s3/credentials.h"
#include "s3/store.h"

struct signed_input {
    const char *method, *host,
        *path; /* the host with a port that is not the scheme's; the path encoded, "/" at least */
    const struct store_fields *query; /* as it is, not encoded; NULL: none */
    const char *body;                 /* NULL: none */
    const char *content_type;         /* NULL: none */
    const char *service, *region;     /* "iam", "us-east-1" */
    const struct keys *keys;          /* NULL: unsigned */
    int64_t wall_ns;
};

/* "name: value" lines, NULL at the end: to be sent, all of them and nothing else that is signed; signed_release() zeroes them. */
char **signed_lines(const struct signed_input *input);
void signed_release(char **lines);
/* "a=1&b=x%2Fy": a query as it was signed, or a form. */
void signed_query(const struct store_fields *fields, struct buf *out);

#endif
