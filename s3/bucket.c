#include "s3/bucket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define CONNECT_TIMEOUT_MS    5000
#define FIRST_BYTE_TIMEOUT_MS 20000
#define STALL_TIMEOUT_MS      15000

static int64_t value_or(int64_t value, int64_t standard)
{
    return value > 0 ? value : standard;
}

static int start_http(struct bucket *bucket, const struct store_config *config, struct buf *why)
{
    struct http_config http = {
        .loops = config->loops,
        .connections_max = config->connections_max,
        .ca_bundle = config->ca_bundle,
        .proxy = config->proxy,
        .insecure_tls = config->insecure_tls,
    };
    return http_new(&http, &bucket->http, why);
}

int bucket_init(struct bucket *bucket, const struct store_config *config, struct buf *why)
{
    int rc;

    memset(bucket, 0, sizeof(*bucket));
    lock_init(&bucket->lock, LOCK_LEAF, "bucket");
    sign_cache_init(&bucket->sign_cache);
    retry_budget_init(&bucket->budget);
    bucket->checksum = config->checksum;
    bucket->sse = config->sse;
    bucket->sse_kms_key_id = config->sse_kms_key_id ? xstrdup(config->sse_kms_key_id) : NULL;
    bucket->storage_class = config->storage_class ? xstrdup(config->storage_class) : NULL;
    bucket->requester_pays = config->requester_pays;
    bucket->connect_timeout_ms = value_or(config->connect_timeout_ms, CONNECT_TIMEOUT_MS);
    bucket->first_byte_timeout_ms = value_or(config->first_byte_timeout_ms, FIRST_BYTE_TIMEOUT_MS);
    bucket->stall_timeout_ms = value_or(config->stall_timeout_ms, STALL_TIMEOUT_MS);
    rc = endpoint_new(config, &bucket->endpoint, why);
    if (rc < 0)
        return rc;
    endpoint_abilities(bucket->endpoint, &bucket->abilities);
    if (config->checksum == CHECKSUM_CRC32C || config->checksum == CHECKSUM_CRC64NVME)
        bucket->abilities.checksum = ABILITY_YES; /* the user says so */
    if (config->credentials)
        bucket->credentials = credentials_ref(config->credentials);
    return start_http(bucket, config, why);
}

void bucket_release(struct bucket *bucket)
{
    http_free(bucket->http);
    endpoint_unref(bucket->endpoint);
    credentials_unref(bucket->credentials);
    free(bucket->sse_kms_key_id);
    free(bucket->storage_class);
    sign_cache_release(&bucket->sign_cache);
    lock_release(&bucket->lock);
}

struct endpoint *bucket_endpoint(struct bucket *bucket)
{
    LOCK_SCOPED(&bucket->lock);
    return endpoint_ref(bucket->endpoint);
}

int bucket_move(struct bucket *bucket, const struct endpoint *used, const char *region)
{
    struct endpoint *moved = NULL, *old;
    int rc = endpoint_in_region(used, region, &moved);
    if (rc < 0)
        return rc;
    log_info("bucket %s is in region %s, not %s", used->bucket, region, used->region);
    lock_take(&bucket->lock);
    old = bucket->endpoint;
    bucket->endpoint = moved;
    lock_drop(&bucket->lock);
    endpoint_unref(old);
    return 0;
}

int64_t bucket_skew_ns(struct bucket *bucket)
{
    LOCK_SCOPED(&bucket->lock);
    return bucket->skew_ns;
}

void bucket_set_skew(struct bucket *bucket, int64_t skew_ns)
{
    log_warn(
        "the server's clock is %lld s off ours: its time is used for signatures; set the clock of this host",
        (long long)(skew_ns / 1000000000));
    LOCK_SCOPED(&bucket->lock);
    bucket->skew_ns = skew_ns;
}

static enum store_ability *find_ability(struct bucket *bucket, size_t ability)
{
    return (enum store_ability *)(void *)((char *)&bucket->abilities + ability);
}

void bucket_learn(struct bucket *bucket, size_t ability, enum store_ability value)
{
    LOCK_SCOPED(&bucket->lock);
    *find_ability(bucket, ability) = value;
}

enum store_ability bucket_can(struct bucket *bucket, size_t ability)
{
    LOCK_SCOPED(&bucket->lock);
    return *find_ability(bucket, ability);
}
