/* endpoint: where requests go: scheme, host, style, bucket, region, and what is known of a provider by its name.
 *
 *      config (endpoint, bucket, region, style) --endpoint_new--> endpoint --endpoint_in_region--> another endpoint
 *
 * An endpoint is immutable and counted: a request holds the one that it was built with; a region change makes a new one,
 * which the store swaps in under its lock. Hosts are only ever built from what the user gave and from the templates
 * here, never from a server's answer: a region from outside must look like a region (endpoint_region_valid).
 *
 *      style     URL                                  when (STYLE_AUTO)
 *      path      https://HOST/BUCKET/KEY              an IP address, localhost, any port given, a host that we do not know, a
 *                                                     bucket that is no DNS label (dots under https), or the provider wants it
 *      virtual   https://BUCKET.HOST/KEY              AWS, Wasabi, B2
 *
 * Errors: -EINVAL with a sentence for the user in `why`, with the remedy.
 * Threads: any.
 */
#ifndef S3_ENDPOINT_H
#define S3_ENDPOINT_H

#include <stdbool.h>

#include "base/buf.h"
#include "s3/store.h"

struct endpoint_preset; /* a row of the table of providers known by host name */

struct endpoint {
    /* Set at birth. */
    bool https;
    char *host; /* lower case, without bucket and port; IPv6 without brackets */
    int port;   /* 0: the scheme's own */
    char *bucket;
    char *region; /* what to sign with; never NULL */
    bool virtual_host;
    const struct endpoint_preset *preset; /* NULL: a host that we do not know */
    int references;                       /* atomic */
};

/* Takes endpoint, bucket, region, style and allow_http of the config. http:// to other hosts than loopback is refused
 * without allow_http. An endpoint that names the bucket already (first label, or the path) is understood. */
int endpoint_new(const struct store_config *config, struct endpoint **ret_endpoint, struct buf *why);
struct endpoint *endpoint_ref(struct endpoint *endpoint);
void endpoint_unref(struct endpoint *endpoint);

/* The same bucket in another region: the host of AWS and Wasabi is rebuilt from the template, others keep theirs and sign
 * with the new name. -EINVAL: no name of a region, or the one that is in force already. */
int endpoint_in_region(const struct endpoint *endpoint, const char *region, struct endpoint **ret_endpoint);
/* 1 ... 63 of a-z A-Z 0-9 and '-'. */
bool endpoint_region_valid(const char *region);

/* Appends the Host header's value and the encoded path of a key, both as they must be signed and sent (path as is: `//`,
 * `.`, `..` stay). key NULL: the bucket itself ("/BUCKET", or "/" where the bucket is in the host). */
void endpoint_locate(const struct endpoint *endpoint, const char *key, struct buf *ret_host,
                     struct buf *ret_path);
/* Appends "https://HOST/PATH?QUERY"; `query` as sign_query() wrote it, may be "". */
void endpoint_url(const struct endpoint *endpoint, const char *host, const char *path, const char *query,
                  struct buf *out);
/* Appends the value of x-amz-copy-source: "/BUCKET/KEY", encoded. */
void endpoint_copy_source(const struct endpoint *endpoint, const char *key, struct buf *out);
/* What is known in advance by the name of the host; ABILITY_UNKNOWN for the rest. */
void endpoint_abilities(const struct endpoint *endpoint, struct store_abilities *ret_abilities);
/* True for AWS, whose wrong-region answers are worth a HEAD of the bucket for its x-amz-bucket-region. */
bool endpoint_tells_region(const struct endpoint *endpoint);
/* "https://s3.eu-west-1.amazonaws.com/bucket, region eu-west-1" */
void endpoint_describe(const struct endpoint *endpoint, struct buf *out);
/* Names and addresses of this host: localhost, *.localhost, 127.0.0.0/8, ::1. */
bool endpoint_host_is_loopback(const char *host);

#endif
