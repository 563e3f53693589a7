#include "cache/server.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/mime.h"
#include "cache/tagging.h"

#define COMPLETE_PATIENCE_MS (10 * 60 * 1000)

int64_t server_patience(const struct cache *cache, enum store_op op)
{
    int64_t patience_ms = cache->config.io_timeout_ms;
    bool thinks = op == STORE_COMPLETE && patience_ms < COMPLETE_PATIENCE_MS;

    return thinks ? COMPLETE_PATIENCE_MS : patience_ms;
}

struct store_call server_call(struct cache *cache, enum store_op op, const char *key)
{
    return (struct store_call){.op = op, .key = key, .patience_ms = server_patience(cache, op)};
}

/* Any word of the server, also that something is not there. */
static bool is_answered(const struct store_call *call)
{
    return call->rc == 0 || (call->error.http_status > 0 && call->error.http_status < 500);
}

void server_count(struct cache *cache, const struct store_call *call)
{
    if (is_answered(call) && atomic_load(&cache->unreached) && atomic_exchange(&cache->unreached, false))
        log_info("the server answers: what an earlier mount knew is looked at anew");
    if (call->op == STORE_HEAD)
        atomic_fetch_add(&cache->heads, 1);
    else if (call->op == STORE_LIST)
        atomic_fetch_add(&cache->lists, 1);
}

static const char *name_target(const struct store_call *call)
{
    if (call->op == STORE_LIST)
        return call->prefix ? call->prefix : "";
    if (call->op == STORE_DELETE_MANY)
        return call->key_count ? call->keys[0] : "";
    return call->key;
}

int server_settle(struct cache *cache, const char *what, const struct store_call *call, int expected)
{
    int rc = call->rc;
    BUF_SCOPED words = BUF_INIT;

    server_count(cache, call);
    if (rc == 0 || rc == -EAGAIN || rc == -EINTR || (expected && rc == expected))
        return rc;
    if (rc == -ECANCELED)
        return -EINTR;
    store_error_print(&call->error, rc, &words);
    if (rc == -ETIMEDOUT || rc == -EBADMSG)
        rc = -EIO;
    log_error("%s: %s %s: %s: returned %s", what, store_op_name(call->op), name_target(call), words.bytes,
              err_name(rc));
    return rc;
}

int server_wait(struct cache *cache, const char *what, struct store_call *call, int expected,
                struct waiter *waiter)
{
    int rc = store_wait(cache->config.store, call, waiter);

    if (rc == -EAGAIN && !waiter)
        return rc;
    call->rc = rc;
    return server_settle(cache, what, call, expected);
}

static bool deletes_by_condition(struct cache *cache)
{
    struct store_abilities abilities;

    store_abilities(cache->config.store, &abilities);
    return abilities.conditional_delete == ABILITY_YES;
}

int server_delete(struct cache *cache, const char *what, const char *key, const struct identity *only,
                  struct waiter *waiter)
{
    struct store_call call = server_call(cache, STORE_DELETE, key);
    int rc;

    if (only && deletes_by_condition(cache))
        call.if_match = only->etag;
    rc = server_wait(cache, what, &call, call.if_match ? -ESTALE : 0, waiter);
    store_call_release(&call);
    return rc == -ENOENT ? 0 : rc;
}

#define BACKOFF_MS     1000
#define BACKOFF_MS_MAX 60000

int64_t server_backoff_ms(int failures)
{
    int64_t ms = BACKOFF_MS;

    for (int i = 1; i < failures && ms < BACKOFF_MS_MAX; i++)
        ms *= 2;
    return ms < BACKOFF_MS_MAX ? ms : BACKOFF_MS_MAX;
}

bool server_is_version(const struct store_object *seen, const struct identity *known, const char *id)
{
    const char *there = store_fields_get(&seen->meta, SERVER_ID_FIELD);
    struct identity identity;

    server_identity(seen, &identity);
    if (identity_equal(&identity, known))
        return true;
    identity.modified_ns = 0; /* but for that */
    return id && there && strcmp(id, there) == 0 && identity_equal(&identity, known);
}

void server_add_id(struct store_fields *meta, struct buf *ret_id)
{
    unsigned char random[8];

    digest_random(random, sizeof(random));
    buf_reset(ret_id);
    buf_add_hex(ret_id, random, sizeof(random));
    store_fields_set(meta, SERVER_ID_FIELD, ret_id->bytes);
}

int server_find_id(struct cache *cache, const char *key, const char *id, struct identity *ret_identity,
                   struct waiter *waiter)
{
    struct store_call head = server_call(cache, STORE_HEAD, key);
    int rc = server_wait(cache, "settle an unknown outcome", &head, -ENOENT, waiter);
    const char *there = rc == 0 ? store_fields_get(&head.object.meta, SERVER_ID_FIELD) : NULL;
    bool ours = there && strcmp(there, id) == 0;

    if (ours)
        server_identity(&head.object, ret_identity);
    store_call_release(&head);
    return ours ? 1 : rc == -ENOENT ? 0 : rc;
}

int server_put_small(struct cache *cache, const char *what, const struct server_small *small,
                     struct identity *ret_identity, struct waiter *waiter)
{
    struct store_call call = server_call(cache, STORE_PUT, small->key);
    struct iovec piece = {(void *)(uintptr_t)small->bytes, strlen(small->bytes)};
    struct store_fields own = {0}, headers;
    BUF_SCOPED id = BUF_INIT;
    int rc;

    store_fields_copy(&own, small->meta);
    server_add_id(&own, &id);
    mime_headers(small->headers, NULL, *small->bytes ? "" : small->key,
                 &headers); /* a link's body is no text */
    call.from = &piece;
    call.from_count = piece.iov_len ? 1 : 0;
    call.meta = &own;
    call.headers = &headers;
    call.tags = small->tags;
    call.if_absent = small->if_absent;
    call.if_match = small->if_match;
    int refused = small->if_absent ? -EEXIST : small->if_match ? -ESTALE : 0;
    rc = tagging_wait(cache, what, &call, refused, waiter);
    /* A condition that failed may be the echo of our own first attempt. */
    bool settle = (refused && rc == refused) || (call.unknown && rc != -EINTR);
    if (rc == 0) {
        server_identity(&call.object, ret_identity);
        ret_identity->size = piece.iov_len;
    } else if (settle && server_find_id(cache, small->key, id.bytes, ret_identity, waiter) == 1) {
        rc = 0;
    }
    store_fields_release(&own);
    store_fields_release(&headers);
    store_call_release(&call);
    return rc;
}

/* ---- What the endpoint honours. ---- */

/* 1: nobody asked yet, and the caller does now. */
static int begin_probe(struct cache *cache, struct waiter *waiter)
{
    LOCK_SCOPED(&cache->probing);
    int rc = waiter ? 0 : -EAGAIN;

    while (rc == 0 && cache->probe_runs)
        rc = gate_wait_locked(&cache->probe_ended, &cache->probing, waiter, CLOCK_NEVER);
    if (rc < 0 || cache->probed)
        return rc;
    cache->probe_runs = true;
    return 1;
}

int server_probe(struct cache *cache, struct waiter *waiter)
{
    int rc = begin_probe(cache, waiter);

    if (rc <= 0)
        return rc;
    rc = store_probe(cache->config.store, cache->prefix, waiter);
    if (rc < 0 && rc != -EINTR)
        log_warn("probe of what the endpoint honours: %s: a HEAD goes before each conditional write",
                 err_name(rc));
    LOCK_SCOPED(&cache->probing);
    cache->probe_runs = false;
    cache->probed = rc != -EINTR;
    gate_open(&cache->probe_ended);
    return rc;
}

int server_conditions(struct cache *cache, struct waiter *waiter)
{
    struct store_abilities abilities;

    store_abilities(cache->config.store, &abilities);
    if (abilities.conditional_put == ABILITY_UNKNOWN) {
        int rc = server_probe(cache, waiter);
        if (rc == -EINTR || rc == -EAGAIN)
            return rc;
        store_abilities(cache->config.store, &abilities);
    }
    return abilities.conditional_put == ABILITY_YES;
}

void server_identity(const struct store_object *object, struct identity *ret_identity)
{
    memcpy(ret_identity->etag, object->etag, sizeof(ret_identity->etag));
    ret_identity->modified_ns = object->modified_ns;
    ret_identity->size = object->size;
}
