/* sign: AWS Signature Version 4 (s3-and-providers, section 1). Pure: time, keys and all bytes come in as arguments.
 *
 *      method, path, query, headers, payload --> canonical request --> string to sign --> signature
 *                                                     (sign_canonical)                      (sign_signature)
 *      sign_request() does all of it and adds the headers that carry the result.
 *
 * What is sent must be what was signed: the path is taken as it is, encoded once and never normalised; sign_query() writes
 * the query for both. All headers given are signed but those that a proxy may change (authorization, connection, expect,
 * te, trailer, transfer-encoding, upgrade, user-agent, accept-encoding ...).
 * Owns: nothing of the input; the cache holds references to secrets and zeroes its keys.
 * Threads: pure; the cache has its own leaf lock and serves any thread.
 * Not here: presigned URLs and aws-chunked bodies: skyvol sends neither (clones refuse the latter).
 */
#ifndef S3_SIGN_H
#define S3_SIGN_H

#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/lock.h"
#include "s3/credentials.h"
#include "s3/store.h"

#define SIGN_UNSIGNED_PAYLOAD "UNSIGNED-PAYLOAD"
#define SIGN_EMPTY_PAYLOAD    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" /* sha256("") */
#define SIGN_KEYS_CACHED      4

struct sign_input {
    const char *method;               /* "GET" */
    const char *host;                 /* as the Host header will be, with a port that is not the scheme's */
    const char *path;                 /* as sent, percent-encoded once; "" counts as "/" */
    const struct store_fields *query; /* names and values as they are, not encoded; NULL: none */
    const char *payload;              /* hex sha256 of the body, or one of the literals above */
    const char *region;
    const char *service;     /* "s3" */
    const struct keys *keys; /* NULL: the request goes unsigned */
    int64_t wall_ns;         /* the server's clock as well as we know it */
};

/* Signing keys, one per (secret, day, region, service); the oldest goes when all places are taken. */
struct sign_cache {
    struct lock lock;
    unsigned next;
    struct sign_key {
        struct secret *secret;
        char day[9];
        char region[64];
        char service[16];
        uint8_t key[SHA256_BYTES];
    } all[SIGN_KEYS_CACHED];
};

void sign_cache_init(struct sign_cache *cache);
void sign_cache_release(struct sign_cache *cache);

/* `headers` has x-amz-date, x-amz-content-sha256, x-amz-security-token (with session keys) and authorization in addition,
 * in the place of older ones: a request can be signed again. Without keys only x-amz-content-sha256 and x-amz-date.
 * cache may be NULL. */
void sign_request(const struct sign_input *input, struct store_fields *headers, struct sign_cache *cache);

/* "a=1&b=x%2Fy&uploads": sorted, names and values encoded; an empty value is sent as the bare name. */
void sign_query(const struct store_fields *query, struct buf *out);

/* The pieces, for tests. `headers` as they stand, plus host. */
void sign_canonical(const struct sign_input *input, const struct store_fields *headers,
                    struct buf *ret_canonical, struct buf *ret_signed_names);
/* Appends 64 hex digits. */
void sign_signature(const struct sign_input *input, const char *canonical, struct sign_cache *cache,
                    struct buf *out);

#endif
