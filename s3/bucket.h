/* bucket: one bucket at one endpoint, and all that its answers have taught: where it is, what it can, its clock.
 *
 *      endpoint (region)  <- wrong-region answers       abilities <- refusals, successes, probes
 *      skew               <- RequestTimeTooSkewed       keys      <- credentials; refreshed when refused
 *
 * Requests take what they need at each attempt, so that one lesson serves all that follow.
 * Threads: any; one leaf lock.
 */
#ifndef S3_BUCKET_H
#define S3_BUCKET_H

#include "base/lock.h"
#include "s3/credentials.h"
#include "s3/endpoint.h"
#include "s3/http.h"
#include "s3/retry.h"
#include "s3/sign.h"
#include "s3/store.h"

struct bucket {
    /* Set at birth. */
    struct http *http;
    struct credentials *credentials; /* NULL: unsigned */
    enum store_checksum checksum;
    enum store_sse sse;
    char *sse_kms_key_id, *storage_class; /* NULL: not said */
    bool requester_pays;
    int64_t connect_timeout_ms, first_byte_timeout_ms, stall_timeout_ms;

    /* Have locks of their own. */
    struct sign_cache sign_cache;
    struct retry_budget budget;

    /* Under lock. */
    struct lock lock;
    struct endpoint *endpoint;
    struct store_abilities abilities;
    int64_t skew_ns; /* the server's clock minus ours */
    struct store_counters counters;
};

/* Offsets into struct store_abilities name an ability: bucket_learn(bucket, ABILITY_OF(checksum), ABILITY_NO). */
#define ABILITY_OF(name) offsetof(struct store_abilities, name)

int bucket_init(struct bucket *bucket, const struct store_config *config, struct buf *why);
/* Ends its http with all calls on it. */
void bucket_release(struct bucket *bucket);
struct endpoint *bucket_endpoint(struct bucket *bucket); /* a reference */
/* From now on requests go there. 0, or -EINVAL when it is no region or (against `used`) no other one. */
int bucket_move(struct bucket *bucket, const struct endpoint *used, const char *region);
int64_t bucket_skew_ns(struct bucket *bucket);
void bucket_set_skew(struct bucket *bucket, int64_t skew_ns);
void bucket_learn(struct bucket *bucket, size_t ability, enum store_ability value);
enum store_ability bucket_can(struct bucket *bucket, size_t ability);

#endif
